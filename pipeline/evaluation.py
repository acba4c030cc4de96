"""One model on one split: its metrics, and its distance from the truth where that is known."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models.estimates import sigmoid
from models.metrics import ClickMetrics, paired_difference
from pipeline.scored_rows import ScoredRows

Logits = npt.NDArray[np.float64]


@dataclass
class Evaluation:
    """One model on one split.

    Args:
        metrics: accumulator of the rows.
        excess: weighted sum over the rows of KL(p*, p), in nats, where p* is known.
    """

    metrics: ClickMetrics = field(default_factory=ClickMetrics.empty)
    excess: float = 0.0

    def update(self, rows: ScoredRows, logits: Logits) -> None:
        """Adds the rows of a block with a model's click logits: float64 [rows]."""
        self.metrics.update(rows.labels, logits, rows.groups, rows.weights)
        if rows.p_star is not None:
            divergence = _divergence(rows.p_star, logits)
            self.excess += float((divergence if rows.weights is None else rows.weights * divergence).sum())

    def summary(self) -> dict[str, Any]:
        """Metrics, their intervals by name, and ``excess_over_bayes`` where p* is known."""
        values: dict[str, Any] = self.metrics.compute()
        values["intervals"] = {name: list(bounds) for name, bounds in self.metrics.intervals().items()}
        if self.excess:
            values["excess_over_bayes"] = self.excess / self.metrics.weight
        return values


def comparisons_of(split: str, evaluations: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """Paired differences of every two students, the later method minus the earlier."""
    students = [model for model in evaluations if model != "teacher"]
    rows: list[dict[str, Any]] = []
    for baseline, method in itertools.combinations(students, 2):
        table = paired_difference(evaluations[method].metrics, evaluations[baseline].metrics)
        names = {"split": split, "method": method, "baseline": baseline}
        rows += [{**names, **{str(key): value for key, value in row.items()}} for row in table.to_dict("records")]
    return rows


def _divergence(p_star: Logits, logits: Logits) -> Logits:
    """KL(p*, p) of each row in nats: what the model loses against the truth, whatever the label."""
    p = np.clip(sigmoid(logits), 1e-12, 1 - 1e-12)
    return p_star * np.log(p_star / p) + (1 - p_star) * np.log((1 - p_star) / (1 - p))

"""Sums over scored rows that compare two models: slices with intervals, and how far one moves from the other.

Memory does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.estimates import divide, draw_groups, percentile_interval, sigmoid
from models.metrics import GROUPS
from pipeline.scored_rows import Floats, ScoredRows

CELLS = 1024
MOVED = 1.5
"""A click probability has moved if it is more than so many times the other one."""

_LIMIT = 10.0
_LEVEL = 0.95
_WEIGHT, _CLICKS = range(2)


def logit_cells(logits: Floats) -> npt.NDArray[np.int64]:
    """Cells of equal width over [-10, 10]; the outer ones hold what lies beyond: int64 [rows]."""
    share = (np.clip(logits, -_LIMIT, _LIMIT) + _LIMIT) / (2 * _LIMIT)
    return np.minimum(share * CELLS, CELLS - 1).astype(np.int64)


@dataclass(eq=False)
class SliceSums:
    """Click figures of several models in cells of the rows, by bootstrap group.

    Attributes:
        sums: float64 [2 + 2 models, groups, cells]: weight and clicks, then for each model predicted clicks and logloss
            in nats.
        rows: int64 [cells].
    """

    sums: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, cells: int, models: int) -> SliceSums:
        """Returns sums over no rows."""
        return cls(np.zeros((2 + 2 * models, GROUPS, cells)), np.zeros(cells, np.int64))

    def update(self, cells: npt.NDArray[np.int64], rows: ScoredRows, logits: Sequence[Floats]) -> None:
        """Adds a block of rows.

        Args:
            cells: int64 [rows], the cell of each.
            rows: of the block.
            logits: float64 [rows] of each model.
        """
        y = rows.labels.astype(np.float64)
        weight = np.ones_like(y) if rows.weights is None else rows.weights
        columns = [weight, weight * y]
        for z in logits:
            columns += [weight * sigmoid(z), weight * (np.logaddexp(0.0, z) - y * z)]
        for total, column in zip(self.sums, columns, strict=True):
            np.add.at(total, (rows.groups, cells), column)
        self.rows += np.bincount(cells, minlength=len(self.rows))

    def merged(self, slices: npt.NDArray[np.int64], count: int) -> SliceSums:
        """Returns the sums of fewer cells; `slices` says for each cell which one takes it."""
        member = np.eye(count)[slices]
        return SliceSums(self.sums @ member, (self.rows @ member).astype(np.int64))

    def table(self, kind: str, names: Sequence[str], models: Sequence[str]) -> pd.DataFrame:
        """A row a cell that has rows: by, slice, rows, clicks, click_rate; of each model logloss, pcoc, low and high.

        Low and high end the 95 % interval of PCOC by resampling groups; the columns of a model end with its name.

        Args:
            kind: what the cells go by.
            names: of the cells.
            models: names, in the order of the logits.
        """
        weight, clicks = self.sums[_WEIGHT].sum(axis=0), self.sums[_CLICKS].sum(axis=0)
        columns: dict[str, object] = {"by": kind, "slice": list(names), "rows": self.rows, "clicks": clicks}
        columns["click_rate"] = divide(clicks, weight)
        for model, (predicted, logloss) in zip(models, self.sums[2:].reshape(-1, 2, *self.sums.shape[1:]), strict=True):
            low, high = self._pcoc_interval(predicted)
            columns |= {f"logloss_{model}": divide(logloss.sum(axis=0), weight)}
            columns |= {f"pcoc_{model}": divide(predicted.sum(axis=0), clicks)}
            columns |= {f"low_{model}": low, f"high_{model}": high}
        return pd.DataFrame(columns)[self.rows > 0].reset_index(drop=True)

    def _pcoc_interval(self, predicted: Floats) -> tuple[list[float], list[float]]:
        draws = draw_groups(GROUPS, 1000, 0)
        replicates = divide(draws @ predicted, draws @ self.sums[_CLICKS])
        bounds = [percentile_interval(column, _LEVEL) for column in replicates.T]
        return [low for low, _ in bounds], [high for _, high in bounds]


@dataclass(eq=False)
class Churn:
    """How far the click probabilities of one model lie from those of another.

    Attributes:
        sums: float64 [3]: weight, weighted sum of |p - q|, weight of the rows that have moved.
        joint: float64 [1024, 1024], weight by the logit cells of both.
    """

    sums: npt.NDArray[np.float64]
    joint: npt.NDArray[np.float64]

    @classmethod
    def empty(cls) -> Churn:
        """Returns sums over no rows."""
        return cls(np.zeros(3), np.zeros((CELLS, CELLS)))

    def update(self, logits: Floats, others: Floats, weights: Floats | None) -> None:
        """Adds rows: float64 [rows] each; without weights every row counts once."""
        weight = np.ones(len(logits)) if weights is None else weights
        p, q = sigmoid(logits), sigmoid(others)
        moved = np.maximum(p, q) > MOVED * np.minimum(p, q)
        self.sums += [weight.sum(), weight @ np.abs(p - q), weight[moved].sum()]
        np.add.at(self.joint, (logit_cells(logits), logit_cells(others)), weight)

    def compute(self) -> dict[str, float]:
        """Returns mean_change, moved and rank_correlation.

        These are the mean |p - q|; the share of the rows whose p is more than 1.5 times the other; and Spearman's
        correlation, where logits within a cell (0.02 wide) are ties.
        """
        weight, change, moved = self.sums
        return {
            "mean_change": float(divide(change, weight)),
            "moved": float(divide(moved, weight)),
            "rank_correlation": _spearman(self.joint),
        }


def _spearman(joint: npt.NDArray[np.float64]) -> float:
    """Correlation of the middle ranks of rows and columns of a table of weights; NaN where one has a single value."""
    ranks = []
    for axis in (1, 0):
        mass = joint.sum(axis=axis)
        middle = np.cumsum(mass) - mass / 2
        ranks.append(middle - joint.sum() / 2)
    first, second = ranks
    covariance = first @ joint @ second
    spread = (joint.sum(axis=1) @ first**2) * (joint.sum(axis=0) @ second**2)
    return float(divide(covariance, np.sqrt(spread)))

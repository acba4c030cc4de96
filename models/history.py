"""The evaluations of a training: which was the best, and when to go on no longer."""

from __future__ import annotations

from typing import Any

import pandas as pd


class History:
    """The evaluations so far.

    Args:
        patience: evaluations without a better one after which training stops.
        plateau: evaluations without a better one after which the learning rate drops.
    """

    def __init__(self, patience: int, plateau: int) -> None:
        self.rows: list[dict[str, float]] = []
        self._patience, self._plateau = patience, plateau
        self._best = self._dropped = 0

    def add(self, row: dict[str, float]) -> bool:
        """Adds an evaluation; whether its ``valid_logloss`` is the best so far. Without one, the latest is."""
        loss = row.get("valid_logloss")
        better = loss is None or not self.rows or loss < self.rows[self._best]["valid_logloss"]
        self.rows.append(row)
        if better:
            self._best = len(self.rows) - 1
        return better

    @property
    def exhausted(self) -> bool:
        """Whether the last evaluations, as many as the patience, were none better."""
        return len(self.rows) - 1 - self._best >= self._patience

    def on_plateau(self) -> bool:
        """Whether there has been no better evaluation for long, nor an answer of yes to this question."""
        waited = len(self.rows) - 1 - max(self._best, self._dropped) >= self._plateau
        if waited:
            self._dropped = len(self.rows) - 1
        return waited

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"rows": self.rows, "best": self._best, "dropped": self._dropped}

    def load(self, value: dict[str, Any]) -> None:
        """Takes what :meth:`to_json` gave."""
        self.rows, self._best, self._dropped = value["rows"], value["best"], value["dropped"]


def best_evaluation(history: pd.DataFrame) -> dict[str, float]:
    """The row of the best validation logloss in what :func:`models.training.fit` returns; without any, the last."""
    if "valid_logloss" not in history:
        return dict(history.iloc[-1])
    return dict(history.loc[int(history["valid_logloss"].to_numpy().argmin())])

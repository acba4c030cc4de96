"""Numeric columns: the transform, its training statistics and bucket edges.

The transform is the signed logarithm t(x) = sign(x) log(1 + |x|), standardised with the training rows' mean and
standard deviation, in float64 with one final cast to float32. Missing is NaN throughout, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Sums are kept as integers, so that they do not depend on the order of the rows.
_FIXED_POINT = 2.0**32
# Buckets are cut on a fixed grid of t, so that counts merge exactly. Grid lines lie at (k + 1/2) / 32, where the
# transform of no small integer falls.
_CELLS_PER_UNIT = 32
_REACH = 90  # |t| of the largest float32 is below 89.5
_CELLS = 2 * _REACH * _CELLS_PER_UNIT + 1
BUCKETS = 40


def signed_log(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """t(x) = sign(x) log(1 + |x|) in float64; NaN stays NaN. Any shape."""
    wide = values.astype(np.float64)
    return np.copysign(np.log1p(np.abs(wide)), wide)


@dataclass(frozen=True)
class NumericColumn:
    """What the training rows say about a numeric column.

    Args:
        name: of the column.
        mean: of t over the training rows that have a value.
        std: population standard deviation of t; 1 for a constant column.
        missing: number of training rows without a value.
        edges: increasing bucket edges, in units of t.
    """

    name: str
    mean: float
    std: float
    missing: int
    edges: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "edges": list(self.edges)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> NumericColumn:
        """Reads what :meth:`to_json` wrote."""
        return cls(**{**value, "edges": tuple(value["edges"])})

    def standardised_edges(self) -> npt.NDArray[np.float32]:
        """The bucket edges in the units of the standardised column: float32 [edges]."""
        return ((np.asarray(self.edges, np.float64) - self.mean) / self.std).astype(np.float32)


def standardise(values: npt.NDArray[np.float32], columns: Sequence[NumericColumn]) -> npt.NDArray[np.float32]:
    """Standardised signed logarithms.

    Args:
        values: float32 [n, columns], raw, NaN = missing.
        columns: the statistics of each column.

    Returns:
        float32 [n, columns], NaN = missing.
    """
    mean = np.array([column.mean for column in columns])
    std = np.array([column.std for column in columns])
    return ((signed_log(values) - mean) / std).astype(np.float32)


class NumericStatistics:
    """Mergeable sums of numeric columns, exact: the result does not depend on how the rows are divided.

    Args:
        columns: number of numeric columns.
    """

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self.sums = [0] * columns
        self.squares = [0] * columns
        self.cells = np.zeros((columns, _CELLS), np.int64)

    def update(self, values: npt.NDArray[np.float32]) -> None:
        """Adds rows: float32 [n, columns], raw, NaN = missing."""
        self.rows += len(values)
        for index, t in enumerate(signed_log(values).T):
            t = t[~np.isnan(t)]
            self.sums[index] += _fixed_sum(t)
            self.squares[index] += _fixed_sum(t * t)
            cell = np.rint(t * _CELLS_PER_UNIT).astype(np.int64) + _REACH * _CELLS_PER_UNIT
            self.cells[index] += np.bincount(cell, minlength=_CELLS)

    def merge(self, other: NumericStatistics) -> None:
        """Adds another part's sums."""
        self.rows += other.rows
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]
        self.cells += other.cells

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; of the cells only those that hold a row."""
        cells = []
        for column in self.cells:
            found = np.flatnonzero(column)
            cells.append([found.tolist(), column[found].tolist()])
        return {"rows": self.rows, "sums": self.sums, "squares": self.squares, "cells": cells}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> NumericStatistics:
        """Reads what :meth:`to_json` wrote."""
        statistics = cls(len(value["sums"]))
        statistics.rows, statistics.sums, statistics.squares = value["rows"], value["sums"], value["squares"]
        for column, (found, counts) in zip(statistics.cells, value["cells"], strict=True):
            column[found] = counts
        return statistics

    def columns(self, names: Sequence[str]) -> tuple[NumericColumn, ...]:
        """The finished statistics of each column."""
        return tuple(self._column(index, name) for index, name in enumerate(names))

    def _column(self, index: int, name: str) -> NumericColumn:
        count = int(self.cells[index].sum())
        mean = self.sums[index] / _FIXED_POINT / count if count else 0.0
        variance = self.squares[index] / _FIXED_POINT / count - mean * mean if count else 0.0
        # Below this the column is constant and the rest is rounding, which grows with the mean: of 2^-33 a row in the
        # sums, 2 |mean| 2^-33 is left in the variance.
        std = math.sqrt(variance) if variance > 1e-8 * max(1.0, abs(mean)) else 1.0
        return NumericColumn(name, mean, std, self.rows - count, _edges(self.cells[index]))


def _fixed_sum(values: npt.NDArray[np.float64]) -> int:
    # At most 8,000 (the square of the reach) times 2^32 a row: int64 holds the sum of 200,000 rows.
    step = 100_000
    fixed = np.rint(values * _FIXED_POINT).astype(np.int64)
    return sum(int(fixed[start : start + step].sum()) for start in range(0, len(fixed), step))


def _edges(cells: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """Grid lines next above the quantiles 1/40, 2/40, ...; lines with no row above them are left out."""
    total = int(cells.sum())
    if not total:
        return ()
    cumulative = np.cumsum(cells)
    wanted = np.arange(1, BUCKETS) * total / BUCKETS
    cut = np.unique(np.searchsorted(cumulative, wanted, side="left"))
    cut = cut[cumulative[cut] < total]
    return tuple(((cut - _REACH * _CELLS_PER_UNIT + 0.5) / _CELLS_PER_UNIT).tolist())

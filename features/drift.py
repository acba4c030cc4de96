"""How far two sets of rows differ, column by column: histograms that merge, and the population stability index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.blocks import Block
from features.spec import ExamplesSpec
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN

TOP = 50
"""So many values of a categorical column, the most frequent of the training rows, have a cell of their own."""

_REST = FIRST_VALUE + TOP
_CELLS = _REST + 1
# Of a row that a cell lacks: without it, one row in a cell that the other side leaves empty would be infinitely far.
_SMOOTHING = 0.5


@dataclass(frozen=True)
class ColumnCells:
    """How the values of each column fall into the cells of a histogram.

    Args:
        sizes: number of values in the vocabulary of each categorical column.
        edges: for each numeric column its bucket edges: float32, increasing, in units of the standardised column.
    """

    sizes: tuple[int, ...]
    edges: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, spec: ExamplesSpec) -> ColumnCells:
        """The cells of a run's columns."""
        sizes = tuple(ids - FIRST_VALUE - spec.buckets for ids in spec.vocabulary_ids)
        return cls(sizes, tuple(column.standardised_edges() for column in spec.numeric))


@dataclass(eq=False)
class Histograms:
    """Rows by column and cell, and the moments of the numeric columns. Memory does not grow with the rows.

    Args:
        rows: number of rows.
        categorical: int64 [categorical columns, 53]: missing; outside the vocabulary (hash buckets included); the 50
            most frequent values; all other values.
        numeric: an int64 array [buckets + 1] for each numeric column; the last cell is the missing values.
        sums: float64 [numeric columns], of the standardised values.
        squares: float64 [numeric columns], of their squares.
    """

    rows: int
    categorical: NDArray[np.int64]
    numeric: list[NDArray[np.int64]]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def empty(cls, cells: ColumnCells) -> Histograms:
        """No rows."""
        columns = len(cells.edges)
        return cls(
            0,
            np.zeros((len(cells.sizes), _CELLS), np.int64),
            [np.zeros(len(edges) + 2, np.int64) for edges in cells.edges],
            np.zeros(columns),
            np.zeros(columns),
        )

    def update(self, block: Block, cells: ColumnCells) -> Histograms:
        """Adds the rows of a block in place and returns the histograms themselves."""
        self.rows += len(block)
        for column, size in enumerate(cells.sizes):
            self.categorical[column] += _categorical_cells(block.ids[:, column], size)
        for column, edges in enumerate(cells.edges):
            self.numeric[column] += _numeric_cells(block.dense[:, column], edges)
        self.sums += np.nansum(block.dense, axis=0, dtype=np.float64)
        self.squares += np.nansum(np.square(block.dense, dtype=np.float64), axis=0)
        return self

    def merge(self, other: Histograms) -> Histograms:
        """The histograms of the rows of both."""
        return Histograms(
            self.rows + other.rows,
            self.categorical + other.categorical,
            [mine + theirs for mine, theirs in zip(self.numeric, other.numeric, strict=True)],
            self.sums + other.sums,
            self.squares + other.squares,
        )

    @property
    def missing(self) -> NDArray[np.int64]:
        """Rows without a value: int64 [numeric columns + categorical columns]."""
        return np.array([*(cells[-1] for cells in self.numeric), *self.categorical[:, MISSING]], np.int64)

    @property
    def outside(self) -> NDArray[np.int64]:
        """Rows with a value that is not in the vocabulary: int64 [categorical columns]."""
        return self.categorical[:, UNSEEN]

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and population standard deviation of the standardised values; NaN where all are missing.

        Returns:
            float64 [numeric columns], float64 [numeric columns].
        """
        found = np.array([cells[:-1].sum() for cells in self.numeric], np.float64)
        found[found == 0] = np.nan
        mean = self.sums / found
        return mean, np.sqrt(np.maximum(self.squares / found - mean**2, 0))

    def stability(self, other: Histograms) -> NDArray[np.float64]:
        """The population stability index of each column: float64 [numeric columns + categorical columns].

        Values outside the vocabulary count with the rare ones: no training row has the former, so apart from these
        they would make every column of many values look unstable.
        """
        pairs = [*zip(self.numeric, other.numeric, strict=True)]
        pairs += zip(_with_rare(self.categorical), _with_rare(other.categorical), strict=True)
        return np.array([stability_index(mine, theirs) for mine, theirs in pairs])


def stability_index(left: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    """The population stability index of two histograms: sum (p - q) ln(p / q) over the cells.

    It is the symmetric Kullback-Leibler divergence (Jeffreys) in nats. p and q are the shares of the rows after half
    a row has been added to each cell that holds a row of either side; cells that both sides leave empty do not count.

    Args:
        left: int64 [cells], rows by cell.
        right: int64 [cells].

    Returns:
        Not negative; NaN if a side has no rows.
    """
    if not left.sum() or not right.sum():
        return float("nan")
    used = (left > 0) | (right > 0)
    p, q = (counts[used] + _SMOOTHING for counts in (left, right))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def _with_rare(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cells of categorical columns, with the values outside the vocabulary among the rare ones."""
    merged = np.delete(cells, UNSEEN, axis=1)
    merged[:, -1] += cells[:, UNSEEN]
    return merged


def _categorical_cells(ids: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    cells = np.minimum(ids, _REST)
    cells[ids >= FIRST_VALUE + size] = UNSEEN
    return np.bincount(cells, minlength=_CELLS)


def _numeric_cells(values: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.int64]:
    cells = np.searchsorted(edges, values, side="right")
    cells[np.isnan(values)] = len(edges) + 1
    return np.bincount(cells, minlength=len(edges) + 2)

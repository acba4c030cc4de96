"""Time slices of the training rows, for click statistics of what was before a row.

Shards are in time order; some consecutive ones are a slice. A training row sees the rows of earlier slices only, as a
row in serving sees the past.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.errors import DataError
from features.hashing import FOLDS
from features.statistics import ClickCounts, Counts
from features.vocabulary import UNSEEN

SLICES = FOLDS
"""There are at most as many slices as folds: the tables of statistics have a place for each."""


def slice_of_shards(rows: Sequence[int]) -> list[int]:
    """The time slice of each shard, from 0 on: of about equal numbers of rows.

    Args:
        rows: of each training shard, in time order.

    Raises:
        DataError: there is one shard, whose rows would all see nothing.
    """
    filled = sum(count > 0 for count in rows)
    if filled < 2:
        raise DataError(
            f"Click statistics by time must have at least 2 training shards with rows. Received: {filled}; preprocess "
            "into more shards, or choose statistics by folds."
        )
    ends = np.cumsum(rows)
    middles = (ends - np.asarray(rows) / 2) / ends[-1]
    tenths = np.minimum((middles * SLICES).astype(int), SLICES - 1)
    found: list[int] = np.unique(tenths, return_inverse=True)[1].tolist()
    return found


def sliced_counts(counts: ClickCounts, blocks: Iterable[tuple[int, Block]], without: Sequence[int] = ()) -> ClickCounts:
    """Counts and clicks by time slice, in one pass over the training rows.

    Args:
        counts: by fold, of the same run; says where the columns lie and whether there are weights.
        blocks: of the training rows, each with its slice.
        without: folds whose rows are left out.

    Returns:
        counts whose second axis is the slice. As in those by fold, the id of unseen values has none, whichever training
        rows have it.
    """
    found = _Sums(counts)
    for time_slice, block in blocks:
        found.add(time_slice, block.without(without))
    return found.counts()


class _Sums:
    """Rows and clicks by id and slice, and their weights if there are any."""

    def __init__(self, like: ClickCounts) -> None:
        self._starts, weighted = like.starts, like.weights is not None
        shape = (len(like.counts), SLICES)
        self._rows, self._counts = np.zeros(SLICES, np.int64), np.zeros(shape, np.int64)
        self._row_clicks: Counts = np.zeros(SLICES) if weighted else np.zeros(SLICES, np.int64)
        self._clicks: Counts = np.zeros(shape) if weighted else np.zeros(shape, np.int64)
        self._row_weights = np.zeros(SLICES) if weighted else None
        self._weights = np.zeros(shape) if weighted else None

    def add(self, time_slice: int, block: Block) -> None:
        cells = (block.ids + self._starts) * SLICES + time_slice
        clicked = block.labels > 0
        masses = np.ones(len(block), np.int64) if block.weights is None else block.weights.astype(np.float64)
        self._rows[time_slice] += len(block)
        self._row_clicks[time_slice] += masses[clicked].sum()
        np.add.at(self._counts.reshape(-1), cells.reshape(-1), 1)
        _add(self._clicks, cells[clicked], masses[clicked])
        if self._weights is not None and self._row_weights is not None:
            self._row_weights[time_slice] += masses.sum()
            _add(self._weights, cells, masses)

    def counts(self) -> ClickCounts:
        for sums in (self._counts, self._clicks, self._weights):
            if sums is not None:
                sums[self._starts + UNSEEN] = 0
        return ClickCounts(
            self._starts, self._counts, self._clicks, self._rows, self._row_clicks, self._weights, self._row_weights
        )


def _add(sums: Counts, cells: npt.NDArray[np.int64], masses: Counts) -> None:
    """Adds each row's mass to all its cells [rows, columns]."""
    np.add.at(sums.reshape(-1), cells.reshape(-1), np.repeat(masses, cells.shape[1]))

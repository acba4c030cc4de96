"""Click statistics of pairs of columns, for a teacher: what two values say together beyond what each says alone.

A cross is a pair of columns, or one numeric column. Its cells are the pairs of values (buckets of a numeric column)
that enough training rows have, whatever their weight. As with single values, a training row sees the statistics of the
other folds, or those of earlier time slices, and a row of weight 2 is two rows to them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.blocks import Block
from features.hashing import FOLDS
from features.numeric import NumericColumn
from features.statistics import SEEN, Counts, prior_rates, ratio

Codes = npt.NDArray[np.int32]
Cross = tuple[int, ...]

MAX_ROWS = 1 << 21
"""Crosses are counted on at most so many training rows: memory does not grow with the log.

With statistics by fold they are the latest ones. In time order they must come from the whole log (every n-th row of
it): of the latest rows alone, no row but the latest would see any before its own.
"""
_RANKING_ROWS = 1 << 17
# Fewer rows than the larger of the two make no cell: neither noise nor more cells than a graph should hold.
_MIN_CELL_ROWS = 20
_MIN_CELL_SHARE = 1 / 5000
_MIN_COVERAGE = 0.3
_MAX_VALUES = 3000
_SMOOTHING = 30.0
# Scaled up further, a statistic that hardly varies would show the noise of its folds.
_MIN_DEVIATION = 0.01
_SINGLE_SMOOTHING = 10.0
ID_BITS = 24


def coarse_edges(columns: Sequence[NumericColumn]) -> list[npt.NDArray[np.float32]]:
    """Bucket edges for crosses: every second one of a column's own, in standardised units."""
    return [column.standardised_edges()[::2] for column in columns]


def bucket_codes(dense: npt.NDArray[np.float32], edges: Sequence[npt.NDArray[np.float32]]) -> Codes:
    """Buckets of standardised numerics [n, columns]; missing is the bucket after the last: int32 [n, columns]."""
    codes = np.empty(dense.shape, np.int32)
    for index, limits in enumerate(edges):
        found = np.searchsorted(limits, dense[:, index], side="right")
        codes[:, index] = np.where(np.isnan(dense[:, index]), len(limits) + 1, found)
    return codes


@dataclass(frozen=True)
class CrossRows:
    """Training rows from which crosses are found.

    Args:
        codes: int32 [n, columns]: vocabulary ids of the categorical columns, then buckets of the numeric ones.
        labels: uint8 [n].
        folds: uint8 [n]; in time order, the time slices.
        categorical: number of categorical columns.
        weights: float32 [n]; None in a log without weights.
    """

    codes: Codes
    labels: npt.NDArray[np.uint8]
    folds: npt.NDArray[np.uint8]
    categorical: int
    weights: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def concatenate(cls, parts: Sequence[CrossRows]) -> CrossRows:
        """One set of all rows; there must be at least one part."""
        weights = [part.weights for part in parts if part.weights is not None]
        return cls(
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.folds for part in parts]),
            parts[0].categorical,
            np.concatenate(weights) if weights else None,
        )

    def take(self, rows: slice) -> CrossRows:
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return CrossRows(self.codes[rows], self.labels[rows], self.folds[rows], self.categorical, weights)


def cross_rows(
    block: Block,
    edges: Sequence[npt.NDArray[np.float32]],
    without: Sequence[int] = (),
    time_slice: int | None = None,
) -> CrossRows:
    """The rows of a block whose fold is not among those left out; in time order, of the time slice of its shard."""
    rows = block.without(without)
    codes = np.concatenate([rows.ids, bucket_codes(rows.dense, edges)], axis=1)
    parts = rows.folds if time_slice is None else np.full(len(rows), time_slice, np.uint8)
    return CrossRows(codes, rows.labels, parts, rows.ids.shape[1], rows.weights)


@dataclass(frozen=True)
class CrossTable:
    """The statistics of the chosen crosses.

    Args:
        crosses: of column numbers, in the order of the features.
        keys: int64 [cells], rising; see :func:`cell_keys`.
        values: float32 [cells, 11]: what a row of each fold or time slice sees, then a row that may see all. A pair
            that is no cell has 0.
    """

    crosses: tuple[Cross, ...]
    keys: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


def cell_keys(codes: Codes, crosses: Sequence[Cross]) -> npt.NDArray[np.int64]:
    """The cell of each row in each cross: (cross number, first code, second code) in one int64 [n, crosses]."""
    wide = codes.astype(np.int64)
    keys = np.empty((len(codes), len(crosses)), np.int64)
    for number, cross in enumerate(crosses):
        keys[:, number] = (number << 2 * ID_BITS) + (wide[:, cross[0]] << ID_BITS) + wide[:, cross[-1]]
    return keys


def find_crosses(rows: CrossRows, number: int, order: str = "folds") -> CrossTable:
    """Chooses crosses and computes their statistics.

    All numeric columns are taken alone. Pairs are ranked by the correlation of their statistic with what the two
    single statistics leave unexplained, over training rows, with what each of them may see.

    Args:
        rows: training rows that the teacher may see; the latest :data:`MAX_ROWS` are used.
        number: of pairs to choose.
        order: a key of :data:`features.statistics.SEEN`.
    """
    rows = rows.take(slice(-MAX_ROWS, None))
    if not number or not len(rows):
        return CrossTable((), np.empty(0, np.int64), np.empty((0, FOLDS + 1), np.float32))
    sample = _Statistics(_ranking_rows(rows, order), order)
    ranked = sorted(((sample.usefulness(pair), pair) for pair in sample.candidates()), reverse=True)
    pairs = [pair for use, pair in ranked[:number] if use > 0]
    columns = range(rows.categorical, rows.codes.shape[1])
    crosses: tuple[Cross, ...] = (*((column,) for column in columns), *sorted(pairs))
    whole = _Statistics(rows, order)
    keys, values = zip(*(whole.cells(cross, index) for index, cross in enumerate(crosses)), strict=True)
    return CrossTable(crosses, np.concatenate(keys), np.concatenate(values))


def _ranking_rows(rows: CrossRows, order: str) -> CrossRows:
    if order == "time":
        return rows.take(slice(None, None, -(-len(rows) // _RANKING_ROWS)))
    return rows.take(slice(-_RANKING_ROWS, None))


class _Statistics:
    """Smoothed log-odds of the values of single columns, and of pairs relative to them."""

    def __init__(self, rows: CrossRows, order: str) -> None:
        self._rows, self._see = rows, SEEN[order]
        self._min_rows = max(_MIN_CELL_ROWS, len(rows) * _MIN_CELL_SHARE)
        clicks, others = self._count(np.zeros(len(rows), np.int64), 1)
        rate = prior_rates(clicks[0], clicks[0] + others[0], order)
        self._prior = np.log(rate / (1 - rate))
        self._single = [self._single_odds(column) for column in range(rows.codes.shape[1])]

    def _count(self, codes: npt.NDArray[np.integer], size: int) -> tuple[Counts, Counts]:
        """Clicks and rows without click, or their weights, by code and by what rows may see: [size, 11] each."""
        cells = (self._rows.labels.astype(np.int64) * size + codes) * FOLDS + self._rows.folds
        others, clicks = self._see(np.bincount(cells, self._rows.weights, 2 * size * FOLDS).reshape(2, size, FOLDS))
        return clicks, others

    def _single_odds(self, column: int) -> npt.NDArray[np.float64]:
        """Log-odds of each code of a column, minus those of the base rate: [codes, 11]."""
        codes = self._rows.codes[:, column]
        clicks, others = self._count(codes, int(codes.max()) + 1)
        return _log_odds(clicks, others, np.broadcast_to(self._prior, clicks.shape), _SINGLE_SMOOTHING)

    def candidates(self) -> list[Cross]:
        """Pairs of columns of which at least one has few values."""
        large = [len(odds) > _MAX_VALUES for odds in self._single]
        pairs = itertools.combinations(range(len(large)), 2)
        return [(a, b) for a, b in pairs if not (large[a] and large[b])]

    def _pair(self, pair: Cross) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Distinct pairs of codes: the row's pair [n], the pairs' keys [pairs], additive log-odds [pairs, 11]."""
        first, second = (self._rows.codes[:, column].astype(np.int64) for column in pair)
        found, distinct = pd.factorize((first << ID_BITS) + second)
        a, b = distinct >> ID_BITS, distinct & ((1 << ID_BITS) - 1)
        additive = self._single[pair[0]][a] + self._single[pair[1]][b] + self._prior
        return found, distinct, np.clip(additive, -4.6, 4.6)

    def usefulness(self, pair: Cross) -> float:
        """Correlation of the pair's statistic with the residual of the additive one; 0 for too few rows a cell."""
        found, distinct, additive = self._pair(pair)
        if (np.bincount(found, minlength=len(distinct)) >= self._min_rows)[found].mean() < _MIN_COVERAGE:
            return 0.0
        own = (found, self._rows.folds)
        values = _log_odds(*self._count(found, len(distinct)), additive, _SMOOTHING)[own]
        residual = self._rows.labels - 1 / (1 + np.exp(-additive[own]))
        return abs(_correlation(values, residual, self._rows.weights))

    def cells(self, cross: Cross, number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Keys and values of the cells of a cross, values scaled to deviation 1 over the training rows."""
        if len(cross) == 1:
            codes: npt.NDArray[np.integer] = self._rows.codes[:, cross[0]]
            values = self._single[cross[0]]
            distinct = np.arange(len(values)) * ((1 << ID_BITS) + 1)
        else:
            codes, distinct, additive = self._pair(cross)
            values = _log_odds(*self._count(codes, len(distinct)), additive, _SMOOTHING)
        kept = np.flatnonzero(np.bincount(codes, minlength=len(values)) >= self._min_rows)
        kept = kept[np.argsort(distinct[kept])]
        keys = (np.int64(number) << 2 * ID_BITS) + distinct[kept].astype(np.int64)
        masses = np.bincount(codes, self._rows.weights, len(values))
        deviation = np.sqrt(ratio((masses[kept] * values[kept, FOLDS] ** 2).sum(), masses.sum()))
        return keys, (values[kept] / np.maximum(deviation, _MIN_DEVIATION)).astype(np.float32)


def _correlation(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: npt.NDArray[np.float32] | None
) -> float:
    """Of two columns over rows with weights; 0 where one does not vary."""
    used = slice(None) if weights is None else weights > 0
    if not x[used].size or not x[used].std() > 0 or not y[used].std() > 0:
        return 0.0
    if weights is None:
        return float(np.corrcoef(x, y)[0, 1])
    covariance = np.cov(x, y, ddof=0, aweights=weights)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def _log_odds(
    clicks: Counts, others: Counts, prior: npt.NDArray[np.float64], smoothing: float
) -> npt.NDArray[np.float64]:
    """Log-odds with ``smoothing`` rows of the prior added, minus the prior's own log-odds."""
    rate = 1 / (1 + np.exp(-prior))
    return np.log((clicks + smoothing * rate) / (others + smoothing * (1 - rate))) - prior

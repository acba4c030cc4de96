"""From stored vocabulary ids to what a trunk sees: embedding rows and click statistics.

A training row is not shown what only its own fold knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.crosses import ID_BITS, CrossTable
from features.numeric import NumericColumn
from features.statistics import NO_FOLD, ClickCounts
from features.vocabulary import FIRST_VALUE, MISSING
from models.backend import tf

# Rows of each categorical column's part of the embedding table, before its values.
MISSING_ROW = 0
OTHER_ROW = 1
FIRST_ROW = 2


@dataclass(frozen=True)
class TableLayout:
    """Which row of the one embedding table belongs to what.

    A categorical column has a row for the missing value, one for every value without a row of its own (rare or
    unseen), one a kept value, and one a hash bucket. A numeric column has a row a bucket and one for the missing value.

    Args:
        kept: kept values of each categorical column: those with the vocabulary ids 2 to 2 + kept - 1.
        edges: bucket edges of each numeric column, in standardised units.
        buckets: hash buckets of each categorical column, which have its last vocabulary ids.
        sizes: values in the vocabulary of each categorical column: the buckets' ids begin at 2 + size. Empty without
            buckets.
    """

    kept: tuple[int, ...]
    edges: tuple[tuple[float, ...], ...]
    buckets: int = 0
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, kept: Sequence[int], numeric: Sequence[NumericColumn], sizes: Sequence[int] = (), buckets: int = 0
    ) -> TableLayout:
        """The layout for the columns of a run."""
        edges = tuple(tuple(column.standardised_edges().tolist()) for column in numeric)
        return cls(tuple(kept), edges, buckets, tuple(sizes) if buckets else ())

    @property
    def columns(self) -> int:
        """Rows that one example looks up: its categorical and numeric columns."""
        return len(self.kept) + len(self.edges)

    @property
    def starts(self) -> npt.NDArray[np.int32]:
        """Where the part of each column begins, categorical columns first: int32 [columns]."""
        return np.concatenate([[0], np.cumsum(self._lengths())[:-1]]).astype(np.int32)

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return sum(self._lengths())

    def ids(self, column: int) -> npt.NDArray[np.int64]:
        """The vocabulary ids to which the rows of a categorical column belong, in their order: int64 [its rows].

        The row for values without one of their own stands for all of them; here it has the id of unseen values.
        """
        own = np.arange(FIRST_VALUE + self.kept[column])
        if not self.buckets:
            return own
        return np.concatenate([own, FIRST_VALUE + self.sizes[column] + np.arange(self.buckets)])

    def _lengths(self) -> list[int]:
        # A column with e edges has e + 1 buckets, and the missing value.
        categorical = [kept + FIRST_ROW + self.buckets for kept in self.kept]
        return categorical + [len(edges) + 2 for edges in self.edges]


class RowLookup(tf.Module):
    """Embedding rows of examples without regard to folds, as in serving.

    Args:
        layout: of the table.
    """

    def __init__(self, layout: TableLayout) -> None:
        super().__init__(name="row_lookup")
        categorical = len(layout.kept)
        self._kept = tf.constant(layout.kept, tf.int32)
        self._hashed = layout.buckets
        self._sizes = tf.constant(layout.sizes, tf.int32)
        self._starts = tf.constant(layout.starts[:categorical])
        self._bucket_starts = tf.constant(layout.starts[categorical:])
        self._buckets = Buckets(layout.edges)

    def categorical(self, ids: tf.Tensor) -> tf.Tensor:
        """Rows of vocabulary ids: int32 [batch, categorical columns] to the same."""
        value = ids - FIRST_VALUE
        row = value + FIRST_ROW
        if self._hashed:
            # Their ids follow those of the whole vocabulary, their rows those of the kept values.
            row -= tf.where(value < self._sizes, 0, self._sizes - self._kept)
        row = tf.where((value < 0) | self.rare(ids), OTHER_ROW, row)
        return tf.where(ids == MISSING, MISSING_ROW, row) + self._starts

    def rare(self, ids: tf.Tensor) -> tf.Tensor:
        """Which vocabulary ids are those of values that are not kept: bool [batch, categorical columns]."""
        value = ids - FIRST_VALUE
        if not self._hashed:
            return value >= self._kept
        return (value >= self._kept) & ((value < self._sizes) | (value >= self._sizes + self._hashed))

    def other(self) -> tf.Tensor:
        """The row for values without one of their own, of each column: int32 [categorical columns]."""
        return self._starts + OTHER_ROW

    def numeric(self, dense: tf.Tensor) -> tf.Tensor:
        """Rows of the buckets of standardised numerics: float32 [batch, numeric columns] to int32 of that shape."""
        return self._buckets(dense) + self._bucket_starts


class CrossStatistics(tf.Module):
    """Statistics of pairs of columns, with each training row's own fold left out.

    Args:
        table: the chosen crosses.
        edges: bucket edges of the numeric columns in crosses, in standardised units.
    """

    def __init__(self, table: CrossTable, edges: Sequence[npt.NDArray[np.float32]]) -> None:
        super().__init__(name="cross_statistics")
        self._buckets = Buckets([limits.tolist() for limits in edges])
        self._first = tf.constant([cross[0] for cross in table.crosses], tf.int32)
        self._second = tf.constant([cross[-1] for cross in table.crosses], tf.int32)
        self._numbers = tf.constant(np.arange(len(table.crosses)) << 2 * ID_BITS, tf.int64)
        self.keys = table.keys
        # A last cell that nobody asks for: TensorFlow has no empty tables.
        cells = tf.lookup.KeyValueTensorInitializer(np.append(table.keys, -1), np.arange(len(table.keys) + 1))
        self._cells = tf.lookup.StaticHashTable(cells, -1)
        self._values = _table(np.pad(table.values, ((0, 1), (0, 0))), "cross_values")

    def __call__(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        """Statistics of examples; arguments as in :meth:`FoldTables.rows`: float32 [batch, crosses]."""
        codes = tf.cast(tf.concat([ids, self._buckets(dense)], axis=1), tf.int64)
        first, second = tf.gather(codes, self._first, axis=1), tf.gather(codes, self._second, axis=1)
        wanted = self._numbers + first * (1 << ID_BITS) + second
        cells = self._cells.lookup(wanted)
        place = tf.maximum(cells, 0) * (NO_FOLD + 1) + tf.cast(fold, tf.int64)[:, tf.newaxis]
        return tf.where(cells >= 0, tf.gather(self._values, place), 0.0)


class Buckets(tf.Module):
    """Buckets of standardised numerics.

    Args:
        edges: of each column, rising.
    """

    def __init__(self, edges: Sequence[Sequence[float]]) -> None:
        super().__init__(name="buckets")
        width = max([len(limits) for limits in edges] + [1])
        padded = [[*limits, *[np.inf] * (width - len(limits))] for limits in edges]
        self._edges = tf.constant(padded, tf.float32)
        self._missing = tf.constant([len(limits) + 1 for limits in edges], tf.int32)

    def __call__(self, dense: tf.Tensor) -> tf.Tensor:
        """Buckets, the one after the last for NaN: float32 [batch, columns] to int32 of that shape."""
        bucket = tf.transpose(tf.searchsorted(self._edges, tf.transpose(dense), side="right"))
        # Infinity lies behind the padding too.
        bucket = tf.minimum(bucket, self._missing - 1)
        return tf.where(tf.math.is_nan(dense), self._missing, bucket)


def _table(values: np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(values.reshape(-1), trainable=False, name=name)


class FoldTables(tf.Module):
    """Embedding rows and click statistics with each training row's own fold left out.

    Args:
        layout: of the embedding table.
        counts: of the training rows that the model may see.
        smoothing: of the click statistics; see :meth:`ClickCounts.statistics`.
        kept_only: show the statistics of kept values and buckets only, as a student does whose table has no others.
    """

    def __init__(self, layout: TableLayout, counts: ClickCounts, smoothing: float, kept_only: bool = False) -> None:
        super().__init__(name="fold_tables")
        statistics = counts.statistics(smoothing)
        self.lookup = RowLookup(layout)
        self._starts = tf.constant(counts.starts, tf.int64)
        self._kept_only = kept_only
        # Variables, not constants: a graph must not hold gigabytes.
        self._log_odds = _table(statistics.log_odds, "log_odds")
        self._log_count = _table(statistics.log_count, "log_count")
        self._known = _table(statistics.known, "known")

    def rows(self, ids: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        """Embedding rows; a value (or hash bucket) whose training rows all lie in one fold counts as one without a row.

        Args:
            ids: int32 [batch, categorical columns], vocabulary ids.
            fold: int32 [batch], in [0, 10]; 10 leaves no fold out.

        Returns:
            int32 [batch, categorical columns].
        """
        known = tf.gather(self._known, self._cells(ids, fold))
        rows = self.lookup.categorical(ids)
        return tf.where(known | (ids == MISSING), rows, self.lookup.other())

    def statistics(self, ids: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        """Log-odds and log-count of each value: float32 [batch, 2 * categorical columns]; arguments as above."""
        cells = self._cells(ids, fold)
        if self._kept_only:
            # Vocabulary id 1 has no rows, so its statistics are those of a value that nobody has seen.
            unseen = self._cells(tf.ones_like(ids), fold)
            cells = tf.where(self.lookup.rare(ids), unseen, cells)
        odds = tf.gather(self._log_odds, cells)
        return tf.concat([odds, tf.gather(self._log_count, cells)], axis=1)

    def _cells(self, ids: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        flat = tf.cast(ids, tf.int64) + self._starts
        return flat * (NO_FOLD + 1) + tf.cast(fold, tf.int64)[:, tf.newaxis]

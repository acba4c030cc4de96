"""From stored vocabulary ids to what a trunk sees: embedding rows and click statistics.

A training row is not shown what only its own fold knows. Every batch is looked up here, so tables hold what belongs
together side by side, and single cells are read by ``gather_nd``: it takes half the time of ``gather`` on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.crosses import ID_BITS, CrossTable
from features.numeric import NumericColumn
from features.statistics import NO_FOLD, ClickCounts
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN
from models.backend import tf

# Rows of each categorical column's part of the embedding table: as vocabulary ids, up to the last kept value.
MISSING_ROW = MISSING
OTHER_ROW = UNSEEN
FIRST_ROW = FIRST_VALUE
_PLACES = NO_FOLD + 1


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

    def cells(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the ids of the rows of all categorical columns lie in tables of all ids: int64 [their rows].

        Args:
            starts: where each column's id 0 lies.
        """
        return np.concatenate([start + self.ids(column) for column, start in enumerate(starts)])

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
        self._kept_end = tf.constant([FIRST_VALUE + kept for kept in layout.kept], tf.int32)
        self._hashed = layout.buckets
        self._bucket_ids = tf.constant([FIRST_VALUE + size for size in layout.sizes], tf.int32)
        self._starts = tf.constant(layout.starts[:categorical])
        self._bucket_starts = tf.constant(layout.starts[categorical:])
        self._buckets = Buckets(layout.edges)

    def categorical(self, ids: tf.Tensor) -> tf.Tensor:
        """Rows of vocabulary ids: int32 [batch, categorical columns] to the same."""
        other = OTHER_ROW
        if self._hashed:
            bucket = ids - self._bucket_ids
            # The buckets' rows follow those of the kept values.
            other = tf.where((bucket >= 0) & (bucket < self._hashed), bucket + self._kept_end, OTHER_ROW)
        return tf.where((ids >= 0) & (ids < self._kept_end), ids, other) + self._starts

    def numeric(self, dense: tf.Tensor) -> tf.Tensor:
        """Rows of the buckets of standardised numerics: float32 [batch, numeric columns] to int32 of that shape."""
        return self._buckets(dense) + self._bucket_starts


class CrossStatistics(tf.Module):
    """Statistics of pairs of columns: for a training row, of what it may see.

    Args:
        table: the chosen crosses.
        edges: bucket edges of the numeric columns in crosses, in standardised units.
    """

    def __init__(self, table: CrossTable, edges: Sequence[npt.NDArray[np.float32]]) -> None:
        super().__init__(name="cross_statistics")
        self._buckets = Buckets([limits.tolist() for limits in edges])
        self._first = tf.constant([cross[0] for cross in table.crosses], tf.int32)
        self._second = tf.constant([cross[-1] for cross in table.crosses], tf.int32)
        self._numbers = tf.constant(np.arange(len(table.crosses))[:, np.newaxis] << 2 * ID_BITS, tf.int64)
        self.keys = table.keys
        # Cell 0 is for all that is no cell. The last one is for nobody: TensorFlow has no empty tables.
        starts = np.arange(1, len(table.keys) + 2, dtype=np.int32) * _PLACES
        self._starts = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(np.append(table.keys, -1), starts), 0
        )
        self._values = _constant(np.pad(table.values, ((1, 1), (0, 0))).reshape(-1), "cross_values")

    def __call__(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        """Statistics of examples; arguments as in :meth:`FoldTables.statistics`: float32 [batch, crosses]."""
        # Crosses pick columns; picking rows copies them whole, so all of this is [columns or crosses, batch].
        codes = tf.cast(tf.transpose(tf.concat([ids, self._buckets(dense)], axis=1)), tf.int64)
        keys = self._numbers + tf.gather(codes * (1 << ID_BITS), self._first) + tf.gather(codes, self._second)
        return tf.transpose(_pick(self._values, self._starts.lookup(keys) + fold))


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


def _constant(values: npt.NDArray[np.generic], name: str) -> tf.Variable:
    """A variable that nothing trains, not a constant: a graph must not hold gigabytes."""
    return tf.Variable(values, trainable=False, name=name)


def _pick(values: tf.Variable, places: tf.Tensor) -> tf.Tensor:
    """The entries of the first axis at ``places``, of any shape."""
    return tf.gather_nd(values, places[..., tf.newaxis])


class FoldTables(tf.Module):
    """Embedding rows and click statistics; a training row does not see its own label in them.

    Args:
        layout: of the embedding table.
        counts: by fold, of the training rows that the model may see.
        smoothing: of the click statistics; see :meth:`ClickCounts.statistics`.
        statistics: ``folds``, ``time``, or ``none``: then there are no statistics, and no memory is used for them.
        sliced: counts by time slice of the same rows, for statistics by time.
        kept_only: show the statistics of kept values and buckets only, as a student does whose table has no others.
    """

    def __init__(
        self,
        layout: TableLayout,
        counts: ClickCounts,
        smoothing: float,
        statistics: str = "folds",
        sliced: ClickCounts | None = None,
        kept_only: bool = False,
    ) -> None:
        super().__init__(name="fold_tables")
        self.lookup = RowLookup(layout)
        self._shown = _constant(_shown_rows(layout, counts), "shown")
        # With kept values only, the statistics lie in the order of the embedding rows, else in that of all ids.
        self._starts = None if kept_only else tf.constant(counts.starts, tf.int32)
        if statistics == "none":
            return
        seen = sliced if statistics == "time" else counts
        if seen is None:
            raise ValueError("`sliced` should be the counts by time slice for statistics by time. Received: None")
        values = seen.statistics(smoothing, statistics).values
        if kept_only:
            values = values[layout.cells(counts.starts)]
        self._index = tf.int32 if len(values) * _PLACES < 2**31 else tf.int64
        self._values = _constant(values.reshape(-1, 2), "statistics")

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Embedding rows; a value (or hash bucket) whose training rows all lie in one fold counts as one without a row.

        Args:
            ids: int32 [batch, categorical columns], vocabulary ids.

        Returns:
            int32 [batch, categorical columns].
        """
        return _pick(self._shown, self.lookup.categorical(ids))

    def statistics(self, ids: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        """Log-odds and log-count of each value, if there are statistics.

        Args:
            ids: int32 [batch, categorical columns], vocabulary ids.
            fold: int32 [batch], in [0, 10]: the row's fold, or its time slice in statistics by time; 10 sees all.

        Returns:
            float32 [batch, 2 * categorical columns].
        """
        cells = self.lookup.categorical(ids) if self._starts is None else ids + self._starts
        places = tf.cast(cells, self._index) * _PLACES + tf.cast(fold, self._index)[:, tf.newaxis]
        return tf.concat(tf.unstack(_pick(self._values, places), axis=2), axis=1)


def _shown_rows(layout: TableLayout, counts: ClickCounts) -> npt.NDArray[np.int32]:
    """Each categorical column's embedding row, or the one for other values where the value is not known."""
    known, shown = counts.known(), []
    for column, (start, first) in enumerate(zip(layout.starts, counts.starts, strict=False)):
        ids = layout.ids(column)
        own = known[first + ids] | (ids == MISSING)
        shown.append(start + np.where(own, np.arange(len(ids)), OTHER_ROW))
    return np.concatenate(shown).astype(np.int32)

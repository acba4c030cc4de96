"""Vocabularies: the values of a categorical column, their ids, and their counts and clicks by fold.

Vocabulary ids: 0 missing, 1 unseen (no training row has the value, or it did not fit), 2, 3, ... the values in the
order of falling count, then of their bytes. With hash buckets, a value outside the vocabulary has the id of its bucket
instead of 1; the buckets have the last ids. Which values a model keeps apart is the model's choice (its
``min_count``): because of the order those are always the first ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.counts import SUMS, WEIGHT_UNIT, CellCounts, choose
from features.hashing import FOLDS
from features.siphash import hash_buckets

MISSING = 0
UNSEEN = 1
FIRST_VALUE = 2

_TABLE_ROWS = 1 << 16


@dataclass(frozen=True)
class Vocabulary:
    """The training values of one categorical column.

    Args:
        values: binary [size], by falling count, then by bytes.
        counts: int64 [ids, 10]: training rows by vocabulary id and fold; row 0 is the missing value, row 1 (unseen) is
            zero, the last rows are the hash buckets.
        clicks: int64 [ids, 10]: those of them with label 1.
        weights: float64 [ids, 10]: sum of the weights of the training rows; None in a log without weights.
        click_weights: float64 [ids, 10]: the same of those with label 1.
        buckets: hash buckets for values outside the vocabulary.
    """

    values: pa.BinaryArray
    counts: npt.NDArray[np.int64]
    clicks: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64] | None = None
    click_weights: npt.NDArray[np.float64] | None = None
    buckets: int = 0

    @property
    def ids(self) -> int:
        """Number of vocabulary ids, missing, unseen and buckets included."""
        return len(self.values) + FIRST_VALUE + self.buckets

    def kept(self, min_count: int) -> int:
        """Number of values with at least ``min_count`` training rows: the values with ids 2 to 2 + kept - 1."""
        totals = self.counts[FIRST_VALUE : FIRST_VALUE + len(self.values)].sum(axis=1)
        return int(np.searchsorted(-totals, -min_count, side="right"))

    @classmethod
    def from_table(cls, table: pa.Table) -> Vocabulary:
        """Reads the tables of a :class:`VocabularyBuilder`, put together."""
        values = stored_values(table["value"])
        arrays = []
        for name in SUMS:
            if f"{name}_0" in table.column_names:
                stored = np.stack([table[f"{name}_{fold}"].to_numpy() for fold in range(FOLDS)], axis=1)
                arrays.append(np.insert(stored, UNSEEN, 0, axis=0))
        counts, clicks = (array.astype(np.int64) for array in arrays[:2])
        weights, click_weights = arrays[2:] or (None, None)
        return cls(values, counts, clicks, weights, click_weights, table.num_rows - len(values) - 1)


def stored_values(column: pa.ChunkedArray) -> pa.BinaryArray:
    """The values among the rows of a stored vocabulary: all that are not null."""
    return column.combine_chunks().drop_null()


class VocabularyBuilder:
    """Makes the vocabulary of a column from parts of its values; holds no more than twice the values that it keeps.

    Args:
        min_count: values with fewer training rows are left out.
        max_size: of the others, at most so many are kept, the most frequent first.
        buckets: hash buckets for what is left out; 0 for none.
        weighted: whether the log has weights.
    """

    def __init__(self, min_count: int, max_size: int, buckets: int, weighted: bool) -> None:
        self._min_count, self._max_size, self._buckets = min_count, max_size, buckets
        self._held = CellCounts.of([], weighted)
        self._missing = self._held.by_place(np.empty(0, np.int32), 1)
        self._hashed = self._held.by_place(np.empty(0, np.int32), buckets)

    def add(self, counted: CellCounts) -> None:
        """Adds a part: all counts of its values."""
        empty = pc.binary_length(counted.values).to_numpy() == 0
        self._missing += counted.by_place(np.where(empty, 0, -1), 1)
        enough = ~empty & (counted.rows() >= self._min_count)
        self._drop(counted, ~enough & ~empty)
        self._held = CellCounts.join([self._held, counted.take(np.flatnonzero(enough))])
        if len(self._held) > 2 * self._max_size:
            self._shrink()

    def add_hashed(self, sums: npt.NDArray[np.int64]) -> None:
        """Adds the sums of values of which only the buckets are known: int64 [buckets, 10, 2 or 4]."""
        self._hashed += sums

    def _drop(self, counted: CellCounts, dropped: npt.NDArray[np.bool_]) -> None:
        if self._buckets and dropped.any():
            places = np.where(dropped, hash_buckets(counted.values, self._buckets), -1)
            self._hashed += counted.by_place(places, self._buckets)

    def _shrink(self) -> None:
        """Keeps the values that are in the vocabulary if no others come, in its order."""
        held = self._held
        chosen = choose(held.rows(), held.values, self._min_count, self._max_size)
        dropped = np.ones(len(held), bool)
        dropped[chosen] = False
        self._drop(held, dropped)
        self._held = held.take(chosen)

    def tables(self, rows: int = _TABLE_ROWS) -> Iterator[pa.Table]:
        """The vocabulary of all parts, as it is stored, a piece at a time.

        A row for the missing value (null), then one a value, then one a bucket (null); sums by fold, of rows as int32
        where all training rows together fit. :meth:`Vocabulary.from_table` reads them put together.
        """
        self._shrink()
        held = self._held
        whole = held.sums[:, 0].sum() + self._missing[:, :, 0].sum() + self._hashed[:, :, 0].sum()
        dtype = np.int32 if whole <= np.iinfo(np.int32).max else np.int64
        yield _stored(pa.nulls(1, pa.binary()), self._missing, dtype)
        for part in held.pieces(rows):
            yield _stored(part.values, part.by_place(np.arange(len(part)), len(part)), dtype)
        if self._buckets:
            yield _stored(pa.nulls(self._buckets, pa.binary()), self._hashed, dtype)


def _stored(values: pa.BinaryArray, sums: npt.NDArray[np.int64], dtype: type[np.signedinteger[Any]]) -> pa.Table:
    columns = {"value": values}
    for index, name in enumerate(SUMS[: sums.shape[2]]):
        for fold in range(FOLDS):
            column = sums[:, fold, index]
            columns[f"{name}_{fold}"] = column / WEIGHT_UNIT if "weight" in name else column.astype(dtype)
    return pa.table(columns)

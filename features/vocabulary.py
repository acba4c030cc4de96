"""Vocabularies: the values of a categorical column, their ids, and their counts and clicks by fold.

Vocabulary ids: 0 missing, 1 unseen (no training row has the value, or it did not fit), 2, 3, ... the values in the
order of falling count, then of their bytes. Which of them a model keeps apart is the model's choice (its
``min_count``): because of the order those are always the first ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.hashing import FOLDS

MISSING = 0
UNSEEN = 1
FIRST_VALUE = 2

COUNTS_SCHEMA = pa.schema([("value", pa.binary()), ("fold", pa.uint8()), ("count", pa.int64()), ("clicks", pa.int64())])


def count_values(
    columns: Iterable[pa.DictionaryArray],
    folds: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
) -> pa.Table:
    """Counts one categorical column of some rows.

    Args:
        columns: the rows' values, a dictionary array (int32 codes, binary values) a chunk.
        folds: uint8 [n], fold of each row.
        labels: uint8 [n], 0 or 1.

    Returns:
        A table with :data:`COUNTS_SCHEMA`: a row for each (value, fold) that occurs.
    """
    chunked = pa.chunked_array(list(columns), type=pa.dictionary(pa.int32(), pa.binary())).unify_dictionaries()
    if not len(chunked):
        return COUNTS_SCHEMA.empty_table()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunked.chunks])
    values = chunked.chunk(chunked.num_chunks - 1).dictionary
    cells = codes.astype(np.int64) * FOLDS + folds
    count = np.bincount(cells, minlength=len(values) * FOLDS)
    clicks = np.bincount(cells[labels == 1], minlength=len(values) * FOLDS)
    found = np.flatnonzero(count)
    return pa.table(
        [
            values.take(pa.array(found // FOLDS)),
            pa.array((found % FOLDS).astype(np.uint8)),
            pa.array(count[found]),
            pa.array(clicks[found]),
        ],
        schema=COUNTS_SCHEMA,
    )


def lookup(values: pa.BinaryArray, vocabulary: pa.BinaryArray) -> npt.NDArray[np.int32]:
    """Vocabulary ids of values.

    Args:
        values: binary [n], b"" = missing.
        vocabulary: binary [size], the values with ids 2, 3, ...

    Returns:
        int32 [n].
    """
    found = pc.fill_null(pc.index_in(values, value_set=vocabulary), UNSEEN - FIRST_VALUE)
    ids = found.to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(FIRST_VALUE)
    ids[pc.equal(values, b"").to_numpy(zero_copy_only=False)] = MISSING
    return ids


@dataclass(frozen=True)
class Vocabulary:
    """The training values of one categorical column.

    Args:
        values: binary [size], by falling count, then by bytes.
        counts: int64 [size + 2, 10]: training rows by vocabulary id and fold; row 0 is the missing value, row 1
            (unseen) is zero.
        clicks: int64 [size + 2, 10]: those of them with label 1.
    """

    values: pa.BinaryArray
    counts: npt.NDArray[np.int64]
    clicks: npt.NDArray[np.int64]

    @property
    def ids(self) -> int:
        """Number of vocabulary ids, missing and unseen included."""
        return len(self.values) + FIRST_VALUE

    def kept(self, min_count: int) -> int:
        """Number of values with at least ``min_count`` training rows: the values with ids 2 to 2 + kept - 1."""
        totals = self.counts[FIRST_VALUE:].sum(axis=1)
        return int(np.searchsorted(-totals, -min_count, side="right"))

    @classmethod
    def merge(cls, parts: Sequence[pa.Table], min_count: int, max_size: int) -> Vocabulary:
        """Makes the vocabulary from the counts of all parts of the training rows.

        Args:
            parts: tables with :data:`COUNTS_SCHEMA`.
            min_count: values with fewer training rows are left out.
            max_size: of the others, at most so many are kept, the most frequent first.
        """
        table = pa.concat_tables([*parts, COUNTS_SCHEMA.empty_table()]).combine_chunks()
        encoded = table["value"].combine_chunks().dictionary_encode()
        values = encoded.dictionary
        counts = np.zeros((len(values), FOLDS), np.int64)
        clicks = np.zeros((len(values), FOLDS), np.int64)
        cell = (encoded.indices.to_numpy(), table["fold"].to_numpy())
        np.add.at(counts, cell, table["count"].to_numpy())
        np.add.at(clicks, cell, table["clicks"].to_numpy())
        totals = counts.sum(axis=1)
        ranked = pa.table({"value": values, "total": totals, "row": np.arange(len(values))})
        missing = pc.equal(ranked["value"], b"")
        ranked = ranked.filter(pc.and_(pc.invert(missing), pc.greater_equal(ranked["total"], min_count)))
        order = ranked.sort_by([("total", "descending"), ("value", "ascending")])["row"].to_numpy()[:max_size]
        absent = np.flatnonzero(missing.to_numpy())
        return cls(
            values.take(pa.array(order, pa.int64())),
            np.concatenate([_special(counts, absent), counts[order]]),
            np.concatenate([_special(clicks, absent), clicks[order]]),
        )

    def to_table(self) -> pa.Table:
        """A row for the missing value (null), then one a value; counts and clicks by fold."""
        rows = np.r_[MISSING, np.arange(FIRST_VALUE, self.ids)]
        columns = {"value": pa.concat_arrays([pa.array([None], pa.binary()), self.values])}
        for name, array in (("count", self.counts), ("clicks", self.clicks)):
            columns |= {f"{name}_{fold}": pa.array(array[rows, fold]) for fold in range(FOLDS)}
        return pa.table(columns)

    @classmethod
    def from_table(cls, table: pa.Table) -> Vocabulary:
        """Reads what :meth:`to_table` wrote."""
        arrays = []
        for name in ("count", "clicks"):
            stored = np.stack([table[f"{name}_{fold}"].to_numpy() for fold in range(FOLDS)], axis=1)
            arrays.append(np.insert(stored, UNSEEN, 0, axis=0))
        return cls(table["value"].combine_chunks().slice(1), *arrays)


def _special(counts: npt.NDArray[np.int64], absent: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows of the ids missing and unseen."""
    return np.stack([counts[absent].sum(axis=0), np.zeros(FOLDS, np.int64)])

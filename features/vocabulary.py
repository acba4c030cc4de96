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


class ValueIndex:
    """Finds the vocabulary ids of values; made once, asked for every shard.

    Values of at most eight bytes are found by a binary search among sorted numbers. Arrow finds the longer ones, but
    it makes a new hash table of the whole vocabulary at each call.

    Args:
        vocabulary: binary [size], the values with ids 2, 3, ...
    """

    def __init__(self, vocabulary: pa.BinaryArray) -> None:
        words, short, _ = _words(vocabulary)
        places = np.flatnonzero(short)
        order = np.argsort(words[places])
        self._words, self._ids = words[places][order], (places[order] + FIRST_VALUE).astype(np.int32)
        self._long_ids = (np.flatnonzero(~short) + FIRST_VALUE).astype(np.int32)
        self._long = vocabulary.take(pa.array(self._long_ids - FIRST_VALUE))

    def find(self, values: pa.BinaryArray) -> npt.NDArray[np.int32]:
        """Ids of values (binary [n], b"" = missing): int32 [n]."""
        words, short, empty = _words(values)
        ids = np.full(len(values), UNSEEN, np.int32)
        ids[empty] = MISSING
        if len(self._words):
            places = np.minimum(np.searchsorted(self._words, words), len(self._words) - 1)
            hits = short & (self._words[places] == words)
            ids[hits] = self._ids[places[hits]]
        rest = np.flatnonzero(~short & ~empty)
        if len(self._long) and len(rest):
            found = pc.fill_null(pc.index_in(values.take(pa.array(rest)), value_set=self._long), -1).to_numpy()
            ids[rest[found >= 0]] = self._long_ids[found[found >= 0]]
        return ids


_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)


def _words(values: pa.BinaryArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The first eight bytes of each value as a little-endian number, filled up with zeros.

    Returns:
        the numbers, uint64 [n]; which of them stand for one value only, bool [n]: those of 1 to 8 bytes that do not
        end with a zero byte; which values are empty, bool [n].
    """
    lengths = pc.binary_length(values).to_numpy()
    _, offsets, data = values.buffers()
    if not len(lengths) or data is None:
        return np.zeros(len(lengths), np.uint64), np.zeros(len(lengths), bool), lengths == 0
    starts = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(lengths)]
    padded = np.frombuffer(bytes(data) + bytes(8), np.uint8)
    windows = np.ndarray(len(padded) - 7, "<u8", padded, strides=(1,))
    words = windows[starts] & _MASKS[np.minimum(lengths, 8)]
    short = (lengths >= 1) & (lengths <= 8) & (words > _MASKS[np.clip(lengths - 1, 0, 8)])
    return words, short, lengths == 0


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
        cells = encoded.indices.to_numpy().astype(np.int64) * FOLDS + table["fold"].to_numpy()
        counts = _sums(cells, table["count"].to_numpy(), len(values))
        clicks = _sums(cells, table["clicks"].to_numpy(), len(values))
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


def _sums(cells: npt.NDArray[np.int64], addends: npt.NDArray[np.int64], values: int) -> npt.NDArray[np.int64]:
    """Sums by value and fold: int64 [values, 10]; exact, because float64 holds whole numbers up to 2^53."""
    sums = np.bincount(cells, weights=addends, minlength=values * FOLDS)
    return sums.astype(np.int64).reshape(values, FOLDS)


def _special(counts: npt.NDArray[np.int64], absent: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows of the ids missing and unseen."""
    return np.stack([counts[absent].sum(axis=0), np.zeros(FOLDS, np.int64)])

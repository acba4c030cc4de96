"""Counting values: rows and clicks by value and fold, exact however the rows are divided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.hashing import FOLDS
from features.values import by_bytes, number

WEIGHT_UNIT = 1 << 20
"""Weights are added up as integers, in units of 2^-20."""
SUMS = ("count", "clicks", "weight", "click_weight")
"""What is added up: rows, rows with label 1, and in a log with weights the weights of both."""

_LOW_BITS = 24

Ints = npt.NDArray[np.int64]


def counts_schema(weighted: bool) -> pa.Schema:
    """Columns of a table of counts of one range: a row for each (value, fold) that occurs."""
    sums = [(name, pa.int64() if "weight" in name else pa.int32()) for name in SUMS[: 4 if weighted else 2]]
    return pa.schema([("value", pa.binary()), ("fold", pa.uint8()), *sums])


def count_values(
    column: pa.DictionaryArray,
    folds: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    weights: npt.NDArray[np.float32] | None = None,
) -> pa.Table:
    """Counts one categorical column of some rows.

    Args:
        column: the rows' values; those of the dictionary are distinct.
        folds: uint8 [n], fold of each row.
        labels: uint8 [n], 0 or 1.
        weights: float32 [n].

    Returns:
        A table with :func:`counts_schema`, values in the order of the dictionary.
    """
    cells = column.indices.to_numpy().astype(np.int64) * FOLDS + folds
    size, clicked = len(column.dictionary) * FOLDS, np.flatnonzero(labels)
    sums = [np.bincount(cells, minlength=size), np.bincount(cells[clicked], minlength=size)]
    if weights is not None:
        units = fixed_weights(weights)
        sums += [exact_sums(cells, units, size), exact_sums(cells[clicked], units[clicked], size)]
    found = np.flatnonzero(sums[0])
    return pa.table(
        [
            column.dictionary.take(pa.array(found // FOLDS)),
            pa.array((found % FOLDS).astype(np.uint8)),
            *(part[found] for part in sums),
        ],
        schema=counts_schema(weights is not None),
    )


def fixed_weights(weights: npt.NDArray[np.float32]) -> Ints:
    """Weights in units of 2^-20: int64 [n]."""
    return np.rint(weights.astype(np.float64) * WEIGHT_UNIT).astype(np.int64)


def exact_sums(cells: npt.NDArray[np.integer], addends: Ints, size: int) -> Ints:
    """Sums of integers (not negative) by cell: int64 [size].

    ``bincount`` adds in float64, which is exact up to 2^53 only; so the high and the low bits are added apart.
    """
    low = np.bincount(cells, addends & ((1 << _LOW_BITS) - 1), size).astype(np.int64)
    if not len(addends) or int(addends.max()) >> _LOW_BITS == 0:
        return low
    high = np.bincount(cells, addends >> _LOW_BITS, size).astype(np.int64)
    return low + (high << _LOW_BITS)


def choose(totals: Ints, values: pa.BinaryArray, min_count: int, max_size: int) -> Ints:
    """The most frequent values, by falling number of rows and then by bytes: their places, int64 [chosen].

    Args:
        totals: int64 [n], rows of each value.
        values: binary [n], distinct.
        min_count: values with fewer rows are left out.
        max_size: at most so many are chosen.
    """
    # Of many values with the same few rows only some fit: no more are sorted than need be.
    bound = max(min_count, int(np.partition(totals, -max_size)[-max_size]) if len(totals) > max_size else 0)
    chosen, ties = np.flatnonzero(totals > bound), np.flatnonzero(totals == bound)
    ties = ties[by_bytes(values.take(pa.array(ties)))[: max_size - len(chosen)]]
    chosen = chosen[by_bytes(values.take(pa.array(chosen)))]
    chosen = chosen[np.argsort(-totals[chosen], kind="stable")]
    return np.concatenate([chosen, ties])


@dataclass(frozen=True)
class CellCounts:
    """Counts of distinct values by fold, as the cells that are not zero.

    Args:
        values: binary [n], distinct.
        numbers: int32 [cells], the value of each cell.
        folds: uint8 [cells].
        sums: int64 [cells, 2 or 4], as in :data:`SUMS`.
    """

    values: pa.BinaryArray
    numbers: npt.NDArray[np.int32]
    folds: npt.NDArray[np.uint8]
    sums: Ints

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, tables: Sequence[pa.Table], weighted: bool) -> CellCounts:
        """Puts tables of counts together."""
        table = pa.concat_tables([*tables, counts_schema(weighted).empty_table()]).combine_chunks()
        numbers, values = number(table["value"].combine_chunks())
        # A value and fold that several ranges have become one cell.
        cells = numbers.astype(np.int64) * FOLDS + table["fold"].to_numpy()
        size, names = len(values) * FOLDS, SUMS[: 4 if weighted else 2]
        sums = [exact_sums(cells, table[name].to_numpy(), size) for name in names]
        found = np.flatnonzero(sums[0])
        of_found = np.stack([part[found] for part in sums], axis=1)
        return cls(values, (found // FOLDS).astype(np.int32), (found % FOLDS).astype(np.uint8), of_found)

    @classmethod
    def join(cls, parts: Sequence[CellCounts]) -> CellCounts:
        """The values of all parts, which have none in common."""
        starts = np.cumsum([0, *(len(part) for part in parts)])
        return cls(
            pa.concat_arrays([part.values for part in parts]),
            np.concatenate([part.numbers + np.int32(start) for part, start in zip(parts, starts, strict=False)]),
            np.concatenate([part.folds for part in parts]),
            np.concatenate([part.sums for part in parts]),
        )

    def take(self, chosen: Ints) -> CellCounts:
        """Some of the values, in the given order."""
        place = self._places(chosen)[self.numbers]
        kept = np.flatnonzero(place >= 0)
        return CellCounts(self.values.take(pa.array(chosen)), place[kept], self.folds[kept], self.sums[kept])

    def pieces(self, size: int) -> Iterator[CellCounts]:
        """The values in order, so many at a time."""
        order = np.argsort(self.numbers, kind="stable")
        bounds = np.searchsorted(self.numbers[order], np.arange(0, len(self) + size, size))
        for index, start in enumerate(range(0, len(self), size)):
            cells = order[bounds[index] : bounds[index + 1]]
            numbers = self.numbers[cells] - np.int32(start)
            yield CellCounts(self.values.slice(start, size), numbers, self.folds[cells], self.sums[cells])

    def _places(self, chosen: Ints) -> npt.NDArray[np.int32]:
        places = np.full(len(self), -1, np.int32)
        places[chosen] = np.arange(len(chosen), dtype=np.int32)
        return places

    def rows(self) -> Ints:
        """Rows of each value: int64 [n]."""
        return exact_sums(self.numbers, self.sums[:, 0], len(self))

    def by_place(self, places: npt.NDArray[np.integer], size: int) -> Ints:
        """Sums by place and fold: int64 [size, 10, 2 or 4].

        Args:
            places: [n], where the sums of each value go; -1 for nowhere.
            size: number of places.
        """
        place = places[self.numbers]
        kept = np.flatnonzero(place >= 0)
        cells = place[kept].astype(np.int64) * FOLDS + self.folds[kept]
        sums = [exact_sums(cells, self.sums[kept, index], size * FOLDS) for index in range(self.sums.shape[1])]
        return np.stack(sums, axis=1).reshape(size, FOLDS, len(sums))

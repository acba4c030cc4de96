"""From parsed rows to what a model sees: standardised numerics and vocabulary ids.

Preprocessing and ``predict`` both come through here; the serving module does the same from the same tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.blocks import BLOCK_ROWS, Block
from features.hashing import folds, row_order
from features.numeric import NumericColumn
from features.row_table import RowTable
from features.rows import ParsedRows
from features.siphash import hash_buckets
from features.values import ValueIndex
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN

# Few calls on much data: threads hold each other up when calls are short.
TILE_ROWS = 8 * BLOCK_ROWS

Columns = Sequence[pa.DictionaryArray]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Transform:
    """The fitted transform of all columns.

    Args:
        numeric: statistics of each numeric column, in the schema's order.
        vocabularies: values with the ids 2, 3, ... of each categorical column, in the schema's order.
        buckets: hash buckets of each categorical column for other values.
    """

    numeric: tuple[NumericColumn, ...]
    vocabularies: tuple[pa.BinaryArray, ...]
    buckets: int = 0

    def dense(self, parts: Sequence[ParsedRows]) -> npt.NDArray[np.float32]:
        """Standardised numerics of all rows: float32 [n, numeric columns], NaN = missing."""
        empty = np.empty((0, len(self.numeric)), np.float32)
        return np.concatenate([empty, *(_gather(self._numbers(part.numeric), part.numeric) for part in parts)])

    def ids(self, parts: Sequence[ParsedRows]) -> npt.NDArray[np.int32]:
        """Vocabulary ids of all rows: int32 [n, categorical columns]."""
        empty = np.empty((0, len(self.vocabularies)), np.int32)
        return np.concatenate([empty, *(_gather(self._ids(part.categorical), part.categorical) for part in parts)])

    def blocks(
        self, table: RowTable, rows: npt.NDArray[np.int64], source: str, seed: int, size: int = TILE_ROWS
    ) -> Iterator[Block]:
        """Some rows of a range, in the order of the seed; no more of them than a block's are held in this form.

        Args:
            table: rows of the range.
            rows: int64 [n], numbers of the chosen rows.
            source: path of the file.
            seed: of the folds and of the order.
            size: most rows of a block.
        """
        numbers, ids = self._numbers(table.numeric), self._ids(table.categorical)
        order = rows[row_order(table.offsets[rows], source, seed)]
        for start in range(0, len(order), size):
            tile = order[start : start + size]
            offsets = table.offsets[tile]
            yield Block(
                table.labels[tile],
                _gather(numbers, table.numeric, tile),
                _gather(ids, table.categorical, tile),
                folds(offsets, source, seed),
                offsets,
                None if table.weights is None else table.weights[tile],
                None if table.groups is None else table.groups[tile],
                None if table.outcomes is None else table.outcomes[tile],
            )

    @cached_property
    def _indices(self) -> list[ValueIndex]:
        return [ValueIndex(vocabulary) for vocabulary in self.vocabularies]

    def _numbers(self, columns: Columns) -> list[npt.NDArray[np.float32]]:
        """The standardised values of the dictionary of each numeric column."""
        pairs = zip(self.numeric, columns, strict=True)
        return [numeric.standardised(column.dictionary.to_numpy()) for numeric, column in pairs]

    def _ids(self, columns: Columns) -> list[npt.NDArray[np.int32]]:
        """The vocabulary ids of the dictionary of each categorical column."""
        return [self._find(index, column.dictionary) for index, column in enumerate(columns)]

    def _find(self, column: int, values: pa.BinaryArray) -> npt.NDArray[np.int32]:
        ids = self._indices[column].find(values) + np.int32(FIRST_VALUE)
        absent = np.flatnonzero(ids < FIRST_VALUE)
        others = values.take(pa.array(absent))
        if self.buckets:
            hashed = hash_buckets(others, self.buckets)
            ids[absent] = FIRST_VALUE + len(self.vocabularies[column]) + hashed
        else:
            ids[absent] = UNSEEN
        ids[absent[np.flatnonzero(_empty(others))]] = MISSING
        return ids


def _empty(values: pa.BinaryArray) -> npt.NDArray[np.bool_]:
    empty: npt.NDArray[np.bool_] = pc.binary_length(values).to_numpy() == 0
    return empty


def _gather(
    values: Sequence[npt.NDArray[T]], columns: Columns, rows: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[T]:
    """Values of rows side by side, [n, columns], from those of each column's dictionary."""
    codes = [column.indices.to_numpy() for column in columns]
    size = len(codes[0]) if rows is None else len(rows)
    gathered = np.empty((size, len(values)), values[0].dtype)
    for position, (chosen, code) in enumerate(zip(values, codes, strict=True)):
        gathered[:, position] = chosen[code if rows is None else code[rows]]
    return gathered

"""From parsed rows to what a model sees: standardised numerics and vocabulary ids.

Preprocessing and ``predict`` both come through here; the serving module does the same from the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.blocks import Block
from features.hashing import folds, row_order
from features.numeric import NumericColumn, standardise
from features.parsing import ParsedRows
from features.vocabulary import ValueIndex


@dataclass(frozen=True)
class Transform:
    """The fitted transform of all columns.

    Args:
        numeric: statistics of each numeric column, in the schema's order.
        vocabularies: values with the ids 2, 3, ... of each categorical column, in the schema's order.
    """

    numeric: tuple[NumericColumn, ...]
    vocabularies: tuple[pa.BinaryArray, ...]

    def dense(self, parts: Sequence[ParsedRows]) -> npt.NDArray[np.float32]:
        """Standardised numerics of all rows: float32 [n, numeric columns], NaN = missing."""
        values = [part.numeric for part in parts]
        return standardise(np.concatenate(values or [np.empty((0, len(self.numeric)), np.float32)]), self.numeric)

    def ids(self, parts: Sequence[ParsedRows]) -> npt.NDArray[np.int32]:
        """Vocabulary ids of all rows: int32 [n, categorical columns]."""
        rows = sum(len(part.offsets) for part in parts)
        ids = np.empty((rows, len(self.vocabularies)), np.int32)
        for column, index in enumerate(self._indices):
            ids[:, column] = _column_ids([part.categorical[column] for part in parts], index)
        return ids

    @cached_property
    def _indices(self) -> list[ValueIndex]:
        return [ValueIndex(vocabulary) for vocabulary in self.vocabularies]

    def block(self, parts: Sequence[ParsedRows], source: str, seed: int) -> Block:
        """All labelled rows of a shard in the order of the seed."""
        offsets = np.concatenate([part.offsets for part in parts] or [np.empty(0, np.int64)])
        labels = [part.labels for part in parts if part.labels is not None]
        block = Block(
            np.concatenate(labels or [np.empty(0, np.uint8)]),
            self.dense(parts),
            self.ids(parts),
            folds(offsets, source, seed),
            offsets,
        )
        return block.take(row_order(offsets, source, seed))


def _column_ids(chunks: list[pa.DictionaryArray], index: ValueIndex) -> npt.NDArray[np.int32]:
    """Looks up only the distinct values of the rows."""
    if not chunks:
        return np.empty(0, np.int32)
    unified = pa.chunked_array(chunks).unify_dictionaries()
    ids = index.find(unified.chunk(unified.num_chunks - 1).dictionary)
    return np.concatenate([ids[chunk.indices.to_numpy()] for chunk in unified.chunks])

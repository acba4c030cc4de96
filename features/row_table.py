"""The rows of one range of a log by column, each column with one dictionary: what the first pass leaves to the second.

A value is parsed, and looked up, once for each range that it occurs in, however many rows have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.rows import ParsedRows
from features.schema import Schema
from features.siphash import siphash
from features.splits import LINES, Split
from features.values import unify, unify_numbers

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class RowTable:
    """Rows by column, in file order.

    Args:
        offsets: int64 [n].
        labels: uint8 [n].
        numeric: a dictionary array of float32 values for each numeric column; NaN = missing.
        categorical: a dictionary array of distinct binary values for each categorical column, in the order of
            :func:`features.values.unify`; b"" = missing.
        lines: int64 [n], number of each row's line in the range, rejects counted; None unless the split asks for it.
        weights: float32 [n], or None.
        groups: int64 [n], or None.
        splits: uint8 [n], number of each row's split, or None where position decides.
        outcomes: uint8 [n, outcome columns], or None.
    """

    offsets: NDArray[np.int64]
    labels: NDArray[np.uint8]
    numeric: list[pa.DictionaryArray]
    categorical: list[pa.DictionaryArray]
    lines: NDArray[np.int64] | None = None
    weights: NDArray[np.float32] | None = None
    groups: NDArray[np.int64] | None = None
    splits: NDArray[np.uint8] | None = None
    outcomes: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def of(cls, parts: Sequence[ParsedRows], schema: Schema, split: Split) -> RowTable:
        """Puts the labelled rows of a range together.

        Args:
            parts: in file order.
            schema: of the log.
            split: says which of the optional arrays are needed.
        """
        offsets = _concatenate([part.offsets for part in parts], np.int64)
        rejected = np.array([reject.offset for part in parts for reject in part.rejects], np.int64)
        groups = splits = outcomes = None
        if split.by_row:
            splits = _concatenate([split.of_rows(part, schema) for part in parts], np.uint8)
        if schema.group:
            index = schema.keys.index(schema.group)
            groups = _concatenate([siphash(part.keys[index]).view(np.int64) for part in parts], np.int64)
        if schema.outcomes:
            empty = np.empty((0, len(schema.outcomes)), np.uint8)
            outcomes = np.concatenate([empty, *(part.outcomes for part in parts if part.outcomes is not None)])
        return cls(
            offsets,
            _concatenate([part.labels for part in parts if part.labels is not None], np.uint8),
            [unify_numbers([part.numeric[index] for part in parts]) for index in range(len(schema.numeric))],
            [unify([part.categorical[index] for part in parts]) for index in range(len(schema.categorical))],
            np.arange(len(offsets)) + np.searchsorted(rejected, offsets) if split.method == LINES else None,
            _concatenate([part.weights for part in parts if part.weights is not None], np.float32)
            if schema.weight
            else None,
            groups,
            splits,
            outcomes,
        )

    def to_batch(self) -> pa.RecordBatch:
        """The rows as a record batch; :meth:`from_batch` reads it back, without a copy."""
        arrays = {name: pa.array(getattr(self, name)) for name in _ARRAYS if getattr(self, name) is not None}
        if self.outcomes is not None:
            flat = pa.array(self.outcomes.reshape(-1))
            arrays[_OUTCOMES] = pa.FixedSizeListArray.from_arrays(flat, self.outcomes.shape[1])
        arrays |= {f"n{index}": column for index, column in enumerate(self.numeric)}
        arrays |= {f"c{index}": column for index, column in enumerate(self.categorical)}
        return pa.RecordBatch.from_pydict(arrays)

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> RowTable:
        """Reads what :meth:`to_batch` made."""
        names = batch.schema.names
        return cls(
            **{name: batch.column(name).to_numpy() for name in _ARRAYS if name in names},
            numeric=[batch.column(name) for name in names if name[0] == "n"],
            categorical=[batch.column(name) for name in names if name[0] == "c"],
            outcomes=_matrix(batch.column(_OUTCOMES)) if _OUTCOMES in names else None,
        )


_OUTCOMES = "outcomes"
_ARRAYS = tuple(item.name for item in fields(RowTable) if item.name not in ("numeric", "categorical", _OUTCOMES))


def _matrix(column: pa.FixedSizeListArray) -> NDArray[np.uint8]:
    matrix: NDArray[np.uint8] = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return matrix


def _concatenate(parts: Sequence[NDArray[T]], dtype: type[T]) -> NDArray[T]:
    return np.concatenate([*parts, np.empty(0, dtype)])

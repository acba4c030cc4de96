"""Parsed rows by column: what every reader of a log gives, whatever the format of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.lines import Chunk
from features.rejects import Reject
from features.schema import Schema
from features.strict import MAX_LINE_BYTES, TOO_LONG, Row

NO_OFFSETS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class ParsedRows:
    """The rows of a chunk by column, in file order.

    Args:
        offsets: int64 [n], offset of the first byte of each line in its file; of a parquet file, number of the row.
        labels: uint8 [n], 0 or 1; None when the log has no label column.
        weights: float32 [n]; None when the schema has no weight column or the log no labels.
        numeric: for each numeric column a dictionary array [n] of int32 codes and float32 values; NaN = missing;
            no nulls. Values may occur twice, or not at all.
        categorical: for each categorical column a dictionary array [n] of int32 codes and binary values. The
            values are distinct; b"" = missing; no nulls.
        keys: for each pass-through column a binary array [n] without nulls.
        rejects: the lines that are no rows, in file order.
        outcomes: uint8 [n, outcome columns], 0 or 1; None when the schema has no such column or the log no labels.
    """

    offsets: NDArray[np.int64]
    labels: NDArray[np.uint8] | None
    weights: NDArray[np.float32] | None
    numeric: list[pa.DictionaryArray]
    categorical: list[pa.DictionaryArray]
    keys: list[pa.BinaryArray]
    rejects: list[Reject]
    outcomes: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.offsets)

    def numbers(self) -> NDArray[np.float32]:
        """The numeric columns side by side: float32 [n, numeric columns]; NaN = missing."""
        numbers = np.empty((len(self), len(self.numeric)), np.float32)
        for position, column in enumerate(self.numeric):
            numbers[:, position] = column.dictionary.to_numpy()[column.indices.to_numpy()]
        return numbers


def from_long_line(chunk: Chunk, schema: Schema, labelled: bool) -> ParsedRows:
    """No row, and the reject of a line that was too long to keep: the only one of its chunk."""
    length = len(chunk.data) + chunk.truncated_bytes
    detail = f"expected at most {MAX_LINE_BYTES} bytes, received {length}"
    reject = Reject(chunk.offset, TOO_LONG, detail, chunk.data, chunk.truncated_bytes)
    return from_rows(NO_OFFSETS, [], [reject], schema, labelled)


def from_rows(
    offsets: NDArray[np.int64], rows: Sequence[Row], rejects: list[Reject], schema: Schema, labelled: bool
) -> ParsedRows:
    """Puts rows of the strict parser side by side.

    Args:
        offsets: int64 [n], of the rows.
        rows: n rows.
        rejects: the lines that are none.
        schema: of the log.
        labelled: whether the log has the label column.
    """
    numeric = [np.array([row.numerics[i] for row in rows], np.float32) for i in range(len(schema.numeric))]
    categorical = [[row.categoricals[i] for row in rows] for i in range(len(schema.categorical))]
    keys = [[row.keys[i] for row in rows] for i in range(len(schema.keys))]
    codes = pa.array(np.arange(len(rows), dtype=np.int32))
    return ParsedRows(
        offsets,
        np.array([row.label for row in rows], np.uint8) if labelled else None,
        np.array([row.weight for row in rows], np.float32) if labelled and schema.weight else None,
        [pa.DictionaryArray.from_arrays(codes, pa.array(values)) for values in numeric],
        [pa.array(values, pa.binary()).dictionary_encode() for values in categorical],
        [pa.array(values, pa.binary()) for values in keys],
        rejects,
        np.array([row.outcomes for row in rows], np.uint8).reshape(len(rows), len(schema.outcomes))
        if labelled and schema.outcomes
        else None,
    )

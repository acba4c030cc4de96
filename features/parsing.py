"""Chunks of a log to columns: Arrow does the work, the strict parser decides about every doubtful line.

A line that looks suspicious is taken out before Arrow sees it, a line with a value that does not match is
taken out afterwards, and both go to the strict parser. So one bad line costs one slow line, not a slow chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from features.errors import DataError
from features.lines import BYTE_ORDER_MARK, Chunk
from features.rejects import Reject, printable
from features.scanning import Lines
from features.schema import FLOAT, INTEGER, LABEL, Schema
from features.strict import (
    FLOAT_PATTERN,
    INTEGER_PATTERN,
    LABEL_PATTERN,
    MAX_LINE_BYTES,
    TOO_LONG,
    BadLine,
    Row,
    columns_of,
    parse_line,
)

_NO_OFFSETS = np.zeros(0, np.int64)
_PATTERNS = {LABEL: LABEL_PATTERN, INTEGER: INTEGER_PATTERN, FLOAT: FLOAT_PATTERN}


@dataclass(frozen=True)
class ParsedRows:
    """The rows of a chunk by column, in file order.

    Args:
        offsets: int64 [n], offset of the first byte of each line in its file.
        labels: uint8 [n], 0 or 1; None when the log has no label column.
        numeric: float32 [n, number of numeric columns]; NaN = missing.
        categorical: for each categorical column a dictionary array [n] of int32 codes and binary values. The
            values are distinct, each occurs, and they stand in the order in which they first occur; b"" =
            missing; no nulls.
        keys: for each key column a binary array [n] without nulls.
        rejects: the lines that are no rows, in file order.
    """

    offsets: NDArray[np.int64]
    labels: NDArray[np.uint8] | None
    numeric: NDArray[np.float32]
    categorical: list[pa.DictionaryArray]
    keys: list[pa.BinaryArray]
    rejects: list[Reject]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.offsets)


def parse_chunk(chunk: Chunk, schema: Schema, labelled: bool = True) -> ParsedRows:
    """Parses the lines of a chunk. The result is that of :func:`features.strict.parse_line`, line by line.

    Args:
        chunk: complete lines, or the beginning of one that is too long.
        schema: the columns of the log.
        labelled: whether the log has the label column.

    Returns:
        The rows and the rejects: together one for each line. A header line is neither.

    Raises:
        DataError: the schema has a header, and the first line of the file does not name the columns.
    """
    data, offset = chunk.data, chunk.offset
    if schema.header and data and offset in (0, len(BYTE_ORDER_MARK)):
        header, newline, data = data.partition(b"\n")
        _check_header(header, schema, labelled)
        offset += len(header + newline)
    if chunk.truncated_bytes:
        length = len(data) + chunk.truncated_bytes
        detail = f"expected at most {MAX_LINE_BYTES} bytes, received {length}"
        reject = Reject(offset, TOO_LONG, detail, data, chunk.truncated_bytes)
        return _from_rows(_NO_OFFSETS, [], [reject], schema, labelled)
    parser = _Parser(Lines(data), offset, schema, labelled)
    try:
        return parser.with_arrow()
    except (pa.ArrowInvalid, _Disagreement):
        return parser.line_by_line()


class _Disagreement(Exception):
    """Arrow sees other lines or values than the strict parser."""


def _check_header(line: bytes, schema: Schema, labelled: bool) -> None:
    expected = schema.delimiter.join(column.name for column in columns_of(schema, labelled))
    if line.removesuffix(b"\r") != expected.encode():
        raise DataError(
            f"The header of the log must name the columns of the schema. Received: {printable(line)} "
            f"(first line; the schema has {printable(expected.encode())})."
        )


@dataclass(frozen=True)
class _Parser:
    """Parses ``lines``, the first of which stands at ``offset``."""

    lines: Lines
    offset: int
    schema: Schema
    labelled: bool

    def line_by_line(self) -> ParsedRows:
        """The definition of the result; slow."""
        verdicts = [self._judge(index) for index in range(len(self.lines))]
        rows = {index: verdict for index, verdict in enumerate(verdicts) if isinstance(verdict, Row)}
        rejects = [verdict for verdict in verdicts if isinstance(verdict, Reject)]
        offsets = self.offset + self.lines.starts[list(rows)]
        return _from_rows(offsets, list(rows.values()), rejects, self.schema, self.labelled)

    def with_arrow(self) -> ParsedRows:
        """The fast way to the same result.

        Raises:
            _Disagreement: Arrow does not see what the strict parser sees.
            ArrowInvalid: Arrow refuses to read what the strict parser accepts.
        """
        names = [column.name for column in columns_of(self.schema, self.labelled)]
        rejects = self._rejects(np.flatnonzero(self.lines.suspects(self.schema.delimiter, len(names))))
        keep = np.ones(len(self.lines), bool)
        keep[list(rejects)] = False
        if not keep.any():
            return _from_rows(_NO_OFFSETS, [], list(rejects.values()), self.schema, self.labelled)
        table = _read_table(self.lines.select(keep), names, self.schema.delimiter)
        if table.num_rows != np.count_nonzero(keep):
            raise _Disagreement
        return self._with_values(table, np.flatnonzero(keep), rejects)

    def _with_values(self, table: pa.Table, indices: NDArray[np.int64], rejects: dict[int, Reject]) -> ParsedRows:
        """The result from the columns of the lines ``indices`` and the rejects among the other lines."""
        kinds = {column.name: column.kind for column in self.schema.columns}
        numeric, failed = _numbers(table, {name: kinds[name] for name in self.schema.numeric})
        labels = None
        if self.labelled:
            decoded, bad_labels = _numbers(table, {self.schema.label: LABEL})
            labels, failed = np.nan_to_num(decoded[:, 0]).astype(np.uint8), failed | bad_labels
        if failed.any():
            rejected = self._rejects(indices[failed])
            if len(rejected) != np.count_nonzero(failed):
                raise _Disagreement
            rejects = dict(sorted((rejects | rejected).items()))
            indices, numeric, table = indices[~failed], numeric[~failed], table.filter(pa.array(~failed))
            labels = None if labels is None else labels[~failed]
        return ParsedRows(
            self.offset + self.lines.starts[indices],
            labels,
            numeric,
            [_single(table[name]).dictionary_encode() for name in self.schema.categorical],
            [_single(table[name]) for name in self.schema.keys],
            list(rejects.values()),
        )

    def _judge(self, index: int) -> Row | Reject:
        line = self.lines[index]
        try:
            return parse_line(line, self.schema, self.labelled)
        except BadLine as bad:
            return Reject(self.offset + int(self.lines.starts[index]), bad.reason, bad.detail, line)

    def _rejects(self, indices: NDArray[np.int64]) -> dict[int, Reject]:
        verdicts = ((index, self._judge(index)) for index in indices.tolist())
        return {index: verdict for index, verdict in verdicts if isinstance(verdict, Reject)}


def _read_table(data: bytes, names: Sequence[str], delimiter: str) -> pa.Table:
    """Reads lines whose fields have been counted; every column becomes binary, exactly as it stands."""
    if data.startswith(BYTE_ORDER_MARK):  # in the middle of a file it is a value; Arrow would drop it
        raise _Disagreement
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        pyarrow.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False, escape_char=False, newlines_in_values=False),
        pyarrow.csv.ConvertOptions(
            check_utf8=False,
            column_types={name: pa.binary() for name in names},
            strings_can_be_null=False,
        ),
    )


def _numbers(table: pa.Table, kinds: Mapping[str, str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The columns named in ``kinds`` as float32 [n, columns], and the rows with a bad value: bool [n]."""
    numbers = np.empty((table.num_rows, len(kinds)), np.float32)
    failed = np.zeros(table.num_rows, bool)
    for position, (name, kind) in enumerate(kinds.items()):
        encoded = _single(table[name]).dictionary_encode()
        values, bad = _cast(encoded.dictionary, kind)
        codes = encoded.indices.to_numpy()
        numbers[:, position] = values[codes]
        if bad.any():
            failed |= bad[codes]
    return numbers, failed


def _cast(values: pa.BinaryArray, kind: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Distinct values as float32, with NaN for missing and bad ones, and which of them are bad."""
    matches = pc.match_substring_regex(values, f"^(?:{_PATTERNS[kind]})$")
    texts = pc.if_else(matches, values, pa.scalar(None, pa.binary())).cast(pa.string())
    with np.errstate(over="ignore"):
        numbers = texts.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float32)
    good = np.isfinite(numbers)
    if kind != LABEL:
        good |= pc.binary_length(values).to_numpy() == 0
    return numbers, ~good


def _single(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _from_rows(
    offsets: NDArray[np.int64], rows: Sequence[Row], rejects: list[Reject], schema: Schema, labelled: bool
) -> ParsedRows:
    categorical = [[row.categoricals[i] for row in rows] for i in range(len(schema.categorical))]
    keys = [[row.keys[i] for row in rows] for i in range(len(schema.keys))]
    numeric = np.array([row.numerics for row in rows], np.float32)
    return ParsedRows(
        offsets,
        np.array([row.label for row in rows], np.uint8) if labelled else None,
        numeric.reshape(len(rows), len(schema.numeric)),
        [pa.array(values, pa.binary()).dictionary_encode() for values in categorical],
        [pa.array(values, pa.binary()) for values in keys],
        rejects,
    )

"""Chunks of a log to columns: whole columns at a time; the strict parser decides about every doubtful line.

A line that looks suspicious is taken out before the fields are found, a line with a value that does not match is
taken out afterwards, and both go to the strict parser. So one bad line costs one slow line, not a slow chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.columns import cast_columns
from features.errors import DataError
from features.fields import Fields
from features.lines import BYTE_ORDER_MARK, Chunk
from features.rejects import Reject, printable
from features.rows import NO_OFFSETS, ParsedRows, from_long_line, from_rows
from features.scanning import Lines
from features.schema import Schema
from features.strict import MAX_LINE_BYTES, BadLine, Row, columns_of, parse_line


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
        return from_long_line(Chunk(offset, data, chunk.truncated_bytes), schema, labelled)
    parser = _Parser(Lines(data), offset, schema, labelled)
    try:
        return parser.by_column()
    except _Disagreement:
        return parser.line_by_line()


class _Disagreement(Exception):
    """A line is bad for one parser and good for the other."""


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
        return from_rows(offsets, list(rows.values()), rejects, self.schema, self.labelled)

    def by_column(self) -> ParsedRows:
        """The fast way to the same result.

        Raises:
            _Disagreement: a line is bad by its values for one parser only.
        """
        columns = columns_of(self.schema, self.labelled)
        fields = self._find(self.lines.data) if self.lines.good_bytes else None
        rejects: dict[int, Reject] = {}
        indices = None
        if fields is None or fields.longest_line > MAX_LINE_BYTES:
            rejects = self._rejects(np.flatnonzero(self.lines.suspects(self.schema.delimiter, len(columns))))
            keep = np.ones(len(self.lines), bool)
            keep[list(rejects)] = False
            indices, fields = np.flatnonzero(keep), self._find(self.lines.select(keep))
        if fields is None:
            return from_rows(NO_OFFSETS, [], list(rejects.values()), self.schema, self.labelled)
        starts = fields.starts[:, 0] if indices is None else self.lines.starts[indices]
        table = pa.table({column.name: fields.column(index) for index, column in enumerate(columns)})
        return self._with_values(table, self.offset + starts, indices, rejects)

    def _find(self, data: bytes) -> Fields | None:
        return Fields.find(data, self.schema.delimiter, len(columns_of(self.schema, self.labelled))) if data else None

    def _with_values(
        self,
        table: pa.Table,
        offsets: NDArray[np.int64],
        indices: NDArray[np.int64] | None,
        rejects: dict[int, Reject],
    ) -> ParsedRows:
        """The result from the columns of the lines ``indices`` (None: all) and the rejects among the other lines."""
        values = cast_columns(table, self.schema, self.labelled)
        if values.bad.any():
            bad = np.flatnonzero(values.bad)
            rejected = self._rejects(bad if indices is None else indices[bad])
            if len(rejected) != len(bad):
                raise _Disagreement
            rejects = dict(sorted((rejects | rejected).items()))
            offsets, good = offsets[~values.bad], table.filter(pa.array(~values.bad))
            values = cast_columns(good, self.schema, self.labelled)
        return values.rows(offsets, list(rejects.values()))

    def _judge(self, index: int) -> Row | Reject:
        line = self.lines[index]
        try:
            return parse_line(line, self.schema, self.labelled)
        except BadLine as bad:
            return Reject(self.offset + int(self.lines.starts[index]), bad.reason, bad.detail, line)

    def _rejects(self, indices: NDArray[np.int64]) -> dict[int, Reject]:
        verdicts = ((index, self._judge(index)) for index in indices.tolist())
        return {index: verdict for index, verdict in verdicts if isinstance(verdict, Reject)}

"""Chunks of a log of JSON lines to columns: one JSON object a line, columns by name.

The strict parser of a line (:mod:`features.json_objects`) defines the result. Arrow reads the lines that look plain;
where it refuses, the lines are halved until few are left, and these, like every doubtful line, go to the strict
parser.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

from features.columns import cast_columns, single
from features.json_objects import Integer, members_of, parse_json_line, texts_of_line
from features.lines import Chunk
from features.rejects import Reject
from features.rows import NO_OFFSETS, ParsedRows, from_long_line, from_rows
from features.scanning import Lines
from features.schema import FLOAT, INTEGER, LABEL, OUTCOME, WEIGHT, Schema
from features.strict import BadLine, Row, columns_of
from features.texts import text_type, texts_of, unclean

# So few lines cost the strict parser no more than halving them again.
_FEW_LINES = 32
_PROBED_LINES = 20
# Python's parser nests as deep as its stack is; Arrow's does not care.
_MAX_BRACKETS = 100
# Arrow takes these words for numbers.
_CONSTANTS = (b"NaN", b"Inf")

T = TypeVar("T")
_Part = tuple[NDArray[np.int64], pa.Table]
"""Numbers of lines, rising, and their texts by column."""


def parse_json_chunk(chunk: Chunk, schema: Schema, labelled: bool = True) -> ParsedRows:
    """Parses the lines of a chunk. The result is that of :func:`features.json_objects.parse_json_line`, line by line.

    Args:
        chunk: complete lines, or the beginning of one that is too long.
        schema: the columns of the log.
        labelled: whether the log has the label column.

    Returns:
        The rows and the rejects: together one for each line.
    """
    if chunk.truncated_bytes:
        return from_long_line(chunk, schema, labelled)
    return _Parser(Lines(chunk.data), chunk.offset, schema, labelled).parse()


@dataclass(frozen=True)
class _Parser:
    """Parses ``lines``, the first of which stands at ``offset``."""

    lines: Lines
    offset: int
    schema: Schema
    labelled: bool

    def parse(self) -> ParsedRows:
        parts = list(self._read_plain(np.flatnonzero(~_suspects(self.lines))))
        doubtful = np.ones(len(self.lines), bool)
        for indices, _ in parts:
            doubtful[indices] = False
        part, rejects = self._read_strictly(np.flatnonzero(doubtful))
        parts = [part for part in [*parts, part] if len(part[0])]
        if not parts:
            return from_rows(NO_OFFSETS, [], list(rejects.values()), self.schema, self.labelled)
        indices, table = np.concatenate([part[0] for part in parts]), pa.concat_tables([part[1] for part in parts])
        if len(parts) > 1:
            order = np.argsort(indices)
            indices, table = indices[order], table.combine_chunks().take(order)
        return self._with_values(table, indices, rejects)

    def line_by_line(self) -> ParsedRows:
        """The definition of the result; slow."""
        rows, rejects = self._judge(np.arange(len(self.lines)))
        offsets = self.offset + self.lines.starts[list(rows)]
        return from_rows(offsets, list(rows.values()), list(rejects.values()), self.schema, self.labelled)

    def _with_values(self, table: pa.Table, indices: NDArray[np.int64], rejects: dict[int, Reject]) -> ParsedRows:
        """The result from the texts of the lines ``indices`` and the rejects among the other lines."""
        values = cast_columns(table, self.schema, self.labelled)
        if values.bad.any():
            rows, rejected = self._judge(indices[values.bad])
            if rows:
                return self.line_by_line()
            good = ~values.bad
            rejects = dict(sorted((rejects | rejected).items()))
            indices, values = indices[good], cast_columns(table.filter(pa.array(good)), self.schema, self.labelled)
        return values.rows(self.offset + self.lines.starts[indices], list(rejects.values()))

    def _judge(self, indices: NDArray[np.int64]) -> tuple[dict[int, Row], dict[int, Reject]]:
        return self._sort_out(indices, parse_json_line)

    def _read_strictly(self, indices: NDArray[np.int64]) -> tuple[_Part, dict[int, Reject]]:
        """The texts of the lines ``indices`` by the strict parser, and the lines that have none."""
        texts, rejects = self._sort_out(indices, texts_of_line)
        columns = columns_of(self.schema, self.labelled)
        arrays = [pa.array([text[column.name] for text in texts.values()], pa.binary()) for column in columns]
        types = pa.schema([(column.name, text_type(column.kind)) for column in columns])
        table = pa.table(dict(zip(types.names, arrays, strict=True))).cast(types)
        return (np.array(list(texts), np.int64), table), rejects

    def _sort_out(
        self, indices: NDArray[np.int64], read: Callable[[bytes, Schema, bool], T]
    ) -> tuple[dict[int, T], dict[int, Reject]]:
        """What ``read`` makes of lines, by their numbers."""
        good, rejects = {}, {}
        for index in indices.tolist():
            line = self.lines[index]
            try:
                good[index] = read(line, self.schema, self.labelled)
            except BadLine as bad:
                offset = self.offset + int(self.lines.starts[index])
                rejects[index] = Reject(offset, bad.reason, bad.detail, line)
        return good, rejects

    def _read_plain(self, indices: NDArray[np.int64]) -> Iterator[_Part]:
        """The texts of those of the lines ``indices`` that Arrow sees as the strict parser does."""
        if len(indices) == 0:
            return
        keep = np.zeros(len(self.lines), bool)
        keep[indices] = True
        try:
            table = _read_table(self.lines.select(keep), self._probe(indices))
        except pa.ArrowInvalid:
            table = None
        if table is not None and table.num_rows == len(indices):
            yield self._without_doubts(indices, table)
        elif len(indices) > _FEW_LINES:
            middle = len(indices) // 2
            yield from self._read_plain(indices[:middle])
            yield from self._read_plain(indices[middle:])

    def _probe(self, indices: NDArray[np.int64]) -> pa.Schema:
        """Arrow's type of each column: that of its first value among a few lines."""
        columns = columns_of(self.schema, self.labelled)
        values: dict[str, Any] = {column.name: None for column in columns}
        for index in indices[:_PROBED_LINES].tolist():
            with contextlib.suppress(BadLine):
                members = members_of(self.lines[index])
                values |= {name: value for name, value in members if name in values and values[name] is None}
            if None not in values.values():
                break
        return pa.schema([(column.name, _type_of(values[column.name], column.kind)) for column in columns])

    def _without_doubts(self, indices: NDArray[np.int64], table: pa.Table) -> _Part:
        columns = columns_of(self.schema, self.labelled)
        values = {column.name: single(table[column.name]) for column in columns}
        doubts = np.zeros(len(indices), bool)
        texts = {}
        for column in columns:
            doubts |= _ambiguous(values[column.name], column.kind)
            texts[column.name] = texts_of(values[column.name], column.kind)
            doubts |= unclean(texts[column.name])
        table = pa.table(texts)
        return (indices[~doubts], table.filter(pa.array(~doubts))) if doubts.any() else (indices, table)


def _suspects(lines: Lines) -> NDArray[np.bool_]:
    """Marks every line that Arrow and the strict parser might see differently: bool [n]."""
    # No line has a newline in it, so that this is about the bytes and the length of the lines alone.
    suspects = lines.suspects("\n", 1)
    if len(lines) == 0:
        return suspects
    data = np.frombuffer(lines.data, np.uint8)
    last = lines.ends - 1
    last -= data[last] == ord("\r")
    suspects |= (last <= lines.starts) | (data[lines.starts % len(data)] != ord("{")) | (data[last] != ord("}"))
    brackets = np.flatnonzero((data == ord("[")) | (data == ord("{")))
    suspects |= np.searchsorted(brackets, lines.ends) - np.searchsorted(brackets, lines.starts) > _MAX_BRACKETS
    if any(constant in lines.data for constant in _CONSTANTS):
        places = [match.start() for match in re.finditer(b"|".join(_CONSTANTS), lines.data)]
        suspects[np.searchsorted(lines.starts, places, side="right") - 1] = True
    return suspects


def _type_of(value: str | float | None, kind: str) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, str) and not isinstance(value, Integer):
        return pa.string()
    if kind in (FLOAT, WEIGHT):
        return pa.float64()
    if value is None:
        return pa.int64() if kind in (LABEL, OUTCOME, INTEGER) else pa.string()
    return pa.float64() if isinstance(value, float) else pa.int64()


def _read_table(data: bytes, types: pa.Schema) -> pa.Table:
    return pyarrow.json.read_json(
        pa.BufferReader(data),
        pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        pyarrow.json.ParseOptions(types, newlines_in_values=False, unexpected_field_behavior="ignore"),
    )


def _ambiguous(values: pa.Array, kind: str) -> NDArray[np.bool_]:
    """Numbers whose texts differ though Arrow sees the same number: 1 and 1.0, 0 and -0."""
    if not pa.types.is_floating(values.type):
        return np.zeros(len(values), bool)
    numbers = values.fill_null(math.nan).to_numpy(zero_copy_only=False)
    if kind in (FLOAT, WEIGHT):  # only the value counts
        negative_zero: NDArray[np.bool_] = (numbers == 0) & np.signbit(numbers)
        return negative_zero
    with np.errstate(invalid="ignore"):
        integral: NDArray[np.bool_] = numbers == np.floor(numbers)
    return integral

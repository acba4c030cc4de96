"""The strict parser of one row. It defines what a good row is; every faster reader must agree.

A row is a text a column. Delimited lines are taken apart here; other formats come as texts (:func:`parse_texts`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.errors import DataError
from features.schema import FLOAT, INTEGER, Column, Schema

# The reasons why a line is bad, in the order in which they are checked.
EMPTY_LINE = "empty_line"
TOO_LONG = "too_long"
NUL_BYTE = "nul_byte"
CARRIAGE_RETURN = "carriage_return"
INVALID_UTF8 = "invalid_utf8"
FIELD_COUNT = "field_count"
NOT_JSON = "json"
MULTIPLE_VALUES = "multiple_values"
BAD_LABEL = "label"
BAD_OUTCOME = "outcome"
BAD_WEIGHT = "weight"
BAD_INTEGER = "integer"
BAD_FLOAT = "float"
BAD_TIME = "time"
NO_GROUP = "group"
REASONS = (
    EMPTY_LINE,
    TOO_LONG,
    NUL_BYTE,
    CARRIAGE_RETURN,
    INVALID_UTF8,
    FIELD_COUNT,
    NOT_JSON,
    MULTIPLE_VALUES,
    BAD_LABEL,
    BAD_OUTCOME,
    BAD_WEIGHT,
    BAD_INTEGER,
    BAD_FLOAT,
    BAD_TIME,
    NO_GROUP,
)

MAX_LINE_BYTES = 1 << 20

# What a value must match from its first to its last byte. Valid for Python's `re` and for RE2 alike, because
# the serving module applies them with TensorFlow.
INTEGER_PATTERN = r"-?[0-9]{1,18}"
FLOAT_PATTERN = r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?"
LABEL_PATTERN = r"[01]"
WEIGHT_PATTERN = r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?"
MAX_WEIGHT = 65536.0
TIMESTAMP_PATTERN = (
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?Z?)?"
)
TIME_PATTERN = f"{INTEGER_PATTERN}|{TIMESTAMP_PATTERN}"

_LABEL = re.compile(LABEL_PATTERN.encode())
_WEIGHT = re.compile(WEIGHT_PATTERN.encode())
_TIME = re.compile(TIME_PATTERN.encode())
_INTEGER = re.compile(INTEGER_PATTERN.encode())
_FLOAT = re.compile(FLOAT_PATTERN.encode())
_MAX_SHOWN_BYTES = 40


class BadLine(Exception):
    """A line that is no row: data, not an error, so it never leaves the parser.

    Attributes:
        reason: one of :data:`REASONS`.
        detail: for people: what was expected and what was received.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Row:
    """One parsed line.

    Args:
        label: 0 or 1; None when the log has no label column.
        numerics: a number for each numeric column, exact in float32; None = missing.
        categoricals: the bytes of each categorical column; b"" = missing.
        keys: the bytes of each pass-through column.
        weight: None when the schema has no weight column.
        outcomes: 0 or 1 for each outcome column; none when the log has no label column.
    """

    label: int | None
    numerics: list[float | None]
    categoricals: list[bytes]
    keys: list[bytes]
    weight: float | None = None
    outcomes: tuple[int, ...] = ()


def parse_line(line: bytes, schema: Schema, labelled: bool = True) -> Row:
    """Parses one line of a log.

    Args:
        line: the line without its newline. One carriage return at its end is dropped as part of the line end.
        schema: the columns of the log.
        labelled: whether the log has the label column.

    Raises:
        BadLine: the line is no row.
    """
    line = line.removesuffix(b"\r")
    check_bytes(line)
    columns = columns_of(schema, labelled)
    fields = line.split(schema.delimiter.encode())
    if len(fields) != len(columns):
        raise BadLine(FIELD_COUNT, f"expected {len(columns)}, received {len(fields)}")
    return parse_texts(dict(zip((column.name for column in columns), fields, strict=True)), schema, labelled)


def parse_texts(texts: Mapping[str, bytes], schema: Schema, labelled: bool = True) -> Row:
    """Parses one row from the text of each column.

    Args:
        texts: UTF-8 without NUL and carriage return, by column name; b"" = missing. Others than the schema's are
            ignored.
        schema: the columns of the log.
        labelled: whether the log has the label column.

    Raises:
        BadLine: the texts are no row.
    """
    # Reasons have an order, columns do not: a bad integer counts before a bad float that stands left of it.
    label = _label(texts[schema.label]) if labelled else None
    outcomes = tuple(_outcome(name, texts[name]) for name in schema.outcomes) if labelled else ()
    weight = _weight(schema.weight, texts[schema.weight]) if labelled and schema.weight else None
    kinds = {column.name: column.kind for column in schema.columns}
    integers = {name: _integer(name, texts[name]) for name in schema.numeric if kinds[name] == INTEGER}
    numbers = integers | {name: _float(name, texts[name]) for name in schema.numeric if kinds[name] == FLOAT}
    if schema.time and not _TIME.fullmatch(texts[schema.time]):
        raise BadLine(BAD_TIME, f"{schema.time}: expected an integer or ISO 8601, received {_show(texts[schema.time])}")
    if schema.group and not texts[schema.group]:
        raise BadLine(NO_GROUP, f"{schema.group}: expected a value, received none")
    return Row(
        label,
        [numbers[name] for name in schema.numeric],
        [texts[name] for name in schema.categorical],
        [texts[name] for name in schema.keys],
        weight,
        outcomes,
    )


def count_fields(line: bytes, schema: Schema) -> int:
    """Number of fields of a line, whatever is in them."""
    return line.count(schema.delimiter.encode()) + 1


def detect_label(first_lines: Sequence[bytes], schema: Schema, source: str) -> bool:
    """Whether a log has the label column: most of its first lines have all fields, or those of unlabelled logs.

    Args:
        first_lines: some lines from the beginning of the log; bad ones do not matter where others are good.
        schema: the columns of the log.
        source: the log's name, for the error.

    Raises:
        DataError: no line has either number of fields.
    """
    received, full = [count_fields(line, schema) for line in first_lines], len(schema.columns)
    bare = len(schema.without_label())
    labelled, unlabelled = received.count(full), received.count(bare)
    if not labelled and not unlabelled:
        raise DataError(
            f"A line of the log must have {full} fields, or {bare} without the label. "
            f"Received: {received[0] if received else 0} fields ({source}, first line)."
        )
    return labelled >= unlabelled


def columns_of(schema: Schema, labelled: bool) -> tuple[Column, ...]:
    """The columns of a line, in file order."""
    return schema.columns if labelled else schema.without_label()


def check_bytes(line: bytes) -> None:
    """Raises BadLine for a line whose bytes alone make it bad: empty, too long, NUL, carriage return, no UTF-8."""
    if not line:
        raise BadLine(EMPTY_LINE, "the line is empty")
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(TOO_LONG, f"expected at most {MAX_LINE_BYTES} bytes, received {len(line)}")
    for reason, byte in ((NUL_BYTE, b"\0"), (CARRIAGE_RETURN, b"\r")):
        if byte in line:
            raise BadLine(reason, f"at byte {line.index(byte)} of the line")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise BadLine(INVALID_UTF8, f"at byte {error.start} of the line: {error.reason}") from error


def _label(field: bytes) -> int:
    if not _LABEL.fullmatch(field):
        raise BadLine(BAD_LABEL, f"expected 0 or 1, received {_show(field)}")
    return int(field)


def _outcome(name: str, field: bytes) -> int:
    if not _LABEL.fullmatch(field):
        raise BadLine(BAD_OUTCOME, f"{name}: expected 0 or 1, received {_show(field)}")
    return int(field)


def _weight(name: str, field: bytes) -> float:
    with np.errstate(over="ignore"):
        value = float(np.float32(float(field))) if _WEIGHT.fullmatch(field) else math.nan
    if not value <= MAX_WEIGHT:
        raise BadLine(
            BAD_WEIGHT, f"{name}: expected a number from 0 to {MAX_WEIGHT:.0f} without sign, received {_show(field)}"
        )
    return value


def _integer(name: str, field: bytes) -> float | None:
    if not field:
        return None
    if not _INTEGER.fullmatch(field):
        raise BadLine(BAD_INTEGER, f"{name}: expected an integer of at most 18 digits, received {_show(field)}")
    return float(np.float32(float(field)))


def _float(name: str, field: bytes) -> float | None:
    if not field:
        return None
    with np.errstate(over="ignore"):
        value = float(np.float32(float(field))) if _FLOAT.fullmatch(field) else math.nan
    if not math.isfinite(value):
        raise BadLine(BAD_FLOAT, f"{name}: expected a finite decimal number, received {_show(field)}")
    return value


def _show(field: bytes) -> str:
    text = field[:_MAX_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return repr(text) + ("..." if len(field) > _MAX_SHOWN_BYTES else "")

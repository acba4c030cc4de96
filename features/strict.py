"""The strict parser of one log line. It defines what a good line is; every faster reader must agree."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.errors import DataError
from features.schema import FLOAT, INTEGER, KEY, LABEL, Column, Schema

# The reasons why a line is bad, in the order in which they are checked.
EMPTY_LINE = "empty_line"
TOO_LONG = "too_long"
NUL_BYTE = "nul_byte"
CARRIAGE_RETURN = "carriage_return"
INVALID_UTF8 = "invalid_utf8"
FIELD_COUNT = "field_count"
BAD_LABEL = "label"
BAD_INTEGER = "integer"
BAD_FLOAT = "float"
REASONS = (
    EMPTY_LINE,
    TOO_LONG,
    NUL_BYTE,
    CARRIAGE_RETURN,
    INVALID_UTF8,
    FIELD_COUNT,
    BAD_LABEL,
    BAD_INTEGER,
    BAD_FLOAT,
)

MAX_LINE_BYTES = 1 << 20

# What a value must match from its first to its last byte. Valid for Python's `re` and for RE2 alike, because
# the serving module applies them with TensorFlow.
INTEGER_PATTERN = r"-?[0-9]{1,18}"
FLOAT_PATTERN = r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?"
LABEL_PATTERN = r"[01]"

_LABEL = re.compile(LABEL_PATTERN.encode())
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
        keys: the bytes of each key column.
    """

    label: int | None
    numerics: list[float | None]
    categoricals: list[bytes]
    keys: list[bytes]


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
    _check_bytes(line)
    columns = columns_of(schema, labelled)
    fields = line.split(schema.delimiter.encode())
    if len(fields) != len(columns):
        raise BadLine(FIELD_COUNT, f"expected {len(columns)}, received {len(fields)}")
    label = next((_label(field) for field, column in zip(fields, columns, strict=True) if column.kind == LABEL), None)
    # Reasons have an order, columns do not: a bad integer counts before a bad float that stands left of it.
    integers = {name: _integer(name, field) for name, field in _of_kind(fields, columns, INTEGER)}
    numbers = integers | {name: _float(name, field) for name, field in _of_kind(fields, columns, FLOAT)}
    values = dict(zip((column.name for column in columns), fields, strict=True))
    return Row(
        label,
        [numbers[name] for name in schema.numeric],
        [values[name] for name in schema.categorical],
        [field for _, field in _of_kind(fields, columns, KEY)],
    )


def count_fields(line: bytes, schema: Schema) -> int:
    """Number of fields of a line, whatever is in them."""
    return line.count(schema.delimiter.encode()) + 1


def detect_label(first_lines: Sequence[bytes], schema: Schema, source: str) -> bool:
    """Whether a log has the label column: most of its first lines have all fields (True) or one fewer (False).

    Args:
        first_lines: some lines from the beginning of the log; bad ones do not matter where others are good.
        schema: the columns of the log.
        source: the log's name, for the error.

    Raises:
        DataError: no line has either number of fields.
    """
    received, full = [count_fields(line, schema) for line in first_lines], len(schema.columns)
    labelled, unlabelled = received.count(full), received.count(full - 1)
    if not labelled and not unlabelled:
        raise DataError(
            f"A line of the log must have {full} fields, or {full - 1} without the label. "
            f"Received: {received[0] if received else 0} fields ({source}, first line)."
        )
    return labelled >= unlabelled


def columns_of(schema: Schema, labelled: bool) -> tuple[Column, ...]:
    """The columns of a line, in file order."""
    return schema.columns if labelled else schema.without_label()


def _of_kind(fields: Sequence[bytes], columns: Sequence[Column], kind: str) -> list[tuple[str, bytes]]:
    pairs = zip(columns, fields, strict=True)
    return [(column.name, field) for column, field in pairs if column.kind == kind]


def _check_bytes(line: bytes) -> None:
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

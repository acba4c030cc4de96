"""Which Arrow types a column of each kind may have in a parquet log."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from pyarrow import types

from features.errors import DataError
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, LABEL, OUTCOME, TIME, WEIGHT, Column
from features.texts import is_bytes

TEXT, TRUTH, WHOLE, REAL, DECIMAL, DAY, INSTANT, CLOCK = (
    "text",
    "true or false",
    "integer",
    "float",
    "decimal",
    "date",
    "timestamp",
    "time of day",
)
_TESTS: dict[str, Callable[[pa.DataType], bool]] = {
    TEXT: lambda kind: (
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or is_bytes(kind)
    ),
    TRUTH: types.is_boolean,
    WHOLE: types.is_integer,
    REAL: types.is_floating,
    DECIMAL: types.is_decimal,
    DAY: types.is_date,
    INSTANT: types.is_timestamp,
    CLOCK: types.is_time,
}
_NUMBERS = (WHOLE, REAL, DECIMAL, TEXT)
_ALLOWED = {
    LABEL: (TRUTH, *_NUMBERS),
    OUTCOME: (TRUTH, *_NUMBERS),
    WEIGHT: _NUMBERS,
    INTEGER: _NUMBERS,
    FLOAT: _NUMBERS,
    CATEGORICAL: (TEXT, WHOLE, TRUTH, DECIMAL, DAY, INSTANT, CLOCK),
    TIME: (WHOLE, TEXT, DAY, INSTANT),
    KEY: tuple(_TESTS),
    GROUP: tuple(_TESTS),
}


def check_type(kind: pa.DataType, column: Column, source: str) -> None:
    """Makes sure that a type has values of the column's kind; a column that is all null has those of any.

    Args:
        kind: of the values; of a dictionary-encoded column its own or that of its dictionary.
        column: of the schema.
        source: the file's name, for the error.

    Raises:
        DataError: the type has several values a row, or other values.
    """
    if types.is_nested(kind):
        raise DataError(
            f"A column must have one value a row. Received: {kind} ({source}, column {column.name!r})."
            " Give each value a column of its own."
        )
    allowed = _ALLOWED[column.kind]
    if value_class(kind) not in (None, *allowed):
        raise DataError(
            f"A column of kind {column.kind} must be {', '.join(allowed)}. Received: {kind} "
            f"({source}, column {column.name!r})."
        )


def value_class(kind: pa.DataType) -> str | None:
    """What values of a type are, in a word; None if there are only nulls, the type's own name if it is no scalar."""
    if types.is_dictionary(kind):
        return value_class(kind.value_type)
    if types.is_null(kind):
        return None
    return next((name for name, test in _TESTS.items() if test(kind)), str(kind))

"""The one place that knows the columns of a log: their names, order, kinds and delimiter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from features.errors import ConfigError

LABEL = "label"
INTEGER = "integer"
FLOAT = "float"
CATEGORICAL = "categorical"
KEY = "key"
RESERVED = frozenset({"source", "offset", "label", "p_click"})
"""What ``predict`` calls its own columns."""
KINDS = (LABEL, INTEGER, FLOAT, CATEGORICAL, KEY)


@dataclass(frozen=True)
class Column:
    """A column of the log.

    Args:
        name: unique name.
        kind: ``label`` (0 or 1), ``integer`` or ``float`` (numeric, may be missing), ``categorical`` (any UTF-8
            text, may be missing) or ``key`` (passed through by ``predict``, never seen by a model).
    """

    name: str
    kind: str


@dataclass(frozen=True)
class Schema:
    """The columns of a log in file order. An empty field is a missing value.

    Args:
        columns: the columns, in the order of the file.
        delimiter: one ASCII character that separates fields; there is no quoting.
        header: whether the first line of each file names the columns.

    Raises:
        ConfigError: a rule above is broken.
    """

    columns: tuple[Column, ...]
    delimiter: str = "\t"
    header: bool = False

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names) or not all(names):
            raise ConfigError(f"Column names must be unique and not empty. Received: {names} (schema).")
        for column in self.columns:
            if column.kind not in KINDS:
                raise ConfigError(
                    f"A column's kind must be one of {', '.join(KINDS)}. Received: {column.kind!r} "
                    f"(schema, column {column.name!r})."
                )
        labels = [column.name for column in self.columns if column.kind == LABEL]
        if len(labels) != 1:
            raise ConfigError(f"A schema must have exactly one label column. Received: {labels} (schema).")
        reserved = set(self.keys) & RESERVED
        if reserved:
            raise ConfigError(
                f"A key column must not have the name of a column of predictions ({', '.join(sorted(RESERVED))}). "
                f"Received: {', '.join(sorted(reserved))} (schema)."
            )
        if not self.categorical or not self.numeric:
            raise ConfigError(
                "A schema must have at least one numeric and one categorical column. "
                f"Received: {len(self.numeric)} numeric, {len(self.categorical)} categorical (schema)."
            )
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in '\n\r\0"':
            raise ConfigError(
                "The delimiter must be one ASCII character other than a line end, NUL or a quote. "
                f"Received: {self.delimiter!r} (schema)."
            )

    def _names(self, *kinds: str) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.kind in kinds)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All column names in file order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def label(self) -> str:
        """Name of the label column."""
        return self._names(LABEL)[0]

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """Names of the numeric columns in file order."""
        return self._names(INTEGER, FLOAT)

    @cached_property
    def categorical(self) -> tuple[str, ...]:
        """Names of the categorical columns in file order."""
        return self._names(CATEGORICAL)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of the pass-through columns in file order."""
        return self._names(KEY)

    def without_label(self) -> tuple[Column, ...]:
        """The columns of a log that has no label column, in file order."""
        return tuple(column for column in self.columns if column.kind != LABEL)

    def to_json(self) -> dict[str, Any]:
        """The schema as plain JSON values; :meth:`from_json` reads it back."""
        return {
            "delimiter": self.delimiter,
            "header": self.header,
            "columns": [{"name": column.name, "kind": column.kind} for column in self.columns],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "schema") -> Schema:
        """Reads what :meth:`to_json` wrote.

        Raises:
            ConfigError: a field is missing, unknown or of the wrong type.
        """
        unknown = set(value) - {"delimiter", "header", "columns"}
        if unknown or "columns" not in value:
            raise ConfigError(
                "A schema must have 'columns' and may have 'delimiter' and 'header'. "
                f"Received: {sorted(value)} ({where})."
            )
        delimiter, header = value.get("delimiter", "\t"), value.get("header", False)
        if not isinstance(delimiter, str) or not isinstance(header, bool):
            raise ConfigError(
                "A schema's 'delimiter' must be a string and its 'header' true or false. "
                f"Received: {delimiter!r}, {header!r} ({where})."
            )
        items = value["columns"] if isinstance(value["columns"], list) else [value["columns"]]
        return cls(tuple(_column(item, where) for item in items), delimiter, header)

    @classmethod
    def load(cls, path: str) -> Schema:
        """Reads a schema from a JSON file."""
        try:
            with open(path, encoding="utf-8") as file:
                value = json.load(file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"The schema must be a readable JSON file. Received: {path} ({error}).") from error
        if not isinstance(value, dict):
            raise ConfigError(f"A schema must be a JSON object. Received: {type(value).__name__} ({path}).")
        return cls.from_json(value, path)


def _column(item: Any, where: str) -> Column:
    valid = isinstance(item, dict) and set(item) == {"name", "kind"}
    if not valid or not all(isinstance(text, str) for text in item.values()):
        raise ConfigError(f"Each column must be an object with texts 'name' and 'kind'. Received: {item!r} ({where}).")
    return Column(**item)


CRITEO = Schema(
    (
        Column("label", LABEL),
        *(Column(f"I{i}", INTEGER) for i in range(1, 14)),
        *(Column(f"C{i}", CATEGORICAL) for i in range(1, 27)),
    )
)

"""The one place that knows the columns of a log: their names, order, kinds, transforms and file format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from features.errors import ConfigError

TEXT, JSON, PARQUET = FORMATS = ("text", "json", "parquet")
"""Formats of a log: delimited lines, a JSON object a line, parquet files."""

LABEL = "label"
OUTCOME = "outcome"
WEIGHT = "weight"
INTEGER = "integer"
FLOAT = "float"
CATEGORICAL = "categorical"
KEY = "key"
GROUP = "group"
TIME = "time"
KINDS = (LABEL, OUTCOME, WEIGHT, INTEGER, FLOAT, CATEGORICAL, KEY, GROUP, TIME)
PASSED = (KEY, GROUP, TIME)
"""Kinds that ``predict`` passes through and no model sees."""
_LABELLED = (LABEL, OUTCOME, WEIGHT)
RESERVED = frozenset({"source", "offset", "label", "p_click"})
"""What ``predict`` calls its own columns."""

LOG, LINEAR, SQUARED_LOG, QUANTILE = TRANSFORMS = ("log", "linear", "squared_log", "quantile")
"""Transforms of a numeric column; :mod:`features.numeric` defines them."""


@dataclass(frozen=True)
class Column:
    """A column of the log.

    Args:
        name: unique name.
        kind: ``label`` (0 or 1), ``outcome`` (0 or 1, such as a conversion: another label, which a teacher may learn
            and no model sees), ``weight`` (finite, not negative), ``integer`` or ``float`` (numeric, may be missing),
            ``categorical`` (any UTF-8 text, may be missing), ``key`` (passed through by ``predict``),
            ``group`` (passed through; the request or user, whose rows are resampled together) or ``time`` (passed
            through; an integer or ISO 8601 text).
        transform: of a numeric column, one of :data:`TRANSFORMS`; empty for the default, ``log``.
    """

    name: str
    kind: str
    transform: str = ""


@dataclass(frozen=True)
class Schema:
    """The columns of a log. An empty field is a missing value.

    Args:
        columns: the columns; of delimited lines all of them, in the order of the file.
        delimiter: one ASCII character that separates fields of delimited lines; there is no quoting.
        header: whether the first line of each file of delimited lines names the columns.
        format: one of :data:`FORMATS`. Fields of JSON lines and parquet files that are no columns are not read.
        licence: of the log, as the model card of a student states it; empty if not stated.

    Raises:
        ConfigError: a rule above is broken.
    """

    columns: tuple[Column, ...]
    delimiter: str = "\t"
    header: bool = False
    format: str = TEXT
    licence: str = ""

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names) or not all(names):
            raise ConfigError(f"Column names must be unique and not empty. Received: {names} (schema).")
        for column in self.columns:
            _check_column(column)
        for kind, least in ((LABEL, 1), (WEIGHT, 0), (GROUP, 0), (TIME, 0)):
            found = list(self._names(kind))
            if not least <= len(found) <= 1:
                rule = "exactly" if least else "at most"
                raise ConfigError(f"A schema must have {rule} one {kind} column. Received: {found} (schema).")
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
        if self.format not in FORMATS:
            raise ConfigError(
                f"A schema's 'format' must be one of {', '.join(FORMATS)}. Received: {self.format!r} (schema)."
            )
        if self.header and self.format != TEXT:
            raise ConfigError(f"Only delimited lines may have a header. Received: format {self.format} (schema).")

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
    def outcomes(self) -> tuple[str, ...]:
        """Names of the outcome columns in file order."""
        return self._names(OUTCOME)

    @cached_property
    def weight(self) -> str | None:
        """Name of the weight column, if there is one."""
        return next(iter(self._names(WEIGHT)), None)

    @cached_property
    def group(self) -> str | None:
        """Name of the group column, if there is one."""
        return next(iter(self._names(GROUP)), None)

    @cached_property
    def time(self) -> str | None:
        """Name of the time column, if there is one."""
        return next(iter(self._names(TIME)), None)

    @cached_property
    def transforms(self) -> tuple[str, ...]:
        """The transform of each numeric column."""
        return tuple(column.transform or LOG for column in self.columns if column.kind in (INTEGER, FLOAT))

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
        """Names of the pass-through columns (key, group, time) in file order."""
        return self._names(*PASSED)

    def without_label(self) -> tuple[Column, ...]:
        """The columns of a log without labels, in file order: no outcomes, and no weights: those are of labels."""
        return tuple(column for column in self.columns if column.kind not in _LABELLED)

    def to_json(self) -> dict[str, Any]:
        """What the log is read by as plain JSON values: all but the licence, on which nothing depends that is made."""
        columns = [{"name": column.name, "kind": column.kind} for column in self.columns]
        for item, column in zip(columns, self.columns, strict=True):
            if column.transform:
                item["transform"] = column.transform
        lines = {"delimiter": self.delimiter, "header": self.header} if self.format == TEXT else {}
        return {"format": self.format, **lines, "columns": columns}

    def described(self) -> dict[str, Any]:
        """The whole schema as plain JSON values; :meth:`from_json` reads it back."""
        return {**self.to_json(), **({"licence": self.licence} if self.licence else {})}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "schema") -> Schema:
        """Reads what :meth:`described` or :meth:`to_json` wrote.

        Raises:
            ConfigError: a field is missing, unknown or of the wrong type.
        """
        unknown = set(value) - {"format", "delimiter", "header", "columns", "licence"}
        if unknown or "columns" not in value:
            raise ConfigError(
                "A schema must have 'columns' and may have 'format', 'delimiter', 'header' and 'licence'. "
                f"Received: {sorted(value)} ({where})."
            )
        texts = {name: value.get(name, default) for name, default in _TEXTS.items()}
        header = value.get("header", False)
        if not all(isinstance(text, str) for text in texts.values()) or not isinstance(header, bool):
            received = ", ".join(map(repr, [*texts.values(), header]))
            raise ConfigError(
                "A schema's 'format', 'delimiter' and 'licence' must be strings and its 'header' true or false. "
                f"Received: {received} ({where})."
            )
        items = value["columns"] if isinstance(value["columns"], list) else [value["columns"]]
        return cls(tuple(_column(item, where) for item in items), header=header, **texts)

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
    valid = isinstance(item, dict) and {"name", "kind"} <= set(item) <= {"name", "kind", "transform"}
    if not valid or not all(isinstance(text, str) for text in item.values()):
        raise ConfigError(
            "Each column must be an object with texts 'name' and 'kind', and 'transform' for a numeric one. "
            f"Received: {item!r} ({where})."
        )
    return Column(**item)


def _check_column(column: Column) -> None:
    if column.kind not in KINDS:
        many = " A column of several values a row is not supported: give each value a column of its own."
        raise ConfigError(
            f"A column's kind must be one of {', '.join(KINDS)}. Received: {column.kind!r} "
            f"(schema, column {column.name!r}).{many if column.kind in _MULTIPLE else ''}"
        )
    if column.transform and column.kind not in (INTEGER, FLOAT):
        raise ConfigError(
            f"Only a numeric column may have a transform. Received: {column.transform!r} for a {column.kind} column "
            f"(schema, column {column.name!r})."
        )
    if column.transform and column.transform not in TRANSFORMS:
        raise ConfigError(
            f"A column's transform must be one of {', '.join(TRANSFORMS)}. Received: {column.transform!r} "
            f"(schema, column {column.name!r})."
        )


_TEXTS = {"format": TEXT, "delimiter": "\t", "licence": ""}
_MULTIPLE = frozenset({"list", "array", "sequence", "multi", "multivalued", "multi_valued", "bag", "set"})

CRITEO = Schema(
    (
        Column("label", LABEL),
        *(Column(f"I{i}", INTEGER) for i in range(1, 14)),
        *(Column(f"C{i}", CATEGORICAL) for i in range(1, 27)),
    )
)

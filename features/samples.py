"""The first rows of a log whose schema is not known yet, as columns of texts; the format is found by content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa

from features.errors import DataError
from features.json_objects import Integer, members_of, text_of
from features.lines import BYTE_ORDER_MARK
from features.parquet_types import value_class
from features.rejects import printable
from features.schema import JSON, KEY, PARQUET, TEXT
from features.strict import FLOAT_PATTERN, BadLine
from features.texts import show_whole, texts_of

DELIMITERS = "\t,;|\x01 "
SEVERAL = "several values"
"""Type of a column that has lists or objects in its rows."""

_MOST = 0.75
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_FLOAT = re.compile(FLOAT_PATTERN)


@dataclass(frozen=True)
class SampleColumn:
    """A column of a sample.

    Args:
        name: of the column.
        texts: of its rows; "" = missing.
        type: of its values in a typed format, as :func:`features.parquet_types.value_class` names it, or
            :data:`SEVERAL`; None where it is not known.
    """

    name: str
    texts: tuple[str, ...]
    type: str | None = None

    @cached_property
    def present(self) -> tuple[str, ...]:
        """The texts that are not missing."""
        return tuple(text for text in self.texts if text)

    @cached_property
    def distinct(self) -> frozenset[str]:
        """The distinct texts that are not missing."""
        return frozenset(self.present)

    def share(self, pattern: str) -> float:
        """Share of the present texts that match from the first to the last character; 0 if none is present."""
        matches = re.compile(pattern).fullmatch
        good = {text for text in self.distinct if matches(text)}
        return sum(text in good for text in self.present) / max(1, len(self.present))


@dataclass(frozen=True)
class Sample:
    """The first rows of a log.

    Args:
        columns: in the order of the file; of JSON lines in that of their first occurrence.
        format: one of :data:`features.schema.FORMATS`.
        delimiter: of delimited lines.
        header: whether the first of the delimited lines names the columns.
    """

    columns: tuple[SampleColumn, ...]
    format: str = TEXT
    delimiter: str = "\t"
    header: bool = False


def sample_lines(data: bytes, source: str) -> Sample:
    """Takes whole lines apart: JSON objects if the first one is like that, otherwise delimited fields.

    Args:
        data: the first lines of a log; a byte order mark may stand before them.
        source: the log's name, for errors.

    Raises:
        DataError: there is no line, or nothing separates its fields alike in most lines, or they are quoted.
    """
    if data.startswith(_COMPRESSED):
        raise DataError(f"A compressed log must be named .gz or .zst. Received: {source} (compressed by its content).")
    lines = [line.removesuffix(b"\r") for line in data.removeprefix(BYTE_ORDER_MARK).split(b"\n")]
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"A log must hold rows. Received: no line ({source}).")
    if lines[0].lstrip().startswith(b"{"):
        return Sample(_json_columns(lines), JSON)
    return _delimited([line.decode("utf-8", "replace") for line in lines], source)


def sample_parquet(rows: pa.Table) -> Sample:
    """Takes the first rows of a parquet file."""
    return Sample(_meant([_typed(name, rows[name]) for name in rows.column_names]), PARQUET)


def _meant(columns: Sequence[SampleColumn]) -> tuple[SampleColumn, ...]:
    """The columns without their types if all are text: so write programs that do not know better."""
    untyped = all(column.type in ("text", None) for column in columns)
    return tuple(replace(column, type=None) if untyped else column for column in columns)


def _typed(name: str, values: pa.ChunkedArray) -> SampleColumn:
    kind = values.type
    if pa.types.is_nested(kind):
        return SampleColumn(name, (), SEVERAL)
    known = value_class(kind)
    if known == str(kind):  # no scalar that a column may have
        return SampleColumn(name, (), known)
    texts = texts_of(values.combine_chunks(), KEY, show_whole).to_pylist()
    return SampleColumn(name, tuple(text.decode("utf-8", "replace") for text in texts), known)


def _json_columns(lines: Sequence[bytes]) -> tuple[SampleColumn, ...]:
    rows = []
    for line in lines:
        try:
            rows.append(dict(members_of(line)))
        except BadLine:
            continue
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _meant([_json_column(name, [row.get(name) for row in rows]) for name in names if name])


def _json_column(name: str, values: Sequence[object]) -> SampleColumn:
    if any(isinstance(value, list) for value in values):
        return SampleColumn(name, (), SEVERAL)
    types = {_json_type(value) for value in values if value is not None}
    texts = tuple(text_of(value, KEY).decode("utf-8", "replace") for value in values)
    return SampleColumn(name, texts, types.pop() if len(types) == 1 else None)


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Integer):
        return "integer"
    return "float" if isinstance(value, float) else "text"


def _delimited(lines: Sequence[str], source: str) -> Sample:
    delimiter, count = _find_delimiter(lines, source)
    rows = [fields for fields in (line.split(delimiter) for line in lines) if len(fields) == count]
    if all(fields[0].startswith('"') for fields in rows) or all(fields[-1].endswith('"') for fields in rows):
        raise DataError(f"Fields must not be quoted. Received: {printable(lines[0].encode())} ({source}, first line).")
    header = _is_header(lines[0].split(delimiter), count)
    names = lines[0].split(delimiter) if header else [f"f{number}" for number in range(1, count + 1)]
    values = zip(*rows[header:], strict=True) if len(rows) > header else [()] * count
    columns = tuple(SampleColumn(name, tuple(texts)) for name, texts in zip(names, values, strict=True))
    return Sample(columns, TEXT, delimiter, header)


def _find_delimiter(lines: Sequence[str], source: str) -> tuple[str, int]:
    """The character that cuts most lines into the same number of fields, and that number."""
    best = (False, 0, 0.0, "")
    for delimiter in DELIMITERS:
        fields, number = Counter(line.count(delimiter) + 1 for line in lines).most_common(1)[0]
        share = number / len(lines)
        # One that is part of values may also cut all lines alike, but into fewer fields.
        if fields > 1 and (share >= _MOST, fields if share >= _MOST else 0, share) > best[:3]:
            best = (share >= _MOST, fields if share >= _MOST else 0, share, delimiter)
    if not best[0]:
        raise DataError(
            "Most lines of a log must have the same number of fields, separated by a tab, comma, semicolon, vertical "
            f"bar, space or \\x01, or be JSON objects. Received: {printable(lines[0].encode())} ({source}, first line)."
        )
    return best[3], best[1]


def _is_header(fields: Sequence[str], count: int) -> bool:
    """Whether the first line names columns: a row has a label, which is a number."""
    named = len(fields) == count and len(set(fields)) == count and all(fields)
    return named and not any(_FLOAT.fullmatch(field) for field in fields)

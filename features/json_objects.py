"""The strict parser of one JSON line: one object a line, columns by name. It defines what a good line is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from features.errors import DataError
from features.lines import BYTE_ORDER_MARK
from features.rejects import printable
from features.schema import LABEL, OUTCOME, Schema
from features.strict import MULTIPLE_VALUES, NOT_JSON, BadLine, Row, check_bytes, columns_of, parse_texts
from features.texts import check_texts


class Members(list[tuple[str, Any]]):
    """The members of a JSON object in their order: a dictionary would hide that a name occurs twice."""


class Integer(str):
    """The digits of an integer: Python refuses to convert very long ones."""


def parse_json_line(line: bytes, schema: Schema, labelled: bool = True) -> Row:
    """Parses one line of a log of JSON lines.

    A member that is absent or null is missing. A text stands for itself, an integer for its digits, another number
    for Python's ``repr``; true and false are "1" and "0" as a label or outcome and "true" and "false"
    elsewhere.

    Args:
        line: the line without its newline. One carriage return at its end is dropped as part of the line end.
        schema: the columns of the log; other members are ignored.
        labelled: whether the log has the label column.

    Raises:
        BadLine: the line is no row.
    """
    return parse_texts(texts_of_line(line, schema, labelled), schema, labelled)


def has_label(first_lines: Sequence[bytes], schema: Schema, source: str) -> bool:
    """Whether a log of JSON lines has the label column: at least half of its first objects name it.

    Args:
        first_lines: some lines from the beginning of the log; bad ones do not matter where others are good.
        schema: the columns of the log.
        source: the log's name, for the error.

    Raises:
        DataError: no line is a JSON object.
    """
    votes = []
    for line in first_lines:
        try:
            votes.append(any(name == schema.label for name, _ in members_of(line.removeprefix(BYTE_ORDER_MARK))))
        except BadLine:
            continue
    if not votes:
        received = printable(first_lines[0]) if first_lines else "no line"
        raise DataError(f"A line of the log must be a JSON object. Received: {received} ({source}, first line).")
    return 2 * sum(votes) >= len(votes)


def members_of(line: bytes) -> Members:
    """The members of the object in a line; its integers are :class:`Integer`, its objects :class:`Members`.

    Raises:
        BadLine: the line is no JSON object.
    """
    line = line.removesuffix(b"\r")
    check_bytes(line)
    try:
        value = json.loads(line.decode(), object_pairs_hook=Members, parse_int=Integer, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadLine(NOT_JSON, f"expected a JSON object: {error}") from error
    if not isinstance(value, Members):
        raise BadLine(NOT_JSON, f"expected a JSON object, received {printable(line)[:40]}")
    return value


def texts_of_line(line: bytes, schema: Schema, labelled: bool) -> dict[str, bytes]:
    """The text of each column of a line, by name; some may yet be bad values.

    Raises:
        BadLine: the line is no JSON object, or a column has no text.
    """
    columns = columns_of(schema, labelled)
    values: dict[str, Any] = {column.name: None for column in columns}
    named = set()
    for name, value in members_of(line):
        if name in named:
            raise BadLine(NOT_JSON, f"{name}: expected at most once")
        if name in values:
            named.add(name)
            values[name] = value
    several = [name for name, value in values.items() if isinstance(value, list)]
    texts = {column.name: text_of(values[column.name], column.kind) for column in columns if column.name not in several}
    check_texts(texts)
    if several:
        what = "an object" if isinstance(values[several[0]], Members) else "a list"
        raise BadLine(MULTIPLE_VALUES, f"{several[0]}: expected one value, received {what}")
    return texts


def text_of(value: Any, kind: str) -> bytes:
    """The text of a scalar, as UTF-8; of a lone surrogate bytes that are no UTF-8.

    Args:
        value: None, a truth value, :class:`Integer`, float or str.
        kind: of its column.
    """
    if value is None:
        return b""
    if isinstance(value, Integer):
        return b"0" if value == "-0" else value.encode()
    if isinstance(value, bool):
        return b"%d" % value if kind in (LABEL, OUTCOME) else b"true" if value else b"false"
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else repr(value).encode()


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")

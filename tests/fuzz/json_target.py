"""JSON lines: the parser against its strict counterpart."""

from __future__ import annotations

import json

from drawing import Draw
from logs import Log, draw_log, draw_text, draw_wild
from logs import check as check_log

from features.json_lines import parse_json_chunk
from features.json_objects import parse_json_line
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, JSON, KEY, LABEL, OUTCOME, TIME, WEIGHT, Column, Schema
from features.strict import columns_of

SCHEMAS = tuple(
    Schema(columns, format=JSON)
    for columns in (
        (Column("y", LABEL), Column("n", INTEGER), Column("x", FLOAT), Column("c", CATEGORICAL)),
        (
            Column("id", KEY),
            Column("w", WEIGHT),
            Column("c", CATEGORICAL),
            Column("x", FLOAT),
            Column("y", LABEL),
            Column("t", TIME),
            Column("n", INTEGER),
            Column("g", GROUP),
        ),
        (Column("\xe9", CATEGORICAL), Column("a.b", FLOAT), Column("y", LABEL), Column("t", TIME), Column('"', KEY))
        + (Column("o", OUTCOME),),
    )
)

_GOOD = {
    LABEL: (b"0", b"1", b"true", b"false", b'"1"'),
    OUTCOME: (b"0", b"1", b"true", b"false", b'"1"'),
    WEIGHT: (b"1", b"0.5", b"2.0", b'"1"', b"1e6", b"0"),
    INTEGER: (b"5", b"-3", b"null", b'"7"', b"-0", b"123456789012345678", b"1.0"),
    FLOAT: (b"1.5", b"2", b"null", b"-1e-7", b'"2.5"', b"0.1", b"16777217", b"-0.0"),
    TIME: (b"1700000000", b'"2024-02-29"', b'"2024-02-29T23:59:59Z"', b"1.0"),
    GROUP: (b'"u1"', b"7", b"7.5", b"true"),
    KEY: (b'"k"', b"null", b"12", b"1.0", b'""'),
    CATEGORICAL: (b'"a"', b'"b"', b"5", b"null", b"1.5", b"true", b'"\\u00e9"', b'"\xc3\xa9"'),
}
_NASTY = (
    *(
        b"[]",
        b"{}",
        b"[1]",
        b'["a","b"]',
        b'{"y":1}',
        b"nul",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"-",
        b"01",
        b"+1",
        b"1.",
    ),
    *(b".5", b"1e5", b"1E+5", b"1e400", b"-1e400", b"1e-400", b"9007199254740993", b"9223372036854775808", b"1e16"),
    *(b"1e22", b"123456789.0", b"0.00001", b"-1", b"9" * 30, b"true", b"false", b"null", b'"', b'""', b"''", b'"\t"'),
    *(b'"\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\r"', b'"\\n"', b'"\\/"', b'"\\x"', b'"\xff"', b'"a"b"'),
    *(
        b'"\xef\xbb\xbf"',
        b"\0",
        b"\r",
        b"2024-01-01",
        b'"2024-01-01 00:00:00"',
        b"{",
        b"[",
        b"[" * 120,
        b"/**/1",
        b'"1_0"',
    ),
)
_SPACES = (b"", b"", b"", b" ", b"\t", b"\x0b", b"\xc2\xa0")


def log_of(data: bytes) -> Log:
    """The log that an input means."""
    return draw_log(Draw(data), SCHEMAS, _draw_line)


def check(data: bytes) -> None:
    """Raises AssertionError where the parsers disagree."""
    check_log(log_of(data), parse_json_chunk, parse_json_line)


def _draw_line(draw: Draw, schema: Schema, labelled: bool) -> bytes:
    form = draw.below(16)
    if form == 15:
        return draw.take(draw.below(64))
    if form == 14:
        return draw.choice((b"", b" ", b"\t", b"{}", b"{} {}", b"null"))
    columns = columns_of(schema, labelled)
    wild = draw_wild(draw, len(columns))
    members = [_draw_member(draw, column, any_) for column, any_ in zip(columns, wild, strict=True)]
    if form == 13:  # a name twice, or one that is no column
        more = b'"other":' + _draw_value(draw, KEY, wild=True)
        members.insert(draw.below(len(members)), draw.choice([more, *members]))
    if form == 12:
        members.pop(draw.below(len(members)))
    if form == 11:
        members.reverse()
    if form != 10:
        return b"{" + b",".join(members) + b"}"
    start, end = draw.choice((b"{", b" {", b"[{", b"")), draw.choice((b"}", b"} ", b",}", b"}x", b""))
    return start + draw.choice((b",", b", ", b",\n")).join(members) + end


def _draw_member(draw: Draw, column: Column, wild: bool) -> bytes:
    name = json.dumps(column.name).encode()
    if wild and draw.below(4) == 3:
        raw = json.dumps(column.name, ensure_ascii=False).encode()
        name = draw.choice((raw, b'"\\u%04x"' % ord(column.name[0]), b"y", b'"Y"', b'""', name + b" ", name[:-1]))
    before, after = (draw.choice(_SPACES if wild else (b"", b" ")) for _ in range(2))
    return name + b":" + before + _draw_value(draw, column.kind, wild) + after


def _draw_value(draw: Draw, kind: str, wild: bool) -> bytes:
    if not wild:
        return draw.choice(_GOOD[kind])
    form = draw.below(4)
    if form < 2:
        return draw.choice(_NASTY)
    text = draw_text(draw, kind, wild)
    return text if form == 2 else b'"' + text + b'"'

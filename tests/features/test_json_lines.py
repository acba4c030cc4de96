import json
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from verdicts import as_rows, by_the_definition

from features import json_lines
from features.json_lines import parse_json_chunk
from features.json_objects import parse_json_line
from features.lines import Chunk
from features.parsing import parse_chunk
from features.rejects import Reject
from features.rows import ParsedRows
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, JSON, KEY, LABEL, TIME, WEIGHT, Column, Schema

SMALL = Schema((Column("y", LABEL), Column("n", INTEGER), Column("x", FLOAT), Column("c", CATEGORICAL)), format=JSON)
FULL = Schema(
    (
        Column("id", KEY),
        Column("c", CATEGORICAL),
        Column("x", FLOAT),
        Column("y", LABEL),
        Column("n", INTEGER),
        Column("d/é", CATEGORICAL),
        Column("w", WEIGHT),
        Column("g", GROUP),
        Column("t", TIME),
    ),
    format=JSON,
)


def check(data: bytes, schema: Schema = SMALL, labelled: bool = True, offset: int = 1000) -> ParsedRows:
    chunk = Chunk(offset, data)
    parsed = parse_json_chunk(chunk, schema, labelled)
    assert as_rows(parsed, schema, labelled) == by_the_definition(chunk, schema, labelled, parse_json_line)
    return parsed


NASTY = """1 0 -0 -0.0 0.0 1.0 3.0 2.5 1e2 1e5 1e22 1e39 1e400 1e-50 -1 16777217 123456789012345678 9223372036854775808
    1234567890123456789012 NaN Infinity -Infinity true false null "0" "1" "" "a" "-0" "1.5" "NaN" "Inf" "nan" "inf"
    "2024-01-02" "2024-01-02T03:04:05Z" "a\\nb" "a\\rb" "a\\u0000b" "\\u00e9" "é" "\\ud83d\\ude00" "\\ud800" "\\udc00x"
    "\\"" "\\\\" "\\/" "{" "}" "[" [] {} [1] {"a":1} ["a","b"] +1 01 1. .5 'a' "\\q" "a -5""".split()
GOOD = {
    LABEL: ["0", "1", "true", '"1"'],
    WEIGHT: ["1", "0.5", '"2"', "0", "65536.0"],
    INTEGER: ["null", "5", "-0", "16777217", '"7"'],
    FLOAT: ["null", "1", "1.5", "-0.0", "-0", "1e-50", '"1.5"', "0.1"],
    CATEGORICAL: ["null", '"a"', '"é"', "7", "1.5", "1.0", "true", '"\\u00e9"', '""'],
    KEY: ["null", '"k"', "12", "1e22"],
    GROUP: ['"g"', "3", "2.5"],
    TIME: ["1700000000", '"2024-01-02"', '"1"'],
}


@st.composite
def lines_of(draw: st.DrawFn, schema: Schema, labelled: bool, usual: dict[str, str]) -> bytes:
    """A line: mostly of the usual types, sometimes of other good ones, sometimes nasty."""
    how = draw(st.sampled_from(["usual", "usual", "good", "nasty", "odd"]))
    members = []
    for column in schema.columns if labelled else schema.without_label():
        value = usual[column.name]
        if how != "usual" and draw(st.booleans()):
            value = draw(st.sampled_from(NASTY if how == "nasty" else GOOD[column.kind]))
        members.append((column.name, value))
    if how == "odd":
        other = st.tuples(st.sampled_from(["y", "z", "c", "\\u0063", "d\\/é", ""]), st.sampled_from(NASTY))
        members = [*draw(st.lists(other, max_size=2)), *draw(st.permutations(members))[draw(st.integers(0, 3)) :]]
    line = "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"
    if how == "odd":
        line = draw(st.sampled_from(["", "", " ", "\t", "{", "\ufeff"])) + line
        line += draw(st.sampled_from(["", "", " ", ",", "}", "{}", "\r", "\0", "x", ' {"y":1}']))
    return line.encode()


@st.composite
def chunks(draw: st.DrawFn) -> tuple[bytes, Schema, bool]:
    schema, labelled = draw(st.sampled_from([SMALL, FULL])), draw(st.booleans())
    usual = {column.name: draw(st.sampled_from(GOOD[column.kind])) for column in schema.columns}
    anything = st.sampled_from([b"", b"{}", b"{", b"}", b"[]", b"\xff", b'{"y":"\xff"}', b'{"y":1}{"y":0}', b"\r"])
    line = st.one_of(lines_of(schema, labelled, usual), lines_of(schema, labelled, usual), anything)
    end = st.sampled_from([b"\n", b"\n", b"\r\n"])
    lines = draw(st.lists(st.tuples(line, end), max_size=8))
    data = b"".join(line + newline for line, newline in lines)
    return data[: len(data) - draw(st.integers(0, 2))], schema, labelled


@settings(max_examples=200, deadline=None)
@given(chunks(), st.sampled_from([1, 2, 32]))
@example((b'{"y":1}{"y":0}\n{"y":1}\n', SMALL, True), 1)
@example((b'{"y":1,"z":{}\n}\n{"y":1}\n', SMALL, True), 1)
@example((b'{"y":1,"x":-0}\n{"y":1,"x":-0.0}\n', SMALL, True), 1)
@example((b'{"y":1,"c":1.0}\n{"y":1,"c":1}\n{"y":1,"c":2.5}\n', SMALL, True), 1)
@example((b'{"y":1,"z":NaN}\n{"y":1}\n', SMALL, True), 1)
@example((b'{"y":1,"z":' + b"[" * 5000 + b"]" * 5000 + b"}\n", SMALL, True), 1)
def test_equals_the_strict_parser(case, few):
    with mock.patch.object(json_lines, "_FEW_LINES", few):
        check(*case)


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.lists(st.sampled_from('{}[]":,\\n\r\n yxc01.e-'), max_size=40).map("".join))
def test_equals_the_strict_parser_on_any_text(labelled, text):
    check(text.encode(), SMALL, labelled)


def objects(rows: int) -> list[dict[str, object]]:
    random = np.random.default_rng(1)
    return [
        {
            "y": int(random.integers(2)),
            "n": int(random.integers(-5, 3000)) if random.random() < 0.8 else None,
            "x": float(random.normal()),
            "c": f"{random.integers(1 << 32):08x}",
        }
        for _ in range(rows)
    ]


def test_is_the_same_log_as_delimited_lines():
    values = objects(500)
    text = Schema(SMALL.columns)
    fields = [["" if value is None else str(value) for value in row.values()] for row in values]
    expected = parse_chunk(Chunk(0, "\n".join("\t".join(row) for row in fields).encode()), text)
    parsed = parse_json_chunk(Chunk(0, "\n".join(map(json.dumps, values)).encode()), SMALL)
    assert not parsed.rejects and parsed.categorical == expected.categorical
    np.testing.assert_array_equal(parsed.labels, expected.labels)
    np.testing.assert_array_equal(parsed.numbers(), expected.numbers())


def test_a_bad_line_costs_the_strict_parser_few_lines():
    lines = [json.dumps(row).encode() for row in objects(2000)]
    broken = {7: b'{"y": 1,}', 8: b"", 900: b'{"y": 1, "n": 1.5}', 901: b'{"y": 2}', 1999: b'{"y": 1, "c": []}'}
    for index, line in broken.items():
        lines[index] = line
    data = b"\n".join(lines)
    seen = []

    def read(line: bytes, *args: object) -> object:
        seen.append(line)
        return real(line, *args)

    real = json_lines.texts_of_line
    with mock.patch.object(json_lines, "texts_of_line", read):
        parsed = parse_json_chunk(Chunk(0, data), SMALL)
    starts = np.cumsum([0, *(len(line) + 1 for line in lines)])
    reasons = ["json", "empty_line", "integer", "label", "multiple_values"]
    assert [(x.offset, x.reason, x.raw) for x in parsed.rejects] == [
        (starts[index], reason, line) for (index, line), reason in zip(broken.items(), reasons, strict=True)
    ]
    assert len(parsed) == 1995 and len(seen) < 150


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n", b"{", b"{}", b'{"y":1}', b'{"y":1}\r\n', b'{"y":2}', b"}\n{"])
@pytest.mark.parametrize("labelled", [True, False])
def test_small_chunks(data, labelled):
    check(data, SMALL, labelled)


def test_columns_whose_types_change():
    values = ['"a"', "1", "2.5", "true", "null", '"b"', "3.0"]
    data = "\n".join(f'{{"y":{i % 2},"c":{values[i % 7]}}}' for i in range(300)).encode()
    parsed = check(data)
    assert parsed.categorical[0].dictionary.to_pylist() == [b"a", b"1", b"2.5", b"true", b"", b"b", b"3.0"]


def test_a_cut_line_is_one_reject():
    parsed = parse_json_chunk(Chunk(50, b"{" * (1 << 20), 77), SMALL)
    detail = f"expected at most 1048576 bytes, received {(1 << 20) + 77}"
    assert len(parsed) == 0 and parsed.rejects == [Reject(50, "too_long", detail, b"{" * (1 << 20), 77)]


def test_where_the_fast_way_finds_a_good_row_bad_the_definition_decides():
    data = b'{"y":1,"n":5}\n{"y":2}\n{"y":0}'
    expected = by_the_definition(Chunk(0, data), SMALL, True, parse_json_line)

    def cast(*args: object) -> object:
        values = real(*args)
        values.bad[:] = True
        return values

    real = json_lines.cast_columns
    with mock.patch.object(json_lines, "cast_columns", cast):
        assert as_rows(parse_json_chunk(Chunk(0, data), SMALL), SMALL, True) == expected

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import strict
from features.errors import DataError
from features.json_objects import has_label, parse_json_line
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, JSON, KEY, LABEL, TIME, WEIGHT, Column, Schema
from features.strict import BadLine, Row

SCHEMA = Schema(
    (
        Column("y", LABEL),
        Column("n", INTEGER),
        Column("x", FLOAT),
        Column("c", CATEGORICAL),
        Column("k", KEY),
    ),
    format=JSON,
)
FULL = Schema((*SCHEMA.columns, Column("w", WEIGHT), Column("g", GROUP), Column("t", TIME)), format=JSON)


def reason_of(line: bytes, schema: Schema = SCHEMA, labelled: bool = True) -> tuple[str, str]:
    with pytest.raises(BadLine) as caught:
        parse_json_line(line, schema, labelled)
    return caught.value.reason, caught.value.detail


def test_members_go_to_their_columns_by_name_and_others_are_ignored():
    line = '{"z": [1, {"y": 3}], "k": "k1", "c": "a.b é", "x": 1.5, "n": -3, "y": 1, "z": {}}\r'.encode()
    assert parse_json_line(line, SCHEMA) == Row(1, [-3.0, 1.5], ["a.b é".encode()], [b"k1"])


def test_absent_null_and_empty_are_missing():
    expected = Row(0, [None, None], [b""], [b""])
    assert parse_json_line(b'{"y": 0}', SCHEMA) == expected
    assert parse_json_line(b' {"y": "0", "n": null, "x": null, "c": null, "k": null} ', SCHEMA) == expected
    assert parse_json_line(b'{"y": false, "n": "", "x": "", "c": "", "k": ""}', SCHEMA) == expected


def test_weight_group_and_time():
    row = parse_json_line(b'{"y": true, "w": 2.5, "g": 17, "t": "2024-02-03T04:05:06Z"}', FULL)
    assert row == Row(1, [None, None], [b""], [b"", b"17", b"2024-02-03T04:05:06Z"], 2.5)


def test_without_label():
    assert parse_json_line(b'{"y": [], "y": 7, "n": 4}', SCHEMA, labelled=False).numerics == [4.0, None]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"a b"', b"a b"),
        ('" "', b" "),
        ('"\\u00e9\\ud83d\\ude00\\/\\t"', "é😀/\t".encode()),
        ("7", b"7"),
        ("-0", b"0"),
        ("9" * 5000, b"9" * 5000),
        ("1.0", b"1.0"),
        ("-0.0", b"-0.0"),
        ("1.50", b"1.5"),
        ("1e2", b"100.0"),
        ("1E400", b"inf"),
        ("1e22", b"1e+22"),
        ("true", b"true"),
        ("false", b"false"),
        ("null", b""),
    ],
)
def test_texts_of_scalars(value, text):
    row = parse_json_line(f'{{"y": 1, "c": {value}, "k": {value}}}'.encode(), SCHEMA)
    assert (row.categoricals, row.keys) == ([text], [text])


@pytest.mark.parametrize(
    ("value", "number"), [("1", 1.0), ("1.25", 1.25), ("1e3", 1e3), ('"1e3"', 1e3), ("16777217", 16777216.0)]
)
def test_floats(value, number):
    assert parse_json_line(f'{{"y": 1, "x": {value}}}'.encode(), SCHEMA).numerics == [None, number]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty_line"),
        (b"\r", "empty_line"),
        (b'{"y": 1}' + b" " * (1 << 20), "too_long"),
        (b'{"y": 1\0}', "nul_byte"),
        (b'{"y": 1}\r\r', "carriage_return"),
        (b'{"y": 1, "z": "\xff"}', "invalid_utf8"),
        (b" ", "json"),
        (b"1", "json"),
        (b'"y"', "json"),
        (b"null", "json"),
        (b'[{"y": 1}]', "json"),
        (b'{"y": 1} {"y": 1}', "json"),
        (b'{"y": 1,}', "json"),
        (b"{'y': 1}", "json"),
        (b'{"y": 1', "json"),
        (b'{"y": 01}', "json"),
        (b'{"y": +1}', "json"),
        (b'{"y": 1, "c": "a\tb"}', "json"),
        (b'{"y": 1, "x": NaN}', "json"),
        (b'{"y": 1, "z": [-Infinity]}', "json"),
        (b'{"y": 1, "y": 1}', "json"),
        (b'{"y": 1, "c": [1], "c": "a"}', "json"),
        (b'{"y": 1, "\\u0063": 1, "c": 1}', "json"),
        (b'\xef\xbb\xbf{"y": 1}', "json"),
        (b'{"z": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json"),
        (b'{"c": [1], "k": "\\u0000"}', "nul_byte"),
        (b'{"c": "\\r", "k": "\\u0000"}', "nul_byte"),
        (b'{"y": 1, "c": "a\\nb"}', "carriage_return"),
        (b'{"y": 1, "c": "\\ud800", "k": "\\r"}', "carriage_return"),
        (b'{"y": 1, "c": "\\udc00x"}', "invalid_utf8"),
        (b'{"y": 2, "c": ["a", "b"]}', "multiple_values"),
        (b'{"y": 1, "n": {"a": 1}}', "multiple_values"),
        (b'{"y": {}}', "multiple_values"),
        (b'{"n": 1}', "label"),
        (b'{"y": null}', "label"),
        (b'{"y": 1.0}', "label"),
        (b'{"y": 2, "n": 1.5}', "label"),
        (b'{"y": "true"}', "label"),
        (b'{"y": 1, "n": 3.0}', "integer"),
        (b'{"y": 1, "n": true}', "integer"),
        (b'{"y": 1, "n": 1234567890123456789}', "integer"),
        (b'{"y": 1, "x": 1e39}', "float"),
        (b'{"y": 1, "x": 1e999}', "float"),
        (b'{"y": 1, "x": false}', "float"),
    ],
)
def test_reasons_in_their_order(line, reason):
    assert reason_of(line)[0] == reason
    assert reason in strict.REASONS


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ('"g": 1, "t": 1', "weight"),
        ('"w": -1, "g": 1, "t": 1', "weight"),
        ('"w": true, "g": 1, "t": 1', "weight"),
        ('"w": 1, "g": 1', "time"),
        ('"w": 1, "g": 1, "t": 1.5', "time"),
        ('"w": 1, "t": 1', "group"),
        ('"w": 1, "t": 1, "g": ""', "group"),
    ],
)
def test_reasons_of_weight_group_and_time(members, reason):
    assert reason_of(f'{{"y": 1, {members}}}'.encode(), FULL)[0] == reason


def test_details_name_the_column():
    assert reason_of(b'{"y": 1, "c": ["a"]}')[1] == "c: expected one value, received a list"
    assert reason_of(b'{"y": 1, "c": {}}')[1] == "c: expected one value, received an object"
    assert reason_of(b'{"y": 1, "c": 1, "c": 1}')[1] == "c: expected at most once"
    assert reason_of(b'{"y": 1, "c": "a\\rb"}')[1] == "c: expected text without line ends, received b'a\\rb'"
    assert reason_of(b"7")[1] == "expected a JSON object, received 7"


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet='{}[]":,\\unyxc01.e-', max_size=40).map(str.encode)))
def test_any_line_is_a_row_or_has_a_reason(line):
    try:
        row = parse_json_line(line, SCHEMA, labelled=False)
    except BadLine as bad:
        assert bad.reason in strict.REASONS and bad.detail
    else:
        assert row.label is None and all(x is None or math.isfinite(x) for x in row.numerics)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_rounded_once_to_float32(value):
    line = f'{{"y": 1, "x": {value!r}}}'.encode()
    with np.errstate(over="ignore"):
        expected = np.float32(value)
    if np.isfinite(expected):
        assert parse_json_line(line, SCHEMA).numerics[1] == expected
    else:
        assert reason_of(line)[0] == "float"


@pytest.mark.parametrize(
    ("lines", "labelled"),
    [
        ([b'{"y": 1}'], True),
        ([b'{"y": null}\r'], True),
        ([b'\xef\xbb\xbf{"y": 1}'], True),
        ([b'{"n": 1}'], False),
        ([b"{}", b'{"y": 1}'], True),
        ([b"{}", b"{}", b'{"y": 1}'], False),
        ([b'{"z": {"y": 1}}'], False),
        ([b"", b"{", b"[]", b'{"y": 1}'], True),
        ([b"", b"{", b"[]", b"{}"], False),
    ],
)
def test_has_label(lines, labelled):
    assert has_label(lines, SCHEMA, "log.jsonl") is labelled


@pytest.mark.parametrize(("lines", "received"), [([], "no line"), ([b"a\tb", b"[]"], r"a\\tb")])
def test_has_label_without_any_object(lines, received):
    with pytest.raises(DataError, match=rf"must be a JSON object\. Received: {received} \(logs/a\.jsonl, first line"):
        has_label(lines, SCHEMA, "logs/a.jsonl")

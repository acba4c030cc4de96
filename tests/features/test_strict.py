import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import strict
from features.errors import DataError
from features.schema import CATEGORICAL, CRITEO, FLOAT, INTEGER, KEY, LABEL, Column, Schema
from features.strict import BadLine, Row, count_fields, detect_label, parse_line

SCHEMA = Schema(
    (
        Column("id", KEY),
        Column("price", FLOAT),
        Column("clicked", LABEL),
        Column("count", INTEGER),
        Column("site", CATEGORICAL),
        Column("age", INTEGER),
        Column("city", CATEGORICAL),
    ),
    delimiter=",",
)


def reason_of(line: bytes, schema: Schema = SCHEMA, labelled: bool = True) -> tuple[str, str]:
    with pytest.raises(BadLine) as caught:
        parse_line(line, schema, labelled)
    return caught.value.reason, caught.value.detail


def test_fields_go_to_their_kinds():
    row = parse_line(b"k1,1.5,1,-3,a.b,007,M\xc3\xbcnchen\r", SCHEMA)
    assert row == Row(1, [1.5, -3.0, 7.0], [b"a.b", "München".encode()], [b"k1"])


def test_empty_fields_are_missing_and_nothing_is_trimmed_or_folded():
    assert parse_line(b",,0,,,,", SCHEMA) == Row(0, [None, None, None], [b"", b""], [b""])
    assert parse_line(b' k ,,0,, NULL,,"Q"', SCHEMA).categoricals == [b" NULL", b'"Q"']


def test_without_label():
    assert parse_line(b"k,.5,3,a,4,b", SCHEMA, labelled=False) == Row(None, [0.5, 3.0, 4.0], [b"a", b"b"], [b"k"])
    assert reason_of(b"k,.5,1,3,a,4,b", labelled=False)[0] == strict.FIELD_COUNT


def test_a_criteo_line():
    fields = ["1", *"1,,-2,4,5,6,7,8,9,10,,,13".split(","), *(f"{i:08x}" for i in range(25)), "ffffffff"]
    row = parse_line("\t".join(fields).encode(), CRITEO)
    assert row.numerics == [1, None, -2, 4, 5, 6, 7, 8, 9, 10, None, None, 13]
    assert row.categoricals[-2:] == [b"00000018", b"ffffffff"] and row.label == 1 and row.keys == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty_line"),
        (b"\r", "empty_line"),
        (b"\r\r", "carriage_return"),
        (b"x" * (1 << 20), "field_count"),
        (b"x" * (1 << 20) + b"\r", "field_count"),
        (b"x" * (1 << 20) + b"x", "too_long"),
        (b"\0" * (2 << 20), "too_long"),
        (b"k,1.5,1,3,a\0,4,b", "nul_byte"),
        (b"\r\0\xff", "nul_byte"),
        (b"k,1.5,1,\r3,a,4,b", "carriage_return"),
        (b"\xff\r1", "carriage_return"),
        (b"k,1.5,1,3,a,4,b\r\r", "carriage_return"),
        (b"k,1.5,1,3,\xff,4,b", "invalid_utf8"),
        (b"k,1.5,1,3,\xed\xa0\x80,4,b", "invalid_utf8"),
        (b"k,1.5,1,3,\xc0\xaf,4,b", "invalid_utf8"),
        (b"\xff", "invalid_utf8"),
        (b"k,1.5,1,3,a,4", "field_count"),
        (b"k,1.5,1,3,a,4,b,", "field_count"),
        (b" ", "field_count"),
        (b"k,x,2,x,a,4,b", "label"),
        (b"k,1.5,x,3,a,4,b", "label"),
        (b"k,1.5,,3,a,4,b", "label"),
        (b"k,1.5,01,3,a,4,b", "label"),
        (b"k,x,1,3,a,x,b", "integer"),
        (b"k,x,1,3,a,4,b", "float"),
    ],
)
def test_reasons_in_their_order(line, reason):
    assert reason_of(line)[0] == reason
    assert reason in strict.REASONS


def test_details_say_what_was_expected_and_received():
    assert reason_of(b"\t".join([b"1"] * 39), CRITEO) == ("field_count", "expected 40, received 39")
    assert reason_of(b"k,1,2,3,a,4,b") == ("label", "expected 0 or 1, received '2'")
    assert reason_of(b"k,1,1,12x,a,4,b") == (
        "integer",
        "count: expected an integer of at most 18 digits, received '12x'",
    )
    assert len(reason_of(b"k," + b"9" * 1000 + b"x,1,3,a,4,b")[1]) < 120


@pytest.mark.parametrize("text", ["0", "-0", "7", "007", "-1", "16777217", "9" * 18, "-" + "9" * 18])
def test_good_integers_are_rounded_once_to_float32(text):
    assert parse_line(f"k,,1,{text},a,,b".encode(), SCHEMA).numerics[1] == float(np.float32(np.float64(int(text))))


@pytest.mark.parametrize(
    "text", ["+1", " 2", "2 ", "1.0", "1e5", "-", "--1", "0x1F", "nan", "NA", "1_000", "٣", "1" * 19, "1\n"]
)
def test_bad_integers(text):
    assert reason_of(f"k,,1,{text},a,,b".encode())[0] == strict.BAD_INTEGER


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("1.", 1.0),
        ("-.5", -0.5),
        ("1e5", 1e5),
        ("2.5E-3", float(np.float32(0.0025))),
        ("1e-999", 0.0),
        ("3.4028235e38", float(np.finfo(np.float32).max)),
        ("0.1", float(np.float32(0.1))),
    ],
)
def test_good_floats(text, value):
    assert parse_line(f"k,{text},1,,a,,b".encode(), SCHEMA).numerics[0] == value


@pytest.mark.parametrize(
    "text",
    [
        "+1",
        ".",
        "-",
        "e5",
        "1e",
        "1e1234",
        "1e999",
        "3.5e38",
        "-1e39",
        "nan",
        "inf",
        "Infinity",
        " 1",
        "1 ",
        "0x1p3",
    ],
)
def test_bad_floats(text):
    assert reason_of(f"k,{text},1,,a,,b".encode())[0] == strict.BAD_FLOAT


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_line_is_a_row_or_has_a_reason(line):
    try:
        row = parse_line(line, SCHEMA)
    except BadLine as bad:
        assert bad.reason in strict.REASONS and bad.detail
    else:
        assert row.label in (0, 1) and all(x is None or math.isfinite(x) for x in row.numerics)


def test_count_fields():
    assert count_fields(b"", SCHEMA) == 1 and count_fields(b",,", SCHEMA) == 3


@pytest.mark.parametrize(
    ("fields", "labelled"),
    [
        ([7], True),
        ([6], False),
        ([7, 7, 6], True),
        ([6, 7, 7], True),
        ([6, 6, 7], False),
        ([7, 6, 6], False),
        ([7, 6], True),  # a tie
        ([6, 7, 7, 6], True),
        # Lines with other numbers of fields have no vote, however many they are.
        ([1, 5, 8, 7], True),
        ([1, 5, 8, 6], False),
        ([5, 5, 5, 8, 8, 8, 6, 7, 6], False),
        ([5, 5, 5, 8, 8, 8, 7, 6, 7], True),
    ],
)
def test_detect_label_by_majority(fields, labelled):
    for value, ending in ((b"x", b""), (b"", b""), (b"\xff", b"\r")):
        lines = [b",".join([value] * number) + ending for number in fields]
        assert detect_label(lines, SCHEMA, "log.csv") is labelled


@pytest.mark.parametrize("fields", [[1], [5], [8], [5, 8, 1, 8], []])
def test_detect_label_without_any_line_of_a_row_is_an_error_with_the_source(fields):
    received = fields[0] if fields else 0
    message = rf"7 fields, or 6 without the label. Received: {received} fields \(day_3/log\.csv\b"
    with pytest.raises(DataError, match=message):
        detect_label([b",".join([b"x"] * number) for number in fields], SCHEMA, "day_3/log.csv")

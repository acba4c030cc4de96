import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import SHOP

from features import strict
from features.errors import DataError
from features.schema import (
    CATEGORICAL,
    CRITEO,
    FLOAT,
    GROUP,
    INTEGER,
    KEY,
    LABEL,
    OUTCOME,
    TIME,
    WEIGHT,
    Column,
    Schema,
)
from features.strict import BadLine, Row, count_fields, detect_label, parse_line, parse_texts

FULL = Schema(
    (
        Column("t", TIME),
        Column("x", FLOAT),
        Column("w", WEIGHT),
        Column("c", CATEGORICAL),
        Column("y", LABEL),
        Column("g", GROUP),
        Column("n", INTEGER),
        Column("k", KEY),
    ),
    delimiter=",",
)


def reason_of(line: bytes, schema: Schema = SHOP, labelled: bool = True) -> tuple[str, str]:
    with pytest.raises(BadLine) as caught:
        parse_line(line, schema, labelled)
    return caught.value.reason, caught.value.detail


def test_fields_go_to_their_kinds():
    row = parse_line(b"k1,1.5,1,-3,a.b,007,M\xc3\xbcnchen\r", SHOP)
    assert row == Row(1, [1.5, -3.0, 7.0], [b"a.b", "München".encode()], [b"k1"])


def test_empty_fields_are_missing_and_nothing_is_trimmed_or_folded():
    assert parse_line(b",,0,,,,", SHOP) == Row(0, [None, None, None], [b"", b""], [b""])
    assert parse_line(b' k ,,0,, NULL,,"Q"', SHOP).categoricals == [b" NULL", b'"Q"']


def test_without_label():
    assert parse_line(b"k,.5,3,a,4,b", SHOP, labelled=False) == Row(None, [0.5, 3.0, 4.0], [b"a", b"b"], [b"k"])
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
    assert parse_line(f"k,,1,{text},a,,b".encode(), SHOP).numerics[1] == float(np.float32(np.float64(int(text))))


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
    assert parse_line(f"k,{text},1,,a,,b".encode(), SHOP).numerics[0] == value


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


def test_weight_group_and_time():
    row = parse_line(b"17,.5,2.5,a,1,g,3,k", FULL)
    assert row == Row(1, [0.5, 3.0], [b"a"], [b"17", b"g", b"k"], 2.5)
    assert parse_line(b"17,.5,a,g,3,k", FULL, labelled=False) == Row(None, [0.5, 3.0], [b"a"], [b"17", b"g", b"k"])


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0.0), ("1", 1.0), ("00.50", 0.5), ("1e-50", 0.0), ("65536", 65536.0), ("0.1", float(np.float32(0.1)))],
)
def test_good_weights(text, value):
    assert parse_line(f"17,,{text},a,1,g,,k".encode(), FULL).weight == value


@pytest.mark.parametrize("text", ["", "-1", "-0", "+1", "65537", "1e999", "inf", "nan", " 1", "1,", "x"])
def test_bad_weights(text):
    texts = {"t": b"17", "x": b"", "w": text.encode(), "c": b"", "y": b"1", "g": b"g", "n": b"", "k": b""}
    with pytest.raises(BadLine, match="w: expected a number from 0 to 65536 without sign, received") as caught:
        parse_texts(texts, FULL)
    assert caught.value.reason == strict.BAD_WEIGHT


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-5",
        "1700000000123",
        "2024-02-03",
        "2024-12-31T23:59",
        "2024-02-03 04:05:06",
        "2024-02-03T04:05:06.123456789Z",
    ],
)
def test_good_times(text):
    assert parse_line(f"{text},,1,a,1,g,,k".encode(), FULL).keys[0] == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.5",
        "+5",
        "1" * 19,
        "2024-13-01",
        "2024-00-01",
        "2024-01-32",
        "2024-1-1",
        "2024-02-03T24:00",
        "2024-02-03T04:05:06+01:00",
        "2024-02-03T",
        "04:05",
        "now",
    ],
)
def test_bad_times(text):
    line = f"{text},,1,a,1,g,,k".encode()
    assert reason_of(line, FULL) == (strict.BAD_TIME, f"t: expected an integer or ISO 8601, received {text!r}")


def test_a_group_must_have_a_value():
    assert reason_of(b"17,,1,a,1,,,k", FULL) == (strict.NO_GROUP, "g: expected a value, received none")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"x,x,x,a,x,,x,k", "label"),
        (b"x,x,x,a,1,,x,k", "weight"),
        (b"x,x,1,a,1,,x,k", "integer"),
        (b"x,x,1,a,1,,1,k", "float"),
        (b"x,1,1,a,1,,1,k", "time"),
        (b"1,1,1,a,1,,1,k", "group"),
    ],
)
def test_reasons_of_values_in_their_order(line, reason):
    assert reason_of(line, FULL)[0] == reason


OUTCOMES = Schema(
    tuple(map(Column, "oyncpw", (OUTCOME, LABEL, INTEGER, CATEGORICAL, OUTCOME, WEIGHT))),
    delimiter=",",
)


def test_outcomes():
    assert parse_line(b"1,0,5,a,0,2", OUTCOMES) == Row(0, [5.0], [b"a"], [], 2.0, (1, 0))
    assert parse_line(b"5,a", OUTCOMES, labelled=False) == Row(None, [5.0], [b"a"], [])
    assert reason_of(b"1,0,5,a,0,2", OUTCOMES, labelled=False) == (strict.FIELD_COUNT, "expected 2, received 6")
    assert detect_label([b"1,0,5,a,0,2"], OUTCOMES, "log") and not detect_label([b"5,a"], OUTCOMES, "log")


@pytest.mark.parametrize("text", ["", "2", "-1", "01", "1.0", " 1", "true", "é"])
def test_an_outcome_that_is_not_0_or_1(text):
    expected = strict.BAD_OUTCOME, f"p: expected 0 or 1, received {text!r}"
    assert reason_of(f"1,0,x,a,{text},x".encode(), OUTCOMES) == expected


def test_the_label_is_looked_at_before_outcomes():
    assert reason_of(b"x,x,5,a,0,2", OUTCOMES) == (strict.BAD_LABEL, "expected 0 or 1, received 'x'")
    assert reason_of(b"x,1,5,a,y,2", OUTCOMES) == (strict.BAD_OUTCOME, "o: expected 0 or 1, received 'x'")


def test_texts_of_other_columns_are_ignored():
    texts = {"id": b"k", "price": b"1.5", "count": b"", "site": b"a", "age": b"4", "city": b"", "other": b"z"}
    expected = Row(None, [1.5, None, 4.0], [b"a", b""], [b"k"])
    assert parse_texts(texts, SHOP, labelled=False) == expected
    assert parse_texts(texts | {"clicked": b"0"}, SHOP).label == 0


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_line_is_a_row_or_has_a_reason(line):
    try:
        row = parse_line(line, SHOP)
    except BadLine as bad:
        assert bad.reason in strict.REASONS and bad.detail
    else:
        assert row.label in (0, 1) and all(x is None or math.isfinite(x) for x in row.numerics)


def test_count_fields():
    assert count_fields(b"", SHOP) == 1 and count_fields(b",,", SHOP) == 3


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
        assert detect_label(lines, SHOP, "log.csv") is labelled


@pytest.mark.parametrize("fields", [[1], [5], [8], [5, 8, 1, 8], []])
def test_detect_label_without_any_line_of_a_row_is_an_error_with_the_source(fields):
    received = fields[0] if fields else 0
    message = rf"7 fields, or 6 without the label. Received: {received} fields \(day_3/log\.csv\b"
    with pytest.raises(DataError, match=message):
        detect_label([b",".join([b"x"] * number) for number in fields], SHOP, "day_3/log.csv")


@pytest.mark.parametrize(("fields", "labelled"), [([8], True), ([6], False), ([7, 6, 6, 8], False), ([7, 8], True)])
def test_a_log_without_labels_has_no_weights(fields, labelled):
    assert detect_label([b",".join([b"x"] * number) for number in fields], FULL, "log.csv") is labelled


def test_detect_label_of_a_log_with_weights_and_no_labels():
    with pytest.raises(DataError, match=r"8 fields, or 6 without the label. Received: 7 fields"):
        detect_label([b"x,x,x,x,x,x,x"], FULL, "log.csv")

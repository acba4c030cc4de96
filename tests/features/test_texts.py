import datetime
import math

import numpy as np
import pyarrow as pa
import pytest

from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, KINDS, LABEL, OUTCOME, TIME, WEIGHT
from features.strict import BadLine
from features.texts import check_texts, text_type, texts_of, unclean

NUMERIC = {LABEL, OUTCOME, WEIGHT, INTEGER, FLOAT}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", None, "", "a"]),
        pa.array([b"a", None], pa.large_binary()),
        pa.array(["a", None]).dictionary_encode(),
        pa.array([1, None, 1], pa.int8()),
        pa.array([1.5, None, math.nan, 1.5], pa.float32()),
        pa.array([True, None]),
        pa.array([datetime.date(2024, 1, 2), None]),
        pa.nulls(3),
        pa.array([], pa.string()),
    ],
    ids=lambda values: str(values.type),
)
def test_types_and_no_nulls(kind, values):
    texts = texts_of(values, kind)
    assert texts.type == text_type(kind) and len(texts) == len(values) and texts.null_count == 0
    assert pa.types.is_dictionary(texts.type) == (kind in NUMERIC)
    shown = [text == b"" for text in texts.to_pylist()]
    assert shown == [value is None or value == "" or value != value for value in values.to_pylist()]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (LABEL, [True, False], [b"1", b"0"]),
        (OUTCOME, [True, False], [b"1", b"0"]),
        (CATEGORICAL, [True, False], [b"true", b"false"]),
        (INTEGER, [True, False], [b"true", b"false"]),
        (CATEGORICAL, [1.0, 1e22, -0.0, math.inf], [b"1.0", b"1e+22", b"-0.0", b"inf"]),
        (KEY, [9007199254740993, -1], [b"9007199254740993", b"-1"]),
        (GROUP, [datetime.datetime(2024, 1, 2, 3)], [b"2024-01-02T03:00:00.000000Z"]),
        (TIME, [datetime.date(2024, 1, 2)], [b"2024-01-02"]),
    ],
)
def test_texts(kind, values, expected):
    assert texts_of(pa.array(values), kind).to_pylist() == expected


@pytest.mark.parametrize("kind", [FLOAT, WEIGHT])
def test_of_a_float_only_the_value_counts(kind):
    values = [0.1, 5e-324, 1.7976931348623157e308, 1e22, 3.0, 123456789012345680.0]
    texts = texts_of(pa.array(values), kind, show=lambda value: pytest.fail("shown"))
    assert [float(text) for text in texts.to_pylist()] == values


def test_numbers_are_shown_once_a_value():
    shown = []

    def show(value: float) -> str:
        shown.append(value)
        return "x"

    assert texts_of(pa.array([2.5, 1.5] * 100), CATEGORICAL, show).to_pylist() == [b"x"] * 200
    assert shown == [2.5, 1.5]


@pytest.mark.parametrize(
    ("texts", "reason", "detail"),
    [
        ({"a": b"x", "b": "é\t\x01".encode(), "c": b""}, None, ""),
        ({"a": b"\r", "b": b"y\0"}, "nul_byte", r"b: expected text without NUL, received b'y\x00'"),
        ({"a": b"\xff", "b": b"y\r"}, "carriage_return", r"b: expected text without line ends, received b'y\r'"),
        ({"a": b"\n"}, "carriage_return", r"a: expected text without line ends, received b'\n'"),
        ({"a": b"x", "b": b"y\xff"}, "invalid_utf8", "b: at byte 1 of the text: invalid start byte"),
        ({"a": b"\xed\xa0\x80"}, "invalid_utf8", "a: at byte 0 of the text: invalid continuation byte"),
    ],
)
def test_check_texts(texts, reason, detail):
    marked = [bool(unclean(pa.array([text]))[0]) for text in texts.values()]
    if reason is None:
        check_texts(texts)
        assert not any(marked)
    else:
        with pytest.raises(BadLine) as caught:
            check_texts(texts)
        assert (caught.value.reason, caught.value.detail) == (reason, detail)
        assert any(marked)


def test_unclean():
    values = [b"a", b"\0", "é".encode(), b"a\rb", b"", b"\n", b"\xc3", b"a"]
    expected = [False, True, False, True, False, True, True, False]
    texts = pa.array(values, pa.binary())
    for column in (texts, texts.dictionary_encode()):
        found = unclean(column)
        assert found.dtype == np.bool_ and found.tolist() == expected
    assert unclean(texts.slice(2, 3)).tolist() == expected[2:5]
    assert unclean(pa.array([], pa.binary())).tolist() == []

"""Columns of texts to columns of values, by hand and against the strict parser."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import ValueColumns, cast_columns, encode, plain
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, LABEL, OUTCOME, TIME, WEIGHT, Column, Schema
from features.strict import BadLine, parse_texts

FULL = Schema(
    (
        Column("g", GROUP),
        Column("c", CATEGORICAL),
        Column("w", WEIGHT),
        Column("y", LABEL),
        Column("x", FLOAT),
        Column("k", KEY),
        Column("n", INTEGER),
        Column("t", TIME),
        Column("o", OUTCOME),
        Column("p", OUTCOME),
    )
)
GOOD = {"g": b"g1", "c": b"c1", "w": b"0.5", "y": b"1", "x": b"-1.5", "k": b"k1", "n": b"7", "t": b"2024-05-06"}
GOOD |= {"o": b"0", "p": b"1"}
TEXTS = """0 1 2 -1 +1 -0 00 01 - . .5 1. 1.5 -1e5 1e38 1e39 1e-50 1e400 1e4000 65536 65537 1e5 nan NaN null inf 0x1F
    1_0 16777217 123456789012345678 1234567890123456789 2024 2024-02-30 2024-13-01 2024-01-01T00:00Z 2024-01-01T24:00
    longer than eight é ٣""".split()
ANY = st.one_of(st.sampled_from([b"", b" ", b"1 ", b" 1", b"1\n"]), st.sampled_from(TEXTS).map(str.encode))


def table_of(rows: Sequence[dict[str, bytes]], coded: Sequence[str] = ()) -> pa.Table:
    columns = {name: pa.array([row[name] for row in rows], pa.binary()) for name in GOOD}
    return pa.table({name: column.dictionary_encode() if name in coded else column for name, column in columns.items()})


def cast(*changes: dict[str, bytes], labelled: bool = True, coded: Sequence[str] = ()) -> ValueColumns:
    """The values of good rows with some changes."""
    return cast_columns(table_of([GOOD | change for change in changes], coded), FULL, labelled)


def numbers(column: pa.DictionaryArray) -> list[float]:
    found: list[float] = column.dictionary.to_numpy()[column.indices.to_numpy()].tolist()
    return found


def test_types_and_values_by_hand() -> None:
    values = cast({}, {"g": b"g2", "c": b"", "w": b"0", "y": b"0", "x": b"", "k": b"", "n": b"", "t": b"17"}, {})
    assert values.labels is not None and values.labels.dtype == np.uint8 and values.labels.tolist() == [1, 0, 1]
    assert values.weights is not None and values.weights.dtype == np.float32
    assert values.weights.tolist() == [0.5, 0, 0.5]
    assert values.outcomes is not None and values.outcomes.dtype == np.uint8
    assert values.outcomes.tolist() == [[0, 1]] * 3
    assert [column.type for column in values.numeric] == [pa.dictionary(pa.int32(), pa.float32())] * 2
    np.testing.assert_array_equal(
        [numbers(column) for column in values.numeric], [[-1.5, np.nan, -1.5], [7, np.nan, 7]]
    )
    assert [column.type for column in values.categorical] == [pa.dictionary(pa.int32(), pa.binary())]
    assert values.categorical[0].to_pylist() == [b"c1", b"", b"c1"]
    assert [column.to_pylist() for column in values.keys] == [
        [b"g1", b"g2", b"g1"],
        [b"k1", b"", b"k1"],
        [b"2024-05-06", b"17", b"2024-05-06"],
    ]
    assert values.bad.dtype == bool and values.bad.tolist() == [False] * 3


def test_without_labels_there_are_no_weights_and_neither_is_looked_at() -> None:
    values = cast({"y": b"?", "w": b"?"}, {"x": b"?"}, labelled=False)
    assert values.labels is None and values.weights is None and values.bad.tolist() == [False, True]
    rows = table_of([GOOD]).drop_columns(["y", "w"])
    assert cast_columns(rows, FULL, False).bad.tolist() == [False]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("x", b".5", 0.5),
        ("x", b"-5.", -5.0),
        ("x", b"1e2", 100.0),
        ("x", b"3e38", float(np.float32(3e38))),
        ("x", b"1e-50", 0.0),
        ("n", b"-0", 0.0),
        ("n", b"007", 7.0),
        ("n", b"16777217", 16777216.0),
        ("n", b"-999999999999999999", -999999984306749440.0),
    ],
)
def test_numbers(name: str, text: bytes, value: float) -> None:
    values = cast({name: text})
    assert not values.bad[0] and numbers(values.numeric["xn".index(name)]) == [value]


BAD = {
    "y": ["", "2", "-1", "01", " 1", "1.0", "1\n"],
    "w": ["", "-1", "-0", "+1", "nan", "inf", "65537", "1e39", "1e400", "."],
    "x": ["1e39", "-1e39", "1e400", "nan", "inf", "1_0", "0x1", " 1", "1e", "-", "٣", "1\n"],
    "n": ["1.0", "+1", "1234567890123456789", "-", "1e2", " ", "٣"],
    "t": ["", "2024-13-01", "2024-01-01T24:00", "2024-1-1", "1.5", "2024-01-01 ", "2024-01-01T10:00+01:00"],
    "g": [""],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_bad_values(name: str, text: str) -> None:
    values = cast({}, {name: text.encode()}, {})
    assert values.bad.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "text", ["0", "-17", "2024-02-29", "2024-01-01 23:59", "2024-01-01T23:59:59Z", "2024-01-01T00:00:00.123456789"]
)
def test_good_times(text: str) -> None:
    assert not cast({"t": text.encode()}).bad[0]


def test_no_bad_number_stays_in_a_dictionary() -> None:
    """Statistics look at whole dictionaries, so a value that overflows must not stand there, used or not."""
    values = cast({"x": b"1e39", "w": b"1e39"}, {"x": b"-1e39", "w": b"65537"}, {"n": b"x"}, {})
    for column in values.numeric:
        assert not np.isinf(column.dictionary.to_numpy()).any()
    np.testing.assert_array_equal(values.weights, [np.nan, np.nan, 0.5, 0.5])
    np.testing.assert_array_equal([numbers(c) for c in values.numeric], [[np.nan] * 2 + [-1.5] * 2, [7, 7, np.nan, 7]])


def test_a_bad_label_is_0() -> None:
    labels = cast({"y": b"?"}, {}, {"y": b""}).labels
    assert labels is not None and labels.tolist() == [0, 1, 0]


@st.composite
def changed(draw: st.DrawFn) -> dict[str, bytes]:
    """A good row with one or two other texts."""
    return GOOD | draw(st.dictionaries(st.sampled_from(sorted(GOOD)), ANY, max_size=2))


@settings(deadline=None, max_examples=300)
@given(st.lists(changed(), max_size=6), st.booleans(), st.sets(st.sampled_from(sorted(GOOD))))
def test_equals_the_strict_parser(rows: list[dict[str, bytes]], labelled: bool, coded: set[str]) -> None:
    values = cast_columns(table_of(rows, sorted(coded)), FULL, labelled)
    for index, texts in enumerate(rows):
        try:
            row = parse_texts(texts, FULL, labelled)
        except BadLine:
            assert values.bad[index]
            continue
        assert not values.bad[index]
        assert (values.labels is None) == (row.label is None) and (values.weights is None) == (row.weight is None)
        assert values.labels is None or values.labels[index] == row.label
        assert values.weights is None or values.weights[index] == row.weight
        assert (() if values.outcomes is None else tuple(values.outcomes[index].tolist())) == row.outcomes
        found = [column[index].as_py() for column in values.numeric]
        np.testing.assert_array_equal(found, [math.nan if x is None else x for x in row.numerics])
        assert [column[index].as_py() for column in values.categorical] == row.categoricals
        assert [column[index].as_py() for column in values.keys] == row.keys


def test_columns_of_several_chunks_and_of_unused_values() -> None:
    """As they come from a filtered table."""
    rows = [GOOD | {"x": b"1e39"}, GOOD, GOOD | {"c": b"gone"}, GOOD | {"x": b"3"}]
    keep = pa.array([False, True, False, True])
    table = table_of(rows, sorted(GOOD)).filter(keep)
    for part in (table, pa.concat_tables([table_of(rows[1:2], ["x"]), table_of(rows[3:], ["x"])]), table.slice(0, 0)):
        values = cast_columns(part, FULL, True)
        assert not values.bad.any() and len(values.bad) == part.num_rows
        assert numbers(values.numeric[0]) == [-1.5, 3.0][: part.num_rows]
        assert values.categorical[0].to_pylist() == [b"c1", b"c1"][: part.num_rows]
        assert values.keys[0].type == pa.binary()


def test_encode_and_plain() -> None:
    array = pa.array([b"b", b"a", b"b"], pa.binary())
    coded = encode(array)
    assert coded.dictionary.to_pylist() == [b"b", b"a"] and coded.to_pylist() == array.to_pylist()
    assert encode(coded) is coded and plain(array) is array and plain(coded).equals(array)

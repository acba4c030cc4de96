"""Vocabularies: counts against pandas, order, limits, lookups and storage."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.hashing import FOLDS
from features.vocabulary import (
    COUNTS_SCHEMA,
    FIRST_VALUE,
    MISSING,
    UNSEEN,
    ValueIndex,
    Vocabulary,
    count_values,
)

Rows = list[tuple[bytes, int, int]]
NASTY = [b"", b"a", b"A", b"ffffffff", b"00000000", "é".encode(), b"\xff", b"\x80", b" ", b"\xf0\x9f\x98\x80", b"ab"]
ROWS = st.lists(st.tuples(st.sampled_from(NASTY), st.integers(0, 9), st.integers(0, 1)), max_size=60)


def lookup(values: pa.BinaryArray, vocabulary: pa.BinaryArray) -> np.ndarray:
    """Vocabulary ids of values."""
    return ValueIndex(vocabulary).find(values)


def encoded(values: Sequence[bytes]) -> pa.DictionaryArray:
    return pa.array(values, pa.binary()).dictionary_encode()


def counted(rows: Rows, chunks: int = 1) -> pa.Table:
    values, folds, labels = ([row[index] for row in rows] for index in range(3))
    cuts = np.linspace(0, len(rows), chunks + 1).astype(int)
    columns = [encoded(values[start:end]) for start, end in zip(cuts[:-1], cuts[1:], strict=True)]
    return count_values(columns, np.array(folds, np.uint8), np.array(labels, np.uint8))


def by_pandas(rows: Rows) -> dict[tuple[bytes, int], tuple[int, int]]:
    frame = pd.DataFrame(rows, columns=["value", "fold", "label"])
    groups = frame.groupby(["value", "fold"])["label"].agg(["size", "sum"])
    return {key: (int(row["size"]), int(row["sum"])) for key, row in groups.iterrows()}


def as_dict(table: pa.Table) -> dict[tuple[bytes, int], tuple[int, int]]:
    rows = table.to_pylist()
    cells = {(row["value"], row["fold"]): (row["count"], row["clicks"]) for row in rows}
    assert len(cells) == len(rows), "a row for each value and fold"
    return cells


def random_rows(number: int = 4000, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    values = [b"" if value == 0 else b"%08x" % (value * 0x9E3779B1 % 2**32) for value in rng.zipf(1.4, number) % 700]
    return list(zip(values, rng.integers(0, 10, number).tolist(), rng.integers(0, 2, number).tolist(), strict=True))


def merged(rows: Rows, min_count: int = 1, max_size: int = 10**6) -> Vocabulary:
    return Vocabulary.merge([counted(rows)], min_count, max_size)


def assert_equal(first: Vocabulary, second: Vocabulary) -> None:
    assert first.values.to_pylist() == second.values.to_pylist()
    np.testing.assert_array_equal(first.counts, second.counts)
    np.testing.assert_array_equal(first.clicks, second.clicks)


@settings(deadline=None)
@given(ROWS, st.integers(1, 4))
def test_counts_against_pandas(rows: Rows, chunks: int) -> None:
    table = counted(rows, chunks)
    assert table.schema == COUNTS_SCHEMA
    assert as_dict(table) == by_pandas(rows)


def test_counts_of_many_rows_against_pandas() -> None:
    rows = random_rows()
    assert as_dict(counted(rows, chunks=7)) == by_pandas(rows)


@pytest.mark.parametrize("columns", [[], [encoded([])], [encoded([]), encoded([])]])
def test_counts_of_no_rows(columns: list[pa.DictionaryArray]) -> None:
    none = np.zeros(0, np.uint8)
    assert count_values(columns, none, none).equals(COUNTS_SCHEMA.empty_table())


def test_chunks_without_rows_between_others() -> None:
    table = count_values(
        [encoded([]), encoded([b"a"]), encoded([]), encoded([b"b", b"a"])], *np.uint8([[3] * 3, [1] * 3])
    )
    assert as_dict(table) == {(b"a", 3): (2, 2), (b"b", 3): (1, 1)}


def test_vocabulary_by_hand() -> None:
    rows = [(b"b", 0, 1), (b"b", 9, 0), (b"", 4, 1), (b"a", 2, 1), (b"b", 0, 0), (b"", 4, 0), (b"c", 2, 0)]
    vocabulary = merged(rows)
    assert vocabulary.values.to_pylist() == [b"b", b"a", b"c"]
    assert vocabulary.ids == 5
    counts, clicks = np.zeros((5, FOLDS), int), np.zeros((5, FOLDS), int)
    counts[MISSING, 4], clicks[MISSING, 4] = 2, 1
    counts[2, 0], clicks[2, 0], counts[2, 9] = 2, 1, 1
    counts[3, 2], clicks[3, 2] = 1, 1
    counts[4, 2] = 1
    np.testing.assert_array_equal(vocabulary.counts, counts)
    np.testing.assert_array_equal(vocabulary.clicks, clicks)


@settings(deadline=None)
@given(ROWS, st.integers(1, 5), st.integers(0, 8))
def test_vocabulary_against_pandas(rows: Rows, min_count: int, max_size: int) -> None:
    vocabulary = merged(rows, min_count, max_size)
    frame = pd.DataFrame(rows, columns=["value", "fold", "label"])
    totals = frame[frame["value"] != b""]["value"].value_counts()
    ranked = sorted(totals[totals >= min_count].items(), key=lambda item: (-item[1], item[0]))
    assert vocabulary.values.to_pylist() == [value for value, _ in ranked][:max_size]
    assert vocabulary.counts.shape == vocabulary.clicks.shape == (vocabulary.ids, FOLDS)
    by_id = [b"", None, *vocabulary.values.to_pylist()]
    cells = by_pandas(rows)
    for number, value in enumerate(by_id):
        for fold in range(FOLDS):
            expected = cells.get((value, fold), (0, 0))
            assert (vocabulary.counts[number, fold], vocabulary.clicks[number, fold]) == expected


def test_values_of_equal_count_stand_in_the_order_of_their_bytes() -> None:
    values = [b"\xff", b"b", b"B", b"ab", b"a", "é".encode(), b"\x80", b"a\x01"]
    vocabulary = merged([(value, 0, 0) for value in values])
    assert vocabulary.values.to_pylist() == [b"B", b"a", b"a\x01", b"ab", b"b", b"\x80", "é".encode(), b"\xff"]


def test_min_count_looks_at_the_total_of_all_folds() -> None:
    rows = [(b"a", 1, 0), (b"a", 2, 0), (b"b", 3, 0), (b"", 3, 0)]
    assert merged(rows, min_count=2).values.to_pylist() == [b"a"]
    # The missing value is never rare.
    assert merged(rows, min_count=5).counts.sum() == merged(rows, max_size=0).counts[MISSING].sum() == 1


def test_vocabulary_of_nothing() -> None:
    for parts in ([], [COUNTS_SCHEMA.empty_table()], [counted([(b"", 3, 1)])]):
        vocabulary = Vocabulary.merge(parts, 1, 10)
        assert vocabulary.ids == 2 and vocabulary.values.type == pa.binary()
        assert vocabulary.counts.shape == (2, FOLDS) and vocabulary.kept(1) == 0
        assert lookup(pa.array([b"a", b""]), vocabulary.values).tolist() == [UNSEEN, MISSING]
        assert_equal(Vocabulary.from_table(vocabulary.to_table()), vocabulary)


@settings(deadline=None, max_examples=50)
@given(ROWS, st.lists(st.integers(0, 60), max_size=4))
def test_merging_parts_equals_a_single_pass(rows: Rows, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(rows)]
    parts = [counted(rows[start:end]) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    assert_equal(Vocabulary.merge(parts[::-1], 2, 5), merged(rows, 2, 5))


@pytest.mark.parametrize("min_count", [1, 2, 3, 4, 10**9])
def test_kept_is_what_a_smaller_vocabulary_would_hold(min_count: int) -> None:
    rows = random_rows()
    whole, smaller = merged(rows), merged(rows, min_count)
    kept = whole.kept(min_count)
    assert kept == len(smaller.values)
    assert whole.values.to_pylist()[:kept] == smaller.values.to_pylist()
    np.testing.assert_array_equal(whole.counts[: kept + FIRST_VALUE], smaller.counts)


def test_lookup_by_hand() -> None:
    vocabulary = pa.array([b"ffffffff", "é".encode(), b"\xff", b"0"], pa.binary())
    values = [b"", b"ffffffff", b"0", b"00", "é".encode(), b"\xc3", b"\xff", b"FFFFFFFF", b"ffffffff"]
    ids = lookup(pa.array(values, pa.binary()), vocabulary)
    assert ids.dtype == np.int32
    assert ids.tolist() == [MISSING, 2, 5, UNSEEN, 3, UNSEEN, 4, UNSEEN, 2]


def test_lookup_in_nothing_and_of_nothing() -> None:
    none = pa.array([], pa.binary())
    assert lookup(none, pa.array([b"a"])).tolist() == []
    assert lookup(pa.array([b"a", b""]), none).tolist() == [UNSEEN, MISSING]
    # Slices have an offset into the buffers of another array.
    array = pa.array([b"x", b"a", b"", b"b", b"y"])
    assert lookup(array.slice(1, 3), array.slice(3)).tolist() == [UNSEEN, MISSING, 2]


# Short and long values, and values that differ only in their zero bytes or beyond the eighth byte.
ANY_VALUE = st.one_of(
    st.binary(max_size=3),
    st.lists(st.sampled_from(b"\0\x01a"), max_size=10).map(bytes),
    st.tuples(st.sampled_from([b"1234567", b"12345678", b"\xff" * 8]), st.binary(max_size=2)).map(b"".join),
    st.sampled_from(NASTY),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(ANY_VALUE, max_size=30), st.lists(ANY_VALUE.filter(bool), unique=True), st.integers(0, 3))
def test_lookup_against_a_dictionary(values: list[bytes], known: list[bytes], skip: int) -> None:
    ids = {value: number for number, value in enumerate(known, FIRST_VALUE)} | {b"": MISSING}
    expected = [ids.get(value, UNSEEN) for value in values]
    assert lookup(pa.array(values, pa.binary()), pa.array(known, pa.binary())).tolist() == expected
    # Slices have an offset into the buffers of another array, and one index answers many questions.
    more = [b"xyz"] * skip
    index = ValueIndex(pa.array([None, *known], pa.binary()).slice(1))
    asked = pa.array([*more, *values, *more], pa.binary()).slice(skip, len(values))
    for _ in range(2):
        found = index.find(asked)
        assert found.dtype == np.int32 and found.tolist() == expected


def test_lookup_of_many_values() -> None:
    rng = np.random.default_rng(0)
    known = [b"%08x" % number for number in np.unique(rng.integers(0, 2**32, 5000))]
    rng.shuffle(known)
    asked = [*known[::3], *(b"%08x" % number for number in rng.integers(0, 2**32, 2000)), b"", b"%09x" % 5]
    ids = {value: number for number, value in enumerate(known, FIRST_VALUE)} | {b"": MISSING}
    found = lookup(pa.array(asked, pa.binary()), pa.array(known, pa.binary()))
    assert found.tolist() == [ids.get(value, UNSEEN) for value in asked]


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_table_round_trip_through_parquet(rows: Rows) -> None:
    vocabulary = merged(rows)
    file = io.BytesIO()
    pq.write_table(vocabulary.to_table(), file, compression="zstd")
    back = Vocabulary.from_table(pq.read_table(io.BytesIO(file.getvalue())))
    assert_equal(back, vocabulary)
    assert back.to_table().equals(vocabulary.to_table())
    probe = pa.array([*NASTY, b"never"], pa.binary())
    assert lookup(probe, back.values).tolist() == lookup(probe, vocabulary.values).tolist()


def test_table_is_as_documented() -> None:
    table = merged([(b"b", 0, 1), (b"b", 9, 0), (b"", 4, 1), (b"a", 2, 1)]).to_table()
    assert table.column_names == [
        "value",
        *(f"count_{fold}" for fold in range(10)),
        *(f"clicks_{fold}" for fold in range(10)),
    ]
    assert table["value"].to_pylist() == [None, b"b", b"a"]
    assert table["count_0"].to_pylist() == [0, 1, 0] and table["count_4"].to_pylist() == [1, 0, 0]
    assert table["clicks_0"].to_pylist() == [0, 1, 0] and table["clicks_9"].to_pylist() == [0, 0, 0]

"""Vocabularies against Python's Counter: order, limits, hash buckets, weights and storage."""

from __future__ import annotations

import io
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.counts import CellCounts, count_values
from features.hashing import FOLDS
from features.siphash import siphash
from features.values import order_keys, unify
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN, Vocabulary, VocabularyBuilder, stored_values

Rows = list[tuple[bytes, int, int, float]]
NASTY = [b"", b"a", b"A", b"ab", b"00000000", "é".encode(), b"\xff", b"longer than 8", b"longer than 80", b"a\0", b" "]
ROWS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(NASTY), st.sampled_from([b"%d" % n for n in range(40)])),
        st.integers(0, 9),
        st.integers(0, 1),
        st.sampled_from([0.0, 0.25, 1.0, 3.5]),
    ),
    max_size=80,
)


def counted(rows: Rows, weighted: bool) -> pa.Table:
    column = unify([pa.array([row[0] for row in rows], pa.binary()).dictionary_encode()])
    folds, labels = (np.array([row[index] for row in rows], np.uint8) for index in (1, 2))
    return count_values(column, folds, labels, np.array([row[3] for row in rows], np.float32) if weighted else None)


def divided(table: pa.Table, parts: int) -> list[pa.Table]:
    """Cut by the highest bits of the values' keys."""
    keys = order_keys(table["value"].combine_chunks())[0].tolist()
    owners = np.array([key * parts >> 64 for key in keys], np.int64)
    return [table.filter(pa.array(owners == part)) for part in range(parts)]


def built(
    ranges: list[Rows],
    min_count: int = 1,
    max_size: int = 10**6,
    buckets: int = 0,
    weighted: bool = False,
    parts: int = 1,
) -> pa.Table:
    """The stored vocabulary of rows that were counted range by range and merged part by part."""
    builder = VocabularyBuilder(min_count, max_size, buckets, weighted)
    tables = [divided(counted(rows, weighted), parts) for rows in ranges]
    for part in range(parts):
        builder.add(CellCounts.of([table[part] for table in tables], weighted))
    return pa.concat_tables(builder.tables(rows=7))


def vocabulary_of(rows: Rows, min_count: int = 1, max_size: int = 10**6, buckets: int = 0) -> Vocabulary:
    return Vocabulary.from_table(built([rows], min_count, max_size, buckets))


def plain_rows(values: list[bytes]) -> Rows:
    return [(value, 0, 0, 1.0) for value in values]


def random_rows(number: int = 4000, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    values = [b"" if value == 0 else b"%08x" % (value * 0x9E3779B1 % 2**32) for value in rng.zipf(1.4, number) % 700]
    folds, labels = rng.integers(0, 10, number).tolist(), rng.integers(0, 2, number).tolist()
    return list(zip(values, folds, labels, rng.choice([0.5, 1, 2.25], number).tolist(), strict=True))


def by_hand(rows: Rows, min_count: int, max_size: int, buckets: int) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """Values and sums by id and fold, row by row."""
    totals: dict[bytes, int] = defaultdict(int)
    for value, *_ in rows:
        totals[value] += value != b""
    ranked = sorted((v for v in totals if totals[v] >= min_count), key=lambda v: (-totals[v], v))
    values = [value for value in ranked if value != b""][:max_size]
    ids = {value: number for number, value in enumerate(values, FIRST_VALUE)} | {b"": MISSING}
    shape = len(values) + 2 + buckets, FOLDS
    sums = {name: np.zeros(shape) for name in ("counts", "clicks", "weights", "click_weights")}
    for value, fold, label, weight in rows:
        number = ids.get(value)
        if number is None and buckets:
            number = len(values) + 2 + int(siphash(pa.array([value]))[0]) % buckets
        if number is not None:
            for name, addend in zip(sums, (1, label, weight, weight * label), strict=True):
                sums[name][number, fold] += addend
    return values, sums


def assert_is(vocabulary: Vocabulary, rows: Rows, min_count: int, max_size: int, buckets: int, weighted: bool) -> None:
    values, sums = by_hand(rows, min_count, max_size, buckets)
    assert vocabulary.values.type == pa.binary() and vocabulary.values.to_pylist() == values
    assert vocabulary.ids == len(values) + 2 + buckets and vocabulary.buckets == buckets
    for name, expected in sums.items():
        found = getattr(vocabulary, name)
        if "weight" in name and not weighted:
            assert found is None
        else:
            assert found.dtype == (np.float64 if "weight" in name else np.int64)
            np.testing.assert_array_equal(found, expected, err_msg=name)


LIMITS = {
    "min_count": st.integers(1, 4),
    "max_size": st.integers(1, 12),
    "buckets": st.sampled_from([0, 0, 1, 3, 100]),
    "weighted": st.booleans(),
}


@settings(deadline=None, max_examples=200)
@given(ROWS, st.lists(st.integers(0, 80), max_size=3), st.integers(1, 7), st.fixed_dictionaries(LIMITS))
@example(plain_rows([b"%d" % n for n in range(40)]), [20], 5, dict(min_count=1, max_size=3, buckets=3, weighted=True))
def test_any_division_against_plain_python(rows: Rows, cuts: list[int], parts: int, limits: dict[str, int]) -> None:
    bounds = [0, *sorted(cuts), len(rows)]
    ranges = [rows[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    table = built(ranges, **limits, parts=parts)  # type: ignore[arg-type]
    assert table.equals(built([rows], **limits))  # type: ignore[arg-type]
    assert_is(Vocabulary.from_table(table), rows, **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [1, 2, 16])
@pytest.mark.parametrize(("min_count", "max_size", "buckets"), [(1, 10**6, 0), (2, 50, 10), (1, 7, 0), (3, 10**6, 1)])
def test_many_rows(parts: int, min_count: int, max_size: int, buckets: int) -> None:
    rows = random_rows()
    table = built([rows[:1000], rows[1000:1001], rows[1001:]], min_count, max_size, buckets, True, parts)
    assert_is(Vocabulary.from_table(table), rows, min_count, max_size, buckets, True)


def test_vocabulary_by_hand() -> None:
    rows = [(b"b", 0, 1), (b"b", 9, 0), (b"", 4, 1), (b"a", 2, 1), (b"b", 0, 0), (b"", 4, 0), (b"c", 2, 0)]
    vocabulary = vocabulary_of([(*row, 1.0) for row in rows])
    assert vocabulary.values.to_pylist() == [b"b", b"a", b"c"]
    assert vocabulary.ids == 5 and vocabulary.weights is None and vocabulary.click_weights is None
    counts, clicks = np.zeros((5, FOLDS), int), np.zeros((5, FOLDS), int)
    counts[MISSING, 4], clicks[MISSING, 4] = 2, 1
    counts[2, 0], clicks[2, 0], counts[2, 9] = 2, 1, 1
    counts[3, 2], clicks[3, 2] = 1, 1
    counts[4, 2] = 1
    np.testing.assert_array_equal(vocabulary.counts, counts)
    np.testing.assert_array_equal(vocabulary.clicks, clicks)


def test_buckets_by_hand() -> None:
    rows = plain_rows([b"often", b"often", b"x", b"y", b"z", b""])
    vocabulary = vocabulary_of(rows, min_count=2, buckets=3)
    assert vocabulary.values.to_pylist() == [b"often"] and vocabulary.ids == 6
    totals = vocabulary.counts.sum(axis=1).tolist()
    assert totals[MISSING] == 1 and totals[UNSEEN] == 0 and totals[FIRST_VALUE] == 2
    places = (siphash(pa.array([b"x", b"y", b"z"])) % np.uint64(3)).astype(int)
    assert totals[3:] == np.bincount(places, minlength=3).tolist()
    # What would not fit is in a bucket even where the vocabulary is full of more frequent values.
    assert vocabulary_of(rows, max_size=1, buckets=1).counts.sum(axis=1).tolist() == [1, 0, 2, 3]


def test_values_of_equal_count_stand_in_the_order_of_their_bytes() -> None:
    values = [b"\xff", b"b", b"B", b"ab", b"a", "é".encode(), b"\x80", b"a\x01", b"a longer value"]
    found = vocabulary_of(plain_rows(values)).values.to_pylist()
    assert found == [b"B", b"a", b"a\x01", b"a longer value", b"ab", b"b", b"\x80", "é".encode(), b"\xff"]


def test_min_count_looks_at_rows_of_all_folds_and_not_at_weights() -> None:
    rows = [(b"a", 1, 0, 0.0), (b"a", 2, 0, 0.25), (b"b", 3, 0, 9.0), (b"", 3, 0, 1.0)]
    vocabulary = Vocabulary.from_table(built([rows], min_count=2, weighted=True))
    assert vocabulary.values.to_pylist() == [b"a"] and vocabulary.weights is not None
    assert vocabulary.weights.sum(axis=1).tolist() == [1.0, 0.0, 0.25]
    # The missing value is never rare.
    assert vocabulary_of(rows, min_count=5).counts.sum(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize("buckets", [0, 2])
@pytest.mark.parametrize("ranges", [[], [[]], [plain_rows([b""])]])
def test_vocabulary_of_nothing(ranges: list[Rows], buckets: int) -> None:
    vocabulary = Vocabulary.from_table(built(ranges, buckets=buckets))
    assert vocabulary.ids == 2 + buckets and vocabulary.values.type == pa.binary() and len(vocabulary.values) == 0
    assert vocabulary.counts.shape == (2 + buckets, FOLDS) and vocabulary.kept(1) == 0
    assert vocabulary.counts.sum() == sum(map(len, ranges))


@pytest.mark.parametrize("buckets", [0, 5])
@pytest.mark.parametrize("min_count", [1, 2, 3, 4, 10**9])
def test_kept_is_what_a_smaller_vocabulary_would_hold(min_count: int, buckets: int) -> None:
    rows = random_rows()
    whole, smaller = vocabulary_of(rows, buckets=buckets), vocabulary_of(rows, min_count, buckets=buckets)
    kept = whole.kept(min_count)
    assert kept == len(smaller.values)
    assert whole.values.to_pylist()[:kept] == smaller.values.to_pylist()
    np.testing.assert_array_equal(whole.counts[: kept + FIRST_VALUE], smaller.counts[: kept + FIRST_VALUE])


def test_kept_of_full_buckets() -> None:
    vocabulary = vocabulary_of(plain_rows([b"a", b"a", b"b", b"c", b"d"]), max_size=1, buckets=1)
    assert vocabulary.counts.sum(axis=1).tolist() == [0, 0, 2, 3]
    assert [vocabulary.kept(count) for count in (1, 2, 3)] == [1, 1, 0]


@settings(deadline=None, max_examples=50)
@given(ROWS, st.fixed_dictionaries(LIMITS))
def test_table_round_trip_through_parquet(rows: Rows, limits: dict[str, int]) -> None:
    file = io.BytesIO()
    pq.write_table(built([rows], **limits), file, compression="zstd")  # type: ignore[arg-type]
    back = pq.read_table(io.BytesIO(file.getvalue()))
    assert_is(Vocabulary.from_table(back), rows, **limits)  # type: ignore[arg-type]
    assert stored_values(back["value"]).to_pylist() == by_hand(rows, limits["min_count"], limits["max_size"], 0)[0]


def test_table_is_as_documented() -> None:
    rows = [(b"b", 0, 1, 2.0), (b"b", 9, 0, 0.5), (b"", 4, 1, 1.0), (b"a", 2, 1, 3.0)]
    table = built([rows], min_count=2, buckets=1, weighted=True)
    names = ("count", "clicks", "weight", "click_weight")
    assert table.column_names == ["value", *(f"{name}_{fold}" for name in names for fold in range(10))]
    assert table["value"].to_pylist() == [None, b"b", None]
    assert table["count_0"].to_pylist() == [0, 1, 0] and table["count_4"].to_pylist() == [1, 0, 0]
    assert table["clicks_0"].to_pylist() == [0, 1, 0] and table["clicks_2"].to_pylist() == [0, 0, 1]
    assert table["weight_9"].to_pylist() == [0, 0.5, 0] and table["click_weight_2"].to_pylist() == [0, 0, 3]
    assert table["click_weight_9"].to_pylist() == [0, 0, 0]
    assert {str(table.schema.field(name).type) for name in table.column_names} == {"binary", "int32", "double"}


def test_sums_beyond_32_bits_are_stored() -> None:
    many = CellCounts(
        pa.array([b"a", b""], pa.binary()),
        np.array([0, 1], np.int32),
        np.array([3, 4], np.uint8),
        np.array([[2**31, 2**31 - 1], [5, 2]], np.int64),
    )
    builder = VocabularyBuilder(1, 10, 0, False)
    builder.add(many)
    table = pa.concat_tables(builder.tables())
    assert table["count_3"].to_pylist() == [0, 2**31] and table.schema.field("count_3").type == pa.int64()
    assert Vocabulary.from_table(table).counts[MISSING].sum() == 5


def test_no_more_is_held_than_twice_what_is_kept() -> None:
    builder, rows = VocabularyBuilder(1, 10, 0, False), plain_rows([b"%04d" % n for n in range(1000)])
    for part in divided(counted(rows, False), 100):
        builder.add(CellCounts.of([part], False))
        assert len(builder._held) <= 20
    assert Vocabulary.from_table(pa.concat_tables(builder.tables())).values[0].as_py() == b"0000"

"""Counts of values by fold against pandas and Python's Counter; sums beyond what float64 holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.counts import CellCounts, choose, count_values, counts_schema, exact_sums, fixed_weights
from features.hashing import FOLDS

Rows = list[tuple[bytes, int, int, float]]
Sums = dict[tuple[bytes, int], tuple[int, ...]]
VALUES = [b"", b"a", b"A", b"ffffffff", "é".encode(), b"\xff", b"longer than eight", b"longer than eighty", b"a\0"]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(VALUES),
        st.integers(0, 9),
        st.integers(0, 1),
        st.sampled_from([0.0, 0.25, 1.0, 3.5, 65536.0]),
    ),
    max_size=60,
)


def encoded(values: Sequence[bytes], unused: Sequence[bytes] = ()) -> pa.DictionaryArray:
    distinct = pa.array(list(dict.fromkeys([*unused, *values])), pa.binary())
    codes = [distinct.to_pylist().index(value) for value in values]
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), distinct)


def counted(rows: Rows, weighted: bool = False, unused: Sequence[bytes] = ()) -> pa.Table:
    folds, labels = (np.array([row[index] for row in rows], np.uint8) for index in (1, 2))
    weights = np.array([row[3] for row in rows], np.float32) if weighted else None
    return count_values(encoded([row[0] for row in rows], unused), folds, labels, weights)


def by_pandas(rows: Rows, weighted: bool) -> Sums:
    """Sums by value and fold; weights in units of 2^-20."""
    frame = pd.DataFrame(rows, columns=["value", "fold", "label", "weight"])
    frame["click_weight"] = frame["weight"] * frame["label"]
    groups = frame.groupby(["value", "fold"])
    sums = groups.agg(count=("label", "size"), clicks=("label", "sum"), w=("weight", "sum"), c=("click_weight", "sum"))
    unit = 1048576
    return {
        key: (int(row["count"]), int(row["clicks"]), *([row["w"] * unit, row["c"] * unit] if weighted else []))
        for key, row in sums.iterrows()
    }


def of_table(table: pa.Table) -> Sums:
    sums = {(row["value"], row["fold"]): tuple(list(row.values())[2:]) for row in table.to_pylist()}
    assert len(sums) == len(table), "a row for each value and fold"
    return sums


def of_cells(cells: CellCounts) -> Sums:
    values = cells.values.to_pylist()
    assert len(set(values)) == len(values)
    keys = [(values[number], fold) for number, fold in zip(cells.numbers.tolist(), cells.folds.tolist(), strict=True)]
    assert len(set(keys)) == len(keys)
    assert cells.numbers.dtype == np.int32 and cells.folds.dtype == np.uint8 and cells.sums.dtype == np.int64
    return dict(zip(keys, map(tuple, cells.sums.tolist()), strict=True))


@settings(deadline=None)
@given(ROWS, st.booleans(), st.lists(st.sampled_from(VALUES), max_size=3))
def test_counts_against_pandas(rows: Rows, weighted: bool, unused: list[bytes]) -> None:
    table = counted(rows, weighted, unused)
    assert table.schema == counts_schema(weighted)
    assert of_table(table) == by_pandas(rows, weighted)
    order = list(dict.fromkeys([*unused, *(row[0] for row in rows)]))
    places = [order.index(value) for value in table["value"].to_pylist()]
    assert places == sorted(places), "values in the order of the dictionary"


@pytest.mark.parametrize("weighted", [False, True])
def test_counts_of_no_rows(weighted: bool) -> None:
    assert counted([], weighted, unused=[b"a"]).equals(counts_schema(weighted).empty_table())


def test_columns_of_counts() -> None:
    assert counts_schema(False).names == ["value", "fold", "count", "clicks"]
    assert counts_schema(True).names == ["value", "fold", "count", "clicks", "weight", "click_weight"]


@pytest.mark.parametrize("code", [np.int8, np.int16, np.int32])
def test_codes_of_any_type_and_slices(code: type[np.signedinteger]) -> None:
    codes = pa.array(np.array([0, 1, 2, 1, 1, 0], code))
    column = pa.DictionaryArray.from_arrays(codes, pa.array([b"x", b"y", b"z"])).slice(1, 4)
    found = of_table(count_values(column, np.array([3, 3, 9, 3], np.uint8), np.array([1, 0, 1, 1], np.uint8)))
    assert found == {(b"y", 3): (2, 2), (b"y", 9): (1, 1), (b"z", 3): (1, 0)}


def test_weights_are_rounded_to_a_unit_of_two_to_the_minus_twenty() -> None:
    weights = np.array([0, 1, 0.5, 65536, 2.0**-20, 2.0**-22, 0.1], np.float32)
    # 0.1 in float32 is 0.100000001490116, which is 104857.6 units.
    assert fixed_weights(weights).tolist() == [0, 1 << 20, 1 << 19, 1 << 36, 1, 0, 104858]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**58)), max_size=30))
def test_sums_are_exact_beyond_float64(pairs: list[tuple[int, int]]) -> None:
    expected = Counter[int]()
    for cell, addend in pairs:
        expected[cell] += addend
    cells, addends = np.array([cell for cell, _ in pairs], np.int64), np.array([x for _, x in pairs], np.int64)
    found = exact_sums(cells, addends, 5)
    assert found.dtype == np.int64 and found.tolist() == [expected[cell] for cell in range(5)]


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(st.one_of(st.binary(max_size=4), st.binary(min_size=7, max_size=10)), st.integers(1, 6)),
    st.integers(1, 7),
    st.integers(1, 12),
)
def test_choose_against_sorting(totals: dict[bytes, int], min_count: int, max_size: int) -> None:
    values = list(totals)
    array = pa.array(values, pa.binary())
    chosen = choose(np.array([*totals.values()], np.int64), array, min_count, max_size)
    ranked = sorted((value for value in values if totals[value] >= min_count), key=lambda v: (-totals[v], v))
    assert [values[place] for place in chosen] == ranked[:max_size]


def test_choose_among_many_ties() -> None:
    rng = np.random.default_rng(0)
    values = [b"%05d" % value for value in rng.permutation(20_000)]
    totals = rng.choice([1, 2, 50], 20_000, p=[0.7, 0.29, 0.01])
    ranked = sorted(range(20_000), key=lambda place: (-totals[place], values[place]))
    for size in (1, 100, 300, 5000, 6100, 19_999, 20_000, 30_000):
        assert choose(totals, pa.array(values), 1, size).tolist() == ranked[:size]


@settings(deadline=None)
@given(ROWS, st.booleans(), st.lists(st.integers(0, 60), max_size=4))
def test_tables_put_together_are_those_of_all_rows(rows: Rows, weighted: bool, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(rows)]
    parts = [counted(rows[start:end], weighted) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    cells = CellCounts.of(parts, weighted)
    assert of_cells(cells) == by_pandas(rows, weighted)
    assert cells.sums.shape[1] == (4 if weighted else 2)
    totals = Counter(row[0] for row in rows)
    assert dict(zip(cells.values.to_pylist(), cells.rows().tolist(), strict=True)) == totals
    other = CellCounts.of(parts[::-1], weighted)
    assert other.values.equals(cells.values) and other.sums.tolist() == cells.sums.tolist()


@settings(deadline=None)
@given(ROWS, st.data())
def test_take_and_join(rows: Rows, data: st.DataObject) -> None:
    cells, sums = CellCounts.of([counted(rows)], False), by_pandas(rows, False)
    values = cells.values.to_pylist()
    order = data.draw(st.permutations(range(len(values))))
    cut = data.draw(st.integers(0, len(values)))
    first, second = (cells.take(np.array(part, np.int64)) for part in (order[:cut], order[cut:]))
    assert first.values.to_pylist() == [values[place] for place in order[:cut]]
    assert of_cells(first) == {key: found for key, found in sums.items() if key[0] in first.values.to_pylist()}
    joined = CellCounts.join([first, second])
    assert joined.values.to_pylist() == [values[place] for place in order]
    assert of_cells(joined) == sums


@settings(deadline=None)
@given(ROWS, st.integers(1, 10))
def test_pieces_are_the_values_in_order(rows: Rows, size: int) -> None:
    cells = CellCounts.of([counted(rows)], False)
    mixed = cells.take(np.arange(len(cells))[::-1])
    pieces = list(mixed.pieces(size))
    assert [value for piece in pieces for value in piece.values.to_pylist()] == mixed.values.to_pylist()
    assert all(len(piece) == size for piece in pieces[:-1])
    assert {key: sums for piece in pieces for key, sums in of_cells(piece).items()} == of_cells(cells)


def test_sums_by_place() -> None:
    rows = [(b"a", 0, 1, 1.0), (b"b", 0, 0, 1.0), (b"c", 9, 1, 1.0), (b"a", 0, 0, 1.0), (b"d", 5, 1, 1.0)]
    cells = CellCounts.of([counted(rows, weighted=True)], True)
    place = {b"a": 1, b"b": 1, b"c": 0, b"d": -1}
    sums = cells.by_place(np.array([place[value] for value in cells.values.to_pylist()]), 3)
    expected = np.zeros((3, FOLDS, 4), np.int64)
    expected[1, 0] = [3, 1, 3 << 20, 1 << 20]
    expected[0, 9] = [1, 1, 1 << 20, 1 << 20]
    assert sums.dtype == np.int64 and sums.tolist() == expected.tolist()


def test_nothing() -> None:
    cells = CellCounts.of([], True)
    assert len(cells) == 0 and cells.rows().tolist() == [] and list(cells.pieces(5)) == []
    assert cells.by_place(np.empty(0, np.int32), 2).shape == (2, FOLDS, 4)


def test_rows_of_many_ranges_do_not_overflow() -> None:
    most = 2**31 - 1
    columns = [pa.array([b"a"], pa.binary()), pa.array([3], pa.uint8())]
    table = pa.table([*columns, *[pa.array([most])] * 2], names=counts_schema(False).names).cast(counts_schema(False))
    cells = CellCounts.of([table] * 5, False)
    assert cells.sums.tolist() == [[5 * most] * 2] and cells.rows().tolist() == [5 * most]

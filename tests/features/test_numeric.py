"""Numeric transforms and their statistics against the standard library, NumPy and pandas in float64."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.logarithms import inverse_signed_log, signed_log
from features.numeric import BUCKETS, NumericColumn, NumericStatistics, standardise
from features.schema import LINEAR, LOG, QUANTILE, SQUARED_LOG, TRANSFORMS

HUGE = float(np.float32(3e38))
LARGEST = float(np.finfo(np.float32).max)
NAN = math.nan
VALUES = st.one_of(
    st.just(NAN),
    st.integers(-5, 1000).map(float),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([HUGE, -HUGE, LARGEST, -LARGEST, 0.0, -0.0, 1.401298464324817e-45]),
)
TABLES = hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(2)), elements=VALUES)


def gathered(*parts: np.ndarray, transform: str = LOG) -> NumericStatistics:
    """The statistics of rows, each counted once."""
    statistics = NumericStatistics([transform] * parts[0].shape[1])
    for part in parts:
        for index, values in enumerate(part.T):
            statistics.update(index, values, np.ones(len(values), np.int64))
    return statistics


def column_of(values: Sequence[float], transform: str = LOG) -> NumericColumn:
    table = np.array(values, np.float32)[:, np.newaxis]
    (column,) = gathered(table, transform=transform).columns(["x"])
    return column


def random_table(rows: int = 3000, seed: int = 0) -> np.ndarray:
    """Counts with a heavy tail, signed floats, and a column that is mostly missing."""
    rng = np.random.default_rng(seed)
    table = np.stack([rng.pareto(0.7, rows).round(), rng.normal(-3, 40, rows), rng.integers(-2, 9, rows)], axis=1)
    table[rng.random(table.shape) < [0.1, 0.3, 0.95]] = np.nan
    return table.astype(np.float32)


def t(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


def test_statistics_against_pandas() -> None:
    table = random_table()
    logs = pd.DataFrame(table.astype(np.float64)).map(t)
    for index, column in enumerate(gathered(table).columns(["a", "b", "c"])):
        assert column.name == "abc"[index]
        assert column.mean == pytest.approx(logs[index].mean(), abs=1e-9)
        assert column.std == pytest.approx(logs[index].std(ddof=0), rel=1e-7)
        assert column.missing == logs[index].isna().sum()


def test_standardise_against_float64_pandas() -> None:
    table = random_table()
    columns = gathered(table).columns(["a", "b", "c"])
    logs = pd.DataFrame(table.astype(np.float64)).map(t)
    expected = (logs - logs.mean()) / logs.std(ddof=0)
    found = standardise(table, columns)
    assert found.dtype == np.float32 and found.shape == table.shape
    np.testing.assert_allclose(found, expected.to_numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(table))
    np.testing.assert_allclose(np.nanmean(found.astype(np.float64), axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(found.astype(np.float64), axis=0), 1, atol=1e-6)


def test_standardise_rounds_once() -> None:
    column = NumericColumn("x", LOG, 1.25, 0.3, 0, ())
    values = [0.0, 3.0, -8.0, NAN, 123456.0, HUGE]
    expected = [np.float32((t(value) - 1.25) / 0.3) for value in values]
    found = standardise(np.array(values, np.float32)[:, np.newaxis], [column])[:, 0]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert standardise(np.empty((0, 1), np.float32), [column]).shape == (0, 1)


@settings(deadline=None, max_examples=50)
@given(TABLES)
def test_sums_are_fixed_point_integers(table: np.ndarray) -> None:
    for index, found in enumerate(gathered(table).to_json()):
        logs = [t(value) for value in table[:, index].tolist() if not math.isnan(value)]
        # The logarithms of two libraries may round to neighbouring integers: one unit a row, two for squares of 89.
        assert abs(found["total"] - sum(round(log * 2**32) for log in logs)) <= len(logs)
        assert abs(found["squares"] - sum(round(log * log * 2**32) for log in logs)) <= 2 * len(logs)
        assert (sum(found["cells"][1]), found["missing"]) == (len(logs), len(table) - len(logs))


@settings(deadline=None)
@given(TABLES, st.lists(st.integers(0, 40), max_size=4), st.booleans(), st.sampled_from(TRANSFORMS))
@example(random_table(300)[:, :2], [17, 100], False, LOG)
def test_any_division_gives_exactly_the_same(table: np.ndarray, cuts: list[int], merge: bool, transform: str) -> None:
    whole = gathered(table, transform=transform)
    parts = np.split(table, sorted(cuts))
    if merge:
        other = NumericStatistics([transform] * 2)
        for part in parts[::-1]:
            other.merge(gathered(part, transform=transform))
    else:
        other = gathered(*parts[::-1], transform=transform)
    assert other.to_json() == whole.to_json()
    assert other.columns("ab") == whole.columns("ab")


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_order_of_the_rows_does_not_matter(transform: str) -> None:
    table = random_table()
    shuffled = table[np.random.default_rng(1).permutation(len(table))]
    assert gathered(shuffled, transform=transform).to_json() == gathered(table, transform=transform).to_json()


@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, st.integers(0, 5)), max_size=40), st.sampled_from(TRANSFORMS))
def test_counts_stand_for_rows(items: list[tuple[float, int]], transform: str) -> None:
    statistics = NumericStatistics([transform])
    statistics.update(0, np.array([item[0] for item in items], np.float32), np.array([item[1] for item in items], int))
    rows = np.array([value for value, count in items for _ in range(count)], np.float32)
    assert statistics.to_json() == gathered(rows[:, np.newaxis], transform=transform).to_json()


def test_columns_have_their_own_transforms() -> None:
    table = random_table()
    statistics = NumericStatistics([SQUARED_LOG, LINEAR, QUANTILE])
    for index in (2, 0, 1):
        statistics.update(index, table[:, index], np.ones(len(table), np.int64))
    columns = statistics.columns("abc")
    assert [column.transform for column in columns] == [SQUARED_LOG, LINEAR, QUANTILE]
    for index, (column, name) in enumerate(zip(columns, "abc", strict=True)):
        alone = gathered(table[:, [index]], transform=column.transform).columns([name])
        assert alone == (column,)
        np.testing.assert_array_equal(standardise(table, columns)[:, index], column.standardised(table[:, index]))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_many_rows_of_the_largest_values_do_not_overflow(transform: str) -> None:
    values, counts = np.array([LARGEST, -LARGEST, NAN], np.float32), np.array([2**40, 2**40, 2**41])
    statistics = NumericStatistics([transform])
    statistics.update(0, values, counts)
    (column,) = statistics.columns(["x"])
    assert column.missing == 2**41
    low, high = column.transformed(values)[[1, 0]].tolist()
    assert column.mean == pytest.approx((low + high) / 2, abs=1e-6)
    assert column.std == pytest.approx((high - low) / 2, rel=1e-9)
    np.testing.assert_allclose(column.standardised(values), [1, -1, NAN], rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(TABLES, st.sampled_from(TRANSFORMS))
def test_json_round_trip(table: np.ndarray, transform: str) -> None:
    statistics = gathered(table, transform=transform)
    written = json.dumps(statistics.to_json())
    back = NumericStatistics.from_json(json.loads(written))
    assert back.columns("ab") == statistics.columns("ab") and json.dumps(back.to_json()) == written
    back.merge(statistics)
    assert back.to_json() == gathered(table, table, transform=transform).to_json()
    assert json.dumps(statistics.to_json()) == written
    for column in statistics.columns("ab"):
        assert NumericColumn.from_json(json.loads(json.dumps(column.to_json()))) == column


# 3.65e36 and 7.38e32: with a bound on the variance that ignored the mean, rounding passed for a deviation of 1e-4.
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 5.0, 123456789.0, -1e18, 7.378746e32, 3.651054e36, HUGE, -LARGEST])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_constant_column(value: float, rows: int) -> None:
    column = column_of([value] * rows)
    assert column.std == 1.0 and column.missing == 0 and column.edges == ()
    assert column.mean == pytest.approx(t(float(np.float32(value))), abs=2**-33 + 1e-14)
    found = standardise(np.array([[value], [NAN]], np.float32), [column])
    assert found[0, 0] == pytest.approx(0, abs=1e-9) and np.isnan(found[1, 0])


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(1, 50))
def test_a_constant_column_never_has_a_deviation(value: float, rows: int) -> None:
    assert column_of([value] * rows).std == 1.0


def test_constant_column_with_missing_values() -> None:
    column = column_of([3.0, NAN, 3.0, NAN, NAN])
    assert (column.std, column.missing, column.edges) == (1.0, 3, ())
    assert column.mean == pytest.approx(math.log(4), abs=1e-9)


def test_a_flag_that_is_hardly_ever_set_is_not_constant() -> None:
    column = column_of([0.0] * 99_999 + [1.0])
    assert column.std == pytest.approx(math.log(2) * math.sqrt(1e-5 * (1 - 1e-5)), rel=1e-4)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("values", [[], [NAN], [NAN] * 50])
def test_column_without_values(values: list[float], transform: str) -> None:
    column = column_of(values, transform)
    assert column == NumericColumn("x", transform, 0.0, 1.0, len(values), ())
    assert column.standardised(np.array([NAN, 2], np.float32)).shape == (2,)


@pytest.mark.parametrize("transform", TRANSFORMS[1:])
@pytest.mark.parametrize("value", [0.0, -1.0, 5.0, 123456789.0, -1e18, 3.651054e36, LARGEST, -LARGEST])
def test_constant_column_of_the_other_transforms(value: float, transform: str) -> None:
    column = column_of([value] * 7 + [NAN], transform)
    assert (column.std, column.missing, column.edges, column.cuts) == (1.0, 1, (), ())
    np.testing.assert_array_equal(column.standardised(np.array([value, NAN], np.float32)), [0, NAN])


def test_negative_values_by_hand() -> None:
    column = column_of([-1.0, 1.0, -3.0, 3.0])
    assert column.mean == pytest.approx(0, abs=1e-9)
    # t is -+log 2 and -+log 4, so the mean square is (1 + 4) / 2 log(2)^2.
    assert column.std == pytest.approx(math.sqrt(2.5) * math.log(2), rel=1e-8)
    # Three cuts between four values, each within a cell (1/32) above the value below.
    for edge, below in zip(column.edges, [-math.log(4), -math.log(2), math.log(2)], strict=True):
        assert below < edge <= below + 1 / 32


def test_huge_values_stay_finite() -> None:
    column = column_of([HUGE, -HUGE, LARGEST, -LARGEST, 0.0])
    assert math.isfinite(column.mean) and math.isfinite(column.std) and column.std > 50
    found = standardise(np.array([[LARGEST], [-LARGEST]], np.float32), [column])
    assert np.isfinite(found).all() and found[0, 0] > 1 and found[1, 0] < -1
    assert np.isfinite(column.standardised_edges()).all()


def check_edges(values: np.ndarray) -> np.ndarray:
    """The promises about buckets; returns the rows of each bucket."""
    logs = np.sort(signed_log(values[~np.isnan(values)]))
    edges = np.array(column_of(values.tolist()).edges)
    assert len(edges) <= BUCKETS - 1 == 39
    assert (np.diff(edges) > 0).all()
    if len(edges):
        assert logs[0] < edges[0] and edges[-1] < logs[-1]
    counts: np.ndarray = np.bincount(np.searchsorted(edges, logs, side="right"), minlength=len(edges) + 1)
    assert (counts > 0).all() or not len(logs)
    return counts


@settings(deadline=None)
@given(
    st.one_of(
        st.lists(VALUES, max_size=60),
        st.lists(st.integers(0, 300).map(float), max_size=300),
        st.lists(st.floats(-2, 2, width=32), max_size=100),
    ).map(lambda values: np.array(values, np.float32))
)
def test_edges_lie_inside_the_data_and_no_bucket_is_empty(values: np.ndarray) -> None:
    check_edges(values)


def test_buckets_of_smooth_data_hold_about_a_fortieth_each() -> None:
    counts = check_edges(np.random.default_rng(0).lognormal(5, 4, 40_000).astype(np.float32))
    assert len(counts) == 40
    # A cell is 1/32 wide; at its mode the density of t is 0.1, so it holds 125 rows.
    assert counts.min() > 1000 - 300 and counts.max() < 1000 + 300


def test_few_values_get_a_bucket_each() -> None:
    counts = check_edges(np.repeat(np.arange(10, dtype=np.float32), [50, 5, 8, 30, 40, 9, 30, 30, 5, 6]))
    # 213 rows, so a quantile every 5.3 of them: only the values with 5 rows may share a bucket with the next one.
    assert counts.tolist() in ([50, 5, 8, 30, 40, 9, 30, 30, 5, 6], [50, 5, 8, 30, 40, 9, 30, 30, 11])


def test_small_integers_lie_well_off_the_grid() -> None:
    """So that training and serving, which may differ in the last bit of a float32, agree on their buckets."""
    lines = (np.arange(-2 * 32, 10 * 32) + 0.5) / 32
    logs = signed_log(np.arange(-2, 10_000, dtype=np.float32))
    assert np.abs(logs[:, np.newaxis] - lines).min() > 1e-6


def test_standardised_edges() -> None:
    column = NumericColumn("x", LOG, 1.5, 0.5, 0, (1.015625, 2.015625))
    found = column.standardised_edges()
    assert found.dtype == np.float32 and found.tolist() == [-0.96875, 1.03125]
    assert NumericColumn("x", LOG, 0.0, 1.0, 0, ()).standardised_edges().shape == (0,)


def test_linear_by_hand() -> None:
    column = column_of([1.0, 2.0, 3.0, 4.0, NAN], LINEAR)
    assert (column.mean, column.std, column.missing) == (2.5, math.sqrt(1.25), 1)
    found = column.standardised(np.array([[4.0, NAN], [2.5, -1e30]], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[1.5 / math.sqrt(1.25), NAN], [0, -1e30 / math.sqrt(1.25)]], rtol=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=40))
def test_linear_moments_against_fractions(values: list[float]) -> None:
    column = column_of(values, LINEAR)
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / len(exact)
    assert column.mean == float(mean)
    assert column.std == pytest.approx(math.sqrt(variance) if variance else 1, rel=1e-15)
    assert np.isfinite(column.standardised(np.array([*values, LARGEST, -LARGEST], np.float32))).all()


def test_linear_has_the_edges_of_the_logarithm_as_raw_numbers() -> None:
    values = random_table()[:, 1].tolist()
    edges = inverse_signed_log(np.array(column_of(values).edges))
    assert column_of(values, LINEAR).edges == tuple(edges.tolist()) and len(edges) == 39


def test_squared_log_by_hand() -> None:
    # t is 1, 5, 21, 2, -1.
    column = column_of([3.0, 10.0, 100.0, 2.0, -1.0, NAN], SQUARED_LOG)
    assert column.mean == 5.6 and column.missing == 1
    assert column.std == pytest.approx(math.sqrt((1 + 25 + 441 + 4 + 1) / 5 - 5.6**2), rel=1e-15)
    assert column.edges == tuple(k + 0.5 for k in range(-1, 21)) and column.cuts == ()
    found = column.standardised(np.array([1000, NAN], np.float32))
    assert found[0] == np.float32((47 - 5.6) / column.std) and np.isnan(found[1])


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([-1002.0, -998.0], [-999.5, -998.5]),
        ([-1e30, -5e8], []),
        ([2.5], []),
        ([2.5, 3.0], [0.5]),
    ],
)
def test_squared_logs_below_a_thousand_share_a_bucket(values: list[float], edges: list[float]) -> None:
    assert column_of(values, SQUARED_LOG).edges == tuple(edges)


def test_each_squared_log_is_a_bucket_of_its_own_after_standardisation() -> None:
    column = column_of([-999.0, LARGEST], SQUARED_LOG)
    assert len(column.edges) == 7871 + 999
    values = np.concatenate([np.arange(-999, 3), np.exp(np.sqrt(np.arange(3.01, 7871)))]).astype(np.float32)
    buckets = np.searchsorted(column.standardised_edges(), column.standardised(values), side="right")
    np.testing.assert_array_equal(buckets, np.arange(7870 + 1000))


def test_quantile_by_hand() -> None:
    # A fortieth of five rows is less than a row, so there is a cut above each value but the last.
    column = column_of([0.0, 0.0, 1.0, 5.0, 9.0, NAN], QUANTILE)
    assert column.edges == (0.5, 1.5, 2.5) and column.missing == 1
    for cut, value in zip(column.cuts, [0, 1, 5], strict=True):
        assert math.log1p(value) < math.log1p(cut) <= math.log1p(value) + 1 / 32
    # t is 0, 0, 1, 2, 3.
    assert column.mean == 1.2 and column.std == pytest.approx(math.sqrt(14 / 5 - 1.44), rel=1e-15)
    found = column.transformed(np.array([-1e30, 0, 0.9, 1, 4, 5, 1e30, NAN], np.float32))
    np.testing.assert_array_equal(found, [0, 0, 1, 1, 2, 2, 3, NAN])


@settings(deadline=None)
@given(st.lists(VALUES, max_size=60).map(lambda values: np.array(values, np.float32)))
def test_quantiles_against_their_own_rows(values: np.ndarray) -> None:
    column = column_of(values.tolist(), QUANTILE)
    t = column.transformed(values)
    present = t[~np.isnan(values)]
    np.testing.assert_array_equal(np.isnan(t), np.isnan(values))
    assert column.edges == tuple(k + 0.5 for k in range(len(column.cuts)))
    if len(present):
        np.testing.assert_array_equal(np.unique(present), np.arange(len(column.cuts) + 1))
        assert column.mean == pytest.approx(present.mean(), rel=1e-12)
        assert column.std == pytest.approx(present.std() or 1, rel=1e-12)


def test_no_float32_lies_on_a_grid_line() -> None:
    """So that a raw number compared with a cut always falls on the side of its grid cell."""
    lines = (np.arange(-89 * 32, 89 * 32) + 0.5) / 32
    raw = inverse_signed_log(lines)
    near = raw[np.abs(raw) < LARGEST].astype(np.float32)
    with np.errstate(over="ignore"):
        beside = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    logs = signed_log(np.stack(beside))
    assert np.abs(logs - lines[np.abs(raw) < LARGEST]).min() > 1e-12


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_standardised_values_are_finite_even_far_from_the_training_rows(transform: str) -> None:
    column = column_of([0.0, 1e-30, NAN], transform)
    found = column.standardised(np.array([LARGEST, -LARGEST, np.inf, -np.inf], np.float32))
    assert np.isfinite(found).all()

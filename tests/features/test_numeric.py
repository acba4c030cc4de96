"""The numeric transform and its statistics against the standard library, NumPy and pandas in float64."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.numeric import BUCKETS, NumericColumn, NumericStatistics, signed_log, standardise

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


def gathered(*parts: np.ndarray) -> NumericStatistics:
    statistics = NumericStatistics(parts[0].shape[1])
    for part in parts:
        statistics.update(part)
    return statistics


def column_of(values: Sequence[float]) -> NumericColumn:
    (column,) = gathered(np.array(values, np.float32)[:, np.newaxis]).columns(["x"])
    return column


def random_table(rows: int = 3000, seed: int = 0) -> np.ndarray:
    """Counts with a heavy tail, signed floats, and a column that is mostly missing."""
    rng = np.random.default_rng(seed)
    table = np.stack([rng.pareto(0.7, rows).round(), rng.normal(-3, 40, rows), rng.integers(-2, 9, rows)], axis=1)
    table[rng.random(table.shape) < [0.1, 0.3, 0.95]] = np.nan
    return table.astype(np.float32)


def t(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, 0.0),
        (1.0, 0.6931471805599453),
        (-1.0, -0.6931471805599453),
        (99.0, 4.605170185988092),
        (-7.0, -2.0794415416798357),
        (16777216.0, 16.635532393043330),
        (LARGEST, 88.72283905206835),
    ],
)
def test_signed_log_by_hand(value: float, expected: float) -> None:
    found = signed_log(np.array([value], np.float32))
    assert found.dtype == np.float64 and found[0] == pytest.approx(expected, rel=1e-15)


@settings(deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2), elements=VALUES))
def test_signed_log_is_odd_keeps_nan_and_agrees_with_the_standard_library(values: np.ndarray) -> None:
    found = signed_log(values)
    expected = np.array([t(value) for value in values.ravel().tolist()]).reshape(values.shape)
    np.testing.assert_allclose(found, expected, rtol=3e-16, atol=0)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    np.testing.assert_array_equal(signed_log(-values), -found)


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
    column = NumericColumn("x", 1.25, 0.3, 0, ())
    values = [0.0, 3.0, -8.0, NAN, 123456.0, HUGE]
    expected = [np.float32((t(value) - 1.25) / 0.3) for value in values]
    found = standardise(np.array(values, np.float32)[:, np.newaxis], [column])[:, 0]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert standardise(np.empty((0, 1), np.float32), [column]).shape == (0, 1)


@settings(deadline=None, max_examples=50)
@given(TABLES)
def test_sums_are_fixed_point_integers(table: np.ndarray) -> None:
    statistics = gathered(table)
    assert statistics.rows == len(table)
    for index in range(2):
        logs = [t(value) for value in table[:, index].tolist() if not math.isnan(value)]
        # The logarithms of two libraries may round to neighbouring integers: one unit a row, two for squares of 89.
        assert abs(statistics.sums[index] - sum(round(log * 2**32) for log in logs)) <= len(logs)
        assert abs(statistics.squares[index] - sum(round(log * log * 2**32) for log in logs)) <= 2 * len(logs)
        assert statistics.cells[index].sum() == len(logs)


@settings(deadline=None)
@given(TABLES, st.lists(st.integers(0, 40), max_size=4), st.booleans())
@example(random_table(300)[:, :2], [17, 100], False)
def test_any_division_gives_exactly_the_same(table: np.ndarray, cuts: list[int], merge: bool) -> None:
    whole = gathered(table)
    parts = np.split(table, sorted(cuts))
    if merge:
        other = NumericStatistics(2)
        for part in parts[::-1]:
            other.merge(gathered(part))
    else:
        other = gathered(*parts[::-1])
    assert other.to_json() == whole.to_json()
    assert other.columns("ab") == whole.columns("ab")


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = random_table()
    assert gathered(table[np.random.default_rng(1).permutation(len(table))]).to_json() == gathered(table).to_json()


def test_sums_of_many_of_the_largest_values_do_not_overflow() -> None:
    rows = 300_000
    statistics = gathered(np.full((rows, 1), LARGEST, np.float32))
    log = math.log1p(LARGEST)
    assert statistics.sums[0] == pytest.approx(rows * log * 2**32, rel=1e-12)
    assert statistics.squares[0] == pytest.approx(rows * log * log * 2**32, rel=1e-12)
    assert statistics.squares[0] > 2**63


@settings(deadline=None, max_examples=50)
@given(TABLES)
def test_json_round_trip(table: np.ndarray) -> None:
    statistics = gathered(table)
    back = NumericStatistics.from_json(json.loads(json.dumps(statistics.to_json())))
    assert back.to_json() == statistics.to_json() and back.columns("ab") == statistics.columns("ab")
    np.testing.assert_array_equal(back.cells, statistics.cells)
    back.merge(statistics)
    assert back.rows == 2 * len(table) and statistics.rows == len(table)
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


@pytest.mark.parametrize("values", [[], [NAN], [NAN] * 50])
def test_column_without_values(values: list[float]) -> None:
    assert column_of(values) == NumericColumn("x", 0.0, 1.0, len(values), ())


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
    column = NumericColumn("x", 1.5, 0.5, 0, (1.015625, 2.015625))
    found = column.standardised_edges()
    assert found.dtype == np.float32 and found.tolist() == [-0.96875, 1.03125]
    assert NumericColumn("x", 0.0, 1.0, 0, ()).standardised_edges().shape == (0,)

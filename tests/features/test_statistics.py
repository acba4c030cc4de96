"""Click statistics: formulas by hand, and what a row's own fold, or a later time, can and cannot change."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ConfigError
from features.hashing import FOLDS
from features.statistics import NO_FOLD, SEEN, ClickCounts, ClickStatistics, earlier, leave_out, prior_rates
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN, Vocabulary

COLUMNS = ("site", "app")


def random_log(rows: int = 500, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: [b"%x" % v if v else b"" for v in rng.zipf(1.5, rows) % 30] for name in COLUMNS})
    frame["fold"] = rng.integers(0, FOLDS, rows)
    frame["label"] = (rng.random(rows) < 0.3).astype(int)
    return frame


def counts_of(log: pd.DataFrame, vocabularies: list[pa.BinaryArray] | None = None) -> ClickCounts:
    """Counts of a log, with weights if it has a column ``weight``; with given vocabularies in their order."""
    orders = vocabularies or [by_count(log[name]) for name in COLUMNS]
    made = [vocabulary_of(log, name, values) for name, values in zip(COLUMNS, orders, strict=True)]
    clicks = by_fold(log, "label")
    if "weight" not in log:
        return ClickCounts.of(made, by_fold(log, "one"), clicks)
    return ClickCounts.of(made, by_fold(log, "one"), by_fold(log, "click_weight"), by_fold(log, "weight"))


def by_count(column: pd.Series) -> pa.BinaryArray:
    counts = column[column != b""].value_counts()
    return pa.array(sorted(counts.index, key=lambda value: (-counts[value], value)), pa.binary())


def by_fold(log: pd.DataFrame, name: str) -> list[float]:
    return sums(log, ["fold"], name).reindex(range(FOLDS), fill_value=0).tolist()


def sums(log: pd.DataFrame, by: list[str], name: str) -> pd.Series:
    weight = log["weight"] if "weight" in log else log["label"]
    return log.assign(one=1, click_weight=weight * log["label"]).groupby(by)[name].sum()


def vocabulary_of(log: pd.DataFrame, name: str, values: pa.BinaryArray) -> Vocabulary:
    # Vocabulary id 1 has no rows, like a value that does not occur.
    index = pd.Index([b"", b"no such value", *values.to_pylist()])

    def table(summed: str, dtype: type) -> np.ndarray:
        wide = sums(log, [name, "fold"], summed).unstack(fill_value=0)
        return wide.reindex(index=index, columns=range(FOLDS), fill_value=0).to_numpy(dtype)

    counts, clicks = table("one", np.int64), table("label", np.int64)
    if "weight" not in log:
        return Vocabulary(values, counts, clicks)
    return Vocabulary(values, counts, clicks, table("weight", np.float64), table("click_weight", np.float64))


def values_of(log: pd.DataFrame) -> list[pa.BinaryArray]:
    return [pa.array(sorted(set(log[name]) - {b""}), pa.binary()) for name in COLUMNS]


def small() -> ClickCounts:
    """One column; id 2 has 3 rows and 1 click in fold 0, and 5 rows and 4 clicks in fold 7."""
    counts, clicks = np.zeros((3, FOLDS), np.int64), np.zeros((3, FOLDS), np.int64)
    counts[2, 0], clicks[2, 0], counts[2, 7], clicks[2, 7] = 3, 1, 5, 4
    vocabulary = Vocabulary(pa.array([b"a"], pa.binary()), counts, clicks)
    return ClickCounts.of([vocabulary], [10] * FOLDS, [2] * 5 + [4] * 5)


def test_formulas_by_hand() -> None:
    found = small().statistics(10.0)
    assert found.values.dtype == np.float32 and found.values.shape == (3, FOLDS + 1, 2)
    assert found.log_odds.shape == found.log_count.shape == (3, FOLDS + 1)
    # 30 clicks in 100 rows. Without fold 0: 28 in 90; without fold 7: 26 in 90.
    without_0 = math.log((4 + 10 * 28 / 90) / (1 + 10 * 62 / 90))
    without_7 = math.log((1 + 10 * 26 / 90) / (2 + 10 * 64 / 90))
    mean = (3 * without_0 + 5 * without_7) / 8
    deviation = math.sqrt((3 * (without_0 - mean) ** 2 + 5 * (without_7 - mean) ** 2) / 8)
    odds = found.log_odds.astype(np.float64) * deviation + mean
    assert odds[2, 0] == pytest.approx(without_0, rel=1e-5)
    assert odds[2, 7] == pytest.approx(without_7, rel=1e-5)
    assert odds[2, 1] == pytest.approx(math.log((5 + 10 * 28 / 90) / (3 + 10 * 62 / 90)), rel=1e-5)
    assert odds[2, NO_FOLD] == pytest.approx(math.log((5 + 10 * 0.3) / (3 + 10 * 0.7)), rel=1e-5)
    # A value without rows has the log-odds of the base rate.
    assert odds[UNSEEN, NO_FOLD] == pytest.approx(math.log(3 / 7), rel=1e-5)
    assert odds[UNSEEN, 7] == pytest.approx(math.log(26 / 64), rel=1e-5)
    # Of 90 rows five are left without fold 0, three without fold 7: 50 / 9 and 30 / 9 in 100 rows.
    without_0, without_7 = math.log(1 + 50 / 9), math.log(1 + 30 / 9)
    mean = (3 * without_0 + 5 * without_7) / 8
    # Their deviation is below 1, which is the least.
    assert (without_0 - without_7) * math.sqrt(15) / 8 < 0.5
    count = found.log_count.astype(np.float64) + mean
    expected = [math.log(9), without_0, without_7, math.log(1 + 80 / 9)]
    np.testing.assert_allclose(count[2, [NO_FOLD, 0, 7, 1]], expected, rtol=1e-5)
    np.testing.assert_allclose(count[UNSEEN], 0, atol=1e-5)
    assert small().known().dtype == np.bool_ and small().known().tolist() == [False, False, True]
    assert small().base_rate() == 0.3


def test_a_value_of_one_fold_is_unknown_to_all() -> None:
    # Value 2 lies in the folds 0 and 7.
    for folds, known in (([], True), ([3], True), ([0], False), ([7], False), ([0, 7], False)):
        assert small().without(folds).known()[2] == known, folds
    # Of the rows of one fold, a single one or many, nothing is known in another fold or without one.
    counts, clicks = np.zeros((2, 5, FOLDS), np.int64)
    counts[2, 4], counts[3, 4], counts[4, [4, 5]] = 1, 10**6, 1
    one_fold = ClickCounts(np.array([0]), counts, clicks, counts.sum(axis=0), clicks.sum(axis=0))
    assert one_fold.known().tolist() == [False] * 4 + [True]


def test_a_deviation_has_a_floor_of_its_own_for_odds_and_counts() -> None:
    # A hundred values with one row a fold, one value with a hundred: both make up half of the rows.
    counts = np.ones((103, FOLDS), np.int64)
    counts[:2], counts[102] = 0, 100
    for clicks_of_102, smoothing, floored in ((90, 1.0, False), (31, 1e4, True)):
        clicks = np.zeros_like(counts)
        clicks[102] = clicks_of_102
        found = ClickCounts(np.array([0]), counts, clicks, counts.sum(axis=0), clicks.sum(axis=0)).statistics(smoothing)
        rate = clicks_of_102 / 200
        n, k = np.array([9, 900]), np.array([0, 9 * clicks_of_102])  # without any one fold
        odds = np.log((k + smoothing * rate) / (n - k + smoothing * (1 - rate)))
        # Of two halves, each lies one deviation away from the mean.
        deviation = (odds[1] - odds[0]) / 2
        assert (deviation < 0.1) == floored
        shown = deviation / 0.1 if floored else 1.0
        halves = np.array([[-1.0], [-1.0], [1.0]])
        own = found.log_odds[[2, 50, 102], :FOLDS]
        np.testing.assert_allclose(own, np.tile(halves * shown, FOLDS), rtol=1e-4)
        # 10 and 1000 rows in 2000: far above the floor of counts, 1.
        assert math.log(1001 / 11) / 2 > 2
        np.testing.assert_allclose(found.log_count[[2, 50, 102]], np.tile(halves, FOLDS + 1), rtol=1e-5)


def test_columns_lie_one_below_the_other() -> None:
    log = random_log()
    counts = counts_of(log)
    sizes = [log[name].nunique() - (b"" in set(log[name])) + FIRST_VALUE for name in COLUMNS]
    assert counts.starts.tolist() == [0, sizes[0]] and counts.starts.dtype == np.int64
    assert len(counts.counts) == len(counts.clicks) == sum(sizes)
    assert counts.counts[counts.starts[1] + MISSING].sum() == (log["app"] == b"").sum()
    assert counts.base_rate() == log["label"].mean()


def raw_by_pandas(
    log: pd.DataFrame, vocabularies: list[pa.BinaryArray], smoothing: float, order: str
) -> list[pd.DataFrame]:
    """For each column a row an id and a fold (or time slice) that asks, from the raw rows: n, odds, count."""
    columns = []
    for name, values in zip(COLUMNS, vocabularies, strict=True):
        parts = []
        index = [b"", b"no such value", *values.to_pylist()]
        for fold in range(FOLDS + 1):
            rest = log[log["fold"] != fold] if order == "folds" else log[log["fold"] < fold]
            # Rows that see nothing have the base rate of the first slice.
            rate = (rest if len(rest) else log[log["fold"] == 0])["label"].mean()
            groups = rest.groupby(name)["label"].agg(n="size", clicks="sum")
            groups = groups.reindex(index, fill_value=0)
            odds = (groups["clicks"] + smoothing * rate) / (groups["n"] - groups["clicks"] + smoothing * (1 - rate))
            count = np.log(1 + groups["n"] * len(log) / max(len(rest), 1))
            parts.append(groups.assign(odds=np.log(odds), count=count))
        columns.append(pd.concat(parts, keys=range(FOLDS + 1), names=["asking", "value"]))
    return columns


@pytest.mark.parametrize("order", ["folds", "time"])
@pytest.mark.parametrize(("smoothing", "floored"), [(0.5, False), (20.0, False), (3000.0, True)])
def test_statistics_against_the_raw_rows_that_may_be_seen(smoothing: float, floored: bool, order: str) -> None:
    log = random_log()
    vocabularies = values_of(log)
    found = counts_of(log, vocabularies).statistics(smoothing, order)
    raw = raw_by_pandas(log, vocabularies, smoothing, order)
    for start, name, expected in zip(counts_of(log).starts, COLUMNS, raw, strict=True):
        # Every training row as it is shown.
        shown = expected.loc[pd.MultiIndex.from_arrays([log["fold"], log[name]])]
        part = slice(start, start + len(expected) // (FOLDS + 1))
        deviation = shown[["odds", "count"]].std(ddof=0)
        assert (deviation["odds"] < 0.1) == floored and deviation["count"] > 1
        for fold in range(FOLDS + 1):
            odds = (expected.loc[fold, "odds"] - shown["odds"].mean()) / max(deviation["odds"], 0.1)
            count = (expected.loc[fold, "count"] - shown["count"].mean()) / deviation["count"]
            np.testing.assert_allclose(found.log_odds[part, fold], odds, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found.log_count[part, fold], count, rtol=1e-5, atol=1e-6)


def test_known_values_against_the_raw_rows() -> None:
    log = random_log()
    vocabularies = values_of(log)
    expected = [
        log.groupby(name)["fold"].nunique().reindex([b"", b"no such value", *values.to_pylist()], fill_value=0) >= 2
        for name, values in zip(COLUMNS, vocabularies, strict=True)
    ]
    known = counts_of(log, vocabularies).known()
    assert known.tolist() == pd.concat(expected).tolist()
    # Some values have rows, in one fold only.
    assert (counts_of(log, vocabularies).counts.any(axis=1) & ~known).any()


def test_training_rows_see_standardised_statistics() -> None:
    log = random_log()
    counts = counts_of(log)
    found = counts.statistics(20.0)
    for start, end in zip(counts.starts, [*counts.starts[1:], len(counts.counts)], strict=True):
        for array in (found.log_odds, found.log_count):
            shown = np.repeat(array[start:end, :FOLDS].ravel().astype(np.float64), counts.counts[start:end].ravel())
            assert len(shown) == len(log)
            assert shown.mean() == pytest.approx(0, abs=1e-5) and shown.std() == pytest.approx(1, abs=1e-5)


def assert_same(first: ClickStatistics, second: ClickStatistics) -> None:
    """Equal in every bit."""
    assert first.values.tobytes() == second.values.tobytes()


@pytest.mark.parametrize("folds", [[0], [7], [1, 6], [0, 2, 4, 6, 8]])
def test_without_folds_equals_a_log_without_their_rows(folds: list[int]) -> None:
    log = random_log()
    vocabularies = values_of(log)
    rest = counts_of(log[~log["fold"].isin(folds)], vocabularies)
    without = counts_of(log, vocabularies).without(folds)
    assert without.base_rate() == rest.base_rate()
    np.testing.assert_array_equal(without.counts, rest.counts)
    assert without.known().tolist() == rest.known().tolist()
    for order in SEEN:
        assert_same(without.statistics(20.0, order), rest.statistics(20.0, order))
    found = without.statistics(20.0)
    # Nothing is left of these folds, so leaving them out once more changes nothing.
    for fold in folds:
        np.testing.assert_array_equal(found.log_odds[:, fold], found.log_odds[:, NO_FOLD])
        np.testing.assert_array_equal(found.log_count[:, fold], found.log_count[:, NO_FOLD])


def test_without_does_not_change_the_counts_it_came_from() -> None:
    counts = counts_of(random_log())
    before = counts.counts.copy()
    counts.without([3])
    np.testing.assert_array_equal(counts.counts, before)
    assert_same(counts.without([]).statistics(1.0), counts.statistics(1.0))


@pytest.mark.parametrize("fold", range(FOLDS))
def test_labels_of_a_fold_cannot_reach_the_teacher_without_it(fold: int) -> None:
    log = random_log(seed=fold)
    flipped = log.assign(label=np.where(log["fold"] == fold, 1 - log["label"], log["label"]))
    assert not flipped["label"].equals(log["label"])
    vocabularies = values_of(log)
    first, second = (counts_of(frame, vocabularies) for frame in (log, flipped))
    assert_same(first.without([fold]).statistics(20.0), second.without([fold]).statistics(20.0))
    assert first.without([fold]).base_rate() == second.without([fold]).base_rate()
    assert first.without([fold]).known().tolist() == second.without([fold]).known().tolist()


@pytest.mark.parametrize("fold", range(0, FOLDS, 3))
def test_labels_of_a_fold_reach_its_rows_through_the_scale_of_the_column_only(fold: int) -> None:
    log = random_log(seed=fold)
    flipped = log.assign(label=np.where(log["fold"] == fold, 1 - log["label"], log["label"]))
    vocabularies = values_of(log)
    counts, others = counts_of(log, vocabularies), counts_of(flipped, vocabularies)
    found, other = counts.statistics(20.0), others.statistics(20.0)
    np.testing.assert_array_equal(found.log_count, other.log_count)
    for start, end in zip(counts.starts, [*counts.starts[1:], len(counts.counts)], strict=True):
        own, flipped_own = found.log_odds[start:end, fold], other.log_odds[start:end, fold]
        slope, shift = np.polyfit(own, flipped_own, 1)
        np.testing.assert_allclose(own * slope + shift, flipped_own, atol=1e-5)
        # All other rows see the labels.
        for seen in [*(set(range(FOLDS)) - {fold}), NO_FOLD]:
            assert (
                np.abs(found.log_odds[start:end, seen] * slope + shift - other.log_odds[start:end, seen]).max() > 0.01
            )


CELLS = st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1)), min_size=FOLDS, max_size=FOLDS)


@settings(deadline=None, max_examples=50)
@given(st.lists(CELLS, min_size=3, max_size=5), st.floats(1e-3, 1e6), st.sampled_from([0.0, 0.5, 1.0]))
def test_never_infinite_and_never_a_warning(
    cells: list[list[tuple[int, float]]], smoothing: float, rate: float
) -> None:
    counts = np.array([[count for count, _ in row] for row in cells], np.int64)
    clicks = np.array([[int(count * share) for count, share in row] for row in cells], np.int64)
    vocabulary = Vocabulary(pa.array([b"%d" % i for i in range(len(cells) - 2)], pa.binary()), counts, clicks)
    rows = counts.sum(axis=0)
    click_counts = ClickCounts.of([vocabulary], rows.tolist(), (rows * rate).astype(np.int64).tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in (click_counts, click_counts.without([0, 5]), click_counts.without(range(FOLDS))):
            for order in SEEN:
                assert np.isfinite(part.statistics(smoothing, order).values).all()
            folds_with_rows = [sum(count > 0 for count in by_fold) for by_fold in part.counts.tolist()]
            assert part.known().tolist() == [number >= 2 for number in folds_with_rows]
            assert 0 <= part.base_rate() <= 1


@pytest.mark.parametrize("smoothing", [0.0, -1.0, math.inf, math.nan])
def test_smoothing_must_be_positive_and_finite(smoothing: float) -> None:
    with pytest.raises(ConfigError, match="smoothing must be positive and finite"):
        small().statistics(smoothing)


def test_columns_do_not_depend_on_each_other() -> None:
    log = random_log()
    counts = counts_of(log)
    both = counts.statistics(20.0)
    start = counts.starts[1]
    for part in (slice(0, start), slice(start, None)):
        alone = ClickCounts(counts.starts[:1], counts.counts[part], counts.clicks[part], counts.rows, counts.row_clicks)
        assert alone.statistics(20.0).values.tobytes() == both.values[part].tobytes()


def weighted_log(weights: list[float], seed: int = 0) -> pd.DataFrame:
    log = random_log(seed=seed)
    return log.assign(weight=np.random.default_rng(9).choice(weights, len(log)))


def close(first: ClickStatistics, second: ClickStatistics) -> None:
    np.testing.assert_allclose(first.values, second.values, rtol=1e-5, atol=1e-5)


def test_weighted_formulas_by_hand() -> None:
    # Id 2 has two rows of fold 0 (weight 0.5 with a click, 1.5 without) and one of fold 7 (weight 2, a click).
    counts, weights, clicks = np.zeros((3, FOLDS), np.int64), np.zeros((3, FOLDS)), np.zeros((3, FOLDS))
    counts[2, 0], counts[2, 7], weights[2, [0, 7]], clicks[2, 0], clicks[2, 7] = 2, 1, 2.0, 0.5, 2.0
    vocabulary = Vocabulary(pa.array([b"a"], pa.binary()), counts, counts, weights, clicks)
    made = ClickCounts.of([vocabulary], [3] * FOLDS, [1.5] * FOLDS, [5.0] * FOLDS)
    assert made.base_rate() == pytest.approx(0.3) and made.rows.tolist() == [3] * FOLDS
    found = made.statistics(10.0)
    # Without fold 0: weight 2, all of it clicks. Without fold 7: weight 2, of which 0.5 clicks.
    odds = np.array([math.log((2 + 3) / (0 + 7)), math.log((0.5 + 3) / (1.5 + 7))])
    shown = (odds - odds.mean()) / max(odds.std(), 0.1)
    np.testing.assert_allclose(found.log_odds[2, [0, 7]], shown, rtol=1e-5)
    whole = (math.log((2.5 + 3) / (1.5 + 7)) - odds.mean()) / max(odds.std(), 0.1)
    assert found.log_odds[2, NO_FOLD] == pytest.approx(whole, rel=1e-5)
    # Weight 2 of the 45 that are left is 20 / 9 of 50, in training rows of both folds.
    assert found.log_count[2, NO_FOLD] == pytest.approx(math.log(5) - math.log(1 + 20 / 9), rel=1e-5)
    assert made.known().tolist() == [False, False, True]


def test_weights_of_one_change_nothing() -> None:
    log = random_log()
    plain, weighted = counts_of(log), counts_of(log.assign(weight=1.0))
    assert plain.weights is None and weighted.weights is not None
    for folds in ([], [1, 6]):
        first, second = plain.without(folds), weighted.without(folds)
        for order in SEEN:
            assert_same(first.statistics(20.0, order), second.statistics(20.0, order))
        assert first.base_rate() == second.base_rate()


def test_weight_two_is_the_row_twice() -> None:
    log = weighted_log([1.0, 2.0])
    vocabularies = values_of(log)
    twice = pd.concat([log, log[log["weight"] == 2.0]]).drop(columns="weight")
    weighted, repeated = counts_of(log, vocabularies), counts_of(twice, vocabularies)
    for order in SEEN:
        close(weighted.statistics(20.0, order), repeated.statistics(20.0, order))
    assert weighted.base_rate() == pytest.approx(repeated.base_rate())
    assert weighted.rows.sum() == len(log) < repeated.rows.sum()


def test_weight_zero_is_the_row_absent_but_for_what_is_known() -> None:
    log = weighted_log([0.0, 1.0])
    vocabularies = values_of(log)
    rest = log[log["weight"] > 0].drop(columns="weight")
    weighted, absent = counts_of(log, vocabularies), counts_of(rest, vocabularies)
    for order in SEEN:
        close(weighted.statistics(20.0, order), absent.statistics(20.0, order))
    assert weighted.base_rate() == pytest.approx(absent.base_rate())
    assert (weighted.known() == counts_of(log.drop(columns="weight"), vocabularies).known()).all()
    assert (weighted.known() & ~absent.known()).any()


def test_no_weight_at_all_is_no_row_at_all() -> None:
    found = counts_of(random_log().assign(weight=0.0))
    assert found.base_rate() == 0
    for order in SEEN:
        statistics = found.statistics(1.0, order)
        assert np.isfinite(statistics.log_odds).all() and not statistics.log_count.any()


@pytest.mark.parametrize("fold", range(0, FOLDS, 3))
def test_weighted_labels_of_a_fold_leave_no_trace(fold: int) -> None:
    """Weights such as 0.1 are rounded when they are added up; a difference of sums would show it."""
    log = weighted_log([0.1, 0.7, 3.3, 1e4], seed=fold)
    log = log.assign(weight=log["weight"] * np.random.default_rng(1).random(len(log)))
    flipped = log.assign(label=np.where(log["fold"] == fold, 1 - log["label"], log["label"]))
    vocabularies = values_of(log)
    first, second = (counts_of(frame, vocabularies) for frame in (log, flipped))
    left = [leave_out(np.asarray(counts.clicks))[:, fold] for counts in (first, second)]
    assert left[0].tobytes() == left[1].tobytes()
    assert_same(first.without([fold]).statistics(20.0), second.without([fold]).statistics(20.0))


@given(st.lists(st.lists(st.integers(0, 2**40), min_size=FOLDS, max_size=FOLDS), min_size=1, max_size=4))
def test_leave_out_adds_the_other_folds(cells: list[list[int]]) -> None:
    expected = [[sum(row) - own for own in row] + [sum(row)] for row in cells]
    assert leave_out(np.array(cells)).tolist() == expected
    assert leave_out(np.array(cells, np.float64)).tolist() == expected


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 65536, width=32), min_size=1, max_size=40), st.integers(0, 2**40))
def test_any_weights_give_finite_statistics(weights: list[float], seed: int) -> None:
    log = random_log(len(weights), seed).assign(weight=weights)
    counts = counts_of(log)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in (counts, counts.without([0, 5]), counts.without(range(FOLDS))):
            for order in SEEN:
                assert np.isfinite(part.statistics(20.0, order).values).all()
            assert 0 <= part.base_rate() <= 1


def test_formulas_in_time_by_hand() -> None:
    # Id 2 has 3 rows and 1 click in slice 0, and 5 rows and 4 clicks in slice 7; there are 2 or 4 clicks in 10 rows.
    found = small().statistics(10.0, "time")
    # Slice 0 sees nothing and has its own base rate; slice 7 sees slices 0 to 6, with 18 clicks in 70 rows.
    first, seventh = math.log(2 / 8), math.log((1 + 10 * 18 / 70) / (2 + 10 * 52 / 70))
    mean = (3 * first + 5 * seventh) / 8
    deviation = max(math.sqrt((3 * (first - mean) ** 2 + 5 * (seventh - mean) ** 2) / 8), 0.1)
    odds = found.log_odds.astype(np.float64) * deviation + mean
    assert odds[2, [0, 7]] == pytest.approx([first, seventh], rel=1e-5)
    assert odds[:, 0] == pytest.approx([first] * 3, rel=1e-5)
    assert odds[2, 1] == pytest.approx(math.log((1 + 10 * 0.2) / (2 + 10 * 0.8)), rel=1e-5)
    assert odds[2, NO_FOLD] == pytest.approx(math.log((5 + 10 * 0.3) / (3 + 10 * 0.7)), rel=1e-5)
    # Three of the first ten rows are 30 in a hundred, and of the first seventy 30 / 7.
    shown = np.log1p([0, 30, 30 / 7, 8])
    mean = (3 * shown[0] + 5 * shown[2]) / 8
    assert (shown[2] - shown[0]) * math.sqrt(15) / 8 < 1
    np.testing.assert_allclose(found.log_count[2, [0, 1, 7, NO_FOLD]], shown - mean, rtol=1e-5)
    np.testing.assert_allclose(found.log_count[UNSEEN], -mean, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("time_slice", [1, 4, 9])
def test_labels_of_a_slice_reach_later_rows_only(time_slice: int, weighted: bool) -> None:
    """But for the scale of the column, which is common to all rows."""
    log = weighted_log([0.1, 0.7, 3.3]) if weighted else random_log()
    flipped = log.assign(label=np.where(log["fold"] == time_slice, 1 - log["label"], log["label"]))
    vocabularies = values_of(log)
    counts, others = counts_of(log, vocabularies), counts_of(flipped, vocabularies)
    for one, other in ((counts.clicks, others.clicks), (counts.row_clicks, others.row_clicks)):
        seen = slice(0, time_slice + 1)
        assert earlier(one)[..., seen].tobytes() == earlier(other)[..., seen].tobytes()
    found, other = counts.statistics(20.0, "time"), others.statistics(20.0, "time")
    np.testing.assert_array_equal(found.log_count, other.log_count)
    for start, end in itertools.pairwise([*counts.starts, len(counts.counts)]):
        own, flipped_own = (part.log_odds[start:end].astype(np.float64) for part in (found, other))
        slope, shift = np.polyfit(own[:, : time_slice + 1].ravel(), flipped_own[:, : time_slice + 1].ravel(), 1)
        error = np.abs(own * slope + shift - flipped_own).max(axis=0)
        assert (error[: time_slice + 1] < 1e-5).all()
        assert (error[time_slice + 1 :] > 0.01).all()


@given(st.lists(st.lists(st.integers(0, 2**40), min_size=FOLDS, max_size=FOLDS), min_size=1, max_size=4))
def test_earlier_adds_the_slices_before(cells: list[list[int]]) -> None:
    expected = [[sum(row[:number]) for number in range(FOLDS + 1)] for row in cells]
    assert earlier(np.array(cells)).tolist() == expected
    assert earlier(np.array(cells, np.float64)).tolist() == expected
    assert earlier(np.array(cells)).dtype == np.int64


def test_rows_that_see_nothing_are_all_the_same_and_do_not_stand_apart() -> None:
    """So they do not tell their labels. With a base rate of 0 in place of their slice's they would lie far away."""
    counts = counts_of(random_log(5000))
    found = counts.statistics(20.0, "time")
    for start, end in itertools.pairwise([*counts.starts, len(counts.counts)]):
        assert len(np.unique(found.values[start:end, 0], axis=0)) == 1
    assert np.abs(found.log_odds[:, 0]).max() < 1 < np.abs(found.log_odds[:, 1:]).max()


def test_few_rows_say_nothing_extreme_of_a_rate() -> None:
    rows = np.array([0, 1, 8, 1000, *[2000] * 7])
    clicks = np.array([0, 0, 8, 250, *[500] * 7])
    # One row without click: 1/3 at least; eight clicks: 9/10 at most; rows that see none are like the first that do.
    expected = [1 / 3, 1 / 3, 9 / 10, 0.25, *[0.25] * 7]
    np.testing.assert_allclose(prior_rates(clicks, rows, "time"), expected)

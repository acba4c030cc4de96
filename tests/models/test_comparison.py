from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from features.errors import ConfigError, DataError
from models.comparison import RESAMPLES, Difference, Resampled, comparison_table, holm, resampled, two_way
from models.metrics import METRICS


def students(
    rows: int = 6000, seeds: int = 3, noise: float = 0.3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels [rows], logits [seeds, rows] around the truth, groups [rows]."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1.2, 1.1, rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    return labels, truth + rng.normal(0, noise, (seeds, rows)), rng.integers(0, 50, rows)


def of_draws(draws: Sequence[float] | np.ndarray, value: float = 0.0) -> Resampled:
    return Resampled(value, np.asarray(draws, np.float64))


def difference(draws: Sequence[float] | np.ndarray) -> Difference:
    return Difference(float(np.mean(draws)), np.asarray(draws, np.float64), seeds=1, teachers=0)


def crossing(count: int, draws: int = 4000) -> Difference:
    """Draws of which so many are below 0."""
    return difference(np.r_[-np.arange(1.0, count + 1), np.arange(1.0, draws - count + 1)])


@pytest.mark.parametrize("weighted", [False, True])
def test_values_agree_with_scikit_learn(weighted: bool) -> None:
    labels, logits, groups = students(seeds=1)
    weights = np.random.default_rng(1).choice([0.5, 1.0, 3.7], len(labels)) if weighted else None
    found = resampled(labels, logits[0], groups, weights, resamples=10)
    p = 1 / (1 + np.exp(-logits[0]))
    base = np.average(labels, weights=weights)
    entropy = log_loss(labels, np.full(len(labels), base), sample_weight=weights)
    assert tuple(found) == METRICS
    assert found["logloss"].value == pytest.approx(log_loss(labels, p, sample_weight=weights))
    assert found["brier"].value == pytest.approx(brier_score_loss(labels, p, sample_weight=weights))
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, p, sample_weight=weights), abs=1e-5)
    assert found["ne"].value == pytest.approx(found["logloss"].value / entropy)
    assert found["pcoc"].value == pytest.approx(np.average(p, weights=weights) / base)


def test_draws_are_metrics_of_resampled_groups() -> None:
    """Two groups: a resample has one of them twice, or both, so there are three values of each metric."""
    labels, logits, _ = students(rows=400, seeds=1)
    groups = np.repeat([7, 1000], [150, 250])
    found = resampled(labels, logits[0], groups, resamples=64)
    p = 1 / (1 + np.exp(-logits[0]))
    parts = [groups == 7, groups == 1000, groups > 0]
    for name, metric, tolerance in (
        ("logloss", log_loss, 1e-12),
        ("brier", brier_score_loss, 1e-12),
        ("auc", roc_auc_score, 2e-3),  # on a histogram of 1024 bins
    ):
        expected = np.array([metric(labels[part], p[part]) for part in parts])
        distance = np.abs(found[name].draws[:, np.newaxis] - expected)
        assert distance.min(axis=1).max() < tolerance, name
        assert set(distance.argmin(axis=1)) == {0, 1, 2}, name


def test_the_order_and_the_names_of_groups_do_not_matter() -> None:
    labels, logits, groups = students(seeds=1)
    order = np.random.default_rng(2).permutation(len(labels))
    a = resampled(labels, logits[0], groups)
    b = resampled(labels[order], logits[0][order], groups[order] * 10 - 3)
    for name in METRICS:
        assert a[name].draws.shape == (RESAMPLES,)
        np.testing.assert_allclose(a[name].draws, b[name].draws, rtol=1e-9, atol=1e-12)


def test_draws_of_two_models_are_paired() -> None:
    labels, logits, groups = students(seeds=2, noise=0.1)
    a, b = (resampled(labels, z, groups)["logloss"].draws for z in logits)
    assert np.std(a - b) < np.std(a) / 5


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_neither_auc_nor_interval(label: int) -> None:
    labels, groups = np.full(60, label), np.arange(60) % 20
    sides = [resampled(labels, np.linspace(-1, 1, 60) + shift, groups, resamples=40) for shift in (0.0, 0.1)]
    assert math.isnan(sides[0]["auc"].value) and np.isnan(sides[0]["auc"].draws).all()
    table = comparison_table({("kd", 1.0): sides[:1], ("hard", 1.0): sides[1:]}, "hard", [0]).set_index("metric")
    unknown = table.loc[["auc", "ne"], ["difference", "low", "high", "p_value", "adjusted_p"]]
    assert unknown.isna().all(axis=None)
    assert table.loc["logloss", "low"] <= table.loc["logloss", "difference"] <= table.loc["logloss", "high"]


def test_no_rows_have_no_metrics() -> None:
    found = resampled(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), resamples=5)
    assert all(math.isnan(of.value) and np.isnan(of.draws).all() for of in found.values())


def test_one_seed_is_the_bootstrap_of_the_rows() -> None:
    found = two_way([of_draws([3.0, 5.0, 8.0], 4.0)], [of_draws([1.0, 1.0, 2.0], 1.5)])
    assert (found.difference, found.draws.tolist(), found.seeds, found.teachers) == (2.5, [2.0, 4.0, 6.0], 1, 0)


def test_equal_seeds_add_nothing_to_the_rows() -> None:
    rng = np.random.default_rng(0)
    rows, common = rng.normal(size=500), rng.normal(size=(4, 500))
    found = two_way([of_draws(c + rows, 1.0) for c in common], [of_draws(c, 0.5) for c in common], [0, 0, 1, 1])
    np.testing.assert_allclose(found.draws, rows, atol=1e-12)
    assert found.difference == 0.5


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_seeds_alone_have_the_quantiles_of_students_t(seeds: int) -> None:
    """Without noise of rows, the mean of normal values has an interval known since 1908."""
    ratios = []
    for trial in range(40):
        values = np.random.default_rng(trial).normal(size=seeds)
        draws = two_way([of_draws(np.full(4000, v), v) for v in values], [of_draws(np.zeros(4000))] * seeds).draws
        low, high = stats.t.interval(0.95, seeds - 1, values.mean(), stats.sem(values))
        ratios.append(np.subtract(*np.quantile(draws, [0.975, 0.025])) / (high - low))
    # Two values differ in half of the draws only, so a resample has another law than the normal one.
    assert np.mean(ratios) == pytest.approx(1, abs=0.3 if seeds == 2 else 0.1)


@pytest.mark.parametrize(
    ("teachers", "of_teacher", "of_seed", "of_rows"),
    [
        (list(range(5)), 0.0, 1.0, 0.0),
        (list(range(5)), 0.5, 0.5, 1.0),
        ([0, 1, 2] * 3, 1.0, 1.0, 0.0),
        ([0, 1, 2] * 3, 1.0, 0.3, 1.0),
        ([0, 0, 0, 0, 1, 2, 2, 3], 0.0, 1.0, 0.2),
        ([4] * 6, 0.0, 1.0, 0.5),
    ],
)
def test_intervals_cover_as_often_as_they_say(
    teachers: list[int], of_teacher: float, of_seed: float, of_rows: float
) -> None:
    """Differences around 0 of teachers, seeds and rows, drawn 200 times: about 95 % of the intervals have 0 in them."""
    rng = np.random.default_rng(len(teachers))
    hits = 0
    for _ in range(200):
        effect = of_teacher * rng.normal(size=5)[teachers] + of_seed * rng.normal(size=len(teachers))
        rows, resamples = of_rows * rng.normal(), of_rows * rng.normal(size=800)
        method = [of_draws(rows + resamples + e, rows + e) for e in effect]
        found = two_way(method, [of_draws(np.zeros(800))] * len(teachers), teachers)
        interval = holm({"it": found})["it"]
        hits += interval.low <= 0 <= interval.high
    assert 0.90 <= hits / 200 <= 0.995


def test_a_shared_teacher_is_one_draw() -> None:
    """What teachers differ in is known from as many as there are, however many seeds share them."""
    effect = np.array([-1.0, 0.0, 1.0])
    widths = []
    for seeds in (3, 30):
        method = [of_draws(np.full(2000, effect[seed % 3])) for seed in range(seeds)]
        found = two_way(method, [of_draws(np.zeros(2000))] * seeds, [seed % 3 for seed in range(seeds)])
        assert (found.seeds, found.teachers, found.units) == (seeds, 3, 3)
        widths.append(np.ptp(np.quantile(found.draws, [0.025, 0.975])))
    assert widths[0] == pytest.approx(widths[1])


def test_seeds_in_another_order_are_the_same_comparison() -> None:
    rng = np.random.default_rng(5)
    a, b = ([of_draws(rng.normal(size=RESAMPLES), rng.normal()) for _ in range(6)] for _ in range(2))
    order, teachers = [3, 1, 5, 0, 2, 4], [0, 0, 1, 1, 2, 2]
    first = two_way(a, b, teachers)
    second = two_way([a[i] for i in order], [b[i] for i in order], [teachers[i] for i in order])
    assert second.difference == pytest.approx(first.difference)
    np.testing.assert_allclose(*(np.quantile(of.draws, [0.1, 0.9]) for of in (first, second)), atol=0.1)


def test_both_sides_exchanged_have_the_other_sign() -> None:
    rng = np.random.default_rng(6)
    a, b = ([of_draws(rng.normal(size=100), rng.normal()) for _ in range(3)] for _ in range(2))
    np.testing.assert_allclose(two_way(a, b).draws, -two_way(b, a).draws)
    assert two_way(a, b).difference == -two_way(b, a).difference
    assert not two_way(a, a).draws.any()


def test_draws_of_seeds_do_not_follow_those_of_rows() -> None:
    """Row groups and seeds from one stream would be correlated, and their variances would not add up."""
    rng = np.random.default_rng(8)
    labels, groups = rng.integers(0, 2, 4000), np.arange(4000) % 5
    logits = rng.normal(size=4000) + np.array([0, 1, 2, 3, 4])[groups]
    rows = resampled(labels, logits, groups)["logloss"].draws
    values = [0.0, 1.0, 2.0, 3.0, 4.0]
    seeds = two_way([of_draws(np.full(RESAMPLES, v)) for v in values], [of_draws(np.zeros(RESAMPLES))] * 5).draws
    assert abs(stats.spearmanr(rows, seeds).statistic) < 0.05


@pytest.mark.parametrize(("baseline", "teachers"), [(1, None), (2, [0]), (0, None)])
def test_seeds_must_match(baseline: int, teachers: list[int] | None) -> None:
    method = [of_draws([0.0])] * (2 if baseline else 0)
    with pytest.raises(DataError, match="seeds must be as many"):
        two_way(method, [of_draws([0.0])] * baseline, teachers)


@pytest.mark.parametrize(
    ("below", "p", "adjusted"),
    [
        # Holm's procedure by hand: sorted p-values times 4, 3, 2 and 1, and never below the one before.
        ([10, 60, 20, 80], [0.005, 0.03, 0.01, 0.04], [0.02, 0.06, 0.03, 0.06]),
        ([1, 1, 1, 1], [0.0005] * 4, [0.002] * 4),
        ([0, 0, 1000, 2000], [1 / 4000, 1 / 4000, 0.5, 1.0], [0.001, 0.001, 1.0, 1.0]),
        ([100], [0.05], [0.05]),
        ([25, 40, 48, 500], [0.0125, 0.02, 0.024, 0.25], [0.05, 0.06, 0.06, 0.25]),
    ],
)
def test_adjusted_p_values_of_holm(below: list[int], p: list[float], adjusted: list[float]) -> None:
    found = holm({index: crossing(count) for index, count in enumerate(below)})
    assert [of.p_value for of in found.values()] == pytest.approx(p)
    assert [of.adjusted_p for of in found.values()] == pytest.approx(adjusted)
    for of in found.values():
        assert (of.low > 0 or of.high < 0) == (of.adjusted_p <= 0.05)


def test_levels_of_the_intervals() -> None:
    """p-values 0.005, 0.01, 0.03 and 0.04: two are significant, at 0.05 / 4 and 0.05 / 3, the others get 0.05 / 2."""
    draws = {count: crossing(count) for count in (10, 20, 60, 80)}
    for count, outside in {10: 25, 20: 33, 60: 50, 80: 50}.items():
        of, ordered = holm(draws)[count], np.sort(draws[count].draws)
        assert (of.low, of.high) == (ordered[outside], ordered[-1 - outside])


def test_an_interval_excludes_0_exactly_if_the_comparison_is_significant() -> None:
    rng = np.random.default_rng(3)
    significant = 0
    for _ in range(100):
        family = {key: difference(rng.normal(rng.normal(0, 3), 1, 1500)) for key in range(int(rng.integers(1, 12)))}
        for of in holm(family).values():
            assert of.p_value <= of.adjusted_p
            assert (of.low > 0 or of.high < 0) == (of.adjusted_p <= 0.05)
            significant += of.adjusted_p <= 0.05
    assert significant > 100


def test_holm_does_not_depend_on_the_order() -> None:
    family = {key: crossing(count) for key, count in zip("abcdef", (0, 0, 3, 30, 30, 900), strict=True)}
    assert holm(family) == holm(dict(reversed(family.items())))
    assert list(holm(family)) == list(family)


def test_no_difference_at_all_is_not_significant() -> None:
    of = holm({"same": difference(np.zeros(100))})["same"]
    assert (of.low, of.high, of.p_value, of.adjusted_p) == (0, 0, 1, 1)


def test_undefined_draws_are_left_out_and_undefined_differences_not_counted() -> None:
    some = np.r_[np.full(100, np.nan), np.linspace(1, 2, 900)]
    family = {"some": difference(some), "few": difference(np.r_[np.full(600, np.nan), np.ones(400)])}
    found = holm({**family, "none": difference(np.full(1000, np.nan))})
    for name in ("few", "none"):
        assert all(math.isnan(value) for value in vars(found[name]).values())
    assert found["some"].adjusted_p == found["some"].p_value == pytest.approx(1 / 900)
    assert (found["some"].low, found["some"].high) == pytest.approx((1 + 22 / 899, 2 - 22 / 899))
    assert holm({}) == {}


def test_too_many_comparisons_for_the_draws_are_refused() -> None:
    draws = difference(np.ones(100))
    assert all(of.adjusted_p <= 0.05 for of in holm(dict.fromkeys(range(5), draws)).values())
    with pytest.raises(ConfigError, match=r"0\.05 of the 100 resamples that are defined\. Received: 6"):
        holm(dict.fromkeys(range(6), draws))


@lru_cache
def students_of(seeds: int) -> dict[tuple[str, float], list[dict[str, Resampled]]]:
    """The metrics of a baseline, one like it, and a much better one, on two fractions."""
    labels, logits, groups = students(rows=3000, seeds=3 * seeds, noise=1.0)
    noise = {"hard": 1.0, "hard_k": 1.0, "kd": 0.3}
    found = {}
    for number, (name, scale) in enumerate(noise.items()):
        mine = logits[0] + scale * (logits[number * seeds : (number + 1) * seeds] - logits[0])
        for fraction in (0.1, 1.0):
            found[name, fraction] = [resampled(labels, z, groups, resamples=400) for z in mine]
    return found


def test_table_has_a_row_a_method_fraction_and_metric() -> None:
    found = students_of(3)
    table = comparison_table(found, "hard", [0, 1, 2])
    assert list(table.columns) == [
        *("method", "baseline", "fraction", "metric", "difference", "low", "high", "p_value", "adjusted_p"),
        *("seeds", "teachers", "interval"),
    ]
    assert len(table) == 2 * 2 * len(METRICS)
    assert set(table["baseline"]) == {"hard"} and set(table["seeds"]) == set(table["teachers"]) == {3}
    assert set(table["interval"]) == {
        "two-way bootstrap over seeds and rows (Student's t for 3 seeds), 95 %, Holm over 4 comparisons"
    }
    row = table.query("method == 'kd' and fraction == 0.1 and metric == 'logloss'").iloc[0]
    mean = {name: np.mean([of["logloss"].value for of in found[name, 0.1]]) for name in ("kd", "hard")}
    assert row["difference"] == pytest.approx(mean["kd"] - mean["hard"])
    family = {
        (name, fraction): two_way(*([of["logloss"] for of in found[side, fraction]] for side in (name, "hard")))
        for name in ("hard_k", "kd")
        for fraction in (0.1, 1.0)
    }
    logloss = table.query("metric == 'logloss'").set_index(["method", "fraction"])
    for key, of in holm(family).items():
        assert logloss.loc[key, ["low", "high", "adjusted_p"]].tolist() == [of.low, of.high, of.adjusted_p]


@pytest.mark.parametrize(
    ("seeds", "teachers", "number", "words"),
    [
        (1, [0], 1, "bootstrap over rows only: one seed, 95 %, Holm over 4 comparisons"),
        (
            3,
            [0, 0, 0],
            1,
            "two-way bootstrap over seeds and rows (Student's t for 3 seeds), 95 %, Holm over 4 comparisons, "
            "conditional on one teacher",
        ),
        (
            3,
            [0, 1, 0],
            2,
            "two-way bootstrap over seeds and rows (Student's t for 2 teachers), 95 %, Holm over 4 comparisons",
        ),
    ],
)
def test_table_says_what_its_intervals_cover(seeds: int, teachers: list[int], number: int, words: str) -> None:
    table = comparison_table(students_of(seeds), "hard", teachers)
    assert set(table["teachers"]) == {number} and set(table["interval"]) == {words}


def test_methods_without_teacher_do_not_depend_on_one() -> None:
    table = comparison_table(students_of(3), "hard", [0, 0, 0], untaught={"hard", "hard_k"}).set_index("method")
    assert set(table.loc["hard_k", "teachers"]) == {0} and set(table.loc["kd", "teachers"]) == {1}
    assert not table.loc["hard_k", "interval"].str.contains("teacher").any()
    assert table.loc["kd", "interval"].str.endswith("conditional on one teacher").all()


def test_a_fraction_without_the_baseline_is_refused() -> None:
    found = {key: of for key, of in students_of(1).items() if key != ("hard", 0.1)}
    with pytest.raises(DataError, match=r"baseline hard\. Received: 0\.1 without it"):
        comparison_table(found, "hard", [0])


def test_the_baseline_alone_has_no_rows() -> None:
    found = {key: of for key, of in students_of(1).items() if key[0] == "hard"}
    assert comparison_table(found, "hard", [0]).empty

from __future__ import annotations

import math
import pickle
import time

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from models.metrics import METRICS, ClickMetrics, paired_difference

ROWS = 40_000


def sample(rows: int = ROWS, seed: int = 0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1.2, 1.1, rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    logits = (truth + shift + rng.normal(0, 0.3, rows)).astype(np.float32)
    return labels, logits, rng.integers(0, 200, rows)


def measured(
    labels: npt.ArrayLike, logits: npt.ArrayLike, groups: npt.ArrayLike, weights: np.ndarray | None = None
) -> ClickMetrics:
    batch = np.asarray(labels), np.asarray(logits), np.asarray(groups)
    return ClickMetrics.empty().update(*batch, weights)


def test_names_and_order() -> None:
    assert list(measured(*sample(100)).compute()) == [
        "rows",
        "logloss",
        "auc",
        "ne",
        "pcoc",
        "ece",
        "brier",
    ]


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_scikit_learn(weighted: bool) -> None:
    labels, logits, groups = sample()
    weights = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 3.7], ROWS) if weighted else None
    values = measured(labels, logits, groups, weights=weights).compute()
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert values["rows"] == ROWS
    assert values["auc"] == pytest.approx(roc_auc_score(labels, logits, sample_weight=weights), abs=1e-6)
    assert values["logloss"] == pytest.approx(log_loss(labels, p, sample_weight=weights), rel=1e-9)
    assert values["brier"] == pytest.approx(brier_score_loss(labels, p, sample_weight=weights), rel=1e-9)
    base = np.average(labels, weights=weights)
    entropy = log_loss(labels, np.full(ROWS, base), sample_weight=weights)
    assert values["ne"] == pytest.approx(values["logloss"] / entropy, rel=1e-9)
    assert values["pcoc"] == pytest.approx(np.average(p, weights=weights) / base, rel=1e-9)


def test_ece_agrees_with_sorted_equal_mass_bins() -> None:
    labels, logits, groups = sample(shift=0.4)
    p = 1 / (1 + np.exp(-np.sort(logits.astype(np.float64))))
    y = labels[np.argsort(logits, kind="stable")]
    parts = zip(np.array_split(p, 20), np.array_split(y, 20), strict=True)
    expected = sum(len(a) * abs(a.mean() - b.mean()) for a, b in parts) / ROWS
    assert measured(labels, logits, groups).compute()["ece"] == pytest.approx(expected, rel=1e-3)


def test_hand_values() -> None:
    logit = math.log(3)
    values = measured([0, 1], [-logit, logit], [0, 1]).compute()
    assert values == {
        "rows": 2,
        "logloss": pytest.approx(-math.log(0.75)),
        "auc": 1.0,
        "ne": pytest.approx(-math.log(0.75) / math.log(2)),
        "pcoc": pytest.approx(1.0),
        "ece": pytest.approx(0.25),
        "brier": pytest.approx(0.0625),
    }


@pytest.mark.parametrize(
    ("labels", "logits", "auc"),
    [
        ([0, 1, 0, 1], [1.0, 1.0, 1.0, 1.0], 0.5),
        ([0, 1, 1], [0.0, 0.0, 1.0], 0.75),
        ([1, 0], [-0.01, 0.01], 0.0),
        ([0, 1], [-900.0, 900.0], 1.0),
        ([0, 1], [25.0, 30.0], 0.5),
    ],
)
def test_auc_counts_ties_half(labels: list[int], logits: list[float], auc: float) -> None:
    assert measured(labels, logits, np.zeros(len(labels), int)).compute()["auc"] == auc


def test_constant_base_rate_predictor_has_ne_and_pcoc_one() -> None:
    labels = np.r_[np.ones(25), np.zeros(75)]
    values = measured(labels, np.full(100, math.log(25 / 75)), np.arange(100)).compute()
    assert values["ne"] == pytest.approx(1.0, rel=1e-12)
    assert values["pcoc"] == pytest.approx(1.0, rel=1e-12)
    assert values["auc"] == 0.5
    assert values["ece"] == pytest.approx(0.0, abs=1e-12)


def test_extreme_logits_keep_a_finite_logloss() -> None:
    assert measured([1, 0], [-1000.0, -1000.0], [0, 0]).compute()["logloss"] == 500.0


def test_merge_over_shards_equals_a_single_pass() -> None:
    labels, logits, groups = sample()
    weights = np.random.default_rng(2).random(ROWS)
    whole = measured(labels, logits, groups, weights=weights)
    merged = ClickMetrics.empty()
    for part in np.array_split(np.random.default_rng(3).permutation(ROWS), 7):
        merged = merged.merge(measured(labels[part], logits[part], groups[part], weights=weights[part]))
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-12)
    for name in METRICS:
        np.testing.assert_allclose(merged.bootstrap(50)[name], whole.bootstrap(50)[name], rtol=1e-9)


def test_weight_two_is_the_row_twice() -> None:
    labels, logits, groups = sample(500)
    twice = measured(np.tile(labels, 2), np.tile(logits, 2), np.tile(groups, 2)).compute()
    weighted = measured(labels, logits, groups, weights=np.full(500, 2.0)).compute()
    assert weighted.pop("rows") == 500 and twice.pop("rows") == 1000
    assert weighted == pytest.approx(twice, rel=1e-12)


def test_weight_zero_is_the_row_absent() -> None:
    labels, logits, groups = sample(500)
    weights = np.random.default_rng(1).integers(2, size=500).astype(np.float64)
    kept = weights > 0
    found, rest = measured(labels, logits, groups, weights), measured(labels[kept], logits[kept], groups[kept])
    values, expected = found.compute(), rest.compute()
    assert values.pop("rows") == 500 and expected.pop("rows") == kept.sum() == found.weight
    assert values == pytest.approx(expected, rel=1e-12)
    for name, bounds in found.intervals().items():
        assert bounds == pytest.approx(rest.intervals()[name], rel=1e-9)
    columns = ["mean_predicted", "click_rate", "low", "high"]
    np.testing.assert_allclose(found.reliability()[columns], rest.reliability()[columns], rtol=1e-9)


def test_weights_of_one_change_nothing() -> None:
    labels, logits, groups = sample(500)
    plain, weighted = (measured(labels, logits, groups, weights) for weights in (None, np.ones(500)))
    assert plain.compute() == weighted.compute() and plain.intervals() == weighted.intervals()
    assert plain.reliability().equals(weighted.reliability())


def test_metrics_of_a_downsampled_log_are_those_of_the_whole_one() -> None:
    """Rows without click that are left weigh as much as those that stood for them."""
    labels, logits, groups = sample(200_000)
    kept = (labels == 1) | (np.random.default_rng(7).random(len(labels)) < 0.25)
    weights = np.where(labels == 1, 1.0, 4.0)
    whole = measured(labels, logits, groups)
    thinned = measured(labels[kept], logits[kept], groups[kept], weights[kept])
    intervals = thinned.intervals(level=0.999)
    for name, value in whole.compute().items():
        assert name == "rows" or intervals[name][0] < value < intervals[name][1], name
    unweighted = measured(labels[kept], logits[kept], groups[kept]).compute()
    assert unweighted["pcoc"] < 0.8 < 0.95 < thinned.compute()["pcoc"]


def test_rows_of_a_group_together_widen_the_intervals() -> None:
    """Each row five times, in the bootstrap groups of five rows or in that of its own."""
    labels, logits, _ = sample(4000)
    labels, logits = np.repeat(labels, 5), np.repeat(logits, 5)
    widths = []
    for groups in (np.random.default_rng(1).integers(200, size=20_000), np.arange(20_000) // 5 % 200):
        low, high = measured(labels, logits, groups).intervals()["logloss"]
        widths.append(high - low)
    assert widths[1] == pytest.approx(math.sqrt(5) * widths[0], rel=0.25)


def test_no_rows_give_nan() -> None:
    metrics = measured([], [], [])
    values = metrics.compute()
    assert values.pop("rows") == 0
    assert all(math.isnan(value) for value in values.values())
    assert all(math.isnan(low) and math.isnan(high) for low, high in metrics.intervals().values())
    assert paired_difference(metrics, metrics)["difference"].isna().all()
    assert metrics.reliability().empty


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc(label: int) -> None:
    metrics = measured(np.full(50, label), np.linspace(-1, 1, 50), np.arange(50), weights=np.full(50, 0.1))
    values, intervals = metrics.compute(), metrics.intervals()
    assert math.isnan(values["auc"]) and math.isnan(values["ne"])
    assert math.isnan(intervals["auc"][0])
    assert values["logloss"] > 0 and intervals["logloss"][0] > 0
    assert math.isnan(values["pcoc"]) == (label == 0)


def test_pickle_round_trip_is_small_and_equal() -> None:
    metrics = measured(*sample(1000))
    stored = pickle.dumps(metrics)
    assert len(stored) < 300_000
    assert pickle.loads(stored).compute() == metrics.compute()
    assert pickle.loads(stored).intervals() == metrics.intervals()


def test_logloss_interval_has_the_width_of_the_normal_approximation() -> None:
    labels, logits, groups = sample()
    z = logits.astype(np.float64)
    losses = np.logaddexp(0, z) - labels * z
    low, high = measured(labels, logits, groups).intervals()["logloss"]
    assert low < losses.mean() < high
    assert (high - low) / 2 == pytest.approx(1.96 * losses.std() / math.sqrt(ROWS), rel=0.15)


def test_auc_interval_has_the_width_of_hanley_and_mcneil() -> None:
    labels, logits, groups = sample()
    low, high = measured(labels, logits, groups).intervals()["auc"]
    # Placement values (DeLong et al., 1988), here for independent rows.
    ranks = np.argsort(np.argsort(logits)) + 1.0
    clicks, others = labels == 1, labels == 0
    above = (ranks[clicks] - np.argsort(np.argsort(logits[clicks])) - 1) / others.sum()
    below = 1 - (ranks[others] - np.argsort(np.argsort(logits[others])) - 1) / clicks.sum()
    deviation = math.sqrt(above.var() / clicks.sum() + below.var() / others.sum())
    assert low < roc_auc_score(labels, logits) < high
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=0.15)


def test_intervals_cover_the_point_estimate() -> None:
    metrics = measured(*sample(3000))
    values = metrics.compute()
    for name, (low, high) in metrics.intervals().items():
        assert 0 <= low < values[name] < high


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    expected = 0.5 * math.log(2) + 0.5 * (math.log(1 + math.exp(1)) - 0.25)
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.random(1000) < np.repeat([0.5, 0.25], 500)
        metrics = measured(labels, np.repeat([0.0, 1.0], 500), rng.integers(0, 200, 1000))
        low, high = metrics.intervals(resamples=200)["logloss"]
        hits += low <= expected <= high
    assert hits >= 52  # 57 expected, deviation 1.7


def test_paired_difference_is_tighter_than_two_intervals() -> None:
    labels, logits, groups = sample()
    noise = np.random.default_rng(9).normal(0, 0.2, ROWS)
    better, worse = measured(labels, logits, groups), measured(labels, logits + noise, groups)
    table = paired_difference(worse, better)
    assert list(table.columns) == ["metric", "difference", "low", "high"]
    rows = {row["metric"]: row for row in table.to_dict("records")}
    assert list(rows) == list(METRICS)
    loss = rows["logloss"]
    assert loss["low"] > 0 > rows["auc"]["high"]
    assert loss["difference"] == pytest.approx(worse.compute()["logloss"] - better.compute()["logloss"])
    low, high = better.intervals()["logloss"]
    assert loss["high"] - loss["low"] < (high - low) / 3


def test_paired_difference_of_a_model_with_itself_is_zero() -> None:
    metrics = measured(*sample(2000))
    assert (paired_difference(metrics, metrics)[["difference", "low", "high"]] == 0).all(axis=None)


def test_paired_difference_needs_the_same_rows() -> None:
    labels, logits, groups = sample(100)
    with pytest.raises(ValueError, match="same rows"):
        paired_difference(measured(labels, logits, groups), measured(labels[1:], logits[1:], groups[1:]))
    with pytest.raises(ValueError, match="same groups"):
        paired_difference(ClickMetrics.empty(10), ClickMetrics.empty(20))


def test_bootstrap_is_fast_and_seeded() -> None:
    metrics = measured(*sample())
    start = time.perf_counter()
    first = metrics.bootstrap()
    assert time.perf_counter() - start < 3
    assert {name: values.shape for name, values in first.items()} == dict.fromkeys(METRICS, (1000,))
    np.testing.assert_array_equal(first["auc"], metrics.bootstrap()["auc"])
    assert (first["auc"] != metrics.bootstrap(seed=1)["auc"]).any()


def test_reliability_bins_have_equal_mass_and_hold_all_rows() -> None:
    labels, logits, groups = sample()
    table = measured(labels, logits, groups).reliability(10)
    assert list(table.columns) == ["mean_predicted", "click_rate", "rows", "low", "high"]
    assert len(table) == 10
    assert table["rows"].sum() == ROWS
    assert table["rows"].between(ROWS / 10 - 60, ROWS / 10 + 60).all()
    assert table["mean_predicted"].is_monotonic_increasing
    assert (table["click_rate"] * table["rows"]).sum() == pytest.approx(labels.sum())
    assert (table["low"] < table["click_rate"]).all() and (table["click_rate"] < table["high"]).all()


def test_reliability_of_a_constant_predictor_is_one_bin_with_the_wilson_interval() -> None:
    table = measured(np.r_[np.ones(2), np.zeros(8)], np.zeros(10), np.arange(10)).reliability()
    assert table.iloc[0].to_dict() == {
        "mean_predicted": pytest.approx(0.5),
        "click_rate": pytest.approx(0.2),
        "rows": 10,
        "low": pytest.approx(0.0567, abs=1e-4),  # Newcombe (1998), Wilson interval for 2 of 10
        "high": pytest.approx(0.5098, abs=1e-4),
    }
    assert len(table) == 1


def test_reliability_counts_the_effective_rows() -> None:
    """Ten rows of weight 3, with two clicks, tell as much about the click rate as ten rows of weight 1."""
    labels = np.r_[np.ones(2), np.zeros(8)]
    one, three = (measured(labels, np.zeros(10), np.arange(10), np.full(10, w)).reliability() for w in (1.0, 3.0))
    np.testing.assert_allclose(one, three)
    # Weights 1, 1, 4, 4: a click rate of 5 / 10, and (10)^2 / 34 effective rows.
    table = measured([1, 0, 1, 0], np.zeros(4), np.arange(4), np.array([1.0, 1.0, 4.0, 4.0])).reliability()
    n, z = 100 / 34, 1.959964
    margin = z * math.sqrt(0.25 / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert table.iloc[0].to_dict() == {
        "mean_predicted": 0.5,
        "click_rate": 0.5,
        "rows": 4,
        "low": pytest.approx(0.5 - margin),
        "high": pytest.approx(0.5 + margin),
    }


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (([0, 1], [0.0], [0, 0]), "one shape"),
        (([0], [math.nan], [0]), "finite"),
        (([2], [0.0], [0]), "0 or 1"),
        (([1], [0.0], [200]), "groups"),
        (([1], [0.0], [0], [-1.0]), "weights"),
    ],
)
def test_wrong_batches_are_refused(batch: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClickMetrics.empty().update(*batch)


def test_summary_is_a_row_of_a_report() -> None:
    metrics = measured(*sample(500))
    row, intervals = metrics.summary(), metrics.intervals()
    assert {name: row[name] for name in metrics.compute()} == metrics.compute()
    assert all((row[f"{name}_low"], row[f"{name}_high"]) == intervals[name] for name in METRICS)
    assert len(row) == 1 + 3 * len(METRICS)

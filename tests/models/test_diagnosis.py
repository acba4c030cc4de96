"""Calibration against scikit-learn, rare values against pandas, and the identities of 2005.10419 by simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, xlogy
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from models.diagnosis import FrequencyTable, RiskMoments, best_alpha, rarest, recalibration
from models.metrics import ClickMetrics


def metrics_of(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> ClickMetrics:
    return ClickMetrics.empty().update(labels, logits, np.arange(len(labels)) % 200, weights)


def clicks(rows: int, scale: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits of a model whose calibrated logit is scale * logit + shift."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 1.5, rows)
    return (rng.random(rows) < expit(scale * logits + shift)).astype(np.uint8), logits


@pytest.mark.parametrize("weighted", [False, True])
def test_recalibration_is_that_of_scikit_learn(weighted: bool) -> None:
    labels, logits = clicks(5000, 0.6, 0.3)
    weights = np.random.default_rng(1).random(5000) * 3 if weighted else None
    peer = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky")
    peer.fit(logits[:, np.newaxis], labels, sample_weight=weights)
    found = recalibration(metrics_of(labels, logits, weights))
    assert found.reason == ""
    assert found.slope == pytest.approx(peer.coef_[0, 0], abs=1e-4)
    assert found.intercept == pytest.approx(peer.intercept_[0], abs=1e-4)
    p, q = expit(logits), peer.predict_proba(logits[:, np.newaxis])[:, 1]
    for value, score in ((found.logloss, log_loss), (found.brier, brier_score_loss)):
        before, after = (score(labels, probability, sample_weight=weights) for probability in (p, q))
        assert value == pytest.approx(before - after, abs=1e-6) and value > 0


def test_a_calibrated_model_loses_nothing() -> None:
    labels, logits = clicks(5000, 1.0, 0.0)
    line = recalibration(metrics_of(labels, logits))
    again = recalibration(metrics_of(labels, line.slope * logits + line.intercept))
    assert (again.slope, again.intercept) == (pytest.approx(1, abs=1e-4), pytest.approx(0, abs=1e-4))
    assert abs(again.logloss) < 1e-8 and abs(again.brier) < 1e-6


@pytest.mark.parametrize(
    ("labels", "logits", "reason"),
    [([], [], "no rows"), ([1, 1], [0.5, 2.0], "only one class"), ([0, 1], [-30.0, 40.0], "separable")],
)
def test_no_line_can_be_fitted(labels: list[int], logits: list[float], reason: str) -> None:
    found = recalibration(metrics_of(np.array(labels), np.array(logits)))
    assert (found.slope, found.intercept) == (1, 0) and found.reason.startswith(reason)
    assert math.isnan(found.logloss) if reason == "no rows" else found.logloss == 0


def test_rarest_by_hand() -> None:
    counts = [np.array([7, 0, 100, 3]), np.array([50, 0, 2])]
    ids = np.array([[2, 0], [3, 2], [1, 0], [0, 0]], np.int32)
    assert rarest(ids, counts).tolist() == [50, 2, 0, 7]


def test_frequency_table_is_that_of_pandas() -> None:
    rng = np.random.default_rng(0)
    frequency = np.concatenate([[0, 1, 9, 10, 99, 100, 10**9, 3 * 10**9], 10 ** rng.uniform(0, 4, 500)]).astype(int)
    logits, weights = rng.normal(-1, 1, len(frequency)), rng.random(len(frequency))
    labels = (rng.random(len(frequency)) < 0.3).astype(np.uint8)
    whole = FrequencyTable.empty().update(frequency, labels, logits, weights)
    first, second = (FrequencyTable.empty().update(*(x[part] for x in (frequency, labels, logits, weights)))
                     for part in (slice(200), slice(200, None)))  # fmt: skip
    pd.testing.assert_frame_equal(first.merge(second).table(), whole.table())
    p = expit(logits)
    frame = pd.DataFrame({"w": weights, "wy": weights * labels, "wp": weights * p})
    frame["loss"] = -weights * np.log(np.where(labels == 1, p, 1 - p))
    bins = [-1, 0, 9, 99, 999, 9999, 10**9 - 1, 10**12]
    names = ["0", "1-9", "10-99", "100-999", "1000-9999", "", "1000000000+"]
    groups = frame.groupby(pd.cut(frequency, bins, labels=names), observed=True)
    sums, found = groups.sum(), whole.table().set_index("frequency")
    assert found.index.tolist() == ["0", "1-9", "10-99", "100-999", "1000-9999", "1000000000+"]
    assert found["rows"].tolist() == groups.size().tolist() and found["rows"].sum() == len(frequency)
    expected = {
        "click_rate": sums["wy"] / sums["w"],
        "mean_predicted": sums["wp"] / sums["w"],
        "pcoc": sums["wp"] / sums["wy"].where(sums["wy"] > 0),
        "logloss": sums["loss"] / sums["w"],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12)


def test_frequency_table_without_weights_counts_rows_once() -> None:
    table = FrequencyTable.empty().update(np.array([5, 5]), np.array([1, 0]), np.zeros(2)).table()
    assert table.to_dict("records") == [
        {"frequency": "1-9", "rows": 2, "click_rate": 0.5, "mean_predicted": 0.5, "pcoc": 1, "logloss": math.log(2)}
    ]
    assert FrequencyTable.empty().table().empty


class Sample:
    """Rows of known p*, a student's logits and a teacher's probabilities."""

    def __init__(self, rows: int = 200, weighted: bool = False) -> None:
        self.rng = np.random.default_rng(0)
        x = self.rng.normal(size=(rows, 3))
        score = x @ [1.0, -2.0, 0.5] - 1
        self.p_star, self.teacher = expit(score), expit(1.15 * score + 0.1)
        self.logits = x @ [0.8, -1.5, 0.2] - 0.7
        self.weights = self.rng.uniform(0.2, 3, rows) if weighted else np.ones(rows)

    def moments(self, rows: slice = slice(None)) -> RiskMoments:
        arrays = self.p_star, self.teacher, self.logits, self.weights
        return RiskMoments.empty().update(*(array[rows] for array in arrays))

    def risk(self, target: np.ndarray) -> np.ndarray:
        """The weighted mean logloss with labels or probabilities [..., rows]: [...]."""
        losses = -xlogy(target, expit(self.logits)) - xlogy(1 - target, expit(-self.logits))
        return np.average(losses, axis=-1, weights=self.weights)

    def labels(self, draws: int) -> np.ndarray:
        return (self.rng.random((draws, len(self.p_star))) < self.p_star).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
def test_variance_of_the_risk_over_drawn_labels(weighted: bool) -> None:
    """F1 and F2: labels give the risk of p* on average, with the variance of the formula."""
    sample = Sample(weighted=weighted)
    drawn, variance = sample.risk(sample.labels(20_000)), sample.moments().risk().variance
    assert drawn.mean() == pytest.approx(sample.risk(sample.p_star), abs=4 * math.sqrt(variance / 20_000))
    assert drawn.var() / variance == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("weighted", [False, True])
def test_bias_of_the_risk_with_a_teacher(weighted: bool) -> None:
    """F3 and F4: what a teacher moves the risk by, and the bound on it."""
    sample = Sample(weighted=weighted)
    found, mean = sample.moments().risk(), lambda values: np.average(values, weights=sample.weights)
    assert found.bias == pytest.approx(sample.risk(sample.teacher) - sample.risk(sample.p_star), abs=1e-12)
    assert abs(found.bias) <= math.sqrt(found.teacher_error * mean(sample.logits**2))
    assert found.teacher_error == pytest.approx(mean((sample.teacher - sample.p_star) ** 2), rel=1e-12)
    assert found.noise == pytest.approx(mean(sample.p_star * (1 - sample.p_star)), rel=1e-12)


def test_mixed_targets_are_best_at_the_predicted_alpha() -> None:
    """F8, on drawn labels: the squared error of the risk with mixed targets is least near V / (V + B^2)."""
    sample = Sample()
    found, bayes = sample.moments().risk(), sample.risk(sample.p_star)
    drawn, taught = sample.risk(sample.labels(20_000)), sample.risk(sample.teacher)
    alphas = np.linspace(0, 1, 1001)
    # The risk is linear in its targets.
    errors = [np.mean((alpha * taught + (1 - alpha) * drawn - bayes) ** 2) for alpha in alphas]
    assert 0.2 < found.alpha < 0.8
    assert alphas[np.argmin(errors)] == pytest.approx(found.alpha, abs=0.02)


@pytest.mark.parametrize(
    ("variance", "bias", "alpha"), [(3e-4, 1e-2, 0.75), (1.0, 0.0, 1.0), (0.0, -2.0, 0.0), (4.0, -2.0, 0.5)]
)
def test_best_alpha_by_hand(variance: float, bias: float, alpha: float) -> None:
    assert best_alpha(variance, bias) == pytest.approx(alpha, rel=1e-12)


def test_without_variance_and_bias_no_alpha_is_best() -> None:
    assert math.isnan(best_alpha(0.0, 0.0))
    assert math.isnan(RiskMoments.empty().risk(5).alpha)


def test_moments_merge_and_know_larger_samples() -> None:
    sample = Sample(weighted=True)
    whole = sample.moments()
    merged = sample.moments(slice(70)).merge(sample.moments(slice(70, None)))
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=1e-12)
    own, larger = whole.risk(), whole.risk(800)
    assert larger.variance == pytest.approx(own.variance / 4, rel=1e-12) and larger.bias == own.bias
    plain = RiskMoments.empty().update(sample.p_star, sample.teacher, sample.logits)
    assert plain.risk() == Sample().moments().risk()


def test_a_difference_of_brier_scores_is_one_of_distances_from_the_truth() -> None:
    """F7, and F7b: a teacher that has seen the labels of these rows looks better than p* itself."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=200_000)
    p_star = expit(1.2 * x - 1.2)
    labels = (rng.random(len(x)) < p_star).astype(np.uint8)
    teachers = [1.2 * x - 1.1, 0.8 * x - 1.2]
    brier = [metrics_of(labels, z).compute()["brier"] for z in teachers]
    errors = [RiskMoments.empty().update(p_star, expit(z), z).risk().teacher_error for z in teachers]
    noise = np.std((expit(teachers[0]) - labels) ** 2 - (expit(teachers[1]) - labels) ** 2) / math.sqrt(len(x))
    assert brier[0] - brier[1] == pytest.approx(errors[0] - errors[1], abs=4 * noise)
    assert errors[1] - errors[0] > 10 * noise
    leaking = 0.9 * expit(teachers[0]) + 0.1 * labels
    leaked = metrics_of(labels, np.log(leaking) - np.log1p(-leaking)).compute()["brier"]
    assert leaked < metrics_of(labels, 1.2 * x - 1.2).compute()["brier"]

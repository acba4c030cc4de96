from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.calibration import Calibration, fit_calibration


def sample(scale: float, shift: float, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose calibrated logit is scale * logit + shift."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 1.5, rows)
    labels = rng.random(rows) < 1 / (1 + np.exp(-(scale * logits + shift)))
    return logits.astype(np.float32), labels.astype(np.uint8)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.3), (2.0, -1.0), (-1.0, 0.0)])
def test_finds_the_map_that_made_the_rows(scale: float, shift: float) -> None:
    fitted = fit_calibration(*sample(scale, shift))
    assert fitted.reason == ""
    assert fitted.scale == pytest.approx(scale, abs=0.08)
    assert fitted.shift == pytest.approx(shift, abs=0.08)


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_scikit_learn(weighted: bool) -> None:
    logits, labels = sample(0.7, 0.2, 3000)
    weights = np.random.default_rng(1).random(3000) * 3 if weighted else None
    peer = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky")
    peer.fit(logits[:, None].astype(np.float64), labels, sample_weight=weights)
    fitted = fit_calibration(logits, labels, weights)
    assert fitted.scale == pytest.approx(peer.coef_[0, 0], rel=1e-6)
    assert fitted.shift == pytest.approx(peer.intercept_[0], rel=1e-6)


def test_calibrated_rows_have_pcoc_one_and_are_a_fixed_point() -> None:
    logits, labels = sample(0.6, -0.5)
    calibrated = fit_calibration(logits, labels).apply(logits.astype(np.float64))
    assert (1 / (1 + np.exp(-calibrated))).sum() == pytest.approx(labels.sum(), rel=1e-9)
    again = fit_calibration(calibrated, labels)
    assert (again.scale, again.shift) == (pytest.approx(1, abs=1e-7), pytest.approx(0, abs=1e-7))


@pytest.mark.parametrize("offset", [0.0, 50.0, -300.0])
def test_far_off_logits_converge(offset: float) -> None:
    logits, labels = sample(1.0, 0.0)
    fitted = fit_calibration(1000 * logits.astype(np.float64) + offset, labels)
    assert fitted.scale == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        ([], [], "no rows"),
        ([0.0, 1.0], [1, 1], "one class"),
        ([0.0, 1.0], [0, 0], "one class"),
        ([0.0, 1.0, 2.0], [0, 1, 1], "separable"),
        ([0.0, 1.0, 1.0, 2.0], [0, 0, 1, 1], "separable"),
        ([0.0, 1.0, 2.0], [1, 0, 0], "separable"),
    ],
)
def test_no_finite_optimum_gives_the_identity_and_says_why(logits: list[float], labels: list[int], reason: str) -> None:
    fitted = fit_calibration(np.array(logits), np.array(labels))
    assert (fitted.scale, fitted.shift) == (1.0, 0.0)
    assert reason in fitted.reason


def test_constant_logits_get_the_base_rate() -> None:
    fitted = fit_calibration(np.full(4, 2.0), np.array([1, 0, 0, 0]))
    assert fitted.apply(np.array([2.0])) == pytest.approx(math.log(1 / 3))
    assert "constant" in fitted.reason


def test_rows_without_weight_do_not_count() -> None:
    logits, labels = np.array([0.0, 1.0, 2.0]), np.array([0, 1, 0])
    assert "separable" in fit_calibration(logits, labels, np.array([1.0, 1.0, 0.0])).reason


def test_apply_keeps_shape_and_type() -> None:
    logits = np.zeros((3, 2), np.float32)
    applied = Calibration(2.0, 0.5).apply(logits)
    assert applied.shape == (3, 2) and applied.dtype == np.float32
    assert (applied == 0.5).all()


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_calibration(np.array([0.0, math.nan]), np.array([0, 1]))

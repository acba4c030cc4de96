"""Alpha by slice: slices as in the report, skills as scikit-learn has them, weights by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss

from features.errors import ConfigError
from models.diagnosis import FrequencyTable
from models.slice_alpha import SliceErrors, slices_of

FREQUENCIES = np.array([0, 1, 9, 10, 99, 100, 999, 1000, 10**8, 10**9, 10**12])
# Rows, clicks and squared errors by slice; skills 0.2, 0.5, unknown (few rows), and below 0.
SUMS = {2: (400, 100, 60.0), 3: (250, 125, 31.25), 4: (199, 100, 1.0), 5: (200, 100, 55.0)}


def errors_of(sums: dict[int, tuple[int, int, float]]) -> SliceErrors:
    found = SliceErrors.empty()
    for number, (rows, clicks, errors) in sums.items():
        found.sums[:, number] = rows, rows, clicks, errors
    return found


def test_slices_are_those_of_the_report() -> None:
    for frequency in FREQUENCIES:
        table = FrequencyTable.empty().update(np.array([frequency]), np.ones(1), np.zeros(1))
        assert table.sums[0].argmax() == slices_of(frequency)
    assert slices_of(FREQUENCIES).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 9, 10, 10]


@pytest.mark.parametrize("weighted", [False, True])
def test_skills_are_those_of_scikit_learn(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 1.5, 2000)
    labels, frequency = (rng.random(2000) < expit(logits)).astype(np.uint8), 10 ** rng.integers(0, 4, 2000)
    weights = rng.random(2000) * 3 if weighted else None
    found = SliceErrors.empty()
    for rows in (slice(0, 700), slice(700, None)):
        found.update(frequency[rows], labels[rows], logits[rows], None if weights is None else weights[rows])
    for number in range(4):
        rows = frequency == 10**number
        own = None if weights is None else weights[rows]
        rate = np.full(rows.sum(), np.average(labels[rows], weights=own))
        teacher, constant = (brier_score_loss(labels[rows], p, sample_weight=own) for p in (expit(logits[rows]), rate))
        assert found.skills()[number + 1] == pytest.approx(1 - teacher / constant, abs=1e-9)
    assert np.isnan(found.skills()[[0, *range(5, 11)]]).all()


def test_alphas_by_hand() -> None:
    """0.2 / 0.5 of alpha, alpha, what the rarer of two neighbours has, none, and the nearest elsewhere."""
    found = errors_of(SUMS).alphas(0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.2, 0.2, 0.2, 0.5, 0.5, *[0.0] * 6], rtol=1e-6)


def test_a_teacher_without_skill_has_no_weight() -> None:
    assert errors_of({2: (300, 150, 75.0), 4: (300, 150, 80.0)}).alphas(0.8).tolist() == [0.0] * 11


@pytest.mark.parametrize("sums", [{}, {2: (199, 100, 1.0)}, {2: (500, 0, 1.0), 3: (500, 500, 1.0)}])
def test_nothing_is_known_without_rows_of_both_labels(sums: dict[int, tuple[int, int, float]]) -> None:
    with pytest.raises(ConfigError, match=r"^slice_alpha must be false where no slice has 200 .* Received: \[0, 0, "):
        errors_of(sums).alphas(0.8)

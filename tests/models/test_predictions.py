from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats
from scipy.spatial import distance

from features.errors import DataError
from models.predictions import churn, fidelity


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_churn_by_hand() -> None:
    found = churn([[logit(0.2), logit(0.5)], [logit(0.3), logit(0.5)], [logit(0.2), logit(0.9)]])
    # Rows of the three pairs: |.2 - .3|, 0; 0, |.5 - .9|; |.3 - .2|, |.5 - .9|.
    assert found["mean_difference"] == pytest.approx((0.1 + 0.4 + 0.1 + 0.4) / 6)
    assert found["relative"] == pytest.approx((0.2 / 0.5 + 0.8 / 1.4) * 2 / 6)
    assert found["correlation"] == pytest.approx(1)


def test_churn_agrees_with_scipy() -> None:
    z = np.random.default_rng(0).normal(size=(3, 200))
    p, pairs = special.expit(z), [(0, 1), (0, 2), (1, 2)]
    found = churn(z)
    assert found["mean_difference"] == pytest.approx(np.mean([np.abs(p[a] - p[b]) for a, b in pairs]))
    assert found["correlation"] == pytest.approx(np.mean([stats.pearsonr(z[a], z[b]).statistic for a, b in pairs]))
    # Canberra's distance is the sum of |a - b| / (|a| + |b|).
    canberra = [2 * distance.canberra(p[a], p[b]) / 200 for a, b in pairs]
    assert found["relative"] == pytest.approx(np.mean(canberra))


def test_churn_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(4, 50))
    assert churn(z[rng.permutation(4)][:, rng.permutation(50)]) == pytest.approx(churn(z))


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([[0.3, -1.0], [0.3, -1.0]], (0, 0, 1)),
        ([[-800.0, 800.0], [-800.0, 800.0]], (0, 0, 1)),
        ([[-60.0, -60.0], [60.0, 60.0]], (1, 2, math.nan)),
        ([[0.3, -1.0]], (math.nan, math.nan, math.nan)),
    ],
)
def test_churn_at_its_limits(logits: list[list[float]], expected: tuple[float, float, float]) -> None:
    assert tuple(churn(logits).values()) == pytest.approx(expected, nan_ok=True)


def test_fidelity_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    teacher = rng.normal(size=1000)
    student = teacher + rng.normal(size=1000)
    t, s = special.expit(teacher), special.expit(student)
    found = fidelity(teacher, student)
    assert found["kl"] == pytest.approx((special.rel_entr(t, s) + special.rel_entr(1 - t, 1 - s)).mean())
    both = set(np.argsort(teacher)[-100:]) & set(np.argsort(student)[-100:])
    assert found["top_decile"] == pytest.approx(len(both) / 100)


@pytest.mark.parametrize(
    ("teacher", "student", "kl", "top"),
    [
        ([0.1, -2.0, 3.0], [0.1, -2.0, 3.0], 0.0, 1.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0, 1.0),
        ([900.0, -900.0], [900.0, -900.0], 0.0, 1.0),
        ([900.0], [-900.0], 900.0, 1.0),
        # The highest tenth of ten rows is one row; a student that tells none apart has a tenth of it.
        (np.arange(10.0), np.zeros(10), None, 0.1),
        (np.arange(10.0), -np.arange(10.0), None, 0.0),
    ],
)
def test_fidelity_at_its_limits(teacher: list[float], student: list[float], kl: float | None, top: float) -> None:
    found = fidelity(teacher, student)
    assert found["top_decile"] == pytest.approx(top)
    assert kl is None or found["kl"] == pytest.approx(kl)


def test_tied_rows_share_the_places_that_are_left() -> None:
    """Of twenty rows two are highest: for the student row 19 and one of five that are tied, row 18 among them."""
    student = np.zeros(20)
    student[14:19], student[19] = 1.0, 2.0
    assert fidelity(np.arange(20.0), student)["top_decile"] == pytest.approx((1 + 1 / 5) / 2)


@pytest.mark.parametrize(("teacher", "student"), [([0.0], [0.0, 1.0]), ([], []), ([[0.0]], [[0.0]])])
def test_fidelity_needs_the_same_rows(teacher: list, student: list) -> None:
    with pytest.raises(DataError, match="one shape"):
        fidelity(teacher, student)

"""The loss correction against its formula in float64, its limits, and probabilities that float32 cannot hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, logsumexp

from models.backend import tf
from models.corrections import corrected
from models.heads import click_logit, within_class_log_probabilities


def random_logits(rows: int = 60, scale: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(rows, 6)) * scale).astype(np.float32)


def p_click(z: np.ndarray) -> np.ndarray:
    classes = logsumexp(np.asarray(z, np.float64).reshape(len(z), 2, -1), axis=-1)
    return expit(classes[:, 1] - classes[:, 0])


LABELS = (np.arange(60) % 2).astype(np.float32)


def test_by_hand() -> None:
    """p = 0.7: a click at c = 0.09 moves it by 0.3 / 2, no click at c = 0.07 by 0.7 / 8."""
    z = np.log(np.float32([[1.0, 2.0, 3.0, 4.0]]))
    for label, c, expected in ((1.0, 0.09, 0.85), (0.0, 0.07, 0.7 - 0.7 / 8)):
        np.testing.assert_allclose(p_click(corrected(z, tf.constant([label]), c)), [expected], rtol=1e-6)


@pytest.mark.parametrize("c", [1e-3, 0.1, 1.0, 30.0])
def test_moves_the_click_probability_as_published(c: float) -> None:
    z = random_logits()
    p = p_click(z)
    expected = p + c / (c + (LABELS - p) ** 2) * (LABELS - p)
    np.testing.assert_allclose(p_click(corrected(z, LABELS, c)), expected, rtol=1e-5)


@pytest.mark.parametrize("c", [1e-3, 0.1, 1e6])
def test_conditionals_stay(c: float) -> None:
    z = random_logits()
    found = within_class_log_probabilities(corrected(z, LABELS, c))
    np.testing.assert_allclose(found, within_class_log_probabilities(z), atol=1e-5)


def test_nothing_is_off() -> None:
    z = random_logits()
    assert corrected(z, LABELS, 0.0) is z
    np.testing.assert_allclose(corrected(z, LABELS, 1e-12), z, atol=2e-5)


def test_much_is_the_label() -> None:
    np.testing.assert_allclose(p_click(corrected(random_logits(), LABELS, 1e12)), LABELS, atol=1e-9)


def test_agreement_moves_more_than_disagreement() -> None:
    """Gamma is c / (c + (y - p)^2): nearly all of a small distance, little of a large one."""
    z = np.float32([[0.0, 3.0], [0.0, -3.0]])
    p, moved = p_click(z), p_click(corrected(z, [1.0, 1.0], 0.01))
    gamma = (moved - p) / (1 - p)
    np.testing.assert_allclose(gamma, 0.01 / (0.01 + (1 - p) ** 2), rtol=1e-5)
    assert gamma[0] > 0.8 and gamma[1] < 0.02


@settings(deadline=None, max_examples=60)
@given(
    z=hnp.arrays(np.float32, (4, 6), elements=st.sampled_from([-200.0, -30.0, -1.0, 0.0, 1.0, 30.0, 200.0])),
    labels=hnp.arrays(np.float32, 4, elements=st.sampled_from([0.0, 1.0])),
    c=st.sampled_from([1e-30, 1e-5, 0.1, 10.0, 1e30]),
)
def test_extreme_logits_stay_finite_and_between_teacher_and_label(z: np.ndarray, labels: np.ndarray, c: float) -> None:
    found = np.asarray(corrected(z, labels, c))
    assert np.isfinite(found).all()
    towards = (2 * labels - 1) * (click_logit(found).numpy() - click_logit(z).numpy())
    assert (towards > -1e-3).all()


def test_small_errors_keep_their_digits() -> None:
    """With e = 1 - p far below float32's resolution of 1, the log-odds are log(c) - 3 log(e)."""
    found = click_logit(corrected(np.float32([[0.0, 40.0]]), [1.0], 0.5))
    np.testing.assert_allclose(found, [np.log(0.5) + 120.0], rtol=1e-6)


def test_gives_no_gradient() -> None:
    z = tf.Variable(random_logits())
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(corrected(z, LABELS, 0.1))
    assert tape.gradient(value, z) is None


@pytest.mark.parametrize("c", [-0.1, float("nan"), float("inf")])
def test_rejects_other_strengths(c: float) -> None:
    with pytest.raises(ValueError, match="`c` should be at least 0 and finite. Received: c="):
        corrected(random_logits(), LABELS, c)

"""The ranking loss against a loop over pairs, scikit-learn's AUC and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from models.backend import tf
from models.ranking import ranking_loss

RNG = np.random.default_rng(0)
SCORES, P, WEIGHTS = RNG.normal(size=30), RNG.random(30), RNG.integers(4, size=30)


def over_pairs(scores: np.ndarray, p: np.ndarray, weights: np.ndarray) -> float:
    total = mass = 0.0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                pair = weights[i] * weights[j] * p[i] * (1 - p[j])
                total += pair * np.log1p(np.exp(scores[j] - scores[i]))
                mass += pair
    return total / mass


def loss(scores: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> tf.Tensor:
    given = None if weights is None else tf.constant(weights, tf.float32)
    return ranking_loss(tf.constant(scores, tf.float32), tf.constant(p, tf.float32), given)


def test_is_a_mean_over_pairs() -> None:
    found = loss(SCORES, P)
    assert found.shape == [] and found.dtype == tf.float32
    assert float(found) == pytest.approx(over_pairs(SCORES, P, np.ones(30)), rel=1e-5)
    assert float(loss(SCORES, P, WEIGHTS)) == pytest.approx(over_pairs(SCORES, P, WEIGHTS), rel=1e-5)


def test_by_hand() -> None:
    """A click that scores log 3 above the one row without: log(1 + 1/3)."""
    assert float(loss(np.log([3.0, 1.0]), np.array([1.0, 0.0]))) == pytest.approx(np.log(4 / 3), rel=1e-6)


def test_a_weight_of_zero_is_no_row() -> None:
    kept = WEIGHTS > 0
    found = loss(SCORES[kept], P[kept], WEIGHTS[kept])
    assert float(found) == pytest.approx(float(loss(SCORES, P, WEIGHTS)), rel=1e-5)


def test_equal_scores_give_log_2() -> None:
    assert float(loss(np.full(30, 1.7), P)) == pytest.approx(np.log(2), rel=1e-6)


def test_a_perfect_ranking_costs_little() -> None:
    labels = np.arange(30) % 2
    assert float(loss(40.0 * labels, labels)) < 1e-6
    assert float(loss(-40.0 * labels, labels)) == pytest.approx(40.0, rel=1e-6)


def test_with_steep_labels_it_counts_wrong_pairs() -> None:
    """Times a large factor, the logistic loss is the hinge; over the factor and by sign it is 1 - AUC."""
    labels = np.arange(30) % 2
    signs = np.sign(SCORES[labels == 1][:, None] - SCORES[labels == 0])
    assert (signs < 0).mean() == pytest.approx(1 - roc_auc_score(labels, SCORES))
    margins = SCORES[labels == 1][:, None] - SCORES[labels == 0]
    expected = np.maximum(-margins, 0).mean()
    assert float(loss(1000 * SCORES, labels)) / 1000 == pytest.approx(expected, rel=1e-3)


def test_a_shift_of_all_scores_changes_nothing() -> None:
    assert float(loss(SCORES + 3, P)) == pytest.approx(float(loss(SCORES, P)), rel=1e-5)


@pytest.mark.parametrize("p", [np.zeros(5), np.ones(5), np.array([0.5]), np.zeros(0)])
def test_without_pairs_it_is_zero_without_gradient(p: np.ndarray) -> None:
    scores = tf.Variable(np.arange(len(p), dtype=np.float32))
    with tf.GradientTape() as tape:
        value = ranking_loss(scores, tf.constant(p, tf.float32))
    assert float(value) == 0
    np.testing.assert_array_equal(tape.gradient(value, scores), np.zeros(len(p)))


def test_the_gradient_is_that_of_the_pairs() -> None:
    """Every pair pulls its two rows apart by v_ij sigmoid(s_j - s_i)."""
    scores, p = tf.Variable(SCORES, dtype=tf.float32), tf.Variable(P, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = ranking_loss(scores, p)
    found, of_teacher = tape.gradient(value, [scores, p])
    pairs = P[:, None] * (1 - P)
    np.fill_diagonal(pairs, 0)
    pull = pairs / pairs.sum() * expit(SCORES[None, :] - SCORES[:, None])
    np.testing.assert_allclose(found, pull.sum(axis=0) - pull.sum(axis=1), atol=1e-6)
    assert of_teacher is None

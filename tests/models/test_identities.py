"""Exact identities of the methods, on the project's float32 functions.

Those that belong to one function are tested with it and named there: A1 and A2 (class probabilities) in
``test_heads.py``, B1 to B7 (auxiliary loss) and E1 to E6 (distillation) in ``test_losses.py``. The labels are theirs.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from scipy.stats import ortho_group

from models.backend import tf
from models.corrections import corrected
from models.heads import click_logit
from models.losses import auxiliary_loss, class_cross_entropy
from models.ranking import ranking_loss
from models.relations import tuple_log_probabilities

RNG = np.random.default_rng(0)


def two_logits(p: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(p), logit(p)], axis=-1).astype(np.float32)


def test_b7_a_loss_without_centring_would_follow_a_shift() -> None:
    """Rows divided by their length alone change with a shift; ours do not."""

    def uncentred(z: np.ndarray) -> float:
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        return float(np.log(np.exp(unit @ unit.T).mean(axis=1)).mean() - 1)

    z = RNG.normal(size=(40, 10)).astype(np.float32)
    assert abs(uncentred(z + 3) - uncentred(z)) > 0.01
    assert abs(float(auxiliary_loss(z + 3, 1.0)) - float(auxiliary_loss(z, 1.0))) < 1e-5


def test_f5_double_distillation_softens_positives_and_negatives() -> None:
    """The distilled one-against-all loss is the class cross-entropy of each class's probability, summed."""
    rows, classes = 50, 7
    p, f = softmax(RNG.normal(size=(rows, classes)), axis=1), RNG.normal(size=(rows, classes))

    def phi(margin: np.ndarray) -> np.ndarray:
        return np.logaddexp(0, -margin)

    distilled = np.zeros(rows)
    for label in range(classes):
        others = np.arange(classes) != label
        distilled += p[:, label] * (phi(f[:, label]) + phi(-f[:, others]).sum(axis=1))
    found = sum(class_cross_entropy(p[:, k], np.stack([np.zeros(rows), f[:, k]], axis=1)) for k in range(classes))
    np.testing.assert_allclose(found, distilled, rtol=1e-5)


def test_f6_ranking_by_probabilities_is_the_expectation_over_labels() -> None:
    """Numerator by numerator: the loss times its sum of weights, over independent labels."""
    rows = 8
    eta, scores = expit(RNG.normal(size=rows) - 1), RNG.normal(size=rows)

    def numerator(p: np.ndarray) -> float:
        pairs = p.sum() * (1 - p).sum() - (p * (1 - p)).sum()
        return float(ranking_loss(tf.constant(scores, tf.float32), tf.constant(p, tf.float32))) * pairs

    expected = 0.0
    for code in range(2**rows):  # all labels, with their probabilities
        y = (code >> np.arange(rows)) % 2
        expected += np.where(y, eta, 1 - eta).prod() * numerator(y.astype(np.float64))
    assert numerator(eta) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("p", [1e-6, 0.01, 0.3, 0.5, 1 - 1e-6])
def test_h1_corrected_targets_run_from_teacher_to_label(p: float, label: float) -> None:
    z = two_logits(np.array([p]))
    path = [float(tf.sigmoid(click_logit(corrected(z, [label], c)))[0]) for c in (1e-12, 1e-5, 0.1, 10.0, 1e12)]
    assert path[0] == pytest.approx(p, rel=1e-5, abs=1e-6)
    assert path[-1] == pytest.approx(label, abs=1e-6)
    assert all(0 <= value <= 1 for value in path)
    assert (np.diff(path) * (1 if label else -1) >= -1e-6).all()


def expected_target(q: float, p: float, c: float) -> float:
    """The mean over labels, a click with probability p, of the corrected target of a teacher that says q."""
    moved = tf.sigmoid(click_logit(corrected(two_logits(np.array([q, q])), [0.0, 1.0], c))).numpy().astype(np.float64)
    return float((1 - p) * moved[0] + p * moved[1])


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_h2_the_full_correction_is_orthogonal(p: float) -> None:
    """As c grows the expected target no longer depends on the teacher; at c near 0 it is the teacher.

    On the scale of probabilities, where ``p + gamma (y - p)`` is orthogonal at gamma = 1. The orthogonal target on the
    scale of logarithms is no part of the project.
    """
    for q in (0.1, 0.3, 0.6):
        assert expected_target(q, p, 1e9) == pytest.approx(p, abs=1e-6)
        assert expected_target(q, p, 1e-12) == pytest.approx(q, abs=1e-6)


def test_h3_correction_shrinks_the_bias() -> None:
    """With teacher q and truth p the bias is ``q - p`` less the expected correction, here worked out for c = 0.1."""
    q, p, c = 0.3, 0.2, 0.1
    up, down = c / (c + 0.49) * 0.7, c / (c + 0.09) * 0.3
    assert expected_target(q, p, c) - p == pytest.approx(0.1 + p * up - (1 - p) * down, abs=1e-6)
    biases = [abs(expected_target(q, p, c) - p) for c in (1e-12, 1.0, 1e9)]
    assert biases[0] > biases[1] > biases[2]


def distribution(embedding: np.ndarray, members: list[int], temperature: float) -> np.ndarray:
    """Of the first row's tuple."""
    others = tf.constant([members] * len(embedding))
    found = tuple_log_probabilities(tf.constant(embedding, tf.float32), others, tf.ones_like(others, bool), temperature)
    return np.exp(found.numpy()[0].astype(np.float64))


EMBEDDING = RNG.normal(size=(9, 5))


def unit_distance(i: int, j: int) -> float:
    unit = EMBEDDING / np.linalg.norm(EMBEDDING, axis=1, keepdims=True)
    return float(np.linalg.norm(unit[i] - unit[j]))


def test_j1_tuples_do_not_change_when_the_embedding_turns() -> None:
    turned = EMBEDDING @ ortho_group.rvs(5, random_state=1)
    np.testing.assert_allclose(
        distribution(turned, [1, 2, 3, 4], 4.0), distribution(EMBEDDING, [1, 2, 3, 4], 4.0), rtol=1e-5
    )


def test_j2_two_class_centres_are_one_direction() -> None:
    """Logits of two centres have the click logit ``h . (mu_1 - mu_0) / T``."""
    centres, h = RNG.normal(size=(2, 5)), RNG.normal(size=(9, 5))
    found = tf.sigmoid(click_logit((h @ centres.T / 2.0).astype(np.float32)))
    np.testing.assert_allclose(found, expit(h @ (centres[1] - centres[0]) / 2.0), rtol=1e-5)


def test_j3_a_triplet_is_a_tuple_of_two() -> None:
    expected = expit((unit_distance(0, 2) - unit_distance(0, 1)) / 4.0)
    assert distribution(EMBEDDING, [1, 2], 4.0)[0] == pytest.approx(expected, rel=1e-5)

"""The tolerance term: limits, what it does to the optimum of a teacher, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, softmax

from models.backend import tf
from models.heads import click_logit
from models.losses import class_cross_entropy
from models.tolerance import tolerance_loss

S = 5


def random_logits(rows: int = 50, subclasses: int = S, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (rows, 2 * subclasses)).astype(np.float32)


def within(z: np.ndarray, classes: int) -> np.ndarray:
    """An independent computation in float64."""
    z = z.astype(np.float64)
    p = softmax(z, axis=1).reshape(len(z), 2, -1).sum(axis=2)
    ranked = np.sort(softmax(z.reshape(len(z), 2, -1), axis=2), axis=2)[:, :, ::-1]
    return np.sum(p * (ranked[:, :, 0] - ranked[:, :, 1:classes].mean(axis=2)), axis=1)


@pytest.mark.parametrize("classes", [2, 3, S])
def test_agrees_with_numpy(classes: int) -> None:
    z = random_logits()
    found = tolerance_loss(tf.constant(z), "within", classes)
    assert found.dtype == tf.float32 and found.shape == (50,)
    np.testing.assert_allclose(found, within(z, classes), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 3, S])
def test_uniform_is_0_and_one_hot_is_1(classes: int) -> None:
    sure = np.zeros((1, 2, S), np.float32)
    sure[0, 0, 2] = sure[0, 1, 4] = 200.0
    for blocks, expected in ((np.zeros_like(sure), 0.0), (sure, 1.0)):
        moved = blocks + np.array([[0.7], [-1.3]], np.float32)
        found = tolerance_loss(tf.constant(moved.reshape(1, -1)), "within", classes)
        np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_comparing_with_more_subclasses_is_never_less() -> None:
    """The mean of the next ones falls as further ones are taken in; with all of them it has a closed form."""
    z = random_logits()
    every = [tolerance_loss(tf.constant(z), "within", classes).numpy() for classes in range(2, S + 1)]
    assert (np.diff(every, axis=0) >= -1e-6).all()
    p = softmax(z.astype(np.float64), axis=1).reshape(-1, 2, S)
    classes = p.sum(axis=2)
    closed = (classes * ((p / classes[:, :, np.newaxis]).max(axis=2) * S - 1) / (S - 1)).sum(axis=1)
    np.testing.assert_allclose(every[-1], closed, rtol=1e-5)


def test_one_subclass_a_class_is_nothing_to_compare() -> None:
    z = tf.Variable(random_logits(subclasses=1))
    with tf.GradientTape() as tape:
        loss = tolerance_loss(z, "within", 2)
    np.testing.assert_array_equal(loss, np.zeros(50))
    assert not np.any(tape.gradient(loss, z, unconnected_gradients=tf.UnconnectedGradients.ZERO))


def test_with_fewer_subclasses_all_are_compared() -> None:
    z = tf.constant(random_logits(subclasses=2))
    np.testing.assert_array_equal(tolerance_loss(z, "within", 4), tolerance_loss(z, "within", 2))


@pytest.mark.parametrize("classes", [2, 4])
def test_conditionals_do_not_feel_a_class_logit_that_moves(classes: int) -> None:
    """With equal top-score differences in both classes the weights of the classes do not matter either."""
    z = random_logits()
    z[:, S:] = z[:, :S]
    moved = z + np.repeat([0.7, -1.3], S).astype(np.float32)
    before, after = (tolerance_loss(tf.constant(x), "within", classes) for x in (z, moved))
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_each_class_counts_as_it_is_probable() -> None:
    z = random_logits(rows=1)
    z[0, S:] += 40.0
    (found,) = tolerance_loss(tf.constant(z), "within", 2).numpy()
    r = np.sort(softmax(z[0, S:].astype(np.float64)))
    assert found == pytest.approx(r[-1] - r[-2], rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3, S])
def test_gradients_of_a_class_block_add_up_to_0(classes: int) -> None:
    z = tf.Variable(random_logits())
    with tf.GradientTape() as tape:
        loss = tolerance_loss(z, "within", classes)
    gradient = tape.gradient(loss, z).numpy().reshape(-1, 2, S)
    assert np.abs(gradient).max() > 0.05
    np.testing.assert_allclose(gradient.sum(axis=2), np.zeros((50, 2)), atol=1e-6)


def test_the_gradient_is_that_of_finite_differences_with_class_weights_kept() -> None:
    z = random_logits(rows=4)
    variable = tf.Variable(z)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tolerance_loss(variable, "within", 3))
    gradient, p = tape.gradient(loss, variable).numpy(), softmax(z.astype(np.float64), axis=1)
    kept = p.reshape(4, 2, S).sum(axis=2)

    def value(row: np.ndarray, weights: np.ndarray) -> float:
        ranked = np.sort(softmax(row.reshape(2, S), axis=1), axis=1)[:, ::-1]
        return float(weights @ (ranked[:, 0] - ranked[:, 1:3].mean(axis=1)))

    for row, k in np.ndindex(*z.shape):
        step = np.eye(2 * S)[k] * 1e-5
        slope = (value(z[row] + step, kept[row]) - value(z[row] - step, kept[row])) / 2e-5
        assert gradient[row, k] == pytest.approx(slope, abs=1e-5)


def total_gradient(z: np.ndarray, q: float, scope: str, gamma: float) -> np.ndarray:
    """Of the population loss at one point: cross-entropy with the true probability, plus tolerance."""
    variable = tf.Variable(z.astype(np.float32)[np.newaxis])
    with tf.GradientTape() as tape:
        loss = class_cross_entropy(tf.constant([q]), variable) + gamma * tolerance_loss(variable, scope, 2)
    gradient: np.ndarray = tape.gradient(loss, variable).numpy()[0]
    return gradient


@pytest.mark.parametrize(("q", "gamma"), [(0.1, 1 / 9), (0.256, 0.05), (0.03, 0.3)])
def test_class_scope_moves_the_optimum_as_the_identity_says(q: float, gamma: float) -> None:
    """K1: p = q + 2 gamma p (1 - p), for gamma = (1 - lambda) / lambda; q = .1, lambda = .9 gives p = .1242."""
    p = brentq(lambda x: x - q - 2 * gamma * x * (1 - x), q, 0.5)
    if q == 0.1:
        assert p == pytest.approx(0.1242, abs=1e-4)
    logit = np.log(p / (1 - p))
    np.testing.assert_allclose(total_gradient(np.array([0.0, logit]), q, "class", gamma), 0, atol=1e-6)
    for nearby, sign in ((logit - 0.05, -1), (logit + 0.05, 1)):
        assert sign * total_gradient(np.array([0.0, nearby]), q, "class", gamma)[1] > 1e-4


@pytest.mark.parametrize(("distance", "collapses"), [(0.05, True), (-0.05, True), (0.07, False), (-0.07, False)])
def test_class_scope_has_a_dead_band(distance: float, collapses: bool) -> None:
    """K2: lambda = .9 puts all |q - 1/2| <= .0556 at exactly 1/2."""
    q, gamma = 0.5 + distance, 1 / 9

    def loss(logit: float) -> float:
        z = tf.constant([[0.0, logit]])
        return float(class_cross_entropy(tf.constant([q]), z)[0] + gamma * tolerance_loss(z, "class", 2)[0])

    best = minimize_scalar(loss, bounds=(-1.0, 1.3), method="bounded", options={"xatol": 1e-4}).x
    assert (abs(expit(best) - 0.5) < 2e-3) == collapses


def test_class_scope_is_the_distance_of_p_from_an_even_chance() -> None:
    z = tf.constant(random_logits())
    p = expit(click_logit(z).numpy().astype(np.float64))
    np.testing.assert_allclose(tolerance_loss(z, "class", 2), np.abs(2 * p - 1), rtol=1e-5, atol=1e-6)


def test_within_scope_leaves_the_optimum_of_p_where_it_is() -> None:
    """At p = q the pull on a class block as a whole is 0, however strong the term; away from it, that of the label."""
    q, z = 0.2, random_logits(rows=1)[0]
    for target in (q, 0.35):
        logit = np.log(target / (1 - target)) - float(click_logit(tf.constant(z[np.newaxis]))[0])
        moved = z + np.repeat([0.0, logit], S)
        pull = total_gradient(moved, q, "within", 3.0).reshape(2, S).sum(axis=1)
        np.testing.assert_allclose(pull, [q - target, target - q], atol=1e-5)


@pytest.mark.parametrize(
    ("scope", "classes", "message"),
    [("joint", 2, r"`scope` should be one of within, class"), ("within", 1, r"`classes` should be at least 2")],
)
def test_wrong_arguments(scope: str, classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tolerance_loss(tf.zeros([1, 4]), scope, classes)

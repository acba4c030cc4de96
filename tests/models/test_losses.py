"""The losses against SciPy in float64, values by hand, exact identities and gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, log_softmax, logit, logsumexp, softmax, xlogy

from models.backend import tf
from models.losses import (
    auxiliary_loss,
    class_cross_entropy,
    distillation_loss,
    gated_distillation_loss,
    mean_loss,
    plain_distillation_loss,
    student_loss,
)

TEMPERATURES = [0.5, 1.0, 4.0]


def random_logits(rows: int = 40, outputs: int = 10, scale: float = 2.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(rows, outputs)) * scale).astype(np.float32)


def gradient(function: Callable[[tf.Tensor], tf.Tensor], z: np.ndarray) -> np.ndarray:
    z = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = function(z)
    return tape.gradient(value, z).numpy()


def p_click(z: np.ndarray) -> np.ndarray:
    return softmax(z.astype(np.float64), axis=-1)[:, z.shape[1] // 2 :].sum(axis=-1)


def binary_cross_entropy(p: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return -p * np.log(expit(logits)) - (1 - p) * np.log(expit(-logits))


def joint_in_float64(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    q = softmax(teacher.astype(np.float64) / temperature, axis=-1)
    log_s = log_softmax(student.astype(np.float64) / temperature, axis=-1)
    return -(temperature**2) * (q * log_s).sum(axis=-1)


def within_in_float64(
    teacher: np.ndarray, student: np.ndarray, temperature: float, weight: float = 1.0, class_weight: float = 1.0
) -> np.ndarray:
    """Row by row and class by class, from the definition of the two parts."""
    losses = []
    for t, s in zip(teacher.astype(np.float64), student.astype(np.float64), strict=True):
        p_t, p_s = softmax(t).reshape(2, -1).sum(axis=1), softmax(s).reshape(2, -1).sum(axis=1)
        loss = 0.0
        for c, (block_t, block_s) in enumerate(zip(np.split(t, 2), np.split(s, 2), strict=True)):
            conditional = softmax(block_t / temperature) @ log_softmax(block_s / temperature)
            loss -= p_t[c] * (class_weight * np.log(p_s[c]) + weight * temperature**2 * conditional)
        losses.append(loss)
    return np.array(losses)


# class_cross_entropy


def test_label_loss_by_hand() -> None:
    z = np.log([[1.0, 2.0, 3.0, 4.0]] * 3)  # p = 0.7
    losses = class_cross_entropy([1.0, 0.0, 0.25], z)
    expected = [-np.log(0.7), -np.log(0.3), -0.25 * np.log(0.7) - 0.75 * np.log(0.3)]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_label_loss_is_the_softmax_cross_entropy_of_the_class_logits() -> None:
    z, labels = random_logits(), np.random.default_rng(1).uniform(size=40)
    classes = log_softmax(logsumexp(z.astype(np.float64).reshape(-1, 2, 5), axis=-1), axis=-1)
    expected = -(1 - labels) * classes[:, 0] - labels * classes[:, 1]
    np.testing.assert_allclose(class_cross_entropy(labels, z), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_soft_label_asks_for_p(p: float) -> None:
    """The gradient by the click logit is sigmoid - p. EasyRec's loss asks for p / (1 + p)."""
    z = random_logits(outputs=2)
    slopes = gradient(lambda z: class_cross_entropy(tf.fill([40], p), z), z)
    np.testing.assert_allclose(slopes[:, 1], p_click(z) - p, atol=1e-6)
    np.testing.assert_allclose(slopes[:, 0], p - p_click(z), atol=1e-6)


def test_label_loss_gradient_vanishes_at_the_soft_label() -> None:
    p = np.array([0.01, 0.3, 0.5, 0.99])
    z = np.stack([np.zeros(4), logit(p)], axis=1).astype(np.float32)
    np.testing.assert_allclose(gradient(lambda z: class_cross_entropy(p, z), z), np.zeros([4, 2]), atol=1e-7)


def test_small_label_losses_keep_their_digits() -> None:
    np.testing.assert_allclose(class_cross_entropy([1.0], [[0.0, 20.0]]), [np.log1p(np.exp(-20.0))], rtol=1e-5)


def test_labels_of_another_shape_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match="same shape"):
        class_cross_entropy(tf.zeros([5, 1]), tf.zeros([5, 4]))


# auxiliary_loss


def auxiliary_in_float64(z: np.ndarray, temperature: float) -> float:
    """Standardised rows divided by sqrt(T K): their products are Pearson correlations over T."""
    correlations = np.corrcoef(z.astype(np.float64)) / temperature
    return logsumexp(correlations, axis=-1).mean() - 1 / temperature - np.log(len(z))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_auxiliary_loss_is_made_of_correlations(temperature: float) -> None:
    z = random_logits(rows=100)
    loss = auxiliary_loss(z, temperature)
    assert loss.shape == [] and loss.dtype == tf.float32
    np.testing.assert_allclose(loss, auxiliary_in_float64(z, temperature), atol=2e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_auxiliary_loss_of_equal_rows_is_zero(temperature: float) -> None:  # B1, B4
    for rows in (1, 2, 64):
        z = np.repeat(random_logits(rows=1), rows, axis=0)
        np.testing.assert_allclose(auxiliary_loss(z, temperature), 0.0, atol=5e-6)


@settings(deadline=None, max_examples=50)
@given(
    z=hnp.arrays(np.float32, st.tuples(st.integers(2, 8), st.integers(2, 8)), elements=st.integers(-100, 100)),
    scale=st.floats(0.5, 3.0, width=32),
    shift=st.floats(-10, 10, width=32),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
)
def test_auxiliary_loss_ignores_scale_and_shift_and_keeps_its_bounds(
    z: np.ndarray, scale: float, shift: float, temperature: float
) -> None:  # B2, B3
    loss = auxiliary_loss(z, temperature).numpy()
    assert -1 / temperature - 1e-5 <= loss <= 1e-5
    moved = z * np.linspace(1.0, scale, len(z), dtype=np.float32)[:, None] + np.float32(shift)
    np.testing.assert_allclose(auxiliary_loss(moved, temperature), loss, atol=2e-4)


@pytest.mark.parametrize(("temperature", "value"), [(0.3, -2.1024), (1.0, -0.9257), (2.0, -0.4839)])
def test_auxiliary_loss_of_balanced_one_hot_clusters(temperature: float, value: float) -> None:  # B5
    z = np.repeat(np.eye(10) * 7.0, 20, axis=0)
    same, other = np.exp(1 / temperature), np.exp(-1 / (9 * temperature))
    closed_form = np.log(0.1 * same + 0.9 * other) - 1 / temperature
    np.testing.assert_allclose(closed_form, value, atol=5e-5)
    np.testing.assert_allclose(auxiliary_loss(z, temperature), closed_form, atol=2e-6)


def test_auxiliary_gradient_only_rotates() -> None:  # B6
    z = random_logits(rows=32)
    slopes = gradient(lambda z: auxiliary_loss(z, 1.0), z)
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(slopes.sum(axis=-1), np.zeros(32), atol=1e-7)
    np.testing.assert_allclose((slopes * (z - z.mean(axis=-1, keepdims=True))).sum(axis=-1), 0.0, atol=1e-6)


def test_auxiliary_gradient_is_that_of_the_correlations() -> None:
    z = random_logits(rows=6, outputs=4).astype(np.float64)
    step, expected = 1e-5, np.zeros_like(z)
    for index in np.ndindex(*z.shape):
        delta = np.zeros_like(z)
        delta[index] = step
        difference = auxiliary_in_float64(z + delta, 0.3) - auxiliary_in_float64(z - delta, 0.3)
        expected[index] = difference / (2 * step)
    np.testing.assert_allclose(gradient(lambda z: auxiliary_loss(z, 0.3), np.float32(z)), expected, atol=1e-5)


def test_auxiliary_loss_centres_rows() -> None:  # B7: the common re-implementation divides by the norm only
    z = random_logits()
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    without_centring = logsumexp(unit @ unit.T, axis=-1).mean() - 1.0 - np.log(len(z))
    assert abs(auxiliary_loss(z, 1.0) - without_centring) > 1e-3


@pytest.mark.parametrize("outputs", [4, 10, 14])  # a float32 mean of 14 equal logits is not that logit
@pytest.mark.parametrize("value", [0.0, 7.7, -3.3, 100.1, 1e4])
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_auxiliary_loss_of_constant_logits_is_a_dead_start(outputs: int, value: float, temperature: float) -> None:
    z = np.full([50, outputs], value, np.float32)
    np.testing.assert_allclose(auxiliary_loss(z, temperature), -1 / temperature, atol=1e-5)
    np.testing.assert_array_equal(gradient(lambda z: auxiliary_loss(z, temperature), z), np.zeros_like(z))


def test_auxiliary_loss_of_a_constant_row_among_others() -> None:
    z = random_logits(rows=9)
    z[4] = 0.7
    rest = np.corrcoef(np.delete(z, 4, axis=0).astype(np.float64))
    others = np.logaddexp(logsumexp(rest, axis=-1), 0.0) - 1.0 - np.log(9)
    np.testing.assert_allclose(auxiliary_loss(z, 1.0), (others.sum() - 1.0) / 9, atol=2e-6)


@pytest.mark.parametrize("spread", [0.0, 1e-8, 3e-5, 1e-3])
def test_auxiliary_gradient_is_finite_near_constant_rows(spread: float) -> None:
    """By the chain rule at most 2 |u|_max / sqrt(eps T K) a row, where |u|_max = 1 / sqrt(T)."""
    z = random_logits(rows=16)
    z[3] = 0.7 + spread * z[3]
    slopes = gradient(lambda z: auxiliary_loss(z, 1.0), z)
    assert np.isfinite(slopes).all()
    assert np.linalg.norm(slopes[3]) <= 2 / np.sqrt(1e-9 * 10)


def test_auxiliary_loss_computes_in_float32() -> None:
    z = random_logits(scale=0.01).astype(np.float16)
    loss = auxiliary_loss(z, 1.0)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, auxiliary_in_float64(z, 1.0), atol=1e-4)


def test_auxiliary_loss_of_unknown_batch_size() -> None:
    traced = tf.function(lambda z: auxiliary_loss(z, 1.0), input_signature=[tf.TensorSpec([None, 10])])
    z = random_logits()
    np.testing.assert_allclose(traced(z), auxiliary_loss(z, 1.0), atol=1e-6)


@pytest.mark.parametrize("z", [np.zeros([4]), np.zeros([4, 0]), np.zeros([4, 2, 2])])
def test_auxiliary_loss_rejects_what_is_not_a_matrix(z: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"`z` should have shape \[batch, K\].*Received: shape="):
        auxiliary_loss(z, 1.0)


# distillation_loss


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_joint_is_the_tempered_cross_entropy(temperature: float) -> None:
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    losses = distillation_loss(teacher, student, temperature, "joint")
    assert losses.shape == [40] and losses.dtype == tf.float32
    np.testing.assert_allclose(losses, joint_in_float64(teacher, student, temperature), rtol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_within_is_a_class_part_and_a_tempered_part(temperature: float, weight: float) -> None:
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    np.testing.assert_allclose(
        distillation_loss(teacher, student, temperature, "within", weight),
        within_in_float64(teacher, student, temperature, weight),
        rtol=1e-5,
    )


@pytest.mark.parametrize(("weight", "class_weight"), [(1.0, 0.0), (3.0, 0.0), (0.3, 2.0), (0.0, 0.5)])
def test_the_weight_of_the_class_part(weight: float, class_weight: float) -> None:
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    np.testing.assert_allclose(
        distillation_loss(teacher, student, 2.0, "within", weight, class_weight),
        within_in_float64(teacher, student, 2.0, weight, class_weight),
        rtol=1e-5,
    )


def test_a_class_weight_of_one_changes_no_bit() -> None:
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    np.testing.assert_array_equal(
        distillation_loss(teacher, student, 2.0, "within", 0.3, 1.0),
        distillation_loss(teacher, student, 2.0, "within", 0.3),
    )


def test_conditionals_alone_do_not_move_the_click_logit() -> None:
    """Without a class part the gradient sums to 0 over each class block: blocks do not move."""
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    slopes = gradient(lambda z: distillation_loss(teacher, z, 1.0, "within", 1.0, 0.0), student)
    assert np.abs(slopes).max() > 0.1
    np.testing.assert_allclose(slopes.reshape(-1, 2, 5).sum(axis=-1), 0.0, atol=1e-6)


def test_joint_by_hand() -> None:
    teacher, student = np.log([[1.0, 1.0, 1.0, 5.0]]), np.log([[1.0, 2.0, 3.0, 4.0]])
    expected = -(np.log(0.1) + np.log(0.2) + np.log(0.3) + 5 * np.log(0.4)) / 8
    np.testing.assert_allclose(distillation_loss(teacher, student, 1.0, "joint"), [expected], rtol=1e-6)


def test_within_by_hand() -> None:
    teacher, student = np.log([[1.0, 1.0, 1.0, 5.0]]), np.log([[1.0, 2.0, 3.0, 4.0]])
    class_part = -0.25 * np.log(0.3) - 0.75 * np.log(0.7)
    root = 1 / (1 + 5**0.5)  # T = 2 takes square roots: 1 : sqrt(5), 1 : sqrt(2) and sqrt(3) : 2
    no_click = -0.5 * np.log(1 / (1 + 2**0.5)) - 0.5 * np.log(2**0.5 / (1 + 2**0.5))
    click = -root * np.log(3**0.5 / (2 + 3**0.5)) - (1 - root) * np.log(2 / (2 + 3**0.5))
    expected = class_part + 4 * (0.25 * no_click + 0.75 * click)
    np.testing.assert_allclose(distillation_loss(teacher, student, 2.0, "within"), [expected], rtol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_joint_gradient(temperature: float) -> None:  # E1
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    slopes = gradient(lambda z: distillation_loss(teacher, z, temperature, "joint"), student)
    expected = softmax(student / temperature, axis=-1) - softmax(teacher / temperature, axis=-1)
    np.testing.assert_allclose(slopes, temperature * expected, atol=1e-6)


def test_joint_gradient_of_a_large_temperature_matches_centred_logits() -> None:  # E2
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    slopes = gradient(lambda z: distillation_loss(teacher, z, 1e3, "joint"), student)
    difference = student - teacher
    expected = (difference - difference.mean(axis=-1, keepdims=True)) / 10
    np.testing.assert_allclose(slopes, expected, atol=3e-3)


def test_within_gradient_keeps_its_scale_at_a_large_temperature() -> None:
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    slopes = gradient(lambda z: distillation_loss(teacher, z, 1e3, "within"), student).reshape(-1, 2, 5)
    difference = (student - teacher).reshape(-1, 2, 5)
    p_t = np.stack([1 - p_click(teacher), p_click(teacher)], axis=1)[..., None]
    tempered = p_t * (difference - difference.mean(axis=-1, keepdims=True)) / 5
    conditional = softmax(student.reshape(-1, 2, 5), axis=-1)
    by_click_logit = (p_click(student) - p_click(teacher))[:, None, None] * np.array([[-1.0], [1.0]])
    np.testing.assert_allclose(slopes, conditional * by_click_logit + tempered, atol=3e-3)


def test_within_is_joint_at_temperature_one() -> None:  # E3, the chain rule
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    np.testing.assert_allclose(
        distillation_loss(teacher, student, 1.0, "within"),
        distillation_loss(teacher, student, 1.0, "joint"),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        gradient(lambda z: distillation_loss(teacher, z, 1.0, "within"), student),
        gradient(lambda z: distillation_loss(teacher, z, 1.0, "joint"), student),
        atol=1e-6,
    )


def test_joint_loses_the_class_marginal_and_within_keeps_it() -> None:  # E4
    teacher = random_logits(seed=1, scale=1.5) + np.repeat(np.float32([1.0, -1.0]), 5)
    tempered = softmax(teacher / 4.0, axis=-1)[:, 5:].sum(axis=-1)
    assert np.abs(tempered - p_click(teacher)).max() > 0.2
    assert tempered.mean() > p_click(teacher).mean() + 0.1
    slopes = gradient(lambda z: distillation_loss(teacher, z, 4.0, "joint"), np.zeros_like(teacher))
    np.testing.assert_allclose(-slopes[:, 5:].sum(axis=-1) / 4.0, tempered - 0.5, atol=1e-6)
    slopes = gradient(lambda z: distillation_loss(teacher, z, 4.0, "within"), np.zeros_like(teacher))
    np.testing.assert_allclose(-slopes[:, 5:].sum(axis=-1), p_click(teacher) - 0.5, atol=1e-6)


def test_joint_teaches_a_prior_of_one_half_at_a_large_temperature() -> None:  # E5
    teacher = random_logits(seed=1) - np.repeat(np.float32([0.0, 2.0]), 5)
    assert p_click(teacher).mean() < 0.25
    for temper, expected in (("joint", np.full(40, 0.5)), ("within", p_click(teacher))):
        slopes = gradient(lambda z, t=temper: distillation_loss(teacher, z, 1e4, t), np.zeros_like(teacher))
        temperature = 1e4 if temper == "joint" else 1.0
        target = 0.5 - slopes[:, 5:].sum(axis=-1) / temperature
        np.testing.assert_allclose(target, expected, atol=1e-3)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("temper", ["joint", "within"])
def test_the_teacher_itself_is_the_minimum(temperature: float, temper: str) -> None:
    teacher = random_logits(seed=1)
    student = teacher + random_logits(outputs=1, seed=2)
    slopes = gradient(lambda z: distillation_loss(teacher, z, temperature, temper), student)
    np.testing.assert_allclose(slopes, np.zeros_like(slopes), atol=2e-6)
    least = distillation_loss(teacher, teacher, temperature, temper)
    worse = distillation_loss(teacher, random_logits(seed=3), temperature, temper)
    assert (worse.numpy() > least.numpy()).all()
    if temper == "joint":
        q = softmax(teacher.astype(np.float64) / temperature, axis=-1)
        entropy = -xlogy(q, q).sum(axis=-1)
        np.testing.assert_allclose(least, temperature**2 * entropy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_one_subclass_is_binary_distillation(temperature: float) -> None:
    teacher, student = random_logits(outputs=2, seed=1), random_logits(outputs=2, seed=2)
    l_t, l_s = (z[:, 1].astype(np.float64) - z[:, 0] for z in (teacher, student))
    binary = temperature**2 * binary_cross_entropy(expit(l_t / temperature), l_s / temperature)
    np.testing.assert_allclose(distillation_loss(teacher, student, temperature, "joint"), binary, rtol=1e-5)
    np.testing.assert_allclose(plain_distillation_loss(teacher, student, temperature), binary, rtol=1e-5)
    untempered = binary_cross_entropy(expit(l_t), l_s)
    np.testing.assert_allclose(distillation_loss(teacher, student, temperature, "within"), untempered, rtol=1e-5)


# plain_distillation_loss


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_plain_distillation_uses_class_logits(temperature: float) -> None:
    teacher, student = random_logits(outputs=10, seed=1), random_logits(outputs=4, seed=2)
    l_t, l_s = logit(p_click(teacher)), logit(p_click(student))
    expected = temperature**2 * binary_cross_entropy(expit(l_t / temperature), l_s / temperature)
    np.testing.assert_allclose(plain_distillation_loss(teacher, student, temperature), expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_plain_distillation_gradient(temperature: float) -> None:
    teacher, student = random_logits(outputs=10, seed=1), random_logits(outputs=2, seed=2)
    slopes = gradient(lambda z: plain_distillation_loss(teacher, z, temperature), student)
    l_t, l_s = logit(p_click(teacher)), logit(p_click(student))
    expected = temperature * (expit(l_s / temperature) - expit(l_t / temperature))
    np.testing.assert_allclose(slopes, np.stack([-expected, expected], axis=1), atol=2e-6)


@pytest.mark.parametrize("target", ["class", "subclass"])
@pytest.mark.parametrize("temper", ["joint", "within"])
def test_two_outputs_have_a_gradient(target: str, temper: str) -> None:
    """Keras' LogitsDistillation and torchdistill's KDLoss are exactly 0 on one logit."""
    teacher, student = random_logits(outputs=2, seed=1), random_logits(outputs=2, seed=2)

    def loss(z: tf.Tensor) -> tf.Tensor:
        return student_loss(np.ones(40), teacher, z, target=target, alpha=1.0, temperature=4.0, temper=temper)

    assert (loss(student).numpy() > 1e-3).all()
    assert (np.abs(gradient(loss, student)).max(axis=-1) > 1e-4).all()


@pytest.mark.parametrize("target", ["none", "class", "subclass"])
@pytest.mark.parametrize("temper", ["within", "joint"])
def test_one_output_is_refused(target: str, temper: str) -> None:
    z = tf.zeros([3, 1])
    with pytest.raises(ValueError, match=r"`z` should have shape \[batch, 2 \* S\]"):
        student_loss(np.ones(3), z, z, target=target, alpha=0.5, temperature=1.0, temper=temper)


# gated_distillation_loss


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_losses_of_teachers_are_weighed(temperature: float) -> None:
    members, student = random_logits(outputs=3, seed=1), random_logits(seed=2)
    weights = softmax(random_logits(outputs=3, seed=3), axis=1)
    l_s = logit(p_click(student)) / temperature
    losses = [binary_cross_entropy(expit(members[:, i].astype(np.float64) / temperature), l_s) for i in range(3)]
    expected = temperature**2 * sum(weights[:, i] * losses[i] for i in range(3))
    found = gated_distillation_loss(members, weights, student, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # It is the loss from the weighed mean of their probabilities, so the student's gradient is, too.
    mean = (weights * expit(members / temperature)).sum(axis=1)
    np.testing.assert_allclose(found, temperature**2 * binary_cross_entropy(mean, l_s), rtol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_one_teacher_is_plain_distillation(temperature: float) -> None:
    clicks, student = random_logits(outputs=1, seed=1), random_logits(seed=2)
    teacher = np.concatenate([np.zeros_like(clicks), clicks], axis=1)
    functions = (
        lambda z: gated_distillation_loss(clicks, np.ones_like(clicks), z, temperature),
        lambda z: plain_distillation_loss(teacher, z, temperature),
    )
    np.testing.assert_allclose(*(function(student) for function in functions), rtol=1e-6)
    np.testing.assert_allclose(*(gradient(function, student) for function in functions), rtol=1e-5, atol=1e-7)


def test_gated_teachers_get_no_gradient() -> None:
    members, student = tf.Variable(random_logits(outputs=3)), random_logits(seed=2)
    with tf.GradientTape() as tape:
        loss = gated_distillation_loss(members, np.full([40, 3], 1 / 3, np.float32), student, 2.0)
    assert tape.gradient(loss, members) is None


# student_loss


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize(
    ("target", "temper", "weights"),
    [("class", "joint", (1.0, 1.0)), ("subclass", "joint", (1.0, 1.0)), ("subclass", "within", (3.0, 0.5))],
)
def test_student_loss_mixes_its_parts(alpha: float, target: str, temper: str, weights: tuple[float, float]) -> None:
    teacher, student = random_logits(seed=1), random_logits(seed=2)
    labels = (np.arange(40) % 2).astype(np.float64)
    if target == "class":
        l_t = logit(p_click(teacher)) / 2
        distillation = 4 * binary_cross_entropy(expit(l_t), logit(p_click(student)) / 2)
    elif temper == "joint":
        distillation = joint_in_float64(teacher, student, 2.0)
    else:
        distillation = within_in_float64(teacher, student, 2.0, *weights)
    label_loss = binary_cross_entropy(labels, logit(p_click(student)))
    losses = student_loss(
        labels,
        teacher,
        student,
        target=target,
        alpha=alpha,
        temperature=2.0,
        temper=temper,
        within_weight=weights[0],
        class_weight=weights[1],
    )
    np.testing.assert_allclose(losses, alpha * distillation + (1 - alpha) * label_loss, rtol=1e-5)


@pytest.mark.parametrize("target", ["none", "class", "subclass"])
def test_every_row_may_have_its_own_alpha(target: str) -> None:
    teacher, student, labels = random_logits(seed=1), random_logits(seed=2), np.arange(40) % 2
    alphas = np.linspace(0, 1, 40).astype(np.float32)
    options = {"target": target, "temperature": 2.0, "temper": "within", "within_weight": 0.3}
    found = student_loss(labels, teacher, student, alpha=tf.constant(alphas), **options)
    rows = [slice(row, row + 1) for row in range(40)]
    expected = [
        student_loss(labels[row], teacher[row], student[row], alpha=float(alpha), **options)[0]
        for row, alpha in zip(rows, alphas, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("target", "alpha"), [("none", 0.7), ("class", 0.0), ("subclass", 0.0)])
@pytest.mark.parametrize("teacher", [random_logits(seed=1), np.full([40, 10], np.nan, np.float32), None])
def test_without_distillation_the_label_loss_is_equal_bit_for_bit(target: str, alpha: float, teacher) -> None:
    student, labels = random_logits(seed=2), np.random.default_rng(0).uniform(size=40)

    def loss(z: tf.Tensor) -> tf.Tensor:
        return student_loss(labels, teacher, z, target=target, alpha=alpha, temperature=4.0, temper="joint")

    np.testing.assert_array_equal(loss(student), class_cross_entropy(labels, student))
    np.testing.assert_array_equal(gradient(loss, student), gradient(lambda z: class_cross_entropy(labels, z), student))


@settings(deadline=None, max_examples=50)
@given(
    teacher=hnp.arrays(np.float32, (3, 4), elements=st.floats(-20, 20, width=32)),
    student=hnp.arrays(np.float32, (3, 4), elements=st.floats(-20, 20, width=32)),
    labels=hnp.arrays(np.float32, 3, elements=st.floats(0, 1, width=32)),
    alpha=st.floats(0, 1),
)
def test_mixing_losses_is_mixing_labels(
    teacher: np.ndarray, student: np.ndarray, labels: np.ndarray, alpha: float
) -> None:  # E6
    losses = student_loss(labels, teacher, student, target="class", alpha=alpha, temperature=1.0, temper="joint")
    mixed = alpha * p_click(teacher) + (1 - alpha) * labels
    np.testing.assert_allclose(losses, class_cross_entropy(mixed, student), rtol=1e-4, atol=2e-5)


EXTREME = hnp.arrays(np.float32, (4, 6), elements=st.sampled_from([-100.0, -1.0, 0.0, 1.0, 100.0]))


@settings(deadline=None, max_examples=50)
@given(
    teacher=EXTREME,
    student=EXTREME,
    temperature=st.sampled_from([0.1, 1.0, 4.0]),
    temper=st.sampled_from(["joint", "within"]),
    target=st.sampled_from(["class", "subclass"]),
)
def test_extreme_logits_have_finite_losses_and_gradients(
    teacher: np.ndarray, student: np.ndarray, temperature: float, temper: str, target: str
) -> None:
    labels, options = np.float32([0, 1, 0, 1]), {"temperature": temperature, "temper": temper}

    def loss(z: tf.Tensor) -> tf.Tensor:
        return student_loss(labels, teacher, z, target=target, alpha=0.5, **options)

    assert (loss(student).numpy() >= 0).all()
    assert np.isfinite(loss(student)).all()
    assert np.isfinite(gradient(loss, student)).all()
    assert np.isfinite(gradient(lambda z: auxiliary_loss(z, 0.3), student)).all()


@pytest.mark.parametrize("target", ["class", "subclass"])
@pytest.mark.parametrize("temper", ["joint", "within"])
def test_the_teacher_gets_no_gradient(target: str, temper: str) -> None:
    teacher = tf.Variable(random_logits(seed=1))
    with tf.GradientTape() as tape:
        loss = student_loss(
            np.zeros(40),
            teacher,
            random_logits(seed=2),
            target=target,
            alpha=0.5,
            temperature=2.0,
            temper=temper,
        )
    assert tape.gradient(loss, teacher) is None


@pytest.mark.parametrize("temper", ["joint", "within"])
def test_float16_targets_are_read_as_stored(temper: str) -> None:
    stored, student = random_logits(seed=1).astype(np.float16), random_logits(seed=2)
    np.testing.assert_array_equal(
        distillation_loss(stored, student, 2.0, temper),
        distillation_loss(stored.astype(np.float32), student, 2.0, temper),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "logits"}, "`target` should be one of .* Received: target='logits'"),
        ({"alpha": 1.1}, r"`alpha` should be in \[0, 1\]. Received: alpha=1.1"),
        ({"alpha": tf.zeros([3, 1])}, r"`alpha` should have shape \[batch\]. Received: shape=\(3, 1\)"),
        ({"alpha": float("nan")}, "`alpha` should be .* Received: alpha=nan"),
        ({"temperature": 0.0}, "`temperature` should be positive .* Received: temperature=0.0"),
        ({"temperature": float("inf")}, "`temperature` should be .* finite. Received: temperature=inf"),
        ({"temper": "class"}, "`temper` should be one of .* Received: temper='class'"),
        ({"within_weight": -1.0}, "`within_weight` should be at least 0. Received: within_weight=-1.0"),
        (
            {"within_weight": 3.0},
            "`within_weight` should be 1 unless .* Received: within_weight=3.0, temper=",
        ),
        ({"class_weight": -1.0}, "`class_weight` should be at least 0. Received: class_weight=-1.0"),
        ({"class_weight": 0.0}, "`class_weight` should be 1 unless .* Received: class_weight=0.0, temper='joint'"),
        ({"teacher_z": None}, "`teacher_z` should be given for target='subclass'. Received: teacher_z=None"),
        ({"teacher_z": np.zeros([3, 6])}, r"`student_z` should have .* Received: .*\(3, 4\).*\(3, 6\)"),
    ],
)
def test_rejects_bad_arguments(arguments: dict, message: str) -> None:
    good = {"labels": np.zeros(3), "teacher_z": np.zeros([3, 4]), "student_z": np.zeros([3, 4])}
    options = {"target": "subclass", "alpha": 0.5, "temperature": 2.0, "temper": "joint"}
    with pytest.raises(ValueError, match=message):
        student_loss(**{**good, **options, **arguments})


@pytest.mark.parametrize(
    "function",
    [
        auxiliary_loss,
        lambda z, T: plain_distillation_loss(z, z, T),
        lambda z, T: gated_distillation_loss(z, z, z, T),
    ],
)
def test_rejects_temperatures_that_are_not_positive(function: Callable) -> None:
    with pytest.raises(ValueError, match="`temperature` should be positive and finite. Received: temperature=-1.0"):
        function(tf.zeros([3, 4]), -1.0)


def test_mean_loss_by_hand() -> None:
    losses, weights = tf.Variable([0.5, 1.0, 4.0]), tf.constant([2.0, 0.0, 1.0])
    with tf.GradientTape() as tape:
        mean = mean_loss(losses, weights)
    assert float(mean) == pytest.approx((2 * 0.5 + 4.0) / 3)
    np.testing.assert_allclose(tape.gradient(mean, losses), [2 / 3, 0, 1 / 3], rtol=1e-6)


def test_mean_loss_without_weights_is_the_mean() -> None:
    losses = tf.random.stateless_uniform([1000], [1, 2])
    assert float(mean_loss(losses)) == float(tf.reduce_mean(losses))
    assert float(mean_loss(losses, tf.ones(1000))) == pytest.approx(float(mean_loss(losses)), rel=1e-6)


def test_mean_loss_of_no_weight_is_zero_without_gradient() -> None:
    losses = tf.Variable([0.5, 1.0])
    with tf.GradientTape() as tape:
        mean = mean_loss(losses, tf.zeros(2))
    assert float(mean) == 0
    np.testing.assert_array_equal(tape.gradient(mean, losses), [0, 0])


@given(st.lists(st.tuples(st.floats(0, 50, width=32), st.integers(0, 4)), min_size=1, max_size=30))
def test_a_weight_is_how_often_a_row_counts(rows: list[tuple[float, int]]) -> None:
    losses, weights = (np.array(column) for column in zip(*rows, strict=True))
    repeated = np.repeat(losses, weights)
    expected = repeated.mean() if len(repeated) else 0.0
    found = mean_loss(tf.constant(losses, tf.float32), tf.constant(weights, tf.float32))
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-6)

"""Losses of relations between rows against NumPy and SciPy, under rotations and where there is nothing to relate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax
from scipy.stats import entropy, ortho_group

from models.backend import tf
from models.relations import pseudo_labels, relation_loss, row_tuples, similarity_loss, tuple_log_probabilities

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(12, 5)).astype(np.float32)
STUDENT = RNG.normal(size=(12, 3)).astype(np.float32)
ROTATED = (TEACHER @ ortho_group.rvs(5, random_state=0)).astype(np.float32)
# Kind 7 has no second row.
KINDS = np.array([0, 1, 1, 0, 2, 2, 7, 0, 1, 2, 0, 1])


def value_and_gradient(function: Callable[[tf.Tensor], tf.Tensor], x: np.ndarray) -> tuple[float, np.ndarray]:
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return float(value), tape.gradient(value, x).numpy()


def similarity(student: np.ndarray) -> tuple[float, np.ndarray]:
    return value_and_gradient(lambda x: similarity_loss(TEACHER, x), student)


def relations(student: np.ndarray, kinds: np.ndarray = KINDS, negatives: int = 4) -> tuple[float, np.ndarray]:
    return value_and_gradient(lambda x: relation_loss(TEACHER[: len(kinds)], x, kinds, negatives, 0.5), student)


# similarity_loss


def test_similarity_by_hand() -> None:
    """Two rows at a right angle, and two that are equal: (1 - 1/sqrt 2)^2 + 1/2 in each row, over 4."""
    found = similarity_loss(tf.eye(2), tf.ones([2, 1]))
    assert found.dtype == tf.float32
    assert float(found) == pytest.approx(2 * ((1 - 0.5**0.5) ** 2 + 0.5) / 4, rel=1e-6)


def test_similarity_compares_cosines_of_the_rows_of_products() -> None:
    expected = 0.0
    products = [x.astype(np.float64) @ x.T for x in (TEACHER, STUDENT)]
    for row_t, row_s in zip(*products, strict=True):
        # The squared distance of two vectors of length 1 is twice what their cosine lacks to 1.
        expected += 2 - 2 * row_t @ row_s / (np.linalg.norm(row_t) * np.linalg.norm(row_s))
    assert similarity(STUDENT)[0] == pytest.approx(expected / 144, rel=1e-5)


@pytest.mark.parametrize("student", [TEACHER, 1e-3 * TEACHER, 100 * ROTATED])
def test_equal_turned_or_scaled_activations_are_similar(student: np.ndarray) -> None:
    value, slopes = similarity(student)
    assert value < 1e-12
    assert np.abs(slopes * np.abs(student).max()).max() < 1e-6


def test_similarity_of_rows_without_direction() -> None:
    student = STUDENT.copy()
    student[[2, 5]] = 0
    value, slopes = similarity(student)
    assert np.isfinite(value) and np.isfinite(slopes).all()
    assert similarity(np.zeros_like(STUDENT))[0] == pytest.approx(1 / 12, rel=1e-6)  # 12 teacher's rows of length 1
    assert float(similarity_loss(tf.zeros([0, 2]), tf.zeros([0, 3]))) == 0


def test_the_teacher_gets_no_gradient() -> None:
    teacher = tf.Variable(TEACHER)
    with tf.GradientTape() as tape:
        value = similarity_loss(teacher, STUDENT) + relation_loss(teacher, STUDENT, KINDS, 4, 0.5)
    assert tape.gradient(value, teacher) is None


# row_tuples


def test_tuples_are_the_next_rows() -> None:
    others, there = row_tuples(tf.constant([4, 4, 9, 4, 9]), 2)
    np.testing.assert_array_equal(others, [[1, 2, 4], [3, 2, 4], [4, 3, 0], [0, 4, 2], [2, 0, 1]])
    assert there.numpy().all()


def test_what_is_not_there() -> None:
    """Of four rows one is alone of its kind; the others have one negative, not three."""
    others, there = row_tuples(tf.constant([5, 5, 6, 5]), 3)
    np.testing.assert_array_equal(there, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(others[:, 0].numpy()[[0, 1, 3]], [1, 3, 0])
    np.testing.assert_array_equal(others[2, 1:], [3, 0, 1])
    assert (others.numpy() < 4).all() and (others.numpy() >= 0).all()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_more_negatives_than_rows(rows: int) -> None:
    others, there = row_tuples(tf.range(rows), 8)
    assert others.shape == there.shape == (rows, 1 + rows)
    assert there.numpy().sum() == rows * (rows - 1)


# relation_loss


def relations_in_float64(student: np.ndarray, kinds: np.ndarray, negatives: int, temperature: float) -> float:
    """Row by row: the next row of the kind and the next others, and SciPy's KL of their distributions."""
    rows, divergences = len(kinds), []
    distances = []
    for x in (TEACHER[:rows].astype(np.float64), student.astype(np.float64)):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        distances.append(cdist(unit, unit))
    for a in range(rows):
        behind = [(a + step) % rows for step in range(1, rows)]
        alike = [b for b in behind if kinds[b] == kinds[a]]
        other = [b for b in behind if kinds[b] != kinds[a]][:negatives]
        if alike and other:
            p, q = (softmax(-d[a, [alike[0], *other]] / temperature) for d in distances)
            divergences.append(entropy(p, q))
    return float(np.mean(divergences))


@pytest.mark.parametrize("negatives", [1, 4, 30])
def test_relations_are_divergences_of_tuples(negatives: int) -> None:
    expected = relations_in_float64(STUDENT, KINDS, negatives, 0.5)
    assert relations(STUDENT, negatives=negatives)[0] == pytest.approx(expected, rel=1e-4)


def test_relations_by_hand() -> None:
    """Positive at a right angle, negative opposite: distances sqrt 2 and 2; the student has them the other way round.

    Only the first two rows have a positive: the third row is the only one of its kind.
    """
    teacher = np.float32([[1, 0], [0, 1], [-1, 0]])
    student = np.float32([[1, 0], [-1, 0], [0, 1]])
    found = relation_loss(teacher, student, tf.constant([0, 0, 1]), 1, 1.0)
    gap = 2 - 2**0.5
    p = 1 / (1 + np.exp(-gap))
    # For row 0 the two distances are exchanged; row 1 is as far from both in the teacher (sqrt 2), not in the student.
    first = (2 * p - 1) * gap
    second = entropy([0.5, 0.5], [1 - p, p])
    assert float(found) == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize("student", [TEACHER, ROTATED, 0.01 * ROTATED])
def test_equal_turned_or_scaled_embeddings_are_related_alike(student: np.ndarray) -> None:
    value, slopes = relations(student)
    assert abs(value) < 1e-6
    assert np.abs(slopes * np.abs(student).max()).max() < 1e-6


@pytest.mark.parametrize("kinds", [np.zeros(6, int), np.arange(6), np.zeros(1, int)])
def test_without_tuples_it_is_zero_without_gradient(kinds: np.ndarray) -> None:
    value, slopes = relations(STUDENT[: len(kinds)], kinds)
    assert value == 0
    np.testing.assert_array_equal(slopes, np.zeros_like(slopes))


@pytest.mark.parametrize("student", [np.ones_like(STUDENT), np.zeros_like(STUDENT)])
def test_rows_in_the_same_place_have_finite_gradients(student: np.ndarray) -> None:
    value, slopes = relations(student)
    assert np.isfinite(value) and np.isfinite(slopes).all()
    near = student + 1e-20 * STUDENT
    assert np.isfinite(relations(near)[1]).all()


def test_rotating_the_batch_changes_nothing() -> None:
    """Next is cyclic, so where a batch begins plays no part."""
    expected = relations(STUDENT)[0]
    turn = np.roll(np.arange(12), 5)
    found = relation_loss(TEACHER[turn], STUDENT[turn], KINDS[turn], 4, 0.5)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_in_a_graph_of_unknown_batch_size() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 5]), tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int32)])
    def traced(teacher: tf.Tensor, student: tf.Tensor, kinds: tf.Tensor) -> tf.Tensor:
        return relation_loss(teacher, student, kinds, 4, 0.5) + similarity_loss(teacher, student)

    expected = relations(STUDENT)[0] + similarity(STUDENT)[0]
    assert float(traced(TEACHER, STUDENT, KINDS)) == pytest.approx(expected, rel=1e-5)


def test_absent_members_have_no_probability() -> None:
    others, there = tf.constant([[1, 2, 0]]), tf.constant([[True, True, False]])
    found = tuple_log_probabilities(TEACHER[:3], tf.tile(others, [3, 1]), tf.tile(there, [3, 1]), 4.0)
    np.testing.assert_array_equal(tf.exp(found)[:, 2], np.zeros(3))
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(found), axis=1), np.ones(3), rtol=1e-6)


# pseudo_labels


def test_pseudo_labels_by_hand() -> None:
    z = np.float32([[9, 0, 1, 3, 2, 1], [9, 0, 1, 3, 2, 1], [0, 1, 2, 0, 1, 2], [0, 1, 2, 5, 1, 6]])
    found = pseudo_labels(tf.constant([0.0, 1.0, 0.0, 1.0]), z)
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, [0, 3, 2, 5])


def test_one_subclass_is_the_label() -> None:
    labels = np.float32([0, 1, 1, 0])
    np.testing.assert_array_equal(pseudo_labels(labels, RNG.normal(size=(4, 2)).astype(np.float32)), labels)

"""Subclasses in place of the teacher's: the class part stays, and each source keeps what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import chisquare

from features.targets import TargetBlock
from models.projections import Moments
from models.pseudo_subclasses import (
    Centroids,
    Conditionals,
    Lelp,
    Shuffled,
    class_weights,
    null_projector,
    subclass_sums,
    with_conditionals,
)

N, E, S = 3000, 12, 3
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(E, 2 * S)).astype(np.float32)
WEIGHTS = class_weights(KERNEL)
TARGETS = TargetBlock(
    (2 * RNG.normal(size=(N, 2 * S))).astype(np.float32),
    np.arange(N) * 37,
    "teacher",
    (RNG.normal(size=(N, E)) * np.linspace(2, 0.3, E)).astype(np.float16),
)
LABELS = RNG.integers(2, size=N)


def embedding(targets: TargetBlock = TARGETS) -> np.ndarray:
    assert targets.embedding is not None
    return targets.embedding.astype(np.float64)


def make_lelp(subclasses: int = 4, temperature: float = 1.0, seed: int = 0) -> Lelp:
    no_click, click = (Moments.of(embedding()[LABELS == label]) for label in range(2))
    return Lelp.of((no_click, click), WEIGHTS, subclasses, temperature, seed)


def sources() -> dict[str, Conditionals]:
    return {
        "random": Shuffled(0),
        "lelp": make_lelp(),
        "centroids": Centroids.of(subclass_sums(TARGETS), 0.5),
    }


def class_logits(z: np.ndarray) -> np.ndarray:
    found: np.ndarray = logsumexp(z.reshape(len(z), 2, -1).astype(np.float64), axis=2)
    return found


@pytest.mark.parametrize("name", sources())
def test_the_class_part_stays_the_teachers(name: str) -> None:
    """Identity I3: the sum over the pseudo-subclasses of a class is the teacher's class probability."""
    conditionals = sources()[name].log_conditionals(TARGETS, "log")
    np.testing.assert_allclose(np.exp(conditionals).sum(axis=2), 1, rtol=1e-9)
    z = with_conditionals(TARGETS.logits, conditionals)
    assert z.dtype == np.float32 and len(z) == N
    np.testing.assert_allclose(class_logits(z), class_logits(TARGETS.logits), atol=1e-5)
    # The click logit, and what the sources add to it: nothing.
    joint = softmax(z.astype(np.float64), axis=1).reshape(N, 2, -1)
    teacher = softmax(TARGETS.logits.astype(np.float64), axis=1).reshape(N, 2, -1)
    np.testing.assert_allclose(joint.sum(axis=2), teacher.sum(axis=2), atol=1e-6)


class TestShuffled:
    def test_keeps_the_sorted_conditionals(self) -> None:
        found = Shuffled(0).log_conditionals(TARGETS, "log")
        expected = log_softmax(TARGETS.logits.reshape(N, 2, S).astype(np.float64), axis=2)
        np.testing.assert_allclose(np.sort(found, axis=2), np.sort(expected, axis=2), rtol=1e-9)

    def test_every_subclass_is_the_first_equally_often_whatever_the_teacher_says(self) -> None:
        found = Shuffled(0).log_conditionals(TARGETS, "log").argmax(axis=2)
        teacher = TARGETS.logits.reshape(N, 2, S).argmax(axis=2)
        for label in range(2):
            for chosen in range(S):
                counts = np.bincount(found[teacher[:, label] == chosen, label], minlength=S)
                assert chisquare(counts).pvalue > 1e-3

    def test_the_row_decides_not_its_place(self) -> None:
        rows = np.random.default_rng(1).permutation(N)
        whole, some = (
            Shuffled(0).log_conditionals(TARGETS, "log"),
            Shuffled(0).log_conditionals(TARGETS.take(rows), "log"),
        )
        np.testing.assert_array_equal(some, whole[rows])

    @pytest.mark.parametrize(("seed", "source"), [(1, "log"), (0, "other")])
    def test_seed_and_log_count(self, seed: int, source: str) -> None:
        first, second = Shuffled(0).log_conditionals(TARGETS, "log"), Shuffled(seed).log_conditionals(TARGETS, source)
        same = (first.argmax(axis=2) == second.argmax(axis=2)).mean()
        assert same == pytest.approx(1 / S, abs=0.05)

    def test_the_classes_are_shuffled_apart(self) -> None:
        symmetric = replace(TARGETS, logits=np.tile(TARGETS.logits[:, :S], 2))
        found = Shuffled(0).log_conditionals(symmetric, "log").argmax(axis=2)
        assert (found[:, 0] == found[:, 1]).mean() == pytest.approx(1 / S, abs=0.05)


class TestLelp:
    def test_the_projector_takes_the_class_directions_away(self) -> None:
        """Identity I1."""
        projector = null_projector(WEIGHTS)
        np.testing.assert_allclose(WEIGHTS @ projector, 0, atol=1e-10)
        np.testing.assert_allclose(projector @ projector, projector, atol=1e-10)
        assert np.linalg.matrix_rank(projector) == E - 2

    @pytest.mark.parametrize("label", [0, 1])
    def test_turned_directions_are_orthogonal_and_keep_the_variance(self, label: int) -> None:
        """Identity I2, up to the scale of each class, against a singular value decomposition."""
        directions = make_lelp().directions[label]
        rows = embedding()[LABELS == label] @ null_projector(WEIGHTS)
        values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[:4] ** 2 / len(rows)
        products = directions.T @ directions
        np.testing.assert_allclose(products, np.eye(4) / values.mean(), atol=1e-9)
        # Scaled: the mean square in the class is 1.
        projected = (embedding()[LABELS == label] - embedding()[LABELS == label].mean(axis=0)) @ directions
        assert (projected**2).mean() == pytest.approx(1, rel=1e-9)
        np.testing.assert_allclose(WEIGHTS @ directions, 0, atol=1e-9)

    def test_what_the_classes_weigh_says_nothing(self) -> None:
        moved = replace(TARGETS, embedding=(embedding() + 3 * WEIGHTS[0] - 2 * WEIGHTS[1]))
        lelp = make_lelp()
        first, second = (lelp.log_conditionals(targets, "log") for targets in (TARGETS, moved))
        np.testing.assert_allclose(second, first, atol=1e-8)

    def test_one_pseudo_subclass_is_the_teachers_click_probability(self) -> None:
        z = with_conditionals(TARGETS.logits, make_lelp(1).log_conditionals(TARGETS, "log"))
        np.testing.assert_allclose(z, class_logits(TARGETS.logits), atol=1e-5)

    @pytest.mark.parametrize("temperature", [1e6, 1e-3])
    def test_limits_of_the_temperature(self, temperature: float) -> None:
        found = np.exp(make_lelp(temperature=temperature).log_conditionals(TARGETS, "log"))
        if temperature > 1:
            np.testing.assert_allclose(found, 1 / 4, atol=1e-5)
        else:
            assert (found.max(axis=2) > 0.99).mean() > 0.98

    def test_the_softmax_of_the_projections_by_hand(self) -> None:
        lelp = make_lelp(temperature=2.0)
        row = embedding()[5]
        for label in range(2):
            mean = embedding()[LABELS == label].mean(axis=0)
            expected = log_softmax((row - mean) @ lelp.directions[label] / 2.0)
            np.testing.assert_allclose(lelp.log_conditionals(TARGETS, "log")[5, label], expected, atol=1e-9)

    def test_the_seed_turns_the_directions_within_their_span(self) -> None:
        first, same, other = (make_lelp(seed=seed).directions for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, same)
        assert np.abs(first - other).max() > 0.1
        for one, two in zip(first, other, strict=True):
            np.testing.assert_allclose(one @ one.T, two @ two.T, atol=1e-9)

    def test_equal_embeddings_are_all_pseudo_subclasses_alike(self) -> None:
        flat = replace(TARGETS, embedding=np.ones((N, E), np.float16))
        moments = Moments.of(embedding(flat))
        found = Lelp.of((moments, moments), WEIGHTS, 4, 1.0, 0).log_conditionals(flat, "log")
        np.testing.assert_allclose(np.exp(found), 1 / 4, rtol=1e-6)


def test_weights_of_the_classes_are_means_of_their_columns() -> None:
    kernel = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(class_weights(kernel), [[0.5, 4.5, 8.5], [2.5, 6.5, 10.5]])


def test_centres_by_hand() -> None:
    """Two rows, one float: weights are the joint probabilities, and of the mean only its direction is kept."""
    logits = np.log([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]).astype(np.float32)
    targets = TargetBlock(logits, np.arange(2), "t", np.array([[3.0, 4.0], [0.0, 2.0]], np.float16))
    sums = subclass_sums(targets)
    np.testing.assert_allclose(sums[0, 0], [0.1 * 3, 0.1 * 4 + 0.4 * 2], rtol=1e-6)
    np.testing.assert_allclose(sums[1, 1], [0.4 * 3, 0.4 * 4 + 0.1 * 2], rtol=1e-6)
    centres = Centroids.of(sums, 2.0)
    np.testing.assert_allclose(np.linalg.norm(centres.centres, axis=2), 1, rtol=1e-9)
    near = np.exp(centres.log_conditionals(targets, "log"))
    scores = [np.array([3.0, 4.0]) @ sums[0, j] / np.linalg.norm(sums[0, j]) for j in range(2)]
    np.testing.assert_allclose(near[0, 0], softmax(np.array(scores) / 2.0), rtol=1e-6)


def test_a_subclass_without_rows_has_no_direction() -> None:
    found = Centroids.of(np.zeros((2, S, E)), 1.0).log_conditionals(TARGETS, "log")
    np.testing.assert_allclose(np.exp(found), 1 / S, rtol=1e-9)

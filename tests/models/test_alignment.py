"""The order of another teacher's subclasses: exact, within the classes, and undone where it is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax

from models.alignment import agreement, align, best_assignment

CASES = [(size, kind, seed) for size in range(1, 7) for kind in ("real", "ties") for seed in range(4)]


def gains(size: int, kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, size)) if kind == "real" else rng.integers(0, 3, (size, size)).astype(np.float64)


def total(gain: np.ndarray, columns: np.ndarray) -> float:
    return float(gain[np.arange(len(gain)), columns].sum())


@pytest.mark.parametrize(("size", "kind", "seed"), CASES)
def test_best_of_all_permutations(size: int, kind: str, seed: int) -> None:
    gain = gains(size, kind, seed)
    found = best_assignment(gain)
    assert sorted(found) == list(range(size))
    best = max(total(gain, np.array(order)) for order in itertools.permutations(range(size)))
    assert total(gain, found) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, 16, 60])
@pytest.mark.parametrize("kind", ["real", "ties"])
def test_as_good_as_scipy(size: int, kind: str) -> None:
    for seed in range(5):
        gain = gains(size, kind, seed)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        assert total(gain, best_assignment(gain)) == pytest.approx(gain[rows, columns].sum(), abs=1e-9)


def test_all_alike_stays_in_order() -> None:
    assert best_assignment(np.full((5, 5), 0.3)).tolist() == [0, 1, 2, 3, 4]
    assert best_assignment(np.zeros((0, 0))).tolist() == []


def random_logits(rows: int, subclasses: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (rows, 2 * subclasses)).astype(np.float32)


def test_a_known_order_is_found_in_spite_of_noise_and_other_click_logits() -> None:
    reference = random_logits(500, 4)
    shuffled = np.array([2, 0, 3, 1, 4, 7, 5, 6])
    other = np.empty_like(reference)
    other[:, shuffled] = reference + 0.3 * random_logits(500, 4, seed=1)
    other += np.repeat(random_logits(500, 1, seed=2), 4, axis=1)
    order = align(reference, other)
    assert order.tolist() == shuffled.tolist()
    assert agreement(reference, other) < 0.45 < 0.55 < agreement(reference, other[:, order])


def test_subclasses_stay_in_their_class_even_if_those_of_the_other_class_fit_better() -> None:
    reference = random_logits(300, 3)
    other = np.concatenate([reference[:, 3:], reference[:, :3]], axis=1)
    order = align(reference, other)
    assert sorted(order[:3]) == [0, 1, 2] and sorted(order[3:]) == [3, 4, 5]


def test_a_row_counts_in_the_class_that_it_probably_has() -> None:
    """The three rows with click say the contrary of the others about the subclasses of class 1."""
    blocks = np.zeros((10, 2, 2))
    blocks[:, :, 0] = 3.0
    other = blocks.copy()
    other[3:] = other[3:, :, ::-1]
    blocks[:3, 1] += 9.0
    blocks[3:, 0] += 9.0
    assert align(blocks.reshape(10, 4), other.reshape(10, 4)).tolist() == [1, 0, 2, 3]


def test_the_order_is_the_one_with_the_largest_agreement_of_all() -> None:
    reference, other = random_logits(60, 3), random_logits(60, 3, seed=5)
    p, q = (softmax(z.astype(np.float64), axis=1).reshape(-1, 2, 3) for z in (reference, other))
    classes = p.sum(axis=2)
    r, t = p / classes[:, :, np.newaxis], q / q.sum(axis=2, keepdims=True)
    best = np.mean(
        [
            max((c[:, np.newaxis] * a * b[:, list(order)]).sum() for order in itertools.permutations(range(3)))
            for c, a, b in zip(classes.T, np.moveaxis(r, 1, 0), np.moveaxis(t, 1, 0), strict=True)
        ]
    )
    assert agreement(reference, other[:, align(reference, other)]) == pytest.approx(2 * best / 60)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 0.25), (1000.0, 1.0)])
def test_agreement_of_a_teacher_with_itself(scale: float, expected: float) -> None:
    z = scale * random_logits(40, 4)
    assert agreement(z, z) == pytest.approx(expected, abs=1e-3)
    assert align(z, z).tolist() == list(range(8))


def test_one_subclass_and_no_rows() -> None:
    z = random_logits(5, 1)
    assert align(z, z).tolist() == [0, 1] and agreement(z, z) == pytest.approx(1)
    empty = random_logits(0, 3)
    assert align(empty, empty).tolist() == list(range(6)) and np.isnan(agreement(empty, empty))


@pytest.mark.parametrize("shapes", [((4, 6), (4, 4)), ((4, 6), (3, 6)), ((4, 5), (4, 5)), ((4, 0), (4, 0))])
@pytest.mark.parametrize("function", [align, agreement])
def test_wrong_shapes(function: object, shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"should be \[n, 2 S\]"):
        function(*(np.zeros(shape) for shape in shapes))  # type: ignore[operator]

from __future__ import annotations

import math

import numpy as np
import pytest

from models.estimates import (
    divide,
    draw_groups,
    equal_mass_bins,
    mean_of_teachers,
    percentile_interval,
    roc_area,
    sigmoid,
    subclass_click_logits,
    with_click_logits,
)


def test_sigmoid_neither_overflows_nor_loses_small_values() -> None:
    np.testing.assert_allclose(sigmoid(np.array([-800.0, -40.0, 0.0, 800.0])), [0, math.exp(-40), 0.5, 1], rtol=1e-12)


def test_divide_is_nan_where_the_denominator_is_not_positive() -> None:
    np.testing.assert_array_equal(divide([1.0, 1.0, 1.0], [2.0, 0.0, -1.0]), [0.5, math.nan, math.nan])


def test_roc_area_counts_pairs() -> None:
    # Bins hold (clicks, others): (0, 2), (1, 1), (1, 0): of 6 pairs 5 are in order and 1 is tied.
    assert roc_area(np.array([2.0, 2.0, 1.0]), np.array([0.0, 1.0, 1.0])) == pytest.approx(5.5 / 6)


@pytest.mark.parametrize(
    ("weight", "bins", "expected"),
    [
        ([1, 1, 1, 1], 2, [0, 0, 1, 1]),
        ([4, 0, 0], 2, [1, 1, 1]),
        ([3, 1, 1, 1], 2, [0, 1, 1, 1]),
        ([0, 0], 3, [0, 0]),
    ],
)
def test_equal_mass_bins(weight: list[float], bins: int, expected: list[int]) -> None:
    assert equal_mass_bins(np.array(weight, float), bins).tolist() == expected


def test_draws_keep_the_number_of_groups_and_are_seeded() -> None:
    draws = draw_groups(7, 100, 3)
    assert draws.shape == (100, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(7), abs=0.4)
    assert (draws != draw_groups(7, 100, 4)).any()


def test_percentile_interval_ignores_nan() -> None:
    assert percentile_interval(np.r_[np.arange(101.0), math.nan], 0.9) == pytest.approx((5, 95))
    assert all(map(math.isnan, percentile_interval(np.array([math.nan]), 0.9)))


def test_the_mean_of_teachers_has_their_mean_class_logits_and_the_conditionals_of_the_first() -> None:
    generator = np.random.default_rng(3)
    teachers = [generator.normal(size=(7, 6)) * 2 for _ in range(3)]
    mean = mean_of_teachers(teachers).astype(float)

    def click(z: np.ndarray) -> np.ndarray:
        e = np.exp(z)
        return np.log(e[:, 3:].sum(axis=1) / e[:, :3].sum(axis=1))

    np.testing.assert_allclose(click(mean), np.mean([click(z) for z in teachers], axis=0), atol=1e-5)
    for block in (slice(0, 3), slice(3, 6)):
        inside = [np.exp(z[:, block]) / np.exp(z[:, block]).sum(axis=1, keepdims=True) for z in (mean, teachers[0])]
        np.testing.assert_allclose(*inside, atol=1e-6)
    assert mean_of_teachers(teachers[:1]) is teachers[0]


def test_other_click_logits_leave_the_conditionals_as_they_are() -> None:
    generator = np.random.default_rng(4)
    z, clicks = generator.normal(size=(9, 6)) * 3, generator.normal(size=9) * 2
    moved = with_click_logits(z.astype(np.float32), clicks)
    assert moved.dtype == np.float32 and moved.shape == (9, 6)
    e = np.exp(moved.astype(np.float64))
    np.testing.assert_allclose(np.log(e[:, 3:].sum(axis=1) / e[:, :3].sum(axis=1)), clicks, atol=1e-5)
    for block in (slice(0, 3), slice(3, 6)):
        inside = [np.exp(y[:, block]) / np.exp(y[:, block]).sum(axis=1, keepdims=True) for y in (z, moved)]
        np.testing.assert_allclose(*inside, atol=1e-6)
    # Two logits, 1 apart, that are to be 4 apart: each moves by 1.5.
    assert with_click_logits(np.array([[2.0, 3.0]]), np.array([4.0])).tolist() == [[0.5, 4.5]]
    np.testing.assert_allclose(with_click_logits(z, subclass_click_logits(z)), z, rtol=1e-6)

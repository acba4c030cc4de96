"""Exact sums against the standard library's integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.moments import FLOAT_UNIT, float_sums, moments, weighted_sum

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = 2.0**-149
COUNTS = st.integers(0, 2**40)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**48) + 1, 2**48 - 1), COUNTS), max_size=30))
def test_weighted_sums_are_those_of_integers(items: list[tuple[int, int]]) -> None:
    numbers, counts = np.array(items, np.int64).reshape(-1, 2).T
    assert weighted_sum(numbers, counts) == sum(number * count for number, count in items)


@pytest.mark.parametrize("number", [2**48 - 1, -(2**48) + 1])
@pytest.mark.parametrize("values", [1, 64])
def test_weighted_sums_at_the_bounds(number: int, values: int) -> None:
    counts = np.full(values, 2**46 // values)
    assert weighted_sum(np.full(values, number), counts) == number * 2**46


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False, width=32), COUNTS), max_size=30))
def test_float_sums_are_those_of_fractions(items: list[tuple[float, int]]) -> None:
    numbers, counts = np.array([item[0] for item in items], np.float32), np.array([item[1] for item in items], int)
    total, squares = float_sums(numbers, counts)
    assert Fraction(total, 2**FLOAT_UNIT) == sum(Fraction(x) * count for x, count in items)
    assert Fraction(squares, 4**FLOAT_UNIT) == sum(Fraction(x) ** 2 * count for x, count in items)


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, SMALLEST, -SMALLEST, 1 - 2.0**-24, 0.0, -0.0])
def test_float_sums_at_the_bounds(value: float) -> None:
    total, squares = float_sums(np.array([value]), np.array([2**46]))
    assert Fraction(total, 2**FLOAT_UNIT) == Fraction(value) * 2**46
    assert Fraction(squares, 4**FLOAT_UNIT) == Fraction(value) ** 2 * 2**46


def test_moments_by_hand() -> None:
    # 1, 2, 3, 4 in units of 1/4.
    mean, std = moments(4 * 10, 16 * 30, 4, 2)
    assert mean == 2.5 and std == math.sqrt(1.25)


@pytest.mark.parametrize(("total", "squares", "count", "expected"), [(0, 0, 0, (0, 1)), (35, 175, 7, (5, 1))])
def test_moments_of_none_and_of_equal_numbers(
    total: int, squares: int, count: int, expected: tuple[float, float]
) -> None:
    assert moments(total, squares, count, 0) == expected


def test_moments_of_the_largest_numbers_do_not_overflow() -> None:
    numbers, counts = np.array([LARGEST, -LARGEST], np.float32), np.array([2**40, 2**40])
    assert moments(*float_sums(numbers, counts), 2**41, FLOAT_UNIT) == (0.0, LARGEST)


def test_a_small_deviation_beside_a_large_mean_is_not_lost() -> None:
    numbers, counts = np.array([2.0**30, 2.0**30 + 128], np.float32), np.array([1, 1])
    assert moments(*float_sums(numbers, counts), 2, FLOAT_UNIT) == (2.0**30 + 64, 64.0)

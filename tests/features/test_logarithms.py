"""The signed and the squared logarithm against the standard library and high-precision decimals."""

from __future__ import annotations

import math
from decimal import Context, Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.logarithms import (
    SQUARED_LOGS,
    inverse_signed_log,
    signed_log,
    squared_log,
    squared_log_thresholds,
)

LARGEST = float(np.finfo(np.float32).max)
NAN = math.nan
VALUES = st.one_of(
    st.just(NAN),
    st.integers(-5, 1000).map(float),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([LARGEST, -LARGEST, 0.0, -0.0, 1.401298464324817e-45]),
)


def t(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, 0.0),
        (1.0, 0.6931471805599453),
        (-1.0, -0.6931471805599453),
        (99.0, 4.605170185988092),
        (-7.0, -2.0794415416798357),
        (16777216.0, 16.635532393043330),
        (LARGEST, 88.72283905206835),
    ],
)
def test_signed_log_by_hand(value: float, expected: float) -> None:
    found = signed_log(np.array([value], np.float32))
    assert found.dtype == np.float64 and found[0] == pytest.approx(expected, rel=1e-15)


@settings(deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2), elements=VALUES))
def test_signed_log_is_odd_keeps_nan_and_agrees_with_the_standard_library(values: np.ndarray) -> None:
    found = signed_log(values)
    expected = np.array([t(value) for value in values.ravel().tolist()]).reshape(values.shape)
    np.testing.assert_allclose(found, expected, rtol=3e-16, atol=0)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    np.testing.assert_array_equal(signed_log(-values), -found)


def test_the_inverse_by_hand() -> None:
    found = inverse_signed_log(np.array([0.0, math.log(2), -math.log(4), math.log(1e30)]))
    np.testing.assert_allclose(found, [0, 1, -3, 1e30], rtol=1e-13)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NAN, NAN),
        (-70000.9, -70000),
        (-2, -2),
        (-1, -1),
        (-0.5, 0),
        (0, 0),
        (1, 1),
        (1.999, 1),
        (2, 2),
        (2.5, 0),
        (3, 1),
        (10, 5),
        (100, 21),
        (1000, 47),
        (16777216, 276),
        (LARGEST, 7871),
    ],
)
def test_squared_log_by_hand(value: float, expected: float) -> None:
    found = squared_log(np.array([[value]], np.float32))
    assert found.dtype == np.float64 and found.shape == (1, 1)
    np.testing.assert_array_equal(found, [[expected]])
    assert not np.signbit(found).any() or expected < 0


def test_squared_log_of_small_integers_against_the_standard_library() -> None:
    numbers = range(3, 100_000)
    exact = [math.log(number) ** 2 for number in numbers]
    # Far enough from integers that the standard library's own rounding does not matter.
    assert min(abs(value - round(value)) for value in exact) > 1e-8
    assert squared_log(np.array(numbers, np.float32)).tolist() == [math.floor(value) for value in exact]


def test_every_threshold_is_the_first_float32_of_its_squared_log() -> None:
    """So that each float32, and with it each integer up to 2^24, has the exact squared logarithm."""
    context = Context(prec=30)
    thresholds = squared_log_thresholds()
    assert thresholds.dtype == np.float32 and len(thresholds) == SQUARED_LOGS
    below = np.nextafter(thresholds, np.float32(0))
    for k, (last, first) in enumerate(zip(below.tolist(), thresholds.tolist(), strict=True), 1):
        assert context.ln(Decimal(last)) ** 2 < k <= context.ln(Decimal(first)) ** 2
    assert context.ln(Decimal(LARGEST)) ** 2 < SQUARED_LOGS + 1


def test_squared_log_around_its_thresholds() -> None:
    thresholds = squared_log_thresholds()
    np.testing.assert_array_equal(squared_log(thresholds), np.arange(1, SQUARED_LOGS + 1))
    np.testing.assert_array_equal(squared_log(np.nextafter(thresholds, np.float32(0))), np.arange(SQUARED_LOGS))


def test_the_thresholds_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        squared_log_thresholds()[0] = 3

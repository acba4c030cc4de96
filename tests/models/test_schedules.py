"""The learning rate at each step."""

from __future__ import annotations

import pytest

from models.backend import tf
from models.schedules import LearningRate


@pytest.mark.parametrize(("step", "expected"), [(0, 0.2), (5, 0.1), (10, 0.0), (12, 0.0)])
def test_linear_fall(step: int, expected: float) -> None:
    assert float(LearningRate(0.2, 10)(tf.constant(step, tf.int64))) == pytest.approx(expected, abs=1e-8)


def test_without_a_last_step_it_stays_until_it_drops() -> None:
    rate = LearningRate(0.2, None)
    assert float(rate(tf.constant(10**6))) == pytest.approx(0.2)
    rate.drop()
    assert float(rate(tf.constant(10**6))) == pytest.approx(0.02)
    rate.drop()
    assert float(rate(tf.constant(0))) == pytest.approx(0.002)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.2), (4, 0.2), (5, 0.02), (8, 0.02), (9, 0.002), (99, 0.002)])
def test_drops_that_are_known_before(step: int, expected: float) -> None:
    assert float(LearningRate(0.2, None, [5, 9])(tf.constant(step, tf.int64))) == pytest.approx(expected)


def test_config() -> None:
    rate = LearningRate.from_config(LearningRate(0.2, 10, [5]).get_config())
    assert float(rate(tf.constant(4))) == pytest.approx(0.12)
    assert float(rate(tf.constant(5))) == pytest.approx(0.01)

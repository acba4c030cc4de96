"""The lazy moving average against the full one, in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from models.averaging import average_rows, decay_at, decay_between, exchange, exchange_rows
from models.backend import tf


def decays(decay: float, steps: int) -> np.ndarray:
    """Those of the steps 1 to ``steps``."""
    t = np.arange(1, steps + 1)
    return np.minimum(decay, (1 + t) / (10 + t))


def test_the_decay_grows_to_its_value() -> None:
    found = [float(decay_at(tf.constant(float(step)), 0.9)) for step in (1, 2, 80, 81, 1000)]
    np.testing.assert_allclose(found, [2 / 11, 3 / 12, 0.9, 0.9, 0.9], rtol=1e-6)


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9, 0.995, 0.9999])
def test_the_product_of_decays(decay: float) -> None:
    each = decays(decay, 4000)
    pairs = np.array([(0, 0), (0, 1), (3, 3), (0, 81), (70, 90), (5, 400), (900, 2500), (1700, 1900), (3990, 4000)])
    expected = [each[since:step].prod() for since, step in pairs]
    found = [decay_between(tf.constant([since]), tf.constant(step), decay)[0] for since, step in pairs.tolist()]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-30)


@pytest.mark.parametrize("decay", [0.05, 0.9, 0.995])
def test_lazy_is_full(decay: float) -> None:
    """Rows that are changed at random: their averages are those of an average that is taken of all at every step."""
    rng, rows, steps = np.random.default_rng(0), 20, 300
    weights = rng.normal(size=(rows, 2)).astype(np.float32)
    table = tf.Variable(weights)
    average, since = tf.Variable(tf.zeros([rows, 2])), tf.Variable(tf.zeros([rows], tf.int32))
    full = weights.astype(np.float64)
    for step, each in enumerate(decays(decay, steps), 1):
        changed = rng.choice(rows - 1, rng.choice([1, 6]), replace=False)
        old = weights.copy()
        weights[changed] += rng.normal(size=(len(changed), 2)).astype(np.float32)
        full = each * full + (1 - each) * weights
        lazy = average_rows(
            tf.constant(step),
            *(tf.gather(state, changed) for state in (average, since)),
            tf.constant(old[changed]),
            tf.constant(weights[changed]),
            decay,
        )
        for state, values in ((table, weights[changed]), (average, lazy), (since, np.full(len(changed), step))):
            state.scatter_update(tf.IndexedSlices(tf.cast(values, state.dtype), tf.constant(changed)))
    assert since.numpy()[-1] == 0 < since.numpy()[:-1].min() < steps
    exchange_rows(table, average, since, tf.constant(steps), decay)
    np.testing.assert_allclose(table, full, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(average, weights)
    np.testing.assert_array_equal(since, np.full(rows, steps))


def test_an_exchange_in_chunks_twice_is_the_identity() -> None:
    rng, rows = np.random.default_rng(1), 70_000  # more than a chunk
    weights, averages = rng.normal(size=(2, rows, 1)).astype(np.float32)
    table, average, since = tf.Variable(weights), tf.Variable(averages), tf.Variable(tf.fill([rows], 9))
    exchange_rows(table, average, since, tf.constant(9), 0.9)
    np.testing.assert_array_equal(table, averages)
    np.testing.assert_array_equal(average, weights)
    exchange_rows(table, average, since, tf.constant(9), 0.9)
    np.testing.assert_array_equal(table, weights)
    np.testing.assert_array_equal(average, averages)


def test_an_exchange_of_dense_weights() -> None:
    weight, average = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])
    exchange(weight, average)
    assert (weight.numpy().tolist(), average.numpy().tolist()) == ([3.0, 4.0], [1.0, 2.0])

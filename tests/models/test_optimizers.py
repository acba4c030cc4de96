"""Lazy Adam against dense Adam and against the recursion in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from models.backend import keras, tf
from models.optimizers import LazyAdam

TABLE = (12, 3)
RATE = 0.05


def variable(shape: tuple[int, ...] = TABLE, seed: int = 0) -> tf.Variable:
    return tf.Variable(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def slices(rows: np.ndarray, values: np.ndarray) -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows, tf.int32), tf.constant(TABLE))


def random_batch(rng: np.random.Generator, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows, rng.normal(size=(len(rows), TABLE[1])).astype(np.float32)


def optimizer(**options: float) -> LazyAdam:
    return LazyAdam(RATE, jit_compile=False, **options)


def summed(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    dense = np.zeros(TABLE, np.float64)
    np.add.at(dense, rows, values)
    return dense


def recursion(table: np.ndarray, batches: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Adam (Kingma and Ba, with the bias corrections in the rate) of the rows of each batch, in float64."""
    table = table.astype(np.float64)
    m, v = np.zeros_like(table), np.zeros_like(table)
    for step, (rows, values) in enumerate(batches, 1):
        gradient = summed(rows, values)
        for row in sorted(set(rows.tolist())):
            m[row] = 0.9 * m[row] + 0.1 * gradient[row]
            v[row] = 0.999 * v[row] + 0.001 * gradient[row] ** 2
            rate = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            table[row] -= rate * m[row] / (np.sqrt(v[row]) + 1e-7)
    return table


def test_equals_dense_adam_when_every_row_is_in_every_batch() -> None:
    rng = np.random.default_rng(0)
    lazy, dense = variable(), variable()
    ours, theirs = optimizer(), keras.optimizers.Adam(RATE, jit_compile=False)
    for _ in range(30):
        rows = rng.permutation(np.r_[np.arange(12), rng.integers(12, size=8)])
        rows, values = random_batch(rng, rows)
        ours.apply_gradients([(slices(rows, values), lazy)])
        theirs.apply_gradients([(tf.constant(summed(rows, values), tf.float32), dense)])
    np.testing.assert_allclose(lazy, dense, rtol=1e-5, atol=1e-5)
    assert abs(lazy.numpy() - variable().numpy()).min() > 1e-3


def test_agrees_with_the_recursion_on_random_batches() -> None:
    rng = np.random.default_rng(1)
    batches = [random_batch(rng, rng.integers(12, size=rng.integers(1, 9))) for _ in range(40)]
    lazy, ours = variable(), optimizer()
    for rows, values in batches:
        ours.apply_gradients([(slices(rows, values), lazy)])
    np.testing.assert_allclose(lazy, recursion(variable().numpy(), batches), rtol=1e-4, atol=1e-5)


def test_repeated_rows_count_once_with_the_sum_of_their_gradients() -> None:
    rng = np.random.default_rng(2)
    repeated, single = variable(), variable()
    one, other = optimizer(), optimizer()
    for _ in range(5):
        rows, values = random_batch(rng, rng.choice([1, 4, 7], 50))
        one.apply_gradients([(slices(rows, values), repeated)])
        unique = np.array([1, 4, 7])
        other.apply_gradients([(slices(unique, summed(rows, values)[unique].astype(np.float32)), single)])
    np.testing.assert_allclose(repeated, single, rtol=1e-5, atol=1e-5)


def test_rows_that_are_not_in_the_batch_keep_every_bit() -> None:
    rng = np.random.default_rng(3)
    table, ours = variable(), optimizer()
    ours.apply_gradients([(slices(*random_batch(rng, np.arange(12))), table)])
    state = [value for value in ours.variables if value.shape == TABLE]
    assert len(state) == 2  # momentum and velocity
    before = [value.numpy() for value in (table, *state)]
    ours.apply_gradients([(slices(*random_batch(rng, np.array([3, 5, 3]))), table)])
    rest = [row for row in range(12) if row not in (3, 5)]
    for old, value in zip(before, (table, *state), strict=True):
        np.testing.assert_array_equal(value.numpy()[rest], old[rest])
        assert (value.numpy()[[3, 5]] != old[[3, 5]]).all()


def test_dense_gradients_are_plain_adam() -> None:
    rng = np.random.default_rng(4)
    mine, peer = variable(), variable()
    ours, theirs = optimizer(), keras.optimizers.Adam(RATE, jit_compile=False)
    for _ in range(5):
        gradient = tf.constant(rng.normal(size=TABLE), tf.float32)
        ours.apply_gradients([(gradient, mine)])
        theirs.apply_gradients([(gradient, peer)])
    np.testing.assert_array_equal(mine, peer)


def test_a_table_and_a_dense_layer_together_in_a_graph() -> None:
    table, kernel = variable(), variable((3, 1), seed=1)
    ours = optimizer()
    ours.build([table, kernel])
    rows = tf.constant([[2, 3], [2, 9]])

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.reduce_sum(tf.gather(table, rows), axis=1) @ kernel - 1) ** 2)
        gradients = tape.gradient(loss, [table, kernel])
        assert isinstance(gradients[0], tf.IndexedSlices)
        ours.apply_gradients(zip(gradients, [table, kernel], strict=True))
        return loss

    losses = [float(step()) for _ in range(100)]
    assert losses[-1] < 0.01 * losses[0]
    changed = (table.numpy() != variable().numpy()).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [2, 3, 9]


def test_follows_a_learning_rate_schedule() -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [RATE, 0.0])
    table, ours = variable(), LazyAdam(schedule, jit_compile=False)
    rng = np.random.default_rng(5)
    ours.apply_gradients([(slices(*random_batch(rng, np.arange(12))), table)])
    first = table.numpy()
    assert (first != variable().numpy()).all()
    ours.apply_gradients([(slices(*random_batch(rng, np.arange(12))), table)])
    np.testing.assert_array_equal(table, first)


def test_the_table_rate_is_a_factor_for_looked_up_rows_only() -> None:
    table, kernel, half, whole = variable(), variable(), optimizer(table_rate=0.5), optimizer()
    rows, values = random_batch(np.random.default_rng(7), np.arange(12))
    peer_table, peer_kernel = variable(), variable()
    half.apply_gradients([(slices(rows, values), table), (tf.constant(values), kernel)])
    whole.apply_gradients([(slices(rows, values), peer_table), (tf.constant(values), peer_kernel)])
    start = variable().numpy()
    np.testing.assert_allclose(table.numpy() - start, 0.5 * (peer_table.numpy() - start), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(kernel, peer_kernel)


@pytest.mark.parametrize("beta_1", [0.0, 0.9])
def test_the_first_step_is_the_learning_rate_in_size(beta_1: float) -> None:
    table, ours = variable(), optimizer(beta_1=beta_1)
    rows, values = random_batch(np.random.default_rng(6), np.arange(12))
    ours.apply_gradients([(slices(rows, values), table)])
    np.testing.assert_allclose(variable().numpy() - table.numpy(), RATE * np.sign(values), rtol=1e-3)


def test_serialisation_round_trip() -> None:
    ours = LazyAdam(0.25, table_rate=0.5, beta_1=0.8)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(ours))
    assert isinstance(copy, LazyAdam)
    assert copy.get_config() == ours.get_config()

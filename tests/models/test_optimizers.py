"""The optimizer against dense Adam and Adagrad of tf-keras, and against their recursions in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from models.backend import keras, tf
from models.optimizers import RowOptimizer, make_optimizer

TABLE = (12, 3)
RATE = 0.05
Rows = tuple[np.ndarray, np.ndarray]


def values(shape: tuple[int, ...] = TABLE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def table() -> tf.Variable:
    return tf.Variable(values(), name="table")


def kernel(shape: tuple[int, ...] = TABLE, seed: int = 0) -> tf.Variable:
    return tf.Variable(values(shape, seed), name="kernel")


def slices(rows: np.ndarray, gradient: np.ndarray) -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.constant(gradient), tf.constant(rows, tf.int32), tf.constant(TABLE))


def random_batch(rng: np.random.Generator, rows: np.ndarray) -> Rows:
    return rows, rng.normal(size=(len(rows), TABLE[1])).astype(np.float32)


def random_batches(seed: int, number: int) -> list[Rows]:
    """One or eight rows of the twelve, some of them several times."""
    rng = np.random.default_rng(seed)
    return [random_batch(rng, rng.integers(12, size=rng.choice([1, 8]))) for _ in range(number)]


def summed(rows: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    dense = np.zeros(TABLE, np.float64)
    np.add.at(dense, rows, gradient)
    return dense


def adam(weights: np.ndarray, batches: list[Rows]) -> np.ndarray:
    """Adam (Kingma and Ba, with the bias corrections in the rate) of the rows of each batch, in float64."""
    weights = weights.astype(np.float64)
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    for step, batch in enumerate(batches, 1):
        gradient = summed(*batch)
        for row in sorted(set(batch[0].tolist())):
            m[row] = 0.9 * m[row] + 0.1 * gradient[row]
            v[row] = 0.999 * v[row] + 0.001 * gradient[row] ** 2
            rate = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            weights[row] -= rate * m[row] / (np.sqrt(v[row]) + 1e-7)
    return weights


def adagrad(weights: np.ndarray, batches: list[Rows]) -> np.ndarray:
    """Adagrad (Duchi et al.) with the dense gradient: rows without one do not change."""
    weights, sums = weights.astype(np.float64), np.full(TABLE, 0.1)
    for batch in batches:
        sums += summed(*batch) ** 2
        weights -= RATE * summed(*batch) / np.sqrt(sums)
    return weights


@pytest.mark.parametrize(("kind", "recursion"), [("adam", adam), ("adagrad", adagrad)])
def test_agrees_with_the_recursion_on_random_batches(kind: str, recursion: Any) -> None:
    batches, weights, ours = random_batches(1, 40), table(), RowOptimizer(RATE, kind)
    for batch in batches:
        ours.apply_gradients([(slices(*batch), weights)])
    np.testing.assert_allclose(weights, recursion(values(), batches), rtol=1e-4, atol=1e-5)


def test_adam_is_dense_adam_when_every_row_is_in_every_batch() -> None:
    rng = np.random.default_rng(0)
    lazy, dense = table(), kernel()
    ours, theirs = RowOptimizer(RATE), keras.optimizers.Adam(RATE, jit_compile=False)
    for _ in range(30):
        batch = random_batch(rng, rng.permutation(np.r_[np.arange(12), rng.integers(12, size=8)]))
        ours.apply_gradients([(slices(*batch), lazy)])
        theirs.apply_gradients([(tf.constant(summed(*batch), tf.float32), dense)])
    np.testing.assert_allclose(lazy, dense, rtol=1e-5, atol=1e-5)
    assert abs(lazy.numpy() - values()).min() > 1e-3


def test_adagrad_is_dense_adagrad_on_any_batch() -> None:
    sparse, dense = table(), kernel()
    ours, theirs = RowOptimizer(RATE, "adagrad"), keras.optimizers.Adagrad(RATE, jit_compile=False)
    for batch in random_batches(2, 40):
        ours.apply_gradients([(slices(*batch), sparse)])
        theirs.apply_gradients([(tf.constant(summed(*batch), tf.float32), dense)])
    np.testing.assert_allclose(sparse, dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_repeated_rows_count_once_with_the_sum_of_their_gradients(kind: str) -> None:
    rng = np.random.default_rng(2)
    repeated, single = table(), table()
    one, other = RowOptimizer(RATE, kind), RowOptimizer(RATE, kind)
    unique = np.array([1, 4, 7])
    for _ in range(5):
        batch = random_batch(rng, rng.choice(unique, 50))
        one.apply_gradients([(slices(*batch), repeated)])
        other.apply_gradients([(slices(unique, summed(*batch)[unique].astype(np.float32)), single)])
    np.testing.assert_allclose(repeated, single, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "slots"), [("adam", 2), ("adagrad", 1)])
def test_rows_that_are_not_in_the_batch_keep_every_bit(kind: str, slots: int) -> None:
    rng = np.random.default_rng(3)
    weights, ours = table(), RowOptimizer(RATE, kind, averaging=0.9)
    ours.apply_gradients([(slices(*random_batch(rng, np.arange(12))), weights)])
    state = [value for value in ours.variables if value.shape == TABLE]
    assert len(state) == slots + 1  # and the average
    before = [value.numpy() for value in (weights, *state)]
    ours.apply_gradients([(slices(*random_batch(rng, np.array([3, 5, 3]))), weights)])
    rest = [row for row in range(12) if row not in (3, 5)]
    for old, value in zip(before, (weights, *state), strict=True):
        np.testing.assert_array_equal(value.numpy()[rest], old[rest])
        assert (value.numpy()[[3, 5]] != old[[3, 5]]).all()


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_weights_that_are_no_table_have_dense_adam(kind: str) -> None:
    rng = np.random.default_rng(4)
    mine, peer = kernel(), kernel()
    ours, theirs = RowOptimizer(RATE, kind, table_rate=0.3), keras.optimizers.Adam(RATE, jit_compile=False)
    for _ in range(5):
        gradient = tf.constant(rng.normal(size=TABLE), tf.float32)
        ours.apply_gradients([(gradient, mine)])
        theirs.apply_gradients([(gradient, peer)])
    np.testing.assert_allclose(mine, peer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_a_table_and_a_dense_layer_together_in_a_graph(kind: str) -> None:
    weights, dense = table(), kernel((3, 1), seed=1)
    ours = RowOptimizer(RATE, kind)
    ours.build([weights, dense])
    rows = tf.constant([[2, 3], [2, 9]])

    @tf.function
    def train(steps: tf.Tensor) -> tf.Tensor:
        loss = tf.constant(0.0)
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((tf.reduce_sum(tf.gather(weights, rows), axis=1) @ dense - 1) ** 2)
            gradients = tape.gradient(loss, [weights, dense])
            assert isinstance(gradients[0], tf.IndexedSlices)
            ours.apply_gradients(zip(gradients, [weights, dense], strict=True))
        return loss

    first = float(train(tf.constant(1)))
    assert float(train(tf.constant(100))) < 0.01 * first
    changed = (weights.numpy() != values()).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [2, 3, 9]
    assert int(ours.iterations) == 101


def test_follows_a_learning_rate_schedule() -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [RATE, 0.0])
    weights, ours = table(), RowOptimizer(schedule)
    rng = np.random.default_rng(5)
    ours.apply_gradients([(slices(*random_batch(rng, np.arange(12))), weights)])
    first = weights.numpy()
    assert (first != values()).all()
    ours.apply_gradients([(slices(*random_batch(rng, np.arange(12))), weights)])
    np.testing.assert_array_equal(weights, first)


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_the_table_rate_is_a_factor_for_tables_only(kind: str) -> None:
    batch = random_batch(np.random.default_rng(7), np.arange(12))
    moved = []
    for rate in (0.5, 1.0):
        weights, dense = table(), kernel()
        optimizer = RowOptimizer(RATE, kind, table_rate=rate)
        optimizer.apply_gradients([(slices(*batch), weights), (tf.constant(batch[1]), dense)])
        moved.append((weights.numpy() - values(), dense.numpy() - values()))
    np.testing.assert_allclose(moved[0][0], 0.5 * moved[1][0], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(moved[0][1], moved[1][1])


def test_adams_first_step_is_the_learning_rate_in_size() -> None:
    weights, ours = table(), RowOptimizer(RATE)
    rows, gradient = random_batch(np.random.default_rng(6), np.arange(12))
    ours.apply_gradients([(slices(rows, gradient), weights)])
    np.testing.assert_allclose(values() - weights.numpy(), RATE * np.sign(gradient), rtol=1e-3)


def train(
    ours: RowOptimizer, batches: list[Rows], weights: tf.Variable, dense: tf.Variable
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The weights after each step."""
    after = []
    for batch in batches:
        gradient = tf.constant(summed(*batch), tf.float32)
        ours.apply_gradients([(slices(*batch), weights), (gradient, dense)])
        after.append((weights.numpy(), dense.numpy()))
    return after


def full_average(start: np.ndarray, weights: list[np.ndarray], decay: float) -> np.ndarray:
    average = start.astype(np.float64)
    for step, each in enumerate(weights, 1):
        now = min(decay, (1 + step) / (10 + step))
        average = now * average + (1 - now) * each
    return average


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
@pytest.mark.parametrize("decay", [0.5, 0.97])
def test_the_average_is_that_of_all_weights_at_every_step(kind: str, decay: float) -> None:
    weights, dense = table(), kernel()
    ours = RowOptimizer(RATE, kind, averaging=decay)
    after = train(ours, random_batches(8, 60), weights, dense)
    for _ in range(2):  # looking does not change it
        with ours.averaged():
            for variable, each in zip((weights, dense), zip(*after, strict=True), strict=True):
                np.testing.assert_allclose(variable, full_average(values(), list(each), decay), rtol=1e-5, atol=1e-5)
        for variable, each in zip((weights, dense), after[-1], strict=True):
            np.testing.assert_array_equal(variable, each)


def test_training_goes_on_after_a_look_at_the_average() -> None:
    batches, decay = random_batches(9, 60), 0.97
    weights, dense = table(), kernel()
    ours = RowOptimizer(RATE, averaging=decay)
    after = train(ours, batches[:25], weights, dense)
    with ours.averaged():
        pass
    after += train(ours, batches[25:], weights, dense)
    peer_weights, peer_dense = table(), kernel()
    peers = train(RowOptimizer(RATE), batches, peer_weights, peer_dense)
    np.testing.assert_array_equal(after[-1], peers[-1])
    with ours.averaged():
        found = weights.numpy()
    np.testing.assert_allclose(found, full_average(values(), [each for each, _ in after], decay), rtol=1e-5, atol=1e-5)


def test_the_weights_come_back_after_an_error() -> None:
    weights, dense = table(), kernel()
    ours = RowOptimizer(RATE, averaging=0.9)
    after = train(ours, random_batches(10, 5), weights, dense)
    with pytest.raises(KeyError), ours.averaged():
        assert (weights.numpy() != after[-1][0]).any()
        raise KeyError
    np.testing.assert_array_equal(weights, after[-1][0])


def test_no_average_has_no_slots_and_changes_nothing() -> None:
    weights, dense = table(), kernel()
    ours = RowOptimizer(RATE)
    after = train(ours, random_batches(11, 3), weights, dense)
    assert [variable.shape.as_list() for variable in ours.variables] == [[], *[list(TABLE)] * 4]
    with ours.averaged():
        np.testing.assert_array_equal(weights, after[-1][0])


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_its_variables_are_all_its_state(kind: str) -> None:
    batches = random_batches(12, 20)
    weights, dense = table(), kernel()
    first = RowOptimizer(RATE, kind, averaging=0.9)
    train(first, batches[:10], weights, dense)
    saved = [variable.numpy() for variable in (weights, dense, *first.variables)]
    train(first, batches[10:], weights, dense)

    copy, copy_dense = table(), kernel()
    second = RowOptimizer(RATE, kind, averaging=0.9)
    second.build([copy, copy_dense])
    for variable, value in zip((copy, copy_dense, *second.variables), saved, strict=True):
        variable.assign(value)
    train(second, batches[10:], copy, copy_dense)
    for mine, theirs in zip((weights, dense, *first.variables), (copy, copy_dense, *second.variables), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_mirrored_variables_of_a_distributed_training() -> None:
    strategy, batches, decay = tf.distribute.MirroredStrategy(["/cpu:0"]), random_batches(13, 8), 0.9
    with strategy.scope():
        weights, dense = table(), kernel()
        ours = RowOptimizer(RATE, averaging=decay)
        ours.build([weights, dense])
    after = []
    for batch in batches:
        gradient = tf.constant(summed(*batch), tf.float32)

        @tf.function
        def step(rows: tf.IndexedSlices, dense_gradient: tf.Tensor) -> None:
            ours.apply_gradients([(rows, weights), (dense_gradient, dense)])

        strategy.run(step, args=(slices(*batch), gradient))
        after.append(weights.numpy())
    np.testing.assert_allclose(weights, adam(values(), batches), rtol=1e-4, atol=1e-5)
    with strategy.scope(), ours.averaged():
        np.testing.assert_allclose(weights, full_average(values(), after, decay), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(weights, after[-1])


@dataclass(frozen=True)
class Settings:
    table_optimizer: str = "adagrad"
    table_rate: float = 0.3
    averaging: float = 0.99


def test_made_from_settings() -> None:
    ours = make_optimizer(Settings(), 0.125)
    assert (ours.table_optimizer, ours.table_rate, ours.averaging) == ("adagrad", 0.3, 0.99)
    assert float(ours.learning_rate) == 0.125


def test_refuses_other_table_optimizers() -> None:
    with pytest.raises(ValueError, match=r"`table_optimizer` should be one of adam, adagrad. Received: sgd"):
        RowOptimizer(RATE, "sgd")

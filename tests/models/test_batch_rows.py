"""Rows of tables against NumPy, and variables that live for one step."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from models.backend import tf
from models.batch_rows import BatchRows, Scratch

INDICES = np.array([7, 2, 7, 0, 11, 2, 7], np.int32)


def table() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


def test_rows_of_a_batch_are_each_there_once() -> None:
    batch = BatchRows.of(tf.constant(INDICES))
    assert sorted(batch.rows.numpy().tolist()) == [0, 2, 7, 11]
    np.testing.assert_array_equal(batch.rows.numpy()[batch.places], INDICES)
    np.testing.assert_array_equal(batch.padded, [*batch.rows.numpy().tolist(), 0, 0, 0])


def test_values_of_the_same_row_are_added_up() -> None:
    values = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    batch = BatchRows.of(tf.constant(INDICES))
    expected = np.zeros((7, 3))
    for place, row in enumerate(batch.rows.numpy()):
        expected[place] = values[row == INDICES].sum(axis=0, dtype=np.float64)
    np.testing.assert_allclose(batch.sum(tf.constant(values)), expected, atol=1e-6)


@pytest.mark.parametrize("in_graph", [False, True])
def test_rows_that_are_written_are_read_and_the_others_stay(in_graph: bool) -> None:
    variable = tf.Variable(table())

    def double() -> None:
        batch = BatchRows.of(tf.constant(INDICES))
        batch.write(variable, 2 * batch.read(variable))

    (tf.function(double) if in_graph else double)()
    expected = table()
    expected[[0, 2, 7, 11]] *= 2
    np.testing.assert_array_equal(variable, expected)


def test_a_variable_is_not_taken_for_one_that_is_gone() -> None:
    for number in range(4):
        width = 2 + number % 2
        first, second = (tf.Variable(tf.fill([12, width], value)) for value in (number, -number))

        @tf.function
        def read(batch: tf.Tensor, one: tf.Variable = first, other: tf.Variable = second) -> list[tf.Tensor]:
            return [BatchRows.of(batch).read(variable) for variable in (one, other)]

        found = read(tf.constant(INDICES))
        np.testing.assert_array_equal(found, [np.full((7, width), number), np.full((7, width), -number)])
        del first, second, read
        gc.collect()


def test_rows_of_a_vector() -> None:
    variable = tf.Variable(np.arange(12, dtype=np.int32))
    batch = BatchRows.of(tf.constant(INDICES))
    np.testing.assert_array_equal(batch.read(variable), batch.padded)
    batch.write(variable, tf.fill([7], -1))
    np.testing.assert_array_equal(variable, [-1, 1, -1, 3, 4, 5, 6, -1, 8, 9, 10, -1])


@pytest.mark.parametrize("in_graph", [False, True])
def test_scratch_is_changed_in_place_and_then_gone(in_graph: bool) -> None:
    handles = []

    def step(value: tf.Tensor) -> tf.Tensor:
        scratch = Scratch(value)
        tf.raw_ops.AssignAddVariableOp(resource=scratch.handle, value=10 * value)
        found = scratch.release()
        handles.append(tf.raw_ops.VarIsInitializedOp(resource=scratch.handle))
        return found, handles[-1]

    run = tf.function(step) if in_graph else step
    for rows in (2, 5):
        value = np.arange(3.0 * rows, dtype=np.float32).reshape(rows, 3)
        found, remains = run(tf.constant(value))
        np.testing.assert_array_equal(found, 11 * value)
        assert not bool(remains)

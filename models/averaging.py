"""The exponential moving average of weights, taken only where weights have changed.

The average after step t is ``a_t = d_t a_{t-1} + (1 - d_t) w_t`` with ``d_t = min(decay, (1 + t) / (10 + t))``, which
grows to the decay, so that the initial weights are soon forgotten. Of a weight that stays the same after step s it is
``a_t = p a_s + (1 - p) w`` with ``p = d_{s+1} ... d_t``, so the average of a row needs no work while no batch has it.
"""

from __future__ import annotations

import math

from models.backend import tf
from models.batch_rows import compiled

# Rows that are exchanged at a time: enough to be fast, too few to need memory.
_CHUNK = 1 << 16


def decay_at(step: tf.Tensor, decay: float) -> tf.Tensor:
    """The decay ``d_t`` of a step, counted from 1: float of the step's type."""
    return tf.minimum(tf.cast(decay, step.dtype), (1 + step) / (10 + step))


def decay_between(since: tf.Tensor, step: tf.Tensor, decay: float) -> tf.Tensor:
    """The product of the decays of the steps after ``since`` up to ``step``.

    While the decay grows, ``(1 + t) / (10 + t)``, the product telescopes: nine factors ``(s + j) / (t + j)`` are left.

    Args:
        since: steps, int32 of any shape.
        step: a later or the same step, int32.
        decay: of the average, in (0, 1).

    Returns:
        float32 of the shape of ``since``.
    """
    # The last step whose decay still grows: (1 + t) / (10 + t) <= decay.
    growing = max(0, math.floor((10 * decay - 1) / (1 - decay)))
    first, last = (tf.cast(tf.minimum(end, growing), tf.float32) for end in (since, step))
    product = tf.ones_like(first)
    for offset in range(2, 11):
        product *= (first + offset) / (last + offset)
    constant = tf.maximum(step, growing) - tf.maximum(since, growing)
    return product * tf.pow(tf.constant(decay, tf.float32), tf.cast(constant, tf.float32))


def _up_to(step: tf.Tensor, average: tf.Tensor, since: tf.Tensor, weights: tf.Tensor, decay: float) -> tf.Tensor:
    """The averages at a step of rows that have kept their weights since their averages were taken."""
    kept = decay_between(since, step, decay)[:, tf.newaxis]
    # A row of step 0 has never changed. In this form one that is up to date keeps every bit.
    return tf.where((since == 0)[:, tf.newaxis], weights, kept * average + (1 - kept) * weights)


@compiled
def average_rows(
    step: tf.Tensor, average: tf.Tensor, since: tf.Tensor, old: tf.Tensor, new: tf.Tensor, decay: float
) -> tf.Tensor:
    """The averages after a step that changes rows.

    Args:
        step: int32, from 1.
        average: float32 [rows, width], as of the steps ``since``.
        since: int32 [rows]; 0 for a row that has never changed, whose average is its weights.
        old: float32 [rows, width], the weights since then.
        new: float32 [rows, width], the weights after the step.
        decay: of the average.

    Returns:
        float32 [rows, width].
    """
    kept = decay_at(tf.cast(step, tf.float32), decay)
    return kept * _up_to(step - 1, average, since, old, decay) + (1 - kept) * new


def exchange_rows(table: tf.Variable, average: tf.Variable, since: tf.Variable, step: tf.Tensor, decay: float) -> None:
    """Swaps a table and its averages as of a step, some rows at a time; twice is the identity.

    Args:
        table: float32 [rows, width].
        average: float32 [rows, width].
        since: int32 [rows], the step of each row's average.
        step: int32.
        decay: of the average.
    """
    rows = table.shape[0]
    for start in range(0, rows, _CHUNK):
        chunk = tf.range(start, min(start + _CHUNK, rows))
        weights = tf.gather(table, chunk)
        current = _up_to(step, tf.gather(average, chunk), tf.gather(since, chunk), weights, decay)
        table.scatter_update(tf.IndexedSlices(current, chunk))
        average.scatter_update(tf.IndexedSlices(weights, chunk))
        since.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(chunk), step), chunk))


def exchange(weight: tf.Variable, average: tf.Variable) -> None:
    """Swaps a weight and its average."""
    value = tf.identity(weight)
    weight.assign(average)
    average.assign(value)

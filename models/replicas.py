"""Sums over the replicas of a distributed training; with one replica everything is as it was.

Each replica has a part of the global batch. Losses are sums over the own rows, divided by the sum of the weights of
all replicas' rows, so that the sum of the replicas' gradients is the gradient of the global batch's mean loss.
"""

from __future__ import annotations

from models.backend import tf


def replicas() -> int:
    """Number of replicas that share a batch."""
    context = tf.distribute.get_replica_context()
    return int(context.num_replicas_in_sync) if context else 1


def sum_over_replicas(x: tf.Tensor) -> tf.Tensor:
    """The sum of the replicas' values, without gradient."""
    if replicas() == 1:
        return x
    context = tf.distribute.get_replica_context()
    return tf.stop_gradient(context.all_reduce(tf.distribute.ReduceOp.SUM, x))


def gather_rows(x: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, one after the other; gradients flow back to the replica that they came from.

    A loss of the gathered rows is computed by every replica, so it must be divided by :func:`replicas`.
    """
    if replicas() == 1:
        return x
    gathered = tf.distribute.get_replica_context().all_gather(x, axis=0)
    return tf.ensure_shape(gathered, [None, *x.shape[1:]])


def first_rows(x: tf.Tensor, rows: int) -> tf.Tensor:
    """About so many rows of the global batch, as many from each replica, as :func:`gather_rows` gathers them."""
    return gather_rows(x[: max(rows // replicas(), 1)])

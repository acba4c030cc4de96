"""Rows of large tables: read, added up and changed at a cost that does not depend on the table.

Reading and adding up are compiled by XLA, whose loops are faster than TensorFlow's kernels (one core, 106k rows of
17 floats out of 5M: 2.2 ms against 4.7 ms to read, 0.8 ms against 3.6 ms to add up). XLA compiles once for each set
of shapes, so the rows of a batch are padded to the number of its indices.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.backend import tf


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of tensors and variables by XLA, once for each set of shapes."""
    result: Callable[..., Any] = tf.function(function, jit_compile=True, autograph=False, reduce_retracing=True)
    return result


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch.

    Args:
        rows: int [rows of the batch], each once.
        padded: the same, padded with zeros to the number of indices: int [indices].
        places: where in ``rows`` each index is: int32 [indices].
    """

    rows: tf.Tensor
    padded: tf.Tensor
    places: tf.Tensor

    @classmethod
    def of(cls, indices: tf.Tensor) -> BatchRows:
        """The rows of a batch from its indices: int [indices], with repetitions."""
        rows, places = tf.unique(indices)
        return cls(rows, tf.pad(rows, [[0, tf.size(indices) - tf.size(rows)]]), places)

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Adds up the values of each row: float32 [indices, width] to the same shape, zeros at the padding."""
        return _sums(values, self.places)

    def read(self, variable: tf.Variable) -> tf.Tensor:
        """The rows of a variable, those of row 0 at the padding: [indices, ...]."""
        # The handle, not the variable: a compiled function that has seen a variable fails once that is gone. The shape
        # keeps apart what is compiled for tables of different widths.
        return _take(variable.handle, self.padded, variable.dtype, tuple(variable.shape))

    def write(self, variable: tf.Variable, values: tf.Tensor) -> None:
        """Puts values, padded as those of :meth:`read` are, in the place of the rows of a variable.

        The variable is changed in place. From then on TensorFlow copies it whenever it is read as a whole.
        """
        variable.scatter_update(tf.IndexedSlices(values[: tf.size(self.rows)], self.rows))


class Scratch:
    """A tensor that an operation may change in place: TensorFlow's fused updates take variables only.

    Use it within one step, and read it once, at the end.

    Args:
        value: what it begins with.
    """

    def __init__(self, value: tf.Tensor) -> None:
        shape = [None, *value.shape[1:]]
        self.handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=shape, shared_name=f"scratch_{uuid.uuid4().hex}")
        tf.raw_ops.AssignVariableOp(resource=self.handle, value=value)
        self._dtype, self._shape = value.dtype, shape

    def release(self) -> tf.Tensor:
        """Its value, after which it is gone."""
        value = tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self._dtype)
        with tf.control_dependencies([value]):
            tf.raw_ops.DestroyResourceOp(resource=self.handle)
        return tf.ensure_shape(value, self._shape)


@compiled
def _take(handle: tf.Tensor, rows: tf.Tensor, dtype: tf.DType, shape: tuple[int, ...]) -> tf.Tensor:
    return tf.ensure_shape(tf.raw_ops.ResourceGather(resource=handle, indices=rows, dtype=dtype), [None, *shape[1:]])


@compiled
def _sums(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    return tf.math.unsorted_segment_sum(values, places, tf.shape(values)[0])

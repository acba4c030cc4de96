"""A student's trunk for serving alone: embedding rows of one or two bytes a float, and nothing that only trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.backend import tf
from models.heads import CLASSES
from models.layers import dense_inputs
from models.trunk_weights import Floats, TrunkWeights

_LARGEST = {"float16": 1.0, "int8": 127.0}
"""What the largest number of a column becomes in a precision."""
# A scale below float32's normal range would be flushed to 0.
_NOTHING = 128 * np.finfo(np.float32).tiny


class CompactTrunk(tf.Module):
    """Computes what the trunk did that the weights are of, up to the rounding of embedding rows.

    A stored row is ``round(row / scale)``, where each column of the log has one scale for each float of its rows: the
    largest absolute value over 127 (int8) or over 1 (float16, which so has no overflow). Scales are part of the first
    kernel, and so is the linear part l, which passes the hidden layer as two units: ``l = relu(l) - relu(-l)``.
    Kernels and products are float32, whatever the precision of the training was.

    Args:
        weights: of the trunk.
        served: precision of embedding rows and of their floats of the linear part: float32, float16 or int8.
    """

    def __init__(self, weights: TrunkWeights, served: str) -> None:
        super().__init__(name="compact_trunk")
        stored, scales = zip(*(quantised(rows, served) for rows in weights.columns), strict=True)
        self._tables = _make_tables(stored)
        order = np.concatenate([table.columns for table in self._tables])
        layers = _layers(weights, [scales[column] for column in order])
        self._layers = [tuple(tf.Variable(part, trainable=False) for part in layer) for layer in layers]

    @property
    def row_bytes(self) -> int:
        """Bytes of all stored rows."""
        return sum(table.bytes for table in self._tables)

    def __call__(self, rows: tf.Tensor, dense: tf.Tensor, statistics: tf.Tensor | None = None) -> tf.Tensor:
        """Computes subclass logits.

        Args:
            rows: int32 ``[batch, columns]``, embedding rows of the categorical columns, then of the numeric ones.
            dense: float32 ``[batch, numeric columns]``, standardised, NaN = missing.
            statistics: float32 ``[batch, 2 * categorical columns]``, or None for a student without them.

        Returns:
            float32 ``[batch, 2 S]``, class-major.
        """
        x = tf.concat([*(table(rows) for table in self._tables), dense_inputs(dense, statistics)], axis=1)
        for kernel, bias in self._layers[:-1]:
            x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, kernel), bias))
        kernel, bias = self._layers[-1]
        return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def quantised(rows: Floats, served: str) -> tuple[npt.NDArray[np.generic], Floats]:
    """Rows in a precision, and the scales by which they are to be multiplied.

    Args:
        rows: float32 ``[rows, floats]``.
        served: float32, float16 or int8.

    Returns:
        The numbers ``[rows, floats]`` in that precision, and float32 ``[floats]``; 1 for a float that is 0 everywhere.
    """
    if served == "float32":
        return rows, np.ones(rows.shape[1], np.float32)
    largest = np.abs(rows).max(axis=0, initial=0)
    scales = np.where(largest > _NOTHING, largest / np.float32(_LARGEST[served]), np.float32(1))
    numbers = rows / scales
    return (np.rint(numbers) if served == "int8" else numbers).astype(served), scales


class _Table(tf.Module):
    """The rows of all columns whose embeddings have one size.

    Args:
        values: ``[rows, dim + 1]``.
        columns: their places among the columns of the log, rising.
        shifts: of each of them, from its rows in the layout to those in the table.
        all_columns: how many the log has.
    """

    def __init__(
        self,
        values: npt.NDArray[np.generic],
        columns: npt.NDArray[np.int64],
        shifts: npt.NDArray[np.int32],
        all_columns: int,
    ) -> None:
        super().__init__(name="table")
        self.columns, self.bytes, self._shifts = columns, values.nbytes, shifts
        self._whole = len(columns) == all_columns
        self._width = len(columns) * values.shape[1]
        self._values = tf.Variable(values, trainable=False, name="rows")

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        """Stored numbers of examples: int32 ``[batch, all columns]`` to float32 ``[batch, columns * (dim + 1)]``."""
        if not self._whole:
            rows = tf.gather(rows, self.columns, axis=1) + self._shifts
        return tf.reshape(tf.cast(tf.gather(self._values, rows), tf.float32), [-1, self._width])


def _make_tables(stored: Sequence[npt.NDArray[np.generic]]) -> list[_Table]:
    """A table for each size of embedding, the smallest first."""
    lengths, widths = (np.array([rows.shape[axis] for rows in stored]) for axis in (0, 1))
    starts = np.cumsum(lengths) - lengths
    tables = []
    for width in np.unique(widths):
        columns = np.flatnonzero(widths == width)
        own = np.cumsum(lengths[columns]) - lengths[columns]
        values = np.concatenate([stored[column] for column in columns.tolist()])
        tables.append(_Table(values, columns, (own - starts[columns]).astype(np.int32), len(stored)))
    return tables


def _layers(weights: TrunkWeights, scales: Sequence[Floats]) -> list[tuple[Floats, Floats]]:
    """Kernels and biases from stored numbers and dense inputs to subclass logits.

    Args:
        weights: of the trunk.
        scales: of the columns, in the order in which their numbers come.
    """
    head, bias = weights.head
    clicks = np.repeat(np.arange(CLASSES, dtype=np.float32), len(bias) // CLASSES)
    if weights.hidden is None:
        return [(_first_kernel(head, weights.linear, scales, clicks), bias)]
    kernel, hidden_bias = weights.hidden
    through = np.array([1, -1], np.float32)
    wide = np.pad(kernel, ((0, 0), (0, 2)))
    linear = np.pad(through, (kernel.shape[1], 0))
    return [
        (_first_kernel(wide, weights.linear, scales, linear), np.pad(hidden_bias, (0, 2))),
        (np.concatenate([head, np.outer(through, clicks)]), bias),
    ]


def _first_kernel(kernel: Floats, dense: Floats, scales: Sequence[Floats], linear: Floats) -> Floats:
    """A kernel of embeddings and dense inputs as one of stored numbers and dense inputs.

    Args:
        kernel: ``[embeddings + width, units]``.
        dense: ``[width]``, linear part of the dense inputs.
        scales: ``[dim + 1]`` of each column.
        linear: ``[units]``, what the linear part adds to each unit.
    """
    parts, place = [], 0
    for scale in scales:
        stop = place + len(scale) - 1
        parts.append(np.concatenate([kernel[place:stop], linear[np.newaxis]]) * scale[:, np.newaxis])
        place = stop
    parts.append(kernel[place:] + np.outer(dense, linear))
    return np.concatenate(parts).astype(np.float32)

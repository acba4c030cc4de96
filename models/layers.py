"""Layers that teacher and student share, with initial weights from (seed, name) alone."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.backend import keras, tf


def seed_for(seed: int, name: str) -> int:
    """A seed for the variable of that name; it does not depend on what else the model has."""
    return int(np.random.default_rng([seed, zlib.crc32(name.encode())]).integers(2**31))


def dense(width: int, seed: int, name: str, **options: Any) -> keras.layers.Dense:
    """A dense layer whose kernel (Glorot uniform) is drawn from (seed, name)."""
    initializer = keras.initializers.GlorotUniform(seed=seed_for(seed, name))
    return keras.layers.Dense(width, kernel_initializer=initializer, name=name, **options)


@dataclass(frozen=True)
class TableDropout:
    """Shares of what is looked up that are dropped in training; the rest is scaled up.

    Args:
      embedding: Of the floats of embeddings.
      linear: Of the floats of the linear part.
      field: Of the columns of an example, embedding and linear part together.
    """

    embedding: float = 0.0
    linear: float = 0.0
    field: float = 0.0


def _dropout(x: tf.Tensor, rate: float) -> tf.Tensor:
    return tf.nn.dropout(x, rate) if rate else x


class EmbeddingTable(keras.layers.Layer):
    """One table for all columns: an embedding and one float for the linear part a row.

    Formula: for the rows r_1 ... r_C of an example, ``embedding = concat(table[r_c, :dim])`` and
    ``linear = sum_c table[r_c, dim]``. One gather, so one sparse gradient.

    Example:
      >>> table = EmbeddingTable(rows=100, dim=4, seed=0)
      >>> embedding, linear = table(tf.constant([[1, 50], [2, 51]]))
      >>> embedding.shape, linear.shape
      (TensorShape([2, 8]), TensorShape([2]))

    Args:
      rows: Rows of the table.
      dim: Floats of an embedding.
      seed: Of the initial embeddings; the linear part starts at zero.
      dropout: What is dropped in training.
      l2: Penalty ``l2 * mean over the batch of the sum of squares`` of the looked-up rows.
      **kwargs: Of ``keras.layers.Layer``.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        seed: int,
        dropout: TableDropout | dict[str, float] | None = None,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if rows < 1 or dim < 1:
            raise ValueError(f"`rows` and `dim` should be positive. Received: rows={rows}, dim={dim}")
        super().__init__(**{"name": "embedding_table", **kwargs})
        self.rows, self.dim, self.seed, self.l2 = rows, dim, seed, l2
        self.rates = TableDropout(**dropout) if isinstance(dropout, dict) else dropout or TableDropout()

    def build(self, input_shape: Any) -> None:
        """Creates the table."""
        generator = np.random.default_rng([self.seed, zlib.crc32(b"embedding_table")])
        table = np.zeros((self.rows, self.dim + 1), np.float32)
        table[:, : self.dim] = generator.normal(0, 0.01, (self.rows, self.dim))
        self.table = self.add_weight(
            name="table", shape=table.shape, initializer=lambda shape, dtype=None, **_: tf.constant(table)
        )
        super().build(input_shape)

    def call(self, rows: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Looks up examples.

        Args:
          rows: int32 ``[batch, columns]``.
          training: Whether to drop out.

        Returns:
          Embeddings ``[batch, columns * dim]`` and the linear part ``[batch]``.
        """
        found = tf.gather(self.table, rows)
        if self.l2 and training:
            batch = tf.cast(tf.shape(rows)[0], found.dtype)
            self.add_loss(self.l2 * tf.reduce_sum(tf.square(found)) / batch)
        embedding, linear = found[:, :, : self.dim], found[:, :, self.dim :]
        if training:
            kept = _dropout(tf.ones_like(linear), self.rates.field)
            embedding = _dropout(embedding, self.rates.embedding) * kept
            linear = _dropout(linear, self.rates.linear) * kept
        return tf.reshape(embedding, [-1, rows.shape[1] * self.dim]), tf.reduce_sum(linear, axis=[1, 2])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for serialisation."""
        return {
            **super().get_config(),
            "rows": self.rows,
            "dim": self.dim,
            "seed": self.seed,
            "dropout": dataclasses.asdict(self.rates),
            "l2": self.l2,
        }


def dense_inputs(numerics: tf.Tensor, statistics: tf.Tensor | None) -> tf.Tensor:
    """What a trunk sees beside embeddings.

    Missing numerics become the mean, 0; which ones are missing is said by their buckets' embeddings.

    Args:
        numerics: float32 ``[batch, numeric columns]``, standardised, NaN = missing.
        statistics: float32 ``[batch, 2 * categorical columns]``, or None.

    Returns:
        float32 ``[batch, width]``.
    """
    present = tf.where(tf.math.is_nan(numerics), 0.0, numerics)
    return present if statistics is None else tf.concat([present, statistics], axis=1)


def linear_part(name: str = "linear") -> keras.layers.Dense:
    """A linear function of the dense inputs that starts at zero: ``[batch, width]`` to ``[batch, 1]``."""
    return keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name=name)


class HiddenLayers(keras.layers.Layer):
    """Dense ReLU layers with dropout.

    Args:
      widths: Of the layers, in order; none is the identity.
      seed: Of the initial weights.
      dropout: Share of the units dropped in training.
      **kwargs: Of ``keras.layers.Layer``.
    """

    def __init__(self, widths: Sequence[int], seed: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**{"name": "hidden", **kwargs})
        self.widths, self.seed = tuple(widths), seed
        self.layers = [
            dense(width, seed, f"hidden_{index}", activation="relu") for index, width in enumerate(self.widths)
        ]
        self.dropout = keras.layers.Dropout(dropout)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """``[batch, width]`` to ``[batch, last width]``."""
        for layer in self.layers:
            x = self.dropout(layer(x), training=training)
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for serialisation."""
        return {
            **super().get_config(),
            "widths": self.widths,
            "seed": self.seed,
            "dropout": self.dropout.rate,
        }

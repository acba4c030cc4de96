"""Layers that teacher and student share, with initial weights from (seed, name) alone."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
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
      dropout: Share of the embeddings' values dropped in training.
      l2: Penalty ``l2 * mean over the batch of the sum of squares`` of the looked-up rows.
      **kwargs: Of ``keras.layers.Layer``.
    """

    def __init__(self, rows: int, dim: int, seed: int, dropout: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        if rows < 1 or dim < 1:
            raise ValueError(f"`rows` and `dim` should be positive. Received: rows={rows}, dim={dim}")
        super().__init__(**{"name": "embedding_table", **kwargs})
        self.rows, self.dim, self.seed, self.l2 = rows, dim, seed, l2
        self.dropout = keras.layers.Dropout(dropout)

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
        embedding = tf.reshape(found[:, :, : self.dim], [-1, rows.shape[1] * self.dim])
        return self.dropout(embedding, training=training), tf.reduce_sum(found[:, :, self.dim], axis=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for serialisation."""
        return {
            **super().get_config(),
            "rows": self.rows,
            "dim": self.dim,
            "seed": self.seed,
            "dropout": self.dropout.rate,
            "l2": self.l2,
        }


def without_missing(dense_values: tf.Tensor) -> tf.Tensor:
    """Standardised numerics with the mean, 0, in the place of missing values; buckets say which are missing."""
    return tf.where(tf.math.is_nan(dense_values), 0.0, dense_values)


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

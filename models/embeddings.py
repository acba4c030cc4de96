"""Embeddings of all columns: one table, or one for each size of embedding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.backend import keras, tf
from models.dropout import Dropout
from models.replicas import sum_over_replicas
from models.seeds import seed_for
from models.tables import TableLayout


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


class EmbeddingTable(keras.layers.Layer):
    """One table for all columns: an embedding and one float for the linear part a row.

    Formula: for the rows r_1 ... r_C of an example, ``embedding = concat(table[r_c, :dim])`` and
    ``linear = sum_c table[r_c, dim]``. One gather, so one sparse gradient. (Two tables, of dim floats and of one, take
    as long to train; a table a column takes an operation of each kind a column.)

    Example:
      >>> table = EmbeddingTable(rows=100, dim=4, seed=0)
      >>> embedding, linear = table(tf.constant([[1, 50], [2, 51]]))
      >>> embedding.shape, linear.shape
      (TensorShape([2, 8]), TensorShape([2]))

    Args:
      rows: Rows of the table.
      dim: Floats of an embedding.
      seed: Of the initial embeddings and of dropout, together with the name; the linear part starts at zero.
      dropout: What is dropped in training.
      l2: Penalty ``l2 * mean over the batch of the sum of squares`` of the looked-up rows.
      **kwargs: Of ``keras.layers.Layer``.

    Raises:
      ValueError: If ``rows`` or ``dim`` is not positive.
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
        self.drop_embedding = Dropout(self.rates.embedding, seed, f"{self.name}_embedding")
        self.drop_linear = Dropout(self.rates.linear, seed, f"{self.name}_linear")
        self.drop_field = Dropout(self.rates.field, seed, f"{self.name}_field")

    def build(self, input_shape: Any) -> None:
        """Creates the table. Its name tells the optimizer that it is one."""
        seed = seed_for(self.seed, self.name)
        self.table = self.add_weight(
            name="table",
            shape=[self.rows, self.dim + 1],
            initializer=lambda shape, dtype=None, **_: _initial_table(shape, seed),
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
            batch = sum_over_replicas(tf.cast(tf.shape(rows)[0], found.dtype))
            self.add_loss(self.l2 * tf.reduce_sum(tf.square(found)) / batch)
        # The gradient of a split is one concatenation; that of two slices, two paddings and a sum.
        embedding, linear = tf.split(found, [self.dim, 1], axis=2)
        embedding = self.drop_embedding(embedding, training=training)
        linear = self.drop_linear(linear, training=training)
        if training and self.rates.field:
            kept = self.drop_field(tf.ones_like(linear), training=True)
            embedding, linear = embedding * kept, linear * kept
        return tf.reshape(embedding, [-1, rows.shape[1] * self.dim]), tf.reduce_sum(linear, axis=[1, 2])

    def read_rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows ``start`` to ``stop - 1`` of the table, without a copy of the others: [rows, dim + 1]."""
        values: npt.NDArray[np.float32] = tf.gather(self.table, tf.range(start, stop)).numpy()
        return values

    def assign_rows(self, start: int, values: npt.NDArray[np.float32]) -> None:
        """Puts values, [rows, dim + 1], in the place of the rows from ``start`` on."""
        self.table.scatter_update(tf.IndexedSlices(values, tf.range(start, start + len(values))))

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


@tf.function(autograph=False)
def _initial_table(shape: Sequence[int], seed: int) -> tf.Tensor:
    # In a graph the product takes the place of the draws, so that a large table needs no memory but its own.
    scale = tf.constant([[0.01] * (shape[1] - 1) + [0.0]])
    return tf.random.stateless_normal(shape, [seed, 0]) * scale


class EmbeddingTables(keras.layers.Layer):
    """Embeddings whose size depends on the column: a table for each size.

    Rows have the same numbers as in one table for all columns.

    Args:
      lengths: Rows of each column.
      dims: Floats of an embedding of each column.
      seed: Of the initial embeddings and of dropout.
      dropout: What is dropped in training.
      l2: As that of `EmbeddingTable`.
    """

    def __init__(
        self, lengths: Sequence[int], dims: Sequence[int], seed: int, dropout: TableDropout, l2: float = 0.0
    ) -> None:
        super().__init__(name="embedding_tables")
        self._columns = {dim: np.flatnonzero(np.equal(dims, dim)) for dim in sorted(set(dims))}
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._shifts = np.zeros(len(lengths), np.int32)
        self.tables = {}
        for dim, columns in self._columns.items():
            own = np.asarray(lengths)[columns]
            self._shifts[columns] = np.cumsum(own) - own - self._starts[columns]
            self.tables[str(dim)] = EmbeddingTable(int(own.sum()), dim, seed, dropout, l2, name=f"embedding_{dim}")

    def call(self, rows: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Looks up examples.

        Args:
          rows: int32 ``[batch, columns]``.
          training: Whether to drop out.

        Returns:
          Embeddings ``[batch, sum of sizes]``, those of the smallest size first, and the linear part ``[batch]``.
        """
        shifted = rows + self._shifts
        parts = [
            self.tables[str(dim)](tf.gather(shifted, columns, axis=1), training=training)
            for dim, columns in self._columns.items()
        ]
        return tf.concat([embedding for embedding, _ in parts], axis=1), tf.add_n([linear for _, linear in parts])

    def read_rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows ``start`` to ``stop - 1``, all of one column: [rows, its size + 1]."""
        table, shift = self._find(start)
        return table.read_rows(start + shift, stop + shift)

    def assign_rows(self, start: int, values: npt.NDArray[np.float32]) -> None:
        """Puts values, [rows, size + 1], in the place of the rows from ``start`` on, all of one column."""
        table, shift = self._find(start)
        table.assign_rows(start + shift, values)

    def _find(self, row: int) -> tuple[EmbeddingTable, int]:
        column = int(np.searchsorted(self._starts, row, side="right")) - 1
        dim = next(dim for dim, columns in self._columns.items() if column in columns)
        return self.tables[str(dim)], int(self._shifts[column])


def vocabulary_dim(length: int, largest: int) -> int:
    """Floats of an embedding of a column: the fourth root of its rows, as a power of two, at most ``largest``.

    Powers of two, so that few tables are enough.

    References:
      Introducing TensorFlow Feature Columns (2017): "number_of_categories ** 0.25",
      https://developers.googleblog.com/en/introducing-tensorflow-feature-columns/
    """
    return min(largest, 2 ** round(math.log2(length) / 4))


def make_embeddings(
    layout: TableLayout, dim: int, sizes: str, seed: int, dropout: TableDropout, l2: float = 0.0
) -> EmbeddingTable | EmbeddingTables:
    """The embeddings of a model; both kinds are used in the same way.

    Args:
        layout: which row belongs to what.
        dim: floats of an embedding, the most for ``vocabulary``.
        sizes: ``equal`` for all columns, or ``vocabulary`` for :func:`vocabulary_dim`.
        seed: of the initial embeddings and of dropout.
        dropout: what is dropped in training.
        l2: penalty on the looked-up rows.
    """
    if sizes == "equal":
        return EmbeddingTable(layout.rows, dim, seed, dropout, l2)
    lengths = np.diff([*layout.starts, layout.rows]).tolist()
    return EmbeddingTables(lengths, [vocabulary_dim(length, dim) for length in lengths], seed, dropout, l2)

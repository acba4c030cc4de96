"""The student: small embeddings, a linear part and one small hidden layer, taught by stored targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.statistics import ClickCounts
from models.backend import keras, tf, tfrs
from models.heads import SubclassHead
from models.inputs import Batch
from models.layers import EmbeddingTable, HiddenLayers, TableDropout, dense_inputs, linear_part, seed_for
from models.losses import mean_loss, student_loss
from models.methods import Method
from models.tables import FIRST_ROW, MISSING_ROW, OTHER_ROW, FoldTables, TableLayout


@dataclass(frozen=True)
class StudentSettings:
    """The shape of a student and its loss; ``pipeline.config.StudentConfig`` says what each is."""

    embedding_dim: int
    hidden: int
    embedding_dropout: float
    linear_dropout: float
    field_dropout: float
    embedding_l2: float
    statistics: bool
    alpha: float
    temperature: float
    temper: str
    within_weight: float
    seed: int


class StudentTrunk(keras.layers.Layer):
    """``z = head(hidden(concat(embeddings, numerics)))``, plus a linear part on the click logit.

    The linear part is one float an embedding row and one a numeric column.

    Training and serving both end here. Trunks with the same settings start from the same weights, apart from the
    width of the head.

    Args:
      layout: Of the embedding table.
      base_rate: Click rate of the training rows, where the head's bias starts.
      subclasses: S of the head; 1 for a head of two logits.
      settings: The shape.
    """

    def __init__(self, layout: TableLayout, base_rate: float, subclasses: int, settings: StudentSettings) -> None:
        super().__init__(name="student_trunk")
        seed = settings.seed
        dropout = TableDropout(settings.embedding_dropout, settings.linear_dropout, settings.field_dropout)
        self.embeddings = EmbeddingTable(layout.rows, settings.embedding_dim, seed, dropout, settings.embedding_l2)
        self.linear = linear_part()
        self.hidden = HiddenLayers([settings.hidden] if settings.hidden else [], seed)
        self.head = SubclassHead(subclasses, base_rate, seed_for(seed, "head"), name="head")

    def call(
        self, rows: tf.Tensor, dense: tf.Tensor, statistics: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        """Computes subclass logits.

        Args:
          rows: int32 ``[batch, columns]``, embedding rows of the categorical columns, then of the numeric ones.
          dense: float32 ``[batch, numeric columns]``, standardised, NaN = missing.
          statistics: float32 ``[batch, 2 * categorical columns]``, or None for a student without them.
          training: Whether to drop out.

        Returns:
          float32 ``[batch, 2 S]``, class-major.
        """
        embedding, linear = self.embeddings(rows, training=training)
        numbers = dense_inputs(dense, statistics)
        deep = self.hidden(tf.concat([embedding, numbers], axis=1), training=training)
        return self.head(deep, linear + self.linear(numbers)[:, 0])


class Student(tfrs.Model):
    """Trains a trunk by a method's loss.

    Args:
      trunk: What is trained.
      tables: Embedding rows (and click statistics) by fold.
      method: What the student learns.
      settings: The loss.
    """

    def __init__(self, trunk: StudentTrunk, tables: FoldTables, method: Method, settings: StudentSettings) -> None:
        super().__init__(name="student")
        self.trunk = trunk
        self._tables, self._method, self._settings = tables, method, settings

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Subclass logits ``[batch, 2 S]``, class-major, of a batch (see :mod:`models.inputs`)."""
        ids, dense, fold = batch["ids"], batch["dense"], batch["fold"]
        rows = tf.concat([self._tables.rows(ids, fold), self._tables.lookup.numeric(dense)], axis=1)
        statistics = self._tables.statistics(ids, fold) if self._settings.statistics else None
        return self.trunk(rows, dense, statistics, training=training)

    def compute_loss(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Mean loss of a batch (weighted, if its rows are), without the penalty on the embeddings."""
        settings = self._settings
        losses = student_loss(
            batch["label"],
            batch.get("targets"),
            self(batch, training=training),
            target=self._method.target,
            alpha=settings.alpha,
            temperature=settings.temperature,
            temper=settings.temper,
            # The joint form does not split into parts.
            within_weight=settings.within_weight if settings.temper == "within" else 1.0,
        )
        return mean_loss(losses, batch.get("weight"))


def tie_untrained(
    trunk: StudentTrunk, layout: TableLayout, counts: ClickCounts, missing_numeric: Sequence[int]
) -> None:
    """Gives the embedding rows that no training row has looked up a meaning, before export.

    A missing value that no training row has, a hash bucket that none has, and a value or bucket whose rows all lie in
    one fold (they are shown it as one without a row of its own), become like a value without a row of its own; where
    no training row has such a value either, that is the mean of the column's values and buckets.

    Args:
        trunk: is changed in place.
        layout: of its table.
        counts: of the training rows.
        missing_numeric: training rows without a value, of each numeric column.
    """
    table = trunk.embeddings.table.numpy()
    categorical = len(layout.kept)
    for column, (start, first) in enumerate(zip(layout.starts[:categorical], counts.starts, strict=True)):
        count = counts.counts[first + layout.ids(column)]
        total = count.sum(axis=1)
        # A value whose rows all lie in one fold is shown to them as one without a row of its own.
        hidden = (count * (count == total[:, np.newaxis])).sum(axis=1)
        if counts.rows.sum() - total.sum() + hidden[FIRST_ROW:].sum() == 0 and total[FIRST_ROW:].any():
            values = table[start + FIRST_ROW : start + len(total)]
            table[start + OTHER_ROW] = np.average(values, axis=0, weights=total[FIRST_ROW:])
        if total[MISSING_ROW] == 0:
            table[start + MISSING_ROW] = table[start + OTHER_ROW]
        alone = FIRST_ROW + np.flatnonzero((count == total[:, np.newaxis]).any(axis=1)[FIRST_ROW:])
        table[start + alone] = table[start + OTHER_ROW]
    for missing, start, edges in zip(missing_numeric, layout.starts[categorical:], layout.edges, strict=True):
        if missing == 0:
            table[start + len(edges) + 1] = table[start : start + len(edges) + 1].mean(axis=0)
    trunk.embeddings.table.assign(table)

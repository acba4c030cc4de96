"""The teacher: cross and hidden layers over embeddings, numerics and click statistics, with K = 2 S logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.backend import keras, tf, tfrs
from models.heads import SubclassHead
from models.inputs import Batch
from models.layers import EmbeddingTable, HiddenLayers, TableDropout, dense_inputs, linear_part, seed_for
from models.losses import auxiliary_loss, class_cross_entropy, mean_loss
from models.tables import CrossStatistics, FoldTables, TableLayout


@dataclass(frozen=True)
class TeacherSettings:
    """The shape of a teacher and its loss; ``pipeline.config.TeacherConfig`` says what each is."""

    subclasses: int
    embedding_dim: int
    cross_layers: int
    cross_rank: int
    hidden: tuple[int, ...]
    dropout: float
    embedding_dropout: float
    linear_dropout: float
    field_dropout: float
    embedding_l2: float
    statistics: bool
    beta: float
    aux_temperature: float
    aux_rows: int
    seed: int


class TeacherTrunk(keras.layers.Layer):
    """Deep & cross network (v2) with a subclass head: everything that scoring needs.

    Args:
      layout: Of the embedding table.
      tables: Embedding rows and click statistics by fold.
      crosses: Statistics of pairs of columns by fold, or None.
      base_rate: Click rate of the training rows, where the head's bias starts.
      settings: The shape.

    References:
      Wang et al., DCN V2 (2021), https://arxiv.org/abs/2008.13535
    """

    def __init__(
        self,
        layout: TableLayout,
        tables: FoldTables,
        crosses: CrossStatistics | None,
        base_rate: float,
        settings: TeacherSettings,
    ) -> None:
        super().__init__(name="teacher_trunk")
        seed = settings.seed
        self.tables, self.crosses, self.use_statistics = tables, crosses, settings.statistics
        dropout = TableDropout(settings.embedding_dropout, settings.linear_dropout, settings.field_dropout)
        self.embeddings = EmbeddingTable(layout.rows, settings.embedding_dim, seed, dropout, settings.embedding_l2)
        self.cross = [
            tfrs.layers.dcn.Cross(
                projection_dim=settings.cross_rank or None,
                kernel_initializer=keras.initializers.GlorotUniform(seed_for(seed, f"cross_{index}")),
                name=f"cross_{index}",
            )
            for index in range(settings.cross_layers)
        ]
        self.cross_dropout = keras.layers.Dropout(settings.dropout)
        self.linear = linear_part()
        self.hidden = HiddenLayers(settings.hidden, seed, settings.dropout)
        self.head = SubclassHead(settings.subclasses, base_rate, seed_for(seed, "head"), name="head")

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Subclass logits ``[batch, 2 S]``, class-major, of a batch (see :mod:`models.inputs`)."""
        ids, dense, fold = batch["ids"], batch["dense"], batch["fold"]
        rows = tf.concat([self.tables.rows(ids, fold), self.tables.lookup.numeric(dense)], axis=1)
        embedding, linear = self.embeddings(rows, training=training)
        statistics = [self.tables.statistics(ids, fold)] if self.use_statistics else []
        statistics += [self.crosses(ids, dense, fold)] if self.crosses else []
        numbers = dense_inputs(dense, tf.concat(statistics, axis=1) if statistics else None)
        inputs = x = tf.concat([embedding, numbers], axis=1)
        for layer in self.cross:
            x = self.cross_dropout(layer(inputs, x), training=training)
        deep = self.hidden(inputs, training=training)
        outputs = tf.concat([x, deep], axis=1) if self.cross else deep
        return self.head(outputs, linear + self.linear(numbers)[:, 0])


class Teacher(tfrs.Model):
    """Trains a trunk by class cross-entropy plus ``beta`` times the auxiliary loss of subclass distillation.

    The auxiliary loss looks at the first ``aux_rows`` rows of the (shuffled) batch: its cost grows with their square.
    It keeps rows apart from each other, whatever they count, so it takes no weights.

    Args:
      trunk: What is trained.
      settings: The loss.

    References:
      Müller, Kornblith and Hinton, Subclass Distillation (2020), https://arxiv.org/abs/2002.03936
    """

    def __init__(self, trunk: TeacherTrunk, settings: TeacherSettings) -> None:
        super().__init__(name="teacher")
        self.trunk = trunk
        self._beta, self._temperature, self._rows = settings.beta, settings.aux_temperature, settings.aux_rows

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Subclass logits ``[batch, 2 S]``, class-major, of a batch."""
        return self.trunk(batch, training=training)

    def compute_loss(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Mean loss of a batch (weighted, if its rows are), without the penalty on the embeddings."""
        z = self(batch, training=training)
        loss = mean_loss(class_cross_entropy(batch["label"], z), batch.get("weight"))
        if self._beta:
            loss += self._beta * auxiliary_loss(z[: self._rows], self._temperature)
        return loss


class TeacherScorer(tf.Module):
    """What ``precompute`` loads: subclass logits of stored examples.

    Args:
        trunk: of a trained teacher.
        columns: numbers of numeric and categorical columns.
    """

    def __init__(self, trunk: TeacherTrunk, columns: tuple[int, int]) -> None:
        super().__init__(name="teacher_scorer")
        self._trunk = trunk
        numeric, categorical = columns
        self.score = tf.function(
            self._score,
            input_signature=[
                tf.TensorSpec([None, categorical], tf.int32, "ids"),
                tf.TensorSpec([None, numeric], tf.float32, "dense"),
                tf.TensorSpec([None], tf.int32, "fold"),
            ],
        )

    def _score(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": self._trunk({"ids": ids, "dense": dense, "fold": fold})}

    def save(self, path: str) -> None:
        """Writes a SavedModel with the signature ``serving_default``: ids, dense, fold to logits [batch, K]."""
        tf.saved_model.save(self, path, signatures={"serving_default": self.score})


def parameters(model: Any) -> int:
    """Number of trained floats of a model."""
    return int(sum(variable.shape.num_elements() for variable in model.trainable_variables))

"""The teacher: one network or an ensemble of several, trained together, with K = 2 S logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.architectures import ArchitectureSettings, build_body
from models.backend import keras, tf, tfrs
from models.calibration import Calibration
from models.embeddings import TableDropout, make_embeddings
from models.heads import SubclassHead, calibrated
from models.inputs import Batch
from models.layers import dense_inputs, linear_part
from models.losses import auxiliary_loss, class_cross_entropy, mean_loss
from models.replicas import gather_rows, replicas
from models.seeds import seed_for
from models.tables import CrossStatistics, FoldTables, TableLayout


@dataclass(frozen=True)
class TeacherSettings(ArchitectureSettings):
    """The shape of a teacher and its loss; ``pipeline.config.TeacherConfig`` says what each is."""

    architecture: str
    ensemble: str
    embedding_dropout: float
    linear_dropout: float
    field_dropout: float
    embedding_l2: float
    statistics: str
    beta: float
    aux_temperature: float
    aux_rows: int
    seed: int

    @property
    def architectures(self) -> tuple[str, ...]:
        """Architecture of each member."""
        return tuple(name.strip() for name in self.architecture.split(","))


class Member(keras.layers.Layer):
    """One network of a teacher: embeddings, an architecture, a linear part and a subclass head, all its own.

    Args:
      architecture: Its name.
      layout: Of the embedding table.
      base_rate: Click rate of the training rows, where the head's bias starts.
      settings: The shape; the penalty on embeddings is divided by the number of members, as their losses are.
      seed: Of the initial weights and of dropout.
    """

    def __init__(
        self, architecture: str, layout: TableLayout, base_rate: float, settings: TeacherSettings, seed: int
    ) -> None:
        super().__init__(name="member")
        dropout = TableDropout(settings.embedding_dropout, settings.linear_dropout, settings.field_dropout)
        l2 = settings.embedding_l2 / len(settings.architectures)
        dim, sizes = settings.embedding_dim, settings.embedding_sizes
        self.embeddings = make_embeddings(layout, dim, sizes, seed, dropout, l2)
        self.body = build_body(architecture, settings, seed)
        self.linear = linear_part()
        self.head = SubclassHead(settings.subclasses, base_rate, seed_for(seed, "head"), name="head")

    def call(self, rows: tf.Tensor, numbers: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Embedding rows ``[batch, columns]`` and numbers ``[batch, width]`` to subclass logits ``[batch, 2 S]``."""
        embedding, linear = self.embeddings(rows, training=training)
        outputs = self.body(embedding, numbers, training=training)
        z = self.head(outputs.hidden, linear + self.linear(numbers)[:, 0])
        return z if outputs.logits is None else z + outputs.logits


class TeacherTrunk(keras.layers.Layer):
    """The members of a teacher and what makes one of them: everything that scoring needs.

    The logits are the mean of the members' logits, or their mean under the weights of a gate: a softmax over the
    members that is linear in the numbers and starts with equal weights. Member 0 starts as the only member would.

    Args:
      layout: Of the embedding tables.
      tables: Embedding rows and click statistics by fold.
      crosses: Statistics of pairs of columns by fold, or None.
      base_rate: Click rate of the training rows, where the heads' biases start.
      settings: The shape.
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
        self.tables, self.crosses, self.use_statistics = tables, crosses, settings.statistics != "none"
        self.members = [
            Member(name, layout, base_rate, settings, seed_for(settings.seed, f"member_{i}") if i else settings.seed)
            for i, name in enumerate(settings.architectures)
        ]
        gated = settings.ensemble == "gated" and len(self.members) > 1
        self.gate = keras.layers.Dense(len(self.members), "softmax", kernel_initializer="zeros") if gated else None

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Subclass logits ``[batch, 2 S]``, class-major, of a batch (see :mod:`models.inputs`)."""
        return combine(*self.outputs(batch, training))

    def outputs(self, batch: Batch, training: bool = False) -> tuple[tf.Tensor, tf.Tensor | None]:
        """What the members say of a batch, and what each of them weighs.

        Returns:
          Their subclass logits ``[batch, members, 2 S]``, and weights ``[batch, members]`` that sum to 1, or None for
          equal ones.
        """
        rows, numbers = self._inputs(batch)
        logits = tf.stack([member(rows, numbers, training=training) for member in self.members], axis=1)
        return logits, None if self.gate is None else self.gate(numbers)

    def _inputs(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Embedding rows and numbers; all members see the same, so they are looked up once."""
        ids, dense, fold = batch["ids"], batch["dense"], batch["fold"]
        rows = tf.concat([self.tables.rows(ids), self.tables.lookup.numeric(dense)], axis=1)
        statistics = [self.tables.statistics(ids, fold)] if self.use_statistics else []
        statistics += [self.crosses(ids, dense, fold)] if self.crosses else []
        return rows, dense_inputs(dense, tf.concat(statistics, axis=1) if statistics else None)


def combine(logits: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """One teacher's logits from those of its members.

    Args:
        logits: ``[batch, members, 2 S]``.
        weights: ``[batch, members]``, or None for equal ones.

    Returns:
        Their mean ``[batch, 2 S]``; that of one member is the member's bit for bit.
    """
    if weights is None:
        return tf.reduce_mean(logits, axis=1)
    return tf.reduce_sum(weights[:, :, tf.newaxis] * logits, axis=1)


class Teacher(tfrs.Model):
    """Trains a trunk by class cross-entropy plus ``beta`` times the auxiliary loss of subclass distillation.

    Every member has a cross-entropy of its own, and their mean is the loss: members learn as if they were alone, none
    leans on what the others know. A gate learns from the cross-entropy of the whole, which members do not see. The
    auxiliary loss is that of the whole and shapes the members: its subclasses are what a student is taught.

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
        """Mean loss of a batch (weighted, if its rows are), without the penalty on the embeddings.

        That of a gated ensemble has the members' and the gate's cross-entropy, so it is about twice a logloss.
        """
        logits, weights = self.trunk.outputs(batch, training)
        members = tf.unstack(logits, axis=1)
        loss = sum(_click_loss(batch, z) for z in members) / len(members)
        if weights is not None:
            loss += _click_loss(batch, combine(tf.stop_gradient(logits), weights))
            weights = tf.stop_gradient(weights)
        if self._beta:
            loss += self._beta * self._auxiliary(combine(logits, weights))
        return loss

    def _auxiliary(self, z: tf.Tensor) -> tf.Tensor:
        # Every replica computes the loss of all replicas' rows.
        return auxiliary_loss(gather_rows(z[: max(self._rows // replicas(), 1)]), self._temperature) / replicas()


def _click_loss(batch: Batch, z: tf.Tensor) -> tf.Tensor:
    return mean_loss(class_cross_entropy(batch["label"], z), batch.get("weight"))


class TeacherScorer(tf.Module):
    """What ``precompute`` loads: calibrated subclass logits of stored examples.

    Args:
        trunk: of a trained teacher.
        columns: numbers of numeric and categorical columns.
        calibration: map of the click logit, which leaves the conditionals within a class as they are; None for none.
    """

    def __init__(self, trunk: TeacherTrunk, columns: tuple[int, int], calibration: Calibration | None = None) -> None:
        super().__init__(name="teacher_scorer")
        calibration = calibration or Calibration()
        self._trunk = trunk
        self.scale = tf.Variable(calibration.scale, trainable=False, dtype=tf.float32, name="scale")
        self.shift = tf.Variable(calibration.shift, trainable=False, dtype=tf.float32, name="shift")
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
        z = self._trunk({"ids": ids, "dense": dense, "fold": fold})
        return {"logits": calibrated(z, self.scale, self.shift)}

    def save(self, path: str) -> None:
        """Writes a SavedModel with the signature ``serving_default``: ids, dense, fold to logits [batch, K]."""
        tf.saved_model.save(self, path, signatures={"serving_default": self.score})


def parameters(model: Any) -> int:
    """Number of trained floats of a model."""
    return int(sum(variable.shape.num_elements() for variable in model.trainable_variables))

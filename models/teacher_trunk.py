"""The networks of a teacher: one or several members, and what makes one teacher of them."""

from __future__ import annotations

from dataclasses import dataclass

from models.architectures import ArchitectureSettings, Outputs, build_body
from models.backend import keras, tf
from models.embeddings import TableDropout, make_embeddings
from models.heads import SubclassHead
from models.inputs import Batch
from models.layers import dense_inputs, linear_part
from models.seeds import seed_for
from models.tables import CrossStatistics, FoldTables, TableLayout


@dataclass(frozen=True)
class TeacherSettings(ArchitectureSettings):
    """The shape of a teacher and its loss; ``pipeline.settings.TeacherConfig`` says what each is."""

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
    aux_scope: str
    tolerance: float
    tolerance_scope: str
    tolerance_classes: int
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
        outputs, linear = self._body_outputs(rows, numbers, training)
        z = self.head(outputs.hidden, linear + self.linear(numbers)[:, 0])
        return z if outputs.logits is None else z + outputs.logits

    def hidden(self, rows: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """What the head sees of the same arguments: ``[batch, width]``."""
        return self._body_outputs(rows, numbers, training=False)[0].hidden

    def _body_outputs(self, rows: tf.Tensor, numbers: tf.Tensor, training: bool) -> tuple[Outputs, tf.Tensor]:
        """What the body says, and the embeddings' part of the linear part ``[batch]``."""
        embedding, linear = self.embeddings(rows, training=training)
        return self.body(embedding, numbers, training=training), linear


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

    def hidden(self, batch: Batch) -> tf.Tensor:
        """The teacher's embeddings of a batch: what all members' heads see, side by side.

        Apart from the linear part, which moves the block of class 1, ``z = hidden @ kernel + bias`` with those of
        :meth:`head`. FinalMLP adds bilinear logits to that, which are not linear in its hidden layers.

        Returns:
          ``[batch, D]``, D being the sum of the widths.
        """
        rows, numbers = self._inputs(batch)
        return tf.concat([member.hidden(rows, numbers) for member in self.members], axis=1)

    def head(self) -> tuple[tf.Tensor, tf.Tensor] | None:
        """The heads of all members as one on :meth:`hidden`; None for a gated teacher, whose weights differ by row.

        Returns:
          The kernel ``[D, 2 S]`` and the bias ``[2 S]``, before calibration.
        """
        if self.gate is not None:
            return None
        kernels, biases = ([getattr(member.head, name) for member in self.members] for name in ("kernel", "bias"))
        return tf.concat(kernels, axis=0) / len(self.members), tf.add_n(biases) / len(self.members)

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

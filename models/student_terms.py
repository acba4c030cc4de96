"""What a student's loss has beside the losses of its logits: ranks, relations of rows, the teacher's embedding.

And what the targets of each row weigh, where that is not the same for all, and the members of a teacher in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.statistics import ClickCounts
from models.backend import keras, tf
from models.heads import ReusedHead, click_logit
from models.inputs import Batch
from models.layers import dense
from models.losses import mean_loss
from models.ranking import ranking_loss
from models.relations import pseudo_labels, relation_loss, similarity_loss
from models.replicas import first_rows, replicas
from models.slice_alpha import slices_of


@dataclass(frozen=True)
class TermSettings:
    """The weight of each term, 0 for none, and its shape; ``pipeline.settings.StudentConfig`` says what each is."""

    ranking: float
    ranking_rows: int
    similarity: float
    relations: float
    relations_temperature: float
    relations_negatives: int
    relation_rows: int
    reused: float


class StudentTerms(keras.layers.Layer):
    """The terms of a loss that are not made of one row's logits.

    Ranking, similarity and relations compare the first rows of the (shuffled) batch with each other, those of all
    replicas; their cost grows with the number of these rows squared. Ranking takes the rows' weights; similarity and
    relations say where rows lie, whatever they count. Relations see the hidden layer through a projection to the width
    of the teacher's embedding, which is not exported.

    Args:
      settings: The terms.
      embedding: E, floats of the teacher's embedding; 0 for none.
      seed: Of the projection's initial weights.

    Raises:
      ValueError: If a term needs an embedding and there is none.
    """

    def __init__(self, settings: TermSettings, embedding: int, seed: int) -> None:
        super().__init__(name="terms")
        if not embedding and (settings.similarity or settings.relations or settings.reused):
            raise ValueError(f"`embedding` should be positive for {settings}. Received: embedding={embedding}")
        self._settings = settings
        self.projection = dense(embedding, seed, "relations", use_bias=False) if settings.relations else None

    def weighted(
        self, batch: Batch, p_click: tf.Tensor, deep: tf.Tensor, z: tf.Tensor, head: keras.layers.Layer
    ) -> list[tf.Tensor]:
        """The terms, times their weights; with several replicas the own part of each.

        Args:
          batch: See :mod:`models.inputs`.
          p_click: Click probabilities that ranking learns ``[batch]``.
          deep: Hidden layer ``[batch, width]``.
          z: Subclass logits that learn from the teacher ``[batch, 2 S]``.
          head: The student's own; a :class:`models.heads.ReusedHead` if the weight of ``reused`` is positive.

        Returns:
          Scalars, none for terms of weight 0.
        """
        settings, terms = self._settings, []
        if settings.ranking:
            terms.append(settings.ranking * self._ranking(batch, p_click, z))
        if settings.similarity:
            terms.append(settings.similarity * self._similarity(batch, deep))
        if self.projection is not None:
            terms.append(settings.relations * self._relations(batch, self.projection(deep)))
        if settings.reused:
            terms.append(settings.reused * _reused(batch, deep, head))
        return terms

    def _ranking(self, batch: Batch, p_click: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        scores, p_click, weights = (
            None if x is None else first_rows(x, self._settings.ranking_rows)
            for x in (click_logit(z), p_click, batch.get("weight"))
        )
        return ranking_loss(scores, p_click, weights) / replicas()

    def _similarity(self, batch: Batch, deep: tf.Tensor) -> tf.Tensor:
        teacher, student = (first_rows(x, self._settings.relation_rows) for x in (batch["embedding"], deep))
        return similarity_loss(teacher, student) / replicas()

    def _relations(self, batch: Batch, projected: tf.Tensor) -> tf.Tensor:
        settings = self._settings
        kinds = pseudo_labels(batch["label"], batch["targets"])
        kinds, teacher, student = (
            first_rows(x, settings.relation_rows) for x in (kinds, batch["embedding"], projected)
        )
        loss = relation_loss(teacher, student, kinds, settings.relations_negatives, settings.relations_temperature)
        return loss / replicas()


def _reused(batch: Batch, deep: tf.Tensor, head: ReusedHead) -> tf.Tensor:
    """Mean squared distance between the teacher's embedding and what the head makes of the hidden layer, a float."""
    apart = tf.math.squared_difference(head.project(deep), batch["embedding"])
    return mean_loss(tf.reduce_mean(apart, axis=1), batch.get("weight"))


class MemberGate(keras.layers.Layer):
    """What each member of a teacher weighs for a row: ``softmax_i(w_i l_i + b_i)`` of the members' click logits l.

    w and b start at 0, so weights are equal; they learn from the loss that they weigh. Nothing keeps them from
    choosing the member that is easiest to learn: see :meth:`entropy`.

    Args:
      members: M, their number.

    References:
      Zhu et al., Ensembled CTR Prediction via Knowledge Distillation (2020), https://arxiv.org/abs/2011.04106
    """

    def __init__(self, members: int) -> None:
        super().__init__(name="member_gate")
        self.scale = self.add_weight("scale", [members], initializer="zeros")
        self.shift = self.add_weight("shift", [members], initializer="zeros")

    def call(self, clicks: tf.Tensor) -> tf.Tensor:
        """Weights ``[batch, M]`` of sum 1, from click logits of that shape."""
        return tf.nn.softmax(self.scale * clicks + self.shift)

    def entropy(self, clicks: tf.Tensor) -> tf.Tensor:
        """Entropy of each row's weights ``[batch]``, in nats: log M for equal ones, 0 where one member has it all."""
        logs = tf.nn.log_softmax(self.scale * clicks + self.shift)
        return -tf.reduce_sum(tf.exp(logs) * logs, axis=1)


class RowAlphas(tf.Module):
    """The weight of each training row's targets, by how often its rarest value is among the other training rows.

    Args:
      counts: Of the training rows.
      alphas: float32 ``[slices]``; see :mod:`models.slice_alpha`.
    """

    def __init__(self, counts: ClickCounts, alphas: npt.NDArray[np.float32]) -> None:
        super().__init__(name="row_alphas")
        self._starts = tf.constant(counts.starts, tf.int32)
        # Without the row itself, as validation rows are counted. The rarest value's slice is the least one, so slices
        # will do in place of counts: a byte an id.
        found = slices_of(np.maximum(counts.counts.sum(axis=1) - 1, 0)).astype(np.uint8)
        self._slices = tf.Variable(found, trainable=False, name="slices")
        self._alphas = tf.constant(alphas)

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """Weights of rows, from vocabulary ids: int32 ``[batch, categorical columns]`` to float32 ``[batch]``."""
        found = tf.gather_nd(self._slices, (ids + self._starts)[..., tf.newaxis])
        return tf.gather(self._alphas, tf.reduce_min(tf.cast(found, tf.int32), axis=1))

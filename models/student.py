"""The student: small embeddings, a linear part and one small hidden layer, taught by stored targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.statistics import ClickCounts
from models.backend import keras, tf, tfrs
from models.corrections import corrected
from models.embeddings import TableDropout, make_embeddings
from models.heads import ReusedHead, SubclassHead, click_logit
from models.inputs import Batch
from models.layers import HiddenLayers, dense_inputs, linear_part
from models.losses import class_cross_entropy, gated_distillation_loss, mean_loss, student_loss
from models.methods import Method
from models.seeds import seed_for
from models.student_terms import MemberGate, RowAlphas, StudentTerms, TermSettings
from models.tables import FIRST_ROW, MISSING_ROW, OTHER_ROW, FoldTables, TableLayout


@dataclass(frozen=True)
class StudentSettings(TermSettings):
    """The shape of a student and its loss; ``pipeline.settings.StudentConfig`` says what each is."""

    embedding_dim: int
    hidden: int
    embedding_dropout: float
    linear_dropout: float
    field_dropout: float
    embedding_l2: float
    embedding_sizes: str
    precision: str
    statistics: bool
    alpha: float
    temperature: float
    temper: str
    within_weight: float
    class_weight: float
    correction: float
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
      reused: Kernel float32 ``[E, 2 S]`` and bias ``[2 S]`` of a teacher's head that the trunk has in place of its own
        (see :class:`ReusedHead`), or None.

    Raises:
      ValueError: If ``reused`` has another number of subclasses.
    """

    def __init__(
        self,
        layout: TableLayout,
        base_rate: float,
        subclasses: int,
        settings: StudentSettings,
        reused: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__(name="student_trunk")
        seed = settings.seed
        dropout = TableDropout(settings.embedding_dropout, settings.linear_dropout, settings.field_dropout)
        dim, sizes = settings.embedding_dim, settings.embedding_sizes
        self.embeddings = make_embeddings(layout, dim, sizes, seed, dropout, settings.embedding_l2)
        self.linear = linear_part()
        self.hidden = HiddenLayers([settings.hidden] if settings.hidden else [], seed, precision=settings.precision)
        head = seed_for(seed, "head")
        if reused is None:
            self.head = SubclassHead(subclasses, base_rate, head, name="head")
        else:
            self.head = ReusedHead(*reused, head, name="head")
        if self.head.subclasses != subclasses:
            raise ValueError(
                f"`reused` should have {subclasses} subclasses a class. Received: subclasses={self.head.subclasses}"
            )

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
        return self.head(*self.features(rows, dense, statistics, training))

    def features(
        self, rows: tf.Tensor, dense: tf.Tensor, statistics: tf.Tensor | None = None, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What the head sees, of the arguments of :meth:`call`.

        Returns:
          The hidden layer ``[batch, width]`` and the linear part of the click logit ``[batch]``, float32.
        """
        embedding, linear = self.embeddings(rows, training=training)
        numbers = dense_inputs(dense, statistics)
        deep = self.hidden(tf.concat([embedding, numbers], axis=1), training=training)
        return deep, linear + self.linear(numbers)[:, 0]


class Student(tfrs.Model):
    """Trains a trunk by a method's loss.

    The loss is that of `student_loss`, with targets that the loss correction has moved (see `corrected`), plus the
    terms of :class:`StudentTerms` times their weights; ``alpha`` weighs none of these. It may differ from row to row.

    A teacher of another label says nothing of clicks, and one of the same label may be biased. An auxiliary head keeps
    that out of the click logit: it learns the targets, from the hidden layer alone, and the trunk's own head learns the
    labels: ``(1 - alpha) * CE(label, own head) + alpha * distillation(targets, auxiliary head)``. Ranking then ranks
    the auxiliary head's logits. Nothing but the trunk is exported.

    Args:
      trunk: What is trained.
      tables: Embedding rows (and click statistics) by fold.
      method: What the student learns.
      settings: The loss.
      auxiliary: S of the auxiliary head; 0 for none.
      embedding: E, floats of the batches' ``embedding``; 0 for none.
      members: M, click logits of the batches' ``members``, from which the click is learned under a gate; 0 to learn it
        from the targets.
      alphas: What the targets of each row weigh, in place of the settings' ``alpha``; None for that.

    Raises:
      ValueError: If a term needs an embedding, or a trunk with a reused head, and there is none.

    References:
      Bridging the Gap: Unpacking the Hidden Challenges in Knowledge Distillation for Online Ranking Systems (2024),
      https://arxiv.org/abs/2408.14678, for the auxiliary head.
    """

    def __init__(
        self,
        trunk: StudentTrunk,
        tables: FoldTables,
        method: Method,
        settings: StudentSettings,
        auxiliary: int = 0,
        embedding: int = 0,
        members: int = 0,
        alphas: RowAlphas | None = None,
    ) -> None:
        super().__init__(name="student")
        if settings.reused and not isinstance(trunk.head, ReusedHead):
            raise ValueError(f"`trunk` should reuse a teacher's head. Received: reused={settings.reused}")
        self.trunk = trunk
        self._tables, self._method, self._settings, self._alphas = tables, method, settings, alphas
        seed = seed_for(settings.seed, "auxiliary")
        # How frequent the outcome is, is soon learned: an even start will do.
        self._auxiliary = SubclassHead(auxiliary, 0.5, seed, name="auxiliary") if auxiliary else None
        self._terms = StudentTerms(settings, embedding, settings.seed)
        self.gate = MemberGate(members) if members else None

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Subclass logits ``[batch, 2 S]``, class-major, of a batch (see :mod:`models.inputs`)."""
        z = self.trunk(*self.look_up(batch), training=training)
        for layer in (self._auxiliary, self._terms.projection):
            if layer is not None and not layer.built:
                # Its variables must be there before the optimizer's.
                layer(tf.zeros([0, self.trunk.head.kernel.shape[0]]))
        return z

    def look_up(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """The first three arguments of :meth:`StudentTrunk.call` for a batch."""
        ids, dense = batch["ids"], batch["dense"]
        rows = tf.concat([self._tables.rows(ids), self._tables.lookup.numeric(dense)], axis=1)
        return rows, dense, self._tables.statistics(ids, batch["fold"]) if self._settings.statistics else None

    def compute_loss(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Mean loss of a batch (weighted, if its rows are), without the penalty on the embeddings."""
        targets = self._targets(batch)
        alpha = self._settings.alpha if self._alphas is None else self._alphas(batch["ids"])
        deep, linear = self.trunk.features(*self.look_up(batch), training=training)
        z = self.trunk.head(deep, linear)
        if self._auxiliary is None:
            losses = self._head_losses(batch, targets, z, alpha)
        else:
            own = class_cross_entropy(batch["label"], z)
            z = self._auxiliary(deep)
            losses = (1 - alpha) * own + alpha * self._head_losses(batch, targets, z, 1.0)
        p_click = batch["label"] if targets is None else tf.sigmoid(click_logit(targets))
        terms = self._terms.weighted(batch, p_click, deep, z, self.trunk.head)
        return tf.add_n([mean_loss(losses, batch.get("weight")), *terms])

    def _targets(self, batch: Batch) -> tf.Tensor | None:
        """The teacher's logits ``[batch, 2 S]`` that the method learns, after the loss correction."""
        targets = None if self._method.target == "none" else batch.get("targets")
        return None if targets is None else corrected(targets, batch["label"], self._settings.correction)

    def _head_losses(
        self, batch: Batch, targets: tf.Tensor | None, z: tf.Tensor, alpha: float | tf.Tensor
    ) -> tf.Tensor:
        """Losses ``[batch]`` of a head's logits."""
        settings = self._settings
        if self.gate is not None:
            clicks = batch["members"]
            taught = gated_distillation_loss(clicks, self.gate(clicks), z, settings.temperature)
            return alpha * taught + (1.0 - alpha) * class_cross_entropy(batch["label"], z)
        # The joint form does not split into parts.
        splits = settings.temper == "within"
        return student_loss(
            batch["label"],
            targets,
            z,
            target=self._method.target,
            alpha=alpha,
            temperature=settings.temperature,
            temper=settings.temper,
            within_weight=settings.within_weight if splits else 1.0,
            class_weight=settings.class_weight if splits else 1.0,
        )


def mean_click_logit(
    trunks: Sequence[StudentTrunk], rows: tf.Tensor, dense: tf.Tensor, statistics: tf.Tensor | None
) -> tf.Tensor:
    """Click logits ``[batch]`` of an ensemble, the mean of its trunks'; arguments as in :meth:`StudentTrunk.call`."""
    logits = [click_logit(trunk(rows, dense, statistics)) for trunk in trunks]
    return tf.add_n(logits) / len(logits)


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
    categorical = len(layout.kept)
    for column, (start, first) in enumerate(zip(layout.starts[:categorical], counts.starts, strict=True)):
        count = counts.counts[first + layout.ids(column)]
        total = count.sum(axis=1)
        rows = trunk.embeddings.read_rows(start, start + len(total))
        # A value whose rows all lie in one fold is shown to them as one without a row of its own.
        hidden = (count * (count == total[:, np.newaxis])).sum(axis=1)
        if counts.rows.sum() - total.sum() + hidden[FIRST_ROW:].sum() == 0 and total[FIRST_ROW:].any():
            rows[OTHER_ROW] = np.average(rows[FIRST_ROW:], axis=0, weights=total[FIRST_ROW:])
        if total[MISSING_ROW] == 0:
            rows[MISSING_ROW] = rows[OTHER_ROW]
        alone = FIRST_ROW + np.flatnonzero((count == total[:, np.newaxis]).any(axis=1)[FIRST_ROW:])
        rows[alone] = rows[OTHER_ROW]
        trunk.embeddings.assign_rows(start, rows)
    for missing, start, edges in zip(missing_numeric, layout.starts[categorical:], layout.edges, strict=True):
        if missing == 0:
            end = start + len(edges) + 1
            trunk.embeddings.assign_rows(end, trunk.embeddings.read_rows(start, end).mean(axis=0, keepdims=True))

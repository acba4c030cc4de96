"""The teacher in training: the losses of its members and of the whole."""

from __future__ import annotations

from models.backend import tf, tfrs
from models.heads import CLASSES
from models.inputs import Batch
from models.losses import auxiliary_loss, class_cross_entropy, mean_loss
from models.replicas import gather_rows, replicas
from models.teacher_trunk import TeacherSettings, TeacherTrunk, combine
from models.tolerance import tolerance_loss


class Teacher(tfrs.Model):
    """Trains a trunk by class cross-entropy, plus ``beta`` times the auxiliary loss and ``tolerance`` times tolerance.

    Every member has a cross-entropy of its own, and their mean is the loss: members learn as if they were alone, none
    leans on what the others know. A gate learns from the cross-entropy of the whole, which members do not see. The
    other two losses are of the whole and shape the members: its subclasses are what a student is taught.

    The auxiliary loss looks at the first ``aux_rows`` rows of the (shuffled) batch: its cost grows with their square.
    It keeps rows apart from each other, whatever they count, so it takes no weights. With ``aux_scope = within`` it is
    the mean of the losses of both class blocks, each standardised by itself, so that the click logit plays no part.
    Standardising leaves a row of m logits m - 2 directions: with one subclass a class (whose loss is the constant
    -1/T) or two there is nothing to learn from it.

    Tolerance keeps second choices alive; see :func:`models.tolerance.tolerance_loss`.

    Args:
      trunk: What is trained.
      settings: The loss.

    References:
      Müller, Kornblith and Hinton, Subclass Distillation (2020), https://arxiv.org/abs/2002.03936
      Yang, Xie, Qiao and Yuille, Training Deep Neural Networks in Generations (2018),
      https://arxiv.org/abs/1805.05551
    """

    def __init__(self, trunk: TeacherTrunk, settings: TeacherSettings) -> None:
        super().__init__(name="teacher")
        self.trunk, self._settings = trunk, settings

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
        settings, z = self._settings, combine(logits, weights)
        if settings.beta:
            loss += settings.beta * self._auxiliary(z)
        if settings.tolerance:
            losses = tolerance_loss(z, settings.tolerance_scope, settings.tolerance_classes)
            loss += settings.tolerance * mean_loss(losses, batch.get("weight"))
        return loss

    def _auxiliary(self, z: tf.Tensor) -> tf.Tensor:
        settings = self._settings
        # Every replica computes the loss of all replicas' rows.
        rows = gather_rows(z[: max(settings.aux_rows // replicas(), 1)])
        blocks = [rows] if settings.aux_scope == "joint" else tf.split(rows, CLASSES, axis=1)
        losses = tf.add_n([auxiliary_loss(block, settings.aux_temperature) for block in blocks])
        return losses / (len(blocks) * replicas())


def _click_loss(batch: Batch, z: tf.Tensor) -> tf.Tensor:
    return mean_loss(class_cross_entropy(batch["label"], z), batch.get("weight"))

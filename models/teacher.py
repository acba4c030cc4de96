"""The teacher in training: the losses of its members and of the whole."""

from __future__ import annotations

from models.backend import tf, tfrs
from models.inputs import Batch
from models.losses import auxiliary_loss, class_cross_entropy, mean_loss
from models.replicas import gather_rows, replicas
from models.teacher_trunk import TeacherSettings, TeacherTrunk, combine


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

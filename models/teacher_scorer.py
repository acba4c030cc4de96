"""What ``precompute`` loads of a trained teacher."""

from __future__ import annotations

from models.backend import tf
from models.calibration import Calibration
from models.heads import calibrated, click_logit
from models.teacher_trunk import TeacherTrunk


class TeacherScorer(tf.Module):
    """What ``precompute`` loads: calibrated subclass logits of stored examples, and their embeddings.

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
        signature = [
            tf.TensorSpec([None, categorical], tf.int32, "ids"),
            tf.TensorSpec([None, numeric], tf.float32, "dense"),
            tf.TensorSpec([None], tf.int32, "fold"),
        ]
        self.score = tf.function(self._score, input_signature=signature)
        self.embed = tf.function(self._embed, input_signature=signature)
        self.head = tf.function(self._head, input_signature=[])
        if len(trunk.members) > 1:
            self.members = tf.function(self._members, input_signature=signature)

    def _score(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> dict[str, tf.Tensor]:
        z = self._trunk({"ids": ids, "dense": dense, "fold": fold})
        return {"logits": calibrated(z, self.scale, self.shift)}

    def _embed(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"hidden": self._trunk.hidden({"ids": ids, "dense": dense, "fold": fold})}

    def _members(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> dict[str, tf.Tensor]:
        z, _ = self._trunk.outputs({"ids": ids, "dense": dense, "fold": fold})
        clicks = tf.stack([click_logit(member) for member in tf.unstack(z, axis=1)], axis=1)
        return {"clicks": self.scale * clicks + self.shift}

    def _head(self) -> dict[str, tf.Tensor]:
        head = self._trunk.head()
        return {} if head is None else {"kernel": head[0], "bias": head[1]}

    def save(self, path: str) -> None:
        """Writes a SavedModel.

        Its signature ``serving_default`` takes ids, dense, fold to logits [batch, K]. As attributes it has ``score``,
        which is the same; ``embed``, from the same arguments to hidden [batch, D]; and ``head``, without arguments, to
        kernel [D, K] and bias [K], or to nothing: see :meth:`models.teacher_trunk.TeacherTrunk.head`. A teacher of
        several members also has ``members``, from the same arguments as ``score`` to their clicks [batch, M]: click
        logits on the map that calibrates the whole.
        """
        # The variables of a head are there once the trunk has been called.
        self.score.get_concrete_function()
        tf.saved_model.save(self, path, signatures={"serving_default": self.score})

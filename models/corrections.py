"""The loss correction of semiparametric distillation: targets that move towards the labels."""

from __future__ import annotations

import math

from models.backend import tf
from models.heads import calibrated, click_logit


def corrected(teacher_z: tf.Tensor, labels: tf.Tensor, c: float) -> tf.Tensor:
    """Moves a teacher's click probability towards the label, most where the two agree.

    With p the teacher's click probability and y the label, it becomes ``p + c / (c + (y - p)^2) * (y - p)``, which lies
    between p and y: p as c tends to 0, y as c grows. Both class blocks move by constants of the row, so the
    conditionals of the subclasses within a class stay as they are.

    For e = ``|y - p|`` the new log-odds of the label's class are ``log(c + (1 - e) e^2) - 3 log(e)``. In this form,
    computed from log-sigmoids, no probability is rounded to 0 or 1.

    Args:
      teacher_z: Raw subclass logits of the teacher ``[batch, 2 * S]``, class-major.
      labels: Click labels ``[batch]``, 0 or 1.
      c: How far targets move, at least 0; 0 changes no bit.

    Returns:
      Subclass logits ``[batch, 2 * S]``, class-major, float32; without gradient unless c is 0.

    Raises:
      ValueError: If ``c`` is negative or not finite, or ``teacher_z`` is not a matrix with an even number of columns.

    References:
      Dao, Kamath, Syrgkanis and Mackey, Knowledge Distillation as Semiparametric Inference (2021),
      https://arxiv.org/abs/2104.09732 (the correction BoundFast of the official code, on the scale of probabilities)
    """
    if not 0.0 <= c < float("inf"):
        raise ValueError(f"`c` should be at least 0 and finite. Received: c={c}")
    if c == 0.0:
        return teacher_z
    logit = click_logit(teacher_z)
    sign = 2.0 * tf.cast(labels, tf.float32) - 1.0
    log_agreement, log_error = tf.math.log_sigmoid(sign * logit), tf.math.log_sigmoid(-sign * logit)
    total = math.log(c) + tf.nn.softplus(log_agreement + 2.0 * log_error - math.log(c))
    moved = sign * (total - 3.0 * log_error)
    return tf.stop_gradient(calibrated(teacher_z, 1.0, moved - logit))

"""The tolerance term: a teacher that keeps its second choices alive has more to tell a student."""

from __future__ import annotations

from models.backend import tf
from models.heads import class_logits, click_logit, within_class_log_probabilities

SCOPES = ("within", "class")


def tolerance_loss(z: tf.Tensor, scope: str, classes: int) -> tf.Tensor:
    """Computes the top-score difference: how far the most probable choice is above the next ones.

    With ``r_(1) >= r_(2) >= ...`` the sorted probabilities of a distribution and M = ``classes``, it is
    ``d(r) = r_(1) - mean_{k=2..M} r_(k)``: 0 for a uniform distribution, 1 for a sure one.

    ``scope="within"`` is ``sum_c P(c|x) d(softmax_j z[c, j])``, on the subclasses of each class. P gets no gradient, so
    nothing changes when a class block moves by a constant, and the gradients of a block add up to 0: where the loss of
    the whole is stationary, the class cross-entropy is so by itself, and click probabilities stay calibrated.

    ``scope="class"`` is the published form on the two classes, ``|2 p - 1|``, whatever the subclasses. It costs
    calibration. Weighted by gamma and added to the class cross-entropy, it moves the optimum for a true probability
    q < 1/2 up to ``p = q + 2 gamma p (1 - p)``, and that for ``|q - 1/2| <= gamma / 2`` to 1/2 exactly.

    Args:
      z: Subclass logits ``[batch, 2 * S]``, class-major.
      scope: "within" or "class".
      classes: M of "within", at least 2; with S < M all S subclasses are compared.

    Returns:
      Losses ``[batch]``, float32, in [0, 1]; 0 within classes of one subclass. At ties the gradient is a subgradient.

    Raises:
      ValueError: If ``z`` is not a matrix with an even number of columns, or an argument breaks its rule above.

    References:
      Yang, Xie, Qiao and Yuille, Training Deep Neural Networks in Generations (2018),
      https://arxiv.org/abs/1805.05551; ``scope="within"`` is ours.
    """
    if scope not in SCOPES:
        raise ValueError(f"`scope` should be one of {', '.join(SCOPES)}. Received: scope={scope}")
    if classes < 2:
        raise ValueError(f"`classes` should be at least 2. Received: classes={classes}")
    if scope == "class":
        return tf.abs(tf.tanh(click_logit(z) / 2.0))
    conditionals = tf.exp(within_class_log_probabilities(z))
    compared = min(classes, conditionals.shape[-1])
    if compared < 2:
        return tf.zeros_like(conditionals[:, 0, 0])
    best = tf.math.top_k(conditionals, compared).values
    difference = best[:, :, 0] - tf.reduce_mean(best[:, :, 1:], axis=-1)
    return tf.reduce_sum(tf.stop_gradient(tf.nn.softmax(class_logits(z))) * difference, axis=-1)

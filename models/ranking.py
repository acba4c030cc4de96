"""The distilled pairwise ranking loss: rows that the teacher thinks are clicked should score above the others."""

from __future__ import annotations

from models.backend import tf


def ranking_loss(scores: tf.Tensor, p_click: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Computes the logistic loss of all pairs of rows, weighted by how probable "i is clicked and j is not" is.

    ``sum_{i != j} v_ij log(1 + exp(s_j - s_i)) / sum_{i != j} v_ij`` with ``v_ij = w_i w_j p_i (1 - p_j)``. With labels
    in place of probabilities it is the surrogate of 1 - AUC over the pairs of a click and a row without; with the true
    probabilities it is its expectation over labels. Equal scores give log 2. It looks at differences of scores only, so
    it says nothing about calibration.

    Args:
      scores: Click logits of the student ``[batch]``. Cost and memory grow with the batch squared.
      p_click: Click probabilities of the teacher, or labels ``[batch]``, in [0, 1]; no gradient.
      weights: Weights of the rows ``[batch]``, not negative; None for 1 each.

    Returns:
      The loss, a float32 scalar; 0 without gradient where there is no pair.

    References:
      Menon et al., Why distillation helps: a statistical perspective (2020), https://arxiv.org/abs/2005.10419, for
      targets on both sides of a pair; with the logistic surrogate of bipartite ranking.
    """
    p_click = tf.stop_gradient(tf.cast(p_click, tf.float32))
    weights = tf.ones_like(p_click) if weights is None else weights
    clicked, other = weights * p_click, weights * (1.0 - p_click)
    pairs = clicked[:, tf.newaxis] * other[tf.newaxis, :]
    pairs = tf.linalg.set_diag(pairs, tf.zeros_like(p_click))
    losses = tf.nn.softplus(scores[tf.newaxis, :] - scores[:, tf.newaxis])
    return tf.math.divide_no_nan(tf.reduce_sum(pairs * losses), tf.reduce_sum(pairs))

"""Losses that compare how rows relate to each other in the teacher's embedding and in the student's hidden layer."""

from __future__ import annotations

from models.backend import tf
from models.heads import within_class_log_probabilities

# The logit of an absent member of a tuple: its probability is exactly 0.
_ABSENT = -1e9


def similarity_loss(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """Computes the similarity-preserving loss ``|| G_t - G_s ||_F^2 / batch^2``.

    ``G = A A^T`` with each row divided by its length. Teacher and student may have different widths. It is 0 where the
    student's activations are the teacher's, rotated and scaled.

    Args:
      teacher: Embeddings ``[batch, E]``; no gradient. Cost and memory grow with the batch squared.
      student: Activations ``[batch, width]``.

    Returns:
      The loss, a float32 scalar, at most ``4 / batch``; 0 for no row.

    References:
      Tung and Mori, Similarity-Preserving Knowledge Distillation (2019), https://arxiv.org/abs/1907.09682
    """
    found = [_unit_rows(tf.matmul(a, a, transpose_b=True)) for a in (tf.stop_gradient(teacher), student)]
    rows = tf.cast(tf.shape(found[0])[0], tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.math.squared_difference(*found)), tf.square(rows))


def relation_loss(
    teacher: tf.Tensor, student: tf.Tensor, kinds: tf.Tensor, negatives: int, temperature: float
) -> tf.Tensor:
    """Computes relationship matching: in a tuple of rows, which of the others is how near to the anchor.

    The mean over the tuples of `row_tuples` of ``KL(teacher || student)`` of the distributions of
    `tuple_log_probabilities`. Rows whose kind nobody shares, or all share, are no anchors. It is 0, with a gradient of
    0, where the student's embedding is the teacher's, rotated and scaled.

    Args:
      teacher: Embeddings ``[batch, E]``; no gradient. Cost and memory grow with the batch squared.
      student: Embeddings ``[batch, width]``.
      kinds: int32 ``[batch]``; see `pseudo_labels`.
      negatives: M, the most rows of other kinds in a tuple.
      temperature: Positive.

    Returns:
      The loss, a float32 scalar; 0 without gradient where there is no tuple.

    References:
      Ye, Lu and Zhan, Generalized Knowledge Distillation via Relationship Matching (2022),
      https://arxiv.org/abs/2205.01915; the tuples of the official code, without its factor of 1000, and with the next
      rows of the (shuffled) batch in place of semi-hard ones.
    """
    others, there = row_tuples(kinds, negatives)
    wanted = tf.stop_gradient(tuple_log_probabilities(teacher, others, there, temperature))
    found = tuple_log_probabilities(student, others, there, temperature)
    divergence = tf.reduce_sum(tf.exp(wanted) * (wanted - found), axis=1)
    whole = tf.reduce_any(there[:, :1], axis=1) & tf.reduce_any(there[:, 1:], axis=1)
    whole = tf.cast(whole, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(whole * divergence), tf.reduce_sum(whole))


def pseudo_labels(labels: tf.Tensor, teacher_z: tf.Tensor) -> tf.Tensor:
    """The kind of a row: its label, and the teacher's most probable subclass of that class.

    Args:
      labels: Click labels ``[batch]``, 0 or 1.
      teacher_z: Subclass logits of the teacher ``[batch, 2 * S]``, class-major.

    Returns:
      int32 ``[batch]``, ``label * S + subclass``.
    """
    labels = tf.cast(labels, tf.int32)
    conditionals = within_class_log_probabilities(teacher_z)
    own = tf.gather(conditionals, labels, batch_dims=1)
    return labels * conditionals.shape[2] + tf.argmax(own, axis=1, output_type=tf.int32)


def row_tuples(kinds: tf.Tensor, negatives: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses for each row a positive, the next row of its kind, and negatives, the next rows of other kinds.

    Next is in the order of the batch, the first row behind the last.

    Args:
      kinds: int32 ``[batch]``.
      negatives: M, how many.

    Returns:
      Numbers of rows, int32 ``[batch, 1 + m]`` with the positive first, m the smaller of M and the batch, and whether
      they are there at all, bool of the same shape.
    """
    rows = tf.range(tf.shape(kinds)[0])
    ahead = tf.math.floormod(rows[tf.newaxis, :] - rows[:, tf.newaxis], tf.shape(kinds)[0])
    alike = kinds[tf.newaxis, :] == kinds[:, tf.newaxis]
    found = [_next_rows(alike & (ahead > 0), ahead, 1), _next_rows(~alike, ahead, negatives)]
    others, there = (tf.concat(parts, axis=1) for parts in zip(*found, strict=True))
    return others, there


def tuple_log_probabilities(embedding: tf.Tensor, others: tf.Tensor, there: tf.Tensor, temperature: float) -> tf.Tensor:
    """Computes ``log softmax(-distance / temperature)`` over the rows of each tuple.

    Distances are Euclidean, between embeddings of length 1.

    Args:
      embedding: float32 ``[batch, E]``.
      others: int32 ``[batch, members]``, numbers of rows.
      there: bool ``[batch, members]``; members that are not there have probability 0.
      temperature: Positive.

    Returns:
      float32 ``[batch, members]``.
    """
    unit = _unit_rows(embedding)
    squared = tf.reduce_sum(tf.math.squared_difference(unit[:, tf.newaxis], tf.gather(unit, others)), axis=2)
    # The slope of a root at 0 is infinite: rows in the same place pull at each other no more.
    apart = squared > 0
    distance = tf.where(apart, tf.sqrt(tf.where(apart, squared, 1.0)), 0.0)
    return tf.nn.log_softmax(tf.where(there, -distance / temperature, _ABSENT))


def _next_rows(allowed: tf.Tensor, ahead: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    rows = tf.shape(ahead)[0]
    steps, numbers = tf.math.top_k(-tf.where(allowed, ahead, rows), tf.minimum(count, rows))
    return numbers, -steps < rows


def _unit_rows(x: tf.Tensor) -> tf.Tensor:
    """Rows of length 1; a row of zeros, which has no direction, stays."""
    squared = tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)
    return x * tf.math.rsqrt(tf.where(squared > 0, squared, 1.0))

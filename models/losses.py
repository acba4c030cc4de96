"""Losses of the teacher and the student, one value a row, and their weighted mean."""

from __future__ import annotations

from models.backend import tf
from models.heads import class_logits, click_logit, within_class_log_probabilities
from models.replicas import replicas, sum_over_replicas

TARGETS = ("none", "class", "subclass")
TEMPERS = ("joint", "within")


def class_cross_entropy(labels: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """Computes the cross-entropy of the label with the class logits (the logloss of a row).

    It is the softmax cross-entropy of ``[1 - y, y]`` with `class_logits`, in its two-class form on
    `click_logit`, which keeps the digits of small losses. The gradient by the click logit is ``p - y``, for
    soft labels too.

    Args:
      labels: Click labels or probabilities ``[batch]``, in [0, 1].
      z: Subclass logits ``[batch, 2 * S]``, class-major.

    Returns:
      Losses ``[batch]``, float32, in nats.

    Raises:
      ValueError: If ``z`` is not a matrix with an even number of columns, or ``labels`` is not ``[batch]``.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), click_logit(z))


def mean_loss(losses: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Computes the mean loss of a batch, ``sum_i w_i l_i / sum_i w_i``.

    The gradient by the loss of row i is ``w_i / sum w``: a row of weight 2 counts as two rows, one of weight 0
    not at all.

    Args:
      losses: Losses ``[batch]``, finite.
      weights: Weights ``[batch]``, not negative; None for 1 each, which is `tf.reduce_mean` bit for bit.

    Returns:
      The mean, a scalar; 0 without gradient if all weights are 0. With several replicas the part of it that the own
      rows make up: the parts add up to the mean over the rows of all replicas.
    """
    if weights is None and replicas() == 1:
        return tf.reduce_mean(losses)
    weights = tf.ones_like(losses) if weights is None else weights
    return tf.math.divide_no_nan(tf.reduce_sum(weights * losses), sum_over_replicas(tf.reduce_sum(weights)))


def auxiliary_loss(z: tf.Tensor, temperature: float, eps: float = 1e-9) -> tf.Tensor:
    """Computes the auxiliary loss that makes a teacher use its subclasses, in the official normalisation.

    Every row is standardised over its K logits, and
    ``mean_i logsumexp_j corr(z_i, z_j) / T - 1/T - log(batch)`` is low when rows differ. It is 0 for equal
    rows or one row, and lies in [-1/T, 0]. It ignores scale and shift of a row, so its gradient only rotates
    a row's logits. A row of equal logits counts as uncorrelated with all rows: it contributes -1/T, the lower
    bound. A batch of such rows gets no gradient; one such row among others gets a gradient of the order of
    ``1 / sqrt(eps)``, hence float32 whatever the input's type.

    Args:
      z: Subclass logits ``[batch, K]``. Cost and memory grow with the batch squared.
      temperature: T > 0, usually at most 1.
      eps: Added to the variance of a row.

    Returns:
      The loss, a float32 scalar. It depends on the batch size: compare values at the same one only.

    Raises:
      ValueError: If ``temperature`` is not positive, or ``z`` is not a matrix with a known K.

    References:
      Müller, Kornblith and Hinton, Subclass Distillation (2020), https://arxiv.org/abs/2002.03936
      (`negative_sampling_loss` of the official notebook)
    """
    _check_positive("temperature", temperature)
    z = tf.cast(z, tf.float32)
    if z.shape.rank != 2 or not z.shape[-1]:
        raise ValueError(f"`z` should have shape [batch, K], K known. Received: shape={z.shape}")
    # The shift changes nothing but rounding: with it, a row of equal logits has a variance of exactly 0.
    z -= tf.stop_gradient(z[:, :1])
    centred = z - tf.reduce_mean(z, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    u = centred * tf.math.rsqrt(variance + eps) * (temperature * z.shape[-1]) ** -0.5
    rows = tf.cast(tf.shape(z)[0], tf.float32)
    similarity = tf.reduce_logsumexp(tf.matmul(u, u, transpose_b=True), axis=-1)
    return tf.reduce_mean(similarity) - 1.0 / temperature - tf.math.log(rows)


def distillation_loss(
    teacher_z: tf.Tensor,
    student_z: tf.Tensor,
    temperature: float,
    temper: str,
    within_weight: float = 1.0,
    class_weight: float = 1.0,
) -> tf.Tensor:
    """Computes the cross-entropy of the student's subclasses with the teacher's.

    ``temper="joint"`` is the paper: ``T^2 * CE(softmax(z_t / T), softmax(z_s / T))`` over all K subclasses.
    Beware: the class marginal of ``softmax(z_t / T)`` is not the teacher's click probability unless T = 1,
    and tends to 1/2 as T grows.

    ``temper="within"`` tempers only the conditionals of the subclasses given the class: the target is
    ``q_cj = P_t(c) * softmax_j(z_t[c] / T)``, whose class marginal is the teacher's for every T, and the
    student's distribution is ``P_s(c) * softmax_j(z_s[c] / T)``. By the chain rule their cross-entropy splits
    in two, and only the part that is tempered takes T^2::

        class_weight * CE(P_t, P_s)
        + within_weight * T^2 * sum_c P_t(c) * CE(softmax_j(z_t[c] / T), softmax_j(z_s[c] / T))

    So T = 1 with weights of 1 equals the joint form exactly, and the gradients of both parts keep their
    scale at every T: ``p_s - p_t`` by the click logit, and ``T * P_t(c) * (s_j - t_j)`` by ``z_s[c, j]``
    inside class c, with s and t the tempered conditionals. With S = 1 only the first part is left.

    Args:
      teacher_z: Raw (never tempered) subclass logits of the teacher ``[batch, 2 * S]``, class-major; no
        gradient.
      student_z: Subclass logits of the student, of the same shape.
      temperature: T > 0.
      temper: What is tempered, "joint" or "within".
      within_weight: Weight of the within-class part, at least 0. Other than 1 for ``temper="within"`` only:
        at T != 1 the joint form does not split.
      class_weight: As ``within_weight``, of the class part. With 0 the student learns the conditionals alone.

    Returns:
      Losses ``[batch]``, float32, in nats.

    Raises:
      ValueError: If an argument breaks its rule above.

    References:
      Müller, Kornblith and Hinton, Subclass Distillation (2020), https://arxiv.org/abs/2002.03936
    """
    _check_temper(temperature, temper, within_weight, class_weight)
    teacher_z = tf.stop_gradient(tf.cast(teacher_z, tf.float32))
    student_z = tf.cast(student_z, tf.float32)
    if not teacher_z.shape.is_compatible_with(student_z.shape):
        raise ValueError(
            "`student_z` should have the shape of `teacher_z`. "
            f"Received: student_z.shape={student_z.shape}, teacher_z.shape={teacher_z.shape}"
        )
    if temper == "within":
        within = _within_class_cross_entropy(teacher_z, student_z, temperature)
        return class_weight * plain_distillation_loss(teacher_z, student_z, 1.0) + within_weight * within
    return temperature**2 * tf.nn.softmax_cross_entropy_with_logits(
        tf.nn.softmax(teacher_z / temperature), student_z / temperature
    )


def plain_distillation_loss(teacher_z: tf.Tensor, student_z: tf.Tensor, temperature: float) -> tf.Tensor:
    """Computes ordinary distillation on the class logits, ``T^2 * CE(softmax(L_t / T), softmax(L_s / T))``.

    Teacher and student may have different numbers of subclasses. The gradient by the student's click logit is
    ``T * (sigmoid(l_s / T) - sigmoid(l_t / T))``.

    Args:
      teacher_z: Raw subclass logits of the teacher ``[batch, 2 * S_t]``, class-major; no gradient.
      student_z: Subclass logits of the student ``[batch, 2 * S_s]``, class-major.
      temperature: T > 0.

    Returns:
      Losses ``[batch]``, float32, in nats.

    Raises:
      ValueError: If ``temperature`` is not positive or the shapes do not fit.

    References:
      Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015),
      https://arxiv.org/abs/1503.02531
    """
    _check_positive("temperature", temperature)
    teacher = tf.stop_gradient(tf.sigmoid(click_logit(teacher_z) / temperature))
    student = click_logit(student_z) / temperature
    return temperature**2 * tf.nn.sigmoid_cross_entropy_with_logits(teacher, student)


def gated_distillation_loss(
    members: tf.Tensor, weights: tf.Tensor, student_z: tf.Tensor, temperature: float
) -> tf.Tensor:
    """Computes distillation from several teachers, ``sum_i weights_i * T^2 * CE(sigmoid(l_i / T), sigmoid(l_s / T))``.

    It is `plain_distillation_loss` from each teacher alone, weighed. As the cross-entropy is linear in its first
    argument, it is the one from the weighed mean of the teachers' tempered probabilities.

    Args:
      members: Click logits of the teachers ``[batch, M]``; no gradient.
      weights: What each of them weighs for each row ``[batch, M]``, of sum 1; the gradient by weight i is loss i.
      student_z: Subclass logits of the student ``[batch, 2 * S]``, class-major.
      temperature: T > 0.

    Returns:
      Losses ``[batch]``, float32, in nats.

    Raises:
      ValueError: If ``temperature`` is not positive.

    References:
      Zhu et al., Ensembled CTR Prediction via Knowledge Distillation (2020), https://arxiv.org/abs/2011.04106
    """
    _check_positive("temperature", temperature)
    teachers = tf.stop_gradient(tf.sigmoid(members / temperature))
    student = click_logit(student_z)[:, tf.newaxis] / temperature
    losses = tf.nn.sigmoid_cross_entropy_with_logits(teachers, student * tf.ones_like(teachers))
    return temperature**2 * tf.reduce_sum(weights * losses, axis=1)


def student_loss(
    labels: tf.Tensor,
    teacher_z: tf.Tensor | None,
    student_z: tf.Tensor,
    *,
    target: str,
    alpha: float | tf.Tensor,
    temperature: float,
    temper: str,
    within_weight: float = 1.0,
    class_weight: float = 1.0,
) -> tf.Tensor:
    """Computes ``alpha * distillation + (1 - alpha) * label cross-entropy``.

    With ``target="none"`` or ``alpha=0`` it is `class_cross_entropy` bit for bit; ``teacher_z`` may be None.

    Args:
      labels: Click labels or probabilities ``[batch]``, in [0, 1].
      teacher_z: Raw subclass logits of the teacher ``[batch, 2 * S_t]``, class-major; no gradient.
      student_z: Subclass logits of the student ``[batch, 2 * S_s]``, class-major.
      target: What the student learns from the teacher: "none", "class" (`plain_distillation_loss`) or
        "subclass" (`distillation_loss`).
      alpha: Weight of the distillation, in [0, 1]; a tensor ``[batch]`` for one a row, whose values nobody checks.
      temperature: T > 0 of the distillation.
      temper: As in `distillation_loss`; used by ``target="subclass"`` only, checked always.
      within_weight: As ``temper``.
      class_weight: As ``temper``.

    Returns:
      Losses ``[batch]``, float32, in nats.

    Raises:
      ValueError: If an argument breaks its rule above.
    """
    if target not in TARGETS:
        raise ValueError(f"`target` should be one of {TARGETS}. Received: target={target!r}")
    _check_alpha(alpha)
    _check_temper(temperature, temper, within_weight, class_weight)
    label_loss = class_cross_entropy(labels, student_z)
    if target == "none" or (isinstance(alpha, float | int) and alpha == 0.0):
        return label_loss
    if teacher_z is None:
        raise ValueError(f"`teacher_z` should be given for target={target!r}. Received: teacher_z=None")
    if target == "class":
        distillation = plain_distillation_loss(teacher_z, student_z, temperature)
    else:
        distillation = distillation_loss(teacher_z, student_z, temperature, temper, within_weight, class_weight)
    return alpha * distillation + (1.0 - alpha) * label_loss


def _within_class_cross_entropy(teacher_z: tf.Tensor, student_z: tf.Tensor, temperature: float) -> tf.Tensor:
    teacher = tf.exp(within_class_log_probabilities(teacher_z / temperature))
    student = within_class_log_probabilities(student_z / temperature)
    by_class = -tf.reduce_sum(teacher * student, axis=-1)
    return temperature**2 * tf.reduce_sum(tf.nn.softmax(class_logits(teacher_z)) * by_class, axis=-1)


def _check_alpha(alpha: float | tf.Tensor) -> None:
    if isinstance(alpha, float | int):
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"`alpha` should be in [0, 1]. Received: alpha={alpha}")
    elif alpha.shape.rank != 1:
        raise ValueError(f"`alpha` should have shape [batch]. Received: shape={alpha.shape}")


def _check_temper(temperature: float, temper: str, within_weight: float, class_weight: float) -> None:
    _check_positive("temperature", temperature)
    if temper not in TEMPERS:
        raise ValueError(f"`temper` should be one of {TEMPERS}. Received: temper={temper!r}")
    for name, weight in (("within_weight", within_weight), ("class_weight", class_weight)):
        if not 0.0 <= weight < float("inf"):
            raise ValueError(f"`{name}` should be at least 0. Received: {name}={weight}")
        if temper == "joint" and weight != 1.0:
            raise ValueError(
                f'`{name}` should be 1 unless temper="within". Received: {name}={weight}, temper={temper!r}'
            )


def _check_positive(name: str, value: float) -> None:
    if not 0.0 < value < float("inf"):
        raise ValueError(f"`{name}` should be positive and finite. Received: {name}={value}")

"""Subclass logits: what they say about the click, and the layer that produces them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.backend import keras, tf

CLASSES = 2


def class_logits(z: tf.Tensor) -> tf.Tensor:
    """Computes the class logits ``L_c = logsumexp_j z[c, j]``.

    ``softmax(L)`` equals the sums of ``softmax(z)`` over the subclasses of each class.

    Args:
      z: Subclass logits ``[batch, 2 * S]``, class-major: ``z[:, c * S + j]`` is subclass ``j`` of class
        ``c``. Any float type; the computation is in float32.

    Returns:
      Class logits ``[batch, 2]``, float32.

    Raises:
      ValueError: If ``z`` is not a matrix with an even number of columns, known when the graph is built.

    References:
      Müller, Kornblith and Hinton, Subclass Distillation (2020), https://arxiv.org/abs/2002.03936
    """
    return tf.reduce_logsumexp(_blocks(z), axis=-1)


def click_logit(z: tf.Tensor) -> tf.Tensor:
    """Computes the click logit ``L_1 - L_0``, whose sigmoid is the click probability.

    With one subclass a class it is ``z_1 - z_0`` exactly.

    Args:
      z: Subclass logits ``[batch, 2 * S]``, class-major.

    Returns:
      Click logits ``[batch]``, float32.

    Raises:
      ValueError: As for `class_logits`.
    """
    logits = class_logits(z)
    return logits[:, 1] - logits[:, 0]


def within_class_log_probabilities(z: tf.Tensor) -> tf.Tensor:
    """Computes ``log P(subclass j | class c) = z[c, j] - L_c``.

    They do not change when a class block moves by a constant, so they say nothing about the click.

    Args:
      z: Subclass logits ``[batch, 2 * S]``, class-major.

    Returns:
      Log probabilities ``[batch, 2, S]``, float32; their exponentials sum to one over the last axis.

    Raises:
      ValueError: As for `class_logits`.
    """
    return tf.nn.log_softmax(_blocks(z), axis=-1)


def calibrated(z: tf.Tensor, scale: tf.Tensor | float, shift: tf.Tensor | float) -> tf.Tensor:
    """Computes subclass logits whose click logit is ``scale * l + shift``, with ``l`` that of ``z``.

    With ``d = (scale - 1) * l + shift``, the block of class 1 moves by ``d / 2`` and that of class 0 by ``-d / 2``, so
    the within-class conditionals stay as they are. Scale 1 and shift 0 change no bit.

    Args:
      z: Subclass logits ``[batch, 2 * S]``, class-major.
      scale: Factor on the click logit, a scalar.
      shift: Term of the click logit, a scalar or one a row ``[batch]``, in log-odds.

    Returns:
      Subclass logits ``[batch, 2 * S]``, class-major, float32.

    Raises:
      ValueError: As for `class_logits`.

    References:
      Platt, Probabilistic Outputs for Support Vector Machines (1999), for the map of the click logit.
    """
    half = ((scale - 1.0) * click_logit(z) + shift) / 2.0
    blocks = _blocks(z) + tf.stack([-half, half], axis=1)[:, :, tf.newaxis]
    return tf.reshape(blocks, [-1, z.shape[-1]])


def _blocks(z: tf.Tensor) -> tf.Tensor:
    z = tf.cast(z, tf.float32)
    outputs = z.shape[-1] if z.shape.rank == 2 else None
    if not outputs or outputs % CLASSES:
        raise ValueError(f"`z` should have shape [batch, 2 * S] with a known S >= 1. Received: shape={z.shape}")
    return tf.reshape(z, [-1, CLASSES, outputs // CLASSES])


def _with_linear_part(z: tf.Tensor, linear: tf.Tensor | None) -> tf.Tensor:
    if linear is None:
        return z
    linear = tf.cast(linear, z.dtype)
    if linear.shape.rank != 1:
        raise ValueError(f"`linear` should have shape [batch]. Received: shape={linear.shape}")
    no_click, click = tf.split(z, CLASSES, axis=-1)
    return tf.concat([no_click, click + linear[:, tf.newaxis]], axis=-1)


@keras.utils.register_keras_serializable(package="ctr_distill")
class SubclassHead(keras.layers.Layer):
    """A dense layer from the last hidden activations to ``K = 2 * S`` subclass logits.

    ``z = x @ kernel + bias``, and ``z[:, S:] += linear[:, None]`` when a linear part is given: it moves the
    click logit by ``linear`` and leaves the within-class conditionals as they are. The bias of the class-1
    block starts at ``log(base_rate / (1 - base_rate))``, so that training does not begin with learning the
    base rate. The kernel never starts at zero: equal logits are a stationary point of the auxiliary loss, at
    its lower bound. The layer computes in float32 under every mixed-precision policy.

    Example:
      >>> head = SubclassHead(subclasses=5, base_rate=0.25, seed=7)
      >>> head(tf.zeros([3, 16])).shape
      TensorShape([3, 10])

    Args:
      subclasses: Subclasses a class (S), at least 1.
      base_rate: Share of clicks in the training rows, strictly between 0 and 1.
      seed: Seed of the kernel. Layers that should differ need different seeds: the name plays no part.
      **kwargs: Of `keras.layers.Layer`.

    Raises:
      ValueError: If ``subclasses`` or ``base_rate`` is out of its range.
    """

    def __init__(self, subclasses: int, base_rate: float, seed: int, **kwargs: Any) -> None:
        if isinstance(subclasses, bool) or not isinstance(subclasses, int) or subclasses < 1:
            raise ValueError(f"`subclasses` should be an integer of at least 1. Received: subclasses={subclasses}")
        if not 0.0 < base_rate < 1.0:
            raise ValueError(f"`base_rate` should be strictly between 0 and 1. Received: base_rate={base_rate}")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"`seed` should be an integer. Received: seed={seed}")
        super().__init__(**{"dtype": "float32", **kwargs})
        self.subclasses = subclasses
        self.base_rate = base_rate
        self.seed = seed

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the kernel ``[width, 2 * S]`` and the bias ``[2 * S]``.

        Args:
          input_shape: ``[batch, width]``, with a known width.

        Raises:
          ValueError: If the shape is another.
        """
        shape = tf.TensorShape(input_shape)
        if shape.rank != 2 or not shape[-1]:
            raise ValueError(f"`x` should have shape [batch, width] with a known width. Received: shape={shape}")
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: shape[-1]})
        prior = math.log(self.base_rate) - math.log1p(-self.base_rate)
        self.kernel = self.add_weight(
            name="kernel",
            shape=[shape[-1], CLASSES * self.subclasses],
            initializer=keras.initializers.GlorotUniform(seed=self.seed),
        )
        self.bias = self.add_weight(
            name="bias",
            shape=[CLASSES * self.subclasses],
            initializer=tf.constant_initializer([0.0] * self.subclasses + [prior] * self.subclasses),
        )
        super().build(input_shape)

    def call(self, x: tf.Tensor, linear: tf.Tensor | None = None) -> tf.Tensor:
        """Computes the subclass logits.

        Args:
          x: Activations ``[batch, width]``.
          linear: A linear part ``[batch]`` of the click logit, or None.

        Returns:
          Subclass logits ``[batch, 2 * S]``, class-major, float32.

        Raises:
          ValueError: If ``linear`` is not a vector.
        """
        return _with_linear_part(tf.matmul(x, self.kernel) + self.bias, linear)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for serialisation."""
        return {
            **super().get_config(),
            "subclasses": self.subclasses,
            "base_rate": self.base_rate,
            "seed": self.seed,
        }


class ReusedHead(keras.layers.Layer):
    """A teacher's own head, below which the last hidden activations are projected to the teacher's embedding.

    ``z = (x @ kernel + bias) @ teacher_kernel + teacher_bias``, plus a linear part of the click logit as in
    `SubclassHead`. The projection is trained, the teacher's part is frozen. The layer computes in float32.

    Args:
      teacher_kernel: float32 ``[E, 2 * S]``.
      teacher_bias: float32 ``[2 * S]``.
      seed: Seed of the projection's kernel.

    Raises:
      ValueError: If the shapes are others.

    References:
      Chen et al., Knowledge Distillation with the Reused Teacher Classifier (2022), https://arxiv.org/abs/2203.14001
    """

    def __init__(
        self, teacher_kernel: npt.NDArray[np.float32], teacher_bias: npt.NDArray[np.float32], seed: int, **kwargs: Any
    ) -> None:
        shape = teacher_kernel.shape
        if len(shape) != 2 or not shape[1] or shape[1] % CLASSES or teacher_bias.shape != shape[1:]:
            raise ValueError(
                "`teacher_kernel` and `teacher_bias` should have shapes [E, 2 * S] and [2 * S]. "
                f"Received: shapes={shape}, {teacher_bias.shape}"
            )
        super().__init__(**{"dtype": "float32", **kwargs})
        self.subclasses = shape[1] // CLASSES
        self.seed = seed
        self._teacher = {"teacher_kernel": teacher_kernel, "teacher_bias": teacher_bias}

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the kernel ``[width, E]`` and the bias ``[E]`` of the projection, and the teacher's weights."""
        self.teacher_kernel, self.teacher_bias = (
            self.add_weight(name=name, shape=value.shape, initializer=tf.constant_initializer(value), trainable=False)
            for name, value in self._teacher.items()
        )
        width = self.teacher_kernel.shape[0]
        initializer = keras.initializers.GlorotUniform(seed=self.seed)
        self.kernel = self.add_weight(name="kernel", shape=[input_shape[-1], width], initializer=initializer)
        self.bias = self.add_weight(name="bias", shape=[width], initializer="zeros")
        super().build(input_shape)

    def project(self, x: tf.Tensor) -> tf.Tensor:
        """Activations ``[batch, width]`` to what stands for the teacher's embedding, float32 ``[batch, E]``."""
        return tf.matmul(x, self.kernel) + self.bias

    def call(self, x: tf.Tensor, linear: tf.Tensor | None = None) -> tf.Tensor:
        """Computes the subclass logits; arguments and result as of :meth:`SubclassHead.call`."""
        return _with_linear_part(tf.matmul(self.project(x), self.teacher_kernel) + self.teacher_bias, linear)

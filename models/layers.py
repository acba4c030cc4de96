"""Layers that teacher and student share, with initial weights from (seed, name) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.backend import keras, tf
from models.dropout import Dropout
from models.seeds import seed_for


def dense(width: int, seed: int, name: str, **options: Any) -> keras.layers.Dense:
    """A dense layer whose kernel (Glorot uniform) is drawn from (seed, name)."""
    initializer = keras.initializers.GlorotUniform(seed=seed_for(seed, name))
    return keras.layers.Dense(width, kernel_initializer=initializer, name=name, **options)


def dense_inputs(numerics: tf.Tensor, statistics: tf.Tensor | None) -> tf.Tensor:
    """What a trunk sees beside embeddings.

    Missing numerics become the mean, 0; which ones are missing is said by their buckets' embeddings.

    Args:
        numerics: float32 ``[batch, numeric columns]``, standardised, NaN = missing.
        statistics: float32 ``[batch, 2 * categorical columns]``, or None.

    Returns:
        float32 ``[batch, width]``.
    """
    present = tf.where(tf.math.is_nan(numerics), 0.0, numerics)
    return present if statistics is None else tf.concat([present, statistics], axis=1)


def linear_part() -> keras.layers.Dense:
    """A linear function of the dense inputs that starts at zero: ``[batch, width]`` to ``[batch, 1]``."""
    return keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="linear")


class HiddenLayers(keras.layers.Layer):
    """Dense ReLU layers with dropout.

    Args:
      widths: Of the layers, in order; none is the identity.
      seed: Of the initial weights and of dropout.
      dropout: Share of the units dropped in training.
      precision: Of the products: float32 or bfloat16. Weights and results are float32 in both.
      **kwargs: Of ``keras.layers.Layer``.
    """

    def __init__(
        self, widths: Sequence[int], seed: int, dropout: float = 0.0, precision: str = "float32", **kwargs: Any
    ) -> None:
        super().__init__(**{"name": "hidden", **kwargs})
        self.widths, self.seed, self.rate, self.precision = tuple(widths), seed, dropout, precision
        policy = "mixed_bfloat16" if precision == "bfloat16" else precision
        self.layers = [
            dense(width, seed, f"hidden_{index}", activation="relu", dtype=policy)
            for index, width in enumerate(self.widths)
        ]
        self.dropouts = [Dropout(dropout, seed, f"{self.name}_dropout_{index}") for index in range(len(self.widths))]

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """``[batch, width]`` to ``[batch, last width]``."""
        for layer, drop in zip(self.layers, self.dropouts, strict=True):
            x = drop(tf.cast(layer(x), tf.float32), training=training)
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for serialisation."""
        return {
            **super().get_config(),
            "widths": self.widths,
            "seed": self.seed,
            "dropout": self.rate,
            "precision": self.precision,
        }


def parameters(model: Any) -> int:
    """Number of trained floats of a model."""
    return int(sum(variable.shape.num_elements() for variable in model.trainable_variables))

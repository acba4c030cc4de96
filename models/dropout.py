"""Dropout whose masks follow from the seed and the number of the call, so that a resumed training draws the same."""

from __future__ import annotations

from typing import Any

from models.backend import keras, tf
from models.seeds import seed_for


class Dropout(keras.layers.Layer):
    """Drops a share of the inputs in training and scales up the rest.

    Formula: ``y = x * mask / (1 - rate)`` with ``mask ~ Bernoulli(1 - rate)``, drawn from (seed, name, number of the
    training call). The number is a variable, and part of a checkpoint; Keras' own layer draws from a hidden state that
    no checkpoint has. Replicas of a distributed training draw different masks.

    Example:
      >>> layer = Dropout(0.5, seed=7, name="dropout")
      >>> layer(tf.ones([2, 3]), training=False).numpy().tolist()
      [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

    Args:
      rate: Share that is dropped, in [0, 1).
      seed: Of the masks, together with the name.
      name: Of the layer.
      **kwargs: Of ``keras.layers.Layer``.

    Raises:
      ValueError: If ``rate`` is out of its range.
    """

    def __init__(self, rate: float, seed: int, name: str, **kwargs: Any) -> None:
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"`rate` should be in [0, 1). Received: rate={rate}")
        super().__init__(name=name, **kwargs)
        self.rate, self.seed = rate, seed
        if rate:
            self.calls = self.add_weight(
                name="calls",
                shape=[],
                dtype=tf.int64,
                initializer="zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops out.

        Args:
          x: Of any shape.
          training: Whether to drop anything.

        Returns:
          A tensor like ``x``.
        """
        if not training or not self.rate:
            return x
        number = tf.cast(self.calls.assign_add(1), tf.int64)
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group if context else 0, tf.int64)
        seed = tf.stack([seed_for(self.seed, self.name) + replica, number])
        return tf.nn.experimental.stateless_dropout(x, self.rate, seed)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for serialisation."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}

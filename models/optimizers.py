"""Adam whose cost on an embedding table depends on the rows of the batch, not on the size of the table."""

from __future__ import annotations

from typing import Any

from models.backend import keras, tf


@keras.utils.register_keras_serializable(package="ctr_distill")
class LazyAdam(keras.optimizers.Adam):
    """Adam that leaves the rows of a table alone that are not in the batch.

    For dense gradients it is Adam. For gradients of looked-up rows (``tf.IndexedSlices``) moments and weights of
    those rows alone are updated, as if the others had not been asked; repeated rows count once, with the sum of
    their gradients (the base class adds them up first).

    Args:
      learning_rate: A number or a schedule.
      table_rate: Factor on the learning rate of looked-up rows.
      **kwargs: Of ``keras.optimizers.Adam``.

    References:
      Kingma and Ba, Adam (2015), https://arxiv.org/abs/1412.6980
    """

    def __init__(self, learning_rate: Any = 1e-3, table_rate: float = 1.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.table_rate = table_rate

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for serialisation."""
        return {**super().get_config(), "table_rate": self.table_rate}

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one variable.

        Args:
          gradient: Dense, or of looked-up rows, each at most once.
          variable: The variable.
        """
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        rows, values = gradient.indices, gradient.values
        slot = self._index_dict[self._var_key(variable)]
        momentum, velocity = self._momentums[slot], self._velocities[slot]
        step = tf.cast(self.iterations + 1, variable.dtype)
        rate = tf.cast(self.learning_rate, variable.dtype)
        scale = self.table_rate * rate * tf.sqrt(1 - tf.pow(self.beta_2, step)) / (1 - tf.pow(self.beta_1, step))
        m = tf.gather(momentum, rows) * self.beta_1 + values * (1 - self.beta_1)
        v = tf.gather(velocity, rows) * self.beta_2 + tf.square(values) * (1 - self.beta_2)
        momentum.scatter_update(tf.IndexedSlices(m, rows))
        velocity.scatter_update(tf.IndexedSlices(v, rows))
        variable.scatter_sub(tf.IndexedSlices(scale * m / (tf.sqrt(v) + self.epsilon), rows))

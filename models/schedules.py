"""The learning rate of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.backend import keras, tf

PLATEAU_FACTOR = 0.1


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that falls linearly to 0, or stays until validation stops improving.

    Formula: ``initial * factor * (1 - step / last)``, without the last term if there is no last step.

    Args:
        initial: At the first step.
        last: Step at which it reaches 0, or None.
        drops: Steps from each of which on it is a tenth of what it was: those of a training that is repeated.
    """

    def __init__(self, initial: float, last: int | None, drops: Sequence[int] = ()) -> None:
        self.initial, self.last, self.drops = initial, last, tuple(drops)
        self.factor = tf.Variable(1.0, trainable=False, name="learning_rate_factor")

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate at a step, a float32 scalar."""
        rate = self.initial * self.factor
        for drop in self.drops:
            rate *= tf.where(step >= drop, PLATEAU_FACTOR, 1.0)
        if self.last is None:
            return rate
        return rate * tf.maximum(1.0 - tf.cast(step, tf.float32) / self.last, 0.0)

    def drop(self) -> None:
        """Makes the rate a tenth of what it was."""
        self.factor.assign(self.factor * PLATEAU_FACTOR)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for serialisation."""
        return {"initial": self.initial, "last": self.last, "drops": self.drops}

"""The training loop: steps, evaluation several times an epoch, early stopping on validation logloss."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.errors import ConfigError
from models.backend import keras, tf, tfrs
from models.heads import click_logit
from models.metrics import ClickMetrics
from models.optimizers import LazyAdam


@dataclass(frozen=True)
class LoopSettings:
    """When to evaluate and when to stop; ``pipeline.config.TrainingConfig`` says what each is."""

    batch_size: int
    learning_rate: float
    epochs: float
    evaluations: int
    patience: int
    table_rate: float
    averaging: float


# The average of a whole table costs more than a step on its looked-up rows, so it is not taken at every step.
_AVERAGE_EVERY = 4


def start(seed: int) -> None:
    """Makes what follows depend on the seed alone: a fresh graph state, seeded dropout."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)


def fit(
    model: tfrs.Model,
    batches: tf.data.Dataset,
    validation: tf.data.Dataset,
    rows: int,
    settings: LoopSettings,
    progress: Callable[[float, str], None],
) -> pd.DataFrame:
    """Trains a model and leaves it with the weights of the best validation logloss.

    Args:
        model: has ``compute_loss``.
        batches: endless, of the training rows.
        validation: all validation rows once.
        rows: training rows of an epoch.
        settings: see :class:`LoopSettings`.
        progress: called with the rows seen and a note.

    Returns:
        a row an evaluation: epoch, rows_seen, train_loss, valid_logloss, valid_auc, seconds.

    Raises:
        ConfigError: the loss is no longer finite.
    """
    steps = math.ceil(rows / settings.batch_size)
    # Fewer steps would evaluate an average that has not begun.
    interval = max(_AVERAGE_EVERY, math.ceil(steps / settings.evaluations))
    score = tf.function(lambda batch: click_logit(model(batch, training=False)), reduce_retracing=True)
    score(next(iter(validation)))  # makes the variables
    average = WeightAverage(model.trainable_variables, settings.averaging)
    train = _compile_steps(model, iter(batches), average, settings, steps)
    history = _History(settings.patience)
    best: list[np.ndarray] = []
    for number in range(1, math.ceil(settings.epochs * steps / interval) + 1):
        loss = float(train(tf.constant(interval))) / interval
        if not math.isfinite(loss):
            raise ConfigError(
                f"The training loss must stay finite. Received: {loss} after {number * interval} steps; lower the "
                "learning rate."
            )
        with average.applied():
            epoch = number * interval / steps
            if history.add(epoch, epoch * rows, loss, evaluate(score, validation)):
                best = [variable.numpy() for variable in model.trainable_variables]
        progress(epoch * rows, f"valid logloss {history.rows[-1]['valid_logloss']:.5f}")
        if history.exhausted:
            break
    for variable, value in zip(model.trainable_variables, best, strict=True):
        variable.assign(value)
    return pd.DataFrame(history.rows)


class _History:
    """The evaluations so far."""

    def __init__(self, patience: int) -> None:
        self.rows: list[dict[str, float]] = []
        self._patience, self._begun, self._best = patience, time.monotonic(), 0

    def add(self, epoch: float, rows_seen: float, loss: float, result: dict[str, float]) -> bool:
        """Adds an evaluation; whether its validation logloss is the best so far."""
        row = {
            "epoch": epoch,
            "rows_seen": rows_seen,
            "train_loss": loss,
            "valid_logloss": result["logloss"],
            "valid_auc": result["auc"],
            "seconds": time.monotonic() - self._begun,
        }
        better = not self.rows or row["valid_logloss"] < self.rows[self._best]["valid_logloss"]
        self.rows.append(row)
        if better:
            self._best = len(self.rows) - 1
        return better

    @property
    def exhausted(self) -> bool:
        """Whether the last evaluations, as many as the patience, were none better."""
        return len(self.rows) - 1 - self._best >= self._patience


def _compile_steps(
    model: tfrs.Model,
    stream: Iterator[dict[str, tf.Tensor]],
    average: WeightAverage,
    settings: LoopSettings,
    epoch_steps: int,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph that takes a number of steps and returns the sum of their losses."""
    last = math.ceil(settings.epochs * epoch_steps)
    decay = keras.optimizers.schedules.PolynomialDecay(settings.learning_rate, last, 0.0)
    model.compile(optimizer=LazyAdam(decay, settings.table_rate, jit_compile=False))
    model.optimizer.build(model.trainable_variables)

    @tf.function
    def train(steps: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(steps):
            total += model.train_step(next(stream))["loss"]
            average.update()
        return total

    compiled: Callable[[tf.Tensor], tf.Tensor] = train
    return compiled


class WeightAverage:
    """Exponential moving average of weights; the average is what is evaluated and kept.

    Args:
        variables: the weights.
        decay: of the average, a step; 0 averages nothing and costs nothing. It grows to this value over the first
            steps, so that the initial weights are soon forgotten.
    """

    def __init__(self, variables: Sequence[tf.Variable], decay: float) -> None:
        self._variables, self._decay = list(variables), decay
        self._step = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._averages = [tf.Variable(variable, trainable=False) for variable in variables] if decay else []

    @tf.function
    def update(self) -> None:
        """Adds the present weights to the average, at every fourth call."""
        if not self._decay:
            return
        self._step.assign_add(1)
        if self._step % _AVERAGE_EVERY == 0:
            step = tf.cast(self._step, tf.float32)
            decay = tf.minimum(self._decay, (1 + step) / (10 + step)) ** _AVERAGE_EVERY
            for average, variable in zip(self._averages, self._variables, strict=True):
                average.assign_add((1 - decay) * (variable - average))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the average in the place of the weights while the body runs."""
        weights = [variable.numpy() for variable in self._variables] if self._decay else []
        for variable, average in zip(self._variables, self._averages, strict=False):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, weight in zip(self._variables, weights, strict=False):
                variable.assign(weight)


def best_evaluation(history: pd.DataFrame) -> dict[str, float]:
    """The row of the best validation logloss in what :func:`fit` returns."""
    return dict(history.loc[int(history["valid_logloss"].to_numpy().argmin())])


def evaluate(score: Callable[[dict[str, tf.Tensor]], tf.Tensor], batches: tf.data.Dataset) -> dict[str, float]:
    """Metrics of a scoring function over all rows of a split, weighted if they are."""
    metrics = ClickMetrics.empty(groups=1)
    for batch in batches:
        labels = batch["label"].numpy()
        weights = batch["weight"].numpy() if "weight" in batch else None
        metrics.update(labels, score(batch).numpy(), np.zeros(len(labels), np.int64), weights)
    return metrics.compute()

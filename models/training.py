"""The training loop: steps, evaluation several times an epoch, early stopping on validation logloss, checkpoints.

A training is a function of its arguments: one that was killed goes on from its last checkpoint and, where operations
are deterministic, ends with the same weights as one that was not. With several workers (see :mod:`models.workers`) each
takes its part of every batch, and the sum of their gradients is that of the whole batch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.errors import TrainingError
from models.backend import keras, tf, tfrs
from models.checkpoints import Checkpoints
from models.dropout import Dropout
from models.heads import click_logit
from models.history import History
from models.inputs import Batch
from models.metrics import ClickMetrics
from models.optimizers import make_optimizer
from models.schedules import LearningRate
from models.workers import is_chief, naming_lost_workers

Stream = Callable[[int, int], tf.data.Dataset]
"""Endless training batches from a position (epoch, batch) on."""

CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"

# Steps between two looks at loss, clock and terminal.
_CHUNK_STEPS = 100
# At most so much is lost by a kill, and the steps until the next look at the clock.
_CHECKPOINT_SECONDS = 60.0
_EXPLODED = 100.0


@dataclass(frozen=True)
class LoopSettings:
    """When to evaluate and when to stop; ``pipeline.settings.TrainingConfig`` says what each is."""

    batch_size: int
    learning_rate: float
    schedule: str
    table_optimizer: str
    table_rate: float
    averaging: float
    epochs: float
    evaluations: int
    patience: int


def start(seed: int) -> None:
    """Makes what follows depend on the seed alone: a fresh graph state, seeded operations."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)


def fit(
    model: tfrs.Model,
    stream: Stream,
    validation: tf.data.Dataset | None,
    rows: int,
    settings: LoopSettings,
    progress: Callable[[float, str], None],
    folder: str,
    *,
    stop_after: int | None = None,
    drops: Sequence[int] = (),
    on_evaluation: Callable[[dict[str, float]], None] = lambda row: None,
) -> pd.DataFrame:
    """Trains a model and leaves it, on worker 0, with the (averaged) weights of the best validation logloss.

    Args:
        model: has ``compute_loss``.
        stream: of the training rows; see :data:`Stream`.
        validation: all validation rows once; None to keep the weights of the last step.
        rows: training rows of an epoch.
        settings: see :class:`LoopSettings`.
        progress: called with the rows seen and a note.
        folder: has ``checkpoints``, from which a call with the same arguments goes on, and ``tensorboard`` logs.
        stop_after: steps after which to stop, on the learning-rate schedule of all epochs.
        drops: see :class:`models.schedules.LearningRate`.
        on_evaluation: called with each new row of the history; what it raises ends the training.

    Returns:
        a row an evaluation: epoch, rows_seen, train_loss, valid_logloss, valid_auc, seconds; without validation rows
        neither valid_logloss nor valid_auc.

    Raises:
        TrainingError: the loss is no longer finite or has exploded, or a worker was lost; the last good checkpoint is
            kept.
    """
    with naming_lost_workers():
        training = _Training(model, stream, validation, rows, settings, folder, stop_after, drops)
        training.restore()
        while not training.ended:
            note = training.advance(on_evaluation)
            progress(training.rows_seen, note)
    training.keep_best()
    return pd.DataFrame(training.history.rows)


class _Training:
    """The state of a training; everything that decides how it goes on is in its checkpoint."""

    def __init__(
        self,
        model: tfrs.Model,
        stream: Stream,
        validation: tf.data.Dataset | None,
        rows: int,
        settings: LoopSettings,
        folder: str,
        stop_after: int | None,
        drops: Sequence[int],
    ) -> None:
        self._model, self._stream, self._validation, self._rows = model, stream, validation, rows
        self._epoch_steps = math.ceil(rows / settings.batch_size)
        self._interval = math.ceil(self._epoch_steps / settings.evaluations)
        whole = math.ceil(settings.epochs * self._epoch_steps)
        self._last = whole if stop_after is None else stop_after
        score = tf.autograph.experimental.do_not_convert(lambda batch: click_logit(model(batch, training=False)))
        self._score = tf.function(score, reduce_retracing=True)
        self._score(next(iter(stream(0, 0) if validation is None else validation)))  # makes the variables
        falls = settings.schedule == "linear"
        self._rate = LearningRate(
            settings.learning_rate, math.ceil(settings.epochs * self._epoch_steps) if falls else None, drops
        )
        self._drops = not falls
        self._optimizer = make_optimizer(settings, self._rate)
        model.compile(optimizer=self._optimizer)
        self._optimizer.build(model.trainable_variables)
        self.history = History(settings.patience, settings.evaluations)
        self._step, self._loss, self._first_loss, self._seconds = 0, 0.0, 0.0, 0.0
        path = os.path.join(folder, CHECKPOINTS)
        self._best = Checkpoints(path, "best", model.trainable_variables, is_chief())
        self._latest = Checkpoints(path, "latest", self._variables(), is_chief())
        self._log = tf.summary.create_file_writer(os.path.join(folder, TENSORBOARD)) if is_chief() else None
        self._begun = self._saved = time.monotonic()

    def _variables(self) -> list[tf.Variable]:
        calls = [layer.calls for layer in self._model.submodules if isinstance(layer, Dropout) and layer.rate]
        return [*self._model.trainable_variables, *self._optimizer.variables, self._rate.factor, *calls]

    def restore(self) -> None:
        """Goes to the last checkpoint, if there is one, and makes the steps ready."""
        record = self._latest.restore()
        if record is not None:
            self._step, self._loss = record["step"], record["loss"]
            self._first_loss, self._seconds = record["first_loss"], record["seconds"]
            self.history.load(record["history"])
        if not self.ended:
            position = divmod(self._step, self._epoch_steps)
            self._train = compile_steps(self._model, iter(self._stream(*position)))

    def _save(self) -> None:
        self._latest.save(
            {
                "step": self._step,
                "loss": self._loss,
                "first_loss": self._first_loss,
                "seconds": self._elapsed,
                "history": self.history.to_json(),
            }
        )
        self._saved = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to do."""
        return self._step >= self._last or self.history.exhausted

    @property
    def rows_seen(self) -> float:
        """Training rows seen so far."""
        return self._step / self._epoch_steps * self._rows

    @property
    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._begun

    def advance(self, on_evaluation: Callable[[dict[str, float]], None]) -> str:
        """Takes some steps, with an evaluation behind them if it is due; returns a note for people."""
        # Chunks begin at evaluations, so that sums of losses are the same after a restart.
        due = min(self._step - self._step % self._interval + self._interval, self._last)
        steps = min(_CHUNK_STEPS, due - self._step)
        loss = float(self._train(tf.constant(steps))) / steps
        self._check(loss, steps)
        self._step, self._loss = self._step + steps, self._loss + loss * steps
        if self._step < due:
            if time.monotonic() - self._saved >= _CHECKPOINT_SECONDS:
                self._save()
            return f"loss {loss:.5f}"
        return self._evaluate(on_evaluation)

    def _check(self, loss: float, steps: int) -> None:
        self._first_loss = self._first_loss or loss
        limit = _EXPLODED * max(self._first_loss, 0.01)
        if not math.isfinite(loss) or loss > limit:
            raise TrainingError(
                f"The training loss must stay finite and below {limit:.3g}. Received: {loss} after "
                f"{self._step + steps} steps; lower the learning rate (the checkpoint before is kept)."
            )

    def _require_finite(self, logloss: float) -> None:
        if not math.isfinite(logloss):
            raise TrainingError(
                f"The validation logloss must stay finite. Received: {logloss} after {self._step} steps; lower the "
                "learning rate (the checkpoint before is kept)."
            )

    def _evaluate(self, on_evaluation: Callable[[dict[str, float]], None]) -> str:
        taken = (self._step - 1) % self._interval + 1
        row = {
            "epoch": self._step / self._epoch_steps,
            "rows_seen": self.rows_seen,
            "train_loss": self._loss / taken,
        }
        rate = float(self._rate(tf.constant(self._step)))
        with self._optimizer.averaged():
            if self._validation is not None:
                result = evaluate(self._score, self._validation)
                self._require_finite(result["logloss"])
                row |= {"valid_logloss": result["logloss"], "valid_auc": result["auc"]}
            row["seconds"] = self._elapsed
            if self.history.add(row):
                self._best.save({"step": self._step})
        self._loss = 0.0
        if self._drops and self.history.on_plateau():
            self._rate.drop()
        self._save()
        self._write_log(row, rate)
        on_evaluation(row)
        return (
            f"valid logloss {row['valid_logloss']:.5f}" if "valid_logloss" in row else f"loss {row['train_loss']:.5f}"
        )

    def _write_log(self, row: dict[str, float], rate: float) -> None:
        if self._log is None:
            return
        values = {**row, "learning_rate": rate, "rows_per_second": row["rows_seen"] / max(row["seconds"], 1e-9)}
        summary = tf.compat.v1.Summary()
        for name, value in values.items():
            summary.value.add(tag=name, simple_value=value)
        # `tf.summary.scalar` needs the tensorboard package, which only those need who look at the logs.
        with self._log.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=self._step)
        self._log.flush()

    def keep_best(self) -> None:
        """Gives the model the weights of the best evaluation."""
        if is_chief():
            self._best.restore()


def compile_steps(model: tfrs.Model, stream: Iterator[Batch]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph that takes a number of steps and returns the sum of their losses."""
    scope = tf.distribute.get_strategy()
    # A step has no loop over tensors; AutoGraph would read and rewrite the source of every layer.
    step = tf.autograph.experimental.do_not_convert(lambda batch: model.train_step(batch)["loss"])

    @tf.function
    def train(steps: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(steps):
            part = scope.run(step, args=(next(stream),))
            total += scope.reduce(tf.distribute.ReduceOp.SUM, part, axis=None)
        return total

    compiled: Callable[[tf.Tensor], tf.Tensor] = train
    return compiled


def evaluate(score: Callable[[Batch], tf.Tensor], batches: tf.data.Dataset) -> dict[str, float]:
    """Metrics of a scoring function over all rows of a split, weighted if they are."""
    metrics = ClickMetrics.empty(groups=1)
    for batch in batches:
        labels = batch["label"].numpy()
        weights = batch["weight"].numpy() if "weight" in batch else None
        metrics.update(labels, score(batch).numpy(), np.zeros(len(labels), np.int64), weights)
    result: dict[str, Any] = metrics.compute()
    return result

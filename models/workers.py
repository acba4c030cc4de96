"""Training on several workers: one process each, named by ``TF_CONFIG``.

Every worker is started with the same command and the same run directory. Each reads all shards and takes its part of
every batch, so the batches are those of one worker; gradients are summed over the workers. Worker 0 is the chief: it
alone writes to the run. Each evaluates for itself, so the workers should be machines of the same kind: where a last bit
decides when to stop, they must decide alike.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

from features.errors import ConfigError, TrainingError
from models.backend import tf


@dataclass(frozen=True)
class Workers:
    """Who takes part in a training.

    Args:
        index: of this process.
        count: of all.
    """

    index: int = 0
    count: int = 1

    @property
    def part(self) -> tuple[int, int]:
        """The part of each batch that this process takes; see :func:`models.inputs.training_batches`."""
        return self.index, self.count


def workers() -> Workers:
    """The workers that ``TF_CONFIG`` names; one where it is not set.

    Raises:
        ConfigError: it is no cluster of workers, or does not say which of them this process is.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return Workers()
    try:
        value = json.loads(text)
        addresses, task = value["cluster"]["worker"], value["task"]
        index, known = int(task["index"]), task["type"] == "worker" and set(value["cluster"]) == {"worker"}
    except (ValueError, KeyError, TypeError) as error:
        raise _wrong(text) from error
    if not known or not 0 <= index < len(addresses):
        raise _wrong(text)
    return Workers(index, len(addresses))


def _wrong(text: str) -> ConfigError:
    rule = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": N}}'
    return ConfigError(f"TF_CONFIG must be of the form {rule}. Received: {text} (environment).")


def is_chief() -> bool:
    """Whether this process writes."""
    return workers().index == 0


@functools.cache
def strategy() -> tf.distribute.Strategy:
    """The strategy in whose scope models are made: of all workers, or TensorFlow's default for one.

    The first call must come before any other operation of TensorFlow, and waits for all workers.
    """
    if workers().count == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MultiWorkerMirroredStrategy()


@contextlib.contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turns what TensorFlow says of a lost worker into one line.

    Raises:
        TrainingError: a worker was lost.
    """
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.InternalError,
    ) as error:
        if workers().count == 1:
            raise
        raise TrainingError(
            f"All {workers().count} workers must take part in a training to its end. Received: a lost worker "
            f"({type(error).__name__}); start all workers again, they go on from the last checkpoint."
        ) from error

"""The training of any model on the shards of a run, from the start or as the repetition of another training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from models.backend import tf, tfrs
from models.inputs import ShardFiles, evaluation_batches, training_batches
from models.training import LoopSettings, fit, start
from models.workers import strategy, workers
from pipeline.config import narrow
from pipeline.originals import Original
from pipeline.settings import TrainingConfig
from pipeline.stage_inputs import naming_damage


@dataclass(frozen=True)
class Circumstances:
    """What does not depend on the model that is trained.

    Args:
        progress: called with the rows seen and a note.
        folder: for checkpoints and logs, see :func:`models.training.fit`.
        original: what is repeated by a refit, which uses no validation rows; else None.
        on_evaluation: see :func:`models.training.fit`.
    """

    progress: Callable[[float, str], None]
    folder: str
    original: Original | None = None
    on_evaluation: Callable[[dict[str, float]], None] = lambda row: None


@contextlib.contextmanager
def training_scope(seed: int) -> Iterator[None]:
    """Where a model is made and trained: all follows from the seed, and with several workers they share the weights."""
    # The workers come first: TensorFlow must not have done anything else.
    scope = strategy().scope()
    start(seed)
    with scope:
        yield


def best_text(best: Mapping[str, float]) -> str:
    """The best evaluation of a training, for people."""
    loss = f"valid logloss {best['valid_logloss']:.5f} " if "valid_logloss" in best else ""
    return f"{loss}after {best['epoch']:.2f} epochs"


def fit_shards(
    model: tfrs.Model,
    training: ShardFiles,
    validation: ShardFiles | None,
    rows: int,
    config: TrainingConfig,
    circumstances: Circumstances,
    without: Sequence[int] = (),
) -> pd.DataFrame:
    """Trains a model; returns its history, see :func:`models.training.fit`.

    Args:
        model: with its initial weights, made in :func:`training_scope`.
        training: the training shards.
        validation: the validation shards; a refit has no use for them.
        rows: training rows without those that are left out.
        config: settings.
        circumstances: see :class:`Circumstances`.
        without: folds whose rows are left out.

    Raises:
        ArtifactError: a shard is damaged.
        TrainingError: see :func:`models.training.fit`.
    """
    original, loop = circumstances.original, narrow(config, LoopSettings)
    if original:
        validation, loop = None, replace(loop, epochs=original.epochs(rows, config.batch_size))

    def stream(epoch: int, batch: int) -> tf.data.Dataset:
        return training_batches(training, config.batch_size, config.seed, without, (epoch, batch), workers().part)

    with naming_damage(*(files for files in (training, validation) if files)):
        return fit(
            model,
            stream,
            evaluation_batches(validation) if validation else None,
            rows,
            loop,
            circumstances.progress,
            circumstances.folder,
            stop_after=original.steps if original else None,
            drops=original.drops if original else (),
            on_evaluation=circumstances.on_evaluation,
        )

"""``precompute``: the teacher's raw logits for all rows, whole blocks at a time, shard beside shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from features.blocks import Block, read_blocks
from features.spec import SPLITS
from features.statistics import NO_FOLD
from features.targets import TargetBlock
from features.tfrecord import write_record
from models.estimates import mean_of_teachers
from pipeline import storage
from pipeline.beam import run_pipeline
from pipeline.keys import require_current, targets_key
from pipeline.progress import Progress, amount, watched
from pipeline.workspace import EXAMPLES, TARGETS, TEACHER, Run


@dataclass(frozen=True)
class TeacherFiles:
    """Where a teacher lies and which rows each of its parts may score.

    Args:
        models: folders of the SavedModels, one a part.
        folds: B of the cross-fitting, or 0.
        fingerprint: of the teacher.
    """

    models: tuple[str, ...]
    folds: int
    fingerprint: str


class LoadedTeacher:
    """A teacher in memory.

    Args:
        files: where it lies.
    """

    def __init__(self, files: TeacherFiles) -> None:
        # Imported here, so that the launcher and workers of other jobs need no TensorFlow.
        from models.backend import tf

        self._tf, self._folds = tf, files.folds
        # The loaded objects must be kept: their variables go with them.
        self._models = [tf.saved_model.load(model) for model in files.models]

    def score(self, block: Block, training: bool) -> npt.NDArray[np.float32]:
        """Raw logits of a block: float32 [rows, K].

        A training row's own fold is left out of its click statistics. With cross-fitting it is scored by the teacher
        that never saw its fold; other rows get the mean of all teachers' class logits.
        """
        if not training:
            none = np.full(len(block), NO_FOLD, np.int32)
            every = [self._call(model, block, none) for model in self._models]
            return mean_of_teachers(every)
        if not self._folds:
            return self._call(self._models[0], block, block.folds.astype(np.int32))
        part = block.folds % self._folds
        logits: list[npt.NDArray[np.float32]] = []
        rows: list[npt.NDArray[np.int64]] = []
        for number, model in enumerate(self._models):
            chosen = np.flatnonzero(part == number)
            own = block.take(chosen)
            rows.append(chosen)
            logits.append(self._call(model, own, own.folds.astype(np.int32)))
        return np.concatenate(logits)[np.argsort(np.concatenate(rows))]

    def _call(self, model: Any, block: Block, fold: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        constant = self._tf.constant
        outputs = model.score(constant(block.ids), constant(block.dense), constant(fold))
        logits: npt.NDArray[np.float32] = outputs["logits"].numpy()
        return logits


class ScoreShard(beam.DoFn):
    """Writes the targets of a shard; yields its manifest entry.

    Args:
        teacher: what scores.
        examples: folder of the examples.
        targets: folder of the targets.
    """

    def __init__(self, *, teacher: TeacherFiles, examples: str, targets: str) -> None:
        self._teacher, self._examples, self._targets = teacher, examples, targets
        self._shared = Shared()

    def setup(self) -> None:
        """Loads the teacher, once a process."""
        self._loaded = self._shared.acquire(partial(LoadedTeacher, self._teacher), self._teacher.fingerprint)

    def process(self, shard: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Scores one shard, given by its entry in the examples' manifest, unless an earlier attempt has."""
        record = record_path(self._targets, shard)
        if not storage.exists(record):
            storage.write_json(record, self._write(shard))
        yield storage.read_json(record)

    def _write(self, shard: dict[str, Any]) -> dict[str, Any]:
        source = storage.join(self._examples, shard["path"])
        training = shard["split"] == "train"
        with (
            storage.open_read(source) as file,
            storage.publish(storage.join(self._targets, shard["path"])) as out,
        ):
            for block in read_blocks(file, source):
                logits = self._loaded.score(block, training)
                write_record(out, TargetBlock(logits, block.offsets, self._teacher.fingerprint).encode())
        entry = {name: shard[name] for name in ("path", "split", "rows")}
        return {**entry, "bytes": out.bytes, "checksum": out.checksum}


def record_path(targets: str, shard: dict[str, Any]) -> str:
    """File that says that the targets of a shard are finished."""
    return storage.join(targets, storage.WORK, shard["path"].replace("/", "-") + ".json")


def precompute(run: Run, options: PipelineOptions) -> bool:
    """Makes the targets of a run; returns whether there was anything to do.

    Args:
        run: the run directory; the caller holds its lock.
        options: of Beam.
    """
    require_current(run, TEACHER)
    key = targets_key(run)
    if run.is_done(TARGETS, key):
        return False
    run.begin(TARGETS, key)
    manifest = run.manifest(TEACHER)
    teacher = TeacherFiles(
        tuple(run.file(TEACHER, model) for model in manifest["models"]),
        manifest["folds"],
        manifest["fingerprint"],
    )
    shards = [shard for split in SPLITS for shard in run.shards(split)]
    rows = sum(shard["rows"] for shard in shards)
    folder = run.file(TARGETS)
    pipeline = beam.Pipeline(options=options)
    score = ScoreShard(teacher=teacher, examples=run.file(EXAMPLES), targets=folder)
    _ = pipeline | "Shards" >> beam.Create(shards) | "Spread" >> beam.Reshuffle() | "Score" >> beam.ParDo(score)
    progress = Progress("precompute", rows, "rows")
    done = storage.join(folder, storage.WORK)
    with watched(progress, lambda: rows * storage.count_files(done, ".json") / len(shards)):
        run_pipeline(pipeline)
    progress.close(f"{amount(rows)} rows")
    entries = [storage.read_json(record_path(folder, shard)) for shard in shards]
    storage.remove(done)
    contents = {
        "sources": {EXAMPLES: run.identity(EXAMPLES), TEACHER: run.identity(TEACHER)},
        "teacher": teacher.fingerprint,
        "outputs": manifest["outputs"],
        "folds": manifest["folds"],
        "parameters": manifest["parameters"],
        "settings": manifest["settings"],
        "shards": entries,
    }
    run.finish(TARGETS, key, contents)
    return True

"""``precompute``: the teacher's raw logits for all rows, whole blocks at a time, shard beside shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from features.blocks import Block, read_blocks
from features.spec import SPLITS
from features.targets import TargetBlock
from features.tfrecord import write_record
from pipeline import storage
from pipeline.beam import run_pipeline
from pipeline.keys import require_current, targets_key
from pipeline.loaded_teacher import LoadedTeacher, TeacherFiles
from pipeline.progress import Progress, amount, watched
from pipeline.workspace import EXAMPLES, TARGETS, TEACHER, Run


class ScoreShard(beam.DoFn):
    """Writes the targets of a shard; yields its manifest entry.

    Args:
        teacher: what scores.
        examples: folder of the examples.
        targets: folder of the targets.
        slices: time slices of the training shards by path, for a teacher whose click statistics are ordered by time.
    """

    def __init__(
        self, *, teacher: TeacherFiles, examples: str, targets: str, slices: Mapping[str, int] | None = None
    ) -> None:
        self._teacher, self._examples, self._targets, self._slices = teacher, examples, targets, slices or {}
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
        source, path = (storage.join(folder, shard["path"]) for folder in (self._examples, self._targets))
        training, time_slice = shard["split"] == "train", self._slices.get(shard["path"])
        out = write_targets(
            source, path, lambda block: self._loaded.score(block, training, time_slice), self._teacher.fingerprint
        )
        entry = {name: shard[name] for name in ("path", "split", "rows")}
        return {**entry, "bytes": out.bytes, "checksum": out.checksum}


def write_targets(
    source: str, path: str, score: Callable[[Block], npt.NDArray[np.float32]], teacher: str
) -> storage.HashingWriter:
    """Writes the targets of a shard; returns what was written.

    Args:
        source: the shard.
        path: of its targets.
        score: gives the logits of a block: float32 [rows, K].
        teacher: fingerprint of what gives them.
    """
    with storage.open_read(source) as file, storage.publish(path) as out:
        for block in read_blocks(file, source):
            write_record(out, TargetBlock(score(block), block.offsets, teacher).encode())
    return out


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
    teacher = TeacherFiles.of(run.file(TEACHER), manifest)
    shards = [shard for split in SPLITS for shard in run.shards(split)]
    rows = sum(shard["rows"] for shard in shards)
    folder = run.file(TARGETS)
    pipeline = beam.Pipeline(options=options)
    score = ScoreShard(teacher=teacher, examples=run.file(EXAMPLES), targets=folder, slices=manifest.get("slices", {}))
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
        **{name: manifest[name] for name in ("folds", "label", "parameters", "calibration", "settings")},
        "shards": entries,
    }
    run.finish(TARGETS, key, contents)
    return True

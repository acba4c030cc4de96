"""``precompute``: the teacher's logits for all rows, and its embeddings, whole blocks at a time, shard beside shard."""

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
from pipeline.keys import require_current, targets_key
from pipeline.loaded_teacher import LoadedTeacher, TeacherFiles
from pipeline.settings import require
from pipeline.shard_jobs import over_shards, work_file
from pipeline.teacher_embeddings import find_projection, projection_path, read_projection, require_embeddings
from pipeline.workspace import EXAMPLES, TARGETS, TEACHER, Run


class ScoreShard(beam.DoFn):
    """Writes the targets of a shard; yields its manifest entry.

    Args:
        teacher: what scores.
        examples: folder of the examples.
        targets: folder of the targets.
        slices: time slices of the training shards by path, for a teacher whose click statistics are ordered by time.
        projection: file of the map from hidden layers to embeddings; empty for targets without embeddings.
        members: whether to write the click logits of the teacher's members.
    """

    def __init__(
        self,
        *,
        teacher: TeacherFiles,
        examples: str,
        targets: str,
        slices: Mapping[str, int] | None = None,
        projection: str = "",
        members: bool = False,
    ) -> None:
        self._teacher, self._examples, self._targets, self._slices = teacher, examples, targets, slices or {}
        self._projection, self._members = projection, members
        self._shared = Shared()

    def setup(self) -> None:
        """Loads the teacher, once a process."""
        self._loaded = self._shared.acquire(partial(LoadedTeacher, self._teacher), self._teacher.fingerprint)
        self._project = read_projection(self._projection) if self._projection else None

    def process(self, shard: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Scores one shard, given by its entry in the examples' manifest, unless an earlier attempt has."""
        record = record_path(self._targets, shard)
        if not storage.exists(record):
            storage.write_json(record, self._write(shard))
        yield storage.read_json(record)

    def _write(self, shard: dict[str, Any]) -> dict[str, Any]:
        source, path = (storage.join(folder, shard["path"]) for folder in (self._examples, self._targets))
        training, time_slice = shard["split"] == "train", self._slices.get(shard["path"])
        project = self._project

        def embed(block: Block) -> npt.NDArray[np.float16] | None:
            return None if project is None else project.apply(self._loaded.embed(block, training, time_slice))

        def members(block: Block) -> npt.NDArray[np.float32] | None:
            return self._loaded.members(block, training, time_slice) if self._members else None

        out = write_targets(
            source,
            path,
            lambda block: self._loaded.score(block, training, time_slice),
            self._teacher.fingerprint,
            embed,
            members,
        )
        return shard_entry(shard, out)


def write_targets(
    source: str,
    path: str,
    score: Callable[[Block], npt.NDArray[np.float32]],
    teacher: str,
    embed: Callable[[Block], npt.NDArray[np.float16] | None] = lambda _: None,
    members: Callable[[Block], npt.NDArray[np.float32] | None] = lambda _: None,
) -> storage.HashingWriter:
    """Writes the targets of a shard; returns what was written.

    Args:
        source: the shard.
        path: of its targets.
        score: gives the logits of a block: float32 [rows, K].
        teacher: fingerprint of what gives them.
        embed: gives its embeddings: float16 [rows, E], or None.
        members: gives the click logits of its members: float32 [rows, M], or None.
    """
    with storage.open_read(source) as file, storage.publish(path) as out:
        for block in read_blocks(file, source):
            targets = TargetBlock(score(block), block.offsets, teacher, embed(block), members(block))
            write_record(out, targets.encode())
    return out


def shard_entry(shard: Mapping[str, Any], written: storage.HashingWriter) -> dict[str, Any]:
    """The manifest's entry of a shard of targets, from that of its examples."""
    entry = {name: shard[name] for name in ("path", "split", "rows")}
    return {**entry, "bytes": written.bytes, "checksum": written.checksum}


def record_path(targets: str, shard: dict[str, Any]) -> str:
    """File that says that the targets of a shard are finished."""
    return work_file(storage.join(targets, storage.WORK), shard, ".json")


def precompute(run: Run, options: PipelineOptions, embedding: int = 0) -> bool:
    """Makes the targets of a run; returns whether there was anything to do.

    Args:
        run: the run directory; the caller holds its lock.
        options: of Beam.
        embedding: floats of the teacher's embeddings to store with its logits; 0 for none.

    Raises:
        ArtifactError: the teacher is stale, or embeddings are asked of one that is older than them.
        ConfigError: there are cross-fitted teachers, whose embeddings have nothing in common, or the teacher's last
            hidden layer has fewer floats.
    """
    require_current(run, TEACHER)
    key = targets_key(run, embedding)
    if run.is_done(TARGETS, key):
        return False
    manifest = run.manifest(TEACHER)
    require(not (embedding and manifest["folds"]), "embedding must be 0 with cross-fitting", embedding)
    teacher, slices = TeacherFiles.of(run.file(TEACHER), manifest), manifest.get("slices", {})
    if embedding:
        # What can be said before finished targets are removed is said before.
        require_embeddings(run, teacher, embedding, options, slices)
    run.begin(TARGETS, key)
    members = _members_of(manifest)
    embedded = find_projection(run, teacher, embedding, options, slices) if embedding else {}
    shards, folder = [shard for split in SPLITS for shard in run.shards(split)], run.file(TARGETS)
    score = ScoreShard(
        teacher=teacher,
        examples=run.file(EXAMPLES),
        targets=folder,
        slices=slices,
        projection=projection_path(run) if embedding else "",
        members=members > 0,
    )
    done = storage.join(folder, storage.WORK)
    over_shards("precompute", shards, score, options, done, ".json")
    entries = [storage.read_json(record_path(folder, shard)) for shard in shards]
    storage.remove(done)
    contents = {
        "sources": {EXAMPLES: run.identity(EXAMPLES), TEACHER: run.identity(TEACHER)},
        "teacher": teacher.fingerprint,
        "outputs": manifest["outputs"],
        **{name: manifest[name] for name in ("folds", "label", "parameters", "calibration", "settings")},
        **embedded,
        **({"members": members} if members else {}),
        "shards": entries,
    }
    run.finish(TARGETS, key, contents)
    return True


def _members_of(manifest: Mapping[str, Any]) -> int:
    """Members of a teacher whose click logits are stored; 0 for one network, and where more goes into its own.

    Trees are no member, and members of cross-fitted teachers would have to be told from each other's.
    """
    members = len(manifest["settings"].get("architecture", "").split(","))
    return 0 if members == 1 or manifest["folds"] or manifest.get("trees") else members

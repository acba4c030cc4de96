"""The teacher's last hidden layer on few directions: one pass over training rows finds them, before the targets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from features.errors import ConfigError
from models.projections import Moments, Projection
from pipeline import storage
from pipeline.arrays import read_arrays, write_arrays
from pipeline.beam import run_pipeline
from pipeline.loaded_teacher import LoadedTeacher, TeacherFiles
from pipeline.shard_jobs import over_shards, work_file
from pipeline.stored_rows import blocks_of
from pipeline.workspace import EXAMPLES, TARGETS, Run

HEAD = "head.npz"
# Second moments cost D^2 a row; the directions of a million rows are those of all.
_MOST_ROWS = 1 << 20


class MomentsOfShard(beam.DoFn):
    """Writes the moments of the hidden layers of a training shard, and the teacher's head.

    Args:
        teacher: whose hidden layers.
        examples: folder of the examples.
        moments: folder of what is written.
        every: of so many rows one is looked at.
        slices: see :class:`pipeline.precompute.ScoreShard`.
    """

    def __init__(
        self,
        *,
        teacher: TeacherFiles,
        examples: str,
        moments: str,
        every: int,
        slices: Mapping[str, int] | None = None,
    ) -> None:
        self._teacher, self._examples, self._moments = teacher, examples, moments
        self._every, self._slices = every, slices or {}
        self._shared = Shared()

    def setup(self) -> None:
        """Loads the teacher, once a process."""
        self._loaded = self._shared.acquire(partial(LoadedTeacher, self._teacher), self._teacher.fingerprint)

    def process(self, shard: dict[str, Any]) -> Iterator[str]:
        """Sums over one shard, given by its entry in the examples' manifest, unless an earlier attempt has."""
        path = work_file(self._moments, shard, ".npz")
        if not storage.exists(path):
            found = Moments.sum(self._moments_of(shard))
            head = self._loaded.head()
            more = {} if head is None else {"kernel": head[0], "bias": head[1]}
            write_arrays(path, count=found.count, total=found.total, products=found.products, **more)
        yield path

    def _moments_of(self, shard: dict[str, Any]) -> Iterator[Moments]:
        for block in blocks_of(storage.join(self._examples, shard["path"])):
            rows = block.take(slice(None, None, self._every))
            yield Moments.of(self._loaded.embed(rows, training=True, time_slice=self._slices.get(shard["path"])))


class RequireWidth(beam.DoFn):
    """Refuses embeddings of more floats than the teacher's last hidden layer has for the first row of a shard.

    Args:
        teacher: whose hidden layer.
        examples: folder of the examples.
        embedding: E that is asked for.
        slices: see :class:`pipeline.precompute.ScoreShard`.
    """

    def __init__(self, *, teacher: TeacherFiles, examples: str, embedding: int, slices: Mapping[str, int]) -> None:
        self._teacher, self._examples, self._embedding, self._slices = teacher, examples, embedding, slices

    def process(self, shard: dict[str, Any]) -> None:
        """Looks at a training shard with rows, given by its entry in the examples' manifest."""
        teacher, time_slice = LoadedTeacher(self._teacher), self._slices.get(shard["path"])
        for block in itertools.islice(blocks_of(storage.join(self._examples, shard["path"])), 1):
            width = teacher.embed(block.take(slice(1)), training=True, time_slice=time_slice).shape[1]
            if width < self._embedding:
                raise ConfigError(
                    f"embedding must be at most the {width} floats of the teacher's last hidden layer. "
                    f"Received: {self._embedding}."
                )


def require_embeddings(
    run: Run, teacher: TeacherFiles, embedding: int, options: PipelineOptions, slices: Mapping[str, int]
) -> None:
    """Makes sure that a teacher has embeddings of so many floats; nothing is written.

    It takes a job of one row, because the launcher may have no TensorFlow.

    Args:
        run: with examples and the teacher.
        teacher: whose hidden layer.
        embedding: E, at least 1.
        options: of Beam.
        slices: see :class:`pipeline.precompute.ScoreShard`.

    Raises:
        ArtifactError: the teacher is older than embeddings.
        ConfigError: its hidden layer has fewer floats.
    """
    work = RequireWidth(teacher=teacher, examples=run.file(EXAMPLES), embedding=embedding, slices=slices)
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | "Shard" >> beam.Create(run.filled_shards("train")[:1]) | "Look" >> beam.ParDo(work)
    run_pipeline(pipeline)


def find_projection(
    run: Run, teacher: TeacherFiles, embedding: int, options: PipelineOptions, slices: Mapping[str, int]
) -> dict[str, Any]:
    """Writes the projection to :func:`projection_path`, and the head on embeddings beside the targets.

    Sums of shards are added in the order of the shards, so that the same rows give the same bits on any workers.

    Args:
        run: whose stage of the targets has begun.
        teacher: whose hidden layers.
        embedding: E, which :func:`require_embeddings` has found to be there.
        options: of Beam.
        slices: see :class:`pipeline.precompute.ScoreShard`.

    Returns:
        what the manifest of the targets says of it: ``embedding``, ``explained`` (share of the variance that is kept)
        and, but for a gated teacher, ``head`` (file of the head: kernel [E, K] and bias [K]).
    """
    path = projection_path(run)
    if not storage.exists(path):
        shards, moments = run.filled_shards("train"), storage.join(run.file(TARGETS), storage.WORK, "moments")
        every = math.ceil(sum(shard["rows"] for shard in shards) / _MOST_ROWS)
        work = MomentsOfShard(teacher=teacher, examples=run.file(EXAMPLES), moments=moments, every=every, slices=slices)
        over_shards("precompute, directions", shards, work, options, moments, ".npz")
        _write(run, [work_file(moments, shard, ".npz") for shard in shards], embedding)
        storage.remove(moments)
    head = {"head": HEAD} if storage.exists(run.file(TARGETS, HEAD)) else {}
    return {"embedding": embedding, "explained": round(read_projection(path).explained, 6), **head}


def _write(run: Run, paths: list[str], embedding: int) -> None:
    """Writes head and projection, the projection last: it says that both are there."""
    parts = (read_arrays(path) for path in paths)
    moments = Moments.sum(Moments(int(part["count"]), part["total"], part["products"]) for part in parts)
    projection = Projection.principal(moments, embedding)
    first = read_arrays(paths[0])
    if "kernel" in first:
        kernel, bias = projection.head(first["kernel"], first["bias"])
        write_arrays(run.file(TARGETS, HEAD), kernel=kernel, bias=bias)
    write_arrays(
        projection_path(run),
        mean=projection.mean,
        basis=projection.basis,
        scale=projection.scale,
        explained=projection.explained,
    )


def projection_path(run: Run) -> str:
    """The file of the projection, while the targets are made."""
    return storage.join(run.file(TARGETS), storage.WORK, "projection.npz")


def read_projection(path: str) -> Projection:
    """What :func:`find_projection` wrote."""
    found = read_arrays(path)
    return Projection(found["mean"], found["basis"], float(found["scale"]), float(found["explained"]))

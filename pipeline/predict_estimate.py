"""``predict --dry-run``: what a job would read, write and hold, from a sample of the log."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from features.blocks import BLOCK_ROWS
from features.errors import DataError
from features.lines import CHUNK_BYTES
from features.rows import ParsedRows
from features.schema import PARQUET, Schema
from pipeline import storage
from pipeline.plan import Range, Task
from pipeline.predict_plan import PredictPlan, find_tasks
from pipeline.reading import RangeRows, read_ranges
from pipeline.scoring import ScoredChunk, write_scores

# As in models.serving_features, which imports TensorFlow.
_VOCABULARY = "assets/vocabulary.txt"
_PIECES = 32
_PIECE_BYTES = 1 << 20
_MB = 1e6
# Measured: Python with Beam, Arrow and TensorFlow; a chunk while it is parsed and scored; a byte of the vocabulary.
_BASE_BYTES, _CHUNK_FACTOR, _VOCABULARY_FACTOR = 750e6, 20.0, 11.0
# What is kept of a scored row beside its keys, and once more as a table.
_ROW_BYTES = 30


@dataclass(frozen=True)
class PredictEstimate:
    """What a job would do.

    Args:
        files: that hold rows.
        labelled: those of them with a label column.
        bytes: of the logs, on disk.
        rows: of the logs.
        rejects: bad lines.
        ranges: of the plan, each with a file of results.
        output: bytes of the results.
        memory: peak bytes of one process with all its workers.
    """

    files: int
    labelled: int
    bytes: int
    rows: float
    rejects: float
    ranges: int
    output: float
    memory: float


def estimate_predictions(model: str, inputs: Sequence[str], workers: int) -> PredictEstimate:
    """Estimates a job from pieces of its log.

    Args:
        model: folder of a SavedModel, or the folder above its version ``1``.
        inputs: paths and globs of the logs.
        workers: threads of the local runner, or of one worker elsewhere.

    Raises:
        ArtifactError, DataError: as :func:`pipeline.predict.predict`, or the sample holds no row.
    """
    plan = PredictPlan.of(model, inputs)
    tasks = find_tasks(plan.files, plan.schema)
    lengths = [_length(task) for task, _ in tasks]
    ranges = [-(-length // task.step) if task.step else 1 for length, (task, _) in zip(lengths, tasks, strict=True)]
    pieces = [_piece(task, plan.schema, labelled) for task, labelled in tasks[:: -(-len(tasks) // _PIECES)]]
    parts = [part for piece in pieces for part in piece.parts]
    found, rejects = sum(map(len, parts)), sum(len(part.rejects) for part in parts)
    if not found:
        raise DataError(f"The sample of the log must hold rows. Received: {rejects} bad lines.")
    scale = sum(lengths) / sum(piece.range.end - piece.range.start for piece in pieces)
    written = _written(plan.schema, parts) / found
    labels = {task.index: labelled for task, labelled in tasks}
    return PredictEstimate(
        len(labels),
        sum(labels.values()),
        sum(file.size for file in plan.files),
        found * scale,
        rejects * scale,
        sum(ranges),
        found * scale * written,
        _memory(plan, workers, found * scale / sum(ranges) * (_ROW_BYTES + 2 * written)),
    )


def _length(task: Task) -> int:
    """Of what a task reads: bytes, decompressed, or rows of a parquet file."""
    return sum(part.end - part.start for part in task.ranges) or storage.stream_size(task.file)


def _piece(task: Task, schema: Schema, labelled: bool) -> RangeRows:
    """The beginning of what a task reads, parsed."""
    if task.ranges:
        part = task.ranges[0]
        size = BLOCK_ROWS if schema.format == PARQUET else _PIECE_BYTES
        task = replace(task, ranges=(Range(part.file, part.number, part.start, min(part.end, part.start + size)),))
    else:
        task = replace(task, step=_PIECE_BYTES)
    return next(iter(read_ranges(task, schema, labelled)))


def _written(schema: Schema, parts: Sequence[ParsedRows]) -> int:
    """Bytes of results with the rows of the sample; all but the probabilities are what they will be."""
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    for labelled in (True, False):
        scored = [
            ScoredChunk(part.offsets, part.labels, part.keys, rng.random(len(part), np.float32), [])
            for part in parts
            if (part.labels is not None) == labelled
        ]
        if scored:
            write_scores(storage.HashingWriter(buffer, hashed=False), "", schema, scored)
    return buffer.tell()


def _memory(plan: PredictPlan, workers: int, kept: float) -> float:
    """Peak bytes of a process, given those that are kept of a scored range."""
    vocabulary = storage.version(storage.join(plan.model, _VOCABULARY)) or [0]
    chunk = min(CHUNK_BYTES, max(file.size for file in plan.files))
    return _BASE_BYTES + _VOCABULARY_FACTOR * vocabulary[0] + workers * (_CHUNK_FACTOR * chunk + kept)


def as_text(found: PredictEstimate) -> str:
    """The estimate as a table for people."""
    lines = {
        "files": f"{found.files:,}, of which {found.labelled:,} have labels",
        "log": f"{found.bytes / _MB:,.0f} MB, about {found.rows:,.0f} rows and {found.rejects:,.0f} rejects",
        "ranges": f"{found.ranges:,}",
        "output": f"{found.output / _MB:,.1f} MB",
        "peak memory": f"{found.memory / _MB:,.0f} MB",
    }
    return pd.Series(lines).to_string()

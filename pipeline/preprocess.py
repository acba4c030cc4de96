"""``preprocess``: raw logs to blocks of examples, in two passes.

Pass 1 counts the training rows (:mod:`pipeline.analyze`); pass 2 turns every line into a row of a block or a line of
the rejects. Both are one Beam job; a Beam element is a range of bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from features.errors import ConfigError, DataError
from features.rejects import write_rejects
from features.schema import Schema
from features.spec import SPLITS, ExamplesSpec
from features.tfrecord import write_record
from features.transform import Transform
from pipeline import storage
from pipeline.analyze import Analysis, AnalyzeTask, MergeColumn, merge_analysis, read_vocabulary
from pipeline.beam import run_pipeline
from pipeline.config import PreprocessConfig, plain
from pipeline.plan import Shard, Split, Task, plan
from pipeline.progress import Progress, amount, watched
from pipeline.reading import ShardRows, read_shards
from pipeline.workspace import EXAMPLES, Run, digest


@dataclass(frozen=True)
class Layout:
    """Where the job writes; plain strings, so that it travels to workers.

    Args:
        examples: folder of the examples.
        rejected: folder of the rejects.
    """

    examples: str
    rejected: str

    @property
    def work(self) -> str:
        """Folder of what only this stage reads."""
        return storage.join(self.examples, storage.WORK)

    @property
    def analysis(self) -> str:
        """File of what pass 1 found."""
        return storage.join(self.work, "analysis.json")

    @property
    def vocabulary(self) -> str:
        """Folder of the vocabularies."""
        return storage.join(self.examples, "vocabulary")

    def record(self, shard: Shard) -> str:
        """File that says that a shard is finished."""
        return storage.join(self.work, f"{shard.split}-{shard.index:05d}.json")


class TransformTask(beam.DoFn):
    """Writes the shards of a task and its rejects; yields each shard's manifest entry.

    Args:
        schema: of the log.
        seed: of the folds and the row order.
        layout: where to write.
    """

    def __init__(self, *, schema: Schema, seed: int, layout: Layout) -> None:
        self._schema, self._seed, self._layout = schema, seed, layout
        self._shared = Shared()

    def process(self, task: Task, _: Any) -> Iterator[dict[str, Any]]:
        """Writes one task; shards that an earlier attempt finished are left as they are."""
        missing = [shard for shard in task.shards if not storage.exists(self._layout.record(shard))]
        if missing:
            transform = self._shared.acquire(partial(load_transform, self._schema, self._layout))
            for rows in read_shards(task, missing, self._schema):
                self._write(rows, transform)
        for shard in task.shards:
            yield storage.read_json(self._layout.record(shard))

    def _write(self, rows: ShardRows, transform: Transform) -> None:
        shard = rows.shard
        block = transform.block(rows.parts, rows.source, self._seed)
        path = storage.join(self._layout.examples, f"{shard.name}.tfrecord")
        with storage.publish(path) as writer:
            for piece in block.split():
                write_record(writer, piece.encode())
        record = {
            "path": f"{shard.name}.tfrecord",
            "split": shard.split,
            "rows": len(block),
            "clicks": int(block.labels.sum()),
            "rejects": self._write_rejects(rows),
            "bytes": writer.bytes,
            "checksum": writer.checksum,
            "source": rows.source,
            "start": shard.start,
            "end": shard.end,
        }
        storage.write_json(self._layout.record(shard), record)

    def _write_rejects(self, rows: ShardRows) -> int:
        rejects = rows.rejects
        if rejects:
            name = f"{rows.shard.split}-{rows.shard.index:05d}.jsonl"
            with storage.publish(storage.join(self._layout.rejected, name)) as writer:
                write_rejects(writer, rows.source, rejects)
        return len(rejects)


def load_transform(schema: Schema, layout: Layout) -> Transform:
    """Reads the fitted transform, once a process."""
    analysis = Analysis.from_json(storage.read_json(layout.analysis))
    return Transform(
        analysis.numeric,
        tuple(read_vocabulary(layout.vocabulary, name).values for name in schema.categorical),
    )


def preprocess(
    run: Run,
    inputs: Sequence[str],
    schema: Schema,
    config: PreprocessConfig,
    options: PipelineOptions,
    force: bool = False,
) -> bool:
    """Makes the examples of a run.

    Args:
        run: the run directory; the caller holds its lock.
        inputs: paths and globs of the log, in time order.
        schema: of the log.
        config: settings.
        options: of Beam.
        force: accept that the inputs or the schema are not those of an earlier call.

    Returns:
        whether there was anything to do.

    Raises:
        DataError: no input, too many rejects, no training row.
        ConfigError: the run was made from other inputs or with another schema.
    """
    files = storage.find_inputs(inputs)
    origin = {
        "inputs": [{"path": file.path, "size": file.size, "version": file.version} for file in files],
        "schema": schema.to_json(),
    }
    # The limit on rejects decides whether the job fails, not what it writes.
    settings = {name: value for name, value in plain(config).items() if name != "max_rejects"}
    key = digest({"settings": settings, **origin})
    if run.is_done(EXAMPLES, key):
        return False
    _check_origin(run, origin, force)
    tasks, total = plan(files, Split.parse(config.split), config.shard_mb << 20)
    planned = {task.file for task in tasks}
    for file in files:
        if file not in planned:
            print(f"warning: {file.path} is empty", file=sys.stderr)
    layout = Layout(run.file(EXAMPLES), run.file("rejected"))
    run.begin(EXAMPLES, key, origin, beside=[layout.rejected])
    _run_job(tasks, schema, config, layout, options, total)
    _finish(run, tasks, schema, config, layout, key, origin)
    return True


def _check_origin(run: Run, origin: dict[str, Any], force: bool) -> None:
    earlier = run.origin(EXAMPLES)
    if earlier is None or force:
        return
    for what in ("inputs", "schema"):
        before, now = earlier.get(what, origin[what]), origin[what]
        if before != now:
            raise ConfigError(
                f"A run must keep its {what}. Received: other {what} than {run.path} was made with"
                f"{_difference(before, now)}; use another --run, or --force to make this one anew."
            )


def _difference(before: Any, now: Any) -> str:
    """The first input file that is not what it was."""
    for item in now if isinstance(now, list) else []:
        if item not in before:
            known = any(item["path"] == other["path"] for other in before)
            return f" ({item['path']} {'has changed' if known else 'is new'})"
    return ""


def _run_job(
    tasks: list[Task],
    schema: Schema,
    config: PreprocessConfig,
    layout: Layout,
    options: PipelineOptions,
    total: int,
) -> None:
    pipeline = beam.Pipeline(options=options)
    build_job(pipeline, tasks, schema, config, layout)
    shards = sum(len(task.shards) for task in tasks)
    # Pass 1 writes a file for each training shard, pass 2 one for each shard, and between them lies one more.
    files = shards + sum(len(task.only("train").shards) for task in tasks) + 1

    def megabytes() -> float:
        done = storage.count_files(layout.work, ".arrow") + storage.count_files(layout.work, ".json")
        return total / 1e6 * done / files

    progress = Progress("preprocess", total / 1e6, "MB", megabytes())
    with watched(progress, megabytes):
        run_pipeline(pipeline)
    progress.close(f"{shards} shards from {amount(total)}B")


def build_job(
    pipeline: beam.Pipeline, tasks: list[Task], schema: Schema, config: PreprocessConfig, layout: Layout
) -> None:
    """Adds both passes to a pipeline; file names and manifest entries are all that is shuffled."""
    read = pipeline | "Tasks" >> beam.Create(tasks) | "SpreadTasks" >> beam.Reshuffle()
    counts = beam.pvalue.AsList(
        read | "Count" >> beam.ParDo(AnalyzeTask(schema=schema, seed=config.seed, work=layout.work))
    )
    parts = sum(len(task.only("train").shards) for task in tasks)
    merge = MergeColumn(
        parts=parts,
        folder=layout.vocabulary,
        columns=schema.categorical,
        min_count=config.min_count,
        max_size=config.max_vocabulary,
    )
    sizes = (
        pipeline
        | "Columns" >> beam.Create(range(len(schema.categorical)))
        | "SpreadColumns" >> beam.Reshuffle()
        | "MergeCounts" >> beam.ParDo(merge, counts)
    )
    rows = (
        pipeline
        | "Once" >> beam.Create([None])
        | "MergeRest" >> beam.Map(merge_analysis, counts, schema=schema, path=layout.analysis, parts=parts)
    )
    # Pass 2 starts when both are through: it waits for this side input, and reads the files.
    ready = beam.pvalue.AsList((sizes, rows) | "Analyzed" >> beam.Flatten())
    transform = TransformTask(schema=schema, seed=config.seed, layout=layout)
    _ = read | "Transform" >> beam.ParDo(transform, ready)


def _finish(
    run: Run,
    tasks: list[Task],
    schema: Schema,
    config: PreprocessConfig,
    layout: Layout,
    key: str,
    origin: dict[str, Any],
) -> None:
    """Checks the whole, and writes spec and manifest."""
    shards = [storage.read_json(layout.record(shard)) for task in tasks for shard in task.shards]
    rejects = sum(shard["rejects"] for shard in shards)
    rows = {split: sum(shard["rows"] for shard in shards if shard["split"] == split) for split in SPLITS}
    clicks = {split: sum(shard["clicks"] for shard in shards if shard["split"] == split) for split in SPLITS}
    lines = sum(rows.values()) + rejects
    if rejects > config.reject_limit * lines:
        raise DataError(
            f"At most {config.max_rejects} of the lines must be bad. Received: {rejects} of {lines} "
            f"({layout.rejected} says which and why; raise --max-rejects or mend the log)."
        )
    if not clicks["train"] or clicks["train"] == rows["train"]:
        raise DataError(
            f"The training rows must have clicks and rows without. Received: {clicks['train']} clicks in "
            f"{rows['train']} training rows."
        )
    analysis = Analysis.from_json(storage.read_json(layout.analysis))
    assert sum(analysis.fold_rows) == rows["train"], "both passes see the same training rows"
    vocabulary_ids = tuple(read_vocabulary(layout.vocabulary, name).ids for name in schema.categorical)
    spec = ExamplesSpec(
        schema,
        analysis.numeric,
        vocabulary_ids,
        rows,
        clicks,
        analysis.fold_rows,
        analysis.fold_clicks,
        lines,
        rejects,
        config.seed,
    )
    storage.write_json(run.file(EXAMPLES, "spec.json"), spec.to_json())
    storage.remove(layout.work)
    run.finish(EXAMPLES, key, {**origin, "settings": plain(config), "shards": shards})

"""``preprocess``: raw logs to blocks of examples.

One Beam job; its elements are ranges of files, never rows. Every range is parsed once, into columns with a dictionary
each; what follows works on dictionaries and codes:

    parse:      range of a file -> rows by column, rejects
    count:      training rows of a range -> counts of values by fold, sums of numerics
    merge:      counts -> vocabularies, statistics
    transform:  rows by column -> blocks, a shard for each split
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import ConfigError, DataError
from features.layouts import ROWS
from features.row_examples import check_names
from features.schema import Schema
from features.spec import SPLITS, ExamplesSpec
from features.splits import Split
from pipeline import storage
from pipeline.analyze import Analysis, MergeColumn, count_ids, merge_analysis
from pipeline.beam import run_pipeline, seconds_by_phase
from pipeline.config import plain
from pipeline.plan import Entry, Range, Task, log_sizes, plan
from pipeline.preprocess_steps import CountEntry, Job, ParseTask, TransformEntry, arrange_all
from pipeline.progress import Progress, amount, watched
from pipeline.reading import finished
from pipeline.settings import PreprocessConfig
from pipeline.workspace import EXAMPLES, Run, digest

# The values of a column are merged in parts: one for so many bytes of the log, up to a number that keeps the files few.
_MERGED_BYTES = 256 << 20
_MOST_PARTS = 256
_WARN_COMPRESSED = 256 << 20


def build_job(pipeline: beam.Pipeline, job: Job) -> None:
    """Adds all steps to a pipeline; file names and small records are all that is shuffled."""
    side = beam.pvalue.AsList
    vocabularies = job.vocabularies()
    once = pipeline | "Once" >> beam.Create([None])
    tasks = pipeline | "Tasks" >> beam.Create(job.tasks) | "SpreadTasks" >> beam.Reshuffle()
    parsed = tasks | "Parse" >> beam.ParDo(ParseTask(job=job))
    entries = once | "Arrange" >> beam.FlatMap(arrange_all, side(parsed), job=job)
    spread = entries | "SpreadEntries" >> beam.Reshuffle()
    counts = side(spread | "Count" >> beam.ParDo(CountEntry(job=job)))
    training = beam.pvalue.AsSingleton(
        entries | "Training" >> beam.Filter(_has_training_rows) | "CountTraining" >> beam.combiners.Count.Globally()
    )
    merged = (
        pipeline
        | "Columns" >> beam.Create(range(len(vocabularies.columns)))
        | "SpreadColumns" >> beam.Reshuffle()
        | "MergeColumns" >> beam.ParDo(MergeColumn(settings=vocabularies), counts, training)
    )
    rows = once | "MergeRest" >> beam.Map(merge_analysis, counts, training, schema=job.schema, path=job.analysis)
    # The last step waits for this side input, and reads the files.
    ready = side((merged, rows) | "Analyzed" >> beam.Flatten())
    _ = spread | "Transform" >> beam.ParDo(TransformEntry(job=job), ready)


def _has_training_rows(entry: Entry) -> bool:
    return SPLITS[0] in entry.shards


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
        DataError: no input, too many rejects, no training row, or an input that changed meanwhile.
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
        storage.remove(run.file(EXAMPLES, storage.WORK))  # a kill may leave it
        _keep_licence(run, schema)
        return False
    split = Split.parse(config.split)
    split.check(schema)
    if config.layout == ROWS:
        check_names(schema)
    _check_origin(run, origin, force)
    sizes = log_sizes(files, schema)
    tasks = plan(files, sizes, schema, split, config.shard_mb << 20)
    _warn(files, tasks)
    job = Job(tuple(tasks), schema, config, run.file(EXAMPLES), run.file("rejected"), parts_of(sum(sizes)))
    run.begin(EXAMPLES, key, origin, beside=[job.rejected])
    _run_job(job, options)
    storage.require_unchanged(files, "call it again with --force when it is whole")
    _finish(run, job, key, origin)
    return True


def _keep_licence(run: Run, schema: Schema) -> None:
    """Writes down another licence of the same log; no stage depends on it."""
    spec = run.spec()
    if spec.schema.licence != schema.licence:
        storage.write_json(run.file(EXAMPLES, "spec.json"), replace(spec, schema=schema).to_json())


def parts_of(size: float) -> int:
    """In how many parts the values of a column of so many bytes of log are merged."""
    return min(math.ceil(size / _MERGED_BYTES), _MOST_PARTS)


def _warn(files: Sequence[storage.InputFile], tasks: Sequence[Task]) -> None:
    planned = {task.file for task in tasks}
    for file in files:
        if file not in planned:
            print(f"warning: {file.path} is empty", file=sys.stderr)
        elif file.compressed and file.size >= _WARN_COMPRESSED:
            print(f"warning: {file.path} is compressed: one worker must read all of it", file=sys.stderr)


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


def _run_job(job: Job, options: PipelineOptions) -> None:
    pipeline = beam.Pipeline(options=options)
    build_job(pipeline, job)
    total = sum(task.file.size for task in {task.index: task for task in job.tasks}.values()) / 1e6
    ranges = sum(len(task.ranges) or 1 for task in job.tasks)

    def megabytes() -> float:
        # Parsing takes about half of the time.
        done = storage.count_files(job.work, ".json")
        return min(total, total * done / (2 * ranges))

    progress = Progress("preprocess", total, "MB", megabytes())
    with watched(progress, megabytes):
        result = run_pipeline(pipeline)
    progress.close(f"{amount(total * 1e6)}B, {seconds_by_phase(result)}")


def _finish(run: Run, job: Job, key: str, origin: dict[str, Any]) -> None:
    """Checks the whole, and writes spec and manifest."""
    entries = [record for task in job.tasks for record in finished(task, partial(job.file, "parsed"))[0]]
    done = [storage.read_json(job.file("done", Range.of(entry))) for entry in entries]
    shards = [shard for of_range in done for shard in of_range]
    for entry, of_range in zip(entries, done, strict=True):
        if sum(shard["rows"] for shard in of_range) != entry["rows"]:
            raise DataError(
                f"Every row must end in a split. Received: {sum(shard['rows'] for shard in of_range)} of "
                f"{entry['rows']} ({entry['source']}, {entry['start']} to {entry['end']})."
            )
    rows, clicks = (
        {split: sum(shard[name] for shard in shards if shard["split"] == split) for split in SPLITS}
        for name in ("rows", "clicks")
    )
    if not clicks["train"] or clicks["train"] == rows["train"]:
        raise DataError(
            f"The training rows must have clicks and rows without. Received: {clicks['train']} clicks in "
            f"{rows['train']} training rows."
        )
    analysis = Analysis.from_json(storage.read_json(job.analysis))
    if not 0 < sum(analysis.fold_click_weights) < sum(analysis.fold_weights):
        raise DataError(
            "The training rows must have clicks and rows without, both with a weight. Received: a weight of "
            f"{sum(analysis.fold_click_weights):g} of clicks in {sum(analysis.fold_weights):g} of all."
        )
    assert sum(analysis.fold_rows) == rows["train"], "the rows that are counted are those that are written"
    config = job.config
    spec = ExamplesSpec(
        job.schema,
        analysis.numeric,
        count_ids(job.vocabulary, job.schema.categorical),
        config.oov_buckets,
        rows,
        clicks,
        analysis.fold_rows,
        analysis.fold_clicks,
        analysis.fold_weights,
        analysis.fold_click_weights,
        sum(entry["lines"] for entry in entries),
        sum(entry["rejects"] for entry in entries),
        config.seed,
        config.negative_rate,
        config.layout,
    )
    storage.write_json(run.file(EXAMPLES, "spec.json"), spec.to_json())
    ranges = [{name: entry[name] for name in _ENTRY_FIELDS} for entry in entries]
    run.finish(EXAMPLES, key, {**origin, "settings": plain(config), "entries": ranges, "shards": shards})
    # Not before: from a part of it an unfinished stage could not go on.
    storage.remove(job.work)


_ENTRY_FIELDS = ("source", "start", "end", "lines", "rows", "rejects", "rejected")

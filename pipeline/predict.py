"""``predict``: scores raw logs with an exported student, to parquet."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from features.errors import ConfigError, DataError
from features.rejects import write_rejects
from pipeline import storage
from pipeline.beam import run_pipeline
from pipeline.plan import Range, Task
from pipeline.predict_plan import PredictPlan, find_tasks
from pipeline.progress import Progress, amount, watched
from pipeline.reading import RangeParts, check_rejects, finished, map_ranges
from pipeline.scoring import LoadedStudent, ScoredChunk, write_scores
from pipeline.settings import share

# The underscore keeps readers of the folder from taking it for data.
_MANIFEST = "_manifest.json"
_STARTED = ".started.json"

Tasks = Sequence[tuple[Task, bool]]


class PredictTask(beam.DoFn):
    """Scores the ranges of a task; yields an entry for each.

    Args:
        model: folder of the SavedModel.
        output: folder of the results.
    """

    def __init__(self, *, model: str, output: str) -> None:
        self._model, self._output = model, output
        self._shared = Shared()

    def setup(self) -> None:
        """Loads the student, once a process."""
        self._student = self._shared.acquire(partial(LoadedStudent, self._model), self._model)

    def process(self, element: tuple[Task, bool]) -> Iterator[dict[str, Any]]:
        """Scores one task, given with whether its file has a label column; finished ranges are left as they are."""
        task, labelled = element
        records, whole = finished(task, partial(record_path, self._output))
        yield from records
        if not whole:
            student = self._student
            for found in map_ranges(student.score, task, student.schema, labelled, first=len(records)):
                yield self._write(found)

    def _write(self, found: RangeParts[ScoredChunk]) -> dict[str, Any]:
        name = f"part-{found.range.name}"
        record = {**found.record(), "path": f"{name}.parquet", "source": found.source}
        with storage.publish(storage.join(self._output, f"{name}.parquet"), hashed=False) as writer:
            write_scores(writer, found.source, self._student.schema, found.parts)
        if found.rejects:
            with storage.publish(storage.join(self._output, "rejected", f"{name}.jsonl"), hashed=False) as writer:
                write_rejects(writer, found.source, found.rejects)
        storage.write_json(record_path(self._output, found.range), record)
        return record


def record_path(output: str, part: Range) -> str:
    """File that says that a range is finished."""
    return storage.join(output, storage.WORK, f"{part.name}.json")


def predict(model: str, inputs: Sequence[str], output: str, options: PipelineOptions, max_rejects: str = "1%") -> bool:
    """Scores logs; returns whether there was anything to do.

    Args:
        model: folder of a SavedModel, or the folder above its version ``1``.
        inputs: paths and globs of the logs, with or without the label column.
        output: a new or empty folder, or that of an unfinished call with the same arguments.
        options: of Beam.
        max_rejects: share of bad lines above which the job fails.

    Raises:
        ArtifactError: there is no exported student.
        ConfigError: the output holds something else.
        DataError: no input, a log whose first lines all have a wrong number of fields, or too many rejects.
    """
    limit = share(max_rejects, "--max-rejects")
    plan = PredictPlan.of(model, inputs)
    if _is_done(output, plan.key):
        return False
    tasks = find_tasks(plan.files, plan.schema)
    storage.write_json(storage.join(output, _STARTED), {"key": plan.key})
    parts = _run(plan, tasks, output, options)
    storage.require_unchanged(plan.files, "score it again into another folder when it is whole")
    rows, rejects = (_count(parts, name) for name in ("rows", "rejects"))
    check_rejects(rejects, rows + rejects, limit, max_rejects, f"{output}/rejected")
    manifest = {"key": plan.key, "rows": rows, "rejects": rejects, "parts": parts}
    storage.write_json(storage.join(output, _MANIFEST), manifest)
    _clean(output)
    return True


def _run(plan: PredictPlan, tasks: Tasks, output: str, options: PipelineOptions) -> list[dict[str, Any]]:
    """Scores what is not scored yet; returns the records of all ranges."""
    total, work = sum(file.size for file in plan.files) / 1e6, storage.join(output, storage.WORK)
    before, begun = _count(_records(tasks, output)[0], "rows"), time.monotonic()

    def megabytes() -> float:
        return min(total, total * storage.count_files(work, ".json") / len(tasks))

    pipeline = beam.Pipeline(options=options)
    score = PredictTask(model=plan.model, output=output)
    _ = pipeline | "Tasks" >> beam.Create(tasks) | "Spread" >> beam.Reshuffle() | "Score" >> beam.ParDo(score)
    progress = Progress("predict", total, "MB", megabytes())
    with watched(progress, megabytes):
        run_pipeline(pipeline)
    parts, missing = _records(tasks, output)
    if missing:
        raise DataError(f"Every range of the log must be scored. Received: not all of {missing[0]}; call it again.")
    rows = _count(parts, "rows")
    rate = (rows - before) / (time.monotonic() - begun)
    progress.close(f"{amount(rows)} rows, {_count(parts, 'rejects')} rejects, {amount(rate)} rows/s")
    return parts


def _records(tasks: Tasks, output: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What is known of the ranges that are scored, in the order of the log, and files that are not scored whole."""
    records, missing = [], []
    for task, _ in tasks:
        found, whole = finished(task, partial(record_path, output))
        records += found
        missing += [] if whole else [task.file.path]
    return records, missing


def _count(records: Sequence[dict[str, Any]], name: str) -> int:
    return sum(record[name] for record in records)


def _is_done(output: str, key: str) -> bool:
    """Whether the same call has finished; unfinished files of a killed one are removed.

    Raises:
        ConfigError: the output holds something else.
    """
    if os.path.isfile(output):
        raise ConfigError(f"--output must be a folder. Received: {output} (a file).")
    done, started = (_key_of(output, name) for name in (_MANIFEST, _STARTED))
    if done or not _is_unused(output, started):
        found = done or started
        if found != key:
            what = "predictions; use another folder" if found else "files"
            raise ConfigError(f"--output must be new or empty. Received: {output} (holds other {what}).")
    storage.remove_temporaries(output)
    if done:
        _clean(output)
    return done is not None


def _key_of(output: str, name: str) -> str | None:
    """The key in the manifest of an output, or in the file that says that a call began; None without such a file.

    Raises:
        ConfigError: another program wrote it.
    """
    path = storage.join(output, name)
    if not storage.exists(path):
        return None
    found = storage.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("key"), str):
        raise ConfigError(f"--output must be new or empty. Received: {output} (holds other files).")
    return str(found["key"])


def _is_unused(output: str, started: str | None) -> bool:
    """Whether nothing lies in an output, or only what a call left that scored nothing: then another one may begin."""
    if storage.is_remote(output):
        return started is None
    return not os.path.isdir(output) or all(name.startswith(_STARTED) for name in os.listdir(output))


def _clean(output: str) -> None:
    """Removes what only an unfinished call needs. The manifest is there: a kill in between loses nothing."""
    storage.remove(storage.join(output, _STARTED))
    storage.remove(storage.join(output, storage.WORK))

"""The steps of the job that makes examples: what one worker does to one range of a log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared

from features.errors import DataError
from features.layouts import write_examples
from features.rejects import write_rejects
from features.row_table import RowTable
from features.schema import Schema
from features.spec import SPLITS
from features.splits import Split
from features.transform import Transform
from pipeline import storage
from pipeline.analyze import Analysis, VocabularySettings, read_values, write_counts
from pipeline.batches import read_batch, write_batch
from pipeline.beam import phase
from pipeline.plan import Entry, Range, Task, arrange
from pipeline.reading import RangeRows, check_rejects, finished, read_ranges
from pipeline.settings import PreprocessConfig


@dataclass(frozen=True)
class Job:
    """What the job is to do; plain values, so that it travels to workers.

    Args:
        tasks: of the plan.
        schema: of the log.
        config: settings.
        examples: folder of the examples.
        rejected: folder of the rejects.
        parts: in how many parts the values of a column are merged.
    """

    tasks: tuple[Task, ...]
    schema: Schema
    config: PreprocessConfig
    examples: str
    rejected: str
    parts: int

    @property
    def split(self) -> Split:
        """How the rows are divided."""
        return Split.parse(self.config.split)

    @property
    def work(self) -> str:
        """Folder of what only this stage reads."""
        return storage.join(self.examples, storage.WORK)

    @property
    def vocabulary(self) -> str:
        """Folder of the vocabularies."""
        return storage.join(self.examples, "vocabulary")

    @property
    def analysis(self) -> str:
        """File of what the training rows say, apart from vocabularies."""
        return storage.join(self.work, "analysis.json")

    def file(self, kind: str, part: Range) -> str:
        """A file of a range: ``parsed`` (record), ``rows``, ``counts``, ``done`` (record)."""
        ending = "arrow" if kind in ("rows", "counts") else "json"
        return storage.join(self.work, f"{kind}-{part.name}.{ending}")

    def vocabularies(self) -> VocabularySettings:
        """How the vocabularies are made."""
        config = self.config
        return VocabularySettings(
            self.vocabulary,
            self.schema.categorical,
            config.min_count,
            config.max_vocabulary,
            config.oov_buckets,
            self.parts,
            self.schema.weight is not None,
        )


class ParseTask(beam.DoFn):
    """Parses the ranges of a task; yields the record of each.

    Args:
        job: what to do.
    """

    def __init__(self, *, job: Job) -> None:
        self._job = job

    def process(self, task: Task) -> Iterator[dict[str, Any]]:
        """Parses one task, apart from the ranges that an earlier attempt parsed."""
        record_path = partial(self._job.file, "parsed")
        records, whole = finished(task, record_path)
        yield from records
        if not whole:
            rest = read_ranges(task, self._job.schema, first=len(records))
            while True:
                with phase("parse"):
                    rows = next(rest, None)
                    if rows is None:
                        return
                    record = self._write(rows)
                yield record

    def _write(self, rows: RangeRows) -> dict[str, Any]:
        job = self._job
        write_batch(job.file("rows", rows.range), RowTable.of(rows.parts, job.schema, job.split).to_batch())
        record = {**rows.record(), "source": rows.source, "rejected": self._write_rejects(rows)}
        storage.write_json(job.file("parsed", rows.range), record)
        return record

    def _write_rejects(self, rows: RangeRows) -> dict[str, Any] | None:
        if not rows.rejects:
            return None
        name = f"{rows.range.name}.jsonl"
        with storage.publish(storage.join(self._job.rejected, name)) as writer:
            write_rejects(writer, rows.source, rows.rejects)
        return {"path": name, "bytes": writer.bytes, "checksum": writer.checksum}


def arrange_all(_: Any, parsed: list[dict[str, Any]], *, job: Job) -> list[Entry]:
    """The entries of all parsed ranges, in the order of the log.

    Raises:
        DataError: the runner has not parsed every range, too many lines are bad, or the split does not fit.
    """
    records = _in_order(parsed, job)
    lines, rejects = (sum(record[name] for record in records) for name in ("lines", "rejects"))
    check_rejects(rejects, lines, job.config.reject_limit, job.config.max_rejects, job.rejected)
    files = {task.index: task.file for task in job.tasks}
    return arrange(files, job.split, records)


def _in_order(parsed: list[dict[str, Any]], job: Job) -> list[dict[str, Any]]:
    """The records of all ranges, each once, in the order of the log."""
    found = {(record["file"], record["number"]): record for record in parsed}
    ordered = [found[place] for place in sorted(found)]
    for task in job.tasks:
        of_file = [record for record in ordered if record["file"] == task.index]
        planned = {part.number for part in task.ranges}
        numbers = [record["number"] for record in of_file]
        whole = planned <= set(numbers) if planned else numbers == list(range(len(of_file))) and bool(of_file)
        if not whole or (task.file.compressed and not of_file[-1]["last"]):
            raise DataError(
                f"Every range of the log must be parsed. Received: {len(of_file)} of {task.file.path}; call it again."
            )
    return ordered


class CountEntry(beam.DoFn):
    """Counts the training rows of a range; yields the name of the file with the counts.

    Args:
        job: what to do.
    """

    def __init__(self, *, job: Job) -> None:
        self._job = job

    def process(self, entry: Entry) -> Iterator[str]:
        """Counts one range, unless an earlier attempt has; a range without training rows gives nothing."""
        job = self._job
        if SPLITS[0] not in entry.shards:
            return
        path = job.file("counts", entry.range)
        # A finished range has no files left; everything is counted before the first one is finished.
        if not any(map(storage.exists, (path, job.file("done", entry.range)))):
            with phase("count"):
                table = RowTable.from_batch(read_batch(job.file("rows", entry.range)))
                rows = rows_of(table, entry, SPLITS[0])
                write_counts(path, table, rows, job.schema, entry.source, job.config.seed, job.parts)
        yield path


def rows_of(table: RowTable, entry: Entry, split: str) -> np.ndarray:
    """Numbers of the rows of a range that belong to a split: int64 [n]."""
    number = SPLITS.index(split)
    if table.splits is not None:
        return np.flatnonzero(table.splits == number)
    places = table.offsets if table.lines is None else table.lines
    limits = [0, *np.searchsorted(places, entry.bounds), len(places)]
    return np.arange(limits[number], limits[number + 1])


class TransformEntry(beam.DoFn):
    """Writes the shards of a range; yields their entries of the manifest.

    Args:
        job: what to do.
    """

    def __init__(self, *, job: Job) -> None:
        self._job = job
        self._shared = Shared()

    def process(self, entry: Entry, _: Any) -> Iterator[list[dict[str, Any]]]:
        """Writes one range, unless an earlier attempt has."""
        job = self._job
        done = job.file("done", entry.range)
        if not storage.exists(done):
            transform = self._shared.acquire(partial(load_transform, job))
            with phase("transform"):
                table = RowTable.from_batch(read_batch(job.file("rows", entry.range)))
                shards = [self._write(table, entry, split, transform) for split in entry.shards]
                storage.write_json(done, shards)
        # No longer needed; a log of any length leaves no more of these than there is work in progress.
        for kind in ("rows", "counts"):
            storage.remove(job.file(kind, entry.range))
        yield storage.read_json(done)

    def _write(self, table: RowTable, entry: Entry, split: str, transform: Transform) -> dict[str, Any]:
        job = self._job
        rows = rows_of(table, entry, split)
        name = f"{entry.shard(split)}.tfrecord"
        with storage.publish(storage.join(job.examples, name)) as writer:
            for block in transform.blocks(table, rows, entry.source, job.config.seed):
                write_examples(writer, block, job.schema, job.config.layout)
        return {
            "path": name,
            "split": split,
            "rows": len(rows),
            "clicks": int(table.labels[rows].sum()),
            "bytes": writer.bytes,
            "checksum": writer.checksum,
            "source": entry.source,
            "start": entry.range.start,
            "end": entry.range.end,
        }


def load_transform(job: Job) -> Transform:
    """Reads the fitted transform, once a process."""
    analysis = Analysis.from_json(storage.read_json(job.analysis))
    values = tuple(read_values(job.vocabulary, name) for name in job.schema.categorical)
    return Transform(analysis.numeric, values, job.config.oov_buckets)

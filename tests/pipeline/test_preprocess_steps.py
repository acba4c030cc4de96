"""What one worker does to one range: once, and again after an attempt that was cut off."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.internal import cloudpickle_pickler, pickler

from features.errors import DataError
from features.row_table import RowTable
from features.schema import CATEGORICAL, FLOAT, GROUP, LABEL, Column, Schema
from features.spec import SPLITS
from features.splits import LINES, Split
from models.pseudo_subclasses import Shuffled
from pipeline import storage
from pipeline.analyze import MergeColumn, merge_analysis
from pipeline.batches import read_batch
from pipeline.derive import DeriveShard, SumShard
from pipeline.plan import ALL, Entry, Range, Task, log_sizes, plan
from pipeline.precompute import ScoreShard, TeacherFiles
from pipeline.predict import PredictTask
from pipeline.preprocess_steps import CountEntry, Job, ParseTask, TransformEntry, arrange_all, rows_of
from pipeline.settings import PreprocessConfig
from pipeline.storage import InputFile, find_inputs
from pipeline.teacher_embeddings import MomentsOfShard, RequireWidth

SCHEMA = Schema((Column("y", LABEL), Column("x", FLOAT), Column("u", GROUP), Column("c", CATEGORICAL)), ",")


def job_of(folder: Path, name: str = "log.csv", **settings: Any) -> Job:
    """A job for a log of 200 lines, 5 of which are bad."""
    lines = ["bad" if i % 40 == 9 else f"{i % 2},{i / 8},u{i % 9},c{i % 13}" for i in range(200)]
    path = folder / name
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    config = PreprocessConfig(**({"max_rejects": "5%"} | settings))
    files = find_inputs([str(path)])
    tasks = plan(files, log_sizes(files, SCHEMA), SCHEMA, Split.parse(config.split), 1 << 20)
    return Job(tuple(tasks), SCHEMA, config, str(folder / "examples"), str(folder / "rejected"), 2)


def parse(job: Job) -> list[dict[str, Any]]:
    return [record for task in job.tasks for record in ParseTask(job=job).process(task)]


def count(job: Job, entries: list[Entry]) -> list[str]:
    return [name for entry in entries for name in CountEntry(job=job).process(entry)]


def merge(job: Job, counts: list[str]) -> None:
    for column in range(len(SCHEMA.categorical)):
        list(MergeColumn(settings=job.vocabularies()).process(column, counts, len(counts)))
    merge_analysis(None, counts, len(counts), schema=SCHEMA, path=job.analysis)


def transform(job: Job, entries: list[Entry]) -> list[dict[str, Any]]:
    step = TransformEntry(job=job)
    return [shard for entry in entries for shards in step.process(entry, None) for shard in shards]


def inodes(*folders: str) -> dict[str, int]:
    paths = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path): path.stat().st_ino for path in paths}


@pytest.fixture(params=["log.csv", "log.csv.gz"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    return job_of(tmp_path, request.param)


def test_all_steps(job: Job) -> None:
    records = parse(job)
    assert len(records) > 20
    assert [sum(record[name] for record in records) for name in ("lines", "rows", "rejects")] == [200, 195, 5]
    rejected = [record["rejected"] for record in records if record["rejected"]]
    assert {item["path"]: item["bytes"] for item in rejected} == {
        path.name: path.stat().st_size for path in Path(job.rejected).iterdir()
    }
    entries = arrange_all(None, records[::-1], job=job)
    names = count(job, entries)
    assert names == [job.file("counts", entry.range) for entry in entries if "train" in entry.shards]
    assert len(names) < len(entries)
    merge(job, names)
    shards = transform(job, entries)
    assert sum(shard["rows"] for shard in shards) == 195
    kinds = {name.split("-")[0] for name in os.listdir(job.work)}
    assert kinds == {"parsed", "done", "analysis.json"}, "rows and counts of a finished range are removed"


def test_what_is_done_is_not_done_again(job: Job) -> None:
    """At any point between two files."""
    entries = arrange_all(None, parse(job), job=job)
    before = inodes(job.work, job.rejected)
    records = parse(job)
    names = count(job, entries)
    assert before == {name: inode for name, inode in inodes(job.work, job.rejected).items() if name not in names}
    counted = inodes(job.work)
    assert count(job, entries) == names and inodes(job.work) == counted
    merge(job, names)
    half = len(entries) // 2
    shards = transform(job, entries[:half])
    made = inodes(job.examples)
    # Again from the beginning.
    assert parse(job) == records and count(job, entries) == names
    merge(job, names)
    assert inodes(job.examples) == made
    assert transform(job, entries)[: len(shards)] == shards
    after = inodes(job.examples)
    assert all(after[name] == inode for name, inode in made.items() if "rows-" not in name and "counts-" not in name)


def test_a_stream_goes_on_at_the_first_missing_range(tmp_path: Path) -> None:
    job = job_of(tmp_path, "log.csv.gz")
    records, before = parse(job), inodes(job.work)
    for part in (records[5], records[9]):
        os.remove(job.file("parsed", Range(0, part["number"], 0, 0)))
    assert parse(job) == records
    after = inodes(job.work)
    kept = {name for name in before if after[name] == before[name]}
    assert {int(name[-11:-5]) for name in kept if "parsed" in name} == {0, 1, 2, 3, 4}


class TestArrangeAll:
    def test_each_range_once(self, job: Job) -> None:
        records = parse(job)
        twice = arrange_all(None, [*records, *records[::3]], job=job)
        assert twice == arrange_all(None, records, job=job)
        assert [entry.range.number for entry in twice] == list(range(len(records)))

    @pytest.mark.parametrize("lost", [slice(0, 1), slice(4, 5), slice(-1, None), slice(None)])
    def test_ranges_that_the_runner_lost_are_missed(self, job: Job, lost: slice) -> None:
        records = parse(job)
        del records[lost]
        message = (
            rf"^Every range of the log must be parsed\. Received: {len(records)} of .*log\.csv\S*; call it again\."
        )
        with pytest.raises(DataError, match=message):
            arrange_all(None, records, job=job)

    @pytest.mark.parametrize(("limit", "accepted"), [("2.5%", True), ("2.4%", False)])
    def test_too_many_rejects(self, tmp_path: Path, limit: str, accepted: bool) -> None:
        job = job_of(tmp_path, max_rejects=limit)
        records = parse(job)
        if accepted:
            assert arrange_all(None, records, job=job)
        else:
            with pytest.raises(DataError, match=rf"^At most {limit} of the lines must be bad\. Received: 5 of 200 \("):
                arrange_all(None, records, job=job)


@pytest.mark.parametrize(
    ("split", "bounds", "expected"),
    [
        ("70/15/15", (50, 61), [[0, 1], [2, 3], [4]]),
        ("70/15/15", (0, ALL), [[], [0, 1, 2, 3, 4], []]),
        ("70/15/15", (ALL, ALL), [[0, 1, 2, 3, 4], [], []]),
        # Numbers of lines: the second and the fourth line are rejects.
        ("3/2/2", (3, 5), [[0, 1], [2], [3, 4]]),
        ("files:1/1/1", (-1, -1), [[], [], [0, 1, 2, 3, 4]]),
        ("hash:c:70/15/15", (ALL, ALL), [[1, 3], [0, 4], [2]]),
    ],
)
def test_rows_of_a_split(split: str, bounds: tuple[int, int], expected: list[list[int]]) -> None:
    how = Split.parse(split)
    numbers = np.array([1, 0, 2, 0, 1], np.uint8) if how.by_row else None
    offsets = np.array([10, 30, 50, 60, 70])
    lines = np.array([0, 2, 4, 5, 6]) if how.method == LINES else None
    table = RowTable(offsets, np.zeros(5, np.uint8), [], [], lines, splits=numbers)
    entry = Entry(Range(0, 0, 0, 99), "log", bounds, dict.fromkeys(SPLITS, 0))
    assert [rows_of(table, entry, name).tolist() for name in SPLITS] == expected


def test_rows_carry_their_split(tmp_path: Path) -> None:
    """The text that decides is not kept."""
    job = job_of(tmp_path, split="hash:u:60/20/20")
    parse(job)
    tables = [RowTable.from_batch(read_batch(job.file("rows", part))) for task in job.tasks for part in task.ranges]
    by_group: dict[int, set[int]] = {}
    for table in tables:
        assert table.splits is not None and table.groups is not None
        for group, split in zip(table.groups.tolist(), table.splits.tolist(), strict=True):
            by_group.setdefault(group, set()).add(split)
    assert len(by_group) == 9 and all(len(splits) == 1 for splits in by_group.values())


def functions() -> Iterator[beam.DoFn]:
    task = Task(InputFile("log", 1, 2), 0, (Range(0, 0, 0, 1),))
    job = Job((task,), SCHEMA, PreprocessConfig(), "examples", "rejected", 1)
    yield from (kind(job=job) for kind in (ParseTask, CountEntry, TransformEntry))
    yield MergeColumn(settings=job.vocabularies())
    yield PredictTask(model="model", output="output")
    teacher = TeacherFiles(("model",), 0, "key")
    yield ScoreShard(teacher=teacher, examples="examples", targets="targets")
    yield MomentsOfShard(teacher=teacher, examples="examples", moments="moments", every=1)
    yield RequireWidth(teacher=teacher, examples="examples", embedding=4, slices={})
    stored = {"examples": "examples", "targets": "targets", "teacher": "key"}
    yield SumShard(**stored, outcome=None, sums="sums")
    yield DeriveShard(**stored, derived="derived", fingerprint="other", conditionals=Shuffled(3))


@pytest.mark.parametrize("library", [pickler, cloudpickle_pickler])
@pytest.mark.parametrize("function", list(functions()), ids=lambda function: type(function).__name__)
def test_every_function_of_a_worker_travels(function: beam.DoFn, library: Any) -> None:
    again = library.loads(library.dumps(function))
    assert type(again) is type(function)
    settings = {name: value for name, value in vars(function).items() if name != "_shared"}
    assert {name: vars(again)[name] for name in settings} == settings


def test_paths_of_a_job(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    part = Range(3, 12, 0, 1)
    assert [job.file(kind, part) for kind in ("parsed", "rows", "counts", "done")] == [
        f"{tmp_path}/examples/.work/{name}"
        for name in (
            "parsed-00003-000012.json",
            "rows-00003-000012.arrow",
            "counts-00003-000012.arrow",
            "done-00003-000012.json",
        )
    ]
    assert job.analysis == storage.join(job.work, "analysis.json")

"""Ranges and splits of a log, against every byte and every line on its own."""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import ConfigError, DataError
from features.schema import CRITEO, PARQUET, Schema
from features.spec import SPLITS
from features.splits import Split
from pipeline.plan import MIN_TRAIN_SHARDS, Entry, Range, Task, arrange, count_parquet_rows, divide, log_sizes, plan
from pipeline.storage import InputFile, find_inputs

DEFAULT = Split.parse("70/15/15")
PARQUET_SCHEMA = Schema(CRITEO.columns, format=PARQUET)
PACKS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def log(folder: Path, name: str, data: bytes) -> InputFile:
    path = folder / name
    path.write_bytes(PACKS[path.suffix](data))
    return find_inputs([str(path)])[0]


def parquet(folder: Path, name: str, rows: int) -> InputFile:
    noise = np.random.default_rng(0).integers(1 << 60, size=rows)
    pq.write_table(pa.table({"a": noise}), folder / name, row_group_size=100, compression="none", use_dictionary=False)
    return find_inputs([str(folder / name)])[0]


def plan_of(files: list[InputFile], schema: Schema, split: Split, shard_bytes: int) -> list[Task]:
    """The plan of files as they are."""
    return plan(files, log_sizes(files, schema), schema, split, shard_bytes)


def ranges(tasks: list[Task]) -> list[Range]:
    return [part for task in tasks for part in task.ranges]


class TestPlan:
    @given(
        sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=5).filter(any),
        packs=st.lists(st.sampled_from(list(PACKS)), min_size=5, max_size=5),
        train=st.integers(1, 98),
        shard_bytes=st.integers(1, 5000),
    )
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_each_byte_is_in_one_range_in_order(
        self, tmp_path: Path, sizes: list[int], packs: list[str], train: int, shard_bytes: int
    ) -> None:
        files = [log(tmp_path, f"{i}{packs[i]}", b"x" * size) for i, size in enumerate(sizes)]
        tasks = plan_of(files, CRITEO, Split.parse(f"{train}/{99 - train}/1"), shard_bytes)
        assert [task.index for task in tasks] == sorted(task.index for task in tasks)
        assert {task.index for task in tasks} == {index for index, size in enumerate(sizes) if size}
        most = min(shard_bytes, max(math.ceil(sum(sizes) / 1024), math.ceil(sum(sizes) * train / 99 / 16)))
        for index, (file, size) in enumerate(zip(files, sizes, strict=True)):
            mine = [task for task in tasks if task.index == index]
            assert all(task.file == file for task in mine)
            if file.compressed and size:
                (task,) = mine
                assert not task.ranges and 0 < task.step <= most + 1
                first = list(itertools.islice(task.all_ranges(), 3))
                assert [part.start for part in first] == [0, task.step, 2 * task.step]
                assert [part.end for part in first] == [task.step, 2 * task.step, 3 * task.step]
            else:
                found = ranges(mine)
                assert all(len(task.ranges) == 1 and list(task.all_ranges()) == list(task.ranges) for task in mine)
                assert [part.number for part in found] == list(range(len(found)))
                bounds = [0, *(part.end for part in found)]
                assert [part.start for part in found] == bounds[:-1] and bounds[-1] == size
                assert all(0 < part.end - part.start <= most + 1 for part in found)

    def test_training_has_enough_shards(self, tmp_path: Path) -> None:
        for split in (DEFAULT, Split.parse("10/80/10"), Split.parse("hash:C1:50/25/25"), Split.parse("time:1/2")):
            found = ranges(plan_of([log(tmp_path, "log", b"x" * 100_000)], CRITEO, split, 1 << 20))
            share = split.parts[0] if split.parts else 1
            assert sum(part.end <= math.ceil(100_000 * share) for part in found) >= MIN_TRAIN_SHARDS

    def test_a_small_training_part_leaves_no_crumbs(self, tmp_path: Path) -> None:
        """The training files may be small beside the others, or empty."""
        files = [log(tmp_path, "a", b"x" * 10), log(tmp_path, "b", b"x" * 100_000), log(tmp_path, "c", b"")]
        for order, split in ((files, "files:1/2/0"), (files[::-1], "files:1/1/1"), (files, "hash:C1:0.001/99/0.999")):
            tasks = plan_of(order, CRITEO, Split.parse(split), 1 << 20)
            assert 500 < len(ranges(tasks)) <= 1026

    def test_large_logs_have_ranges_of_the_given_size(self) -> None:
        found = ranges(plan_of([InputFile("log", 1 << 30, 0)], CRITEO, DEFAULT, 10 << 20))
        sizes = [part.end - part.start for part in found]
        assert len(sizes) == 103 and max(sizes) <= 10 << 20 and min(sizes) > 9 << 20

    @pytest.mark.parametrize("ending", [".gz", ".zst"])
    def test_the_size_of_a_large_compressed_file_is_estimated(self, tmp_path: Path, ending: str) -> None:
        noise = np.random.default_rng(0).integers(8, size=5 << 20, dtype=np.uint8).tobytes()
        file = log(tmp_path, f"log{ending}", noise)
        (task,) = plan_of([file], CRITEO, Split.parse("80/10/10"), 1 << 30)
        assert task.step == pytest.approx((5 << 20) * 0.8 / 16, rel=0.05)

    def test_parquet(self, tmp_path: Path) -> None:
        files = [parquet(tmp_path, "a", 1000), parquet(tmp_path, "b", 0), parquet(tmp_path, "c", 1)]
        tasks = plan_of(files, PARQUET_SCHEMA, DEFAULT, 1 << 20)
        found = ranges(tasks)
        assert [part.file for part in found] == [0] * (len(found) - 1) + [2]
        assert [found[0].start, found[-2].end, found[-1].start, found[-1].end] == [0, 1000, 0, 1]
        # 8 bytes a row: 16 ranges or a few more are training.
        assert 700 / 16 * 0.9 <= found[0].end <= 700 / 16 + 1
        assert count_parquet_rows(files[0]) == 1000

    def test_a_compressed_parquet_file(self) -> None:
        with pytest.raises(
            ConfigError, match=r"^A parquet file must not be compressed as a whole\. Received: a\.gz\.$"
        ):
            plan_of([InputFile("a.gz", 10, 0)], PARQUET_SCHEMA, DEFAULT, 100)

    def test_only_empty_files(self, tmp_path: Path) -> None:
        files = [log(tmp_path, "a", b""), log(tmp_path, "b.gz", b""), log(tmp_path, "c.zst", b"")]
        message = r"The input must hold rows\. Received: only empty files \(.*a, .*b\.gz, .*c\.zst\)"
        with pytest.raises(DataError, match=message):
            plan_of(files, CRITEO, DEFAULT, 100)

    def test_another_number_of_files(self) -> None:
        message = r"^--split files: must add up to the files of the input\. Received: 1/2/0 for 1 files\.$"
        with pytest.raises(DataError, match=message):
            plan_of([InputFile("log", 10, 0)], CRITEO, Split.parse("files:1/2/0"), 100)


def test_divide() -> None:
    assert divide(4, 10, 3) == [Range(4, 0, 0, 3), Range(4, 1, 3, 6), Range(4, 2, 6, 10)]
    assert divide(0, 5, 1) == [Range(0, 0, 0, 5)]


def test_names_are_in_the_order_of_the_log() -> None:
    places = [Range(file, number, 0, 1) for file in (0, 9, 10) for number in (0, 9, 10, 99_999)]
    assert places[0].name == "00000-000000"
    assert [part.name for part in places] == sorted(part.name for part in places)


Parsed = list[dict[str, Any]]


@st.composite
def parsed_logs(draw: st.DrawFn) -> Parsed:
    """Ranges of some files as records; each begins where the one before ends."""
    found: Parsed = []
    for file in draw(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True).map(sorted)):
        start = 0
        for number in range(draw(st.integers(1, 4))):
            end = start + draw(st.integers(1, 30))
            found.append({"file": file, "number": number, "start": start, "end": end, "lines": draw(st.integers(0, 9))})
            start = end
    return found


def files_for(parsed: Parsed) -> dict[int, InputFile]:
    return {item["file"]: InputFile(f"file-{item['file']}", 1, 0) for item in parsed}


def places(entry: Entry, item: dict[str, Any], of_lines: bool) -> dict[str, list[int]]:
    """The positions in a range that belong to each split."""
    positions = range(item["lines"]) if of_lines else range(item["start"], item["end"])
    limits = [-math.inf, *entry.bounds, math.inf]
    return {
        split: [position for position in positions if limits[number] <= position < limits[number + 1]]
        for number, split in enumerate(SPLITS)
    }


def check(entries: list[Entry], parsed: Parsed, expected: list[str], of_lines: bool) -> None:
    """Each position of the log, in order, is in the expected split, and every range is a shard of its splits."""
    found: list[str] = []
    numbers = dict.fromkeys(SPLITS, 0)
    for entry, item in zip(entries, parsed, strict=True):
        assert entry.range == Range(item["file"], item["number"], item["start"], item["end"])
        assert entry.source == f"file-{item['file']}"
        of_split = places(entry, item, of_lines)
        found += [split for split in SPLITS for _ in of_split[split]]
        assert entry.shards == {split: numbers[split] for split in SPLITS if of_split[split]}
        for split in entry.shards:
            assert entry.shard(split) == f"{split}/shard-{numbers[split]:05d}"
            numbers[split] += 1
    assert found == expected


class TestArrange:
    @given(
        parsed=parsed_logs(), shares=st.tuples(st.integers(1, 98), st.integers(1, 98)).filter(lambda p: sum(p) < 101)
    )
    def test_by_bytes(self, parsed: Parsed, shares: tuple[int, int]) -> None:
        split = Split.parse(f"{shares[0]}/{shares[1]}/{100 - sum(shares)}")
        total = sum(item["end"] - item["start"] for item in parsed)
        train, end = round(total * (shares[0] / 100)), round(total * (shares[0] / 100 + shares[1] / 100))
        if sum(shares) == 100:
            end = total
        expected = ["train"] * train + ["valid"] * (end - train) + ["test"] * (total - end)
        check(arrange(files_for(parsed), split, parsed), parsed, expected, of_lines=False)

    @given(parsed=parsed_logs(), data=st.data())
    def test_by_lines(self, parsed: Parsed, data: st.DataObject) -> None:
        total = sum(item["lines"] for item in parsed) + 2
        parsed[-1]["lines"] += 2
        train = data.draw(st.integers(1, total - 1))
        valid = data.draw(st.integers(1, total - train))
        parts = [train, valid, total - train - valid]
        split = Split("lines", tuple(map(float, parts)))
        expected = [name for name, part in zip(SPLITS, parts, strict=True) for _ in range(part)]
        check(arrange(files_for(parsed), split, parsed), parsed, expected, of_lines=True)

    @given(parsed=parsed_logs(), data=st.data())
    def test_by_files(self, parsed: Parsed, data: st.DataObject) -> None:
        """The numbers of empty files count too."""
        train, valid = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
        split = Split.parse(f"files:{train}/{valid}/{10 - train - valid}")
        number = [0] * train + [1] * valid + [2] * (10 - train - valid)
        expected = [SPLITS[number[item["file"]]] for item in parsed for _ in range(item["end"] - item["start"])]
        check(arrange(files_for(parsed), split, parsed), parsed, expected, of_lines=False)

    @given(parsed=parsed_logs(), text=st.sampled_from(["hash:C1:70/15/15", "time:1/2"]))
    def test_by_row(self, parsed: Parsed, text: str) -> None:
        """A range may hold rows of any split."""
        entries = arrange(files_for(parsed), Split.parse(text), parsed)
        assert [entry.shards for entry in entries] == [dict.fromkeys(SPLITS, number) for number in range(len(parsed))]

    @pytest.mark.parametrize("text", ["6/3/0", "6/3/2", "5/4/0", "20/1/1"])
    def test_other_numbers_than_there_are_lines(self, text: str) -> None:
        parsed = [{"file": 0, "number": n, "start": n, "end": n + 1, "lines": 5} for n in range(2)]
        total = sum(map(int, text.split("/")))
        message = rf"^--split in lines must add up .* Received: {text}, {total} in all, for 10 lines\.$"
        with pytest.raises(DataError, match=message):
            arrange(files_for(parsed), Split.parse(text), parsed)

"""Ranges of a log as rows: each line once, whatever the file, and the same ones when reading begins in the middle."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import ArtifactError, DataError
from features.lines import Chunk, LineReader
from features.parsing import parse_chunk
from features.rejects import Reject
from features.rows import ParsedRows
from features.schema import CATEGORICAL, FLOAT, LABEL, Column, Schema
from pipeline import reading, storage
from pipeline.plan import Range, Task, divide
from pipeline.reading import RangeRows, finished, map_ranges, read_ranges
from pipeline.storage import InputFile, find_inputs

COLUMNS = (Column("y", LABEL), Column("x", FLOAT), Column("c", CATEGORICAL))
TEXT = Schema(COLUMNS, ",")
SCHEMAS = {"csv": TEXT, "jsonl": Schema(COLUMNS, format="json"), "parquet": Schema(COLUMNS, format="parquet")}
PACKS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def lines_of(number: int, format: str = "csv") -> list[bytes]:
    """Some lines, every seventh of which is bad."""
    if format == "jsonl":
        good = [json.dumps({"y": i % 2, "x": i / 4, "c": f"c{i}"}) for i in range(number)]
    else:
        good = [f"{i % 2},{i / 4},c{i}" for i in range(number)]
    return [b"bad" if i % 7 == 3 else line.encode() for i, line in enumerate(good)]


def write(path: Path, data: bytes) -> InputFile:
    path.write_bytes(PACKS[path.suffix if path.suffix in PACKS else ""](data))
    return find_inputs([str(path)])[0]


def tasks_of(file: InputFile, size: int, pieces: int) -> list[Task]:
    if file.compressed:
        return [Task(file, 2, (), -(-size // pieces))]
    return [Task(file, 2, (part,)) for part in divide(2, size, pieces)]


def read(tasks: Sequence[Task], schema: Schema = TEXT, labelled: bool = True) -> list[RangeRows]:
    return [found for task in tasks for found in read_ranges(task, schema, labelled)]


def places(found: Sequence[RangeRows]) -> list[tuple[int, bool]]:
    """Offset of every line in order, and whether it is a row."""
    return sorted(
        [(int(offset), True) for rows in found for part in rows.parts for offset in part.offsets]
        + [(reject.offset, False) for rows in found for reject in rows.rejects]
    )


def expected_places(lines: Sequence[bytes], begin: int = 0) -> list[tuple[int, bool]]:
    starts = itertools.accumulate((len(line) + 1 for line in lines), initial=begin)
    return [(start, line != b"bad") for start, line in zip(starts, lines, strict=False)]


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("format", ["csv", "jsonl"])
@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_each_line_once(tmp_path: Path, pack: str, format: str, pieces: int) -> None:
    lines = lines_of(200, format)
    data = b"\n".join(lines)
    file = write(tmp_path / f"log.{format}{pack}", data)
    found = read(tasks_of(file, len(data), pieces), SCHEMAS[format])
    assert places(found) == expected_places(lines)
    assert [rows.range.number for rows in found] == list(range(len(found)))
    assert [rows.range.start for rows in found] == [0, *(rows.range.end for rows in found[:-1])]
    assert found[-1].range.end == len(data) and found[-1].last
    for rows in found:
        assert rows.source == file.path and rows.range.file == 2
        assert rows.last == (not file.compressed or rows is found[-1])
        assert all(rows.range.start <= place < rows.range.end for place, _ in places([rows]))


@given(
    lines=st.lists(st.sampled_from([b"1,2,c", b"bad", b"0,,a much longer value than the others"]), max_size=40),
    step=st.integers(1, 300),
    first=st.integers(0, 5),
    pack=st.sampled_from(list(PACKS)),
    end=st.sampled_from([b"", b"\n"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_may_begin_at_any_range(
    tmp_path: Path, lines: list[bytes], step: int, first: int, pack: str, end: bytes, mark: bytes
) -> None:
    data = mark + b"\n".join(lines) + (end if lines else b"")
    file = write(tmp_path / f"log{pack}", data)
    task = Task(file, 0, (), step) if pack else Task(file, 0, (Range(0, 0, 0, len(data)),))
    whole = list(read_ranges(task, TEXT))
    assert places(whole) == expected_places(lines, len(mark))
    assert [rows.last for rows in whole] == [False] * (len(whole) - 1) + [True]
    first = min(first, len(whole) - 1)
    rest = list(read_ranges(task, TEXT, first=first))
    assert [rows.record() for rows in rest] == [rows.record() for rows in whole[first:]]
    assert places(rest) == places(whole[first:])


def test_a_record(tmp_path: Path) -> None:
    lines = lines_of(20)
    file = write(tmp_path / "log.csv", b"\n".join(lines) + b"\n")
    (rows,) = read([Task(file, 3, (Range(3, 5, 0, file.size),))])
    assert rows.record() == {
        "file": 3,
        "number": 5,
        "start": 0,
        "end": file.size,
        "lines": 20,
        "rows": 17,
        "rejects": 3,
        "last": True,
    }
    assert [reject.raw for reject in rows.rejects] == [b"bad"] * 3


def test_a_range_without_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", b"1,2,a long value\n0,1,c\n")
    (rows,) = read([Task(file, 0, (Range(0, 1, 5, 10),))])
    assert rows.parts == [] and rows.record()["lines"] == 0


def test_without_labels(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", b"2,a\n3,b\n")
    (rows,) = read(tasks_of(file, file.size, 1), labelled=False)
    assert rows.parts[0].labels is None and rows.parts[0].numbers().ravel().tolist() == [2, 3]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pack", PACKS)
def test_a_header_is_no_line(tmp_path: Path, pack: str, mark: bytes) -> None:
    lines = lines_of(30)
    data = mark + b"y,x,c\n" + b"\n".join(lines)
    file = write(tmp_path / f"log{pack}", data)
    found = read(tasks_of(file, len(data), 4), Schema(COLUMNS, ",", header=True))
    assert places(found) == expected_places(lines, len(mark) + 6)
    assert sum(rows.record()["lines"] for rows in found) == 30


def test_a_wrong_header_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", b"y,c,x\n1,2,c\n")
    with pytest.raises(DataError, match=r"^The header of the log must name .* File: .*/log\.csv\.$"):
        read(tasks_of(file, file.size, 1), Schema(COLUMNS, ",", header=True))


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    columns = {
        "y": [i % 2 if i % 7 != 3 else 2 for i in range(100)],
        "x": [i / 4 for i in range(100)],
        "c": ["c"] * 100,
    }
    pq.write_table(pa.table(columns), path, row_group_size=30)
    (file,) = find_inputs([str(path)])
    found = read(tasks_of(file, 100, 3), SCHEMAS["parquet"])
    assert places(found) == [(i, i % 7 != 3) for i in range(100)]
    assert [rows.record()["lines"] for rows in found] == [33, 33, 34]


def test_a_line_that_the_parser_loses_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser with a fault stands in for ours, which is not known to have it."""
    file = write(tmp_path / "log.csv", b"1,2,a\n0,3,b\n")

    def lose(chunk: Chunk, schema: Schema, labelled: bool) -> ParsedRows:
        rows = parse_chunk(chunk, schema, labelled)
        return ParsedRows(rows.offsets[1:], None, None, [], [], [], rows.rejects)

    monkeypatch.setattr(reading, "parse_chunk", lose)
    message = (
        r"^Every line must end as a row or a reject\. Received: 2 lines, 1 rows and rejects \(.*, 12 bytes from 0\)"
    )
    with pytest.raises(DataError, match=message):
        read(tasks_of(file, file.size, 1))


def test_chunks_are_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(100)
    file = write(tmp_path / "log.csv", b"\n".join(lines))
    monkeypatch.setattr(reading, "LineReader", partial(LineReader, chunk_bytes=100))
    (rows,) = read(tasks_of(file, file.size, 1))
    assert len(rows.parts) > 8 and places([rows]) == expected_places(lines)


@pytest.mark.parametrize("format", SCHEMAS)
def test_a_file_that_is_not_there(format: str) -> None:
    task = Task(InputFile("/none", 10, 0), 0, (Range(0, 0, 0, 10),))
    with pytest.raises(ArtifactError, match=r"^A file must exist and be readable\. Received: /none \(No such file"):
        read([task], SCHEMAS[format])


def test_a_file_that_cannot_be_read() -> None:
    """The first page of a process's memory is never there."""
    task = Task(InputFile("/proc/self/mem", 10, 0), 0, (Range(0, 0, 0, 10),))
    with pytest.raises(ArtifactError) as error:
        read([task])
    assert str(error.value) == "A file must be readable to its end. Received: /proc/self/mem (Input/output error)."


class TestFinished:
    def records(self, folder: Path, task: Task, number: int) -> None:
        for part, last in zip(task.all_ranges(), [False] * (number - 1) + [True], strict=False):
            storage.write_json(f"{folder}/{part.name}", {"number": part.number, "last": last})

    def find(self, folder: Path, task: Task) -> tuple[list[int], bool]:
        records, whole = finished(task, lambda part: f"{folder}/{part.name}")
        return [record["number"] for record in records], whole

    def test_of_a_stream(self, tmp_path: Path) -> None:
        task = Task(InputFile("log.gz", 10, 0), 1, (), 4)
        assert self.find(tmp_path, task) == ([], False)
        self.records(tmp_path, task, 5)
        assert self.find(tmp_path, task) == ([0, 1, 2, 3, 4], True)
        (tmp_path / "00001-000002").unlink()
        assert self.find(tmp_path, task) == ([0, 1], False)

    def test_of_one_range(self, tmp_path: Path) -> None:
        task = Task(InputFile("log", 10, 0), 1, (Range(1, 3, 5, 10),))
        assert self.find(tmp_path, task) == ([], False)
        storage.write_json(f"{tmp_path}/00001-000003", {"number": 3, "last": True})
        assert self.find(tmp_path, task) == ([3], True)


@dataclass(frozen=True)
class Kept:
    """What a caller keeps of a chunk; the rows are let go."""

    offsets: list[int]
    rejects: list[Reject]

    def __len__(self) -> int:
        return len(self.offsets)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_less_may_be_kept_than_the_rows(tmp_path: Path, pack: str, format: str) -> None:
    data = b"\n".join(lines_of(200, format))
    tasks = tasks_of(write(tmp_path / f"log.{format}{pack}", data), len(data), 3)

    def keep(rows: ParsedRows) -> Kept:
        return Kept(rows.offsets.tolist(), rows.rejects)

    whole = read(tasks, SCHEMAS[format])
    kept = [found for task in tasks for found in map_ranges(keep, task, SCHEMAS[format])]
    assert [found.record() for found in kept] == [found.record() for found in whole]
    assert [found.rejects for found in kept] == [found.rejects for found in whole]
    offsets = [place for found in kept for part in found.parts for place in part.offsets]
    assert offsets == [place for place, good in places(whole) if good]

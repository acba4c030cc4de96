"""Counts of ranges and what they are merged to, against counters of Python's."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import DataError
from features.hashing import FOLDS, folds
from features.row_table import RowTable
from features.schema import CATEGORICAL, FLOAT, LABEL, WEIGHT, Column, Schema
from features.splits import Split
from features.vocabulary import Vocabulary
from pipeline.analyze import (
    Analysis,
    MergeColumn,
    VocabularySettings,
    complete,
    count_ids,
    merge_analysis,
    read_values,
    read_vocabulary,
    vocabulary_path,
    write_counts,
)
from pipeline.plan import Range, Task, divide
from pipeline.reading import read_ranges
from pipeline.storage import InputFile, find_inputs

SEED = 5
SPLIT = Split.parse("70/15/15")
COLUMNS = (Column("a", CATEGORICAL), Column("y", LABEL), Column("x", FLOAT), Column("b/c", CATEGORICAL))
PLAIN = Schema(COLUMNS, ",")
WEIGHTED = Schema((*COLUMNS, Column("w", WEIGHT)), ",")


@dataclass(frozen=True)
class Log:
    """A log, and of its training rows (those in odd lines): fold and fields."""

    file: InputFile
    schema: Schema
    rows: list[tuple[int, list[str]]]

    def weight(self, fields: list[str]) -> float:
        return float(fields[4]) if self.schema.weight else 1.0


def make_log(folder: Path, schema: Schema, lines: int = 400) -> Log:
    rng, data, rows, offset = np.random.default_rng(3), [], [], 0
    path = folder / "log.csv"
    for number in range(lines):
        unique = hex(rng.integers(1 << 60))[2 : 2 + rng.integers(1, 14)]
        fields = [rng.choice(["", "x", "y", "a longer value", unique]), str(rng.integers(2))]
        fields += [rng.choice(["", "0", "-3.5", "1e3", str(rng.random())]), str(rng.geometric(0.1))]
        fields += [rng.choice(["0", "0.25", "1", "7.5"])] if schema.weight else []
        data.append((",".join(fields) + "\n").encode())
        if number % 2:
            rows.append((int(folds(np.array([offset]), str(path), SEED)[0]), fields))
        offset += len(data[-1])
    path.write_bytes(b"".join(data))
    return Log(find_inputs([str(path)])[0], schema, rows)


@pytest.fixture(params=[PLAIN, WEIGHTED], ids=["plain", "weighted"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    return make_log(tmp_path, request.param)


def write_all(log: Log, folder: Path, ranges: int, parts: int = 1) -> list[str]:
    """The files with the counts of the rows in odd lines; each range is read on its own."""
    names, before = [], 0
    for part in divide(0, log.file.size, ranges):
        (rows,) = read_ranges(Task(log.file, 0, (part,)), log.schema)
        table = RowTable.of(rows.parts, log.schema, SPLIT)
        chosen = np.flatnonzero((np.arange(len(table)) + before) % 2)
        before += len(table)
        names.append(str(folder / f"counts-{part.name}.arrow"))
        write_counts(names[-1], table, chosen, log.schema, log.file.path, SEED, parts)
    return names


def settings(log: Log, folder: Path, parts: int = 1, **limits: int) -> VocabularySettings:
    chosen = {"min_count": 1, "max_size": 1000, "buckets": 0} | limits
    return VocabularySettings(
        str(folder), log.schema.categorical, **chosen, parts=parts, weighted=log.schema.weight is not None
    )


def merge(log: Log, folder: Path, ranges: int = 7, parts: int = 1, **limits: int) -> list[Vocabulary]:
    names = write_all(log, folder / "work", ranges, parts)
    merging = MergeColumn(settings=settings(log, folder, parts, **limits))
    for number in range(2):
        # Beam gives the names in any order, and may give one twice.
        assert list(merging.process(number, [*names[::-1], names[0]], ranges)) == [number]
    found = [read_vocabulary(str(folder), name) for name in log.schema.categorical]
    assert count_ids(str(folder), log.schema.categorical) == tuple(vocabulary.ids for vocabulary in found)
    assert [read_values(str(folder), name) for name in log.schema.categorical] == [part.values for part in found]
    return found


def ranked(log: Log, position: int) -> list[bytes]:
    totals = Counter(fields[position].encode() for _, fields in log.rows)
    return sorted((value for value in totals if value), key=lambda value: (-totals[value], value))


def test_counts_are_those_of_a_counter(log: Log, tmp_path: Path) -> None:
    for vocabulary, position in zip(merge(log, tmp_path), (0, 3), strict=True):
        values = ranked(log, position)
        assert vocabulary.values.to_pylist() == values
        names = ("counts", "clicks", "weights", "click_weights")
        sums: dict[str, dict[tuple[bytes, int], float]] = {name: defaultdict(float) for name in names}
        for fold, fields in log.rows:
            cell, clicked = (fields[position].encode(), fold), fields[1] == "1"
            weight = log.weight(fields)
            for name, addend in zip(sums, (1, clicked, weight, weight * clicked), strict=True):
                sums[name][cell] += addend
        for name, expected in sums.items():
            stored = getattr(vocabulary, name)
            if "weight" in name and not log.schema.weight:
                assert stored is None
                continue
            assert not stored[1].any()
            for row, value in [(0, b""), *enumerate(values, 2)]:
                assert stored[row].tolist() == [expected[value, fold] for fold in range(FOLDS)]


def test_everything_else(log: Log, tmp_path: Path) -> None:
    names, path = write_all(log, tmp_path, 7), str(tmp_path / "analysis.json")
    assert merge_analysis(None, names[::-1], 7, schema=log.schema, path=path) == len(log.rows)
    analysis = Analysis.from_json(json.loads(Path(path).read_text()))
    assert Analysis.from_json(analysis.to_json()) == analysis
    expected: dict[str, Callable[[list[str]], float]] = {
        "fold_rows": lambda fields: 1,
        "fold_clicks": lambda fields: fields[1] == "1",
        "fold_weights": log.weight,
        "fold_click_weights": lambda fields: log.weight(fields) * (fields[1] == "1"),
    }
    for name, of in expected.items():
        sums = [sum(of(fields) for k, fields in log.rows if k == fold) for fold in range(FOLDS)]
        assert getattr(analysis, name) == tuple(sums)
    values = np.array([float(fields[2]) for _, fields in log.rows if fields[2]], np.float32).astype(np.float64)
    t = np.sign(values) * np.log1p(np.abs(values))
    (column,) = analysis.numeric
    assert column.missing == len(log.rows) - len(values)
    assert column.mean == pytest.approx(t.mean(), rel=1e-8)
    assert column.std == pytest.approx(t.std(), rel=1e-8)


@pytest.mark.parametrize(("ranges", "parts"), [(1, 1), (7, 4), (2, 256)])
def test_nothing_depends_on_ranges_and_parts(log: Log, tmp_path: Path, ranges: int, parts: int) -> None:
    limits = {"min_count": 2, "max_size": 5, "buckets": 3}
    files = []
    for folder, cut in ((tmp_path / "a", (7, 1)), (tmp_path / "b", (ranges, parts))):
        merge(log, folder, *cut, **limits)
        analysis = str(folder / "analysis.json")
        merge_analysis(
            None, [str(path) for path in (folder / "work").iterdir()], cut[0], schema=log.schema, path=analysis
        )
        files.append({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    assert files[0] == files[1] and len(files[0]) == 3


def test_a_part_of_a_column_is_read_alone(tmp_path: Path) -> None:
    """No value is in two parts; short and long values are spread over all of them."""
    log = make_log(tmp_path, PLAIN)
    (name,) = write_all(log, tmp_path, 1, parts=4)
    with pa.OSFile(name) as file:
        reader = pa.ipc.open_file(file)
        parts = [reader.get_batch(number)["value"].to_pylist() for number in range(reader.num_record_batches)]
    assert len(parts) == 8
    for of_column, position in ((parts[:4], 0), (parts[4:], 3)):
        values = [set(part) for part in of_column]
        assert sum(map(len, values)) == len(set().union(*values))
        assert set().union(*values) == {fields[position].encode() for _, fields in log.rows}
        assert position or min(map(len, values)) > 5


def test_limits_keep_the_most_frequent_values(tmp_path: Path) -> None:
    log = make_log(tmp_path, PLAIN)
    everything = merge(log, tmp_path / "all")[1]
    frequent = merge(log, tmp_path / "frequent", min_count=3)[1]
    kept = everything.kept(3)
    assert frequent.values.to_pylist() == everything.values.to_pylist()[:kept]
    assert 0 < kept < len(everything.values)
    few = merge(log, tmp_path / "few", max_size=2)[1]
    assert few.values.to_pylist() == everything.values.to_pylist()[:2]
    assert few.counts[0].tolist() == everything.counts[0].tolist()


def test_ranges_without_training_rows(tmp_path: Path) -> None:
    log = make_log(tmp_path, PLAIN)
    (rows,) = read_ranges(Task(log.file, 0, (Range(0, 0, 0, log.file.size),)), PLAIN)
    table, name = RowTable.of(rows.parts, PLAIN, SPLIT), str(tmp_path / "counts.arrow")
    write_counts(name, table, np.empty(0, np.int64), PLAIN, log.file.path, SEED, 3)
    path = str(tmp_path / "analysis.json")
    assert merge_analysis(None, [name], 1, schema=PLAIN, path=path) == 0
    list(MergeColumn(settings=settings(log, tmp_path, 3)).process(0, [name], 1))
    assert read_vocabulary(str(tmp_path), "a").ids == 2


def test_what_is_merged_is_not_merged_again(tmp_path: Path) -> None:
    """The counts may be gone by then."""
    log = make_log(tmp_path, PLAIN)
    merge(log, tmp_path, ranges=2)
    names, path = write_all(log, tmp_path, 2), str(tmp_path / "analysis.json")
    rows = merge_analysis(None, names, 2, schema=PLAIN, path=path)
    made = {item: os.stat(item).st_ino for item in (path, vocabulary_path(str(tmp_path), "a"))}
    for name in names:
        os.remove(name)
    assert list(MergeColumn(settings=settings(log, tmp_path)).process(0, names, 2)) == [0]
    assert merge_analysis(None, names, 2, schema=PLAIN, path=path) == rows
    assert made == {item: os.stat(item).st_ino for item in made}


def test_counts_that_the_runner_lost_are_missed() -> None:
    assert complete(["b", "a", "b"], 2) == ["a", "b"] and complete([], 0) == []
    message = "Every range of training rows must be counted. Received: the counts of 2 of 3; call it again"
    with pytest.raises(DataError, match=message):
        complete(["a", "b"], 3)


def test_a_name_may_hold_a_slash(tmp_path: Path) -> None:
    log = make_log(tmp_path, PLAIN)
    merge(log, tmp_path)
    assert vocabulary_path("folder", "b/c") == "folder/b%2Fc.parquet"
    stored = pq.read_table(tmp_path / "b%2Fc.parquet")
    sums = [f"{name}_{fold}" for name in ("count", "clicks") for fold in range(FOLDS)]
    assert stored.column_names == ["value", *sums] and stored["value"].null_count == 1

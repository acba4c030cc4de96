import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import DataError
from features.hashing import FOLDS, folds
from features.schema import CATEGORICAL, FLOAT, LABEL, Column, Schema
from pipeline.analyze import Analysis, AnalyzeTask, MergeColumn, complete, merge_analysis, read_vocabulary
from pipeline.plan import Split, Task, plan
from pipeline.storage import InputFile, find_inputs

SCHEMA = Schema((Column("a", CATEGORICAL), Column("y", LABEL), Column("x", FLOAT), Column("b", CATEGORICAL)), ",")
SEED = 5


def make_log(folder: Path, name: str = "log.csv", rows: int = 400) -> tuple[InputFile, list[bytes]]:
    rng = np.random.default_rng(3)
    lines = []
    for _ in range(rows):
        a = rng.choice(["", "x", "y", "a longer value", "unique-" + str(rng.integers(1 << 30))])
        x = rng.choice(["", "0", "-3.5", "1e3", str(rng.random())])
        lines.append(f"{a},{rng.integers(2)},{x},{rng.geometric(0.1)}\n".encode())
    lines[7] = b"too,few\n"
    data = b"".join(lines)
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return find_inputs([str(folder / name)])[0], lines


def training_rows(lines: list[bytes], source: str) -> list[tuple[int, list[str], int]]:
    """Fold, fields and byte offset of the first 70 % of the bytes."""
    end, offset, rows = round(0.7 * sum(map(len, lines))), 0, []
    for line in lines:
        fields = line.decode().rstrip("\n").split(",")
        if offset < end and len(fields) == 4:
            rows.append((int(folds(np.array([offset]), source, SEED)[0]), fields, offset))
        offset += len(line)
    return rows


def analyze(file: InputFile, folder: Path, **settings: int) -> tuple[Analysis, dict[str, Any], list[str]]:
    tasks, _ = plan([file], Split.parse("70/15/15"), 1 << 20)
    task = AnalyzeTask(schema=SCHEMA, seed=SEED, work=str(folder / "work"))
    counts = [path for element in tasks for path in task.process(element)]
    limits = {"min_count": 1, "max_size": 1000} | settings
    merge = MergeColumn(folder=str(folder / "vocabulary"), columns=SCHEMA.categorical, parts=len(counts), **limits)
    # Beam gives the names in any order.
    sizes = dict(pair for index in range(2) for pair in merge.process(index, counts[::-1]))
    path = str(folder / "analysis.json")
    rows = merge_analysis(None, counts[::-1], schema=SCHEMA, path=path, parts=len(counts))
    analysis = Analysis.from_json(json.loads(Path(path).read_text()))
    assert rows == sum(analysis.fold_rows)
    vocabularies = {name: read_vocabulary(str(folder / "vocabulary"), name) for name in SCHEMA.categorical}
    assert sizes == {name: vocabulary.ids for name, vocabulary in vocabularies.items()}
    return analysis, vocabularies, counts


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_counts_are_those_of_a_counter(tmp_path: Path, name: str) -> None:
    file, lines = make_log(tmp_path, name)
    analysis, vocabularies, counts = analyze(file, tmp_path)
    rows = training_rows(lines, file.path)
    assert len(counts) == 16
    assert analysis.fold_rows == tuple(Counter(fold for fold, _, _ in rows)[fold] for fold in range(FOLDS))
    assert analysis.fold_clicks == tuple(sum(f[1] == "1" for k, f, _ in rows if k == fold) for fold in range(FOLDS))
    for column, position in (("a", 0), ("b", 3)):
        totals = Counter(fields[position].encode() for _, fields, _ in rows)
        ranked = sorted((value for value in totals if value), key=lambda value: (-totals[value], value))
        vocabulary = vocabularies[column]
        assert vocabulary.values.to_pylist() == ranked
        cells = Counter((fields[position].encode(), fold) for fold, fields, _ in rows)
        clicks = Counter((fields[position].encode(), fold) for fold, fields, _ in rows if fields[1] == "1")
        for row, value in [(0, b""), *enumerate(ranked, 2)]:
            assert vocabulary.counts[row].tolist() == [cells[value, fold] for fold in range(FOLDS)]
            assert vocabulary.clicks[row].tolist() == [clicks[value, fold] for fold in range(FOLDS)]
        assert not vocabulary.counts[1].any()


def test_numeric_statistics(tmp_path: Path) -> None:
    file, lines = make_log(tmp_path)
    analysis, _, _ = analyze(file, tmp_path)
    rows = training_rows(lines, file.path)
    values = np.array([float(fields[2]) for _, fields, _ in rows if fields[2]], np.float32).astype(np.float64)
    t = np.sign(values) * np.log1p(np.abs(values))
    (column,) = analysis.numeric
    assert column.missing == len(rows) - len(values)
    assert column.mean == pytest.approx(t.mean(), rel=1e-8)
    assert column.std == pytest.approx(t.std(), rel=1e-8)
    assert Analysis.from_json(analysis.to_json()) == analysis


def test_limits_keep_the_most_frequent_values(tmp_path: Path) -> None:
    file, _ = make_log(tmp_path)
    _, everything, _ = analyze(file, tmp_path)
    _, frequent, _ = analyze(file, tmp_path, min_count=3)
    kept = everything["b"].kept(3)
    assert frequent["b"].values.to_pylist() == everything["b"].values.to_pylist()[:kept]
    assert 0 < kept < len(everything["b"].values)
    _, few, _ = analyze(file, tmp_path, max_size=2)
    assert few["b"].values.to_pylist() == everything["b"].values.to_pylist()[:2]
    assert few["b"].counts[0].tolist() == everything["b"].counts[0].tolist()


def test_a_counted_shard_is_not_counted_again(tmp_path: Path) -> None:
    file, _ = make_log(tmp_path, "log.csv.gz")
    tasks, _ = plan([file], Split.parse("70/15/15"), 1 << 20)
    task = AnalyzeTask(schema=SCHEMA, seed=SEED, work=str(tmp_path))
    paths = list(task.process(tasks[0]))
    before = {path: (Path(path).read_bytes(), os.stat(path).st_mtime_ns) for path in paths}
    for path in paths[3:5]:
        os.remove(path)
    assert list(task.process(tasks[0])) == paths
    for path in paths:
        assert Path(path).read_bytes() == before[path][0]
        assert (os.stat(path).st_mtime_ns == before[path][1]) == (path not in paths[3:5])


def test_a_task_without_training_shards(tmp_path: Path) -> None:
    file, _ = make_log(tmp_path)
    tasks, _ = plan([file], Split.parse("70/15/15"), 1 << 20)
    task = AnalyzeTask(schema=SCHEMA, seed=SEED, work=str(tmp_path / "work"))
    assert list(task.process(Task(file, tasks[-1].shards))) == []
    assert not (tmp_path / "work").exists()


def test_counts_that_the_runner_lost_are_missed() -> None:
    assert complete(["b", "a", "b"], 2) == ["a", "b"]
    with pytest.raises(DataError, match="Every training shard must be counted. Received: the counts of 2 of 3"):
        complete(["a", "b"], 3)

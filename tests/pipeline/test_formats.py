"""The same log in every format gives the same examples, apart from folds and order, which come from places in files."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from features.blocks import read_blocks
from features.schema import CATEGORICAL, FLOAT, FORMATS, GROUP, INTEGER, LABEL, OUTCOME, TIME, WEIGHT, Column, Schema
from features.spec import SPLITS
from pipeline.beam import make_options
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig
from pipeline.workspace import Run

ROWS = 600
SPLIT = "400/100/100"
COLUMNS = (
    Column("user", GROUP),
    Column("ts", TIME),
    Column("y", LABEL),
    Column("w", WEIGHT),
    Column("price", FLOAT),
    Column("age", INTEGER),
    Column("site", CATEGORICAL),
    Column("code", CATEGORICAL),
    Column("bought", OUTCOME),
)
SCHEMAS = {
    name: Schema(COLUMNS, ",", name == "text", name) if name == "text" else Schema(COLUMNS, format=name)
    for name in FORMATS
}


def values() -> list[dict[str, object]]:
    """Rows, four of which are bad."""
    chance = random.Random(7)
    rows: list[dict[str, object]] = [
        {
            "user": f"u{chance.randrange(40)}",
            "ts": 1_700_000_000 + i,
            "y": int(chance.random() < 0.3),
            "w": chance.choice([0.5, 1.0, 2.25]),
            "price": chance.choice([None, 0.1, 3.75, 1e22, -2.5]),
            "age": chance.choice([None, 20, 35]),
            "site": chance.choice(["a.example", "ü", None, "c d"]),
            "code": chance.randrange(12),
            "bought": int(i % 7 == 0),
        }
        for i in range(ROWS)
    ]
    for number, bad in ((5, {"y": 2}), (100, {"w": -1.0}), (450, {"user": None}), (7, {"bought": None})):
        rows[number] |= bad
    return rows


def write(folder: Path, name: str) -> Path:
    """The log in the format that the name stands for."""
    path, rows = folder / name, values()
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=250)
        return path
    if ".jsonl" in name:
        lines = [json.dumps(row) for row in rows]
    else:
        lines = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
        lines.insert(0, ",".join(rows[0]))
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes({".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)(data))
    return path


def examples(folder: Path, name: str) -> Run:
    run = Run(str(folder / f"run-{name}"))
    schema = SCHEMAS["parquet" if "parquet" in name else "json" if "json" in name else "text"]
    with run.lock():
        assert preprocess(run, [str(write(folder, name))], schema, PreprocessConfig(split=SPLIT), make_options((), 1))
    return run


def vocabulary(run: Run, column: str) -> list[tuple[object, ...]]:
    """Each value with its rows, clicks and weights, whatever the fold."""
    table = pq.read_table(run.file("examples", "vocabulary", f"{column}.parquet"))
    sums = [Counter[str]() for _ in range(table.num_rows)]
    for name in table.column_names[1:]:
        for row, count in enumerate(table[name].to_pylist()):
            sums[row][name.rpartition("_")[0]] += count
    return [(value, dict(total)) for value, total in zip(table["value"].to_pylist(), sums, strict=True)]


def outcomes(run: Run) -> list[list[float]]:
    """The label, ids and outcomes of each row, sorted."""
    rows: list[list[float]] = []
    for split in SPLITS:
        for shard in run.shards(split):
            with open(run.file("examples", shard["path"]), "rb") as file:
                for block in read_blocks(file, shard["path"]):
                    assert block.outcomes is not None
                    rows += np.column_stack([block.labels, block.ids, block.outcomes]).tolist()
    return sorted(rows)


def rejects(run: Run) -> list[str]:
    paths = sorted(Path(run.path).glob("rejected/*.jsonl"))
    return sorted(json.loads(line)["reason"] for path in paths for line in path.read_text().splitlines())


@pytest.mark.parametrize("name", ["log.csv.zst", "log.jsonl", "log.jsonl.gz", "log.parquet"])
def test_the_same_examples(tmp_path: Path, name: str) -> None:
    expected, run = examples(tmp_path, "log.csv"), examples(tmp_path, name)
    plain, spec = expected.spec(), run.spec()
    assert spec.rows == plain.rows and spec.clicks == plain.clicks
    assert sum(spec.rows[split] for split in SPLITS) == ROWS - 4
    assert rejects(run) == rejects(expected) == ["group", "label", "outcome", "weight"]
    assert outcomes(run) == outcomes(expected)
    # Every seventh row, of which that of number 7 is a reject.
    assert sum(row[-1] for row in outcomes(run)) == 85
    np.testing.assert_allclose(spec.base_rate, plain.base_rate, rtol=1e-12)
    for ours, theirs in zip(spec.numeric, plain.numeric, strict=True):
        assert ours == theirs
    for column in ("site", "code"):
        assert vocabulary(run, column) == vocabulary(expected, column)

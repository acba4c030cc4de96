"""A small log with every kind of column, its examples, and ways to damage them, for the tests of what reads a run."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.blocks import Block
from features.layouts import read_examples, write_examples
from features.schema import Column, Schema
from features.targets import TargetBlock
from features.tfrecord import read_records, write_record
from pipeline.beam import make_options
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig
from pipeline.workspace import EXAMPLES, TARGETS, Run

COLUMNS = (
    Column("user", "group"),
    Column("when", "time"),
    Column("clicked", "label"),
    Column("importance", "weight"),
    Column("price", "float"),
    Column("position", "integer"),
    Column("ad", "categorical"),
    Column("site/page", "categorical"),
)
SCHEMA = Schema(COLUMNS, ",", header=True)
ROWS = 600
REJECTS = 3
"""Of the whole log: two lines of one field and an empty one."""


def records() -> Iterator[list[str]]:
    """The fields of each row."""
    rng = np.random.default_rng(0)
    for number in range(ROWS):
        yield [
            f"u{rng.integers(100)}",
            str(1_700_000_000 + number),
            str(int(rng.random() < 0.3)),
            f"{rng.random() * 3:.3f}",
            "" if rng.random() < 0.1 else f"{rng.lognormal():.2f}",
            str(rng.integers(10)),
            "" if rng.random() < 0.1 else f"a{rng.zipf(1.5)}",
            f"s{rng.integers(40)}",
        ]


def write_log(path: Path) -> Path:
    """Writes the log with its rejects; half of its lines end with a carriage return, the last one with nothing."""
    lines = [",".join(fields) for fields in records()]
    lines[100:100], lines[300:300] = ["no row"], ["", "no row either"]
    ends = ["\r\n", "\n"] * len(lines)
    names = ",".join(column.name for column in COLUMNS)
    text = names + "\n" + "".join(line + (end if line else "\n") for line, end in zip(lines, ends, strict=False))
    data = text.rstrip("\r\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_json(path: Path) -> Path:
    """The same rows as JSON lines, with a reject."""
    names = [column.name for column in COLUMNS]
    lines = [json.dumps(dict(zip(names, fields, strict=True))) for fields in records()]
    path.write_text("\n".join([*lines[:200], "[]", *lines[200:]]) + "\n")
    return path


def write_parquet(path: Path) -> Path:
    """The same rows as a parquet file of texts; one has a label that is none."""
    columns = [list(values) for values in zip(*records(), strict=True)]
    columns[2][50] = "2"
    table = pa.table({column.name: values for column, values in zip(COLUMNS, columns, strict=True)})
    pq.write_table(table, path, row_group_size=100)
    return path


def make_run(folder: Path, *logs: Path, schema: Schema = SCHEMA, **settings: Any) -> Run:
    """Preprocesses logs."""
    run = Run(str(folder / "run"))
    config = PreprocessConfig(max_rejects="5%", **settings)
    preprocess(run, [str(log) for log in logs], schema, config, make_options([], 1))
    return run


def parsed_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a log of :func:`write_log`, by Python's own reader."""
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if row["site/page"]]


def change_json(path: str, change: Callable[[Any], object]) -> None:
    """Changes a JSON file."""
    value = json.loads(Path(path).read_text())
    change(value)
    Path(path).write_text(json.dumps(value))


def read_shard(run: Run, path: str) -> list[Block]:
    """The blocks of a shard."""
    spec = run.spec()
    with open(run.file(EXAMPLES, path), "rb") as file:
        return list(read_examples(file, spec.schema, spec.layout, path))


def rewrite(run: Run, path: str, change: Callable[[Block], Block], layout: str = "blocks") -> None:
    """Writes a shard anew with changed rows; the manifest's checksum is that of the new file."""
    blocks = [change(block) for block in read_shard(run, path)]
    with open(run.file(EXAMPLES, path), "wb") as file:
        for block in blocks:
            write_examples(file, block, run.spec().schema, layout)
    data = Path(run.file(EXAMPLES, path)).read_bytes()
    change_json(run.file(EXAMPLES, "manifest.json"), lambda manifest: _find(manifest, path).update(_describe(data)))


def use_rows_layout(run: Run) -> None:
    """Turns every shard into records of single rows."""
    for shard in run.manifest(EXAMPLES)["shards"]:
        rewrite(run, shard["path"], lambda block: block, "rows")
    change_json(run.file(EXAMPLES, "spec.json"), lambda spec: spec.update(layout="rows"))


def add_targets(run: Run) -> None:
    """Writes targets for every row, of a teacher that is gone."""
    shards = []
    for shard in run.manifest(EXAMPLES)["shards"]:
        path = Path(run.file(TARGETS, shard["path"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            for block in read_shard(run, shard["path"]):
                logits = np.zeros((len(block), 4), np.float32)
                write_record(file, TargetBlock(logits, block.offsets, "teacher-1").encode())
        entry = {name: shard[name] for name in ("path", "split", "rows")}
        shards.append(entry | _describe(path.read_bytes()))
    sources = {EXAMPLES: run.identity(EXAMPLES), "teacher": "gone"}
    manifest = {"key": "k", "teacher": "teacher-1", "outputs": 4, "sources": sources, "shards": shards}
    Path(run.file(TARGETS, "manifest.json")).write_text(json.dumps(manifest))


def rewrite_targets(run: Run, path: str, change: Callable[[TargetBlock], TargetBlock]) -> None:
    """Writes the targets of a shard anew; the manifest's checksum is that of the new file."""
    with open(run.file(TARGETS, path), "rb") as file:
        blocks = [change(TargetBlock.decode(record)) for record in read_records(file, path)]
    with open(run.file(TARGETS, path), "wb") as file:
        for block in blocks:
            write_record(file, block.encode())
    data = Path(run.file(TARGETS, path)).read_bytes()
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: _find(manifest, path).update(_describe(data)))


def _find(manifest: dict[str, Any], path: str) -> dict[str, Any]:
    return next(shard for shard in manifest["shards"] if shard["path"] == path)


def _describe(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}"}

"""Runs that end with the examples, and what they hold: what the tests of preprocessing share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from support import files_of

from features.blocks import Block
from features.layouts import read_examples
from features.schema import CRITEO, Schema
from pipeline.beam import make_options
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig
from pipeline.workspace import EXAMPLES, Run


def run_of(
    folder: Path, inputs: Any, schema: Schema = CRITEO, *, workers: int = 1, force: bool = False, **settings: Any
) -> Run:
    """A run made from files."""
    run = Run(str(folder))
    paths = [str(path) for path in (inputs if isinstance(inputs, list) else [inputs])]
    with run.lock():
        preprocess(run, paths, schema, PreprocessConfig(**settings), make_options((), workers), force)
    return run


def shards_of(run: Run) -> dict[str, bytes]:
    """Shards and vocabularies: all outputs that do not name the inputs."""
    return {name: data for name, data in files_of(run.file(EXAMPLES)).items() if name.endswith(("record", "parquet"))}


def outputs_of(run: Run) -> dict[str, bytes]:
    """All files of a run but its lock."""
    return {name: data for name, data in files_of(run.path).items() if name != ".lock"}


def is_finished(run: Run) -> bool:
    """Whether the examples have a manifest."""
    return os.path.exists(run.file(EXAMPLES, "manifest.json"))


def rejects_of(run: Run) -> list[dict[str, Any]]:
    """The records of all bad lines, in the order of the log."""
    return [json.loads(line) for data in files_of(run.file("rejected")).values() for line in data.splitlines()]


def table_of(run: Run) -> pd.DataFrame:
    """The stored rows in the order of the log, a column a field, decoded from the shards of the manifest."""
    spec, tables = run.spec(), []
    for index, shard in enumerate(run.manifest(EXAMPLES)["shards"]):
        with open(run.file(EXAMPLES, shard["path"]), "rb") as file:
            blocks = list(read_examples(file, spec.schema, spec.layout, shard["path"]))
        assert sum(map(len, blocks)) == shard["rows"]
        if not blocks:
            continue
        block = Block.concatenate(blocks)
        place = {"shard": index, "source": os.path.basename(shard["source"]), "split": shard["split"]}
        stored = {"offset": block.offsets, "fold": block.folds, "label": block.labels}
        stored |= {"weight": block.weights, "group": block.groups}
        numeric = dict(zip(spec.schema.numeric, block.dense.T, strict=True))
        ids = dict(zip(spec.schema.categorical, block.ids.astype(np.int64).T, strict=True))
        tables.append(pd.DataFrame({**place, **stored, **numeric, **ids}))
        assert shard["clicks"] == block.labels.sum()
    # Files come in the order of the log, and so do offsets once the order within a shard is undone.
    order = {os.path.basename(item["path"]): number for number, item in enumerate(run.manifest(EXAMPLES)["inputs"])}
    table = pd.concat(tables)
    table.insert(0, "file", table["source"].map(order))
    return table.sort_values(["file", "offset"], ignore_index=True)

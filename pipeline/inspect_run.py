"""``inspect``: what the examples of a run look like, split by split and column by column."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.drift import ColumnCells, Histograms
from features.layouts import read_examples
from features.spec import SPLITS, ExamplesSpec
from features.vocabulary import Vocabulary
from pipeline import storage
from pipeline.analyze import vocabulary_path
from pipeline.data_tables import (
    SplitRows,
    categorical_table,
    numeric_table,
    reject_table,
    split_table,
    value_table,
)
from pipeline.workspace import EXAMPLES, Run

TOP_VALUES = 5
"""So many values of each categorical column are shown."""

TITLES = {
    "splits": "Splits",
    "rejects": "Rejected lines by reason",
    "numeric": "Numeric columns",
    "categorical": "Categorical columns",
    "values": f"The {TOP_VALUES} most frequent values of the training rows",
}
REMARKS = {
    "numeric": (
        "Mean and standard deviation are in units of the training rows, which have 0 and 1. The population stability "
        "index (psi) compares with the training rows: above 0.1 a column has shifted, above 0.25 by much."
    ),
    "categorical": "Outside: share of the rows whose value is not in the vocabulary.",
}
"""What must be known to read a table."""


def inspect(run: Run) -> dict[str, pd.DataFrame]:
    """Reads the examples of a run, shard by shard.

    Returns:
        ``splits``, ``rejects``, ``numeric``, ``categorical`` and ``values``: see :mod:`pipeline.data_tables`. A table
        without rows is left out.

    Raises:
        ArtifactError: the run has no examples, or a file is damaged.
    """
    spec, manifest = run.spec(), run.manifest(EXAMPLES)
    cells = ColumnCells.of(spec)
    rows = {split: _read_split(run, spec, split, cells) for split in SPLITS if spec.rows[split]}
    rejects = (reject for entry in manifest["entries"] for reject in read_rejects(run, entry))
    vocabularies = {column: _first_values(run, column) for column in spec.schema.categorical}
    tables = {
        "splits": split_table(spec, manifest["shards"], rows),
        "rejects": reject_table(rejects, spec.lines),
        "numeric": numeric_table(spec, rows),
        "categorical": categorical_table(spec, rows, cells),
        "values": value_table(vocabularies, spec.rows["train"], TOP_VALUES),
    }
    return {name: table for name, table in tables.items() if len(table)}


def as_text(tables: dict[str, pd.DataFrame]) -> str:
    """The tables for the terminal."""
    parts = []
    for name, table in tables.items():
        formats = {str(column): _format(str(column), table[column]) for column in table.select_dtypes("number")}
        text = table.to_string(index=False, formatters=formats, na_rep="-")
        parts.append("\n".join([TITLES[name], *([REMARKS[name]] if name in REMARKS else []), text]))
    return "\n\n".join(parts)


def _format(column: str, values: pd.Series) -> Callable[[float], str]:
    if pd.api.types.is_integer_dtype(values) or column == "weight":
        return "{:,.0f}".format
    # No value is shown as -0.0000.
    return lambda value: f"{round(value, 4) + 0.0:.4f}"


def _read_split(run: Run, spec: ExamplesSpec, split: str, cells: ColumnCells) -> SplitRows:
    found = SplitRows(Histograms.empty(cells))
    for shard in run.shards(split):
        path = run.file(EXAMPLES, shard["path"])
        with storage.open_read(path) as file:
            for block in read_examples(file, spec.schema, spec.layout, path):
                found.update(block, cells)
    return found


def read_rejects(run: Run, entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rejects of a range of the log, as they were written."""
    if entry["rejected"]:
        with storage.open_read(run.file("rejected", entry["rejected"]["path"])) as file:
            for line in file:
                yield json.loads(line)


def _first_values(run: Run, column: str) -> Vocabulary:
    """The beginning of a vocabulary: its most frequent values."""
    with storage.open_read(vocabulary_path(run.file(EXAMPLES, "vocabulary"), column)) as file:
        stored = pq.ParquetFile(pa.py_buffer(file.read()))
        batch = next(stored.iter_batches(batch_size=TOP_VALUES + 1))
    return Vocabulary.from_table(pa.Table.from_batches([batch]))

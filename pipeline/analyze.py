"""First pass of ``preprocess``: what the training rows say about each column.

The counts of each shard go to a file of their own; a second step merges them column by column. So nothing but file
names goes through Beam's shuffle, and a shard that was done before a kill is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import DataError
from features.hashing import FOLDS, folds
from features.numeric import NumericColumn, NumericStatistics
from features.parsing import ParsedRows
from features.schema import Schema
from features.vocabulary import COUNTS_SCHEMA, Vocabulary, count_values
from pipeline import storage
from pipeline.plan import Shard, Task
from pipeline.reading import read_shards


@dataclass(frozen=True)
class Analysis:
    """What the training rows say, apart from the vocabularies.

    Args:
        numeric: statistics of each numeric column.
        fold_rows: rows by fold.
        fold_clicks: clicks by fold.
    """

    numeric: tuple[NumericColumn, ...]
    fold_rows: tuple[int, ...]
    fold_clicks: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "numeric": [column.to_json() for column in self.numeric],
            "fold_rows": list(self.fold_rows),
            "fold_clicks": list(self.fold_clicks),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Analysis:
        """Reads what :meth:`to_json` wrote."""
        numeric = tuple(NumericColumn.from_json(column) for column in value["numeric"])
        return cls(numeric, tuple(value["fold_rows"]), tuple(value["fold_clicks"]))


class AnalyzeTask(beam.DoFn):
    """Counts the training rows of a task; yields the names of the files with the counts, one a shard.

    Args:
        schema: of the log.
        seed: of the folds.
        work: folder of the files with counts.
    """

    def __init__(self, *, schema: Schema, seed: int, work: str) -> None:
        self._schema, self._seed, self._work = schema, seed, work

    def process(self, task: Task) -> Iterator[str]:
        """Counts one task, apart from the shards that an earlier attempt counted."""
        paths = {shard: counts_path(self._work, shard) for shard in task.only("train").shards}
        missing = [shard for shard, path in paths.items() if not storage.exists(path)]
        for rows in read_shards(task, missing, self._schema):
            write_counts(paths[rows.shard], rows.parts, self._schema, rows.source, self._seed)
        yield from paths.values()


def counts_path(work: str, shard: Shard) -> str:
    """File with the counts of a training shard."""
    return storage.join(work, f"counts-{shard.index:05d}.arrow")


def write_counts(path: str, parts: list[ParsedRows], schema: Schema, source: str, seed: int) -> None:
    """Writes the counts of some rows: a record batch a categorical column, everything else as metadata."""
    statistics = NumericStatistics(len(schema.numeric))
    for part in parts:
        statistics.update(part.numeric)
    offsets = np.concatenate([part.offsets for part in parts] or [np.empty(0, np.int64)])
    labels = np.concatenate([part.labels for part in parts if part.labels is not None] or [np.empty(0, np.uint8)])
    fold = folds(offsets, source, seed)
    metadata = {
        "numeric": statistics.to_json(),
        "fold_rows": np.bincount(fold, minlength=FOLDS).tolist(),
        "fold_clicks": np.bincount(fold[labels == 1], minlength=FOLDS).tolist(),
    }
    with storage.publish(path) as writer:
        table_schema = COUNTS_SCHEMA.with_metadata({"analysis": json.dumps(metadata)})
        with pa.ipc.new_file(pa.PythonFile(writer, "w"), table_schema) as file:
            for index in range(len(schema.categorical)):
                counts = count_values([part.categorical[index] for part in parts], fold, labels)
                batches = counts.combine_chunks().to_batches()
                file.write(batches[0] if batches else pa.RecordBatch.from_pylist([], COUNTS_SCHEMA))


class MergeColumn(beam.DoFn):
    """Makes the vocabulary of one categorical column from the counts of all tasks; yields its size in ids.

    Args:
        folder: of the vocabularies.
        columns: names of the categorical columns.
        min_count: see :meth:`Vocabulary.merge`.
        max_size: see :meth:`Vocabulary.merge`.
        parts: number of files with counts.
    """

    def __init__(self, *, folder: str, columns: tuple[str, ...], min_count: int, max_size: int, parts: int) -> None:
        self._folder, self._columns, self._parts = folder, columns, parts
        self._min_count, self._max_size = min_count, max_size

    def process(self, index: int, counts: list[str]) -> Iterator[tuple[str, int]]:
        """Merges one column, given by its number."""
        path = vocabulary_path(self._folder, self._columns[index])
        tables = [_read_counts(name, index) for name in complete(counts, self._parts)]
        vocabulary = Vocabulary.merge(tables, self._min_count, self._max_size)
        with storage.publish(path) as writer:
            pq.write_table(vocabulary.to_table(), pa.PythonFile(writer, "w"), compression="zstd")
        yield self._columns[index], vocabulary.ids


def complete(counts: list[str], parts: int) -> list[str]:
    """The names of all files with counts, each once.

    Raises:
        DataError: the runner has lost some; a vocabulary without them would look like any other.
    """
    names = sorted(set(counts))
    if len(names) != parts:
        raise DataError(
            f"Every training shard must be counted. Received: the counts of {len(names)} of {parts}; call it again."
        )
    return names


def merge_analysis(_: Any, counts: list[str], *, schema: Schema, path: str, parts: int) -> int:
    """Merges everything but the vocabularies into one JSON file; returns the number of training rows."""
    statistics = NumericStatistics(len(schema.numeric))
    rows, clicks = np.zeros(FOLDS, np.int64), np.zeros(FOLDS, np.int64)
    for name in complete(counts, parts):
        part = _read_rest(name)
        statistics.merge(NumericStatistics.from_json(part["numeric"]))
        rows += part["fold_rows"]
        clicks += part["fold_clicks"]
    analysis = Analysis(statistics.columns(schema.numeric), tuple(rows.tolist()), tuple(clicks.tolist()))
    storage.write_json(path, analysis.to_json())
    return int(rows.sum())


def _read_counts(path: str, column: int) -> pa.Table:
    """The counts of one categorical column; no more of the file is read."""
    with storage.open_read(path) as file:
        batch = pa.ipc.open_file(pa.PythonFile(file, "r")).get_batch(column)
    return pa.Table.from_batches([batch]).replace_schema_metadata()


def _read_rest(path: str) -> dict[str, Any]:
    """What :func:`write_counts` wrote as metadata."""
    with storage.open_read(path) as file:
        rest: dict[str, Any] = json.loads(pa.ipc.open_file(pa.PythonFile(file, "r")).schema.metadata[b"analysis"])
    return rest


def vocabulary_path(folder: str, column: str) -> str:
    """Where a column's vocabulary lies."""
    return storage.join(folder, f"{column}.parquet")


def read_vocabulary(folder: str, column: str) -> Vocabulary:
    """Reads the vocabulary of a column."""
    with storage.open_read(vocabulary_path(folder, column)) as file:
        return Vocabulary.from_table(pq.read_table(pa.py_buffer(file.read())))

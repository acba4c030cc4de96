"""What the training rows say about each column: vocabularies, and the statistics of everything else.

The counts of each range go to a file of their own, divided by column and, within a column, into parts of the values.
A part of a column is merged at a time, so memory does not grow with the number of values, and nothing but file names
goes through Beam's shuffle.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.counts import WEIGHT_UNIT, CellCounts, count_values, counts_schema, exact_sums, fixed_weights
from features.errors import DataError
from features.hashing import FOLDS, folds
from features.numeric import NumericColumn, NumericStatistics
from features.row_table import RowTable
from features.schema import Schema
from features.values import order_keys
from features.vocabulary import Vocabulary, VocabularyBuilder, stored_values
from pipeline import storage
from pipeline.batches import open_arrow
from pipeline.beam import phase


@dataclass(frozen=True)
class Analysis:
    """What the training rows say, apart from the vocabularies.

    Args:
        numeric: statistics of each numeric column.
        fold_rows: rows by fold.
        fold_clicks: clicks by fold.
        fold_weights: weights by fold; rows in a log without weights.
        fold_click_weights: weights of the clicks by fold.
    """

    numeric: tuple[NumericColumn, ...]
    fold_rows: tuple[int, ...]
    fold_clicks: tuple[int, ...]
    fold_weights: tuple[float, ...]
    fold_click_weights: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        sums = {name: list(getattr(self, name)) for name in _FOLD_SUMS}
        return {"numeric": [column.to_json() for column in self.numeric], **sums}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Analysis:
        """Reads what :meth:`to_json` wrote."""
        numeric = tuple(NumericColumn.from_json(column) for column in value["numeric"])
        return cls(numeric, **{name: tuple(value[name]) for name in _FOLD_SUMS})


_FOLD_SUMS = ("fold_rows", "fold_clicks", "fold_weights", "fold_click_weights")


def write_counts(
    path: str, table: RowTable, rows: np.ndarray, schema: Schema, source: str, seed: int, parts: int
) -> None:
    """Writes the counts of the training rows of a range: a record batch for each column and part of its values.

    Args:
        path: where to.
        table: rows of the range.
        rows: numbers of its training rows.
        schema: of the log.
        source: path of the log's file.
        seed: of the folds.
        parts: of the values.
    """
    fold = folds(table.offsets[rows], source, seed)
    labels = table.labels[rows]
    weights = None if table.weights is None else table.weights[rows]
    taken = [column.take(pa.array(rows)) if len(rows) < len(table) else column for column in table.categorical]
    rest = json.dumps(_sums(table, rows, schema, fold, labels, weights))
    counts = counts_schema(weights is not None)
    with (
        storage.publish(path, hashed=False) as writer,
        pa.ipc.new_file(pa.PythonFile(writer, "w"), counts.with_metadata({"analysis": rest})) as file,
    ):
        for column in taken:
            for part in _divide(count_values(column, fold, labels, weights), parts):
                batches = part.combine_chunks().to_batches()
                file.write(batches[0] if batches else pa.RecordBatch.from_pylist([], counts))


def _divide(counts: pa.Table, parts: int) -> Iterator[pa.Table]:
    """Cuts counts, which are in the order of their keys, by the highest bits of the keys."""
    if parts == 1:
        yield counts
        return
    keys, _ = order_keys(counts["value"].combine_chunks())
    limits = np.array([(number << 64) // parts for number in range(1, parts)], np.uint64)
    bounds = [0, *np.searchsorted(keys, limits), len(keys)]
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        yield counts.slice(start, end - start)


def _sums(
    table: RowTable,
    rows: np.ndarray,
    schema: Schema,
    fold: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None,
) -> dict[str, Any]:
    """Everything about the training rows of a range but their values, as plain JSON values."""
    statistics = NumericStatistics(schema.transforms)
    for index, column in enumerate(table.numeric):
        counts = np.bincount(column.indices.to_numpy()[rows], minlength=len(column.dictionary))
        statistics.update(index, column.dictionary.to_numpy(), counts)
    units = np.full(len(rows), WEIGHT_UNIT) if weights is None else fixed_weights(weights)
    return {
        "numeric": statistics.to_json(),
        "fold_rows": np.bincount(fold, minlength=FOLDS).tolist(),
        "fold_clicks": np.bincount(fold[labels == 1], minlength=FOLDS).tolist(),
        "fold_weights": exact_sums(fold, units, FOLDS).tolist(),
        "fold_click_weights": exact_sums(fold[labels == 1], units[labels == 1], FOLDS).tolist(),
    }


@dataclass(frozen=True)
class VocabularySettings:
    """How the vocabularies are made, and where they lie.

    Args:
        folder: of the finished ones.
        columns: names of the categorical columns.
        min_count: see :class:`VocabularyBuilder`.
        max_size: see :class:`VocabularyBuilder`.
        buckets: see :class:`VocabularyBuilder`.
        parts: in how many parts the values are merged.
        weighted: whether the log has weights.
    """

    folder: str
    columns: tuple[str, ...]
    min_count: int
    max_size: int
    buckets: int
    parts: int
    weighted: bool

    def path(self, column: int) -> str:
        """Where a finished vocabulary lies."""
        return vocabulary_path(self.folder, self.columns[column])


class MergeColumn(beam.DoFn):
    """Makes the vocabulary of one categorical column from the counts of all ranges; yields the column's number.

    Args:
        settings: of the vocabularies.
    """

    def __init__(self, *, settings: VocabularySettings) -> None:
        self._settings = settings

    def process(self, column: int, counts: list[str], ranges: int) -> Iterator[int]:
        """Merges one column, a part of its values at a time, unless an earlier attempt has."""
        settings = self._settings
        path = settings.path(column)
        if not storage.exists(path):
            with phase("merge"):
                names = complete(counts, ranges)
                builder = VocabularyBuilder(settings.min_count, settings.max_size, settings.buckets, settings.weighted)
                for part in range(settings.parts):
                    tables = [_read_counts(name, column * settings.parts + part) for name in names]
                    builder.add(CellCounts.of(tables, settings.weighted))
                write_vocabulary(path, builder.tables())
        yield column


def complete(counts: list[str], ranges: int) -> list[str]:
    """The names of all files with counts, each once.

    Raises:
        DataError: the runner has not given all of them.
    """
    names = sorted(set(counts))
    if len(names) != ranges:
        raise DataError(
            f"Every range of training rows must be counted. Received: the counts of {len(names)} of {ranges}; call it "
            "again."
        )
    return names


def merge_analysis(_: Any, counts: list[str], ranges: int, *, schema: Schema, path: str) -> int:
    """Merges everything but the vocabularies into one JSON file, unless an earlier attempt has.

    Returns:
        the number of training rows.
    """
    if storage.exists(path):
        return sum(Analysis.from_json(storage.read_json(path)).fold_rows)
    statistics = NumericStatistics(schema.transforms)
    sums = {name: np.zeros(FOLDS, np.int64) for name in _FOLD_SUMS}
    for name in complete(counts, ranges):
        part = _read_rest(name)
        statistics.merge(NumericStatistics.from_json(part["numeric"]))
        for key in _FOLD_SUMS:
            sums[key] += part[key]
    weights = {key: tuple((sums[key] / WEIGHT_UNIT).tolist()) for key in _FOLD_SUMS[2:]}
    rows = {key: tuple(sums[key].tolist()) for key in _FOLD_SUMS[:2]}
    storage.write_json(path, Analysis(statistics.columns(schema.numeric), **rows, **weights).to_json())
    return int(sums["fold_rows"].sum())


def _read_counts(path: str, batch: int) -> pa.Table:
    """The counts of a part of a column; no more of the file is read."""
    with open_arrow(path) as file:
        table = pa.Table.from_batches([pa.ipc.open_file(file).get_batch(batch)])
    return table.replace_schema_metadata()


def _read_rest(path: str) -> dict[str, Any]:
    """What :func:`write_counts` wrote as metadata."""
    with open_arrow(path) as file:
        rest: dict[str, Any] = json.loads(pa.ipc.open_file(file).schema.metadata[b"analysis"])
    return rest


def vocabulary_path(folder: str, column: str) -> str:
    """Where a column's vocabulary lies."""
    # A name may hold what a path must not.
    return storage.join(folder, quote(column, safe=" ") + ".parquet")


def write_vocabulary(path: str, tables: Iterator[pa.Table]) -> None:
    """Writes the vocabulary of a column, a piece at a time."""
    first = next(tables)
    sums = [name for name in first.column_names if name != "value"]
    with storage.publish(path) as writer:
        with pq.ParquetWriter(
            pa.PythonFile(writer, "w"), first.schema, compression="zstd", use_dictionary=sums, write_statistics=False
        ) as file:
            for table in itertools.chain([first], tables):
                file.write_table(table)


def read_vocabulary(folder: str, column: str) -> Vocabulary:
    """Reads the vocabulary of a column."""
    with storage.open_read(vocabulary_path(folder, column)) as file:
        return Vocabulary.from_table(pq.read_table(pa.py_buffer(file.read())))


def read_values(folder: str, column: str) -> pa.BinaryArray:
    """Reads only the values of a column's vocabulary."""
    with storage.open_read(vocabulary_path(folder, column)) as file:
        return stored_values(pq.read_table(pa.py_buffer(file.read()), columns=["value"])["value"])


def count_ids(folder: str, columns: Sequence[str]) -> tuple[int, ...]:
    """Number of vocabulary ids of each column."""
    ids = []
    for column in columns:
        with storage.open_read(vocabulary_path(folder, column)) as file:
            # A row for each id but the one of unseen values.
            ids.append(pq.read_metadata(pa.PythonFile(file, "r")).num_rows + 1)
    return tuple(ids)

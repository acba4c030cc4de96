"""``--dry-run``: what a job would read, write and hold, from a sample of the log."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from features.blocks import BLOCK_ROWS
from features.errors import DataError
from features.layouts import ROWS
from features.lines import CHUNK_BYTES
from features.rows import ParsedRows
from features.schema import PARQUET, Schema
from features.splits import Split
from features.values import unify
from pipeline import storage
from pipeline.plan import Range, Task, count_parquet_rows, log_sizes, plan, train_share
from pipeline.preprocess import parts_of
from pipeline.reading import read_ranges
from pipeline.settings import PreprocessConfig

_PIECES = 32
_PIECE_BYTES = 1 << 20
_MB = 1e6
# Measured: Python with Beam and Arrow; a chunk while it is parsed; what merging holds for a count and for a value.
_BASE_BYTES = 260e6
_CHUNK_FACTOR, _RANGE_FACTOR = 15.0, 1.2
_COUNT_BYTES, _HELD_BYTES = 230.0, 150.0


@dataclass(frozen=True)
class Growth:
    """How many distinct values a column has in so many rows.

    Args:
        first: int64 [values], rising: the row of the sample in which each value occurs for the first time.
        rows: of the sample.
        length: mean bytes of a value.
    """

    first: npt.NDArray[np.int64]
    rows: int
    length: float

    @classmethod
    def of(cls, columns: Sequence[pa.DictionaryArray]) -> Growth:
        """The growth of a column in a sample."""
        column = unify(columns)
        _, first = np.unique(column.indices.to_numpy(), return_index=True)
        length = pc.mean(pc.binary_length(column.dictionary)).as_py() or 0.0
        return cls(np.sort(first), len(column), float(length))

    def values(self, rows: float) -> float:
        """Distinct values in so many rows.

        In more rows than the sample's they grow by Heaps' law, rows^b, with the b of the sample's second half.
        """
        found = float(np.searchsorted(self.first, min(rows, self.rows)))
        if rows <= self.rows or not found:
            return found
        half = float(np.searchsorted(self.first, self.rows / 2))
        return min(rows, found * (rows / self.rows) ** math.log2(found / max(half, 1.0)))


@dataclass(frozen=True)
class Estimate:
    """What a job would do.

    Args:
        files: of the log.
        bytes: of the log, decompressed.
        rows: of the log.
        rejects: bad lines.
        ranges: of the plan.
        examples: bytes of the shards.
        vocabulary: bytes of the vocabularies on disk.
        scratch: bytes of what lies in between, which is removed.
        memory: peak bytes of one process with all its workers.
    """

    files: int
    bytes: float
    rows: float
    rejects: float
    ranges: int
    examples: float
    vocabulary: float
    scratch: float
    memory: float

    @property
    def peak_disk(self) -> float:
        """Most bytes on disk at any time: a range's scratch is removed when its shards are written."""
        return self.vocabulary + max(self.scratch, self.examples)


def estimate(inputs: Sequence[str], schema: Schema, config: PreprocessConfig, workers: int) -> Estimate:
    """Estimates a job from pieces of its log.

    Args:
        inputs: paths and globs of the log.
        schema: of the log.
        config: settings.
        workers: threads of the local runner, or of one worker elsewhere.

    Raises:
        DataError: as :func:`pipeline.preprocess.preprocess`, or the sample holds no row.
    """
    files = storage.find_inputs(inputs)
    split = Split.parse(config.split)
    split.check(schema)
    sizes = log_sizes(files, schema)
    tasks = plan(files, sizes, schema, split, config.shard_mb << 20)
    lengths = [count_parquet_rows(file) if file.size else 0 for file in files] if schema.format == PARQUET else sizes
    pieces = list(_pieces(files, lengths, schema))
    parts = [part for piece, _ in pieces for part in piece]
    rows, rejects = sum(map(len, parts)), sum(len(part.rejects) for part in parts)
    if not rows:
        raise DataError(f"The sample of the log must hold rows. Received: {rejects} bad lines.")
    scale = sum(lengths) / sum(length for _, length in pieces)
    ranges = sum(len(task.ranges) or math.ceil(sizes[task.index] / task.step) for task in tasks)
    step = sum(sizes) / ranges
    share = train_share(sizes, split)
    whole = rows * scale
    growth = [Growth.of([part.categorical[index] for part in parts]) for index in range(len(schema.categorical))]
    of_range = whole / ranges
    return Estimate(
        len(files),
        sum(sizes),
        whole,
        rejects * scale,
        ranges,
        _examples(whole, schema, config.layout),
        sum(_vocabulary_bytes(item, whole * share, config) for item in growth),
        ranges * _scratch(of_range, share, growth, schema),
        _memory(whole * share, of_range, step, growth, config, workers, parts_of(sum(sizes))),
    )


def _pieces(
    files: Sequence[storage.InputFile], lengths: Sequence[int], schema: Schema
) -> Iterator[tuple[list[ParsedRows], int]]:
    """Parsed pieces from everywhere in the log, each with its length: in bytes, or in rows of parquet files."""
    piece = _PIECE_BYTES if schema.format != PARQUET else BLOCK_ROWS
    count = max(1, min(_PIECES, int(sum(lengths) // piece)))
    starts = np.cumsum([0, *lengths])
    for number in range(count):
        position = sum(lengths) * number / count
        index = int(np.searchsorted(starts, position, side="right")) - 1
        file, start = files[index], int(position - starts[index])
        if file.compressed and start:
            continue
        end = int(min(start + piece * (count if file.compressed else 1), lengths[index]))
        part = Range(index, 0, start, end)
        task = Task(file, index, (part,), end) if file.compressed else Task(file, index, (part,))
        yield next(iter(read_ranges(task, schema))).parts, end - start


def _examples(rows: float, schema: Schema, layout: str) -> float:
    """Bytes of all shards."""
    columns = len(schema.numeric) + len(schema.categorical)
    extra = len(schema.outcomes) + 4 * (schema.weight is not None) + 8 * (schema.group is not None)
    if layout == ROWS:
        names = sum(len(name.encode()) for name in (*schema.numeric, *schema.categorical))
        # A field: its name, its value of 4 or 5 bytes, and the bytes around them.
        return rows * (names + columns * 14 + extra + 60)
    return rows * (10 + 4 * columns + extra) + math.ceil(rows / BLOCK_ROWS) * 150


def _vocabulary_bytes(growth: Growth, rows: float, config: PreprocessConfig) -> float:
    """Bytes of a column's vocabulary on disk: its values compress to about a half, its counts to less."""
    return 2000 + min(growth.values(rows), config.max_vocabulary) * (0.5 * growth.length + 2.5)


def _scratch(rows: float, share: float, growth: Sequence[Growth], schema: Schema) -> float:
    """Bytes of the parsed rows and of the counts of one range."""
    fixed = 9 + len(schema.outcomes) + 4 * (schema.weight is not None) + 8 * (schema.group is not None)
    bytes_ = rows * (fixed + 2 * len(schema.numeric))
    for item in growth:
        values = item.values(rows)
        bytes_ += rows * (1 if values < 128 else 2 if values < 1 << 15 else 4) + values * (item.length + 4)
        # A frequent value has a count in every fold.
        bytes_ += share * min(rows, _cells(item, rows)) * (item.length + 13)
    return bytes_


def _cells(growth: Growth, rows: float) -> float:
    """Distinct pairs of value and fold: what a tenth of the rows has, ten times."""
    return 10 * growth.values(rows / 10)


def _memory(
    rows: float,
    of_range: float,
    step: float,
    growth: Sequence[Growth],
    config: PreprocessConfig,
    workers: int,
    parts: int,
) -> float:
    """Peak bytes: parsing, merging or writing, whichever holds most."""
    kept = [min(item.values(rows), config.max_vocabulary) for item in growth]
    tables = sum(count * (item.length + 16) for count, item in zip(kept, growth, strict=True))
    ranges = max(1.0, rows / of_range)
    counts = [ranges * _cells(item, of_range) / parts for item in growth]
    merge = max(
        min(count, rows / parts) * _COUNT_BYTES + min(item.values(rows), 2 * config.max_vocabulary) * _HELD_BYTES
        for count, item in zip(counts, growth, strict=True)
    )
    parse = min(CHUNK_BYTES, step) * _CHUNK_FACTOR + step * _RANGE_FACTOR
    return _BASE_BYTES + max(workers * parse, workers * merge, tables + workers * step)


def as_text(found: Estimate) -> str:
    """The estimate as a table for people."""
    lines = {
        "files": f"{found.files:,}",
        "log": f"{found.bytes / _MB:,.0f} MB, about {found.rows:,.0f} rows and {found.rejects:,.0f} rejects",
        "ranges": f"{found.ranges:,}",
        "examples": f"{found.examples / _MB:,.0f} MB",
        "vocabularies": f"{found.vocabulary / _MB:,.0f} MB",
        "scratch": f"{found.scratch / _MB:,.0f} MB, removed at the end",
        "peak disk": f"{found.peak_disk / _MB:,.0f} MB",
        "peak memory": f"{found.memory / _MB:,.0f} MB",
    }
    return pd.Series(lines).to_string()

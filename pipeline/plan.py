"""The plan of a log: which ranges of which files are read in one go, and which shards their rows become.

Ranges are known before anything is read, except those of a compressed file: it is read as a stream, a range after
another. What they hold, and so where the splits meet and how the shards are numbered, is known when all are parsed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.errors import ConfigError, DataError
from features.parquet_rows import bytes_per_row, count_rows
from features.schema import PARQUET, Schema
from features.spec import SPLITS
from features.splits import BYTES, FILES, LINES, Split
from pipeline.storage import InputFile, open_read, stream_size

MIN_TRAIN_SHARDS = 16
# A small training part must not cut all the rest into crumbs.
_MOST_SMALL_RANGES = 1024
ALL = 1 << 62
"""A position behind every row."""


@dataclass(frozen=True)
class Range:
    """Rows of a file that start in [start, end): bytes (of the decompressed stream), or numbers of parquet rows.

    Args:
        file: number of the file among the inputs.
        number: of the range in its file.
        start: first position.
        end: position behind the last.
    """

    file: int
    number: int
    start: int
    end: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Range:
        """The range that a record is of."""
        return cls(record["file"], record["number"], record["start"], record["end"])

    @property
    def name(self) -> str:
        """A name for the range's own files; names are in the order of the log."""
        return f"{self.file:05d}-{self.number:06d}"


@dataclass(frozen=True)
class Task:
    """What one worker reads in one go: a range of a file, or all ranges of a compressed one.

    Args:
        file: to read.
        index: its number among the inputs.
        ranges: of the file; of a compressed one none.
        step: bytes of a range of a compressed file.
    """

    file: InputFile
    index: int
    ranges: tuple[Range, ...]
    step: int = 0

    def all_ranges(self) -> Iterator[Range]:
        """The ranges; those of a compressed file go on without end."""
        if not self.file.compressed:
            return iter(self.ranges)
        bounds = itertools.count(0, self.step)
        return (Range(self.index, number, start, start + self.step) for number, start in enumerate(bounds))


def plan(
    files: Sequence[InputFile], sizes: Sequence[int], schema: Schema, split: Split, shard_bytes: int
) -> list[Task]:
    """Divides the files, in order, into ranges.

    Args:
        files: of the log, in time order.
        sizes: see :func:`log_sizes`.
        schema: of the log.
        split: see :class:`features.splits.Split`.
        shard_bytes: largest number of bytes of a range; fewer if training would have less than 16 shards.

    Raises:
        DataError: all files are empty, or the split names another number of files.
    """
    if split.method == FILES and sum(split.parts) != len(files):
        wanted = "/".join(str(int(part)) for part in split.parts)
        raise DataError(
            f"--split files: must add up to the files of the input. Received: {wanted} for {len(files)} files."
        )
    if not sum(sizes):
        raise DataError(f"The input must hold rows. Received: only empty files ({', '.join(f.path for f in files)}).")
    train = train_share(sizes, split) * sum(sizes)
    least = math.ceil(sum(sizes) / _MOST_SMALL_RANGES)
    step = min(shard_bytes, max(least, math.ceil(train / MIN_TRAIN_SHARDS)))
    tasks = []
    for index, (file, size) in enumerate(zip(files, sizes, strict=True)):
        if size and file.compressed:
            tasks.append(Task(file, index, (), step))
        elif size:
            rows = count_parquet_rows(file) if schema.format == PARQUET else size
            tasks += [Task(file, index, (part,)) for part in divide(index, rows, math.ceil(size / step))]
    return tasks


def check_compression(files: Sequence[InputFile], schema: Schema) -> None:
    """Raises a ConfigError for a parquet file with the name of a compressed one."""
    for file in files:
        if file.compressed and schema.format == PARQUET:
            raise ConfigError(f"A parquet file must not be compressed as a whole. Received: {file.path}.")


def divide(file: int, size: int, pieces: int) -> list[Range]:
    """Ranges of about the same size."""
    bounds = [size * piece // pieces for piece in range(pieces + 1)]
    return [Range(file, number, *pair) for number, pair in enumerate(itertools.pairwise(bounds))]


def count_parquet_rows(file: InputFile) -> int:
    """Rows of a parquet file."""
    with open_read(file.path) as stream:
        return count_rows(stream)


def log_sizes(files: Sequence[InputFile], schema: Schema) -> list[int]:
    """Bytes of each file's rows; of a compressed file an estimate from its beginning.

    Raises:
        ConfigError: a parquet file has the name of a compressed one.
        DataError: a file is damaged.
    """
    check_compression(files, schema)
    return [_size(file, schema) for file in files]


def _size(file: InputFile, schema: Schema) -> int:
    if schema.format == PARQUET and file.size:
        with open_read(file.path) as stream:
            rows = count_rows(stream)
            return math.ceil(rows * bytes_per_row(stream)) if rows else 0
    return stream_size(file) if file.size else 0


def train_share(sizes: Sequence[int], split: Split) -> float:
    """About how much of the bytes is for training."""
    if split.method == FILES:
        return sum(sizes[: int(split.parts[0])]) / sum(sizes)
    return split.parts[0] / sum(split.parts) if split.parts else 1.0


@dataclass(frozen=True)
class Entry:
    """A parsed range with its place in the whole.

    Args:
        range: which.
        source: path of the file.
        bounds: where validation and test begin in the range: a position, or the number of a line in it.
        shards: number of the shard in each split of which the range may hold rows.
    """

    range: Range
    source: str
    bounds: tuple[int, int]
    shards: dict[str, int]

    def shard(self, split: str) -> str:
        """Path of a shard below the folder of the examples, without the ending."""
        return f"{split}/shard-{self.shards[split]:05d}"


def arrange(files: Mapping[int, InputFile], split: Split, parsed: Sequence[dict[str, Any]]) -> list[Entry]:
    """Finds where the splits meet, and numbers the shards.

    Args:
        files: of the log that are not empty, by number.
        split: see :class:`features.splits.Split`.
        parsed: ``file``, ``number``, ``start``, ``end`` and ``lines`` of each parsed range, in the order of the log.

    Raises:
        DataError: the split asks for other than the lines that there are.
    """
    bounds = [(ALL, ALL)] * len(parsed) if split.by_row else _bounds(split, parsed)
    if not split.validates:
        bounds = [(test, test) for _, test in bounds]
    numbers = dict.fromkeys(SPLITS, 0)
    entries = []
    for item, (valid, test) in zip(parsed, bounds, strict=True):
        low, high = (0, item["lines"]) if split.method == LINES else (item["start"], item["end"])
        limits = itertools.pairwise((-ALL, valid, test, ALL))
        held = [split.by_row or max(low, first) < min(high, last) for first, last in limits]
        shards = {name: numbers[name] for name, holds in zip(SPLITS, held, strict=True) if holds}
        for name in shards:
            numbers[name] += 1
        place = Range.of(item)
        entries.append(Entry(place, files[place.file].path, (valid, test), shards))
    return entries


def _bounds(split: Split, parsed: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """Where validation and test begin in each range."""
    if split.method == FILES:
        return _file_bounds(split, parsed)
    # Positions count over all files together.
    sizes = [item["lines"] if split.method == LINES else item["end"] - item["start"] for item in parsed]
    total = sum(sizes)
    if split.method == LINES and total != sum(split.parts):
        wanted = "/".join(str(int(part)) for part in split.parts)
        raise DataError(
            f"--split in lines must add up to the lines of the input. Received: {wanted}, {sum(split.parts):.0f} in "
            f"all, for {total} lines."
        )
    scale = 1 if split.method == LINES else total
    cuts = [round(scale * split.parts[0]), round(scale * (split.parts[0] + split.parts[1]))]
    if split.method == BYTES and split.parts[2] == 0:
        cuts[1] = total
    bounds, position = [], 0
    for item, size in zip(parsed, sizes, strict=True):
        first = 0 if split.method == LINES else item["start"]
        valid, test = (first + cut - position if cut < position + size else ALL for cut in cuts)
        bounds.append((valid, test))
        position += size
    return bounds


def _file_bounds(split: Split, parsed: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    train, valid = int(split.parts[0]), int(split.parts[0] + split.parts[1])
    return [(ALL if item["file"] < train else -1, ALL if item["file"] < valid else -1) for item in parsed]

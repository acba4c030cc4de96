"""The plan of a log: which byte ranges of which files become which shard of which split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from features.errors import ConfigError, DataError
from features.spec import SPLITS
from pipeline.storage import InputFile, open_log

MIN_TRAIN_SHARDS = 16
_READ = 8 << 20


@dataclass(frozen=True)
class Shard:
    """A plan entry: the lines of a file that start in [start, end) and make one shard of one split.

    Offsets of a compressed file are those of the decompressed stream.
    """

    split: str
    index: int
    start: int
    end: int

    @property
    def name(self) -> str:
        """Path below the folder of the examples or targets, without the ending."""
        return f"{self.split}/shard-{self.index:05d}"


@dataclass(frozen=True)
class Task:
    """What one worker reads in one go: a shard of a plain file, or all shards of a compressed one."""

    file: InputFile
    shards: tuple[Shard, ...]

    def only(self, split: str) -> Task:
        """The part of the task that belongs to a split."""
        return Task(self.file, tuple(shard for shard in self.shards if shard.split == split))


@dataclass(frozen=True)
class Split:
    """How the rows are divided in time order: shares of the bytes, or numbers of lines.

    Args:
        parts: of training, validation and test.
        by_lines: whether the parts are numbers of lines.
    """

    parts: tuple[float, float, float]
    by_lines: bool

    @classmethod
    def parse(cls, text: str) -> Split:
        """Reads ``70/15/15`` or ``0.7/0.15/0.15`` (shares) or ``106703/22865/0`` (numbers of lines).

        Raises:
            ConfigError: it is none of these, or leaves nothing for training or validation.
        """
        try:
            parts = [float(part) for part in text.split("/")]
        except ValueError:
            parts = []
        if not all(map(math.isfinite, parts)):
            parts = []
        total = sum(parts)
        shares = math.isclose(total, 1) or math.isclose(total, 100)
        whole = all(part == int(part) for part in parts)
        if len(parts) != 3 or min(parts) < 0 or min(parts[:2]) <= 0 or not (shares or whole):
            raise ConfigError(
                "--split must be train/valid/test as shares that add up to 100 or 1, or as numbers of lines, with rows "
                f"to train on and to validate on. Received: {text}."
            )
        return cls((parts[0], parts[1], parts[2]), by_lines=not shares)


def plan(files: Sequence[InputFile], split: Split, shard_bytes: int) -> tuple[list[Task], int]:
    """Divides the files, in order, into shards.

    Args:
        files: of the log, in time order.
        split: see :class:`Split`; positions count over all files together.
        shard_bytes: largest size of a shard; smaller if training would have fewer than 16.

    Returns:
        the tasks, and the number of decompressed bytes.

    Raises:
        DataError: all files are empty, or the split asks for other than the lines there are.
    """
    sizes = [stream_size(file) for file in files]
    total = sum(sizes)
    if not total:
        raise DataError(f"The input must hold rows. Received: only empty files ({', '.join(f.path for f in files)}).")
    cuts = _line_cuts(files, split) if split.by_lines else _share_cuts(total, split)
    step = min(shard_bytes, max(1, math.ceil((cuts[1] - cuts[0]) / MIN_TRAIN_SHARDS)))
    next_index = dict.fromkeys(SPLITS, 0)
    tasks = []
    position = 0
    for file, size in zip(files, sizes, strict=True):
        shards = _shards(position, size, cuts, step, next_index)
        tasks += [Task(file, tuple(shards))] if file.compressed else [Task(file, (shard,)) for shard in shards]
        position += size
    return [task for task in tasks if task.shards], total


def stream_size(file: InputFile) -> int:
    """Bytes of a file, decompressed."""
    if not file.compressed:
        return file.size
    with open_log(file) as stream:
        return sum(iter(lambda: len(stream.read(_READ)), 0))


def _share_cuts(total: int, split: Split) -> list[int]:
    whole = sum(split.parts)
    first = split.parts[0] / whole
    second = (split.parts[0] + split.parts[1]) / whole
    return [0, round(total * first), total if split.parts[2] == 0 else round(total * second), total]


def _line_cuts(files: Sequence[InputFile], split: Split) -> list[int]:
    """Positions at which the wanted numbers of lines have been passed."""
    train, valid, test = (int(part) for part in split.parts)
    wanted = [train, train + valid]
    cuts: list[int] = []
    lines = position = 0
    for file in files:
        with open_log(file) as stream:
            last = b"\n"
            while data := stream.read(_READ):
                found = data.count(b"\n")
                while len(cuts) < 2 and lines + found >= wanted[len(cuts)]:
                    cuts.append(position + _after_line(data, wanted[len(cuts)] - lines))
                lines += found
                position += len(data)
                last = data[-1:]
        lines += last != b"\n"
        if len(cuts) < 2 and lines == wanted[len(cuts)]:
            cuts.append(position)
    if lines != train + valid + test:
        raise DataError(
            f"--split in lines must add up to the lines of the input. Received: {train}/{valid}/{test}, "
            f"{train + valid + test} in all, for {lines} lines."
        )
    return [0, *cuts, position]


def _after_line(data: bytes, number: int) -> int:
    """Position behind the given number of newlines."""
    position = 0
    for _ in range(number):
        position = data.index(b"\n", position) + 1
    return position


def _shards(position: int, size: int, cuts: Sequence[int], step: int, next_index: dict[str, int]) -> list[Shard]:
    """The shards of one file that lies at ``position`` of all bytes."""
    shards = []
    for split, low, high in zip(SPLITS, cuts[:-1], cuts[1:], strict=True):
        start, end = max(low, position), min(high, position + size)
        pieces = math.ceil(max(end - start, 0) / step)
        bounds = [start + (end - start) * piece // max(pieces, 1) for piece in range(pieces + 1)]
        for left, right in zip(bounds[:-1], bounds[1:], strict=True):
            shards.append(Shard(split, next_index[split], left - position, right - position))
            next_index[split] += 1
    return shards

"""The ranges of a log as parsed rows: what ``preprocess`` and ``predict`` read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from features.errors import ArtifactError, DataError
from features.json_lines import parse_json_chunk
from features.lines import Chunk, LineReader
from features.parquet_rows import check_columns, read_rows
from features.parsing import parse_chunk
from features.rejects import Reject
from features.rows import ParsedRows
from features.schema import JSON, PARQUET, Schema
from pipeline import storage
from pipeline.plan import Range, Task


class Part(Protocol):
    """What is kept of a chunk: rows, counted by ``len``, and the lines that are none."""

    @property
    def rejects(self) -> list[Reject]:
        """The bad lines, in file order."""

    def __len__(self) -> int: ...


P = TypeVar("P", bound=Part)


@dataclass(frozen=True)
class RangeParts(Generic[P]):
    """What is kept of the lines of a range.

    Args:
        source: path of the file.
        range: of the file; the last one of a compressed file ends with the stream.
        parts: rows and rejects, a part a chunk; none if no line starts in the range.
        last: whether it is the last range of its task.
    """

    source: str
    range: Range
    parts: list[P]
    last: bool

    @property
    def rejects(self) -> list[Reject]:
        """The bad lines, in file order."""
        return [reject for part in self.parts for reject in part.rejects]

    def record(self) -> dict[str, Any]:
        """What is kept of the range when it is done: where it lies and what it holds, as plain JSON values."""
        rows = sum(map(len, self.parts))
        place = {name: getattr(self.range, name) for name in ("file", "number", "start", "end")}
        counts = {"lines": rows + len(self.rejects), "rows": rows, "rejects": len(self.rejects)}
        return {**place, **counts, "last": self.last}


RangeRows = RangeParts[ParsedRows]


def read_ranges(task: Task, schema: Schema, labelled: bool = True, first: int = 0) -> Iterator[RangeRows]:
    """Parses the ranges of a task, one after another; of the raw bytes no more than a chunk is held.

    Args:
        task: of the plan.
        schema: of the log.
        labelled: whether the log has the label column.
        first: number of the range in the task to begin with.

    Raises:
        DataError: the file is damaged, has another header or other columns than the schema, or a line was lost.
        ArtifactError: the file cannot be read.
    """
    return map_ranges(lambda rows: rows, task, schema, labelled, first)


def map_ranges(
    keep: Callable[[ParsedRows], P], task: Task, schema: Schema, labelled: bool = True, first: int = 0
) -> Iterator[RangeParts[P]]:
    """The same where less is kept of a chunk than its rows: ``keep`` makes it of them before the next one is parsed."""
    read = _read_parquet if schema.format == PARQUET else _read_lines
    try:
        yield from read(keep, task, schema, labelled, first)
    except OSError as error:
        reason, path = error.strerror or error, task.file.path
        raise ArtifactError(f"A file must be readable to its end. Received: {path} ({reason}).") from error


def _read_lines(
    keep: Callable[[ParsedRows], P], task: Task, schema: Schema, labelled: bool, first: int
) -> Iterator[RangeParts[P]]:
    parse = parse_json_chunk if schema.format == JSON else parse_chunk
    path = task.file.path
    with storage.open_log(task.file) as stream:
        reader = LineReader(stream)
        for number, part in enumerate(task.all_ranges()):
            if number < first:
                continue
            chunks = reader.chunks(part.start, part.end)
            parts = [keep(_parse(parse, chunk, schema, labelled, path)) for chunk in chunks]
            last = reader.ended if task.file.compressed else True
            end = reader.position if task.file.compressed and last else part.end
            yield RangeParts(path, replace(part, end=end), parts, last)
            if last:
                return


def _read_parquet(
    keep: Callable[[ParsedRows], P], task: Task, schema: Schema, labelled: bool, first: int
) -> Iterator[RangeParts[P]]:
    path = task.file.path
    with storage.open_read(path) as stream:
        check_columns(stream, schema, labelled, path)
        for part in task.ranges[first:]:
            rows = read_rows(stream, part.start, part.end, schema, labelled, path)
            yield RangeParts(path, part, list(map(keep, rows)), True)


def _parse(
    parse: Callable[[Chunk, Schema, bool], ParsedRows], chunk: Chunk, schema: Schema, labelled: bool, source: str
) -> ParsedRows:
    """Parses a chunk and makes sure that no line was lost."""
    try:
        rows = parse(chunk, schema, labelled)
    except DataError as error:
        raise DataError(f"{error} File: {source}.") from error
    # Counted apart from the parser. Only a file's first line, possibly behind a byte order mark, is a header.
    lines = chunk.data.count(b"\n") + (not chunk.data.endswith(b"\n")) - (schema.header and chunk.offset in (0, 3))
    found = len(rows) + len(rows.rejects)
    if found != lines:
        raise DataError(
            f"Every line must end as a row or a reject. Received: {lines} lines, {found} rows and rejects "
            f"({source}, {len(chunk.data)} bytes from {chunk.offset})."
        )
    return rows


def check_rejects(rejects: int, lines: int, limit: float, text: str, folder: str) -> None:
    """Raises a DataError for more bad lines than a share of all, ``text`` for people; ``folder`` holds them."""
    if rejects > limit * lines:
        raise DataError(
            f"At most {text} of the lines must be bad. Received: {rejects} of {lines} "
            f"({folder} says which and why; raise --max-rejects or mend the log)."
        )


def finished(task: Task, record_path: Callable[[Range], str]) -> tuple[list[dict[str, Any]], bool]:
    """The records of a task's ranges that are done, in order, and whether these are all.

    Args:
        task: of the plan.
        record_path: where the record of a range lies.
    """
    records: list[dict[str, Any]] = []
    for part in task.all_ranges():
        path = record_path(part)
        if not storage.exists(path):
            return records, False
        records.append(storage.read_json(path))
        if records[-1]["last"]:
            return records, True
    return records, False

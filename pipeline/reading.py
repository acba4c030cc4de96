"""The shards of a log as parsed rows: what both passes of ``preprocess``, and ``predict``, read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from features.errors import DataError
from features.lines import Chunk, read_chunks
from features.parsing import ParsedRows, parse_chunk
from features.rejects import Reject
from features.schema import Schema
from pipeline import storage
from pipeline.plan import Shard, Task


@dataclass(frozen=True)
class ShardRows:
    """The parsed lines of a shard.

    Args:
        source: path of the file.
        shard: the plan entry.
        parts: rows and rejects, a part a chunk; none if no line starts in the shard.
    """

    source: str
    shard: Shard
    parts: list[ParsedRows]

    @property
    def rejects(self) -> list[Reject]:
        """The bad lines, in file order."""
        return [reject for part in self.parts for reject in part.rejects]


def read_shards(task: Task, shards: Sequence[Shard], schema: Schema, labelled: bool = True) -> Iterator[ShardRows]:
    """Parses some shards of a task, one after another; of the raw bytes no more than a chunk is held.

    Args:
        task: of the plan.
        shards: of the task, in order.
        schema: of the log.
        labelled: whether the log has the label column.

    Raises:
        DataError: the file is damaged, has another header than the schema, or a line was lost.
    """
    if not shards:
        return
    with storage.open_log(task.file) as stream:
        chunks = read_chunks(stream, [(shard.start, shard.end) for shard in shards])
        groups = itertools.groupby(chunks, key=itemgetter(0))
        filled, group = next(groups, (None, iter(())))
        for index, shard in enumerate(shards):
            parts = []
            if index == filled:
                parts = [_parse(chunk, schema, labelled, task.file.path) for _, chunk in group]
                filled, group = next(groups, (None, iter(())))
            yield ShardRows(task.file.path, shard, parts)


def _parse(chunk: Chunk, schema: Schema, labelled: bool, source: str) -> ParsedRows:
    """Parses a chunk and makes sure that no line was lost."""
    try:
        rows = parse_chunk(chunk, schema, labelled)
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

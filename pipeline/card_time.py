"""The times of the first and the last row of a log, for a model card."""

from __future__ import annotations

from typing import Any

from features.rows import ParsedRows
from features.schema import PARQUET, Schema
from pipeline import storage
from pipeline.plan import Range, Task, count_parquet_rows
from pipeline.reading import read_ranges

# Bytes of lines, or rows of parquet, that are read at both ends.
_END = {True: 1000, False: 1 << 18}


def time_span(inputs: list[dict[str, Any]], schema: Schema) -> str:
    """Times of the first and of the last good row; empty where the log has none, or is gone, changed or compressed.

    Args:
        inputs: path, size and version of each file, in time order.
        schema: of the log.
    """
    files = [storage.InputFile(item["path"], item["size"], item["version"]) for item in inputs if item["size"]]
    ends = files[:1] + files[-1:]
    if not schema.time or any(file.compressed or not _is_there(file) for file in ends):
        return ""
    first, last = (_times(file, schema) for file in ends)
    return f"{first[0]} to {last[-1]}" if first and last else ""


def _is_there(file: storage.InputFile) -> bool:
    return storage.exists(file.path) and storage.version(file.path) == [file.size, file.version]


def _times(file: storage.InputFile, schema: Schema) -> list[str]:
    """Times of the rows at both ends of a file, in its order."""
    parquet = schema.format == PARQUET
    size, step = count_parquet_rows(file) if parquet else file.size, _END[parquet]
    middle = min(step, size)
    ranges = [Range(0, 0, 0, middle), Range(0, 1, max(middle, size - step), size)]
    found = [part for place in ranges for part in read_ranges(Task(file, 0, (place,)), schema)]
    return [time for part in found for rows in part.parts for time in _of_rows(rows, schema)]


def _of_rows(rows: ParsedRows, schema: Schema) -> list[str]:
    assert schema.time
    return [time.decode() for time in rows.keys[schema.keys.index(schema.time)].to_pylist()]

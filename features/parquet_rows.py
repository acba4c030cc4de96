"""Rows of a parquet log by number, in batches of bounded size.

Each value becomes the text that it would be in a delimited line, so that one strict parser
(:func:`features.strict.parse_texts`) says what a good row is, whatever the format.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.columns import cast_columns
from features.errors import DataError
from features.parquet_types import check_type
from features.rejects import Reject
from features.rows import ParsedRows, from_rows
from features.schema import INTEGER, LABEL, OUTCOME, Schema
from features.strict import MAX_LINE_BYTES, TOO_LONG, BadLine, Row, columns_of, parse_texts
from features.texts import check_texts, show_whole, texts_of, unclean

BATCH_ROWS = 1 << 15
_BATCH_BYTES = 8 << 20
# Pages are read one after another; without this a column of a row group is read whole.
_BUFFER_BYTES = 1 << 20


def count_rows(stream: BinaryIO) -> int:
    """Number of rows of a parquet file.

    Raises:
        DataError: it is no whole parquet file.
    """
    return int(_open(stream).metadata.num_rows)


def bytes_per_row(stream: BinaryIO) -> float:
    """Mean bytes of a row of all columns, not compressed but as they are encoded; 0 for a file without rows.

    Raises:
        DataError: it is no whole parquet file.
    """
    return _row_bytes(_open(stream).metadata)


def has_label(stream: BinaryIO, schema: Schema) -> bool:
    """Whether a parquet file has the label column.

    Raises:
        DataError: it is no whole parquet file.
    """
    return schema.label in _open(stream).schema_arrow.names


def check_columns(stream: BinaryIO, schema: Schema, labelled: bool, source: str) -> None:
    """Makes sure that a parquet file has the columns of the schema, each once and with values of its kind.

    Args:
        stream: of the file; seekable.
        schema: of the log; other columns of the file are ignored.
        labelled: whether the log has the label column.
        source: the file's name, for the error.

    Raises:
        DataError: a column is missing, occurs twice, has several values a row, or another type than its kind allows.
    """
    found = _open(stream).schema_arrow
    for column in columns_of(schema, labelled):
        fields = [field for field in found if field.name == column.name]
        if len(fields) != 1:
            what = f"{len(fields)} of that name" if fields else f"only {', '.join(found.names)}"
            raise DataError(
                f"A parquet file must have the column {column.name!r} of the schema once. Received: {what} ({source})."
            )
        check_type(fields[0].type, column, source)


def read_rows(
    stream: BinaryIO, start: int, end: int, schema: Schema, labelled: bool, source: str
) -> Iterator[ParsedRows]:
    """Reads the rows with numbers [start, end); of the file only the row groups and columns that hold them.

    Args:
        stream: of a file that :func:`check_columns` has passed; seekable.
        start: number of the first row.
        end: number behind the last row; may lie behind the file's.
        schema: of the log.
        labelled: whether the log has the label column.
        source: the file's name, for errors.

    Yields:
        Batches in order; their offsets are numbers of rows. Each row of the file is a row or a reject, whose raw
        bytes are a JSON object of the texts of its columns.

    Raises:
        DataError: the file is damaged.
    """
    file = _open(stream)
    names = [column.name for column in columns_of(schema, labelled)]
    groups, first = _groups(file.metadata, start, end)
    size = int(min(BATCH_ROWS, max(1, _BATCH_BYTES / max(1.0, _row_bytes(file.metadata)))))
    for batch in _batches(file, size, groups, names, source):
        low, high = max(start - first, 0), min(end - first, len(batch))
        if low < high:
            yield _parse(batch.slice(low, high - low), first + low, schema, labelled)
        first += len(batch)
        if first >= end:
            return


def first_rows(stream: BinaryIO, rows: int, source: str) -> pa.Table:
    """The first rows of a parquet file, with all columns as they are.

    Raises:
        DataError: the file is damaged.
    """
    file = _open(stream)
    groups, _ = _groups(file.metadata, 0, rows)
    batches = list(itertools.islice(_batches(file, max(1, rows), groups, None, source), 1))
    return pa.Table.from_batches(batches, file.schema_arrow)


def _open(stream: BinaryIO) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error, str(getattr(stream, "name", "parquet file"))) from error


def _damaged(error: Exception, source: str) -> Exception:
    # An OSError with a number is of the file system, not of what is in the file.
    if getattr(error, "errno", None) is not None:
        return error
    return DataError(f"A parquet file must be whole. Received: {' '.join(str(error).split())} ({source}).")


def _row_bytes(metadata: pq.FileMetaData) -> float:
    total = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return float(total / metadata.num_rows) if metadata.num_rows else 0.0


def _groups(metadata: pq.FileMetaData, start: int, end: int) -> tuple[list[int], int]:
    """The row groups that hold rows of [start, end), and the number of the first row in them."""
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    ends = np.cumsum(sizes, dtype=np.int64)
    groups = [group for group, size in enumerate(sizes) if max(start, ends[group] - size) < min(end, ends[group])]
    return groups, int(ends[groups[0]] - sizes[groups[0]]) if groups else 0


def _batches(
    file: pq.ParquetFile, size: int, groups: list[int], names: list[str] | None, source: str
) -> Iterator[pa.RecordBatch]:
    if not groups:
        return
    try:
        yield from file.iter_batches(size, groups, names, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error, source) from error


def _parse(batch: pa.RecordBatch, first: int, schema: Schema, labelled: bool) -> ParsedRows:
    """The rows and rejects of a batch whose first row has the number ``first``."""
    columns = columns_of(schema, labelled)
    texts = {column.name: _texts(batch.column(column.name), column.kind) for column in columns}
    table = pa.table(texts)
    bad = _unfit(texts)
    values = cast_columns(table.filter(pa.array(~bad)), schema, labelled)
    bad[~bad] = values.bad
    rejects: list[Reject] = []
    if bad.any():
        rows, rejects = _judge(table, np.flatnonzero(bad), first, schema, labelled)
        if rows:  # the strict parser is the definition
            rows, rejects = _judge(table, np.arange(len(batch)), first, schema, labelled)
            return from_rows(first + np.array(list(rows)), list(rows.values()), rejects, schema, labelled)
        values = cast_columns(table.filter(pa.array(~bad)), schema, labelled)
    return values.rows(first + np.flatnonzero(~bad), rejects)


def _texts(values: pa.Array, kind: str) -> pa.Array:
    # Whole numbers are often kept as floating-point ones, for the sake of missing values.
    return texts_of(values, kind, show_whole if kind in (LABEL, OUTCOME, INTEGER) else repr)


def _unfit(texts: dict[str, pa.Array]) -> NDArray[np.bool_]:
    """Rows with texts that no line could hold: bool [n]."""
    sizes = np.sum([_lengths(column) for column in texts.values()], axis=0)
    bad: NDArray[np.bool_] = sizes > MAX_LINE_BYTES
    for column in texts.values():
        bad = bad | unclean(column)
    return bad


def _lengths(texts: pa.Array) -> NDArray[np.int64]:
    if isinstance(texts, pa.DictionaryArray):
        found: NDArray[np.int64] = _lengths(texts.dictionary)[texts.indices.to_numpy()]
        return found
    lengths: NDArray[np.int64] = pc.binary_length(texts).to_numpy().astype(np.int64)
    return lengths


def _judge(
    table: pa.Table, indices: NDArray[np.int64], first: int, schema: Schema, labelled: bool
) -> tuple[dict[int, Row], list[Reject]]:
    """What the strict parser makes of some rows of a batch."""
    rows, rejects = {}, []
    for index, texts in zip(indices.tolist(), table.take(indices).to_pylist(), strict=True):
        try:
            rows[index] = _strictly(texts, schema, labelled)
        except BadLine as bad:
            rejects.append(Reject(first + index, bad.reason, bad.detail, _raw(texts)))
    return rows, rejects


def _strictly(texts: dict[str, bytes], schema: Schema, labelled: bool) -> Row:
    size = sum(map(len, texts.values()))
    if size > MAX_LINE_BYTES:
        raise BadLine(TOO_LONG, f"expected at most {MAX_LINE_BYTES} bytes, received {size}")
    check_texts(texts)
    return parse_texts(texts, schema, labelled)


def _raw(texts: dict[str, bytes]) -> bytes:
    values = {name: text.decode("utf-8", "backslashreplace") if text else None for name, text in texts.items()}
    return json.dumps(values, ensure_ascii=False).encode()

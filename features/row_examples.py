"""An Example a row (``--layout rows``): what tools that know nothing of blocks can read.

A record is a plain ``tf.train.Example`` with a single number a feature:

==============================  =======  ==========================================
feature                         type     value
==============================  =======  ==========================================
the label column                int64    0 or 1
each outcome column             int64    0 or 1
the weight column, if any       float
each numeric column             float    standardised, NaN = missing
each categorical column         int64    vocabulary id
the group column, if any        int64    hash of the group
``_fold``                       int64    in [0, 10)
``_offset``                     int64    offset of the line in its source
==============================  =======  ==========================================

All rows of a log are records of one length, because every integer is written with as many bytes as the largest of its
type needs; a parser drops the zero bits. So a block of rows is a matrix of bytes, filled in column by column.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from features.blocks import BLOCK_ROWS, Block
from features.errors import ArtifactError, ConfigError
from features.example import encode_example
from features.schema import Schema
from features.tfrecord import Writable, masked_crc, read_records

FOLD, OFFSET = OWN_NAMES = ("_fold", "_offset")
"""The features that are no columns of the log."""

_FLOAT_BYTES = 4
# Bytes of seven bits for the largest value: 1 or 9, an int32 that is not negative, any int64.
_DIGIT, _INT32, _INT64 = 1, 5, 10
# Before a value stand the tag and the length of its list's field, and the tag and the length of the list.
_LIST_TAG = -4
_FLOAT_LIST, _INT64_LIST = 0x12, 0x1A


@dataclass(frozen=True)
class _Field:
    """A feature: its name, bytes of its value, and whether that is a float."""

    name: str
    width: int
    is_float: bool = False


def check_names(schema: Schema) -> None:
    """Raises a ConfigError if a column has a name that the records use for something else."""
    if clash := set(OWN_NAMES) & set(schema.names):
        raise ConfigError(
            f"With --layout rows a column must not be called {' or '.join(OWN_NAMES)}. "
            f"Received: {', '.join(sorted(clash))} (schema)."
        )


def encode_rows(block: Block, schema: Schema) -> NDArray[np.uint8]:
    """Serialises each row as a ``tf.train.Example``; the same rows give the same bytes.

    Args:
        block: n rows.
        schema: of the log; see :func:`check_names`.

    Returns:
        uint8 [n, bytes of a row], in the order of the rows.
    """
    fields = _fields(schema)
    template, places = _template(fields)
    values = _values(block, schema)
    rows = np.tile(template, (len(block), 1))
    rows[:, places] = np.concatenate([_encode(values[field.name], field) for field in fields], axis=1)
    return rows


def write_rows(stream: Writable, block: Block, schema: Schema) -> None:
    """Appends a record a row to a TFRecord file, in one write."""
    rows = encode_rows(block, schema)
    length = struct.pack("<Q", rows.shape[1])
    header = np.frombuffer(length + struct.pack("<I", masked_crc(length)), np.uint8)
    data, size = rows.tobytes(), rows.shape[1]
    checksums = np.array([masked_crc(data[start : start + size]) for start in range(0, len(data), size)], "<u4")
    framed = np.empty((len(rows), len(header) + rows.shape[1] + 4), np.uint8)
    framed[:, : len(header)] = header
    framed[:, len(header) : -4] = rows
    framed[:, -4:] = checksums.view(np.uint8).reshape(-1, 4)
    stream.write(framed.tobytes())


def decode_rows(records: Sequence[bytes], schema: Schema, where: str = "records") -> Block:
    """Reads what :func:`encode_rows` wrote; no other ``tf.train.Example``.

    Raises:
        ArtifactError: a record is not such a row.
    """
    fields = _fields(schema)
    template, places = _template(fields)
    if any(len(record) != len(template) for record in records):
        raise _no_row("a record of another length", where)
    rows = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), len(template))
    fixed = np.ones(len(template), bool)
    fixed[places] = False
    if (rows[:, fixed] != template[fixed]).any():
        raise _no_row("a record of other features", where)
    ends = list(itertools.accumulate(field.width for field in fields))
    values = {
        field.name: _decode(rows[:, places[end - field.width : end]], field)
        for field, end in zip(fields, ends, strict=True)
    }
    return Block(
        values[schema.label].astype(np.uint8),
        np.stack([values[name] for name in schema.numeric], axis=1).astype(np.float32),
        np.stack([values[name] for name in schema.categorical], axis=1).astype(np.int32),
        values[FOLD].astype(np.uint8),
        values[OFFSET],
        values[schema.weight] if schema.weight else None,
        values[schema.group] if schema.group else None,
        np.stack([values[name] for name in schema.outcomes], axis=1).astype(np.uint8) if schema.outcomes else None,
    )


def read_rows(stream: BinaryIO, schema: Schema, name: str) -> Iterator[Block]:
    """Yields the rows of a shard, at most 4096 as a block.

    Raises:
        ArtifactError: the file is damaged or holds something else.
    """
    records = read_records(stream, name)
    while some := list(itertools.islice(records, BLOCK_ROWS)):
        yield decode_rows(some, schema, name)


def _no_row(received: str, where: str) -> ArtifactError:
    return ArtifactError(f"A record of examples must be a row of the schema. Received: {received} ({where}).")


def _fields(schema: Schema) -> list[_Field]:
    """The features in the order of their names."""
    optional = [_Field(schema.weight, _FLOAT_BYTES, True)] if schema.weight else []
    optional += [_Field(schema.group, _INT64)] if schema.group else []
    fields = [
        *(_Field(name, _DIGIT) for name in (schema.label, *schema.outcomes)),
        *(_Field(name, _FLOAT_BYTES, True) for name in schema.numeric),
        *(_Field(name, _INT32) for name in schema.categorical),
        *optional,
        _Field(FOLD, _DIGIT),
        _Field(OFFSET, _INT64),
    ]
    return sorted(fields, key=lambda field: field.name)


def _values(block: Block, schema: Schema) -> dict[str, NDArray]:
    """The array [n] of each feature."""
    values: dict[str, NDArray] = {schema.label: block.labels, FOLD: block.folds, OFFSET: block.offsets}
    values |= {name: block.dense[:, column] for column, name in enumerate(schema.numeric)}
    values |= {name: block.ids[:, column] for column, name in enumerate(schema.categorical)}
    if block.outcomes is not None:
        values |= {name: block.outcomes[:, column] for column, name in enumerate(schema.outcomes)}
    for column, array in ((schema.weight, block.weights), (schema.group, block.groups)):
        if column and array is not None:
            values[column] = array
    return values


def _template(fields: Sequence[_Field]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A record whose values are zero bytes, and the places of these bytes, feature by feature."""
    zeros, ones = (encode_example({f.name: fill * f.width for f in fields}) for fill in (b"\0", b"\xff"))
    template = np.frombuffer(zeros, np.uint8).copy()
    places = np.flatnonzero(template != np.frombuffer(ones, np.uint8))
    ends = itertools.accumulate(field.width for field in fields)
    for field, end in zip(fields, ends, strict=True):
        # A packed list of numbers and a list of one byte string differ in nothing but the tag of the list.
        template[places[end - field.width] + _LIST_TAG] = _FLOAT_LIST if field.is_float else _INT64_LIST
    return template, places


def _encode(values: NDArray, field: _Field) -> NDArray[np.uint8]:
    """The bytes of a feature: uint8 [n, width]."""
    if field.is_float:
        return np.ascontiguousarray(values, "<f4").view(np.uint8).reshape(-1, _FLOAT_BYTES)
    shifts = np.arange(field.width, dtype=np.uint64) * np.uint64(7)
    digits = (values.astype(np.int64).view(np.uint64)[:, None] >> shifts).astype(np.uint8) & np.uint8(0x7F)
    digits[:, :-1] |= 0x80
    return digits


def _decode(data: NDArray[np.uint8], field: _Field) -> NDArray:
    """What :func:`_encode` made bytes of: float32 or int64 [n]."""
    if field.is_float:
        return np.ascontiguousarray(data).view("<f4").reshape(-1)
    shifts = np.arange(field.width, dtype=np.uint64) * np.uint64(7)
    return ((data & 0x7F).astype(np.uint64) << shifts).sum(axis=1, dtype=np.uint64).view(np.int64)

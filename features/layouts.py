"""The two layouts of a shard: records of blocks, which the stages read, and records of single rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from features.blocks import Block, read_blocks
from features.row_examples import read_rows, write_rows
from features.schema import Schema
from features.tfrecord import Writable, write_record

BLOCKS, ROWS = LAYOUTS = ("blocks", "rows")


def write_examples(stream: Writable, block: Block, schema: Schema, layout: str = BLOCKS) -> None:
    """Appends rows to a shard, at most 4096 at a time.

    Args:
        stream: where to write; left open.
        block: any number of rows.
        schema: of the log.
        layout: one of :data:`LAYOUTS`.
    """
    for piece in block.split():
        if layout == ROWS:
            write_rows(stream, piece, schema)
        else:
            write_record(stream, piece.encode())


def read_examples(stream: BinaryIO, schema: Schema, layout: str, name: str) -> Iterator[Block]:
    """Yields the rows of a shard, at most 4096 at a time.

    Raises:
        ArtifactError: the file is damaged or holds something else.
    """
    return read_rows(stream, schema, name) if layout == ROWS else read_blocks(stream, name)

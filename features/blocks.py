"""A block: some thousand rows as columns, stored as one record.

The record is a ``tf.train.Example`` whose features are raw little-endian arrays in row-major order:

========  =======  =======================================================
feature   dtype    shape
========  =======  =======================================================
label     uint8    [rows]
dense     float32  [rows, numeric columns], standardised, NaN = missing
ids       int32    [rows, categorical columns], vocabulary ids
fold      uint8    [rows], in [0, 10)
offset    int64    [rows], byte offset of the line in its source
========  =======  =======================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from features.errors import ArtifactError
from features.example import decode_example, encode_example
from features.tfrecord import read_records

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Block:
    """Rows as columns; see the module for names, dtypes and shapes."""

    labels: npt.NDArray[np.uint8]
    dense: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int32]
    folds: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Block:
        """The given rows, in the given order."""
        return Block(self.labels[rows], self.dense[rows], self.ids[rows], self.folds[rows], self.offsets[rows])

    @classmethod
    def concatenate(cls, blocks: list[Block]) -> Block:
        """One block of all rows; there must be at least one block."""
        return cls(
            np.concatenate([block.labels for block in blocks]),
            np.concatenate([block.dense for block in blocks]),
            np.concatenate([block.ids for block in blocks]),
            np.concatenate([block.folds for block in blocks]),
            np.concatenate([block.offsets for block in blocks]),
        )

    def split(self, rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """Blocks of at most ``rows`` rows, in order."""
        for start in range(0, len(self), rows):
            yield self.take(slice(start, start + rows))

    def encode(self) -> bytes:
        """The block as a record; the same block gives the same bytes."""
        return encode_example(
            {
                "label": _little_endian(self.labels, "u1"),
                "dense": _little_endian(self.dense, "<f4"),
                "ids": _little_endian(self.ids, "<i4"),
                "fold": _little_endian(self.folds, "u1"),
                "offset": _little_endian(self.offsets, "<i8"),
            }
        )

    @classmethod
    def decode(cls, data: bytes, where: str = "record") -> Block:
        """Reads what :meth:`encode` wrote.

        Raises:
            ArtifactError: the record is not a block.
        """
        features = decode_example(data, where)
        try:
            offsets = np.frombuffer(features["offset"], "<i8")
            rows = len(offsets)
            return cls(
                np.frombuffer(features["label"], "u1").reshape(rows),
                np.frombuffer(features["dense"], "<f4").reshape(rows, -1),
                np.frombuffer(features["ids"], "<i4").reshape(rows, -1),
                np.frombuffer(features["fold"], "u1").reshape(rows),
                offsets,
            )
        except (KeyError, ValueError) as error:
            raise ArtifactError(
                f"A record of examples must be a block of rows. Received: {error!r} ({where})."
            ) from error


def _little_endian(array: npt.NDArray[np.generic], dtype: str) -> bytes:
    return np.ascontiguousarray(array, dtype=dtype).tobytes()


def read_blocks(stream: BinaryIO, name: str) -> Iterator[Block]:
    """Yields the blocks of a shard.

    Raises:
        ArtifactError: the file is damaged or holds something else.
    """
    for number, record in enumerate(read_records(stream, name)):
        yield Block.decode(record, f"{name}, record {number}")

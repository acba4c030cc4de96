"""A block: some thousand rows as columns, stored as one record.

The record is a ``tf.train.Example`` whose features are raw little-endian arrays in row-major order:

========  =======  =======================================================
feature   dtype    shape
========  =======  =======================================================
label     uint8    [rows]
outcome   uint8    [rows, outcome columns], only of a log with such columns
weight    float32  [rows], only of a log with a weight column
dense     float32  [rows, numeric columns], standardised, NaN = missing
ids       int32    [rows, categorical columns], vocabulary ids
fold      uint8    [rows], in [0, 10)
group     int64    [rows], hash of the group, only of a log with a group column
offset    int64    [rows], byte offset of the line in its source
========  =======  =======================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    weights: npt.NDArray[np.float32] | None = None
    groups: npt.NDArray[np.int64] | None = None
    outcomes: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Block:
        """The given rows, in the given order."""
        return Block(
            self.labels[rows],
            self.dense[rows],
            self.ids[rows],
            self.folds[rows],
            self.offsets[rows],
            None if self.weights is None else self.weights[rows],
            None if self.groups is None else self.groups[rows],
            None if self.outcomes is None else self.outcomes[rows],
        )

    def without(self, folds: Sequence[int]) -> Block:
        """The rows of other folds than these."""
        return self.take(np.flatnonzero(~np.isin(self.folds, list(folds))))

    @classmethod
    def concatenate(cls, blocks: list[Block]) -> Block:
        """One block of all rows; there must be at least one block.

        Raises:
            ValueError: some blocks have weights, groups or outcomes, and others have not.
        """
        if len({(block.weights is None, block.groups is None, block.outcomes is None) for block in blocks}) > 1:
            raise ValueError("`blocks` should all have weights, groups and outcomes, or none. Received: some that have")
        outcomes = [block.outcomes for block in blocks if block.outcomes is not None]
        weights = [block.weights for block in blocks if block.weights is not None]
        groups = [block.groups for block in blocks if block.groups is not None]
        return cls(
            np.concatenate([block.labels for block in blocks]),
            np.concatenate([block.dense for block in blocks]),
            np.concatenate([block.ids for block in blocks]),
            np.concatenate([block.folds for block in blocks]),
            np.concatenate([block.offsets for block in blocks]),
            np.concatenate(weights) if weights else None,
            np.concatenate(groups) if groups else None,
            np.concatenate(outcomes) if outcomes else None,
        )

    def split(self, rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """Blocks of at most ``rows`` rows, in order."""
        for start in range(0, len(self), rows):
            yield self.take(slice(start, start + rows))

    def encode(self) -> bytes:
        """The block as a record; the same block gives the same bytes."""
        features = {
            "label": _little_endian(self.labels, "u1"),
            "dense": _little_endian(self.dense, "<f4"),
            "ids": _little_endian(self.ids, "<i4"),
            "fold": _little_endian(self.folds, "u1"),
            "offset": _little_endian(self.offsets, "<i8"),
        }
        if self.weights is not None:
            features["weight"] = _little_endian(self.weights, "<f4")
        if self.groups is not None:
            features["group"] = _little_endian(self.groups, "<i8")
        if self.outcomes is not None:
            features["outcome"] = _little_endian(self.outcomes, "u1")
        return encode_example(features)

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
                np.frombuffer(features["weight"], "<f4").reshape(rows) if "weight" in features else None,
                np.frombuffer(features["group"], "<i8").reshape(rows) if "group" in features else None,
                np.frombuffer(features["outcome"], "u1").reshape(rows, -1) if "outcome" in features else None,
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

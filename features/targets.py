"""A block of targets: the teacher's raw outputs for one block of examples.

The record is a ``tf.train.Example`` of raw little-endian arrays: ``logits`` float32 [rows, K] (raw subclass logits,
never tempered), ``offset`` int64 [rows] (those of the examples' block, so that a mismatch is found when both are
read), ``teacher`` (the teacher's fingerprint, text) and, where they are asked for, ``embedding`` float16 [rows, E] (the
teacher's last hidden layer on its leading directions; see :mod:`models.projections`). A teacher of several networks
adds ``members`` float32 [rows, M], the click logit of each of them, on the map that calibrates the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import ArtifactError
from features.example import decode_example, encode_example


@dataclass(frozen=True)
class TargetBlock:
    """The targets of one block; see the module."""

    logits: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    teacher: str
    embedding: npt.NDArray[np.float16] | None = None
    members: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def width(self) -> int:
        """E, the floats of an embedding; 0 without embeddings."""
        return 0 if self.embedding is None else self.embedding.shape[1]

    def take(self, rows: npt.NDArray[np.int64] | slice) -> TargetBlock:
        """The targets of the given rows, in the given order."""
        embedding = None if self.embedding is None else self.embedding[rows]
        members = None if self.members is None else self.members[rows]
        return TargetBlock(self.logits[rows], self.offsets[rows], self.teacher, embedding, members)

    def encode(self) -> bytes:
        """The targets as a record; the same targets give the same bytes."""
        features = {
            "logits": np.ascontiguousarray(self.logits, "<f4").tobytes(),
            "offset": np.ascontiguousarray(self.offsets, "<i8").tobytes(),
            "teacher": self.teacher.encode(),
        }
        if self.embedding is not None:
            features["embedding"] = np.ascontiguousarray(self.embedding, "<f2").tobytes()
        if self.members is not None:
            features["members"] = np.ascontiguousarray(self.members, "<f4").tobytes()
        return encode_example(features)

    @classmethod
    def decode(cls, data: bytes, where: str = "record") -> TargetBlock:
        """Reads what :meth:`encode` wrote.

        Raises:
            ArtifactError: the record is not a block of targets.
        """
        features = decode_example(data, where)
        try:
            offsets = np.frombuffer(features["offset"], "<i8")
            logits = np.frombuffer(features["logits"], "<f4").reshape(len(offsets), -1)
            embedding, members = (
                _optional(features, name, dtype, len(offsets))
                for name, dtype in (("embedding", "<f2"), ("members", "<f4"))
            )
            return cls(logits, offsets, features["teacher"].decode(), embedding, members)
        except (KeyError, ValueError) as error:
            raise ArtifactError(
                f"A record of targets must be a block of logits. Received: {error!r} ({where})."
            ) from error


def _optional(features: Mapping[str, bytes], name: str, dtype: str, rows: int) -> npt.NDArray[Any] | None:
    return np.frombuffer(features[name], dtype).reshape(rows, -1) if name in features else None

"""A block of targets: the teacher's raw outputs for one block of examples.

The record is a ``tf.train.Example`` of raw little-endian arrays: ``logits`` float32 [rows, K] (raw subclass logits,
never tempered), ``offset`` int64 [rows] (those of the examples' block, so that a mismatch is found when both are
read) and ``teacher`` (the teacher's fingerprint, text).
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def encode(self) -> bytes:
        """The targets as a record; the same targets give the same bytes."""
        return encode_example(
            {
                "logits": np.ascontiguousarray(self.logits, "<f4").tobytes(),
                "offset": np.ascontiguousarray(self.offsets, "<i8").tobytes(),
                "teacher": self.teacher.encode(),
            }
        )

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
            return cls(logits, offsets, features["teacher"].decode())
        except (KeyError, ValueError) as error:
            raise ArtifactError(
                f"A record of targets must be a block of logits. Received: {error!r} ({where})."
            ) from error

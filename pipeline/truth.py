"""The true click probabilities of a generated log, found by row id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import ArtifactError
from pipeline import storage
from pipeline.generate import truth_path


@dataclass(frozen=True)
class Truth:
    """What the generator knows about the rows of one log.

    Args:
        offsets: int64 [n], rising: byte offset of each line.
        p_star: float64 [n], true click probability.
        kinds: int16 [n], hidden kind.
    """

    offsets: npt.NDArray[np.int64]
    p_star: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int16]

    def find(self, offsets: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int16]]:
        """True probability and hidden kind of the rows with these offsets.

        Raises:
            ArtifactError: no line of the generated log stood at one of the offsets.
        """
        rows = np.minimum(np.searchsorted(self.offsets, offsets), len(self.offsets) - 1)
        wrong = offsets[self.offsets[rows] != offsets]
        if len(wrong):
            raise ArtifactError(
                "The truth beside a log must be that of its lines. Received: a row without truth (byte offset "
                f"{wrong[0]}); was the log changed after it was generated?"
            )
        return self.p_star[rows], self.kinds[rows]


def read_truths(logs: Sequence[str]) -> dict[str, Truth] | None:
    """The truth of each log; None unless all of them were generated."""
    if not all(storage.exists(truth_path(log)) for log in logs):
        return None
    return {log: _read(truth_path(log)) for log in logs}


def _read(path: str) -> Truth:
    with storage.open_read(path) as file:
        table = pq.read_table(pa.py_buffer(file.read()), columns=["offset", "p_star", "kind"])
    return Truth(*(table[name].to_numpy() for name in ("offset", "p_star", "kind")))

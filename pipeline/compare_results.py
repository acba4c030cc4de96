"""The results of a comparison: the rows that models are judged on, and what is stored of each student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.targets import TargetBlock
from features.tfrecord import read_records
from models.comparison import Resampled, resampled
from models.diagnosis import rarest
from models.estimates import subclass_click_logits
from pipeline import storage
from pipeline.arrays import read_arrays, write_arrays
from pipeline.scored_rows import ScoredRows
from pipeline.stage_inputs import read_vocabularies
from pipeline.stored_rows import blocks_of
from pipeline.workspace import EXAMPLES, TARGETS, Run

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class JudgedRows:
    """The rows that models are compared on: those of the test split, or of validation where there is none.

    Args:
        split: name of the split.
        labels: uint8 [rows].
        groups: int64 [rows], bootstrap groups.
        weights: float64 [rows]; None if every row counts once.
        frequency: int64 [rows], training rows of the rarest value of each row.
        correction: what is added to logits of models, for rows that the log has dropped.
    """

    split: str
    labels: npt.NDArray[np.uint8]
    groups: npt.NDArray[np.int64]
    weights: Floats | None
    frequency: npt.NDArray[np.int64]
    correction: float

    @classmethod
    def of(cls, run: Run) -> JudgedRows:
        """Those of a run."""
        spec = run.spec()
        split = "test" if spec.rows["test"] else "valid"
        counts = [vocabulary.counts.sum(axis=1) for vocabulary in read_vocabularies(run, spec)]
        found, frequencies = [], []
        for shard in run.filled_shards(split):
            for block in blocks_of(run.file(EXAMPLES, shard["path"])):
                found.append(ScoredRows.of(block, shard["source"], spec.negative_rate, None))
                frequencies.append(rarest(block.ids, counts))
        labels, groups = (np.concatenate([getattr(rows, name) for rows in found]) for name in ("labels", "groups"))
        weights = [rows.weights for rows in found if rows.weights is not None]
        correction = float(np.log(spec.negative_rate))
        frequency = np.concatenate(frequencies)
        return cls(split, labels, groups, np.concatenate(weights) if weights else None, frequency, correction)

    def judge(self, logits: Floats) -> dict[str, Resampled]:
        """Metrics of a model's click logits: float64 [rows]."""
        return resampled(self.labels, logits, self.groups, self.weights)


def teacher_click_logits(run: Run, rows: JudgedRows) -> Floats:
    """Click logits of a run's stored targets on the judged rows, in their order: float64 [rows]."""
    found = []
    for shard in run.filled_shards(rows.split, TARGETS):
        path = run.file(TARGETS, shard["path"])
        with storage.open_read(path) as file:
            found += [
                subclass_click_logits(TargetBlock.decode(record, path).logits) for record in read_records(file, path)
            ]
    return np.concatenate(found) + rows.correction


def write_scores(path: str, logits: Floats, metrics: dict[str, Resampled]) -> None:
    """Writes a model's logits and metrics beside its record."""
    arrays = {f"draws.{name}": metric.draws for name, metric in metrics.items()}
    values = {f"value.{name}": np.array(metric.value) for name, metric in metrics.items()}
    write_arrays(f"{path}.npz", logits=logits.astype(np.float32), **arrays, **values)


def read_scores(path: str) -> tuple[Floats, dict[str, Resampled]]:
    """What :func:`write_scores` wrote."""
    found = read_arrays(f"{path}.npz")
    names = [name.removeprefix("value.") for name in found if name.startswith("value.")]
    metrics = {name: Resampled(float(found[f"value.{name}"]), found[f"draws.{name}"]) for name in names}
    return found["logits"].astype(np.float64), metrics


def read_history(record: dict[str, Any]) -> pd.DataFrame:
    """The learning curve in a job's record."""
    return pd.DataFrame(record["history"])

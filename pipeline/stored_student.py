"""A finished student of a run with its stored weights, and what other models of it would be like."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from features.errors import ArtifactError
from models.calibration import Calibration, fit_calibration
from models.methods import METHODS
from models.tables import TableLayout
from models.trunk_weights import TrunkWeights
from pipeline import storage
from pipeline.calibrate import judged_logits
from pipeline.config import build
from pipeline.scored_rows import whole_log_weights
from pipeline.served_student import WEIGHTS, ServedStudent, read_weights
from pipeline.settings import StudentConfig
from pipeline.stage_inputs import example_files, table_layout
from pipeline.student_data import StudentData
from pipeline.workspace import EXAMPLES, Run, command_for

SPLITS = ("valid", "test")


@dataclass(frozen=True)
class Candidate:
    """A model that could be exported.

    Args:
        served: precision of embedding rows.
        min_count: training rows below which a value has no row.
        values: that have rows of their own.
        least_bytes: of its values and rows alone.
        calibration: on validation rows, those of the run if it has any.
        logloss: by split, calibrated; of the whole log, if it has lost a share of its rows without click.
    """

    served: str
    min_count: int
    values: int
    least_bytes: int
    calibration: Calibration
    logloss: dict[str, float]


@dataclass(frozen=True)
class StoredStudent:
    """A finished student.

    Args:
        run: the run directory.
        stage: of the student, or of the mean of its generations.
        config: its settings.
        calibration: of the model that ``distill`` exported.
        data: the examples that it was trained on.
        layout: of its weights.
        weights: of its trunks.
    """

    run: Run
    stage: str
    config: StudentConfig
    calibration: Calibration
    data: StudentData
    layout: TableLayout
    weights: list[TrunkWeights]

    @classmethod
    def read(cls, run: Run, stage: str) -> StoredStudent:
        """Reads a finished student.

        Raises:
            ArtifactError: there is none, it has no stored weights, or it was made from other examples.
        """
        manifest, path = run.manifest(stage), run.file(stage, WEIGHTS)
        again = f"make it again with `ctr-distill {command_for(stage)} --run {run.path}`"
        if not storage.exists(path):
            raise ArtifactError(
                f"A student must have stored weights to be exported again. Received: no {path}; {again}."
            )
        if manifest["sources"][EXAMPLES] != run.identity(EXAMPLES):
            raise ArtifactError(
                f"A student must be made from the present examples of its run. Received: {stage} from others; {again}."
            )
        config: StudentConfig = build(StudentConfig, manifest["settings"], path)
        # The weights are there, so no targets are read.
        data = StudentData.read(run, METHODS["hard"])
        layout = table_layout(data.vocabularies, data.spec, config.min_count)
        return cls(run, stage, config, Calibration(**manifest["calibration"]), data, layout, read_weights(path))

    def serve(self, served: str, min_count: int) -> ServedStudent:
        """The student in a precision, with the values that have so many training rows."""
        kept = [vocabulary.kept(min_count) for vocabulary in self.data.vocabularies]
        return ServedStudent.of(self.data, replace(self.config, served=served), self.layout, self.weights, kept)

    def save(self, folder: str, candidate: Candidate, subclasses: bool) -> None:
        """Writes a model with the files that belong to it into a new folder.

        Args:
            folder: of the model.
            candidate: what it is like.
            subclasses: whether it gives probabilities of subclasses too.
        """
        student = self.serve(candidate.served, candidate.min_count)
        student.save(self.run, self.stage, folder, candidate.calibration, subclasses)

    def measure(self, served: str, min_count: int) -> Candidate:
        """What the student would be like as such a model."""
        student, spec = self.serve(served, min_count), self.data.spec
        score = student.scorer()
        judged = {
            split: judged_logits(score, example_files(self.run, spec, split)) for split in SPLITS if spec.rows[split]
        }
        calibration = fit_calibration(*judged["valid"]) if "valid" in judged else self.calibration
        return Candidate(
            served,
            min_count,
            sum(student.features.kept),
            _least_bytes(student),
            calibration,
            {split: _logloss(calibration, spec.negative_rate, *found) for split, found in judged.items()},
        )


def _least_bytes(student: ServedStudent) -> int:
    keys = sum(pc.sum(pc.binary_length(values)).as_py() or 0 for values in student.features.values)
    return keys + sum(trunk.row_bytes for trunk in student.trunks)


def _logloss(
    calibration: Calibration, rate: float, logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Logloss in nats; of a log that kept a share ``rate`` of its rows without click, that of the whole log."""
    z = calibration.apply(logits.astype(np.float64)) + math.log(rate)
    losses = np.logaddexp(0, z) - labels * z
    return float(np.average(losses, weights=whole_log_weights(labels, weights, rate)))

"""What a refit takes over from the trainings of another run, in place of what validation rows would say."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from features.spec import ExamplesSpec
from models.calibration import Calibration
from models.history import History, best_evaluation
from models.parts import folds_of_part
from pipeline import storage
from pipeline.settings import StudentConfig, TeacherConfig, TrainingConfig
from pipeline.workspace import TEACHER, Run, student_stage

RECORD = "refit.json"
"""In a refit: ``run``, the path of what it was made from, and ``valid_logloss`` of that run's students, by stage."""


def refit_record(run: Run) -> dict[str, Any] | None:
    """What :data:`RECORD` says; None for a run that is no refit."""
    path = run.file(RECORD)
    if not storage.exists(path):
        return None
    record: dict[str, Any] = storage.read_json(path)
    return record


@dataclass(frozen=True)
class Original:
    """A training that is repeated without validation rows.

    Args:
        steps: up to the best evaluation.
        last: step at which a learning rate that falls over the epochs reaches 0.
        drops: steps before which one that drops on plateaus did so.
        calibration: fitted on the validation rows.
        slice_alphas: weights of the targets by slice, see :mod:`models.slice_alpha`; of a student that has them.
    """

    steps: int
    last: int
    drops: tuple[int, ...]
    calibration: Calibration
    slice_alphas: tuple[float, ...] = ()

    @classmethod
    def of(cls, history: pd.DataFrame, rows: int, config: TrainingConfig, calibration: Calibration) -> Original:
        """The original of a training on so many rows with such a history; see :func:`models.training.fit`."""
        epoch_steps = math.ceil(rows / config.batch_size)
        steps = round(best_evaluation(history)["epoch"] * epoch_steps)
        drops, seen = [], History(config.patience, config.evaluations)
        for row in history.to_dict("records"):
            seen.add({str(name): value for name, value in row.items()})
            step = round(row["epoch"] * epoch_steps)
            if step < steps and config.schedule == "plateau" and seen.on_plateau():
                drops.append(step)
        return cls(steps, math.ceil(config.epochs * epoch_steps), tuple(drops), calibration)

    def epochs(self, rows: int, batch_size: int) -> float:
        """The number of epochs, of so many rows, over which a learning rate falls as the original's did."""
        # Half a step less, so that rounding up gives the last step whatever the division does.
        return (self.last - 0.5) / math.ceil(rows / batch_size)


def original_teacher(run: Run, config: TeacherConfig, part: int) -> Original:
    """The training of a part of a run's teacher, whose settings were these.

    Raises:
        ArtifactError: the run has no finished teacher.
    """
    run.manifest(TEACHER)
    record = storage.read_json(run.file(TEACHER, "metrics.json"))["parts"][part]
    history = _history(run, TEACHER, f"history-{part}.csv" if config.folds else "history.csv")
    rows = _rows_without(run.spec(), folds_of_part(part, config.folds))
    return Original.of(history, rows, config, Calibration(**record["calibration"]))


def original_student(run: Run, method: str, config: StudentConfig, generation: int = 1) -> Original:
    """The training of a generation of a run's student, whose settings were these; the calibration is the last one's.

    Raises:
        ArtifactError: the run has no finished student of the method.
    """
    stage = student_stage(method)
    manifest = run.manifest(stage)
    calibration = Calibration(**manifest["calibration"])
    history = _history(run, stage, student_history(config, generation))
    found = Original.of(history, run.spec().rows["train"], config, calibration)
    return replace(found, slice_alphas=tuple(manifest.get("slice_alphas", ())))


def student_history(config: StudentConfig, generation: int) -> str:
    """Name of the file with the history of a generation: the last one has the plain name."""
    return "history.csv" if generation == config.generations else f"history-{generation}.csv"


def valid_logloss(run: Run, method: str) -> float:
    """The best validation logloss of a run's student in its training."""
    return float(best_evaluation(_history(run, student_stage(method), "history.csv"))["valid_logloss"])


def _rows_without(spec: ExamplesSpec, folds: list[int]) -> int:
    return sum(rows for fold, rows in enumerate(spec.fold_rows) if fold not in folds)


def _history(run: Run, stage: str, name: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(storage.read_text(run.file(stage, name))))

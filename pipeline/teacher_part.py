"""One part of a teacher: its training, its calibration, and what is written of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pandas as pd

from models.calibration import Calibration
from models.teacher import Teacher
from models.teacher_scorer import TeacherScorer
from models.teacher_trunk import TeacherSettings, TeacherTrunk
from models.workers import is_chief
from pipeline.calibrate import calibrate, calibration_json
from pipeline.config import narrow
from pipeline.fitting import Circumstances, fit_shards, training_scope
from pipeline.settings import TeacherConfig
from pipeline.teacher_data import PartTables, TeacherData
from pipeline.workspace import digest


@dataclass(frozen=True)
class TrainedTeacher:
    """A part of a teacher, with the weights of its best evaluation.

    Args:
        teacher: the model.
        tables: what it sees beside the examples.
        columns: numbers of numeric and categorical columns.
        history: see :func:`models.training.fit`.
        calibration: of its click logits.
    """

    teacher: Teacher
    tables: PartTables
    columns: tuple[int, int]
    history: pd.DataFrame
    calibration: Calibration

    def save(self, folder: str) -> None:
        """Writes the SavedModel that ``precompute`` loads."""
        TeacherScorer(self.teacher.trunk, self.columns, self.calibration).save(folder)

    def fingerprint(self) -> str:
        """A hash of everything that the logits depend on."""
        crosses = self.tables.crosses
        tables = [*self.tables.values.variables, *(crosses.variables if crosses else [])]
        whole = hashlib.sha256(crosses.keys.tobytes() if crosses else b"")
        for variable in [*self.teacher.trainable_variables, *tables]:
            whole.update(variable.numpy().tobytes())
        whole.update(digest(calibration_json(self.calibration)).encode())
        return whole.hexdigest()[:16]


def train_part(data: TeacherData, config: TeacherConfig, part: int, circumstances: Circumstances) -> TrainedTeacher:
    """Trains one part of a teacher; nothing but the folder for checkpoints is written to.

    Args:
        data: see :class:`TeacherData`.
        config: settings; with ``folds = B`` the teacher never sees the labels of the rows whose fold is the part
            modulo B, not even through click statistics.
        part: below ``folds``; 0 without cross-fitting.
        circumstances: see :class:`Circumstances`.

    Raises:
        ArtifactError: a shard is damaged.
        TrainingError: see :func:`models.training.fit`.
    """
    original = circumstances.original
    with training_scope(config.seed):
        tables, files = data.tables(config, part), data.training_files(config)
        settings = narrow(config, TeacherSettings)
        trunk = TeacherTrunk(tables.layout, tables.values, tables.crosses, tables.base_rate, settings)
        teacher = Teacher(trunk, settings)
        history = fit_shards(teacher, files, data.validation, tables.rows, config, circumstances, tables.without)
        calibration = original.calibration if original else Calibration(reason="no validation rows")
        if data.validation and not original and is_chief():
            calibration = calibrate(teacher, data.validation)
    return TrainedTeacher(teacher, tables, files.columns, history, calibration)

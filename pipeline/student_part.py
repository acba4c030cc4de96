"""One student: what it is trained on, and its training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.methods import METHODS, Method
from models.student import Student, StudentSettings, StudentTrunk, tie_untrained
from models.student_terms import RowAlphas
from models.tables import FoldTables, TableLayout
from pipeline.config import narrow
from pipeline.fitting import Circumstances, fit_shards, training_scope
from pipeline.judged_rows import gate_entropy, teacher_errors
from pipeline.originals import Original
from pipeline.settings import StudentConfig
from pipeline.stage_inputs import table_layout
from pipeline.stored_rows import outcome_of
from pipeline.student_data import StudentData
from pipeline.student_rules import has_auxiliary_head, require_teachable


@dataclass(frozen=True)
class TrainedStudent:
    """A student with the weights of its best evaluation.

    Args:
        student: the model.
        layout: of its embedding table.
        history: see :func:`models.training.fit`.
        slice_alphas: weights of the targets by slice, see :mod:`models.slice_alpha`; None where all rows have one.
        gate_entropy: see :func:`pipeline.judged_rows.gate_entropy`; None without a gate or validation rows.
    """

    student: Student
    layout: TableLayout
    history: pd.DataFrame
    slice_alphas: npt.NDArray[np.float32] | None = None
    gate_entropy: float | None = None

    def fingerprint(self) -> str:
        """A hash of the weights."""
        whole = hashlib.sha256()
        for variable in self.student.trunk.trainable_variables:
            whole.update(variable.numpy().tobytes())
        return whole.hexdigest()[:16]


def train_student(
    data: StudentData, method: str, config: StudentConfig, circumstances: Circumstances
) -> TrainedStudent:
    """Trains the student of a method, of one generation; nothing but the folder for checkpoints is written to.

    Args:
        data: see :class:`StudentData`.
        method: a key of :data:`models.methods.METHODS`.
        config: settings.
        circumstances: see :class:`Circumstances`.

    Raises:
        ArtifactError: a shard is damaged.
        ConfigError: see :func:`pipeline.student_rules.require_teachable`.
        TrainingError: see :func:`models.training.fit`.
    """
    require_teachable(data, method, config, circumstances.original)
    alphas = _slice_alphas(data, METHODS[method], config, circumstances.original)
    data = _with_members(data, METHODS[method], config)
    with training_scope(config.seed):
        student, layout = _make_student(data, method, config, alphas)
        rows = data.spec.rows["train"]
        history = fit_shards(student, data.training, data.validation, rows, config, circumstances)
        tie_untrained(student.trunk, layout, data.counts, [column.missing for column in data.spec.numeric])
    entropy = gate_entropy(student.gate, data.judged) if student.gate and data.judged else None
    return TrainedStudent(student, layout, history, alphas, entropy)


def _with_members(data: StudentData, method: Method, config: StudentConfig) -> StudentData:
    """The data with the click logits of the teacher's members in its batches, if the student weighs them."""
    if not config.member_gate or method.target == "none":
        return data
    return replace(data, training=replace(data.training, members=data.members))


def _slice_alphas(
    data: StudentData, method: Method, config: StudentConfig, original: Original | None
) -> npt.NDArray[np.float32] | None:
    """The weights of the targets by slice, those of the original in a refit; None where all rows have the same."""
    if not config.slice_alpha or method.target == "none":
        return None
    if original:
        return np.array(original.slice_alphas, np.float32)
    assert data.judged is not None
    return teacher_errors(data.judged, data.counts, outcome_of(data.spec, data.label)).alphas(config.alpha)


def _make_student(
    data: StudentData, name: str, config: StudentConfig, slice_alphas: npt.NDArray[np.float32] | None
) -> tuple[Student, TableLayout]:
    """A student with its initial weights.

    With an auxiliary head the method's logits are those of that head, and the student's own has two.
    """
    settings, method = narrow(config, StudentSettings), METHODS[name]
    layout = table_layout(data.vocabularies, data.spec, config.min_count)
    subclasses = data.training.outputs // 2 if method.wide_head else 1
    auxiliary = subclasses if has_auxiliary_head(data, name, config) else 0
    reused = data.head if config.reused else None
    trunk = StudentTrunk(layout, data.spec.base_rate, 1 if auxiliary else subclasses, settings, reused)
    statistics = "folds" if config.statistics else "none"
    tables = FoldTables(layout, data.counts, config.smoothing, statistics, kept_only=True)
    alphas = None if slice_alphas is None else RowAlphas(data.counts, slice_alphas)
    files = data.training
    return Student(trunk, tables, method, settings, auxiliary, files.embedding, files.members, alphas), layout

"""One student: what it is trained on, and its training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pandas as pd

from features.errors import ConfigError
from features.spec import ExamplesSpec
from features.statistics import ClickCounts
from features.vocabulary import Vocabulary
from models.inputs import ShardFiles
from models.methods import METHODS, Method
from models.student import Student, StudentSettings, StudentTrunk, tie_untrained
from models.tables import FoldTables, TableLayout
from pipeline.config import narrow
from pipeline.fitting import Circumstances, fit_shards, training_scope
from pipeline.settings import StudentConfig
from pipeline.stage_inputs import (
    click_counts,
    example_files,
    read_vocabularies,
    table_layout,
    target_files,
)
from pipeline.workspace import TARGETS, Run


@dataclass(frozen=True)
class StudentData:
    """What students of a run are trained on.

    Args:
        spec: of the examples.
        vocabularies: of each categorical column.
        counts: clicks of their values by fold.
        training: the training shards, with targets if there are any.
        validation: the validation shards; None in a run that has none.
        label: the outcome that the targets' teacher has learned in place of the label; empty for the label.
    """

    spec: ExamplesSpec
    vocabularies: list[Vocabulary]
    counts: ClickCounts
    training: ShardFiles
    validation: ShardFiles | None
    label: str = ""

    @classmethod
    def read(cls, run: Run, targets: bool) -> StudentData:
        """Reads the data of a run, with the teacher's targets or without."""
        spec = run.spec()
        vocabularies = read_vocabularies(run, spec)
        return cls(
            spec,
            vocabularies,
            click_counts(vocabularies, spec),
            target_files(run, spec, "train") if targets else example_files(run, spec, "train"),
            example_files(run, spec, "valid") if spec.rows["valid"] else None,
            run.manifest(TARGETS)["label"] if targets else "",
        )


@dataclass(frozen=True)
class TrainedStudent:
    """A student with the weights of its best evaluation.

    Args:
        student: the model.
        layout: of its embedding table.
        history: see :func:`models.training.fit`.
    """

    student: Student
    layout: TableLayout
    history: pd.DataFrame

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
        ConfigError: the labels have no weight, though the targets are of another label.
        TrainingError: see :func:`models.training.fit`.
    """
    with training_scope(config.seed):
        student, layout = _make_student(data, METHODS[method], config)
        rows = data.spec.rows["train"]
        history = fit_shards(student, data.training, data.validation, rows, config, circumstances)
        tie_untrained(student.trunk, layout, data.counts, [column.missing for column in data.spec.numeric])
    return TrainedStudent(student, layout, history)


def _make_student(data: StudentData, method: Method, config: StudentConfig) -> tuple[Student, TableLayout]:
    """A student with its initial weights.

    With targets of another label the method's head is the auxiliary one, and the student's own has two logits.
    """
    settings = narrow(config, StudentSettings)
    layout = table_layout(data.vocabularies, data.spec, config.min_count)
    subclasses = data.training.outputs // 2 if method.wide_head else 1
    auxiliary = subclasses if data.label and method.target != "none" else 0
    if auxiliary and config.alpha == 1:
        raise ConfigError(
            "alpha must be below 1 where the teacher has learned an outcome: the click comes from labels alone. "
            f"Received: {config.alpha} (outcome {data.label})."
        )
    trunk = StudentTrunk(layout, data.spec.base_rate, 1 if auxiliary else subclasses, settings)
    statistics = "folds" if config.statistics else "none"
    tables = FoldTables(layout, data.counts, config.smoothing, statistics, kept_only=True)
    return Student(trunk, tables, method, settings, auxiliary), layout

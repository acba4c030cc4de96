"""One student: what it is trained on, and its training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import ConfigError
from features.spec import ExamplesSpec
from features.statistics import ClickCounts
from features.vocabulary import Vocabulary
from models.inputs import ShardFiles
from models.methods import METHODS, Method
from models.student import Student, StudentSettings, StudentTrunk, tie_untrained
from models.tables import FoldTables, TableLayout
from pipeline.arrays import read_arrays
from pipeline.config import narrow
from pipeline.fitting import Circumstances, fit_shards, training_scope
from pipeline.settings import StudentConfig, require
from pipeline.stage_inputs import (
    click_counts,
    example_files,
    read_vocabularies,
    table_layout,
    target_files,
)
from pipeline.workspace import Run, target_stage


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
        head: kernel float32 [E, K] and bias float32 [K] of the teacher's head on its embeddings; None where it has none
            or nothing reads the embeddings.
    """

    spec: ExamplesSpec
    vocabularies: list[Vocabulary]
    counts: ClickCounts
    training: ShardFiles
    validation: ShardFiles | None
    label: str = ""
    head: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None

    @classmethod
    def read(cls, run: Run, method: Method, embeddings: bool = False) -> StudentData:
        """Reads the data of a run for a method.

        Args:
            run: the run directory.
            method: whose targets are read, if it needs any.
            embeddings: whether to read the teacher's embeddings, and the targets with them.

        Raises:
            ArtifactError: the run has no such targets, or they have no embeddings.
        """
        spec, stage = run.spec(), target_stage(method.source)
        vocabularies = read_vocabularies(run, spec)
        taught = method.needs_targets or embeddings
        return cls(
            spec,
            vocabularies,
            click_counts(vocabularies, spec),
            target_files(run, spec, "train", stage, embeddings) if taught else example_files(run, spec, "train"),
            example_files(run, spec, "valid") if spec.rows["valid"] else None,
            run.manifest(stage)["label"] if taught else "",
            _read_head(run, stage) if embeddings else None,
        )


def _read_head(run: Run, stage: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """The teacher's head; derived targets and those of a gated teacher have none."""
    name = run.manifest(stage).get("head")
    if name is None:
        return None
    found = read_arrays(run.file(stage, name))
    return found["kernel"], found["bias"]


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
        ConfigError: the labels have no weight, though the student's own head learns from nothing else; or the teacher's
            head cannot be reused.
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

    With an auxiliary head the method's logits are those of that head, and the student's own has two.
    """
    settings = narrow(config, StudentSettings)
    layout = table_layout(data.vocabularies, data.spec, config.min_count)
    subclasses = data.training.outputs // 2 if method.wide_head else 1
    auxiliary = subclasses if (data.label or config.auxiliary_head) and method.target != "none" else 0
    _require_labels(data, config, auxiliary)
    reused = _reused_head(data, method, auxiliary) if config.reused else None
    trunk = StudentTrunk(layout, data.spec.base_rate, 1 if auxiliary else subclasses, settings, reused)
    statistics = "folds" if config.statistics else "none"
    tables = FoldTables(layout, data.counts, config.smoothing, statistics, kept_only=True)
    return Student(trunk, tables, method, settings, auxiliary, data.training.embedding), layout


def _require_labels(data: StudentData, config: StudentConfig, auxiliary: int) -> None:
    """Raises a ConfigError for a click that would be learnt from nothing."""
    require(
        not (data.label and config.correction),
        "correction must be 0 where the teacher has learned an outcome: labels are of the click",
        config.correction,
    )
    if auxiliary and config.alpha == 1:
        why = "the teacher has learned an outcome" if data.label else "the targets have a head of their own"
        of = f" (outcome {data.label})" if data.label else ""
        raise ConfigError(
            f"alpha must be below 1 where {why}: the click comes from labels alone. Received: {config.alpha}{of}."
        )


def _reused_head(
    data: StudentData, method: Method, auxiliary: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The teacher's head in place of the student's own.

    Raises:
        ConfigError: the student's own head has other logits than the teacher's, or the teacher has no linear head.
    """
    require(method.wide_head and not auxiliary, "reused must be 0 for a head of two logits", method.target)
    require(
        data.head is not None, "reused must be 0 for derived targets and gated teachers", f"targets of {method.source}"
    )
    assert data.head is not None
    return data.head

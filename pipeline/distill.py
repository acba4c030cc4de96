"""``distill``: a student from examples and stored targets, exported for serving. The teacher is not needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.spec import ExamplesSpec
from features.statistics import NO_FOLD, ClickCounts
from features.vocabulary import Vocabulary
from models.backend import tf
from models.calibration import Calibration, fit_calibration
from models.heads import click_logit
from models.inputs import ShardFiles, evaluation_batches, training_batches
from models.methods import METHODS
from models.serving import ServingModule
from models.serving_features import FEATURES_FILE, ServingFeatures, features_json, serving_statistics
from models.student import Student, StudentSettings, StudentTrunk, tie_untrained
from models.tables import FoldTables, TableLayout
from models.teacher import parameters
from models.training import LoopSettings, best_evaluation, fit, start
from pipeline import storage
from pipeline.config import StudentConfig, narrow, plain
from pipeline.keys import require_current, student_key, student_sources
from pipeline.progress import Progress
from pipeline.stage_inputs import (
    click_counts,
    example_files,
    naming_damage,
    read_vocabularies,
    require_local,
    require_validation,
    table_layout,
    target_files,
)
from pipeline.workspace import TARGETS, Run, student_stage


@dataclass(frozen=True)
class StudentData:
    """What students of a run are trained on.

    Args:
        spec: of the examples.
        vocabularies: of each categorical column.
        counts: clicks of their values by fold.
        training: the training shards, with targets if there are any.
        validation: the validation shards.
    """

    spec: ExamplesSpec
    vocabularies: list[Vocabulary]
    counts: ClickCounts
    training: ShardFiles
    validation: ShardFiles

    @classmethod
    def read(cls, run: Run, targets: bool) -> StudentData:
        """Reads the data of a run, with the teacher's targets or without."""
        spec = run.spec()
        require_validation(spec)
        vocabularies = read_vocabularies(run, spec)
        return cls(
            spec,
            vocabularies,
            click_counts(vocabularies, spec),
            target_files(run, spec, "train") if targets else example_files(run, spec, "train"),
            example_files(run, spec, "valid"),
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


def train_student(
    data: StudentData, method: str, config: StudentConfig, progress: Callable[[float, str], None]
) -> TrainedStudent:
    """Trains the student of a method; nothing is written."""
    chosen = METHODS[method]
    start(config.seed)
    settings = narrow(config, StudentSettings)
    layout = table_layout(data.vocabularies, data.spec, config.min_count)
    subclasses = data.training.outputs // 2 if chosen.wide_head else 1
    trunk = StudentTrunk(layout, data.spec.base_rate, subclasses, settings)
    tables = FoldTables(layout, data.counts, config.smoothing, kept_only=True)
    student = Student(trunk, tables, chosen, settings)
    with naming_damage(data.training, data.validation):
        history = fit(
            student,
            training_batches(data.training, config.batch_size, config.seed),
            evaluation_batches(data.validation),
            data.spec.rows["train"],
            narrow(config, LoopSettings),
            progress,
        )
    tie_untrained(trunk, layout, data.counts, [column.missing for column in data.spec.numeric])
    return TrainedStudent(student, layout, history)


def distill(run: Run, method: str, config: StudentConfig) -> bool:
    """Trains and exports the student of a method; returns whether there was anything to do.

    Args:
        run: the run directory; the caller holds its lock.
        method: a key of :data:`models.methods.METHODS`.
        config: settings.
    """
    if METHODS[method].needs_targets:
        require_current(run, TARGETS)
    stage, key = student_stage(method), student_key(run, method, config)
    if run.is_done(stage, key):
        return False
    require_local(run)
    run.begin(stage, key)
    data = StudentData.read(run, METHODS[method].needs_targets)
    # At most so many rows: training may stop before.
    progress = Progress(f"student {method}", config.epochs * data.spec.rows["train"], "rows")
    trained = train_student(data, method, config, progress.update)
    best = best_evaluation(trained.history)
    progress.close(f"valid logloss {best['valid_logloss']:.5f} after {best['epoch']:.2f} epochs")
    calibration = _calibrate(trained.student, data.validation)
    _export(run.file(stage, "model/1"), trained, data, calibration, config)
    storage.write_bytes(run.file(stage, "history.csv"), trained.history.to_csv(index=False).encode())
    metrics = {"valid_logloss": float(best["valid_logloss"]), "epoch": float(best["epoch"])}
    storage.write_json(run.file(stage, "metrics.json"), metrics)
    contents = {
        "method": method,
        "sources": student_sources(run, method),
        "model": "model/1",
        "parameters": parameters(trained.student),
        "calibration": {"scale": calibration.scale, "shift": calibration.shift, "reason": calibration.reason},
        "settings": plain(config),
    }
    run.finish(stage, key, contents)
    return True


def _calibrate(student: Student, validation: ShardFiles) -> Calibration:
    score = tf.function(lambda batch: click_logit(student(batch)), reduce_retracing=True)
    names = ("label", "weight") if validation.weighted else ("label",)
    batches = [
        (score(batch).numpy(), *(batch[name].numpy() for name in names)) for batch in evaluation_batches(validation)
    ]
    return fit_calibration(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))


def _export(
    path: str, trained: TrainedStudent, data: StudentData, calibration: Calibration, config: StudentConfig
) -> None:
    layout, counts = trained.layout, data.counts
    features = ServingFeatures.of(data.spec, [vocabulary.values for vocabulary in data.vocabularies], layout.kept)
    statistics = None
    if config.statistics:
        found = counts.statistics(config.smoothing)
        statistics = serving_statistics(layout, found.log_odds[:, NO_FOLD], found.log_count[:, NO_FOLD], counts.starts)
    with storage.publish_folder(path) as folder:
        ServingModule(trained.student.trunk, features, calibration, statistics).save(folder)
        storage.write_bytes(storage.join(folder, FEATURES_FILE), features_json(features))

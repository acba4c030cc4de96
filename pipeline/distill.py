"""``distill``: a student from examples and stored targets, exported for serving. The teacher is not needed."""

from __future__ import annotations

import numpy as np

from features.spec import ExamplesSpec
from features.statistics import NO_FOLD, ClickCounts
from features.vocabulary import Vocabulary
from models.backend import tf
from models.calibration import Calibration, fit_calibration
from models.heads import click_logit
from models.inputs import ShardFiles, evaluation_batches, training_batches
from models.methods import METHODS
from models.serving import FEATURES_FILE, ServingFeatures, ServingModule, features_json, serving_statistics
from models.student import Student, StudentSettings, StudentTrunk, tie_untrained
from models.tables import FoldTables, TableLayout
from models.teacher import parameters
from models.training import LoopSettings, best_evaluation, fit, start
from pipeline import storage
from pipeline.config import StudentConfig, narrow, plain
from pipeline.keys import student_key
from pipeline.progress import Progress
from pipeline.stage_inputs import (
    click_counts,
    example_files,
    read_vocabularies,
    require_local,
    table_layout,
    target_files,
)
from pipeline.workspace import TARGETS, Run, student_stage


def distill(run: Run, method: str, config: StudentConfig) -> bool:
    """Trains and exports the student of a method; returns whether there was anything to do.

    Args:
        run: the run directory; the caller holds its lock.
        method: a key of :data:`models.methods.METHODS`.
        config: settings.
    """
    stage, key = student_stage(method), student_key(run, method, config)
    if run.is_done(stage, key):
        return False
    require_local(run)
    run.begin(stage, key)
    spec = run.spec()
    vocabularies = read_vocabularies(run, spec)
    layout = table_layout(vocabularies, spec, config.min_count)
    counts = click_counts(vocabularies, spec)
    chosen = METHODS[method]
    subclasses = run.manifest(TARGETS)["outputs"] // 2 if chosen.wide_head else 1
    start(config.seed)
    settings = narrow(config, StudentSettings)
    trunk = StudentTrunk(layout, spec.base_rate, subclasses, settings)
    tables = FoldTables(layout, counts, config.smoothing, kept_only=True)
    student = Student(trunk, tables, chosen, settings)
    files = example_files(run, spec, "train") if chosen.target == "none" else target_files(run, spec, "train")
    validation = example_files(run, spec, "valid")
    progress = Progress(f"student {method}", None, "rows")
    history = fit(
        student,
        training_batches(files, config.batch_size, config.seed),
        evaluation_batches(validation),
        spec.rows["train"],
        narrow(config, LoopSettings),
        progress.update,
    )
    best = best_evaluation(history)
    progress.close(f"valid logloss {best['valid_logloss']:.5f} after {best['epoch']:.2f} epochs")
    tie_untrained(trunk, layout, counts, [column.missing for column in spec.numeric])
    calibration = _calibrate(student, validation)
    _export(run, stage, trunk, spec, vocabularies, layout, counts, calibration, config)
    storage.write_bytes(run.file(stage, "history.csv"), history.to_csv(index=False).encode())
    metrics = {"valid_logloss": float(best["valid_logloss"]), "epoch": float(best["epoch"])}
    storage.write_json(run.file(stage, "metrics.json"), metrics)
    contents = {
        "method": method,
        "model": "model/1",
        "parameters": parameters(student),
        "calibration": {"scale": calibration.scale, "shift": calibration.shift, "reason": calibration.reason},
        "settings": plain(config),
    }
    run.finish(stage, key, contents)
    return True


def _calibrate(student: Student, validation: ShardFiles) -> Calibration:
    score = tf.function(lambda batch: click_logit(student(batch)), reduce_retracing=True)
    batches = [(score(batch).numpy(), batch["label"].numpy()) for batch in evaluation_batches(validation)]
    return fit_calibration(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))


def _export(
    run: Run,
    stage: str,
    trunk: StudentTrunk,
    spec: ExamplesSpec,
    vocabularies: list[Vocabulary],
    layout: TableLayout,
    counts: ClickCounts,
    calibration: Calibration,
    config: StudentConfig,
) -> None:
    kept = zip(vocabularies, layout.kept, strict=True)
    features = ServingFeatures(
        spec.schema, spec.numeric, tuple(vocabulary.values.slice(0, size) for vocabulary, size in kept)
    )
    statistics = None
    if config.statistics:
        found = counts.statistics(config.smoothing)
        statistics = serving_statistics(layout, found.log_odds[:, NO_FOLD], found.log_count[:, NO_FOLD], counts.starts)
    with storage.publish_folder(run.file(stage, "model/1")) as folder:
        ServingModule(trunk, features, calibration, statistics).save(folder)
        storage.write_bytes(storage.join(folder, FEATURES_FILE), features_json(features))

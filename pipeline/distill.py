"""``distill``: a student from examples and stored targets, exported for serving. The teacher is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features.statistics import NO_FOLD
from models.backend import tf
from models.calibration import Calibration
from models.history import best_evaluation
from models.inputs import Batch
from models.layers import parameters
from models.methods import METHODS
from models.serving import ServingModule
from models.serving_features import FEATURES_FILE, ServingFeatures, features_json, serving_statistics
from models.student import Student, StudentTrunk, mean_click_logit
from models.tables import TableLayout
from models.workers import is_chief, workers
from pipeline import storage
from pipeline.calibrate import calibrate, calibration_json
from pipeline.config import plain
from pipeline.gate import require_good_teacher
from pipeline.generations import Generations, remove_scratch, train_generations
from pipeline.keys import require_current, student_key, student_sources
from pipeline.originals import original_student, student_history
from pipeline.settings import StudentConfig, require
from pipeline.stage_inputs import require_local, require_validation
from pipeline.student_data import StudentData
from pipeline.student_part import TrainedStudent
from pipeline.student_rules import require_teachable
from pipeline.workspace import Run, ensemble_stage, student_stage, target_stage

MODEL = "model/1"


def distill(run: Run, method: str, config: StudentConfig, original: Run | None = None) -> bool:
    """Trains and exports the student of a method; returns whether there was anything to do.

    With several generations the last one is the student, and the mean of all of them a model of its own beside it.

    Args:
        run: the run directory; the caller holds its lock.
        method: a key of :data:`models.methods.METHODS`.
        config: settings.
        original: for a refit, the run whose finished student is repeated.
    """
    if METHODS[method].needs_targets or config.needs_embeddings:
        require_current(run, target_stage(METHODS[method].source))
    stage, key = student_stage(method), student_key(run, method, config, original)
    if run.is_done(stage, key):
        return False
    require_local(run)
    if not original:
        require_validation(run.spec())
    require(
        workers().count == 1 or config.generations == 1,
        "generations must be 1 with several workers",
        config.generations,
    )
    require(
        not config.needs_embeddings or config.generations == 1,
        "generations must be 1 for students that learn from embeddings",
        config.generations,
    )
    require(
        not (config.slice_alpha or config.member_gate) or config.generations == 1,
        "generations must be 1 with slice_alpha or member_gate: a student has neither validation targets nor members",
        config.generations,
    )
    data = StudentData.read(run, METHODS[method], config.needs_embeddings)
    # What can be said before the finished student is removed is said before.
    require_teachable(data, method, config, original_student(original, method, config, 1) if original else None)
    require_good_teacher(run, method, config)
    if is_chief():
        run.begin(stage, key)
    generations = train_generations(run, data, method, config, original)
    if not is_chief():
        return True
    sources = student_sources(run, method, config.needs_embeddings)
    contents = {"method": method, "sources": sources, "settings": plain(config), **_alphas_json(generations.last)}
    models = {stage: generations.trunks[-1:]}
    if config.generations > 1:
        models[ensemble_stage(method)] = generations.trunks
    exported = {
        name: _export(run, name, data, config, generations.last, trunks, original) for name, trunks in models.items()
    }
    _write_histories(run, stage, config, generations)
    remove_scratch(run, method, config)
    # The student's own manifest comes last: it says that all is there.
    for name, values in reversed(exported.items()):
        run.finish(name, key, {**contents, **values})
    return True


def _export(
    run: Run,
    stage: str,
    data: StudentData,
    config: StudentConfig,
    trained: TrainedStudent,
    trunks: Sequence[StudentTrunk],
    original: Run | None,
) -> dict[str, Any]:
    """Calibrates the mean of some trunks as a whole and exports it; returns what its manifest says of it."""
    if original:
        calibration = Calibration(**original.manifest(stage)["calibration"])
    else:
        assert data.validation is not None
        calibration = calibrate(_Ensemble(trained.student, trunks), data.validation)
    features = ServingFeatures.of(
        data.spec, [vocabulary.values for vocabulary in data.vocabularies], trained.layout.kept
    )
    statistics = _statistics(data, config, trained.layout)
    with storage.publish_folder(run.file(stage, MODEL)) as folder:
        ServingModule(trunks, features, calibration, statistics).save(folder)
        storage.write_bytes(storage.join(folder, FEATURES_FILE), features_json(features))
    return {
        "model": MODEL,
        "parameters": sum(map(parameters, trunks)),
        "calibration": calibration_json(calibration),
    }


class _Ensemble:
    """Gives batches two logits, whose difference is the mean click logit of some trunks.

    Args:
        student: looks the batches up.
        trunks: of the same table layout.
    """

    def __init__(self, student: Student, trunks: Sequence[StudentTrunk]) -> None:
        self._student, self._trunks = student, trunks

    def __call__(self, batch: Batch, training: bool) -> tf.Tensor:
        click = mean_click_logit(self._trunks, *self._student.look_up(batch))
        return tf.stack([tf.zeros_like(click), click], axis=1)


def _statistics(data: StudentData, config: StudentConfig, layout: TableLayout) -> Any:
    if not config.statistics:
        return None
    found = data.counts.statistics(config.smoothing)
    return serving_statistics(layout, found.log_odds[:, NO_FOLD], found.log_count[:, NO_FOLD], data.counts.starts)


def _alphas_json(trained: TrainedStudent) -> dict[str, Any]:
    """What a manifest says of weights of the targets by slice; a refit takes them over."""
    return {} if trained.slice_alphas is None else {"slice_alphas": trained.slice_alphas.tolist()}


def _write_histories(run: Run, stage: str, config: StudentConfig, generations: Generations) -> None:
    """The history of each training, that of the last one under the plain name, and their best evaluations."""
    bests = []
    for number, history in enumerate(generations.histories, start=1):
        name = run.file(stage, student_history(config, number))
        storage.write_bytes(name, history.to_csv(index=False).encode())
        best = best_evaluation(history)
        loss = best.get("valid_logloss")
        bests.append({"valid_logloss": None if loss is None else float(loss), "epoch": float(best["epoch"])})
    entropy = generations.last.gate_entropy
    gate = {} if entropy is None else {"gate_entropy": entropy}
    storage.write_json(run.file(stage, "metrics.json"), {**bests[-1], "generations": bests, **gate})

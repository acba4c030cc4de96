"""``distill``: a student from examples and stored targets, exported for serving. The teacher is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.calibration import Calibration
from models.history import best_evaluation
from models.layers import parameters
from models.methods import METHODS
from models.student import StudentTrunk
from models.tables import TableLayout
from models.trunk_weights import TrunkWeights
from models.workers import is_chief, workers
from pipeline import storage
from pipeline.calibrate import calibrate, calibration_json
from pipeline.config import plain
from pipeline.gate import require_good_teacher
from pipeline.generations import Generations, remove_scratch, train_generations
from pipeline.keys import require_current, student_key, student_sources
from pipeline.originals import original_student, student_history
from pipeline.served_student import WEIGHTS, ServedStudent, write_weights
from pipeline.settings import StudentConfig
from pipeline.stage_inputs import require_local, require_validation
from pipeline.student_data import StudentData
from pipeline.student_part import TrainedStudent
from pipeline.student_rules import require_generations, require_teachable
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
    require_generations(config, workers().count)
    data = StudentData.read(run, METHODS[method], config.needs_embeddings)
    # What can be said before the finished student is removed is said before.
    require_teachable(data, method, config, original_student(original, method, config, 1) if original else None)
    require_good_teacher(run, method, config)
    if is_chief():
        run.begin(stage, key, _origin(run, method, config))
    generations = train_generations(run, data, method, config, original)
    if is_chief():
        exported = _export_all(run, data, method, config, generations, original)
        _write_histories(run, stage, config, generations)
        remove_scratch(run, method, config)
        # The student's own manifest comes last: it says that all is there.
        for name, contents in reversed(exported.items()):
            run.finish(name, key, contents)
    return True


def _origin(run: Run, method: str, config: StudentConfig) -> dict[str, Any]:
    """What a student is made from and how: its model card is written before its manifest."""
    return {"sources": student_sources(run, method, config.needs_embeddings), "settings": plain(config)}


def _export_all(
    run: Run, data: StudentData, method: str, config: StudentConfig, generations: Generations, original: Run | None
) -> dict[str, dict[str, Any]]:
    """Exports the student, and the mean of several generations; returns the contents of their manifests by stage."""
    contents = {"method": method, **_origin(run, method, config), **_alphas_json(generations.last)}
    models = {student_stage(method): generations.trunks[-1:]}
    if config.generations > 1:
        models[ensemble_stage(method)] = generations.trunks
    layout = generations.last.layout
    return {
        stage: {**contents, **_export(run, stage, data, config, layout, trunks, original)}
        for stage, trunks in models.items()
    }


def _export(
    run: Run,
    stage: str,
    data: StudentData,
    config: StudentConfig,
    layout: TableLayout,
    trunks: Sequence[StudentTrunk],
    original: Run | None,
) -> dict[str, Any]:
    """Calibrates the mean of some trunks, as it is served, and exports it; returns what its manifest says of it."""
    weights = [TrunkWeights.of(trunk, layout) for trunk in trunks]
    student = ServedStudent.of(data, config, layout, weights)
    if original:
        calibration = Calibration(**original.manifest(stage)["calibration"])
    else:
        assert data.validation is not None
        calibration = calibrate(student.scorer(), data.validation)
    with storage.publish_folder(run.file(stage, MODEL)) as folder:
        student.save(run, stage, folder, calibration)
    write_weights(run.file(stage, WEIGHTS), weights)
    return {
        "model": MODEL,
        "parameters": sum(map(parameters, trunks)),
        "calibration": calibration_json(calibration),
    }


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

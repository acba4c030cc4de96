"""``train-teacher``: the teacher, or with cross-fitting one teacher for each part of the rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from features.spec import ExamplesSpec
from models.backend import tf
from models.boosted import require_lightgbm
from models.calibration import Calibration
from models.determinism import enable
from models.history import best_evaluation
from models.layers import parameters
from models.training import CHECKPOINTS
from models.workers import is_chief, workers
from pipeline import storage
from pipeline.align_parts import Alignment, align_parts
from pipeline.boost import boost_teacher
from pipeline.calibrate import calibration_json, mean_calibration
from pipeline.config import plain
from pipeline.fitting import Circumstances, best_text
from pipeline.keys import teacher_key
from pipeline.originals import original_teacher
from pipeline.progress import Progress
from pipeline.settings import TeacherConfig, require
from pipeline.side_by_side import Report, available_memory, processes_that_fit, run_side_by_side
from pipeline.stage_inputs import outcome_of, require_blocks, require_local, require_validation
from pipeline.teacher_data import TeacherData, time_slices
from pipeline.teacher_part import train_part
from pipeline.workspace import EXAMPLES, TEACHER, Run, digest

# TensorFlow, its graphs, and the rows on their way.
_FIXED_BYTES = 1_500_000_000


def train_teacher(
    run: Run,
    config: TeacherConfig,
    parallel: int | None = 1,
    deterministic: bool = False,
    original: Run | None = None,
) -> bool:
    """Trains the teacher of a run; returns whether there was anything to do.

    Args:
        run: the run directory; the caller holds its lock.
        config: settings; see :func:`train_part`.
        parallel: with cross-fitting, teachers that are trained at a time, each in a process of its own; None for as
            many as cores and memory allow. Where TensorFlow is deterministic the result does not depend on it.
        deterministic: whether TensorFlow is deterministic here, and is to be so in those processes.
        original: for a refit, the run whose finished teacher is repeated.
    """
    key = teacher_key(run, config, original)
    if run.is_done(TEACHER, key):
        return False
    require(parallel is None or parallel > 0, "--parallel must be positive", parallel)
    _require_trainable(run, config, refit=original is not None)
    slices = {"slices": time_slices(run)} if config.statistics == "time" else {}
    parts = range(max(config.folds, 1))
    missing = _missing_parts(run, key, parts)
    if is_chief():
        run.begin(TEACHER, key)
    _train_parts(run, config, missing, parallel, deterministic, original)
    if not is_chief():
        return True
    records = [storage.read_json(_record(run, part)) for part in parts]
    aligned = align_parts(run, [record["model"] for record in records]) if config.folds else None
    contents = _contents(run, config, records, aligned) | slices
    if config.boosted:
        contents |= boost_teacher(run, config, contents, original)
    agreements = {"agreement": aligned.agreements} if aligned else {}
    storage.write_json(run.file(TEACHER, "metrics.json"), {"parts": records, **agreements})
    storage.remove(run.file(TEACHER, storage.WORK))
    run.finish(TEACHER, key, contents)
    return True


def _missing_parts(run: Run, key: str, parts: Sequence[int]) -> list[int]:
    """The parts that are not finished: the same for all workers, whether the chief has begun or not."""
    if not run.is_begun(TEACHER, key):
        return list(parts)
    return [part for part in parts if not storage.exists(_record(run, part))]


def _require_trainable(run: Run, config: TeacherConfig, refit: bool) -> None:
    """Raises a CtrDistillError for what would stop a training, before an earlier teacher is removed."""
    require_local(run)
    spec = run.spec()
    require_blocks(spec)
    if not refit:
        require_validation(spec)
    outcome_of(spec, config.label)
    if config.boosted:
        require_lightgbm()


def _contents(
    run: Run, config: TeacherConfig, records: list[dict[str, Any]], aligned: Alignment | None
) -> dict[str, Any]:
    calibrations = [Calibration(**record["calibration"]) for record in records]
    orders = aligned.orders if aligned else []
    return {
        "sources": {EXAMPLES: run.identity(EXAMPLES)},
        "folds": config.folds,
        "outputs": 2 * config.subclasses,
        "label": config.label,
        "models": [record["model"] for record in records],
        "fingerprint": digest([*(record["fingerprint"] for record in records), *orders]),
        "parameters": sum(record["parameters"] for record in records),
        "calibration": calibration_json(mean_calibration(calibrations)),
        "settings": plain(config),
        **({"alignment": orders} if aligned else {}),
    }


def _record(run: Run, part: int) -> str:
    """File that says that a part is finished, and what is to be known about it."""
    return run.file(TEACHER, storage.WORK, f"part-{part}.json")


def _train_parts(
    run: Run, config: TeacherConfig, parts: list[int], parallel: int | None, deterministic: bool, original: Run | None
) -> None:
    """Trains the parts that are not finished, side by side or one after the other."""
    spec, cores = run.spec(), os.cpu_count() or 1
    if workers().count > 1:
        parallel = 1
    elif parallel is None:
        parallel = processes_that_fit(training_memory(spec, config), available_memory(), cores)
    processes = min(parallel, len(parts))
    if processes > 1:
        threads = 0 if deterministic else max(cores // processes, 1)
        progress = Progress(f"{len(parts)} teachers", len(parts) * _rows(spec, config), "rows")
        calls = [(run, config, part, threads, original) for part in parts]
        run_side_by_side(_train_alone, calls, processes, progress.update)
        progress.close(f"{processes} at a time")
    elif parts:
        data = TeacherData.read(run, config)
        for part in parts:
            title = f"teacher {part + 1} of {config.folds}" if config.folds else "teacher"
            progress = Progress(title, _rows(spec, config), "rows")
            progress.close(_finish_part(run, data, config, part, progress.update, original))


def _rows(spec: ExamplesSpec, config: TeacherConfig) -> float:
    """At most so many rows are seen by a part: training may stop before."""
    share = 1 - 1 / config.folds if config.folds else 1.0
    return config.epochs * spec.rows["train"] * share


def training_memory(spec: ExamplesSpec, config: TeacherConfig) -> int:
    """Bytes that the training of a part takes: embeddings with what their optimizer keeps of them, and counts by fold.

    Weight, two moments and average are four floats; of each id there are counts, clicks and statistics by fold.
    """
    ids, members = sum(spec.vocabulary_ids), len(config.architecture.split(","))
    return _FIXED_BYTES + ids * (16 * members * (config.embedding_dim + 1) + 10 * 16 + 11 * 8)


def _train_alone(
    run: Run, config: TeacherConfig, part: int, threads: int, original: Run | None, report: Report
) -> None:
    """Trains a part in a process that does nothing else, with so many threads; 0 for deterministically."""
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    else:
        enable()
    _finish_part(run, TeacherData.read(run, config), config, part, report, original)


def _finish_part(
    run: Run,
    data: TeacherData,
    config: TeacherConfig,
    part: int,
    report: Report,
    original: Run | None,
) -> str:
    """Trains a part and writes all of it, its record last; returns what people want to know."""
    name, suffix = (f"model/fold-{part}", f"-{part}") if config.folds else ("model", "")
    work = run.file(TEACHER, f"training{suffix}")
    repeated = original_teacher(original, config, part) if original else None
    trained = train_part(data, config, part, Circumstances(report, work, repeated))
    best = best_evaluation(trained.history)
    if not is_chief():
        return f"after {best['epoch']:.2f} epochs; worker 0 writes the teacher"
    storage.write_bytes(run.file(TEACHER, f"history{suffix}.csv"), trained.history.to_csv(index=False).encode())
    with storage.publish_folder(run.file(TEACHER, name)) as folder:
        trained.save(folder)
    record = {
        "model": name,
        "valid_logloss": best.get("valid_logloss"),
        "epoch": float(best["epoch"]),
        "parameters": parameters(trained.teacher),
        "calibration": calibration_json(trained.calibration),
        "fingerprint": trained.fingerprint(),
    }
    storage.write_json(_record(run, part), record)
    storage.remove(storage.join(work, CHECKPOINTS))
    return best_text(best)

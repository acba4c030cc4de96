"""``train-teacher``: the teacher, or with cross-fitting one teacher for each part of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

from features.blocks import read_blocks
from features.crosses import MAX_ROWS, CrossRows, coarse_edges, cross_rows, find_crosses
from features.hashing import FOLDS
from features.spec import ExamplesSpec
from features.vocabulary import Vocabulary
from models.inputs import evaluation_batches, training_batches
from models.tables import CrossStatistics, FoldTables
from models.teacher import Teacher, TeacherScorer, TeacherSettings, TeacherTrunk, parameters
from models.training import LoopSettings, best_evaluation, fit, start
from pipeline import storage
from pipeline.config import TeacherConfig, narrow, plain
from pipeline.keys import teacher_key
from pipeline.progress import Progress
from pipeline.stage_inputs import (
    click_counts,
    example_files,
    naming_damage,
    read_vocabularies,
    require_blocks,
    require_local,
    require_validation,
    table_layout,
)
from pipeline.workspace import EXAMPLES, TEACHER, Run, digest


def train_teacher(run: Run, config: TeacherConfig) -> bool:
    """Trains the teacher of a run; returns whether there was anything to do.

    Args:
        run: the run directory; the caller holds its lock.
        config: settings; with ``folds = B`` teacher b never sees the labels of the rows whose fold is b modulo B,
            not even through click statistics.
    """
    key = teacher_key(run, config)
    if run.is_done(TEACHER, key):
        return False
    require_local(run)
    run.begin(TEACHER, key)
    spec = run.spec()
    require_blocks(spec)
    require_validation(spec)
    vocabularies = read_vocabularies(run, spec)
    parts = [_train_part(run, spec, vocabularies, config, part) for part in range(max(config.folds, 1))]
    storage.write_json(run.file(TEACHER, "metrics.json"), {"parts": parts})
    storage.remove(run.file(TEACHER, storage.WORK))
    contents = {
        "sources": {EXAMPLES: run.identity(EXAMPLES)},
        "folds": config.folds,
        "outputs": 2 * config.subclasses,
        "models": [part["model"] for part in parts],
        "fingerprint": digest([part["fingerprint"] for part in parts]),
        "parameters": sum(part["parameters"] for part in parts),
        "settings": plain(config),
    }
    run.finish(TEACHER, key, contents)
    return True


def _train_part(
    run: Run, spec: ExamplesSpec, vocabularies: list[Vocabulary], config: TeacherConfig, part: int
) -> dict[str, Any]:
    """Trains one teacher, unless an earlier call has; returns what is to be known about it."""
    name = f"model/fold-{part}" if config.folds else "model"
    record = run.file(TEACHER, storage.WORK, f"part-{part}.json")
    if storage.exists(record):
        result: dict[str, Any] = storage.read_json(record)
        return result
    without = [fold for fold in range(FOLDS) if config.folds and fold % config.folds == part]
    counts = click_counts(vocabularies, spec).without(without)
    layout = table_layout(vocabularies, spec, config.min_count)
    start(config.seed)
    settings = narrow(config, TeacherSettings)
    tables = FoldTables(layout, counts, config.smoothing)
    crosses = _crosses(run, spec, config.crosses, without)
    trunk = TeacherTrunk(layout, tables, crosses, counts.base_rate(), settings)
    teacher = Teacher(trunk, settings)
    title = f"teacher {part + 1} of {config.folds}" if config.folds else "teacher"
    # At most so many rows: training may stop before.
    progress = Progress(title, config.epochs * int(counts.rows.sum()), "rows")
    files, validation = example_files(run, spec, "train"), example_files(run, spec, "valid")
    with naming_damage(files, validation):
        history = fit(
            teacher,
            training_batches(files, config.batch_size, config.seed, without),
            evaluation_batches(validation),
            int(counts.rows.sum()),
            narrow(config, LoopSettings),
            progress.update,
        )
    best = best_evaluation(history)
    progress.close(f"valid logloss {best['valid_logloss']:.5f} after {best['epoch']:.2f} epochs")
    _write_history(run, history, part, config.folds)
    with storage.publish_folder(run.file(TEACHER, name)) as folder:
        TeacherScorer(trunk, files.columns).save(folder)
    result = {
        "model": name,
        "valid_logloss": float(best["valid_logloss"]),
        "epoch": float(best["epoch"]),
        "parameters": parameters(teacher),
        "fingerprint": _fingerprint(trunk),
    }
    storage.write_json(record, result)
    return result


def _crosses(run: Run, spec: ExamplesSpec, number: int, without: Sequence[int]) -> CrossStatistics | None:
    """Statistics of pairs of columns, from the training rows that the teacher may see."""
    if not number:
        return None
    edges = coarse_edges(spec.numeric)
    parts: list[CrossRows] = []
    # Shards are in time order; the latest rows count, and no more than are used are held.
    for shard in reversed(run.shards("train")):
        path = run.file(EXAMPLES, shard["path"])
        with storage.open_read(path) as file:
            blocks = list(read_blocks(file, path))
        parts += [cross_rows(block, edges, without) for block in reversed(blocks)]
        if sum(len(part) for part in parts) >= MAX_ROWS:
            break
    return CrossStatistics(find_crosses(CrossRows.concatenate(parts[::-1]), number), edges)


def _write_history(run: Run, history: pd.DataFrame, part: int, folds: int) -> None:
    name = f"history-{part}.csv" if folds else "history.csv"
    storage.write_bytes(run.file(TEACHER, name), history.to_csv(index=False).encode())


def _fingerprint(trunk: TeacherTrunk) -> str:
    """A hash of everything that the teacher's logits depend on."""
    whole = hashlib.sha256()
    tables = [*trunk.tables.variables, *(trunk.crosses.variables if trunk.crosses else [])]
    for variable in [*trunk.variables, *tables]:
        whole.update(variable.numpy().tobytes())
    if trunk.crosses:
        whole.update(trunk.crosses.keys.tobytes())
    return whole.hexdigest()[:16]

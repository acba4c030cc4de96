"""``refit``: the models of a run once more, on its training and validation rows together, as a run of its own.

Nothing is chosen or fitted anew that needs validation rows: every model takes as many steps as its original up to the
best evaluation, on the same learning rates, and keeps the original's calibration. The test rows are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import ConfigError, DataError
from features.splits import WITHOUT_VALIDATION
from models.methods import METHODS
from pipeline import storage
from pipeline.config import Config, build
from pipeline.keys import finished_students, is_complete, needed_sources, require_current
from pipeline.originals import RECORD, refit_record, valid_logloss
from pipeline.preprocess import preprocess
from pipeline.report import report
from pipeline.run import make_targets, write_provenance
from pipeline.settings import DerivedConfig, PreprocessConfig, TargetsConfig, require
from pipeline.workspace import EXAMPLES, TARGETS, TEACHER, Run, derived_stage, student_stage


def refit(
    original: Run,
    run: Run,
    options: PipelineOptions,
    parallel: int | None = 1,
    deterministic: bool = False,
    before_training: Callable[[], None] = lambda: None,
) -> bool:
    """Makes a refit of a finished run; goes on where an earlier call stopped.

    Args:
        original: the run, with a teacher and the students of some methods.
        run: the refit; the caller holds its lock.
        options: of Beam.
        parallel: see :func:`pipeline.train_teacher.train_teacher`.
        deterministic: whether TensorFlow is to be deterministic.
        before_training: called once it is known that something is to be trained.

    Returns:
        whether there was anything to do.

    Raises:
        ArtifactError: the original is not finished, or stale.
        ConfigError: the original has no validation rows, or the output is something else than a refit of it.
        DataError: the log of the original has changed.
    """
    require_current(original, TARGETS)
    require_current(original, TEACHER)
    methods = [method for method in METHODS if student_stage(method) in finished_students(original)]
    config = refit_config(original, methods)
    _begin(original, run, methods)
    examples = original.manifest(EXAMPLES)
    inputs = [item["path"] for item in examples["inputs"]]
    # The record says that a run with other examples here is an older refit of the same run.
    changed = preprocess(run, inputs, original.spec().schema, config.preprocess, options, force=True)
    _require_same_test_rows(original, run)
    write_provenance(run, config)
    if not changed and is_complete(run, config, methods, original):
        return False
    before_training()
    from pipeline.distill import distill
    from pipeline.evaluate import evaluate
    from pipeline.train_teacher import train_teacher

    train_teacher(run, config.teacher_config(), parallel, deterministic, original)
    make_targets(run, config, methods, options)
    for method in methods:
        distill(run, method, config.student_config(method), original=original)
    if run.spec().rows["test"]:
        evaluate(run)
        report(run)
    return True


def refit_config(original: Run, methods: list[str]) -> Config:
    """The settings that the models of a run were made with, and a split without validation rows.

    Raises:
        ConfigError: the run has none either, or its derived targets have different settings.
    """
    given = original.manifest(EXAMPLES)["settings"]
    if not original.spec().rows["valid"]:
        raise ConfigError(
            f"--run must have validation rows, for a refit to train on. Received: split {given['split']} "
            f"({original.path})."
        )
    preprocessing: PreprocessConfig = build(PreprocessConfig, given, "manifest.json of the examples")
    return Config(
        replace(preprocessing, split=WITHOUT_VALIDATION + preprocessing.split),
        original.manifest(TEACHER)["settings"],
        {},
        {method: original.manifest(student_stage(method))["settings"] for method in methods},
        targets=TargetsConfig(original.manifest(TARGETS).get("embedding", 0)),
        derived=build(DerivedConfig, _derived_settings(original, methods), "manifest.json of derived targets"),
    )


def _derived_settings(original: Run, methods: list[str]) -> dict[str, Any]:
    """The settings of all derived targets that students of these methods have learned from.

    Raises:
        ConfigError: two sources read the same setting and have another value of it: a run has one.
    """
    found: dict[str, Any] = {}
    for source in needed_sources(methods):
        for name, value in original.manifest(derived_stage(source))["settings"].items():
            rule = f"{name} must be the same for all derived targets of a run, for a refit"
            require(found.setdefault(name, value) == value, rule, f"{found[name]} and {value} ({original.path})")
    return found


def _begin(original: Run, run: Run, methods: list[str]) -> None:
    """Checks the log and the output, and writes the record."""
    known = original.manifest(EXAMPLES)["inputs"]
    for item in known:
        if storage.version(item["path"]) != [item["size"], item["version"]]:
            raise DataError(
                f"The log of a run must be what it was when the run was made. Received: {item['path']} has changed or "
                f"is gone; make {original.path} anew first."
            )
    record, path = refit_record(run), os.path.abspath(original.path)
    if (record is None and run.origin(EXAMPLES) is not None) or (record and record["run"] != path):
        raise ConfigError(
            f"--output must be a new folder, or a refit of the same run. Received: {run.path}, which is "
            f"{'a refit of ' + record['run'] if record else 'a run of its own'}."
        )
    losses = {student_stage(method): valid_logloss(original, method) for method in methods}
    storage.write_json(run.file(RECORD), {"run": path, "valid_logloss": losses})


def _require_same_test_rows(original: Run, run: Run) -> None:
    before, now = original.spec(), run.spec()
    if (before.rows["test"], sum(before.rows.values())) != (now.rows["test"], sum(now.rows.values())):
        raise DataError(
            f"A refit must have the test rows of its original. Received: {now.rows} for {before.rows} ({run.path})."
        )

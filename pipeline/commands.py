"""What each command does with its options. Stages are imported when they are called."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import os
from typing import Any

from features.errors import ConfigError
from features.schema import CRITEO, Schema
from models.methods import METHODS
from pipeline.config import Config, resolve, unknown_key
from pipeline.flags import sections

# As in pipeline.workspace, whose import takes longer than --help should.
TEACHER = "teacher"


def require_tensorflow() -> None:
    """Says that the ``train`` extra is not installed, before hours of preprocessing."""
    _require("train", "tensorflow", "tf_keras", "tensorflow_recommenders")


def _require(extra: str, *packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"This command must have the {extra} extra: pip install 'ctr-distill[{extra}]'. Received: no {package}."
            )


def _config(options: argparse.Namespace) -> Config:
    return resolve(sections(options))


def _config_for(options: argparse.Namespace, run: Any) -> Config:
    """The configuration with the preset for the rows of a run."""
    config = _config(options)
    return config.for_rows(run.spec().rows["train"])


def _schema(options: argparse.Namespace) -> Schema:
    return Schema.load(options.schema) if options.schema else CRITEO


def _open_run(options: argparse.Namespace, new: bool = False) -> Any:
    from pipeline.workspace import Run, require_run

    run = Run(options.run.rstrip("/"))
    if not new:
        require_run(run)
    return run


def _make_deterministic(options: argparse.Namespace) -> None:
    """Makes TensorFlow deterministic if that is asked for, after everything that can be said without it."""
    if options.deterministic:
        from models.determinism import enable

        enable()


def _beam_options(options: argparse.Namespace, rest: list[str]) -> Any:
    from pipeline.beam import make_options

    return make_options(rest, options.workers)


def _say(done: bool, what: str, path: str) -> None:
    print(f"{what}: {path}" if done else f"{what}: nothing to do, {path} is finished")


def generate_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``generate``."""
    from pipeline.generate import check_arguments, generate
    from pipeline.progress import Progress

    settings = {"seed": options.seed, "preset": options.preset, "negative_rate": options.negative_rate}
    check_arguments(options.rows, options.output, **settings)
    progress = Progress("generate", options.rows, "rows")
    made = generate(options.rows, options.output, **settings, progress=progress.update)
    progress.close(
        f"{made.rows:,} rows, click rate {made.click_rate:.4f}, Bayes AUC {made.bayes_auc:.4f}, "
        f"Bayes logloss {made.bayes_logloss:.5f}"
    )
    print(*made.paths, sep="\n")


def propose_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``schema``."""
    from pipeline.propose import propose

    text = propose(options.input, options.output)
    print(options.output if options.output else text)


def inspect_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``inspect``."""
    from pipeline.inspect_run import as_text, inspect

    print(as_text(inspect(_open_run(options))))


def verify_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``verify``."""
    from pipeline.progress import Progress
    from pipeline.verify import verify

    run = _open_run(options)
    progress = Progress("verify", sum(run.spec().rows.values()), "rows")
    with run.lock():
        findings = verify(run, progress.update)
    progress.close(run.path)
    print(findings.as_text())
    findings.raise_if_any()


def _dry_run(options: argparse.Namespace, config: Config, schema: Schema) -> None:
    from pipeline.beam import default_workers
    from pipeline.estimate import as_text, estimate

    print(as_text(estimate(options.input, schema, config.preprocess, options.workers or default_workers())))


def preprocess_command(options: argparse.Namespace, rest: list[str]) -> None:
    """Runs ``preprocess``."""
    from pipeline.preprocess import preprocess

    run, config, schema = _open_run(options, new=True), _config(options), _schema(options)
    beam_options = _beam_options(options, rest)
    if options.dry_run:
        _dry_run(options, config, schema)
        return
    with run.lock():
        done = preprocess(run, options.input, schema, config.preprocess, beam_options, options.force)
    _say(done, "examples", run.file("examples"))


def _require_one_worker() -> None:
    """Says that a command does not train on several workers, before they wait for each other."""
    if os.environ.get("TF_CONFIG"):
        raise ConfigError(
            "TF_CONFIG must be set for train-teacher and distill only. Received: it is set (environment)."
        )


def _writing(run: Any) -> contextlib.AbstractContextManager[None]:
    """The lock of a run; of several workers the chief has it."""
    from models.workers import is_chief

    lock: contextlib.AbstractContextManager[None] = run.lock()
    return lock if is_chief() else contextlib.nullcontext()


def train_teacher_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``train-teacher``."""
    run = _open_run(options)
    config = _config_for(options, run)
    _make_deterministic(options)
    from pipeline.train_teacher import train_teacher

    with _writing(run):
        done = train_teacher(run, config.teacher_config(), options.parallel, options.deterministic)
    _say(done, "teacher", run.file("teacher"))


def precompute_command(options: argparse.Namespace, rest: list[str]) -> None:
    """Runs ``precompute``."""
    from pipeline.precompute import precompute

    run, config, beam_options = _open_run(options), _config(options), _beam_options(options, rest)
    run.manifest("teacher")
    _make_deterministic(options)
    with run.lock():
        done = precompute(run, beam_options, config.targets.embedding)
    _say(done, "targets", run.file("targets"))


def derive_command(options: argparse.Namespace, rest: list[str]) -> None:
    """Runs ``derive``."""
    from pipeline.derive import derive
    from pipeline.workspace import derived_stage

    run, config, beam_options = _open_run(options), _config(options), _beam_options(options, rest)
    run.manifest("targets")
    with run.lock():
        done = derive(run, options.source, config.derived, beam_options)
    _say(done, "derived targets", run.file(derived_stage(options.source)))


def distill_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``distill``."""
    run = _open_run(options)
    config = _config_for(options, run)
    _require_targets(run, options.method, config)
    _make_deterministic(options)
    from pipeline.distill import distill
    from pipeline.read_settings import warn_of_unread

    warn_of_unread(config, [options.method])
    with _writing(run):
        done = distill(run, options.method, config.student_config(options.method))
    _say(done, "student", run.file("students", options.method))


def _require_targets(run: Any, method: str, config: Config) -> None:
    """Says that the targets of a student are not there, before TensorFlow is imported."""
    from pipeline.workspace import target_stage

    if METHODS[method].needs_targets or config.student_config(method).needs_embeddings:
        run.manifest(target_stage(METHODS[method].source))


def evaluate_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``evaluate``."""
    run = _open_run(options)
    run.manifest("targets")
    _make_deterministic(options)
    from pipeline.evaluate import evaluate

    with run.lock():
        evaluate(run)
    _print_tables(run)


def report_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``report``."""
    from pipeline.report import report

    run = _open_run(options)
    with run.lock():
        print(report(run))


def run_command(options: argparse.Namespace, rest: list[str]) -> None:
    """Runs ``run``."""
    _require_one_worker()
    from pipeline.refusals import require_none_refused
    from pipeline.run import run_all

    methods = [method.strip() for method in options.methods.split(",") if method.strip()]
    for method in methods:
        if method not in METHODS:
            raise unknown_key(method, METHODS, "--methods")
    run, config, schema = _open_run(options, new=True), _config(options), _schema(options)
    beam_options = _beam_options(options, rest)
    if options.dry_run:
        _dry_run(options, config, schema)
        return
    with run.lock():
        done = run_all(
            run,
            options.input,
            schema,
            config,
            methods,
            beam_options,
            force=options.force,
            before_training=lambda: _make_deterministic(options),
            parallel=options.parallel,
            deterministic=options.deterministic,
        )
    if not done:
        print(f"nothing to do: {run.path} is finished")
    _print_tables(run)
    print(f"report: {run.file('report', 'index.html')}")
    require_none_refused(run, methods)


def compare_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``compare``."""
    _require_one_worker()
    from pipeline.compare import compare
    from pipeline.comparison_text import comparison_text
    from pipeline.report import report

    run = _open_run(options)
    config = _config_for(options, run)
    with run.lock():
        found = compare(run, config, options.parallel, options.deterministic)
        page = report(run)
    print(f"\n{comparison_text(found)}\n")
    print(f"report: {page}")


def tune_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``tune``."""
    _require("tune", "optuna")
    _require_one_worker()
    from pipeline.tune import budget_seconds, tune

    run, seconds = _open_run(options), budget_seconds(options.budget)
    config = _config_for(options, run)
    if options.model != TEACHER:
        _require_targets(run, options.model, config)
    with run.lock():
        found = tune(run, options.model, config, seconds)
    command = "train-teacher" if options.model == TEACHER else f"distill --method {options.model}"
    present = "no loss" if math.isnan(found.present) else f"{found.present:.5f}"
    print(
        f"best of {found.trials} trials: valid logloss {found.valid_logloss:.5f} in trial {found.trial}; with the "
        f"present settings {present}\nuse it: ctr-distill {command} --run {run.path} --config {found.path}"
    )


def refit_command(options: argparse.Namespace, rest: list[str]) -> None:
    """Runs ``refit``."""
    _require_one_worker()
    from pipeline.refit import refit
    from pipeline.workspace import Run

    original, run = _open_run(options), Run(options.output.rstrip("/"))
    beam_options = _beam_options(options, rest)
    with run.lock():
        done = refit(
            original,
            run,
            beam_options,
            parallel=options.parallel,
            deterministic=options.deterministic,
            before_training=lambda: _make_deterministic(options),
        )
    if not done:
        print(f"nothing to do: {run.path} is finished")
    if run.spec().rows["test"]:
        _print_tables(run)
        print(f"report: {run.file('report', 'index.html')}")
    else:
        print(f"students: {run.file('students')} (without test rows there is no report)")


def export_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``export``."""
    from pipeline.workspace import ensemble_stage, student_stage

    run = _open_run(options)
    stage = (ensemble_stage if options.ensemble else student_stage)(options.method)
    run.manifest(stage)
    from pipeline.export import Asked, export

    asked = Asked(options.served, options.min_count, options.target_bytes, options.subclasses)
    print(export(run, stage, options.output, asked).as_text())


def _print_tables(run: Any) -> None:
    from pipeline.report import read_metrics, terminal_tables

    print(f"\n{terminal_tables(read_metrics(run))}\n")


def predict_command(options: argparse.Namespace, rest: list[str]) -> None:
    """Runs ``predict``."""
    from pipeline.beam import default_workers
    from pipeline.predict import predict

    beam_options = _beam_options(options, rest)
    if options.dry_run:
        from pipeline.predict_estimate import as_text, estimate_predictions

        print(as_text(estimate_predictions(options.model, options.input, options.workers or default_workers())))
        return
    done = predict(options.model, options.input, options.output, beam_options, options.max_rejects)
    _say(done, "predictions", options.output)


def check_model_command(options: argparse.Namespace, _: list[str]) -> None:
    """Runs ``check-model``; exits with 1 if a limit is broken."""
    from pipeline.check_limits import Limits, bounds, number
    from pipeline.check_model import CheckSettings, check_model
    from pipeline.check_text import as_text
    from pipeline.evaluate import without_nan
    from pipeline.storage import write_json

    limits = Limits(
        number(options.max_logloss_increase, "--max-logloss-increase"),
        bounds(options.pcoc_range, "--pcoc-range"),
        bounds(options.slice_pcoc_range, "--slice-pcoc-range"),
        options.min_slice_clicks,
        number(options.max_churn, "--max-churn"),
        number(options.max_p99_ms, "--max-p99-ms"),
        number(options.max_bytes, "--max-bytes"),
    )
    settings = CheckSettings(limits, options.min_rows, options.slice, options.negative_rate)
    found = check_model(options.model, options.input, options.current, settings)
    if options.json:
        write_json(options.json, without_nan(found))
    print(as_text(found))
    if found["broken"]:
        raise SystemExit(1)

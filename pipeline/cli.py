"""The command line. Stages are imported when they are called: a finished run is left without TensorFlow."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from features.errors import ConfigError, CtrDistillError
from features.schema import CRITEO, Schema
from models.methods import METHODS
from pipeline import config as settings
from pipeline.flags import Parser, add_inputs, add_preset, add_settings, sections

Handler = Callable[[argparse.Namespace, list[str]], None]

DEFAULT_METHODS = "hard,kd,subclass"
# As in pipeline.workspace, whose import takes longer than --help should.
TEACHER = "teacher"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``ctr-distill``; exits with 2 and one line for a user's mistake."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not options.beam:
        parser.error(f"unknown argument {rest[0]}")
    # Below errors, Beam's log speaks of client libraries that few need.
    logging.basicConfig(level=logging.ERROR)
    try:
        if options.tensorflow and not _runs_elsewhere(options, rest):
            _require_tensorflow()
        options.handler(options, rest)
        sys.stdout.flush()
    except CtrDistillError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: the same call goes on where this one stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of our output has gone; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
        raise SystemExit(2) from None


def _runs_elsewhere(options: argparse.Namespace, rest: list[str]) -> bool:
    """Whether only the workers of another runner need TensorFlow; `run` itself trains in this process."""
    runners = [word for word in rest if word.startswith("--runner")]
    return options.handler in (_precompute, _predict) and bool(runners)


def _require_tensorflow() -> None:
    """Says that the ``train`` extra is not installed, before hours of preprocessing."""
    _require("train", "tensorflow", "tf_keras", "tensorflow_recommenders")


def _require(extra: str, *packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"This command must have the {extra} extra: pip install 'ctr-distill[{extra}]'. Received: no {package}."
            )


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(prog="ctr-distill", description="Subclass distillation of click models.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _add_generate(commands)
    preprocess = _add(commands, "preprocess", "raw logs to TFRecord blocks", _preprocess, beam=True, tensorflow=False)
    add_inputs(preprocess)
    add_settings(preprocess, settings.PreprocessConfig)
    teacher = _add(commands, "train-teacher", "train the teacher", _train_teacher)
    add_settings(teacher, settings.TeacherConfig)
    precompute = _add(commands, "precompute", "the teacher's logits for all rows", _precompute, beam=True)
    distill = _add(commands, "distill", "train and export a student", _distill)
    distill.add_argument("--method", choices=METHODS, required=True, help="what the student learns from")
    add_settings(distill, settings.StudentConfig)
    evaluate = _add(commands, "evaluate", "compare the models of a run", _evaluate)
    report = _add(commands, "report", "write the HTML page of a run", _report, tensorflow=False)
    run = _add(commands, "run", "all of it in order, skipping what is done", _run, beam=True)
    add_inputs(run)
    run.add_argument("--methods", default=DEFAULT_METHODS, help="students to train, with commas (default: %(default)s)")
    add_settings(run, settings.PreprocessConfig)
    add_settings(run, settings.TeacherConfig, "teacher")
    add_settings(run, settings.StudentConfig, "student")
    tune = _add_tune(commands)
    refit = _add(commands, "refit", "a finished run once more, trained on its validation rows too", _refit, beam=True)
    refit.add_argument("--output", required=True, metavar="RUN", help="the new run: a new folder, or an earlier refit")
    _add_looks(commands)
    for command in (preprocess, run):
        command.add_argument("--dry-run", action="store_true", help="print the plan with disk and memory, and stop")
    for command in (preprocess, teacher, precompute, distill, evaluate, report, run, tune, refit):
        command.add_argument("--run", required=True, metavar="RUN", help="the run directory")
    for command in (preprocess, teacher, distill, run, tune):
        command.add_argument("--config", metavar="FILE", help="YAML file of settings; flags count more")
    for command in (teacher, distill, run, tune):
        add_preset(command)
    for command in (teacher, run, refit):
        command.add_argument(
            "--parallel",
            type=int,
            help="teachers of the cross-fitting that are trained at a time (default: what cores and memory allow)",
        )
    for command in (teacher, precompute, distill, evaluate, run, refit):
        command.add_argument(
            "--deterministic", action="store_true", help="the same bits at every training, at some cost in speed"
        )
    _add_predict(commands)
    return parser


def _add(
    commands: Any, name: str, text: str, handler: Handler, beam: bool = False, tensorflow: bool = True
) -> argparse.ArgumentParser:
    more = " Beam's own options (--runner=..., --project=...) may follow." if beam else ""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.{more}", allow_abbrev=False
    )
    command.set_defaults(handler=handler, beam=beam, tensorflow=tensorflow)
    if beam:
        command.add_argument("--workers", type=int, help="threads of the local runner (default: one a core)")
    return command


def _add_generate(commands: Any) -> None:
    command = _add(
        commands, "generate", "a Criteo-format log whose true click probability is known", _generate, tensorflow=False
    )
    command.add_argument("--rows", type=int, required=True, help="number of lines")
    command.add_argument("--output", required=True, metavar="FILE", help="the log; gzip if it ends with .gz")
    command.add_argument("--seed", type=int, default=0, help="of the rows (default: %(default)s)")
    command.add_argument(
        "--negative-rate",
        type=float,
        default=1.0,
        help="share of the rows without click to keep (default: %(default)s)",
    )
    command.add_argument(
        "--preset",
        default="kinds",
        help="kinds, no-kinds or linear: what the clicks depend on (default: %(default)s)",
    )


def _add_tune(commands: Any) -> argparse.ArgumentParser:
    command = _add(commands, "tune", "search for better settings of a model, on the validation rows", _tune)
    command.add_argument(
        "--model", default=TEACHER, choices=(TEACHER, *METHODS), help="what is tuned (default: %(default)s)"
    )
    command.add_argument(
        "--budget", default="30m", metavar="TIME", help="how long to search: 90s, 30m or 2h (default: %(default)s)"
    )
    return command


def _add_looks(commands: Any) -> None:
    """The commands that look at a log or at a run."""
    schema = _add(commands, "schema", "propose a schema from the first rows of a log", _propose, tensorflow=False)
    schema.add_argument("--input", required=True, metavar="FILE", help="a file of the log")
    schema.add_argument("--output", metavar="FILE", help="where the schema goes (default: standard output)")
    for name, text, handler in (
        ("inspect", "print counts, rates, missing shares, top values and drift of a run's examples", _inspect),
        ("verify", "read all examples of a run again and prove that nothing is lost or damaged", _verify),
    ):
        command = _add(commands, name, text, handler, tensorflow=False)
        command.add_argument("run", metavar="RUN", help="the run directory")


def _add_predict(commands: Any) -> None:
    command = _add(commands, "predict", "score raw logs with an exported student", _predict, beam=True)
    command.add_argument("--model", required=True, metavar="DIR", help="RUN/students/METHOD/model")
    command.add_argument("--input", nargs="+", required=True, metavar="GLOB", help="logs, with or without labels")
    command.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder")
    command.add_argument(
        "--max-rejects", default="1%", help="share of bad lines above which the job fails (default: 1%%)"
    )


def _config(options: argparse.Namespace) -> settings.Config:
    return settings.resolve(sections(options))


def _config_for(options: argparse.Namespace, run: Any) -> settings.Config:
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


def _generate(options: argparse.Namespace, _: list[str]) -> None:
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


def _propose(options: argparse.Namespace, _: list[str]) -> None:
    from pipeline.propose import propose

    text = propose(options.input, options.output)
    print(options.output if options.output else text)


def _inspect(options: argparse.Namespace, _: list[str]) -> None:
    from pipeline.inspect_run import as_text, inspect

    print(as_text(inspect(_open_run(options))))


def _verify(options: argparse.Namespace, _: list[str]) -> None:
    from pipeline.progress import Progress
    from pipeline.verify import verify

    run = _open_run(options)
    progress = Progress("verify", sum(run.spec().rows.values()), "rows")
    with run.lock():
        findings = verify(run, progress.update)
    progress.close(run.path)
    print(findings.as_text())
    findings.raise_if_any()


def _dry_run(options: argparse.Namespace, config: settings.Config, schema: Schema) -> None:
    from pipeline.beam import default_workers
    from pipeline.estimate import as_text, estimate

    print(as_text(estimate(options.input, schema, config.preprocess, options.workers or default_workers())))


def _preprocess(options: argparse.Namespace, rest: list[str]) -> None:
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


def _train_teacher(options: argparse.Namespace, _: list[str]) -> None:
    run = _open_run(options)
    config = _config_for(options, run)
    _make_deterministic(options)
    from pipeline.train_teacher import train_teacher

    with _writing(run):
        done = train_teacher(run, config.teacher_config(), options.parallel, options.deterministic)
    _say(done, "teacher", run.file("teacher"))


def _precompute(options: argparse.Namespace, rest: list[str]) -> None:
    from pipeline.precompute import precompute

    run, beam_options = _open_run(options), _beam_options(options, rest)
    run.manifest("teacher")
    _make_deterministic(options)
    with run.lock():
        done = precompute(run, beam_options)
    _say(done, "targets", run.file("targets"))


def _distill(options: argparse.Namespace, _: list[str]) -> None:
    run = _open_run(options)
    config = _config_for(options, run)
    if METHODS[options.method].needs_targets:
        run.manifest("targets")
    _make_deterministic(options)
    from pipeline.distill import distill

    with _writing(run):
        done = distill(run, options.method, config.student_config(options.method))
    _say(done, "student", run.file("students", options.method))


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    run = _open_run(options)
    run.manifest("targets")
    _make_deterministic(options)
    from pipeline.evaluate import evaluate

    with run.lock():
        evaluate(run)
    _print_tables(run)


def _report(options: argparse.Namespace, _: list[str]) -> None:
    from pipeline.report import report

    run = _open_run(options)
    with run.lock():
        print(report(run))


def _run(options: argparse.Namespace, rest: list[str]) -> None:
    _require_one_worker()
    from pipeline.run import run_all

    methods = [method.strip() for method in options.methods.split(",") if method.strip()]
    for method in methods:
        if method not in METHODS:
            raise settings.unknown_key(method, METHODS, "--methods")
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


def _tune(options: argparse.Namespace, _: list[str]) -> None:
    _require("tune", "optuna")
    _require_one_worker()
    from pipeline.tune import budget_seconds, tune

    run, seconds = _open_run(options), budget_seconds(options.budget)
    config = _config_for(options, run)
    if options.model != TEACHER and METHODS[options.model].needs_targets:
        run.manifest("targets")
    with run.lock():
        found = tune(run, options.model, config, seconds)
    command = "train-teacher" if options.model == TEACHER else f"distill --method {options.model}"
    present = "no loss" if math.isnan(found.present) else f"{found.present:.5f}"
    print(
        f"best of {found.trials} trials: valid logloss {found.valid_logloss:.5f} in trial {found.trial}; with the "
        f"present settings {present}\nuse it: ctr-distill {command} --run {run.path} --config {found.path}"
    )


def _refit(options: argparse.Namespace, rest: list[str]) -> None:
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


def _print_tables(run: Any) -> None:
    from pipeline.report import read_metrics, terminal_tables

    print(f"\n{terminal_tables(read_metrics(run))}\n")


def _predict(options: argparse.Namespace, rest: list[str]) -> None:
    from pipeline.predict import predict

    done = predict(options.model, options.input, options.output, _beam_options(options, rest), options.max_rejects)
    _say(done, "predictions", options.output)


if __name__ == "__main__":
    main()

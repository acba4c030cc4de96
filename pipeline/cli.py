"""The command line: its parser, and how it ends. A finished run is left without TensorFlow."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from features.errors import CtrDistillError
from models.methods import METHODS, SOURCES
from pipeline import commands, settings
from pipeline.flags import Parser, add_inputs, add_preset, add_settings

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
            commands.require_tensorflow()
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
    return options.handler in (commands.precompute_command, commands.predict_command) and bool(runners)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(prog="ctr-distill", description="Subclass distillation of click models.", allow_abbrev=False)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _add_generate(subparsers)
    preprocess = _add(
        subparsers,
        "preprocess",
        "raw logs to TFRecord blocks",
        commands.preprocess_command,
        beam=True,
        tensorflow=False,
    )
    add_inputs(preprocess)
    add_settings(preprocess, settings.PreprocessConfig)
    teacher = _add(subparsers, "train-teacher", "train the teacher", commands.train_teacher_command)
    add_settings(teacher, settings.TeacherConfig)
    precompute = _add(
        subparsers, "precompute", "the teacher's logits for all rows", commands.precompute_command, beam=True
    )
    add_settings(precompute, settings.TargetsConfig)
    derive = _add(
        subparsers,
        "derive",
        "other subclasses in place of the teacher's, from its targets",
        commands.derive_command,
        beam=True,
        tensorflow=False,
    )
    derive.add_argument("--source", choices=SOURCES, required=True, help="where the subclasses come from")
    add_settings(derive, settings.DerivedConfig)
    distill = _add(subparsers, "distill", "train and export a student", commands.distill_command)
    distill.add_argument("--method", choices=METHODS, required=True, help="what the student learns from")
    add_settings(distill, settings.StudentConfig)
    evaluate = _add(subparsers, "evaluate", "compare the models of a run", commands.evaluate_command)
    report = _add(subparsers, "report", "write the HTML page of a run", commands.report_command, tensorflow=False)
    run = _add(subparsers, "run", "all of it in order, skipping what is done", commands.run_command, beam=True)
    add_inputs(run)
    run.add_argument("--methods", default=DEFAULT_METHODS, help="students to train, with commas (default: %(default)s)")
    add_settings(run, settings.PreprocessConfig)
    add_settings(run, settings.TeacherConfig, "teacher")
    add_settings(run, settings.TargetsConfig, "targets")
    add_settings(run, settings.DerivedConfig, "derived")
    add_settings(run, settings.StudentConfig, "student")
    compare = _add(
        subparsers, "compare", "methods against each other: paired seeds, intervals", commands.compare_command
    )
    add_settings(compare, settings.CompareConfig)
    tune = _add_tune(subparsers)
    refit = _add(
        subparsers,
        "refit",
        "a finished run once more, trained on its validation rows too",
        commands.refit_command,
        beam=True,
    )
    refit.add_argument("--output", required=True, metavar="RUN", help="the new run: a new folder, or an earlier refit")
    export = _add_export(subparsers)
    _add_looks(subparsers)
    for command in (preprocess, run):
        command.add_argument("--dry-run", action="store_true", help="print the plan with disk and memory, and stop")
    for command in (
        preprocess,
        teacher,
        precompute,
        derive,
        distill,
        evaluate,
        report,
        run,
        compare,
        tune,
        refit,
        export,
    ):
        command.add_argument("--run", required=True, metavar="RUN", help="the run directory")
    for command in (preprocess, teacher, precompute, derive, distill, run, compare, tune):
        command.add_argument("--config", metavar="FILE", help="YAML file of settings; flags count more")
    for command in (teacher, distill, run, compare, tune):
        add_preset(command)
    for command in (teacher, run, refit, compare):
        command.add_argument(
            "--parallel",
            type=int,
            help="trainings at a time, of the cross-fitting or of a comparison (default: what cores and memory allow)",
        )
    for command in (teacher, precompute, distill, evaluate, run, compare, refit):
        command.add_argument(
            "--deterministic", action="store_true", help="the same bits at every training, at some cost in speed"
        )
    _add_predict(subparsers)
    _add_check_model(subparsers)
    return parser


def _add(
    subparsers: Any, name: str, text: str, handler: Handler, beam: bool = False, tensorflow: bool = True
) -> argparse.ArgumentParser:
    more = " Beam's own options (--runner=..., --project=...) may follow." if beam else ""
    command: argparse.ArgumentParser = subparsers.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.{more}", allow_abbrev=False
    )
    command.set_defaults(handler=handler, beam=beam, tensorflow=tensorflow)
    if beam:
        command.add_argument("--workers", type=int, help="threads of the local runner (default: one a core)")
    return command


def _add_generate(subparsers: Any) -> None:
    command = _add(
        subparsers,
        "generate",
        "a Criteo-format log whose true click probability is known",
        commands.generate_command,
        tensorflow=False,
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


def _add_tune(subparsers: Any) -> argparse.ArgumentParser:
    command = _add(
        subparsers, "tune", "search for better settings of a model, on the validation rows", commands.tune_command
    )
    command.add_argument(
        "--model", default=TEACHER, choices=(TEACHER, *METHODS), help="what is tuned (default: %(default)s)"
    )
    command.add_argument(
        "--budget", default="30m", metavar="TIME", help="how long to search: 90s, 30m or 2h (default: %(default)s)"
    )
    return command


def _add_export(subparsers: Any) -> argparse.ArgumentParser:
    command = _add(
        subparsers, "export", "a finished student once more: smaller, or of a given size", commands.export_command
    )
    command.add_argument("--method", choices=METHODS, required=True, help="what the student has learned from")
    command.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder; the model is DIR/1")
    command.add_argument(
        "--served",
        choices=settings.SERVED,
        help="precision of embedding rows (default: that of the student's settings)",
    )
    command.add_argument(
        "--min-count",
        type=int,
        metavar="ROWS",
        help="training rows below which a value loses its embedding row (default: as in the training)",
    )
    command.add_argument(
        "--target-bytes",
        type=int,
        metavar="BYTES",
        help="most bytes of the model's folder: of the precisions and min-counts that fit, the one with the best "
        "validation logloss is exported (default: no limit)",
    )
    command.add_argument("--subclasses", action="store_true", help="give probabilities of the subclasses too")
    command.add_argument("--ensemble", action="store_true", help="the mean of the student's generations")
    return command


def _add_looks(subparsers: Any) -> None:
    """The commands that look at a log or at a run."""
    schema = _add(
        subparsers,
        "schema",
        "propose a schema from the first rows of a log",
        commands.propose_command,
        tensorflow=False,
    )
    schema.add_argument("--input", required=True, metavar="FILE", help="a file of the log")
    schema.add_argument("--output", metavar="FILE", help="where the schema goes (default: standard output)")
    for name, text, handler in (
        (
            "inspect",
            "print counts, rates, missing shares, top values and drift of a run's examples",
            commands.inspect_command,
        ),
        (
            "verify",
            "read all examples of a run again and prove that nothing is lost or damaged",
            commands.verify_command,
        ),
    ):
        command = _add(subparsers, name, text, handler, tensorflow=False)
        command.add_argument("run", metavar="RUN", help="the run directory")


def _add_predict(subparsers: Any) -> None:
    command = _add(
        subparsers, "predict", "score raw logs with an exported student", commands.predict_command, beam=True
    )
    command.add_argument("--model", required=True, metavar="DIR", help="RUN/students/METHOD/model")
    command.add_argument("--input", nargs="+", required=True, metavar="GLOB", help="logs, with or without labels")
    command.add_argument("--dry-run", action="store_true", help="print the plan with output and memory, and stop")
    command.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder")
    command.add_argument(
        "--max-rejects", default="1%", help="share of bad lines above which the job fails (default: 1%%)"
    )


def _add_check_model(subparsers: Any) -> None:
    command = _add(
        subparsers,
        "check-model",
        "check a new student on labelled rows before it goes live; exit 1 if a limit is broken",
        commands.check_model_command,
    )
    command.add_argument("model", metavar="MODEL", help="the new student: RUN/students/METHOD/model")
    command.add_argument("--current", metavar="DIR", help="the student that is live now")
    command.add_argument("--input", nargs="+", required=True, metavar="GLOB", help="logs with labels")
    command.add_argument("--min-rows", type=int, default=1000, help="fewer rows are an error (default: %(default)s)")
    command.add_argument("--slice", default="", metavar="COLUMN", help="slices by the 20 most frequent values, too")
    command.add_argument(
        "--negative-rate",
        type=float,
        help="share of the rows without click that the logs kept (default: as in the log of the new student)",
    )
    command.add_argument("--json", metavar="FILE", help="where everything goes as JSON")
    for flag, default, text in (
        ("--max-logloss-increase", "0.001", "over the current one, in nats; counts when its 95 %% interval is above"),
        ("--pcoc-range", "0.9,1.1", "PCOC of all rows; counts when its 95 %% interval lies outside"),
        ("--slice-pcoc-range", "0.8,1.25", "the same for each slice"),
        ("--max-churn", "0.05", "mean absolute change of p_click"),
        ("--max-p99-ms", "5", "milliseconds of one row, 99th percentile"),
        ("--max-bytes", "none", "of the files that serving reads"),
    ):
        command.add_argument(flag, default=default, metavar="LIMIT", help=f"{text}; or none (default: {default})")
    command.add_argument(
        "--min-slice-clicks", type=int, default=100, help="slices with fewer have no limit (default: %(default)s)"
    )


if __name__ == "__main__":
    main()

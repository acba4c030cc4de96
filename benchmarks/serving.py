"""Serving: latency, rows/s, bytes and logloss of the exported student, its teacher and named peers in one sitting.

python benchmarks/serving.py [--run RUN | --input LOG | --rows N] [--repeats 3] [--json OUT]

A finished run (of a Criteo-format log) gives student and rows; without one the main job is run on --input, or on a
generated log. All are trained on the training rows of that run and judged on its test rows, and all answer the same
test rows, without labels, in processes of their own that take turns, round by round:

- student: the SavedModel through its signatures tsv_unlabelled (lines), serving_default (columns), strings and features
  (ids); lists and arrays become tensors within the time, but for the ways that say "as tensors". It knows
  vocabularies, numeric statistics and calibration itself.
- predict: what the command does with the lines of a batch, on one thread of Python; a log read, parsed and scored by
  threads; and the whole command, with Beam's start and its parquet files.
- teacher 400-400-400: settings of the largest preset, trained briefly for this. It takes ids and standardised numbers,
  as the examples hold them, and cannot read a log: vocabularies and spec.json of the run count among its bytes.
- plain Keras: see serving_keras.py. Python splits a line.
- lightgbm, xgboost, catboost: see peers/tabular/serving.py. Python or pyarrow splits a line; the tables that make their
  inputs count among the bytes.

Times are of calls, p50 and p99 of one row; rows/s are those of the median call; what is printed are medians over the
rounds. The packages that each needs to run are not among the bytes. A contestant that fails has a reason in place of
figures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import Measurement, Outcome, generated_log, measure, run_child, write_json
from serving_tables import CALIBRATION, JOB, LOG, PARTS, PATH, STUDENT, TEACHER, Results, print_tables, ratios
from venvs import PEERS, install, program

KERAS, BOOSTED = "plain Keras", ("lightgbm", "xgboost", "catboost")
CONTESTANTS = (STUDENT, PATH, TEACHER, KERAS, *BOOSTED)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--run", type=Path, help="a finished run; one is made without")
    add("--input", type=Path, help="Criteo-format log to make the run of, in place of a generated one")
    add("--rows", type=int, default=1_000_000, help="rows of the generated log (%(default)s)")
    add("--method", default="subclass", help="method of the student (%(default)s)")
    add("--models", default=",".join(CONTESTANTS), help="who takes part, with commas (default: all)")
    add("--repeats", type=int, default=3, help="rounds; medians over them count (%(default)s)")
    add("--seconds", type=float, default=1.0, help="of each way and size of batch in a round (%(default)s)")
    add("--threads", type=int, default=2, help="of every contestant (%(default)s)")
    add("--predict-rows", type=int, default=1_000_000, help="rows of the log for predict (%(default)s)")
    add("--teacher-epochs", type=float, default=1.0, help="of the 400-400-400 teacher (%(default)s)")
    add("--keras-epochs", type=int, default=5, help="most epochs of the plain Keras model (%(default)s)")
    add("--work", type=Path, default=Path("runs/benchmarks"), help="folder that keeps logs and models (%(default)s)")
    add("--json", type=Path, help="where the numbers go")
    for name, kind in {"child": str, "folder": Path, "log": Path, "test": Path, "teacher": Path}.items():
        add(f"--{name}", type=kind, help=argparse.SUPPRESS)
    return parser


def child(options: argparse.Namespace) -> None:
    """Makes one measurement."""
    import serving_parts
    import serving_prepare
    import serving_ways

    calls = [serving_prepare.prepare, serving_prepare.train_teacher_400, serving_prepare.train_keras]
    calls += [serving_ways.student, serving_ways.predict_path, serving_ways.predict_log, serving_ways.predict_job]
    calls += [serving_ways.teacher, serving_ways.plain_keras, serving_parts.parts, serving_parts.calibration]
    run_child({call.__name__: call for call in calls}, options)


def prepared(options: argparse.Namespace) -> Path:
    """Run, logs and models; returns the folder of the latter. What is there stays."""
    common = {name.replace("_", "-"): getattr(options, name) for name in ("method", "predict_rows", "teacher_epochs")}
    common |= {"run": options.run, "keras-epochs": options.keras_epochs}
    if options.run is None:
        log = options.input or generated_log(options.work, options.rows)
        common |= {"run": options.work / f"serving-run-{log.stem}", "log": log}
        options.run = common["run"]
    folder = options.work / f"serving-{options.run.resolve().name}"
    _made([Measurement("run and logs", "prepare", {**common, "folder": folder})], required=True)
    return folder


def train(options: argparse.Namespace, folder: Path, chosen: list[str]) -> dict[str, str]:
    """Trains what takes part and is not there; returns why some could not be."""
    ours = {"run": options.run, "folder": folder, "method": options.method}
    teacher, keras = {"teacher-epochs": options.teacher_epochs}, {"keras-epochs": options.keras_epochs}
    wanted = [
        Measurement(TEACHER, "train_teacher_400", {**ours, **teacher}),
        Measurement(KERAS, "train_keras", {**ours, **keras}),
    ]
    from pipeline.workspace import Run

    rows = Run(str(options.run)).spec().rows
    theirs = {"part": "train", "folder": folder, "rows": folder / "rows.tsv", "threads": options.threads}
    theirs["split"] = "/".join(str(rows[split]) for split in ("train", "valid", "test"))
    reason = install("tabular", "requirements.txt") if set(chosen) & set(BOOSTED) else ""
    wanted += [Measurement(name, "", {**theirs, "model": name}, peer()) for name in BOOSTED]
    failed = {name: reason for name in BOOSTED if reason}
    done = _made([item for item in wanted if item.name in chosen and item.name not in failed])
    return failed | {outcome.name: outcome.reason for outcome in done if outcome.reason}


def peer() -> tuple[str, str]:
    """Interpreter and script of the boosting peers."""
    return program("tabular")[0], str(PEERS / "tabular" / "serving.py")


def _made(measurements: list[Measurement], required: bool = False) -> list[Outcome]:
    done = measure(__file__, measurements, 1)
    for outcome in done:
        if required and outcome.reason:
            raise SystemExit(f"There must be a run to measure. Received: {outcome.reason}")
    return done


def measurements(options: argparse.Namespace, folder: Path, chosen: list[str]) -> list[Measurement]:
    """All that is measured, those that take turns one behind the other."""
    timing = {"threads": options.threads, "seconds": options.seconds}
    ours = {"run": options.run, "folder": folder, "method": options.method, "test": folder / "test.tsv", **timing}
    theirs = {"part": "measure", "folder": folder, "test": folder / "test.tsv", **timing}
    children = {STUDENT: "student", PATH: "predict_path", TEACHER: "teacher", KERAS: "plain_keras"}
    found = []
    for name in chosen:
        if name in BOOSTED:
            found.append(Measurement(name, "", {**theirs, "model": name}, peer()))
        else:
            found.append(Measurement(name, children[name], {**ours, "teacher": folder / "teacher-400"}))
    log = {**ours, "log": folder / "predict.tsv"}
    jobs = [Measurement(LOG, "predict_log", log), Measurement(JOB, "predict_job", log)]
    return [*found, *jobs, Measurement(PARTS, "parts", ours), Measurement(CALIBRATION, "calibration", ours)]


def main() -> None:
    """Prepares and measures everything, prints the tables and the ratios."""
    options = make_parser().parse_args()
    if options.child:
        child(options)
        return
    chosen = options.models.split(",")
    if unknown := set(chosen) - set(CONTESTANTS):
        sys.exit(f"--models must be among {', '.join(CONTESTANTS)}. Received: {', '.join(sorted(unknown))}.")
    folder = prepared(options)
    failed = train(options, folder, chosen)
    outcomes = measure(__file__, measurements(options, folder, chosen), options.repeats, failed)
    results = Results(outcomes)
    print_tables(results)
    write_json(options.json, outcomes, ratios(results))


if __name__ == "__main__":
    main()

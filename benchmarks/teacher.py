"""Is the teacher worth learning from? Against tuned boosting on a real log, and against the truth on a generated one.

python benchmarks/teacher.py [--work DIR] [--json OUT] real --input LOG [--seeds 5] [--teachers ...] [--students ...]
python benchmarks/teacher.py [--work DIR] [--json OUT] generated [--rows 4000000]

``real``: every seed trains each teacher; the peers are tuned in the same call on the same validation rows; all are
judged on the same test rows. Students with default settings of every teacher are compared if asked for. Intervals: 95 %
of a two-way bootstrap over seeds and test rows.

``generated``: the true click probability p* is known. A model's excess is the mean KL(p*, p) of the test rows; the
teacher closes the share 1 - excess(teacher) / excess(hard-label student) of the student's gap to Bayes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import generated_log
from paired import (
    add_peer_options,
    difference_table,
    loss,
    make_run,
    model_table,
    peer_losses,
    print_tables,
    student_logits,
    teacher_logits,
    test_rows,
)

from features.schema import CRITEO
from pipeline import storage
from pipeline.beam import make_options
from pipeline.config import build, resolve
from pipeline.run import run_all
from pipeline.settings import StudentConfig, TeacherConfig
from pipeline.workspace import REPORT, Run

TEACHERS: dict[str, dict[str, Any]] = {
    "neural": {},
    "trees": {"boosted": 0.5},
    "ensemble": {"architecture": "dcn,finalmlp"},
    "ensemble with trees": {"architecture": "dcn,finalmlp", "boosted": 0.5},
}
"""Settings by name, in what they differ from the defaults."""


def main() -> None:
    """Runs one of the two comparisons."""
    options = parse_arguments()
    result = real(options) if options.log == "real" else generated(options)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--work", default="runs/teacher", help="folder for runs and results (default: %(default)s)")
    logs = parser.add_subparsers(dest="log", required=True)
    one = logs.add_parser("real")
    one.add_argument("--input", required=True, help="Criteo-format log")
    one.add_argument("--seeds", type=int, default=5, help="seeds (default: %(default)s)")
    one.add_argument("--teachers", default="neural", help=f"of {', '.join(TEACHERS)}, with commas")
    one.add_argument("--students", default="", help="methods of students of every teacher, with commas")
    add_peer_options(one, "lightgbm,xgboost,catboost")
    other = logs.add_parser("generated")
    other.add_argument("--rows", type=int, default=4_000_000, help="rows of the log (default: %(default)s)")
    return parser.parse_args()


def real(options: argparse.Namespace) -> dict[str, Any]:
    """Teachers against tuned peers."""
    work = Path(options.work)
    names = options.teachers.split(",")
    runs = {name: [teacher_run(options.input, work, name, seed) for seed in range(options.seeds)] for name in names}
    first = runs[names[0]][0]
    labels = test_rows(first).labels
    losses = {name: np.stack([loss(teacher_logits(run), labels) for run in made]) for name, made in runs.items()}
    methods = [method for method in options.students.split(",") if method]
    taught = {
        f"{method} of {name}": np.stack(
            [loss(student_logits(run, method, StudentConfig(seed=seed)), labels) for seed, run in enumerate(made)]
        )
        for method in methods
        for name, made in runs.items()
    }
    peers = peer_losses(options, work, first)
    for name, made in runs.items():
        records = [storage.read_json(run.file("teacher", "metrics.json"))["parts"][0] for run in made]
        print(f"{name}: valid {np.mean([record['valid_logloss'] for record in records]):.5f}, mean of the seeds")
    which = [(name, peer) for name in names for peer in peers]
    which += [(name, names[0]) for name in names[1:]]
    which += [(f"{method} of {name}", f"{method} of {names[0]}") for method in methods for name in names[1:]]
    every = {**losses, **taught, **peers}
    models, differences = model_table(every), difference_table(every, which)
    print_tables(models, differences)
    ratios = {f"{a} logloss vs {b}": every[a].mean() / every[b].mean() for a, b in which}
    return {"ratios": ratios, "models": models.to_dict("records"), "comparisons": differences.to_dict("records")}


def teacher_run(log: str, work: Path, name: str, seed: int) -> Run:
    """The run of one of the teachers."""
    config = build(TeacherConfig, {**TEACHERS[name], "seed": seed}, name)
    return make_run(log, work / f"{name.replace(' ', '-')}-{seed}", config)


def generated(options: argparse.Namespace) -> dict[str, Any]:
    """Excess over Bayes of teacher and hard-label student."""
    work = Path(options.work)
    log, run = generated_log(work, options.rows), Run(str(work / f"generated-{options.rows}"))
    with run.lock():
        run_all(run, [str(log)], CRITEO, resolve({}), ["hard", "subclass"], make_options())
    models = storage.read_json(run.file(REPORT, "metrics.json"))["models"]
    excess = {name: model["test"]["excess_over_bayes"] for name, model in models.items()}
    shares = {name: 1 - value / excess["students/hard"] for name, value in excess.items()}
    for name, model in models.items():
        print(f"{name:18} logloss {model['test']['logloss']:.5f}  excess {excess[name]:.5f}  closes {shares[name]:.1%}")
    return {"ratios": {f"{name} closes of hard's gap to Bayes": share for name, share in shares.items()}}


if __name__ == "__main__":
    main()

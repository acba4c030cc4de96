"""Students against tuned peers on a Criteo-format log: tuned on the validation rows, judged once on the test rows.

python benchmarks/quality.py --input LOG [--trials 16] [--seeds 3] [--work runs/quality] [--json OUT]

Every method gets the same number of trials from the same space, in which the settings that all methods share are the
same draws; the best three by one seed are trained with two more, and the best mean wins. A seed fixes teacher and
student. Intervals: 95 % of a two-way bootstrap over seeds and test rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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

from models.history import best_evaluation
from models.methods import METHODS as ALL_METHODS
from pipeline.config import build
from pipeline.fitting import Circumstances
from pipeline.settings import StudentConfig, TeacherConfig
from pipeline.student_data import StudentData
from pipeline.student_part import train_student
from pipeline.workspace import Run

METHODS = ("hard", "kd", "subclass")

# What all students share, and what only those with a teacher have.
SPACE: dict[str, tuple[Any, ...]] = {
    "embedding_dropout": (0.3, 0.4, 0.5, 0.7),
    "linear_dropout": (0.0, 0.1, 0.3),
    "field_dropout": (0.0, 0.1),
    "learning_rate": (0.002, 0.003, 0.004, 0.006),
    "table_rate": (0.3, 1.0),
    "batch_size": (1024, 2048),
    "epochs": (6.0, 10.0, 15.0, 20.0),
    "embedding_l2": (0.0, 1e-5, 1e-4),
}
TAUGHT: dict[str, tuple[Any, ...]] = {
    "alpha": (0.8, 0.9, 0.95),
    "temperature": (1.0, 2.0, 3.0),
    "within_weight": (0.1, 0.3, 1.0),
}


def main() -> None:
    """Runs the whole comparison."""
    options = parse_arguments()
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    runs = [make_run(options.input, work / f"seed-{seed}", TeacherConfig(seed=seed)) for seed in range(options.seeds)]
    losses = peer_losses(options, work, runs[0])
    winners = {method: tune(runs[0], method, options.trials, work) for method in METHODS}
    rows = test_rows(runs[0])
    losses["teacher"] = np.stack([loss(teacher_logits(run), rows.labels) for run in runs])
    for method, values in winners.items():
        students = [
            student_logits(run, method, build(StudentConfig, {**values, "seed": seed}, method))
            for seed, run in enumerate(runs)
        ]
        losses[method] = np.stack([loss(logits, rows.labels) for logits in students])
    report(losses, winners, options.json)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="Criteo-format log")
    parser.add_argument("--work", default="runs/quality", help="folder for runs and results")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (default: %(default)s)")
    add_peer_options(parser, "logistic,lightgbm,xgboost,catboost")
    parser.add_argument("--json", help="file for the results")
    return parser.parse_args()


def draws(method: str, trials: int) -> Iterator[dict[str, Any]]:
    """The trials of a method; shared settings are the same draws for all methods."""
    shared, own = np.random.default_rng(1), np.random.default_rng(2)
    for _ in range(trials):
        values = {name: choices[shared.integers(len(choices))] for name, choices in SPACE.items()}
        taught = {name: choices[own.integers(len(choices))] for name, choices in TAUGHT.items()}
        yield values if method == "hard" else {**values, **taught}


def tune(run: Run, method: str, trials: int, work: Path) -> dict[str, Any]:
    """The settings with the best mean validation logloss over three seeds, among the best three by one."""
    path = work / f"tuning-{method}.json"
    done: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    data = StudentData.read(run, ALL_METHODS[method])

    def score(values: dict[str, Any], seed: int) -> float:
        name = json.dumps({**values, "seed": seed})
        if name not in done:
            config = build(StudentConfig, {**values, "seed": seed}, method)
            with tempfile.TemporaryDirectory() as folder:
                trained = train_student(data, method, config, Circumstances(quiet, folder))
            done[name] = float(best_evaluation(trained.history)["valid_logloss"])
            path.write_text(json.dumps(done, indent=1))
            print(f"{method} {done[name]:.5f} {name}", flush=True)
        return done[name]

    ranked = sorted(draws(method, trials), key=lambda values: score(values, 0))[:3]
    return min(ranked, key=lambda values: float(np.mean([score(values, seed) for seed in range(3)])))


def quiet(_: float, __: str) -> None:
    """Shows no progress."""


def report(losses: dict[str, np.ndarray], winners: dict[str, dict[str, Any]], out: str | None) -> None:
    """Prints the tables and writes the JSON file."""
    which = [
        (method, baseline)
        for method, baseline in itertools.permutations(losses, 2)
        if method in (*METHODS, "teacher") and (baseline not in METHODS or method != "hard")
    ]
    table = difference_table(losses, which)
    print_tables(model_table(losses), table)
    for method, values in winners.items():
        print(method, values)
    if out:
        ratios = {f"{one} logloss vs {other}": losses[one].mean() / losses[other].mean() for one, other in which}
        value = {"ratios": ratios, "comparisons": table.to_dict("records"), "settings": winners}
        Path(out).write_text(json.dumps(value, indent=1))


if __name__ == "__main__":
    main()

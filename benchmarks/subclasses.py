"""Whether a teacher's subclasses find the hidden kinds of rows, and claim nothing where there are none.

python benchmarks/subclasses.py [--rows 200000] [--seeds 5] [--work DIR] [--json OUT] kinds [--arms ...]
python benchmarks/subclasses.py [--rows 200000] [--seeds 5] [--work DIR] [--json OUT] no-kinds

Logs are generated. ``kinds``: teachers of several arms, from beta = 0 on, the same seeds in each; the normalised mutual
information (NMI) of the most probable subclass with the hidden kind on the test rows, by class, and its difference
from beta = 0 and from random partitions of the same sizes. ``no-kinds``: students that learn the subclasses of a
teacher against students that learn its click probability with a head as wide (``subclass - kd_k``), test logloss.

Intervals: 95 %, of Student's t over seeds for NMI; of a two-way bootstrap over seeds and test rows for students. The
seeds are of the teachers (and students); the log is one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from paired import difference_table, loss, make_run, model_table, pairs, print_tables, student_logits, test_rows
from scipy import stats

from models.subclasses import SubclassHealth
from pipeline.config import build
from pipeline.generate import generate
from pipeline.settings import StudentConfig, TeacherConfig
from pipeline.truth import read_truths
from pipeline.workspace import EXAMPLES, TARGETS, Run

ARMS: dict[str, dict[str, Any]] = {
    "beta 0": {"beta": 0.0},
    "beta 0.003": {"beta": 0.003},
    "beta 0.03": {"beta": 0.03},
    "beta 0.3": {"beta": 0.3},
    "within 0.03": {"beta": 0.03, "aux_scope": "within"},
    "within 0.1": {"beta": 0.1, "aux_scope": "within"},
    "within 0.3": {"beta": 0.3, "aux_scope": "within"},
    "tolerant 0.03": {"beta": 0.03, "tolerance": 0.1},
}
"""Settings of the teachers by name, in what they differ from the defaults."""
CONTROL = "beta 0"
METHODS = ("subclass", "kd_k")


def main() -> None:
    """Runs one of the two comparisons."""
    options = parse_arguments()
    result = kinds(options) if options.preset == "kinds" else no_kinds(options)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the log (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all teachers")
    parser.add_argument("--students", action="append", default=[], metavar="NAME=VALUE", help="one of all students")
    parser.add_argument("--work", default="runs/subclasses", help="folder for logs and runs (default: %(default)s)")
    parser.add_argument("--json", help="file for the results")
    presets = parser.add_subparsers(dest="preset", required=True)
    one = presets.add_parser("kinds")
    one.add_argument("--arms", default="beta 0,beta 0.003,beta 0.03,beta 0.3,within 0.1", help=f"of {', '.join(ARMS)}")
    other = presets.add_parser("no-kinds")
    other.add_argument("--arm", default="beta 0.03", choices=list(ARMS), help="of the teachers")
    return parser.parse_args()


def kinds(options: argparse.Namespace) -> dict[str, Any]:
    """NMI of each arm, and how far it is above that of beta = 0 and above chance."""
    names = [CONTROL, *(name for name in options.arms.split(",") if name != CONTROL)]
    found = {name: [agreement(teacher_run(options, name, seed)) for seed in range(options.seeds)] for name in names}
    rows = []
    for name, tables in found.items():
        for c, label in enumerate(tables[0]["class"]):
            nmi, chance = (np.array([table[column][c] for table in tables]) for column in ("nmi", "random_nmi"))
            control = np.array([table["nmi"][c] for table in found[CONTROL]])
            rows.append(
                {"arm": name, "class": label, "nmi": nmi.mean(), "random_nmi": chance.mean(), "seeds": len(nmi)}
                | difference("over beta 0", nmi - control)
                | difference("over chance", nmi - chance)
            )
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="{:.4f}".format))
    return {"kinds": table.to_dict("records")}


def difference(name: str, values: np.ndarray) -> dict[str, float]:
    """Mean of paired differences over seeds with its interval; without bounds for one seed."""
    mean, half = float(values.mean()), float("nan")
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {name: mean, f"{name}, low": mean - half, f"{name}, high": mean + half}


def no_kinds(options: argparse.Namespace) -> dict[str, Any]:
    """Test logloss of students with subclass targets against that of students of the same width without."""
    runs = [teacher_run(options, options.arm, seed) for seed in range(options.seeds)]
    labels, losses = test_rows(runs[0]).labels, {}
    for method in METHODS:
        logits = [student_logits(run, method, student_config(options, seed)) for seed, run in enumerate(runs)]
        losses[method] = np.stack([loss(z, labels) for z in logits])
    models, differences = model_table(losses), difference_table(losses, [METHODS])
    print_tables(models, differences)
    return {"models": models.to_dict("records"), "comparisons": differences.to_dict("records")}


def student_config(options: argparse.Namespace, seed: int) -> StudentConfig:
    """The students of a seed."""
    config: StudentConfig = build(StudentConfig, {**settings(options.students), "seed": seed}, "students")
    return config


def settings(texts: list[str]) -> dict[str, str]:
    """Settings from NAME=VALUE."""
    return dict(text.split("=", 1) for text in texts)


def teacher_run(options: argparse.Namespace, arm: str, seed: int) -> Run:
    """The run of a teacher on the log of the preset; what is finished is kept."""
    work = Path(options.work) / f"{options.preset}-{options.rows}"
    work.mkdir(parents=True, exist_ok=True)
    log = work / "log.tsv"
    if not log.exists():
        generate(options.rows, str(log), seed=1, preset=options.preset)
    config = build(TeacherConfig, {**settings(options.set), **ARMS[arm], "seed": seed}, arm)
    return make_run(str(log), work / f"{arm.replace(' ', '-')}-{seed}", config)


def agreement(run: Run) -> pd.DataFrame:
    """NMI of a teacher's subclasses with the hidden kinds on the test rows, and that of chance, by class."""
    truths = read_truths([item["path"] for item in run.manifest(EXAMPLES)["inputs"]])
    assert truths is not None
    (truth,) = truths.values()
    health = SubclassHealth.empty(run.manifest(TARGETS)["outputs"] // 2, int(truth.kinds.max()) + 1)
    for block, target in pairs(run):
        health.update(target.logits, block.labels, truth.find(block.offsets)[1])
    return health.agreement()


if __name__ == "__main__":
    main()

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
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from features.schema import CRITEO
from models.estimates import subclass_click_logits
from models.training import best_evaluation
from pipeline.beam import make_options
from pipeline.config import PreprocessConfig, StudentConfig, TeacherConfig, build
from pipeline.distill import StudentData, distill, train_student
from pipeline.evaluate import load_student, read_pairs
from pipeline.precompute import precompute
from pipeline.preprocess import preprocess
from pipeline.train_teacher import train_teacher
from pipeline.workspace import TARGETS, Run

METHODS = ("hard", "kd", "subclass")
PEER = Path(__file__).parent / "peers" / "tabular"

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


@dataclass(frozen=True)
class Rows:
    """Labels and offsets of the test rows, in the order of the shards."""

    offsets: np.ndarray
    labels: np.ndarray


def main() -> None:
    """Runs the whole comparison."""
    options = parse_arguments()
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    runs = [make_run(options.input, work / f"seed-{seed}", seed) for seed in range(options.seeds)]
    losses = run_peers(options, work, runs[0])
    winners = {method: tune(runs[0], method, options.trials, work) for method in METHODS}
    rows = test_rows(runs[0])
    losses["teacher"] = np.stack([loss(teacher_logits(run), rows.labels) for run in runs])
    for method, values in winners.items():
        students = [student_logits(run, method, {**values, "seed": seed}) for seed, run in enumerate(runs)]
        losses[method] = np.stack([loss(logits, rows.labels) for logits in students])
    report(losses, winners, options.json)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="Criteo-format log")
    parser.add_argument("--work", default="runs/quality", help="folder for runs and results")
    parser.add_argument("--trials", type=int, default=16, help="trials a method (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (default: %(default)s)")
    parser.add_argument("--peers", default="logistic,lightgbm,xgboost,catboost", help="peers, with commas")
    parser.add_argument("--budget", type=float, default=200, help="seconds a peer (default: %(default)s)")
    parser.add_argument("--json", help="file for the results")
    return parser.parse_args()


def make_run(log: str, path: Path, seed: int) -> Run:
    """Examples, teacher and targets of a seed; what is finished is kept."""
    run = Run(str(path))
    options = make_options()
    with run.lock():
        preprocess(run, [log], CRITEO, PreprocessConfig(), options)
        train_teacher(run, TeacherConfig(seed=seed))
        precompute(run, options)
    return run


def run_peers(options: argparse.Namespace, work: Path, run: Run) -> dict[str, np.ndarray]:
    """Losses of the peers on the test rows, [1, rows] each; a peer that fails is left out with its reason."""
    if not options.peers:
        return {}
    python = PEER / ".venv" / "bin" / "python"
    if not python.exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, PEER / ".venv"], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, "-r", PEER / "requirements.txt"], check=True)
    spec, out, predictions = run.spec(), work / "peers.json", work / "peers"
    split = "/".join(str(spec.rows[name]) for name in ("train", "valid", "test"))
    command = [python, PEER / "peer.py", "--input", options.input, "--split", split, "--models", options.peers]
    command += ["--trials", str(options.trials), "--predictions", predictions, "--json", out]
    command += ["--budget", options.budget]
    if not out.exists() or json.loads(out.read_text())["trials"] != options.trials:
        subprocess.run(list(map(str, command)), check=False)
    offsets = test_rows(run).offsets
    losses = {}
    for name, found in json.loads(out.read_text())["models"].items():
        if found is None:
            print(f"{name}: no result (see {out})")
            continue
        table = pq.read_table(predictions / f"{name}.parquet").to_pandas().query("split == 'test'")
        table = table.set_index("offset").loc[offsets]
        losses[name] = -np.log(np.where(table["label"] == 1, table["p"], 1 - table["p"]))[np.newaxis]
    return losses


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
    data = StudentData.read(run, targets=method != "hard")

    def score(values: dict[str, Any], seed: int) -> float:
        name = json.dumps({**values, "seed": seed})
        if name not in done:
            trained = train_student(data, method, build(StudentConfig, {**values, "seed": seed}, method), quiet)
            done[name] = float(best_evaluation(trained.history)["valid_logloss"])
            path.write_text(json.dumps(done, indent=1))
            print(f"{method} {done[name]:.5f} {name}", flush=True)
        return done[name]

    ranked = sorted(draws(method, trials), key=lambda values: score(values, 0))[:3]
    return min(ranked, key=lambda values: float(np.mean([score(values, seed) for seed in range(3)])))


def quiet(_: float, __: str) -> None:
    """Shows no progress."""


def pairs(run: Run, split: str = "test") -> Iterator[tuple[Any, Any]]:
    """Blocks and targets of a split."""
    manifest = run.manifest(TARGETS)
    targets = {shard["path"]: shard for shard in manifest["shards"]}
    for shard in run.shards(split):
        for _, block, target in read_pairs(run, shard, targets[shard["path"]], manifest["teacher"]):
            yield block, target


def test_rows(run: Run) -> Rows:
    """The test rows of a run."""
    blocks = [block for block, _ in pairs(run)]
    return Rows(np.concatenate([b.offsets for b in blocks]), np.concatenate([b.labels for b in blocks]))


def teacher_logits(run: Run) -> np.ndarray:
    """Click logits of the teacher on the test rows, as stored."""
    return np.concatenate([subclass_click_logits(target.logits) for _, target in pairs(run)])


def student_logits(run: Run, method: str, values: dict[str, Any]) -> np.ndarray:
    """Click logits of an exported student on the test rows."""
    with run.lock():
        distill(run, method, build(StudentConfig, values, method))
    score = load_student(run, f"students/{method}")
    return np.concatenate([score(block) for block, _ in pairs(run)])


def loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logloss of each row."""
    return np.logaddexp(0, logits) - labels * logits


def interval(difference: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95 % of a two-way bootstrap of a mean of [seeds, rows], rows in 1,000 random groups."""
    generator = np.random.default_rng(0)
    seeds, rows = difference.shape
    groups = np.arange(rows) % 1000
    sums = np.stack([np.bincount(groups, row, 1000) for row in difference])
    sizes = np.bincount(groups, minlength=1000)
    means = []
    for _ in range(resamples):
        weights = generator.multinomial(1000, np.full(1000, 1e-3))
        chosen = generator.integers(seeds, size=seeds)
        means.append((sums[chosen] @ weights).mean() / (sizes @ weights))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def report(losses: dict[str, np.ndarray], winners: dict[str, dict[str, Any]], out: str | None) -> None:
    """Prints the tables and writes the JSON file."""
    models = pd.DataFrame({name: {"test logloss": x.mean(), "seeds": len(x)} for name, x in losses.items()}).T
    models["sd over seeds"] = [x.mean(axis=1).std() for x in losses.values()]
    print(models.to_string(float_format="{:.5f}".format))
    rows = []
    for method, baseline in itertools.permutations(losses, 2):
        if method in (*METHODS, "teacher") and (baseline not in METHODS or method != "hard") and method != baseline:
            difference = losses[method] - losses[baseline]
            low, high = interval(difference)
            rows.append(
                (method, baseline, difference.mean(), low, high, max(map(len, (losses[method], losses[baseline]))))
            )
    table = pd.DataFrame(rows, columns=["method", "baseline", "difference", "low", "high", "seeds"])
    print(table.to_string(index=False, float_format="{:+.5f}".format))
    for method, values in winners.items():
        print(method, values)
    if out:
        ratios = {f"{row[0]} logloss vs {row[1]}": losses[row[0]].mean() / losses[row[1]].mean() for row in rows}
        value = {"ratios": ratios, "comparisons": table.to_dict("records"), "settings": winners}
        Path(out).write_text(json.dumps(value, indent=1))


if __name__ == "__main__":
    main()

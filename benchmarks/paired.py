"""What the quality scripts share: tuned peers, losses of the test rows, paired intervals over seeds and rows."""

from __future__ import annotations

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
from models.comparison import Resampled, two_way
from models.estimates import subclass_click_logits
from pipeline.beam import make_options
from pipeline.distill import distill
from pipeline.evaluate import load_student, read_pairs
from pipeline.precompute import precompute
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig, StudentConfig, TeacherConfig
from pipeline.train_teacher import train_teacher
from pipeline.workspace import TARGETS, Run, student_stage

PEER = Path(__file__).parent / "peers" / "tabular"
GROUPS = 1000


@dataclass(frozen=True)
class Rows:
    """Labels and offsets of the test rows, in the order of the shards."""

    offsets: np.ndarray
    labels: np.ndarray


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


def teacher_logits(run: Run, split: str = "test") -> np.ndarray:
    """Click logits of the teacher on the rows of a split, as stored."""
    return np.concatenate([subclass_click_logits(target.logits) for _, target in pairs(run, split)])


def make_run(log: str, path: Path, teacher: TeacherConfig) -> Run:
    """Examples, teacher and targets; what is finished is kept."""
    run, options = Run(str(path)), make_options()
    with run.lock():
        preprocess(run, [log], CRITEO, PreprocessConfig(), options)
        train_teacher(run, teacher)
        precompute(run, options)
    return run


def student_logits(run: Run, method: str, config: StudentConfig) -> np.ndarray:
    """Click logits of an exported student on the test rows; it is trained unless it is there."""
    with run.lock():
        distill(run, method, config)
    score = load_student(run, student_stage(method))
    return np.concatenate([score(block) for block, _ in pairs(run)])


def loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logloss of each row."""
    return np.logaddexp(0, logits) - labels * logits


def interval(difference: np.ndarray, resamples: int = 4000) -> tuple[float, float]:
    """95 % of a two-way bootstrap of a mean of [seeds, rows], rows in 1,000 groups: see :mod:`models.comparison`."""
    groups = np.arange(difference.shape[1]) % GROUPS
    sizes = np.bincount(groups, minlength=GROUPS)
    weights = np.random.default_rng(0).multinomial(GROUPS, np.full(GROUPS, 1 / GROUPS), size=resamples)
    sums = np.stack([np.bincount(groups, row, GROUPS) for row in difference])
    draws = weights @ sums.T / (weights @ sizes)[:, np.newaxis]
    seeds = [Resampled(float(row.mean()), drawn) for row, drawn in zip(difference, draws.T, strict=True)]
    low, high = np.percentile(two_way(seeds, [Resampled(0.0, np.zeros(resamples))] * len(seeds)).draws, [2.5, 97.5])
    return float(low), float(high)


def peer_losses(options: Any, work: Path, run: Run) -> dict[str, np.ndarray]:
    """Losses of the tuned peers on the test rows, [1, rows] each; one that fails is left out with its reason.

    Args:
        options: of the script: input, peers, trials, budget.
        work: where their results are kept.
        run: whose split they get.
    """
    if not options.peers:
        return {}
    out, predictions = work / "peers.json", work / "peers"
    if not out.exists() or json.loads(out.read_text())["trials"] != options.trials:
        _run_peers(options, run, out, predictions)
    rows = test_rows(run)
    losses = {}
    for name, found in json.loads(out.read_text())["models"].items():
        if found is None:
            print(f"{name}: no result (see {out})")
            continue
        table = pq.read_table(predictions / f"{name}.parquet").to_pandas().query("split == 'test'")
        p = table.set_index("offset").loc[rows.offsets, "p"].to_numpy()
        losses[name] = -np.log(np.where(rows.labels == 1, p, 1 - p))[np.newaxis]
        print(f"{name}: valid {found['valid_logloss']:.5f} test {found['test_logloss']:.5f} trials {found['trials']}")
    return losses


def _run_peers(options: Any, run: Run, out: Path, predictions: Path) -> None:
    python = PEER / ".venv" / "bin" / "python"
    if not python.exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, PEER / ".venv"], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, "-r", PEER / "requirements.txt"], check=True)
    spec = run.spec()
    split = "/".join(str(spec.rows[name]) for name in ("train", "valid", "test"))
    command = [python, PEER / "peer.py", "--input", options.input, "--split", split, "--models", options.peers]
    command += ["--trials", options.trials, "--predictions", predictions, "--json", out, "--budget", options.budget]
    subprocess.run(list(map(str, command)), check=False)


def add_peer_options(parser: Any, peers: str) -> None:
    """The options that say which peers are tuned, and how long."""
    parser.add_argument("--trials", type=int, default=16, help="trials a method (default: %(default)s)")
    parser.add_argument("--peers", default=peers, help="peers, with commas (default: %(default)s)")
    parser.add_argument("--budget", type=float, default=200, help="seconds a peer (default: %(default)s)")


def model_table(losses: dict[str, np.ndarray]) -> pd.DataFrame:
    """Mean test logloss of each model, its seeds, and the deviation between them."""
    rows = [(name, x.mean(), len(x), x.mean(axis=1).std()) for name, x in losses.items()]
    return pd.DataFrame(rows, columns=["model", "test logloss", "seeds", "sd over seeds"])


def difference_table(losses: dict[str, np.ndarray], which: list[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences (method, baseline) of the mean test logloss with their intervals."""
    rows = []
    for method, baseline in which:
        difference = losses[method] - losses[baseline]
        low, high = interval(difference)
        rows.append((method, baseline, difference.mean(), low, high, len(difference)))
    return pd.DataFrame(rows, columns=["method", "baseline", "difference", "low", "high", "seeds"])


def print_tables(models: pd.DataFrame, differences: pd.DataFrame) -> None:
    """Prints both tables."""
    print(models.to_string(index=False, float_format="{:.5f}".format))
    print(differences.to_string(index=False, float_format="{:+.5f}".format))

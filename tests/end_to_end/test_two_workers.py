"""One training on two worker processes: the same as on one, an error when a worker is lost, and how it goes on."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import ctr_distill, start

from pipeline.generate import generate

# Masks of dropout differ between one worker and two, so there is none; the auxiliary loss is on.
SETTINGS = {
    "epochs": 4,
    "batch-size": 250,
    "learning-rate": 0.003,
    "evaluations": 2,
    "patience": 99,
    "hidden": 16,
    "crosses": 3,
    "subclasses": 2,
    "dropout": 0,
    "embedding-dropout": 0,
    "linear-dropout": 0,
    "embedding-l2": 0.001,
    "averaging": 0.9,
    "beta": 0.3,
    "aux-rows": 64,
}
TRAIN = ["train-teacher", *(f"--{name}={value}" for name, value in SETTINGS.items())]
_TEACHER_ONLY = ("crosses", "subclasses", "dropout", "beta", "aux-rows")
STUDY = [
    *("distill", "--method=hard", "--field-dropout=0"),
    *(f"--{name}={value}" for name, value in SETTINGS.items() if name not in _TEACHER_ONLY),
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose models were trained by one worker."""
    folder = tmp_path_factory.mktemp("workers")
    run = folder / "run"
    generate(3000, str(folder / "log.tsv"), seed=2)
    commands = ["preprocess", "--input", str(folder / "log.tsv")], TRAIN, STUDY
    ctr_distill(*([*command, f"--run={run}"] for command in commands))
    return run


def examples_of(run: Path, path: Path) -> Path:
    """A run with the same examples and no more."""
    return Path(shutil.copytree(run, path, ignore=shutil.ignore_patterns("teacher", "students")))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_workers(run: Path, command: list[str], *more: str) -> list[tuple[ForkServerProcess, Path]]:
    """Two workers, and where each writes its errors."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    workers = []
    for index in range(2):
        folder = Path(tempfile.mkdtemp(dir=run.parent))
        task = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        workers.append((start([[*command, f"--run={run}", *more]], folder, TF_CONFIG=task), folder / "stderr"))
    return workers


def ends(workers: list[tuple[ForkServerProcess, Path]]) -> list[tuple[int | None, str]]:
    """Exit codes and what was written to standard error."""
    for worker, _ in workers:
        worker.join(200)
    return [(worker.exitcode, path.read_text()) for worker, path in workers]


def history(run: Path, stage: str) -> pd.DataFrame:
    return pd.read_csv(run / stage / "history.csv").drop(columns="seconds")


@pytest.mark.parametrize(
    ("command", "stage"), [(TRAIN, "teacher"), (STUDY, "students/hard")], ids=["teacher", "student"]
)
def test_two_workers_train_what_one_does(alone: Path, tmp_path: Path, command: list[str], stage: str) -> None:
    together = examples_of(alone, tmp_path / "together")
    for code, text in ends(start_workers(together, command)):
        assert code == 0, text
    np.testing.assert_allclose(history(together, stage), history(alone, stage), rtol=2e-3)
    # So much for rounding; another batch or loss would differ at once.
    first = history(together, stage).iloc[0] - history(alone, stage).iloc[0]
    assert first["train_loss"] == pytest.approx(0, abs=1e-5) and first["valid_logloss"] == pytest.approx(0, abs=1e-5)
    models = [json.loads((run / stage / "manifest.json").read_text()) for run in (alone, together)]
    assert models[0]["parameters"] == models[1]["parameters"]


def test_a_lost_worker_is_an_error_and_all_go_on_from_the_checkpoint(alone: Path, tmp_path: Path) -> None:
    run = examples_of(alone, tmp_path / "run")
    more = ("--epochs=12", "--evaluations=1")
    workers = start_workers(run, TRAIN, *more)
    states = run / "teacher" / "training" / "checkpoints"
    while not list(states.glob("latest-*/state.json")):
        assert workers[0][0].is_alive(), workers[0][1].read_text()
        time.sleep(0.05)
    workers[1][0].kill()
    (code, text), _ = ends(workers)
    assert code == 2
    assert "error: All 2 workers must take part in a training to its end. Received: a lost worker" in text
    (state,) = states.glob("latest-*/state.json")
    kept = json.loads(state.read_text())["record"]["history"]["rows"]
    assert 0 < len(kept) < 12
    for code, text in ends(start_workers(run, TRAIN, *more)):
        assert code == 0, text
    whole = pd.read_csv(run / "teacher" / "history.csv")
    # With the seconds of the first attempt: its evaluations were not made again.
    pd.testing.assert_frame_equal(whole[: len(kept)], pd.DataFrame(kept))
    assert len(whole) == 12

"""Fixtures that several test modules share: one small generated log, and one finished run."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import BROKEN, GARBAGE, METHODS, ROWS, SMALL, Made, ctr_distill_afresh

from pipeline.generate import generate
from pipeline.workspace import Run

SLOWEST = (
    "end_to_end/test_two_workers.py",
    "end_to_end/test_interruptions.py",
    "pipeline/test_train_teacher.py",
    "pipeline/test_compare.py",
    "pipeline/test_refit.py",
    "end_to_end/test_weights.py",
    "pipeline/test_preprocess_faults.py",
    "pipeline/test_run.py",
    "pipeline/test_precompute.py",
    "end_to_end/test_readme.py",
    "pipeline/test_tune.py",
    "pipeline/test_cli.py",
    "pipeline/test_distill.py",
    "end_to_end/test_main_job.py",
    "pipeline/test_evaluate.py",
    "pipeline/test_predict.py",
    "models/test_serving.py",
    "models/test_determinism.py",
    "models/test_training.py",
)
"""Files of tests that take longest."""


def pytest_configure() -> None:
    """Python looks for garbage less often than it does by default."""
    gc.set_threshold(GARBAGE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files come first: at the end there is something short for every worker."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get("/".join(item.path.parts[-2:]), len(ranks)))


def pytest_collection_finish() -> None:
    """What TensorFlow and Beam have made on import stays, so it is not looked at again."""
    gc.freeze()


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made by the first of all processes of xdist that ask for it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            begun = root / f"{name}.begun"
            shutil.rmtree(begun, ignore_errors=True)
            begun.mkdir()
            make(begun)
            begun.rename(folder)
    return folder


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated log with its truth beside it, and three broken lines at its end; not to be written to."""

    def make(folder: Path) -> None:
        generate(ROWS, str(folder / "log.tsv"), seed=1)
        with open(folder / "log.tsv", "ab") as file:
            file.write(BROKEN)

    return once(tmp_path_factory, "shared-log", make) / "log.tsv"


def run_command(log: Path, run: Path) -> list[str]:
    """The main job, with the students of all methods."""
    return ["run", "--input", str(log), "--run", str(run), "--methods", ",".join(METHODS), *SMALL]


@pytest.fixture(scope="session")
def made(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The finished main job: made once, and each worker has a copy, so that nobody waits for its lock."""

    def make(folder: Path) -> None:
        done = ctr_distill_afresh([*run_command(log, folder / "run"), "--deterministic"])
        (folder / "stdout").write_text(done.stdout.replace(str(folder), "FOLDER"))
        (folder / "stderr").write_text(done.stderr)

    shared, folder = once(tmp_path_factory, "shared-run", make), tmp_path_factory.mktemp("made")
    shutil.copytree(shared / "run", folder / "run")
    stdout = (shared / "stdout").read_text().replace("FOLDER", str(folder))
    run = folder / "run"
    return Made(Run(str(run)), log, run_command(log, run), stdout, (shared / "stderr").read_text())


@pytest.fixture
def copy_of(made: Made, tmp_path: Path) -> Callable[..., Run]:
    """Makes a copy of the finished run that may be changed, without some of its folders."""

    def copy(*without: str) -> Run:
        run = Run(str(tmp_path / "run"))
        shutil.copytree(made.run.path, run.path)
        for name in without:
            shutil.rmtree(run.file(name))
        return run

    return copy

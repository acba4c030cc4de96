"""Fixtures that several test modules share: one small generated log, and one finished run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import BROKEN, METHODS, ROWS, SMALL, Made, ctr_distill

from pipeline.generate import generate
from pipeline.workspace import Run


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated log with its truth beside it, and three broken lines at its end."""
    path = tmp_path_factory.mktemp("log") / "log.tsv"
    generate(ROWS, str(path), seed=1)
    with open(path, "ab") as file:
        file.write(BROKEN)
    return path


@pytest.fixture(scope="session")
def made(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The main job, with the students of all methods, made once."""
    path = tmp_path_factory.mktemp("made") / "run"
    arguments = ["run", "--input", str(log), "--run", str(path), "--methods", ",".join(METHODS), *SMALL]
    done = ctr_distill([*arguments, "--deterministic"])
    return Made(Run(str(path)), log, arguments, done.stdout, done.stderr)


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

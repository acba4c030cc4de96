"""What several test modules share: one small generated log, one finished run, and the command line as a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.generate import generate
from pipeline.workspace import Run

ROOT = Path(__file__).parents[1]
ROWS = 8000
METHODS = ("hard", "kd", "subclass", "hard_k", "kd_k")
BROKEN = b"1\ttoo few columns\n\n" + b"2" + b"\t" * 39 + b"\n"
"""Three lines at the end of the log that are no rows."""

TEACHER = {"epochs": "2", "batch-size": "256", "hidden": "16", "crosses": "5", "subclasses": "3", "evaluations": "2"}
STUDENT = {"epochs": "2", "batch-size": "256", "hidden": "8", "evaluations": "2"}

_MAIN = "import json, sys; from pipeline.cli import main; [main(line) for line in json.loads(sys.argv[1])]"


def flags(settings: dict[str, str], prefix: str = "") -> list[str]:
    """Settings as flags."""
    return [f"--{prefix}{name}={value}" for name, value in settings.items()]


SMALL = [*flags(TEACHER, "teacher-"), *flags(STUDENT, "student-")]
"""Flags of ``run`` that make it last seconds."""


def ctr_distill(*commands: Sequence[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs command lines one after another in one fresh process, so that TensorFlow is imported once."""
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, json.dumps([list(map(str, command)) for command in commands])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@dataclass(frozen=True)
class Made:
    """A finished run, not to be written to.

    Args:
        run: the run directory.
        log: what it was made from.
        arguments: of the ``run`` command that made it.
        stdout: what that command printed.
        stderr: its progress and whatever else it wrote there.
    """

    run: Run
    log: Path
    arguments: list[str]
    stdout: str
    stderr: str


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


def files_of(folder: str | Path) -> dict[str, bytes]:
    """All files below a folder with their bytes."""
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

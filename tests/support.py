"""A small main job, and the command line as a process, for the tests of the stages and of the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.workspace import Run

ROOT = Path(__file__).parents[1]
ROWS = 8000
METHODS = ("hard", "kd", "subclass", "hard_k", "kd_k")
BROKEN = b"1\ttoo few columns\n\n" + b"2" + b"\t" * 39 + b"\n"
"""Three lines that are no rows, for the end of a log."""

TEACHER = {"epochs": "2", "batch-size": "256", "hidden": "16", "crosses": "5", "subclasses": "3", "evaluations": "2"}
STUDENT = {"epochs": "2", "batch-size": "256", "hidden": "8", "evaluations": "2"}


def flags(settings: dict[str, str], prefix: str = "") -> list[str]:
    """Settings as flags."""
    return [f"--{prefix}{name}={value}" for name, value in settings.items()]


SMALL = [*flags(TEACHER, "teacher-"), *flags(STUDENT, "student-")]
"""Flags of ``run`` that make it last seconds."""

_MAIN = "import json, sys; from pipeline.cli import main; [main(line) for line in json.loads(sys.argv[1])]"


def ctr_distill(*commands: Sequence[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs command lines one after another in one fresh process, so that TensorFlow is imported once."""
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, json.dumps(commands)],
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


def files_of(folder: str | Path) -> dict[str, bytes]:
    """All files below a folder with their bytes."""
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

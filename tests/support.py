"""A small main job, and the command line as a process, for the tests of the stages and of the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from features.targets import TargetBlock
from features.tfrecord import read_records, write_record
from pipeline.workspace import Run

ROOT = Path(__file__).parents[1]
ROWS = 8000
METHODS = ("hard", "kd", "subclass", "hard_k", "kd_k")
BROKEN = b"1\ttoo few columns\n\n" + b"2" + b"\t" * 39 + b"\n"
"""Three lines that are no rows, for the end of a log."""

_FAST = {"epochs": "2", "batch-size": "256", "learning-rate": "0.03", "averaging": "0", "evaluations": "2"}
TEACHER = {**_FAST, "hidden": "16", "crosses": "5", "subclasses": "3"}
STUDENT = {**_FAST, "hidden": "8"}


def flags(settings: dict[str, str], prefix: str = "") -> list[str]:
    """Settings as flags."""
    return [f"--{prefix}{name}={value}" for name, value in settings.items()]


SMALL = [*flags(TEACHER, "teacher-"), *flags(STUDENT, "student-")]
"""Flags of ``run`` that make it last seconds."""

GARBAGE = 50_000
"""Objects after which Python looks for garbage: at its default a sixth of the time goes there, and finds little."""

_MAIN = (
    f"import gc; gc.set_threshold({GARBAGE})\n"
    "import json, sys; from pipeline.cli import main; [main(line) for line in json.loads(sys.argv[1])]"
)


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


def damage_targets(path: str, how: str) -> None:
    """Damages one file of targets: other ``offsets``, other ``teacher``, a block less, cut off, and so on."""
    with open(path, "rb") as file:
        blocks = [TargetBlock.decode(record) for record in read_records(file, path)]
    data = Path(path).read_bytes()
    if how == "cut off":
        Path(path).write_bytes(data[:-7])
        return
    if how == "a wrong bit":
        Path(path).write_bytes(data[:100] + bytes([data[100] ^ 4]) + data[101:])
        return
    if how == "gone":
        os.remove(path)
        return
    changes: dict[str, Callable[[TargetBlock], TargetBlock]] = {
        "offsets": lambda block: replace(block, offsets=block.offsets[::-1].copy()),
        "fewer rows": lambda block: replace(block, offsets=block.offsets[1:], logits=block.logits[1:]),
        "teacher": lambda block: replace(block, teacher="0" * 16),
        "fewer logits": lambda block: replace(block, logits=block.logits[:, :2].copy()),
    }
    with open(path, "wb") as file:
        for block in blocks[:-1] if how == "a block less" else blocks:
            write_record(file, changes.get(how, lambda block: block)(block).encode())


DAMAGE = {
    "offsets": "Targets must belong to the rows of their examples. Received: others",
    "fewer rows": "Targets must belong to the rows of their examples. Received: others",
    "a block less": "Targets must belong to the rows of their examples. Received: others",
    "teacher": "Targets must come from the teacher of their manifest. Received: 0000000000000000 instead of ",
    "cut off": "A TFRecord file must be whole. Received: it ends within a record",
    "a wrong bit": "A TFRecord file must be whole. Received: the checksum of a record is wrong",
    "gone": "A file must exist and be readable.",
}
"""What is said about each damage of :func:`damage_targets`; the path follows."""

"""A small main job, and the command line as a process, for the tests of the stages and of the whole."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from features.targets import TargetBlock
from features.tfrecord import read_records, write_record
from pipeline import cli
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


def ctr_distill_afresh(*commands: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs command lines one after another in a process that imports everything itself, as a user's does."""
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, json.dumps(commands)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


IMPORTED = ["models.backend", *(f"pipeline.{name}" for name in ("preprocess", "precompute", "evaluate", "predict"))]
"""What most commands import."""
_STREAMS = ("stdout", "stderr")


def start(commands: Sequence[Sequence[str]], folder: str | Path, **environment: str) -> ForkServerProcess:
    """Starts command lines one after another in a new process, in which TensorFlow has been imported and not used.

    The import takes seconds of a core. It happens once, in a process that does nothing else and is forked each time:
    what TensorFlow starts when it is used, and what may be set only before, is not there yet.

    Args:
        commands: command lines without the program.
        folder: for the files ``stdout`` and ``stderr``, with what the process writes.
        environment: variables beside those of this process.

    Returns:
        the process; it leads a group of its own.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    for name in _STREAMS:
        Path(folder, name).write_bytes(b"")
    process = context.Process(target=_run, args=(commands, str(folder), {**os.environ, **environment}))
    process.start()
    return process


def _run(commands: Sequence[Sequence[str]], folder: str, environment: dict[str, str]) -> None:
    os.setsid()
    for number, name in enumerate(_STREAMS, start=1):
        with open(Path(folder, name), "wb") as file:
            os.dup2(file.fileno(), number)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    # As in a process that has imported nothing.
    logging.getLogger().handlers.clear()
    warnings.simplefilter("default")
    gc.set_threshold(GARBAGE)
    for command in commands:
        cli.main(command)


def ctr_distill(*commands: Sequence[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs command lines as :func:`start` does, and waits."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(commands, folder)
        process.join()
        stdout, stderr = (Path(folder, name).read_text() for name in _STREAMS)
    assert process.exitcode == code, stderr
    return subprocess.CompletedProcess(commands, code, stdout, stderr)


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

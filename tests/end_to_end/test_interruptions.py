"""``run`` killed with SIGKILL again and again: in the end everything is as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from support import METHODS as ALL_METHODS
from support import Made, files_of, start

from models.training import TENSORBOARD

KILLS = 10
METHODS = ("hard", "subclass")
"""One that needs no targets, and one that does; the undisturbed run has more."""
_SECONDS = re.compile(r"^(.*?): .*\((\d+\.\d) s\)$")


@dataclass(frozen=True)
class Attempt:
    """A running command, and the file of what it has written to standard error so far."""

    process: ForkServerProcess
    stderr: Path

    @classmethod
    def start(cls, arguments: list[str], folder: Path) -> Attempt:
        """Starts the command in a process group of its own."""
        return cls(start([arguments], folder), folder / "stderr")

    @property
    def lines(self) -> list[str]:
        """The whole lines of the file."""
        return self.stderr.read_text().split("\n")[:-1]

    def wait_for(self, titles: list[str]) -> str:
        """Waits until one of the stages has begun and returns it, or nothing if the command ended before."""
        while self.process.is_alive():
            if begun := [title for title in titles if f"{title} ..." in self.lines]:
                return begun[0]
            time.sleep(0.01)
        return ""

    def wait_in(self, title: str, seconds: float) -> None:
        """Waits so long, but no longer than until the end of the stage."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.is_alive() and title not in stages_of(self.lines):
            time.sleep(0.01)

    def kill(self) -> bool:
        """Kills the whole process group; False if the command had already ended."""
        running = self.process.is_alive()
        if running:
            assert self.process.pid
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        return running


def stages_of(lines: list[str]) -> dict[str, float]:
    """The stages that have ended, and their seconds."""
    return {match[1]: float(match[2]) for line in lines if (match := _SECONDS.match(line))}


def moments(stderr: str, seed: int) -> list[tuple[list[str], float]]:
    """Ten moments of the job, one in each tenth of its time, in order.

    Args:
        stderr: progress of an undisturbed run.
        seed: of the moments.

    Returns:
        for each moment the stage that it lies in, with all later ones, and the seconds since that stage began.
    """
    stages = list(stages_of(stderr.splitlines()).items())
    titles, total = [title for title, _ in stages], sum(seconds for _, seconds in stages)
    generator = random.Random(seed)
    found = []
    for number in range(KILLS):
        moment = (number + generator.random()) / KILLS * total
        for index, (_, seconds) in enumerate(stages):
            if moment < seconds or index == len(stages) - 1:
                found.append((titles[index:], min(moment, seconds)))
                break
            moment -= seconds
    return found


def test_moments() -> None:
    stderr = "a ...\na: 3 rows (4.0 s)\nb ...\nb: 10 % left\nb: done (16.0 s)\n"
    found = moments(stderr, seed=1)
    assert [titles for titles, _ in found] == [["a", "b"]] * 2 + [["b"]] * 8
    starts = [0.0, 2.0, *(2.0 * number - 4 for number in range(2, 10))]
    assert all(start <= lag <= start + 2 for start, (_, lag) in zip(starts, found, strict=True))


@pytest.fixture(scope="module")
def survived(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same command in another directory, killed ten times and started again each time, and then left alone."""
    folder = tmp_path_factory.mktemp("survived")
    path = folder / "run"
    arguments = [str(path) if argument == made.run.path else argument for argument in made.arguments]
    arguments += ["--methods", ",".join(METHODS), "--deterministic"]
    others = tuple(f"student {method}:" for method in ALL_METHODS if method not in METHODS)
    undisturbed = [line for line in made.stderr.splitlines() if not line.startswith(others)]
    killed = 0
    for titles, lag in moments("\n".join(undisturbed), seed=20):
        attempt = Attempt.start(arguments, folder)
        # The machine may be slower or faster than it was: the clock starts with the stage, and ends with it.
        if title := attempt.wait_for(titles):
            attempt.wait_in(title, lag)
        killed += attempt.kill()
        assert not [line for line in attempt.lines if "rror" in line], attempt.lines
    assert killed >= KILLS - 2, "nearly all of them came before the end"
    done = Attempt.start(arguments, folder)
    done.process.join()
    assert done.process.exitcode == 0, done.lines
    return path


@pytest.mark.parametrize("stage", ["examples", "targets"])
def test_outputs_are_the_same_byte_for_byte(made: Made, survived: Path, stage: str) -> None:
    assert files_of(survived / stage) == files_of(made.run.file(stage))


def names_of(run: str | Path) -> set[Path]:
    """All files and folders of a run, but for logs: each attempt has one of its own, named after time and process."""
    root = Path(run)
    return {path.relative_to(root) for path in root.rglob("*") if path.is_dir() or TENSORBOARD not in path.parts}


def test_no_file_is_missing_and_none_is_left_behind(made: Made, survived: Path) -> None:
    others = tuple(str(Path("students", method)) for method in ALL_METHODS if method not in METHODS)
    expected = {path for path in names_of(made.run.path) if not str(path).startswith(others)}
    assert names_of(survived) == expected


def test_students_and_rejects_are_the_same(made: Made, survived: Path) -> None:
    assert {path.name for path in (survived / "students").iterdir()} == set(METHODS)
    for method in METHODS:
        name = f"students/{method}/manifest.json"
        assert (survived / name).read_bytes() == Path(made.run.file(name)).read_bytes()
    before, after = (files_of(Path(folder) / "rejected") for folder in (made.run.path, survived))
    assert before == after and before

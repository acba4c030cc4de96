"""Work in processes of its own: all of it is done, a failure ends the rest, and nobody outlives the parent."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT

from features.errors import ConfigError, TrainingError
from pipeline.side_by_side import Report, available_memory, processes_that_fit, run_side_by_side

GIB = 1 << 30


def work(folder: str, number: int, others: int, report: Report) -> None:
    """Says how many run while it does, when some have begun."""
    own = Path(folder, f"running-{number}")
    own.touch()
    Path(folder, f"begun-{number}").touch()
    wait_until(lambda: len(list(Path(folder).glob("begun-*"))) >= others)
    time.sleep(0.3)
    Path(folder, f"done-{number}").write_text(str(len(list(Path(folder).glob("running-*")))))
    own.unlink()
    report(0.5, "half")
    report(number, f"all of {number}")


def fail(folder: str, how: str, report: Report) -> None:
    if how == "wait":
        Path(folder, "pid").write_text(str(os.getpid()))
        time.sleep(600)
    while not Path(folder, "pid").exists():
        time.sleep(0.01)
    if how == "setting":
        raise ConfigError("seed must be even. Received: 3.")
    if how == "mistake":
        _ = 1 // 0
    os.kill(os.getpid(), signal.SIGKILL)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        # A process that nobody has waited for is still there, but does nothing any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def speak(report: Report) -> None:
    logging.warning("a warning")
    logging.error("an error")


def test_no_more_is_logged_than_in_the_parent(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    run_side_by_side(speak, [()], 1, lambda done, note: None)
    said = capfd.readouterr().err
    assert "an error" in said and "a warning" not in said


@pytest.mark.parametrize("processes", [1, 2])
def test_every_call_is_made_and_no_more_at_a_time(tmp_path: Path, processes: int) -> None:
    said: list[tuple[float, str]] = []
    run_side_by_side(
        work, [(str(tmp_path), n, processes) for n in (1, 2, 4)], processes, lambda *each: said.append(each)
    )
    most = [int((tmp_path / f"done-{number}").read_text()) for number in (1, 2, 4)]
    assert max(most) == processes
    assert len(said) == 6 and said[-1][0] == 7 and {note for _, note in said} >= {"half", "all of 4"}
    assert [done for done, _ in said] == sorted(done for done, _ in said)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("setting", ConfigError, r"^seed must be even. Received: 3.$"),
        ("mistake", RuntimeError, r"(?s)Traceback.*ZeroDivisionError"),
        ("kill", TrainingError, r"^A process must end by itself. Received: exit code -9 .*--parallel.$"),
    ],
)
def test_a_failure_is_raised_here_and_ends_the_others(
    tmp_path: Path, how: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_side_by_side(fail, [(str(tmp_path), "wait"), (str(tmp_path), how)], 2, lambda done, note: None)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_nobody_outlives_a_killed_parent(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from test_side_by_side import fail\nfrom pipeline.side_by_side import run_side_by_side\n"
        f"run_side_by_side(fail, [({str(tmp_path)!r}, 'wait')], 1, lambda done, note: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        wait_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: is_gone(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize(
    ("available", "cores", "expected"),
    [(10 * GIB, 8, 5), (10 * GIB, 2, 2), (GIB, 8, 1), (None, 8, 1)],
)
def test_as_many_processes_as_cores_and_memory_allow(available: int | None, cores: int, expected: int) -> None:
    assert processes_that_fit(2 * GIB, available, cores) == expected


def test_available_memory_is_part_of_the_machines() -> None:
    available = available_memory()
    assert available is not None
    assert 1 << 20 < available <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

import contextlib
import io
import os
import select
import time
from collections.abc import Iterator

import pytest

from pipeline.progress import Progress, amount, watched


class Terminal:
    """Standard error as a real pseudo-terminal."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        self.stream = io.TextIOWrapper(io.FileIO(self._slave, "w", closefd=False), write_through=True)

    def read(self) -> str:
        shown = b""
        while select.select([self._master], [], [], 0.1)[0]:
            shown += os.read(self._master, 100_000)
        return shown.decode()

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)


@contextlib.contextmanager
def on_terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal.stream):
        yield terminal
    terminal.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (12.345, "12.3"), (999, "999"), (1000, "1k"), (1_234_567, "1.23M"), (5e10, "50G")],
)
def test_amount(value: float, expected: str) -> None:
    assert amount(value) == expected


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    progress = Progress("work", 200, "rows")
    for seconds, done in ((1, 10), (16, 40), (20, 50), (32, 160)):
        clock[0] = 100 + seconds
        progress.update(done)
    clock[0] = 140
    progress.close("done")
    assert capsys.readouterr().err.splitlines() == [
        "work ...",
        "work: 20%, 2.5 rows/s, 64 s left",
        "work: 80%, 5 rows/s, 8 s left",
        "work: done (40.0 s)",
    ]


def test_one_line_on_a_terminal(clock: list[float]) -> None:
    with on_terminal() as terminal:
        progress = Progress("work", 200, "rows")
        for done in (50, 51, 100):
            clock[0] += 0.15
            progress.update(done, "loss 0.5")
        progress.close("done")
        progress.abandon()
        rewind = "\r\033[K"
        assert terminal.read() == f"{rewind}work: 26%, 170 rows/s, 1 s left loss 0.5{rewind}work: done (0.5 s)\r\n"


def test_what_an_earlier_attempt_did_is_not_in_the_rate(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    progress = Progress("work", 200, "rows", done=100)
    clock[0] += 20
    progress.update(150)
    assert capsys.readouterr().err.splitlines()[1] == "work: 75%, 2.5 rows/s, 20 s left"


@pytest.mark.parametrize(("total", "done", "shown"), [(None, 30, "30 rows"), (10, 0, "0 rows"), (10, 15, "100%")])
def test_unknown_total_nothing_done_and_too_much(
    capsys: pytest.CaptureFixture[str], clock: list[float], total: float | None, done: float, shown: str
) -> None:
    progress = Progress("work", total, "rows")
    clock[0] += 20
    progress.update(done)
    assert capsys.readouterr().err.splitlines()[1].startswith(f"work: {shown}")


class TestWatched:
    def test_asks_while_the_body_runs(self) -> None:
        with on_terminal() as terminal:
            with watched(Progress("work", 10, "MB"), lambda: 5.0):
                time.sleep(1.3)
            assert "work: 50%" in terminal.read()
            time.sleep(1.1)
            assert terminal.read() == ""

    @pytest.mark.parametrize(("seconds", "end"), [(1.3, "s left\r\n"), (0, "")])
    def test_an_error_message_begins_on_a_line_of_its_own(self, seconds: float, end: str) -> None:
        with on_terminal() as terminal:
            with pytest.raises(ValueError):
                with watched(Progress("work", 10, "MB"), lambda: 5.0):
                    time.sleep(seconds)
                    raise ValueError
            shown = terminal.read()
            assert shown.endswith(end) and bool(shown) == bool(seconds)

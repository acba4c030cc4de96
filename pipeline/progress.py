"""Progress on a terminal with rate and time left; plain lines where there is none."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

_REWIND = "\r\033[K"


class Progress:
    """Shows how far a piece of work has come.

    Args:
        title: what is being done.
        total: units in all, None if unknown.
        unit: name of the units.
        done: units that an earlier attempt did; they do not count in the rate.
    """

    def __init__(self, title: str, total: float | None, unit: str, done: float = 0.0) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._live = sys.stderr.isatty()
        self._start = self._shown = time.monotonic()
        self._before = self._done = done
        self._open = False
        if not self._live:
            print(f"{title} ...", file=sys.stderr, flush=True)

    def update(self, done: float, note: str = "") -> None:
        """Says that so many units are done in all."""
        self._done = done
        now = time.monotonic()
        if now - self._shown < (0.2 if self._live else 15):
            return
        self._shown, self._open = now, self._live
        line = f"{self._title}: {self._status(now)} {note}".rstrip()
        print(
            f"{_REWIND}{line}" if self._live else line,
            end="" if self._live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def _status(self, now: float) -> str:
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        if self._total is None or not rate:
            return f"{amount(self._done)} {self._unit}"
        left = max(self._total - self._done, 0) / max(rate, 1e-9)
        share = min(self._done / self._total, 1)
        return f"{share:.0%}, {amount(rate)} {self._unit}/s, {left:.0f} s left"

    def close(self, note: str) -> None:
        """Ends the display with a line that stays."""
        seconds = time.monotonic() - self._start
        rewind = _REWIND if self._live else ""
        print(f"{rewind}{self._title}: {note} ({seconds:.1f} s)", file=sys.stderr, flush=True)
        self._open = False

    def abandon(self) -> None:
        """Leaves what is shown as it is, and lets an error message begin on a line of its own."""
        if self._open:
            print(file=sys.stderr, flush=True)
            self._open = False


def amount(value: float) -> str:
    """A number for people: 1234567 as 1.23M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


@contextlib.contextmanager
def watched(progress: Progress, count: Callable[[], float]) -> Iterator[None]:
    """Asks ``count`` for the units done, once a second, while the body runs; abandons the display if it fails."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            progress.update(count())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        ended.set()
        thread.join()
        progress.abandon()
        raise
    ended.set()
    thread.join()

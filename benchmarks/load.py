"""Load: client threads call one loaded student for minutes; no call may fail, and memory must stay flat.

python benchmarks/load.py --model DIR --input LOG [--seconds 300] [--clients 8] [--json OUT]

Each client asks for 1 to 64 rows of a Criteo-format log at a time, by lines (tsv_unlabelled) or columns
(serving_default), both at random, and looks at each answer: it must be that of the same rows asked for alone, within
1e-6. The resident memory is read every 5 seconds; its growth is from the mean of the first minute to that of the last
(of the first and last fifth of a shorter test). Before, every client has made some calls. Exits with 1 on an error, or
a growth above 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from serving_rows import LogRows
from serving_ways import ask, named, with_threads

from models.backend import tf

ROWS = 5000
LARGEST = 64
WARM_UP = 50
EVERY = 5.0
MOST_GROWTH = 0.05
TOLERANCE = 1e-6
_LOWEST, _STEPS = 1e-5, 100  # bins of latencies: from 10 microseconds on, a hundred for a factor of e


@dataclass
class Client:
    """What one client has seen; of constant size, because memory is watched."""

    requests: int = 0
    rows: int = 0
    errors: list[str] = field(default_factory=list)
    failed: int = 0
    latencies: np.ndarray = field(default_factory=lambda: np.zeros(2000, np.int64))

    def call(self, ask_rows: Callable[[], np.ndarray], expected: np.ndarray) -> None:
        """Makes a call and notes how it went."""
        begun = time.perf_counter()
        try:
            found = ask_rows()
            seconds = time.perf_counter() - begun
            if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
                raise ValueError(f"other probabilities: {found[:3]} instead of {expected[:3]}")
        except Exception as error:
            self.failed += 1
            self.errors = [*self.errors, f"{type(error).__name__}: {error}"][:3]
            return
        self.requests, self.rows = self.requests + 1, self.rows + len(expected)
        place = int(np.log(max(seconds, _LOWEST) / _LOWEST) * _STEPS)
        self.latencies[min(place, len(self.latencies) - 1)] += 1


def percentile(latencies: np.ndarray, share: float) -> float:
    """Milliseconds below which a share of the calls has stayed; within 1 %."""
    place = int(np.searchsorted(np.cumsum(latencies), share * latencies.sum()))
    return float(_LOWEST * np.exp((place + 0.5) / _STEPS) * 1e3)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Load:
    """The clients of one student.

    Args:
        model: folder of the SavedModel.
        rows: what they ask for.
    """

    def __init__(self, model: Path, rows: LogRows) -> None:
        self._model, self._rows = tf.saved_model.load(str(model)), rows
        self._expected = np.concatenate([self._lines(row, row + 1) for row in range(len(rows))])
        self._ways = (self._lines, self._columns)
        # All columns are made before memory is watched.
        rows.slice_columns(0, 1)

    def _lines(self, start: int, stop: int) -> np.ndarray:
        return ask(self._model, "tsv_unlabelled", lines=self._rows.slice_lines(start, stop))

    def _columns(self, start: int, stop: int) -> np.ndarray:
        return ask(self._model, "serving_default", **named(self._rows.slice_columns(start, stop)))

    def call(self, seed: int, client: Client, is_over: Callable[[Client], bool]) -> None:
        """Makes calls for a client until it is over."""
        rng = random.Random(seed)
        while not is_over(client):
            size = rng.randint(1, LARGEST)
            start = rng.randrange(len(self._rows) - size + 1)
            client.call(partial(rng.choice(self._ways), start, start + size), self._expected[start : start + size])


def run(load: Load, count: int, seconds: float) -> dict[str, Any]:
    """Runs clients for some seconds; returns their figures together."""
    warm, clients = [Client() for _ in range(count)], [Client() for _ in range(count)]
    _start(load, warm, lambda client: client.requests + client.failed >= WARM_UP)
    end = time.monotonic() + seconds
    memory: list[float] = []
    _start(load, clients, lambda _: time.monotonic() >= end, partial(_watch, memory, end))
    window = max(1, round(min(60.0, seconds / 5) / EVERY))
    first, last = float(np.mean(memory[:window])), float(np.mean(memory[-window:]))
    latencies = np.sum([client.latencies for client in clients], axis=0)
    everybody = [*warm, *clients]
    return {
        "requests": sum(client.requests for client in clients),
        "rows_per_second": sum(client.rows for client in clients) / seconds,
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "failed": sum(client.failed for client in everybody),
        "errors": [error for client in everybody for error in client.errors][:5],
        "first_mb": first,
        "last_mb": last,
        "growth": last / first - 1,
    }


def _start(
    load: Load, clients: list[Client], is_over: Callable[[Client], bool], meanwhile: Callable[[], None] = lambda: None
) -> None:
    calls = [partial(load.call, seed, client, is_over) for seed, client in enumerate(clients)]
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join()


def _watch(memory: list[float], end: float) -> None:
    """Notes the resident memory now and then, until the end."""
    begun = time.monotonic()
    while True:
        memory.append(resident_mb())
        print(f"{time.monotonic() - begun:5.0f} s {memory[-1]:8.1f} MB", flush=True)
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(EVERY, left))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the SavedModel")
    parser.add_argument("--input", type=Path, required=True, help="Criteo-format log with labels, of good lines")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the test (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="threads that call (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of TensorFlow (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    return parser.parse_args()


def main() -> int:
    """Runs the test and prints its figures."""
    options = parse_arguments()
    with_threads(options)
    with open(options.input, "rb") as log:
        rows = LogRows.of(list(islice(log, ROWS)))
    found = run(Load(options.model, rows), options.clients, options.seconds)
    for name, value in found.items():
        print(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value}")
    if options.json:
        ratios = {"load, memory of the last minute vs first": 1 + found["growth"]}
        options.json.write_text(json.dumps({"ratios": ratios, "figures": found}, indent=1) + "\n", encoding="utf-8")
    return 1 if found["failed"] or found["growth"] > MOST_GROWTH else 0


if __name__ == "__main__":
    raise SystemExit(main())

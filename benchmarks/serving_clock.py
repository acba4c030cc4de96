"""The clock of the serving benchmark, the same for all contestants: one row, and batches, by way of asking.

Imported by peers too, in their own environments: nothing here but the standard library and NumPy.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZES = (1, 64, 4096)
_REQUESTS = 200
_FEWEST = 5
_WARM_UP = 3


@dataclass(frozen=True)
class Way:
    """One way to ask a model.

    Args:
        name: of what it is asked with.
        request: gives what the rows from a number up to another are asked with; not timed.
        answer: gives their click probabilities; timed.
    """

    name: str
    request: Callable[[int, int], Any]
    answer: Callable[[Any], Any]


def time_ways(ways: Sequence[Way], rows: int, seconds: float) -> dict[str, Any]:
    """Figures of all ways.

    Args:
        ways: to ask; the first one is that of the main figures.
        rows: that there are.
        seconds: that each way has for each size of a batch.

    Returns:
        ``rows_SIZE`` in rows/s (of the median call), ``p50_ms`` and ``p99_ms`` of one row, each by way; ``rows`` and
        ``seconds`` of a median call with the largest batch, the first way.
    """
    names = [*(f"rows_{size}" for size in SIZES), "p50_ms", "p99_ms"]
    found: dict[str, Any] = {name: {} for name in names}
    for size in SIZES:
        used = min(size, rows)
        for way in ways:
            calls = _time(way, used, rows, seconds)
            found[f"rows_{size}"][way.name] = used / statistics.median(calls)
            if size == 1:
                found["p50_ms"][way.name] = statistics.median(calls) * 1e3
                found["p99_ms"][way.name] = sorted(calls)[math.ceil(0.99 * len(calls)) - 1] * 1e3
    largest = min(SIZES[-1], rows)
    return {**found, "rows": largest, "seconds": largest / found[f"rows_{SIZES[-1]}"][ways[0].name]}


def _time(way: Way, size: int, rows: int, seconds: float) -> list[float]:
    """Seconds of each call, with other rows each time as far as they go."""
    starts = range(0, rows - size + 1, size)[:_REQUESTS]
    requests = [way.request(start, start + size) for start in starts]
    for number in range(_WARM_UP):
        way.answer(requests[number % len(requests)])
    calls: list[float] = []
    end = time.perf_counter() + seconds
    while len(calls) < _FEWEST or time.perf_counter() < end:
        request = requests[len(calls) % len(requests)]
        begun = time.perf_counter()
        way.answer(request)
        calls.append(time.perf_counter() - begun)
    return calls


def logloss(way: Way, labels: np.ndarray) -> float:
    """Mean logloss of all rows, asked in batches of the largest size; a probability is at least 1e-7 from 0 and 1."""
    size = SIZES[-1]
    parts = [way.answer(way.request(start, min(start + size, len(labels)))) for start in range(0, len(labels), size)]
    p = np.clip(np.concatenate([np.asarray(part, np.float64).ravel() for part in parts]), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.log(np.where(labels == 1, p, 1 - p))))

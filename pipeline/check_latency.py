"""How fast models answer, measured in turns so that what else the machine does hits all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.rows import ParsedRows
from pipeline.checked_model import CheckedModel, Request

BATCH = 4096
SINGLES = 1000
BATCHES = 10
_WARM_UPS = 20
# So many different rows are asked for one by one.
_ROWS = 64


@dataclass(frozen=True)
class Latency:
    """Answers of the signature ``serving_default`` in this process.

    Args:
        p50_ms: milliseconds of one row, the median.
        p99_ms: the 99th percentile.
        rows_per_second: in batches of 4096 rows, the median batch.
    """

    p50_ms: float
    p99_ms: float
    rows_per_second: float


def measure(models: Sequence[CheckedModel], rows: ParsedRows) -> list[Latency]:
    """Measures one row and batches of 4096, the models by turns.

    Args:
        models: to measure.
        rows: at least one; repeated until there are 4096.
    """
    singles = _times(models, [_singles(model, rows) for model in models], SINGLES)
    batch = np.resize(np.arange(len(rows)), BATCH)
    batches = _times(models, [[model.request(rows, batch)] for model in models], BATCHES)
    return [
        Latency(float(np.quantile(one, 0.5)) * 1e3, float(np.quantile(one, 0.99)) * 1e3, BATCH / float(np.median(many)))
        for one, many in zip(singles, batches, strict=True)
    ]


def _singles(model: CheckedModel, rows: ParsedRows) -> list[Request]:
    return [model.request(rows, np.array([row])) for row in range(min(_ROWS, len(rows)))]


def _times(models: Sequence[CheckedModel], requests: Sequence[Sequence[Request]], count: int) -> np.ndarray:
    """Seconds of each answer: float64 [models, count]; the first ones are not counted."""
    seconds = np.empty((len(models), _WARM_UPS + count))
    for turn in range(seconds.shape[1]):
        for position, (model, own) in enumerate(zip(models, requests, strict=True)):
            begun = time.perf_counter()
            model.answer(own[turn % len(own)])
            seconds[position, turn] = time.perf_counter() - begun
    return seconds[:, _WARM_UPS:]

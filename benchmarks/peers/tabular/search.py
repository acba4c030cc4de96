"""Random search over a declared space: only the best trial on validation logloss is judged on test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import Rows
from sklearn.metrics import log_loss, roc_auc_score

Parameters = dict[str, Any]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """One of the given values, each equally likely."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw one value."""
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True)
class LogUniform:
    """A number whose logarithm is uniform between the bounds."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value, rounded to 4 digits so that it can be printed and given again."""
        return float(f"{np.exp(rng.uniform(np.log(self.low), np.log(self.high))):.4g}")


@dataclass(frozen=True)
class Uniform:
    """A number uniform between the bounds."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value, rounded to 4 digits so that it can be printed and given again."""
        return float(f"{rng.uniform(self.low, self.high):.4g}")


Space = Mapping[str, Choice | LogUniform | Uniform]


@dataclass(frozen=True)
class Fitted:
    """A trained model: probabilities by split, what training itself decided (such as rounds), and the model itself."""

    predict: Callable[[str], Probabilities]
    decided: Parameters = field(default_factory=dict)
    model: Any = None


@dataclass(frozen=True)
class Peer:
    """A model family: a usual setting (always the first trial), the space around it, and how to train."""

    usual: Parameters
    space: Space
    fit: Callable[[Parameters], Fitted]


@dataclass(frozen=True)
class Result:
    """The best of all trials, with its probabilities and metrics."""

    metrics: dict[str, Any]
    predictions: dict[str, Probabilities]


def logloss(label: NDArray[np.int8], p: Probabilities) -> float:
    """Mean negative log-likelihood."""
    return float(log_loss(label, p, labels=[0, 1]))


def candidates(peer: Peer, trials: int, seed: int) -> list[Parameters]:
    """Return the usual setting, then random draws; a longer search begins with the shorter one."""
    rng = np.random.default_rng(seed)
    drawn = [{name: axis.draw(rng) for name, axis in peer.space.items()} for _ in range(trials - 1)]
    return [dict(peer.usual), *drawn]


def tune(name: str, peer: Peer, rows: Rows, trials: int, seed: int, budget: float) -> Result:
    """Train the candidates, keep the best on validation, and judge that one on the test rows.

    No further trial begins once one like the longest so far would pass the budget of seconds.
    """
    begin = time.perf_counter()
    longest = 0.0
    best: tuple[float, Fitted, Parameters] | None = None
    history: list[float] = []
    for number, parameters in enumerate(candidates(peer, trials, seed), start=1):
        start = time.perf_counter()
        if start + longest - begin > budget:
            print(f"{name}: stopped after {len(history)} of {trials} trials, budget {budget:g} s", flush=True)
            break
        fitted = peer.fit(parameters)
        loss = logloss(rows.labels("valid"), fitted.predict("valid"))
        history.append(loss)
        shown = " ".join(f"{key}={value}" for key, value in (parameters | fitted.decided).items())
        took = time.perf_counter() - start
        longest = max(longest, took)
        print(f"{name} {number}/{trials} {loss:.5f} {took:.1f}s {shown}", flush=True)
        if best is None or loss < best[0]:
            best = (loss, fitted, parameters)
    assert best is not None
    return judge(rows, best[1], best[2], history, begin)


def judge(rows: Rows, best: Fitted, chosen: Parameters, history: list[float], begin: float) -> Result:
    """Metrics of the chosen model; test metrics are null when the split has no test rows."""
    predictions = {split: best.predict(split) for split in ("valid", "test") if len(rows.labels(split))}
    label, p = rows.labels("test"), predictions.get("test")
    metrics = {
        "valid_logloss": logloss(rows.labels("valid"), predictions["valid"]),
        "test_logloss": None if p is None else logloss(label, p),
        "test_auc": None if p is None else float(roc_auc_score(label, p)),
        "seconds": round(time.perf_counter() - begin, 1),
        "trials": len(history),
        "parameters": chosen | best.decided,
        "history": [round(loss, 6) for loss in history],
    }
    return Result(metrics, predictions)

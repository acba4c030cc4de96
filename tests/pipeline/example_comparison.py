"""A comparison of methods as ``compare`` writes it, made from a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

METRICS = ("logloss", "auc", "ne", "pcoc", "ece", "brier")
BASES = {"logloss": 0.45, "auc": 0.78, "ne": 0.8, "pcoc": 1.01, "ece": 0.004, "brier": 0.146}

Numbers = tuple[float | None, float | None, float | None]
"""Difference, low and high."""


def comparison(
    differences: Mapping[str, Numbers] | None = None,
    fractions: Sequence[float] = (1.0,),
    seeds: int = 5,
    teachers: int = 5,
    **parts: Any,
) -> dict[str, Any]:
    """A comparison with the baseline ``hard`` and a teacher.

    Args:
        differences: of the logloss from the baseline, by method; of the AUC they are the opposite.
        fractions: of the rows; with fewer rows all differences are twice as large.
        seeds: of each method.
        teachers: among the seeds.
        **parts: what is to be otherwise.
    """
    given = {"kd": (-0.002, -0.003, -0.001), "subclass": (-0.0015, -0.0025, -0.0005)}
    differences = given if differences is None else differences
    methods = ("hard", *differences)
    cells = [(method, fraction) for fraction in fractions for method in methods]
    counts = {"seeds": seeds, "teachers": teachers, "interval": "two-way bootstrap, 95 %, Holm"}
    found: dict[str, Any] = {
        "baseline": "hard",
        "metric_of_choice": "logloss",
        "seeds": seeds,
        "teachers": teachers,
        "split": "test",
        "test_rows": 25000,
        "fractions": list(fractions),
        "labels": "the teacher saw all labels",
        "notes": ["A note."],
        "comparisons": [
            {"method": m, "baseline": "hard", "fraction": f, "metric": k, **_interval(differences[m], f, k), **counts}
            for m, f in cells
            for k in METRICS
            if m != "hard"
        ],
        "models": [_mean(m, f, k, differences, seeds) for m, f in cells for k in METRICS]
        + [{"method": "teacher", "fraction": 1.0, "metric": k, "mean": 0.44, "sd": 0.0, "seeds": 1} for k in METRICS],
        "curves": [_curve(m, f, seed) for m, f in cells for seed in range(seeds)],
        "speed": [
            {"method": m, "fraction": f, "seed": seed, "rows_to_target": 1000.0 * f, "ratio": 0.5, "area": -0.001}
            for m, f in cells
            for seed in range(seeds)
        ],
        "churn": [{"method": m, "fraction": f, **_churn()} for m, f in cells],
        "fidelity": [{"method": m, "fraction": f, "kl": 0.0123, "top_decile": 0.8765} for m, f in cells if m != "hard"],
        "slices": [{"method": m, "fraction": f, **part} for m, f in cells for part in _slices()],
        "reliability": [
            {"method": m, "fraction": max(fractions, default=1.0), **part} for m in methods for part in _bins()
        ],
        "costs": [{"method": m, "parameters": 1000 + i, "bytes": 4000 + 4 * i} for i, m in enumerate(methods)],
        "arms": [{"arm": m, "method": m, "fraction": f, **_arm(m)} for m, f in cells],
    }
    return found | parts


def _interval(numbers: Numbers, fraction: float, metric: str) -> dict[str, Any]:
    sign = (1 if fraction == 1 else 2) * (-1 if metric == "auc" else 1)
    value, low, high = (None if number is None else sign * number for number in numbers)
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
    return {"difference": value, "low": low, "high": high, "p_value": 0.01, "adjusted_p": 0.0234}


def _mean(method: str, fraction: float, metric: str, differences: Mapping[str, Numbers], seeds: int) -> dict[str, Any]:
    value = 0.0 if method == "hard" else _interval(differences[method], fraction, metric)["difference"]
    mean = None if value is None else BASES[metric] + value + (1 - fraction) * 0.01
    sd = 0.0003 if seeds > 1 else None
    return {"method": method, "fraction": fraction, "metric": metric, "mean": mean, "sd": sd, "seeds": seeds}


def _curve(method: str, fraction: float, seed: int) -> dict[str, Any]:
    losses = [0.5 + 0.01 * seed, 0.48, 0.47 + 0.001 * seed]
    seen = [int(rows * fraction) for rows in (1000, 2000, 3000)]
    return {"method": method, "fraction": fraction, "seed": seed, "rows_seen": seen, "valid_logloss": losses}


def _churn() -> dict[str, Any]:
    return {"mean_difference": 0.01234, "relative": 0.0987, "correlation": 0.9654}


def _slices() -> list[dict[str, Any]]:
    names = (("0", 120, 0.51111, 1.0321), ("1-9", 24880, 0.44999, 0.9987))
    return [{"slice": s, "rows": rows, "logloss": loss, "pcoc": pcoc} for s, rows, loss, pcoc in names]


def _bins() -> list[dict[str, Any]]:
    numbers = ((0.1, 0.12, 0.1, 0.14, 10000), (0.4, 0.39, 0.36, 0.42, 15000))
    return [dict(zip(("mean_predicted", "click_rate", "low", "high", "rows"), row, strict=True)) for row in numbers]


def _arm(method: str) -> dict[str, Any]:
    settings = {"seed": 0, "alpha": 0.0 if method == "hard" else 0.9}
    teacher = {"beta": 0.25} if method == "subclass" else {}
    return {"description": f"what {method} learns from", "teacher": teacher, "settings": settings}

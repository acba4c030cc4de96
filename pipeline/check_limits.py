"""The limits that a new student must keep before it goes live, and which ones it breaks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.settings import require

NONE = "none"
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Limits:
    """What must hold; None switches a limit off. Where there is an interval, all of it must lie outside to break one.

    Args:
        max_logloss_increase: nats over the current model; broken when the lower end of the 95 % interval of the paired
            difference is above it.
        pcoc_range: of all rows.
        slice_pcoc_range: of each slice with enough clicks.
        min_slice_clicks: so many.
        max_churn: mean |p - p of the current model|.
        max_p99_ms: milliseconds of one row, 99th percentile.
        max_bytes: of the files that serving reads.
    """

    max_logloss_increase: float | None = 0.001
    pcoc_range: Bounds | None = (0.9, 1.1)
    slice_pcoc_range: Bounds | None = (0.8, 1.25)
    min_slice_clicks: int = 100
    max_churn: float | None = 0.05
    max_p99_ms: float | None = 5.0
    max_bytes: float | None = None


def number(text: str, flag: str) -> float | None:
    """A limit from the text of a flag; ``none`` is None.

    Raises:
        ConfigError: it is neither that nor a number that is not negative.
    """
    if text == NONE:
        return None
    value = _float(text)
    require(value >= 0, f"{flag} must be a number that is not negative, or {NONE}", text)
    return value


def bounds(text: str, flag: str) -> Bounds | None:
    """A range from the text of a flag, ``LOW,HIGH``; ``none`` is None.

    Raises:
        ConfigError: it is neither that nor two rising numbers.
    """
    if text == NONE:
        return None
    values = [_float(part) for part in text.split(",")]
    good = len(values) == 2 and 0 <= values[0] <= values[1]
    require(good, f"{flag} must be two rising numbers such as 0.9,1.1, or {NONE}", text)
    return values[0], values[1]


def _float(text: str) -> float:
    """The number; NaN, which no rule holds for, for anything else."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def broken(limits: Limits, found: Mapping[str, Any]) -> list[str]:
    """A line for each limit that is broken.

    Args:
        limits: to keep.
        found: what :func:`pipeline.check_model.check_model` returns.
    """
    new, lines = found["models"]["new"], []
    increase = found["differences"].get("logloss")
    if increase and _above(increase["low"], limits.max_logloss_increase):
        lines.append(
            f"logloss rises by {increase['difference']:.5f} (at least {increase['low']:.5f}), limit "
            f"{limits.max_logloss_increase:g}"
        )
    if _outside(new["metrics"]["intervals"]["pcoc"], limits.pcoc_range):
        lines.append(f"PCOC is {new['metrics']['pcoc']:.3f}, limit {_shown(limits.pcoc_range)}")
    lines += _broken_slices(limits, found)
    if found["churn"] and _above(found["churn"]["mean_change"], limits.max_churn):
        lines.append(f"churn is {found['churn']['mean_change']:.4f}, limit {limits.max_churn:g}")
    if _above(new["p99_ms"], limits.max_p99_ms):
        lines.append(f"p99 of one row is {new['p99_ms']:.3f} ms, limit {limits.max_p99_ms:g}")
    if _above(new["bytes"], limits.max_bytes):
        lines.append(f"size is {new['bytes']:,} bytes, limit {limits.max_bytes:,.0f}")
    return lines


def _broken_slices(limits: Limits, found: Mapping[str, Any]) -> list[str]:
    return [
        f"PCOC of {row['by']} {row['slice']} is {row['pcoc_new']:.3f}, limit {_shown(limits.slice_pcoc_range)}"
        for row in found["slices"]
        if row["clicks"] >= limits.min_slice_clicks
        and _outside((row["low_new"], row["high_new"]), limits.slice_pcoc_range)
    ]


def _above(value: float, limit: float | None) -> bool:
    return limit is not None and value > limit


def _outside(interval: tuple[float, float], allowed: Bounds | None) -> bool:
    return allowed is not None and (interval[1] < allowed[0] or interval[0] > allowed[1])


def _shown(allowed: Bounds | None) -> str:
    return "" if allowed is None else f"{allowed[0]:g} to {allowed[1]:g}"

"""Limits: what flags may say, and when each one is broken."""

from __future__ import annotations

from typing import Any

import pytest

from features.errors import ConfigError
from pipeline.check_limits import Limits, bounds, broken, number

OFF = Limits(None, None, None, 100, None, None, None)


@pytest.mark.parametrize(("text", "value"), [("none", None), ("0", 0.0), ("0.001", 0.001), ("1e6", 1e6)])
def test_numbers(text: str, value: float | None) -> None:
    assert number(text, "--max-churn") == value


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "much", "", "1,2"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--max-churn must be a number that is not .*Received: {text}"):
        number(text, "--max-churn")


@pytest.mark.parametrize(("text", "value"), [("none", None), ("0.9,1.1", (0.9, 1.1)), ("1,1", (1.0, 1.0))])
def test_ranges(text: str, value: tuple[float, float] | None) -> None:
    assert bounds(text, "--pcoc-range") == value


@pytest.mark.parametrize("text", ["1.1,0.9", "0.9", "0.9,1,1.1", "a,b", "", "-1,1", "0,inf"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--pcoc-range must be two rising numbers .*Received: {text}"):
        bounds(text, "--pcoc-range")


def found(**changes: Any) -> dict[str, Any]:
    """A result that keeps all default limits, with some values changed."""
    values = {"p99": 1.0, "bytes": 1000, "pcoc": (0.95, 1.05), "logloss": (0.0, 0.002), "churn": 0.01, **changes}
    pcoc = {"pcoc": sum(values["pcoc"]) / 2, "intervals": {"pcoc": list(values["pcoc"])}}
    low, high = values["logloss"]
    return {
        "models": {"new": {"metrics": pcoc, "p99_ms": values["p99"], "bytes": values["bytes"]}},
        "differences": {"logloss": {"difference": (low + high) / 2, "low": low, "high": high}},
        "churn": {"mean_change": values["churn"]},
        "slices": [{"by": "C1", "slice": "x", "pcoc_new": 1.0, "low_new": 0.9, "high_new": 1.1, "clicks": 100.0}],
    }


def with_slice(low: float, high: float, clicks: float) -> dict[str, Any]:
    value = found()
    value["slices"].append(
        {"by": "C2", "slice": "y", "pcoc_new": (low + high) / 2, "low_new": low, "high_new": high, "clicks": clicks}
    )
    return value


@pytest.mark.parametrize(
    ("result", "limits", "line"),
    [
        (found(logloss=(0.0011, 0.003)), Limits(), "logloss rises by 0.00205 (at least 0.00110), limit 0.001"),
        (found(pcoc=(1.11, 1.13)), Limits(), "PCOC is 1.120, limit 0.9 to 1.1"),
        (found(pcoc=(0.7, 0.89)), Limits(), "PCOC is 0.795, limit 0.9 to 1.1"),
        (with_slice(1.3, 1.5, 100.0), Limits(), "PCOC of C2 y is 1.400, limit 0.8 to 1.25"),
        (found(churn=0.051), Limits(), "churn is 0.0510, limit 0.05"),
        (found(p99=5.5), Limits(), "p99 of one row is 5.500 ms, limit 5"),
        (found(bytes=2000), Limits(max_bytes=1999), "size is 2,000 bytes, limit 1,999"),
    ],
)
def test_each_limit(result: dict[str, Any], limits: Limits, line: str) -> None:
    assert broken(limits, result) == [line]
    assert broken(OFF, result) == []


@pytest.mark.parametrize(
    "result",
    [
        found(),
        # The truth may lie within the limit.
        found(logloss=(0.0009, 0.01)),
        found(pcoc=(1.09, 1.2)),
        with_slice(1.2, 1.5, 100.0),
        with_slice(1.3, 1.5, 99.0),
        with_slice(float("nan"), float("nan"), 0.0),
        found(churn=0.05, p99=5.0),
    ],
)
def test_kept_limits(result: dict[str, Any]) -> None:
    assert broken(Limits(), result) == []


def test_without_a_current_model_there_is_nothing_to_compare_with() -> None:
    alone = {**found(logloss=(1.0, 2.0), churn=1.0), "differences": {}, "churn": {}}
    assert broken(Limits(), alone) == []

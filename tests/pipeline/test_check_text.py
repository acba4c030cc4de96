"""What ``check-model`` prints: the verdict, and figures where they belong."""

from __future__ import annotations

from typing import Any

import pytest

from models.metrics import METRICS
from pipeline.check_text import as_text, verdict


def model(name: str, value: float) -> dict[str, Any]:
    metrics = {**dict.fromkeys(METRICS, value), "intervals": dict.fromkeys(METRICS, [value - 0.1, value + 0.1])}
    return {
        "path": f"/{name}",
        "metrics": metrics,
        "p50_ms": 0.25,
        "p99_ms": 1.5,
        "rows_per_second": 1e6,
        "bytes": 1234,
    }


def found(current: bool, broken: list[str], rate: float = 1.0) -> dict[str, Any]:
    names = ["new", "current"][: 1 + current]
    pcoc = {f"{what}_{name}": 1.5 for what in ("pcoc", "low", "high") for name in names}
    return {
        "rows": 1234,
        "rejects": 5,
        "negative_rate": rate,
        "models": {name: model(name, 0.5 - 0.25 * number) for number, name in enumerate(names)},
        "differences": {name: {"difference": 0.25, "low": -0.125, "high": 0.5} for name in METRICS} if current else {},
        "churn": {"mean_change": 0.0125, "moved": 0.25, "rank_correlation": 0.75} if current else {},
        "slices": [{"by": "C1", "slice": "(missing)", "rows": 4000, "clicks": 10.0, "click_rate": 0.25, **pcoc}],
        "broken": broken,
    }


@pytest.mark.parametrize(
    ("broken", "line"), [([], "all limits kept"), (["size is 2", "churn is 3"], "BROKEN: size is 2; churn is 3")]
)
def test_the_last_line_is_the_verdict(broken: list[str], line: str) -> None:
    value = found(True, broken)
    assert verdict(value) == line and as_text(value).splitlines()[-1] == line


def test_two_models() -> None:
    lines = as_text(found(True, [])).splitlines()
    assert lines[:3] == ["new: /new", "current: /current", "1,234 rows, 5 rejects; intervals are those of 95 %"]
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["Logloss"] == ["Logloss", "0.50000", "0.25000", "+0.25000", "\u22120.12500", "to", "+0.50000"]
    assert rows["p99 of one row, ms"][-2:] == ["1.500", "1.500"] and rows["bytes"] == ["bytes", "1,234", "1,234"]
    assert any("changes by 0.01250 on average, by more than 1.5 times in 25.00% of the rows" in line for line in lines)
    assert rows["C1"] == ["C1", "(missing)", "4,000", "10", "0.2500", "1.500", "1.500", "1.500", "to", "1.500"]
    # Columns stand below one another.
    table = lines[lines.index("") + 1 :]
    assert len({line.index("new - current") + len("new - current") for line in table[:1]}) == 1
    assert table[0].index("current") + len("current") == table[1].index("0.25000") + len("0.25000")


def test_a_model_alone() -> None:
    lines = as_text(found(False, [], rate=0.25)).splitlines()
    assert lines[2] == "a row without click counts 4 times (--negative-rate)"
    assert next(line for line in lines if line.startswith("NE")).split() == [
        "NE",
        "0.50000",
        "0.40000",
        "to",
        "0.60000",
    ]
    assert not any("churn" in line or "current" in line for line in lines)

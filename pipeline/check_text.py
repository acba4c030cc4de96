"""What ``check-model`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.metrics import METRICS
from pipeline.report_tables import DECIMALS, TITLES, number
from pipeline.svg import signed

_COSTS = {"p50_ms": ("p50 of one row, ms", 3), "p99_ms": ("p99 of one row, ms", 3)}
_COSTS |= {"rows_per_second": ("rows/s, batches of 4096", 0), "bytes": ("bytes", 0)}


def as_text(found: Mapping[str, Any]) -> str:
    """The result of :func:`pipeline.check_model.check_model` for people; the last line is the verdict."""
    models = found["models"]
    lines = [f"{name}: {model['path']}" for name, model in models.items()]
    lines += [f"{found['rows']:,} rows, {found['rejects']:,} rejects; intervals are those of 95 %"]
    if found["negative_rate"] < 1:
        lines += [f"a row without click counts {1 / found['negative_rate']:g} times (--negative-rate)"]
    lines += ["", *_aligned(_metric_rows(found))]
    if found["churn"]:
        lines += ["", _churn(found["churn"])]
    lines += ["", *_aligned(_slice_rows(found)), "", verdict(found)]
    return "\n".join(lines)


def verdict(found: Mapping[str, Any]) -> str:
    """One line: that all limits are kept, or which ones are broken."""
    return f"BROKEN: {'; '.join(found['broken'])}" if found["broken"] else "all limits kept"


def _metric_rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    models = found["models"].values()
    yield ["", *found["models"], *(["new - current", "interval"] if len(models) > 1 else ["interval"])]
    for name in METRICS:
        decimals = DECIMALS[name]
        row = [TITLES[name], *(number(model["metrics"][name], decimals) for model in models)]
        if found["differences"]:
            d = found["differences"][name]
            row += [signed(d["difference"], decimals)]
            row += [f"{signed(d['low'], decimals)} to {signed(d['high'], decimals)}"]
        else:
            low, high = found["models"]["new"]["metrics"]["intervals"][name]
            row += [f"{number(low, decimals)} to {number(high, decimals)}"]
        yield row
    for name, (title, decimals) in _COSTS.items():
        yield [title, *(number(model[name], decimals) for model in models)]


def _churn(churn: Mapping[str, float]) -> str:
    return (
        f"churn: p_click changes by {number(churn['mean_change'], 5)} on average, by more than 1.5 times in "
        f"{churn['moved']:.2%} of the rows; rank correlation {number(churn['rank_correlation'], 4)}"
    )


def _slice_rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    names = list(found["models"])
    yield ["slice", "", "rows", "clicks", "click rate", *(f"PCOC {name}" for name in names), "interval of new"]
    for row in found["slices"]:
        shown = [row["by"], row["slice"], f"{row['rows']:,}", number(row["clicks"], 0), number(row["click_rate"], 4)]
        shown += [number(row[f"pcoc_{name}"], 3) for name in names]
        yield [*shown, f"{number(row['low_new'], 3)} to {number(row['high_new'], 3)}"]


def _aligned(rows: Iterator[list[str]]) -> list[str]:
    """Rows of cells as lines: words to the left, numbers to the right."""
    table = list(rows)
    width = max(map(len, table))
    table = [row + [""] * (width - len(row)) for row in table]
    widths = [max(len(row[column]) for row in table) for column in range(width)]
    words = [column for column in range(width) if not any(row[column][-1:].isdigit() for row in table)]
    return [
        "  ".join(
            cell.ljust(size) if column == 0 or column in words else cell.rjust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]

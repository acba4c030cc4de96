"""The tables of a comparison of methods. Those of smaller fractions of the rows are folded away."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from models.metrics import METRICS
from pipeline.comparison_text import about_as_good, fraction_name, judged
from pipeline.report_comparison import Choice, Comparison, is_teacher
from pipeline.report_parts import fold, say
from pipeline.report_tables import (
    ARROWS,
    BETTER,
    DECIMALS,
    TITLES,
    cell,
    difference_table,
    number,
    plain_table,
    row,
    size,
    slice_table,
    table,
)
from pipeline.svg import signed

_DASH = "\u2013"


def choice_table(comparison: Comparison) -> str:
    """Returns the method to use at each fraction; nothing if there is only one, which the verdict is about."""
    chosen = [(fraction, comparison.choice(fraction)) for fraction in reversed(comparison.fractions)]
    rows = [_choice_row(comparison, fraction, choice) for fraction, choice in chosen if choice]
    headers = ["Rows", "Use", f"Difference from {comparison.baseline}", "Remark"]
    return table("Which method to use, by the share of the training rows", headers, rows) if len(rows) > 1 else ""


def _choice_row(comparison: Comparison, fraction: float, choice: Choice) -> str:
    value, low, high = (signed(v, DECIMALS[comparison.metric]) for v in (choice.difference, choice.low, choice.high))
    interval = "" if _DASH in (low, high) else f"{low} to {high}"
    remark = about_as_good(choice)
    if choice.method != choice.best and choice.best:
        value, interval, remark = _DASH, "", f"{choice.best}: {value} [{interval}], not clear"
    cells = [cell(choice.method, strong=True), cell(value, interval), cell(remark or _DASH)]
    return row(f"{100 * fraction:g} %", cells)


def difference_tables(comparison: Comparison) -> str:
    """Returns the paired differences of all metrics."""
    return _by_fraction(comparison, lambda fraction: _differences(comparison, fraction))


def _differences(comparison: Comparison, fraction: float) -> str:
    rows = comparison.comparisons.query("fraction == @fraction")
    if rows.empty:
        return ""
    order = {name: rank for rank, name in enumerate(comparison.differences(fraction, comparison.metric).index)}
    rows = rows.sort_values("method", key=lambda names: names.map(order), kind="stable")
    intervals = "; ".join(dict.fromkeys(rows["interval"].dropna()))
    table_of_all = difference_table(rows, f"Paired differences, {fraction_name(fraction)}")
    return table_of_all + (say(f"Intervals: {intervals}.") if intervals else "")


def speed_table(comparison: Comparison) -> str:
    """Returns how soon each method is as good as the baseline ever is: medians over the seeds."""
    words = (
        f"Rows until the validation logloss is as low as {comparison.baseline}'s ever is with the same seed: median "
        "of the seeds, a dash where most never get there. Ratio: to the rows that the baseline needs itself. Area: "
        "mean difference of the two curves; below 0 the method is ahead."
    )
    tables = _by_fraction(comparison, lambda fraction: _speed(comparison, fraction))
    return say(words) + tables if tables else ""


def _speed(comparison: Comparison, fraction: float) -> str:
    rows = comparison.speed.query("fraction == @fraction")
    parts = ((method, rows[rows["method"] == method]) for method in comparison.methods)
    columns = {
        "method": ("Method", 0),
        "rows": ("Rows to the target", 0),
        "ratio": ("Ratio", 3),
        "reached": ("Seeds that reach it", 0),
        "area": ("Area (nats)", 5),
    }
    frame = pd.DataFrame([_speed_row(part, method) for method, part in parts if len(part)])
    return plain_table(f"Speed of learning, {fraction_name(fraction)}", frame, columns)


def _speed_row(part: pd.DataFrame, method: str) -> dict[str, Any]:
    # A seed that never gets there is the slowest of all, so that it counts in the median.
    medians = part[["rows_to_target", "ratio"]].fillna(math.inf).median()
    return {
        "method": method,
        "rows": medians["rows_to_target"],
        "ratio": medians["ratio"],
        "reached": f"{part['rows_to_target'].notna().sum()} of {len(part)}",
        "area": part["area"].mean(),
    }


def cost_table(comparison: Comparison, costs: pd.DataFrame) -> str:
    """Returns size and quality.

    Args:
        comparison: of the methods.
        costs: Columns method, parameters, bytes, and mean: of the decisive metric.
    """
    decimals = DECIMALS[comparison.metric]
    rows = [
        row(r["method"], [cell(number(r["parameters"], 0)), cell(size(r["bytes"])), cell(number(r["mean"], decimals))])
        for r in costs.sort_values("bytes", kind="stable").to_dict("records")
    ]
    headers = ["Method", "Parameters", "Size", f"Mean {judged(comparison)}"]
    return table(f"Size and quality, {fraction_name(comparison.full)}", headers, rows)


def mean_tables(comparison: Comparison) -> str:
    """Returns means and standard deviations of all metrics."""
    words = "Means over the seeds, with one standard deviation below. Bold: the best student by that metric."
    tables = _by_fraction(comparison, lambda fraction: _means(comparison, fraction))
    return say(words) + tables if tables else ""


def _means(comparison: Comparison, fraction: float) -> str:
    models = comparison.models.query("fraction == @fraction")
    ranked = [*comparison.teachers, *comparison.means(fraction, comparison.metric).index]
    names = [name for name in dict.fromkeys([*ranked, *models["method"]]) if name in set(models["method"])]
    best = {metric: _best(comparison, fraction, metric) for metric in METRICS}
    rows = []
    for name in names:
        records = {r["metric"]: r for r in models[models["method"] == name].to_dict("records")}
        cells = [_mean_cell(records.get(m, {}), m, strong=best[m] == name) for m in METRICS]
        rows.append(row(name, cells, below=_count(name, records)))
    headers = ["Method", *(TITLES[name] + ARROWS[BETTER[name]] for name in METRICS)]
    return table(f"Metrics, {fraction_name(fraction)}", headers, rows) if rows else ""


def _best(comparison: Comparison, fraction: float, metric: str) -> str:
    means = comparison.means(fraction, metric)
    if means.empty:
        return ""
    # PCOC is best at 1.
    return str(means.index[0] if BETTER[metric] else (means - 1).abs().idxmin())


def _mean_cell(record: Mapping[str, Any], metric: str, strong: bool) -> str:
    decimals, sd = DECIMALS[metric], record.get("sd", math.nan)
    below = f"\u00b1 {number(sd, decimals)}" if math.isfinite(sd) else ""
    return cell(number(record.get("mean", math.nan), decimals), below, strong=strong)


def _count(name: str, records: Mapping[str, Mapping[str, Any]]) -> str:
    count = max((r["seeds"] for r in records.values() if math.isfinite(r["seeds"])), default=0)
    what = "teacher" if is_teacher(name) else "seed"
    return f"{count:.0f} {what}{'' if count == 1 else 's'}" if count else ""


def repeat_table(comparison: Comparison) -> str:
    """Returns how much two seeds of a method differ, and how near its students are to the teacher."""
    words = (
        "Churn: mean |difference| of the click probabilities of two seeds, and relative to their mean. Top decile in "
        "common: share of the teacher's highest tenth of the rows that is in the student's."
    )
    tables = _by_fraction(comparison, lambda fraction: _repeats(comparison, fraction))
    return say(words) + tables if tables else ""


def _repeats(comparison: Comparison, fraction: float) -> str:
    frame = comparison.churn.merge(comparison.fidelity, on=["method", "fraction"], how="outer")
    frame = _ranked(comparison, frame[frame["fraction"] == fraction])
    columns = {
        "method": ("Method", 0),
        "mean_difference": ("Churn", 5),
        "relative": ("Relative churn", 4),
        "correlation": ("Correlation of logits", 4),
        "kl": ("KL from the teacher (nats)", 5),
        "top_decile": ("Top decile in common", 4),
    }
    return plain_table(f"Churn between seeds, and fidelity to the teacher, {fraction_name(fraction)}", frame, columns)


def _ranked(comparison: Comparison, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the methods."""
    rank = {name: place for place, name in enumerate([*comparison.teachers, *comparison.methods])}
    return frame.sort_values("method", key=lambda names: names.map(rank), kind="stable")


def slice_tables(comparison: Comparison) -> str:
    """Returns logloss and PCOC by how often the rarest value of a row was seen in training."""
    words = "Slices by how many training rows have the row's rarest value. Below each logloss: PCOC."
    tables = _by_fraction(comparison, lambda fraction: _slices(comparison, fraction))
    return say(words) + tables if tables else ""


def _slices(comparison: Comparison, fraction: float) -> str:
    frame = _ranked(comparison, comparison.slices.query("fraction == @fraction")).rename(columns={"method": "model"})
    return slice_table(frame, f"Logloss by frequency slice, {fraction_name(fraction)}")


def method_table(comparison: Comparison) -> str:
    """Returns what each method is, and the settings in which it differs from the baseline, at the largest fraction."""
    arms = comparison.arms.query("fraction == @comparison.full").to_dict("records")
    base: Mapping[str, Any] = next((arm["settings"] for arm in arms if arm["arm"] == comparison.baseline), {})
    rows = []
    for arm in arms:
        own = {key: value for key, value in arm["settings"].items() if key not in base or base[key] != value}
        shown = base if arm["arm"] == comparison.baseline else own
        cells = [arm["description"], _settings(arm["teacher"]), _settings(shown)]
        rows.append(
            row(
                arm["arm"],
                [cell(words or _DASH) for words in cells],
                below=arm["method"] if arm["method"] != arm["arm"] else "",
            )
        )
    headers = [
        "Method",
        "Learns from",
        "Its teacher's own settings",
        f"Settings where they differ from {comparison.baseline}",
    ]
    return table("What was compared", headers, rows, wrap=True) if rows else ""


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _by_fraction(comparison: Comparison, make: Callable[[float], str]) -> str:
    """The part of the largest fraction in full, then those of the others, folded."""
    largest, *others = reversed(comparison.fractions)
    return make(largest) + "".join(fold(f"With {fraction_name(f)}", make(f)) for f in others)

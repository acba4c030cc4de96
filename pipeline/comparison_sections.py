"""The sections of the report page on a comparison of methods: charts first, then what they are drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from pipeline.charts import Estimate, Series, interval_chart, line_chart, reliability_chart
from pipeline.comparison_tables import (
    choice_table,
    cost_table,
    difference_tables,
    mean_tables,
    method_table,
    repeat_table,
    slice_tables,
    speed_table,
)
from pipeline.comparison_text import fraction_name, judged, short_metric
from pipeline.report_comparison import TEACHER, Comparison
from pipeline.report_parts import grid, say
from pipeline.report_tables import BETTER, DECIMALS, TITLES, size
from pipeline.scatter_chart import Spot, scatter_chart

_LINES = 5
"""So many students are in a chart of lines: the baseline and the best."""


def sections() -> Mapping[str, Callable[[Comparison], str]]:
    """Returns the sections in their order: title -> function to markup, empty when there is nothing to show."""
    return {
        "Comparison of methods": differences,
        "Speed of learning": speed,
        "Fewer rows": fractions,
        "Reliability by method": reliability,
        "Cost against quality": costs,
        "Metrics by method": metrics,
        "The methods": method_table,
    }


def differences(comparison: Comparison) -> str:
    """Returns the choice at each fraction, forest plots of the paired differences, and tables of all metrics."""
    if comparison.comparisons.empty:
        return ""
    words = (
        f"Method minus {comparison.baseline}, on paired seeds and the same {comparison.test_rows:,.0f} rows, with the "
        "95 % interval adjusted for the number of methods (Holm). Filled points and bold numbers: the interval "
        "excludes 0."
    )
    charts = [
        chart
        for metric in dict.fromkeys((comparison.metric, "auc"))
        for fraction in reversed(comparison.fractions)
        if (chart := _forest(comparison, fraction, metric))
    ]
    return choice_table(comparison) + say(words) + grid(charts) + difference_tables(comparison)


def _forest(comparison: Comparison, fraction: float, metric: str) -> str:
    rows = [
        Estimate(str(name), row["difference"], row["low"], row["high"])
        for name, row in comparison.differences(fraction, metric).iterrows()
    ]
    unit = " (nats)" if metric == "logloss" else ""
    axis = f"{short_metric(metric)} minus that of {comparison.baseline}{unit}"
    title = f"{TITLES[metric]}, {fraction_name(fraction)}"
    return interval_chart(rows, title, axis, BETTER[metric], DECIMALS[metric]) if rows else ""


def speed(comparison: Comparison) -> str:
    """Returns learning curves with bands over the seeds, and the rows until the baseline's best point is reached."""
    panels = [(fraction, _curves(comparison, fraction)) for fraction in reversed(comparison.fractions)]
    charts = [
        line_chart(series, f"Learning, {fraction_name(fraction)}", "training rows seen", "validation logloss (nats)")
        for fraction, series in panels
        if series
    ]
    if not charts and comparison.speed.empty:
        return ""
    words = f"Mean over the seeds; bands go from the lowest to the highest seed. {_left_out(comparison)}"
    return (say(words) + grid(charts) if charts else "") + speed_table(comparison)


def _curves(comparison: Comparison, fraction: float) -> list[Series]:
    series = []
    for method in _leaders(comparison):
        rows = comparison.curves.query("method == @method and fraction == @fraction")
        curve = mean_curve(list(zip(rows["rows_seen"], rows["valid_logloss"], strict=True)))
        columns = {name: curve[name].tolist() for name in ("x", "y", "low", "high")}
        if len(rows) < 2:
            columns |= {"low": [], "high": []}
        series += [Series(method, style=comparison.style(method), **columns)] if len(curve) else []
    return series


def mean_curve(curves: list[tuple[list[float], list[float]]]) -> pd.DataFrame:
    """Returns mean, lowest and highest of curves at all of their points, as far as every curve goes.

    Args:
        curves: (x, y) of each, x rising; y may hold None or NaN, which are left out.

    Returns:
        Columns x, y, low and high; between its points a curve is a straight line.
    """
    points = [(np.array(x, float), np.array(y, float)) for x, y in curves]
    points = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in points]
    points = [(x, y) for x, y in points if len(x)]
    if not points:
        return pd.DataFrame({"x": [], "y": [], "low": [], "high": []})
    first, last = max(x[0] for x, _ in points), min(x[-1] for x, _ in points)
    union = np.unique(np.concatenate([x for x, _ in points]))
    at = union[(union >= first) & (union <= last)]
    values = np.stack([np.interp(at, x, y) for x, y in points])
    return pd.DataFrame({"x": at, "y": values.mean(0), "low": values.min(0), "high": values.max(0)})


def fractions(comparison: Comparison) -> str:
    """Returns the decisive metric over the fraction of the rows, with bands over the seeds."""
    if len(comparison.fractions) < 2:
        return ""
    series = [line for name in (TEACHER, *_leaders(comparison)) if (line := _over_fractions(comparison, name))]
    words = f"Mean over the seeds, with bands of one standard deviation to both sides. {_left_out(comparison)}"
    title = f"{judged(comparison).capitalize()} by the student's share of the rows"
    ticks = {fraction: f"{100 * fraction:g} %" for fraction in comparison.fractions}
    chart = line_chart(series, title, "share of the training rows", judged(comparison), log_ticks=ticks)
    return say(words) + grid([chart]) if series else ""


def _over_fractions(comparison: Comparison, method: str) -> Series | None:
    rows = comparison.models.query("method == @method and metric == @comparison.metric").dropna(subset="mean")
    rows = rows.sort_values("fraction")
    sd = rows["sd"].fillna(0.0)
    edges = {"low": (rows["mean"] - sd).tolist(), "high": (rows["mean"] + sd).tolist()} if sd.any() else {}
    x, y = rows["fraction"].tolist(), rows["mean"].tolist()
    if method == TEACHER and len(x) == 1:
        # It has seen one fraction, and teaches the students of all of them.
        return Series(method, [min(comparison.fractions), max(comparison.fractions)], y * 2)
    return Series(method, x, y, comparison.style(method), **edges) if x else None


def reliability(comparison: Comparison) -> str:
    """Returns a reliability plot for each method at the largest fraction."""
    rows = comparison.reliability.query("fraction == @comparison.full")
    charts = [
        reliability_chart(part, method, comparison.style(method))
        for method in (*comparison.teachers, *comparison.methods)
        if len(part := rows[rows["method"] == method])
    ]
    words = (
        f"Students of {fraction_name(comparison.full)}: click rate against mean prediction in bins of equal size, "
        "with the 95 % Wilson interval. On the dashed line both are equal."
    )
    return say(words) + grid(charts, small=True) if charts else ""


def costs(comparison: Comparison) -> str:
    """Returns bytes against the mean of the decisive metric, and both as a table."""
    means = comparison.models.query("fraction == @comparison.full and metric == @comparison.metric")
    frame = comparison.costs.merge(means, on="method", how="left")
    if frame.empty:
        return ""
    spots = [_spot(row, comparison.style(row["method"])) for row in frame.to_dict("records")]
    words = (
        "Further down is better, further left is cheaper. The line joins the methods for which none is both better "
        "and no larger; error bars: one standard deviation over the seeds."
    )
    title = f"{judged(comparison).capitalize()} by size, {fraction_name(comparison.full)}"
    known = any(math.isfinite(s.y) for s in spots) and BETTER[comparison.metric] == "lower"
    chart = scatter_chart(spots, title, "size (logarithmic)", f"mean {judged(comparison)}", size) if known else ""
    return (say(words) + grid([chart]) if chart else "") + cost_table(comparison, frame)


def _spot(row: Mapping, style: int) -> Spot:
    return Spot(row["method"], row["bytes"], row["mean"], row["mean"] - row["sd"], row["mean"] + row["sd"], style)


def metrics(comparison: Comparison) -> str:
    """Returns means of all metrics, what varies between seeds, fidelity to the teacher, and slices, as tables."""
    return mean_tables(comparison) + repeat_table(comparison) + slice_tables(comparison)


def _leaders(comparison: Comparison) -> list[str]:
    return comparison.methods[:_LINES]


def _left_out(comparison: Comparison) -> str:
    if len(comparison.methods) <= _LINES:
        return ""
    return f"Drawn are {comparison.baseline} and the best {_LINES - 1} of the other methods; the tables have all."

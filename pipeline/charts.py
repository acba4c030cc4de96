"""Charts as inline SVG: no script, no external resource; the page's style sheet gives the colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.chart_parts import (
    BOTTOM,
    CHARACTER,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    dashes,
    frame,
    legend,
    marker,
    picture,
    stroke,
)
from pipeline.svg import Axis, element, label, line, signed


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: Name in the legend.
        x: Horizontal values, rising.
        y: Vertical values, as many; NaN leaves a gap.
        style: Colour, dashes and marker; equal for the same model in all charts.
        low: Lower edge of a band around the line, as many values as `y`; empty for no band.
        high: Upper edge of the band.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int = 0
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Estimate:
    """A row of an interval plot: a value with the bounds of its interval."""

    name: str
    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def line_chart(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_label: str,
    mark_lowest: bool = False,
    log_ticks: Mapping[float, str] | None = None,
) -> str:
    """Returns lines with markers, bands, axes and a legend.

    Args:
        series: Lines; those without a finite point are left out.
        title: Title above the plot.
        x_label: What the horizontal axis shows, with its unit.
        y_label: What the vertical axis shows, with its unit.
        mark_lowest: Whether to ring the lowest point of each line.
        log_ticks: Ticks of a logarithmic horizontal axis, value -> label; None for a linear axis.
    """
    series = [s for s in series if _points(s)]
    names, names_height = legend([(s.name, s.style) for s in series])
    height = HEIGHT + names_height
    across = [point[0] for s in series for point in _points(s)]
    up = [float(value) for s in series for values in (s.y, s.low, s.high) for value in values]
    x = Axis.around(across, LEFT, WIDTH - RIGHT, margin=0.03, log=log_ticks is not None)
    y = Axis.around(up, height - BOTTOM, TOP + names_height)
    ticks = None if log_ticks is None else [(x(value), words) for value, words in log_ticks.items()]
    parts = [frame(x, y, x_label, y_label, ticks), names]
    parts += [_band(s, x, y) for s in series] + [_line(s, x, y, mark_lowest) for s in series]
    return picture(WIDTH, height, title, parts)


def reliability_chart(table: pd.DataFrame, title: str, style: int = 0) -> str:
    """Returns click rate over mean predicted probability, with error bars and the diagonal.

    Args:
        table: Columns mean_predicted, click_rate, low, high and rows (`ClickMetrics.reliability`).
        title: Title above the plot.
        style: Colour and marker.
    """
    size, left = 320, 50
    top = max([*table["mean_predicted"], *table["high"], 0.01]) * 1.04
    x = Axis(0.0, min(top, 1.0), left, size - RIGHT)
    y = Axis(0.0, min(top, 1.0), size - BOTTOM, TOP)
    parts = [frame(x, y, "mean predicted click probability", "click rate")]
    parts.append(line(x(0), y(0), x(x.high), y(y.high), "diagonal"))
    for row in table.to_dict("records"):
        across = x(row["mean_predicted"])
        rates = f"predicted {row['mean_predicted']:.4f}, click rate {row['click_rate']:.4f}"
        bar = line(across, y(row["low"]), across, y(row["high"]), "bar")
        parts.append(
            stroke(bar + marker(across, y(row["click_rate"]), style, f"{rates}, {row['rows']:,.0f} rows"), style)
        )
    return picture(size, size, title, parts)


def interval_chart(rows: Sequence[Estimate], title: str, x_label: str, better: str = "", decimals: int = 5) -> str:
    """Returns a horizontal interval ("forest") plot around a line at zero.

    Args:
        rows: Differences; a filled point has an interval that excludes 0, a hollow one has not.
        title: Title above the plot.
        x_label: What the axis shows, with its unit.
        better: "lower" or "higher" where one side is better; "" where not.
        decimals: Decimals of the numbers beside the names.
    """
    step, left, right = 44, 6, WIDTH - 6
    height = TOP + step * len(rows) + BOTTOM + 14
    bottom = height - BOTTOM - 6
    x = Axis.around([v for row in rows for v in (row.value, row.low, row.high)], left, right, 0.06, zero=True)
    parts = [line(at, bottom, at, bottom + 4, "axis") for at, _ in x.ticks()]
    parts += [label(*_inside(at, bottom + 17, words), words, "middle") for at, words in x.ticks()]
    parts += [line(left, bottom, right, bottom, "axis"), line(x(0), bottom - 8, x(0), bottom, "zero")]
    parts.append(label((left + right) / 2, height - 10, _with_direction(x_label, better), "middle", "name"))
    parts += [_estimate(row, x, TOP + step * index, right, decimals) for index, row in enumerate(rows)]
    return picture(WIDTH, height, title, parts)


def _inside(across: float, up: float, words: str) -> tuple[float, float]:
    """Where words go whose middle should be at a place, but no part beyond the edges."""
    half = CHARACTER * len(words) / 2
    return min(max(across, half), WIDTH - half), up


def _estimate(row: Estimate, x: Axis, top: float, right: float, decimals: int) -> str:
    low, value, high = (signed(v, decimals) for v in (row.low, row.value, row.high))
    parts = [
        label(x.start, top + 15, row.name, class_="row"),
        label(right, top + 15, f"{value} [{low}, {high}]", "end", "row number"),
    ]
    if all(map(math.isfinite, (row.low, row.value, row.high))):
        middle, fill = top + 29, "clear" if row.clear else "hollow"
        parts.append(line(x(0), middle - 8, x(0), middle + 8, "zero"))
        parts.append(line(x(row.low), middle, x(row.high), middle, "interval"))
        parts += [line(x(end), middle - 4, x(end), middle + 4, "interval") for end in (row.low, row.high)]
        parts.append(element("circle", cx=x(row.value), cy=float(middle), r=4.5, class_=fill))
    return element("g", *parts)


def _with_direction(words: str, better: str) -> str:
    arrows = {"lower": f"\u2190 better \u00b7 {words}", "higher": f"{words} \u00b7 better \u2192", "": words}
    return arrows[better]


def _points(series: Series) -> list[tuple[float, float]]:
    pairs = zip(series.x, series.y, strict=True)
    return [(float(x), float(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _line(series: Series, x: Axis, y: Axis, mark_lowest: bool) -> str:
    points = _points(series)
    path, pen = [], "M"
    for across, up in zip(series.x, series.y, strict=True):
        known = math.isfinite(across) and math.isfinite(up)
        if known:
            path.append(f"{pen}{x(across):.1f} {y(up):.1f}")
        pen = "L" if known else "M"
    parts = [element("path", d=" ".join(path), class_="line", stroke_dasharray=dashes(series.style))]
    if len(points) <= 40:
        parts += [marker(x(a), y(b), series.style, f"{series.name}: {b:.5f} at {a:,.10g}") for a, b in points]
    if mark_lowest:
        across, up = min(points, key=lambda point: point[1])
        parts.append(element("circle", cx=x(across), cy=y(up), r=7.0, class_="ring"))
    return stroke("".join(parts), series.style)


def _band(series: Series, x: Axis, y: Axis) -> str:
    edges = [edge for edge in zip(series.x, series.low, series.high, strict=False) if all(map(math.isfinite, edge))]
    if not edges:
        return ""
    there = [f"{x(across):.1f} {y(low):.1f}" for across, low, _ in edges]
    back = [f"{x(across):.1f} {y(high):.1f}" for across, _, high in reversed(edges)]
    return stroke(element("path", d=f"M{' L'.join(there + back)}z", class_="band"), series.style)

"""Charts as inline SVG: no script, no external resource; the page's style sheet gives the colours.

A series has a colour, a dash pattern and a marker of its own, so that nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.svg import Axis, element, label, line, safe, signed

_WIDTH, _HEIGHT = 400, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 30, 46
_STYLES = 6
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "5 2", "1 3")
_CHARACTER = 6.7  # width of a character of the legend in pixels, rather too wide than too narrow


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: Name in the legend.
        x: Horizontal values, rising.
        y: Vertical values, as many; NaN leaves a gap.
        style: Colour, dashes and marker; equal for the same model in all charts.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int = 0


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


def line_chart(series: Sequence[Series], title: str, x_label: str, y_label: str, mark_lowest: bool = False) -> str:
    """Returns lines with markers, axes and a legend.

    Args:
        series: Lines; those without a finite point are left out.
        title: Title above the plot.
        x_label: What the horizontal axis shows, with its unit.
        y_label: What the vertical axis shows, with its unit.
        mark_lowest: Whether to ring the lowest point of each line.
    """
    series = [s for s in series if _points(s)]
    legend, legend_height = _legend(series)
    top = _TOP + legend_height
    height = _HEIGHT + legend_height
    points = [point for s in series for point in _points(s)]
    x = Axis.around([p[0] for p in points], _LEFT, _WIDTH - _RIGHT, margin=0.03)
    y = Axis.around([p[1] for p in points], height - _BOTTOM, top)
    parts = [_frame(x, y, x_label, y_label), legend]
    parts += [_line(s, x, y, mark_lowest) for s in series]
    return _svg(_WIDTH, height, title, parts)


def reliability_chart(table: pd.DataFrame, title: str, style: int = 0) -> str:
    """Returns click rate over mean predicted probability, with error bars and the diagonal.

    Args:
        table: Columns mean_predicted, click_rate, low, high and rows (`ClickMetrics.reliability`).
        title: Title above the plot.
        style: Colour and marker.
    """
    size, left = 320, 50
    top = max([*table["mean_predicted"], *table["high"], 0.01]) * 1.04
    x = Axis(0.0, min(top, 1.0), left, size - _RIGHT)
    y = Axis(0.0, min(top, 1.0), size - _BOTTOM, _TOP)
    parts = [_frame(x, y, "mean predicted click probability", "click rate")]
    parts.append(line(x(0), y(0), x(x.high), y(y.high), "diagonal"))
    for row in table.to_dict("records"):
        across = x(row["mean_predicted"])
        parts.append(_stroke(line(across, y(row["low"]), across, y(row["high"]), "bar"), style))
        rates = f"predicted {row['mean_predicted']:.4f}, click rate {row['click_rate']:.4f}"
        parts.append(_marker(across, y(row["click_rate"]), style, f"{rates}, {row['rows']:,.0f} rows"))
    return _svg(size, size, title, parts)


def interval_chart(rows: Sequence[Estimate], title: str, x_label: str, better: str = "", decimals: int = 5) -> str:
    """Returns a horizontal interval ("forest") plot around a line at zero.

    Args:
        rows: Differences; a filled point has an interval that excludes 0, a hollow one has not.
        title: Title above the plot.
        x_label: What the axis shows, with its unit.
        better: "lower" or "higher" where one side is better; "" where not.
        decimals: Decimals of the numbers beside the names.
    """
    step, left, right = 44, 6, _WIDTH - 6
    height = _TOP + step * len(rows) + _BOTTOM + 14
    bottom = height - _BOTTOM - 6
    x = Axis.around([v for row in rows for v in (row.value, row.low, row.high)], left, right, 0.06, zero=True)
    parts = [line(at, bottom, at, bottom + 4, "axis") for at, _ in x.ticks()]
    parts += [label(at, bottom + 17, words, "middle") for at, words in x.ticks()]
    parts += [line(left, bottom, right, bottom, "axis"), line(x(0), bottom - 8, x(0), bottom, "zero")]
    parts.append(label((left + right) / 2, height - 10, _with_direction(x_label, better), "middle", "name"))
    parts += [_estimate(row, x, _TOP + step * index, right, decimals) for index, row in enumerate(rows)]
    return _svg(_WIDTH, height, title, parts)


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
    dashes = _DASHES[series.style % _STYLES]
    parts = [element("path", d=" ".join(path), class_="line", stroke_dasharray=dashes)]
    if len(points) <= 40:
        parts += [
            _marker(x(a), y(b), series.style, f"{series.name}: {b:.5f} at {a:,.0f}", inner=True) for a, b in points
        ]
    if mark_lowest:
        across, up = min(points, key=lambda point: point[1])
        parts.append(element("circle", cx=x(across), cy=y(up), r=7.0, class_="ring"))
    return _stroke("".join(parts), series.style)


def _stroke(markup: str, style: int) -> str:
    return element("g", markup, class_=f"series s{style % _STYLES}")


def _marker(x: float, y: float, style: int, words: str, inner: bool = False) -> str:
    """A circle, square, triangle or diamond, with a tooltip."""
    shapes = (
        "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0z",
        "M-3 -3H3V3H-3z",
        "M0 -4L3.8 3H-3.8z",
        "M0 -4.4L4.4 0L0 4.4L-4.4 0z",
        "M0 4L3.8 -3H-3.8z",
        "M-4 -1.3H-1.3V-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4z",
    )
    place = f"translate({x:.1f} {y:.1f})"
    tooltip = [element("title", safe(words))] if words else []
    shape = element("path", *tooltip, d=shapes[style % _STYLES], transform=place, class_="marker")
    return shape if inner else _stroke(shape, style)


def _legend(series: Sequence[Series]) -> tuple[str, float]:
    """The legend, wrapped to the width of the chart, and its height in pixels."""
    parts, x, y = [], float(_LEFT), float(_TOP + 8)
    for s in series:
        width = 40 + _CHARACTER * len(s.name)
        if x > _LEFT and x + width > _WIDTH:
            x, y = float(_LEFT), y + 18
        dashes = _DASHES[s.style % _STYLES]
        sample = element("path", d=f"M{x:.1f} {y - 4:.1f}h24", class_="line", stroke_dasharray=dashes)
        parts.append(_stroke(sample + _marker(x + 12, y - 4, s.style, "", inner=True), s.style))
        parts.append(label(x + 30, y, s.name, class_="name"))
        x += width
    return "".join(parts), y - _TOP + 10 if parts else 0.0


def _frame(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    """Grid, axes, ticks and axis labels."""
    parts = [line(x.start, at, x.end, at, "grid") for at, _ in y.ticks()]
    parts += [label(x.start - 6, at + 4, words, "end") for at, words in y.ticks()]
    parts += [line(at, y.start, at, y.start + 4, "axis") for at, _ in x.ticks()]
    parts += [label(at, y.start + 17, words, "middle") for at, words in x.ticks()]
    parts += [line(x.start, y.start, x.end, y.start, "axis")]
    parts.append(label((x.start + x.end) / 2, y.start + 36, x_label, "middle", "name"))
    turned = {"transform": f"translate(12 {(y.start + y.end) / 2:.1f}) rotate(-90)", "text_anchor": "middle"}
    parts.append(element("text", safe(y_label), class_="name", **turned))
    return "".join(parts)


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    heading = label(0, 14, title, class_="title")
    box = f"0 0 {width:g} {height:g}"
    return element("svg", heading, *parts, viewBox=box, role="img", aria_label=title, class_="chart")

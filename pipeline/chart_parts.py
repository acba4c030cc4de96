"""What all charts share: the frame with its ticks, markers, the legend, and the picture around them.

A series has a colour, a dash pattern and a marker of its own, so that nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.svg import Axis, element, label, line, safe

WIDTH, HEIGHT = 400, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 30, 46
CHARACTER = 6.7
"""Width of a character in pixels, rather too wide than too narrow."""

_COLOURS = 6
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "5 2", "1 3")
_SHAPES = (
    "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0z",
    "M-3 -3H3V3H-3z",
    "M0 -4L3.8 3H-3.8z",
    "M0 -4.4L4.4 0L0 4.4L-4.4 0z",
    "M0 4L3.8 -3H-3.8z",
    "M-4 -1.3H-1.3V-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4z",
)


def dashes(style: int) -> str | None:
    """Returns the dash pattern of a style; styles with the same colour have different ones."""
    return _DASHES[_pattern(style)]


def stroke(markup: str, style: int) -> str:
    """Returns markup in the colour of a style."""
    return element("g", markup, class_=f"series s{style % _COLOURS}")


def marker(x: float, y: float, style: int, words: str) -> str:
    """Returns a circle, square or the like in the colour around it, with a tooltip unless `words` is empty."""
    tooltip = [element("title", safe(words))] if words else []
    place = f"translate({x:.1f} {y:.1f})"
    return element("path", *tooltip, d=_SHAPES[_pattern(style)], transform=place, class_="marker")


def legend(names: Sequence[tuple[str, int]]) -> tuple[str, float]:
    """Returns the legend of (name, style), wrapped to the width of the chart, and its height in pixels."""
    parts, x, y = [], float(LEFT), float(TOP + 8)
    for name, style in names:
        width = 40 + CHARACTER * len(name)
        if x > LEFT and x + width > WIDTH:
            x, y = float(LEFT), y + 18
        sample = element("path", d=f"M{x:.1f} {y - 4:.1f}h24", class_="line", stroke_dasharray=dashes(style))
        parts.append(stroke(sample + marker(x + 12, y - 4, style, ""), style))
        parts.append(label(x + 30, y, name, class_="name"))
        x += width
    return "".join(parts), y - TOP + 10 if parts else 0.0


def frame(x: Axis, y: Axis, x_label: str, y_label: str, x_ticks: Sequence[tuple[float, str]] | None = None) -> str:
    """Returns grid, axes, ticks and axis labels.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        x_label: What the horizontal axis shows.
        y_label: What the vertical axis shows.
        x_ticks: (pixel, label) of the horizontal axis, rising; None for those of the axis.
    """
    x_ticks = x.ticks() if x_ticks is None else x_ticks
    parts = [line(x.start, at, x.end, at, "grid") for at, _ in y.ticks()]
    parts += [label(x.start - 6, at + 4, words, "end") for at, words in y.ticks()]
    parts += [line(at, y.start, at, y.start + 4, "axis") for at, _ in x_ticks]
    parts += [label(at, y.start + 17, words, "middle") for at, words in _apart(x_ticks)]
    parts += [line(x.start, y.start, x.end, y.start, "axis")]
    parts.append(label((x.start + x.end) / 2, y.start + 36, x_label, "middle", "name"))
    turned = {"transform": f"translate(12 {(y.start + y.end) / 2:.1f}) rotate(-90)", "text_anchor": "middle"}
    parts.append(element("text", safe(y_label), class_="name", **turned))
    return "".join(parts)


def picture(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Returns the chart as a whole, with its title above the parts."""
    heading = label(0, 14, title, class_="title")
    box = f"0 0 {width:g} {height:g}"
    return element("svg", heading, *parts, viewBox=box, role="img", aria_label=title, class_="chart")


def _pattern(style: int) -> int:
    return (style + style // _COLOURS) % len(_DASHES)


def _apart(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks whose labels do not overlap; the last one is always kept."""
    kept: list[tuple[float, str]] = []
    for at, words in reversed(ticks):
        if not kept or at + CHARACTER * (len(words) + len(kept[-1][1]) + 1) / 2 < kept[-1][0]:
            kept.append((at, words))
    return kept

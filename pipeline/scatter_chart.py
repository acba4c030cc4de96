"""A scatter chart of named points: what each costs, and how good it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.chart_parts import BOTTOM, CHARACTER, LEFT, RIGHT, TOP, WIDTH, frame, marker, picture, stroke
from pipeline.svg import Axis, element, label, line

_HEIGHT = 340
_LINE = 15  # pixels from a name to the next


@dataclass(frozen=True)
class Spot:
    """A point of the chart.

    Attributes:
        name: Name beside the point.
        x: Horizontal value, above 0.
        y: Vertical value.
        low: Lower end of its error bar.
        high: Upper end of its error bar.
        style: Colour and marker.
    """

    name: str
    x: float
    y: float
    low: float
    high: float
    style: int = 0


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def efficient(spots: Sequence[Spot]) -> list[Spot]:
    """Returns the points that no other is below without being to the right: those worth their cost, by rising x."""
    found: list[Spot] = []
    for spot in sorted(spots, key=lambda s: (s.x, s.y)):
        if not found or spot.y < found[-1].y:
            found.append(spot)
    return found


def scatter_chart(spots: Sequence[Spot], title: str, x_label: str, y_label: str, words: Callable[[float], str]) -> str:
    """Returns named points with error bars over a logarithmic axis; the efficient ones are joined.

    Args:
        spots: Points; those without a value or at or below 0 on the horizontal axis are left out.
        title: Title above the plot.
        x_label: What the horizontal axis shows.
        y_label: What the vertical axis shows; less is better.
        words: Formats a value of the horizontal axis.
    """
    spots = [s for s in spots if s.x > 0 and math.isfinite(s.x) and math.isfinite(s.y)]
    x = Axis.around([s.x for s in spots], LEFT, WIDTH - RIGHT, margin=0.08, log=True)
    y = Axis.around([v for s in spots for v in (s.y, s.low, s.high)], _HEIGHT - BOTTOM, TOP, margin=0.1)
    ticks = x.ticks(words=lambda values: [words(value) for value in values])
    best = [f"{x(s.x):.1f} {y(s.y):.1f}" for s in efficient(spots)]
    parts = [frame(x, y, x_label, y_label, ticks)]
    parts += [element("path", d=f"M{' L'.join(best)}", class_="joined")] if len(best) > 1 else []
    parts += _names([(s.name, x(s.x), y(s.y)) for s in spots], x, y)
    parts += [_spot(s, x, y, words) for s in spots]
    return picture(WIDTH, _HEIGHT, title, parts)


def _spot(spot: Spot, x: Axis, y: Axis, words: Callable[[float], str]) -> str:
    known = math.isfinite(spot.low) and math.isfinite(spot.high)
    bar = line(x(spot.x), y(spot.low), x(spot.x), y(spot.high), "bar") if known else ""
    tooltip = f"{spot.name}: {spot.y:.5f} at {words(spot.x)}"
    return stroke(bar + marker(x(spot.x), y(spot.y), spot.style, tooltip), spot.style)


def _names(points: Sequence[tuple[str, float, float]], x: Axis, y: Axis) -> list[str]:
    """The names beside their points, moved up or down where others are, with a thin line to the point then."""
    taken = [_Box(across - 5, up - 5, across + 5, up + 5) for _, across, up in points]
    inside = _Box(x.start + 2, y.end, x.end + RIGHT, y.start)
    parts = []
    for name, across, up in sorted(points, key=lambda point: point[2]):
        boxes = list(_places(across, up, CHARACTER * len(name)))
        fits = (b for b in boxes if _within(b, inside) and not any(b.overlaps(other) for other in taken))
        box = next(fits, boxes[0])
        taken.append(box)
        right = box.left > across
        if abs((box.top + box.bottom) / 2 - up) > 1:
            parts.append(
                line(across, up, box.left - 1 if right else box.right + 1, (box.top + box.bottom) / 2, "leader")
            )
        parts.append(label(box.left if right else box.right, box.bottom - 4, name, "start" if right else "end", "name"))
    return parts


def _places(across: float, up: float, width: float) -> Iterator[_Box]:
    """Where a name may stand, the nearest place first."""
    half = _LINE / 2
    for away in range(24):
        for shift in (away * half, -away * half) if away else (0.0,):
            gap = 8 if away < 2 else 14
            yield _Box(across + gap, up + shift - half, across + gap + width, up + shift + half)
            yield _Box(across - gap - width, up + shift - half, across - gap, up + shift + half)


def _within(box: _Box, outer: _Box) -> bool:
    sideways = outer.left <= box.left and box.right <= outer.right
    return sideways and outer.top <= box.top and box.bottom <= outer.bottom

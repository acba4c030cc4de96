"""The parts that charts are made of: escaped elements, axes with round ticks, numbers as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

MINUS = "\u2212"

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def safe(value: object) -> str:
    """Returns `value` as text for HTML or XML, escaped; characters that XML forbids become U+FFFD."""
    return _CONTROL.sub("\ufffd", escape(str(value), quote=True))


def element(tag: str, *children: str, **attributes: object) -> str:
    """Returns an element with its closing tag, which both HTML and XML read.

    Args:
        tag: Name of the element.
        *children: Markup; text must be `safe`.
        **attributes: Values are escaped here, floats rounded to 2 decimals. `class_` and `text_anchor` stand
            for `class` and `text-anchor`; None leaves an attribute out.
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is not None:
            shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else safe(value)
            parts.append(f'{name.rstrip("_").replace("_", "-")}="{shown}"')
    return f"<{' '.join(parts)}>{''.join(children)}</{tag}>"


def label(x: float, y: float, words: object, anchor: str = "start", class_: str = "tick") -> str:
    """Returns text whose baseline starts, centres or ends at (x, y)."""
    return element("text", safe(words), x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Returns a straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns about `count` round numbers (1, 2, 2.5 or 5 times a power of ten) within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns at most about `count` round numbers within [low, high], both above 0, spread over the powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= count:
            break
    return ticks if len(ticks) > 1 else nice_ticks(low, high, count)


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Formats ticks with the decimals that tell them apart; from a thousand on with k, M or G."""
    largest = max(map(abs, ticks), default=0.0)
    power = min(int(math.log10(largest)) // 3, 3) if largest >= 1000 else 0
    scaled = [tick / 1000**power for tick in ticks]
    decimals = 0
    while decimals < 9 and any(abs(v - round(v, decimals)) > 1e-6 * (abs(v) or 1) for v in scaled):
        decimals += 1
    return [signed(v, decimals, plus=False) + (("", "k", "M", "G")[power] if v else "") for v in scaled]


def signed(value: float, decimals: int, plus: bool = True) -> str:
    """Formats a number with a real minus sign, and a plus sign unless `plus` is false; NaN is a dash."""
    if not math.isfinite(value):
        return "\u2013"
    shown = f"{abs(value):.{decimals}f}"
    if not float(shown):
        return shown
    return (MINUS if value < 0 else "+" if plus else "") + shown


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis from data to pixels.

    Attributes:
        low: Value at pixel `start`.
        high: Value at pixel `end`; above `low`.
        start: Pixel of `low`.
        end: Pixel of `high`; below `start` on an axis that points up.
        log: Whether it is logarithmic; all values are above 0 then.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls,
        values: Sequence[float],
        start: float,
        end: float,
        margin: float = 0.05,
        zero: bool = False,
        log: bool = False,
    ) -> Axis:
        """Returns the axis that shows all finite values (and 0 when `zero`) with a margin at both ends.

        A logarithmic one goes to twice its lowest value at least: small differences are to look small.
        """
        known = [math.log10(v) if log else float(v) for v in values if math.isfinite(v) and (v > 0 or not log)]
        known += [0.0] if zero else []
        low, high = min(known, default=0.0), max(known, default=1.0)
        if log:
            room = max((high - low) * margin, (math.log10(2) - (high - low)) / 2)
            return cls(10 ** (low - room), 10 ** (high + room), start, end, log)
        room = (high - low) * margin or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        """Returns the pixel of `value`."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(
        self, count: int = 5, words: Callable[[Sequence[float]], Sequence[str]] = tick_labels
    ) -> list[tuple[float, str]]:
        """Returns (pixel, label) of each tick; `words` gives the labels."""
        values = (log_ticks if self.log else nice_ticks)(self.low, self.high, count)
        return [(self(value), text) for value, text in zip(values, words(values), strict=True)]

"""Small parts that the sections of the report page share."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.svg import element, safe


def say(words: str) -> str:
    """Returns a paragraph that explains what follows."""
    return element("p", safe(words), class_="soft")


def grid(charts: Sequence[str], small: bool = False) -> str:
    """Returns charts side by side as far as the page is wide; nothing when there are none."""
    return element("div", *charts, class_="charts small" if small else "charts") if charts else ""


def fold(title: str, body: str) -> str:
    """Returns what is seen only when its title is opened; nothing when there is no body."""
    return element("details", element("summary", safe(title)), body) if body else ""

"""Small parts that the pages share: the frame of a page, paragraphs, grids and folds."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report_style import STYLE
from pipeline.svg import element, safe

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="summary">{summary}</p>
{head}
</header>
<main>
{main}
</main>
</body>
</html>
"""


def page(title: str, summary: str, head: str, main: str) -> str:
    """Returns a whole page: HTML without scripts or external resources, light or dark.

    Args:
        title: Text.
        summary: Text, shown large.
        head: Markup below the summary.
        main: Markup of the sections.
    """
    return _PAGE.format(title=safe(title), style=STYLE, summary=safe(summary), head=head, main=main)


def section(name: str, body: str) -> str:
    """Returns a section of a page, which links find by its name."""
    return element("section", element("h2", safe(name)), body, id=anchor(name))


def anchor(name: str) -> str:
    """Returns the place of a section on its page."""
    return name.lower().replace(" ", "-")


def notes(words: Sequence[str]) -> str:
    """Returns a list of sentences that stands out; nothing when there are none."""
    return element("ul", *(element("li", safe(note)) for note in words), class_="notes") if words else ""


def say(words: str) -> str:
    """Returns a paragraph that explains what follows."""
    return element("p", safe(words), class_="soft")


def grid(charts: Sequence[str], small: bool = False) -> str:
    """Returns charts side by side as far as the page is wide; nothing when there are none."""
    return element("div", *charts, class_="charts small" if small else "charts") if charts else ""


def fold(title: str, body: str) -> str:
    """Returns what is seen only when its title is opened; nothing when there is no body."""
    return element("details", element("summary", safe(title)), body) if body else ""

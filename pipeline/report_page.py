"""The report of a run as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline import report_sections
from pipeline.report_data import ReportData
from pipeline.report_data_section import data_section
from pipeline.report_style import STYLE
from pipeline.svg import element, safe

__all__ = ["ReportData", "render"]

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
{notes}
{nav}
</header>
<main>
{sections}
</main>
</body>
</html>
"""


def render(data: ReportData) -> str:
    """Returns the page: HTML without scripts or external resources, readable at any width, light or dark."""
    sections: dict[str, Callable[[ReportData], str]] = {
        "Metrics": report_sections.metrics,
        "Differences": report_sections.differences,
        "Learning curves": report_sections.curves,
        "Reliability": report_sections.reliability,
        "Size and speed": report_sections.costs,
        "Subclasses": report_sections.subclasses,
        "Distance to the optimum": report_sections.bayes,
        "Data": data_section,
        "Provenance": report_sections.provenance,
    }
    bodies = {name: body for name, section in sections.items() if (body := section(data))}
    return _PAGE.format(
        title=safe(data.title),
        style=STYLE,
        summary=safe(data.summary),
        notes=_list(data.notes),
        nav=element("nav", *(element("a", safe(n), href=f"#{_anchor(n)}") for n in bodies), aria_label="Sections"),
        sections="\n".join(_section(name, body) for name, body in bodies.items()),
    )


def _section(name: str, body: str) -> str:
    return element("section", element("h2", safe(name)), body, id=_anchor(name))


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _list(notes: Sequence[str]) -> str:
    return element("ul", *(element("li", safe(note)) for note in notes), class_="notes") if notes else ""

"""The report of a run as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline import report_sections, report_teacher
from pipeline.comparison_sections import sections as sections_of_methods
from pipeline.comparison_text import verdict
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
    compared, of_run = _bodies_of_methods(data), _bodies_of_run(data)
    first, notes = data.summary, data.notes
    own = [_section(name, body) for name, body in of_run.items()]
    if data.comparison is not None:
        first, notes = verdict(data.comparison), data.comparison.notes
        own.insert(0, _part(data))
    names = [*compared, *of_run]
    return _PAGE.format(
        title=safe(data.title),
        style=STYLE,
        summary=safe(first),
        notes=_list(notes),
        nav=element("nav", *(element("a", safe(n), href=f"#{_anchor(n)}") for n in names), aria_label="Sections"),
        sections="\n".join([*(_section(name, body) for name, body in compared.items()), *own]),
    )


def _bodies_of_methods(data: ReportData) -> dict[str, str]:
    if data.comparison is None:
        return {}
    comparison = data.comparison
    return {name: body for name, section in sections_of_methods().items() if (body := section(comparison))}


def _bodies_of_run(data: ReportData) -> dict[str, str]:
    sections: dict[str, Callable[[ReportData], str]] = {
        "Metrics": report_sections.metrics,
        "Differences": report_sections.differences,
        "Learning curves": report_sections.curves,
        "Reliability": report_sections.reliability,
        "Rare values": report_sections.frequencies,
        "Size and speed": report_sections.costs,
        "Teacher": report_teacher.diagnosis,
        "Subclasses": report_teacher.subclasses,
        "Distance to the optimum": report_sections.bayes,
        "Data": data_section,
        "Provenance": report_sections.provenance,
    }
    return {name: body for name, section in sections.items() if (body := section(data))}


def _part(data: ReportData) -> str:
    """What parts the models of the run from the comparison; nothing where only the data follow."""
    if not data.summary:
        return ""
    words = [element("h2", "The models of this run"), element("p", safe(data.summary)), _list(data.notes)]
    return element("div", *words, class_="part")


def _section(name: str, body: str) -> str:
    return element("section", element("h2", safe(name)), body, id=_anchor(name))


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _list(notes: Sequence[str]) -> str:
    return element("ul", *(element("li", safe(note)) for note in notes), class_="notes") if notes else ""

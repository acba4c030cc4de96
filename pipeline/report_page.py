"""The report of a run as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable

from pipeline import report_sections, report_teacher
from pipeline.comparison_sections import sections as sections_of_methods
from pipeline.comparison_text import verdict
from pipeline.report_data import ReportData
from pipeline.report_data_section import data_section
from pipeline.report_parts import anchor, notes, page, section
from pipeline.svg import element, safe

__all__ = ["ReportData", "render"]


def render(data: ReportData) -> str:
    """Returns the page: HTML without scripts or external resources, readable at any width, light or dark."""
    compared, of_run = _bodies_of_methods(data), _bodies_of_run(data)
    first, words = data.summary, data.notes
    own = [section(name, body) for name, body in of_run.items()]
    if data.comparison is not None:
        first, words = verdict(data.comparison), data.comparison.notes
        own.insert(0, _part(data))
    names = [*compared, *of_run]
    nav = element("nav", *(element("a", safe(n), href=f"#{anchor(n)}") for n in names), aria_label="Sections")
    main = "\n".join([*(section(name, body) for name, body in compared.items()), *own])
    return page(data.title, first, f"{notes(words)}\n{nav}", main)


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
    words = [element("h2", "The models of this run"), element("p", safe(data.summary)), notes(data.notes)]
    return element("div", *words, class_="part")

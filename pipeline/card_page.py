"""A card of words and tables, as Markdown and as a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.report_parts import page, say
from pipeline.report_parts import section as page_section
from pipeline.report_tables import cell, row, table
from pipeline.svg import element, safe

Cell = str | tuple[str, str]
"""Words, or words with smaller ones below."""

_SPECIAL = re.compile(r"([\\`*_\[\]|])")


@dataclass(frozen=True)
class Table:
    """A table of text.

    Args:
        caption: what it shows.
        headers: of the columns.
        rows: as many cells each; the first one, without smaller words, names the row.
        wrap: whether cells hold sentences.
    """

    caption: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    wrap: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a card.

    Args:
        title: of the part.
        words: sentences on the tables, a paragraph each.
        tables: below them.
        points: list items below those.
    """

    title: str
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """What both forms show.

    Args:
        title: of the card.
        summary: a sentence or two that stand for the whole.
        sections: in order.
    """

    title: str
    summary: str
    sections: tuple[Section, ...]


def as_markdown(card: Card) -> str:
    """Returns the card as Markdown with pipe tables."""
    blocks = [f"# {_text(card.title)}", _text(card.summary)]
    for section in card.sections:
        blocks += [f"## {_text(section.title)}", *map(_text, section.words)]
        blocks += [text for found in section.tables for text in (f"**{_text(found.caption)}**", _pipes(found))]
        blocks += ["\n".join(f"- {_text(point)}" for point in section.points)] if section.points else []
    return "\n\n".join(blocks) + "\n"


def as_html(card: Card) -> str:
    """Returns the card as one self-contained page."""
    return page(card.title, card.summary, "", "\n".join(_section(section) for section in card.sections))


def _section(section: Section) -> str:
    points = element("ul", *(element("li", safe(point)) for point in section.points)) if section.points else ""
    return page_section(section.title, "".join([*map(say, section.words), *map(_table, section.tables), points]))


def _table(found: Table) -> str:
    rows = []
    for name, *cells in found.rows:
        rows.append(row(str(name), [cell(c) if isinstance(c, str) else cell(*c) for c in cells]))
    return table(found.caption, found.headers, rows, found.wrap)


def _pipes(found: Table) -> str:
    return "\n".join(_lines(found))


def _lines(found: Table) -> Iterator[str]:
    yield _line(found.headers)
    yield _line(["---", *["---" if found.wrap else "---:"] * (len(found.headers) - 1)], plain=True)
    for cells in found.rows:
        yield _line([c if isinstance(c, str) else f"{c[0]} ({c[1]})" if c[1] else c[0] for c in cells])


def _line(cells: Sequence[str], plain: bool = False) -> str:
    return f"| {' | '.join(cells if plain else map(_text, cells))} |"


def _text(words: str) -> str:
    """Words on one line that Markdown shows as they are."""
    shown = _SPECIAL.sub(r"\\\1", " ".join(words.split()))
    return shown.replace("&", "&amp;").replace("<", "&lt;")

"""A card in both forms: all words are there, as text and not as markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from pipeline.card_page import Card, Section, Table, as_html, as_markdown

CARD = Card(
    "Model card: a|b",
    "A <summary>.",
    (
        Section(
            "Figures",
            ("Words_of *two*\nlines.",),
            (Table("The table", ("Name", "Value"), (("x|y", "1"), ("z", ("2", "1\u20133")), ("w", ("3", "")))),),
            ("first & last", "`code`"),
        ),
        Section("Words", (), (Table("Sentences", ("What", "It is"), (("a", "a long one"),), wrap=True),)),
    ),
)


def test_markdown_by_hand() -> None:
    assert as_markdown(CARD) == (
        "# Model card: a\\|b\n\nA &lt;summary>.\n\n"
        "## Figures\n\nWords\\_of \\*two\\* lines.\n\n**The table**\n\n"
        "| Name | Value |\n| --- | ---: |\n| x\\|y | 1 |\n| z | 2 (1\u20133) |\n| w | 3 |\n\n"
        "- first &amp; last\n- \\`code\\`\n\n"
        "## Words\n\n**Sentences**\n\n| What | It is |\n| --- | --- |\n| a | a long one |\n"
    )


class _Page(HTMLParser):
    """The tags of a page and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert tag not in ("script", "img") and not any(name in ("src", "onclick") for name, _ in attrs)
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if "style" not in self.open else ""


@pytest.fixture(scope="module")
def page() -> _Page:
    found = _Page()
    found.feed(as_html(CARD))
    assert not found.open
    return found


@pytest.mark.parametrize(
    "words", ["Model card: a|b", "A <summary>.", "Words_of *two*", "x|y", "1\u20133", "first & last", "`code`", "It is"]
)
def test_the_page_has_all_words(page: _Page, words: str) -> None:
    assert words in page.words


def test_the_page_stands_alone() -> None:
    text = as_html(CARD)
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Figures", "Words"]
    assert "prefers-color-scheme: dark" in text and "http://" not in text and "https://" not in text
    assert text.count("<table") == 2 and text.count('class="words"') == 1

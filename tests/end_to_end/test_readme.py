"""Every command of the README and the docs exists and takes the arguments that it is shown with."""

import re
import shlex
from pathlib import Path

import pytest

from pipeline.cli import make_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shell_lines(page: Path) -> list[str]:
    """The lines of the page's sh blocks, continued lines joined, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


COMMANDS = [(page.name, line) for page in PAGES for line in shell_lines(page)]


def test_the_readme_begins_with_what_it_is_for_and_two_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:60])
    assert first_screen.index("make demo") < first_screen.index("make test")
    assert re.search(r"minutes?|seconds?", first_screen)


@pytest.mark.parametrize(("page", "line"), [c for c in COMMANDS if "ctr-distill " in c[1] and "pip" not in c[1]])
def test_a_shown_command_is_taken_by_the_command_line(page: str, line: str) -> None:
    words = shlex.split(line)
    start = next(index for index, word in enumerate(words) if word.endswith("ctr-distill"))
    options, rest = make_parser().parse_known_args(words[start + 1 :])
    assert not rest or options.beam, f"{page}: {rest}"


@pytest.mark.parametrize(("page", "line"), [c for c in COMMANDS if c[1].split()[0] == "make"])
def test_a_shown_target_is_in_the_makefile(page: str, line: str) -> None:
    target = line.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_no_figure_of_the_readme_is_left_open() -> None:
    assert not re.search(r"\b(DEMO|TEST|REAL)_[A-Z]+\b", (ROOT / "README.md").read_text())

"""Every command of the README and the docs exists, takes the arguments shown, and runs here or in CI."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import SMALL, Made

from features.schema import FORMATS, KINDS, TRANSFORMS, Schema
from features.strict import REASONS
from pipeline.cli import make_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DATA_FORMAT = (ROOT / "docs/data-format.md").read_text()


def code_blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def joined_lines(text: str) -> list[str]:
    """The commands of a script, continued lines joined, without comments."""
    lines = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


COMMANDS = [
    (page.name, line) for page in PAGES for block in code_blocks(page.read_text(), "sh") for line in joined_lines(block)
]
IN_CI = {line.removeprefix("./") for line in joined_lines((ROOT / ".ci/run").read_text())}


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


@pytest.fixture(scope="module")
def place(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a checkout after ``make demo``, with a log of several days."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("runs", "logs"):
        (folder / name).mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "runs/demo").symlink_to(made.run.path)
    (folder / "runs/demo.tsv").symlink_to(made.log)
    lines = made.log.read_bytes().splitlines(keepends=True)
    for day in range(2):
        packed = subprocess.run(["gzip", "-c"], input=b"".join(lines[day:4000:2]), capture_output=True, check=True)
        (folder / f"logs/day_{day}.gz").write_bytes(packed.stdout)
    return folder


@pytest.mark.parametrize(("page", "line"), [c for c in COMMANDS if c[1] not in IN_CI and not c[1].startswith("make")])
def test_a_shown_command_runs(page: str, line: str, place: Path) -> None:
    """In the order of the pages, which may build on each other."""
    small = shlex.join([*SMALL, "--methods=hard"]) if " run --input" in line else ""
    succeeds(["bash", "-c", f"{line} {small}"], place, page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shown_scripts_run(page: Path, place: Path) -> None:
    for script in code_blocks(page.read_text(), "python"):
        succeeds([sys.executable, "-c", script], place, page.name)


def succeeds(command: list[str], place: Path, page: str) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{page}: {done.stderr}"


@pytest.mark.parametrize(("page", "line"), [c for c in COMMANDS if c[1].split()[0] == "make"])
def test_a_shown_target_is_in_the_makefile(page: str, line: str) -> None:
    target = line.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), page
    assert line in IN_CI, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_no_figure_of_the_readme_is_left_open() -> None:
    assert not re.search(r"\b(DEMO|TEST|REAL)_[A-Z]+\b", (ROOT / "README.md").read_text())


def test_shown_schemas_are_schemas() -> None:
    found = [json.loads(block) for block in code_blocks(DATA_FORMAT, "json")]
    schemas = [Schema.from_json(value) for value in found if "columns" in value]
    assert [schema.format for schema in schemas] == ["text", "json"]
    for schema in schemas:
        Schema(schema.columns, format="parquet")


def table_below(text: str, heading: str) -> list[str]:
    """The names in the first column of the first table that begins with a heading."""
    rows = text[text.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


@pytest.mark.parametrize(
    ("heading", "names"), [("format", FORMATS), ("kind", KINDS), ("transform", TRANSFORMS), ("reason", REASONS)]
)
def test_the_tables_of_the_data_format_are_those_of_the_code(heading: str, names: tuple[str, ...]) -> None:
    assert table_below(DATA_FORMAT, heading) == list(names)


def test_every_command_is_in_the_table_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--help"])
    names = re.findall(r"^    ([a-z-]+)(?: {2,}|$)", capsys.readouterr().out, re.M)
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (`.+?) \|", readme[readme.index("| command |") :], re.M)
    assert "train-teacher" in names
    assert sorted(names) == sorted(name for row in rows for name in re.findall(r"`([a-z-]+)", row))

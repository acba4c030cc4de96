"""``run``: the whole job in order, and no more of it than has to be done."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import METHODS, ROOT, STUDENT, Made, files_of, flags

from features.errors import ConfigError
from features.schema import CRITEO
from models.methods import METHODS as ALL_METHODS
from pipeline import cli, commands
from pipeline.beam import make_options
from pipeline.keys import student_sources
from pipeline.run import run_all
from pipeline.workspace import Run

_COUNT_MODULES = (
    "import json, sys; from pipeline.cli import main; main(json.loads(sys.argv[1])); "
    "print(*sorted({'tensorflow', 'tf_keras'} & set(sys.modules)), file=sys.stderr)"
)


def again(made: Made, run: Run, methods: str = "hard,kd", *changes: str) -> bool:
    """The command that made the run, on a copy of it, with other flags behind."""
    arguments = [*made.arguments, *changes]
    options, _ = cli.make_parser().parse_known_args(arguments)
    config = commands._config(options)
    with run.lock():
        return run_all(run, [str(made.log)], CRITEO, config, methods.split(","), make_options((), 1))


def stages_of(run: Run) -> dict[str, str]:
    """What identifies the outputs of each stage: its folder's inode where it is made anew as a whole, and its key."""
    names = ["examples", "teacher", "targets", *(f"students/{method}" for method in METHODS), "report"]
    paths = {name: Path(run.file(name, "manifest.json")) for name in names}
    return {name: f"{path.stat().st_ino} {path.read_text()}" for name, path in paths.items() if path.exists()}


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [name for name in before if before[name] != after.get(name)]


def test_progress_names_the_stages_in_order_and_nothing_else(made: Made) -> None:
    """No noise of TensorFlow or Beam, and no warning, stands between the lines."""
    students = [f"student {method}" for method in METHODS]
    stages = ["preprocess", "teacher", "precompute", *students, "evaluate"]
    lines = made.stderr.splitlines()
    titles = [line.removesuffix(" ...") for line in lines if line.endswith(" ...")]
    assert titles == stages
    others = [line for line in lines if not line.endswith(" ...")]
    assert all(re.match(rf"({'|'.join(stages)}): ", line) for line in others), others
    ends = [line.split(":")[0] for line in others if re.search(r"\(\d+\.\d s\)$", line)]
    assert ends == stages


def test_what_is_printed(made: Made) -> None:
    lines = made.stdout.splitlines()
    assert lines[1].startswith("test rows: 1,") and lines[3].split()[:2] == ["logloss", "auc"]
    assert [line.split()[0] for line in lines[4:10]] == ["teacher", *(f"students/{method}" for method in METHODS)]
    assert "paired differences of the logloss, 95 % intervals (negative: better)" in lines
    assert sum(bool(re.match(r"  \w+ - \w+: [+-]0\.\d{5}  \[[+-]", line)) for line in lines) == 10
    assert lines[-1] == f"report: {made.run.path}/report/index.html"
    assert any(line.startswith("Best student by validation logloss: students/") for line in lines)


def test_configuration_and_versions(made: Made) -> None:
    config = yaml.safe_load(Path(made.run.file("config.yaml")).read_text())
    assert list(config) == ["preset", "preprocess", "teacher", "targets", "derived", "methods", "packages"]
    assert config["preset"] == "100k", "the one for so few rows"
    assert config["preprocess"]["split"] == "70/15/15" and config["teacher"]["hidden"] == [16]
    assert set(config["methods"]) == set(ALL_METHODS) and config["methods"]["kd"]["hidden"] == 8
    assert config["packages"]["tensorflow"].startswith("2.") and "apache-beam" in config["packages"]
    assert set(config["packages"]) == set(config["packages"]) - {None}


def test_files_of_a_finished_run(made: Made) -> None:
    names = set(files_of(made.run.path))
    assert not [name for name in names if ".tmp" in name or ".started" in name or ".work" in name]
    folders = {name.split("/")[0] for name in names}
    assert folders == {".lock", "config.yaml", "examples", "rejected", "teacher", "targets", "students", "report"}
    rejects = [line for path in Path(made.run.file("rejected")).iterdir() for line in path.read_text().splitlines()]
    assert len(rejects) == 3 and made.run.spec().rejects == 3
    assert made.run.spec().lines == sum(made.run.spec().rows.values()) + 3


def test_the_second_call_does_nothing_and_says_so(made: Made) -> None:
    before = files_of(made.run.path)
    for extra in ([], ["--deterministic"]):
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", _COUNT_MODULES, json.dumps([*made.arguments, *extra])],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
        assert time.monotonic() - begun < 10
        assert done.stderr == "\n", "no progress, no noise, no TensorFlow"
        assert done.stdout.splitlines()[0] == f"nothing to do: {made.run.path} is finished"
        assert done.stdout.splitlines()[1:] == made.stdout.splitlines()
    assert files_of(made.run.path) == before


def test_changed_settings_of_the_teacher(made: Made, copy_of: Callable[..., Run]) -> None:
    """The teacher and what follows from it are made anew; examples and `hard`, which has no teacher, are not."""
    run = copy_of()
    before = stages_of(run)
    assert again(made, run, "hard,kd", "--teacher-epochs=1") is True
    after = stages_of(run)
    assert changed(before, after) == ["teacher", "targets", "students/kd", "report"]
    metrics = json.loads(Path(run.file("report/metrics.json")).read_text())
    assert list(metrics["models"]) == ["teacher", "students/hard", "students/kd"], "others had another teacher"
    config = yaml.safe_load(Path(run.file("config.yaml")).read_text())
    assert config["teacher"]["epochs"] == 1.0
    assert again(made, run, "hard,kd", "--teacher-epochs=1") is False


def test_changed_settings_of_a_student(made: Made, copy_of: Callable[..., Run], tmp_path: Path) -> None:
    run, file = copy_of(), tmp_path / "settings.yaml"
    before = stages_of(run)
    file.write_text("methods: {kd: {alpha: 0.25}}")
    assert again(made, run, "hard,kd,subclass", f"--config={file}") is True
    assert changed(before, stages_of(run)) == ["students/kd", "report"]
    assert run.manifest("students/kd")["settings"]["alpha"] == 0.25


def test_a_missing_page_is_made_again(made: Made, copy_of: Callable[..., Run]) -> None:
    run = copy_of()
    before, page = stages_of(run), Path(run.file("report/index.html"))
    text = page.read_text()
    page.unlink()
    assert again(made, run, ",".join(METHODS)) is True
    assert page.read_text() == text and stages_of(run) == before


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that does nothing."""
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    return said.err


def test_examples_of_another_seed_make_the_rest_stale(
    made: Made, copy_of: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command says what to call, and leaves everything as it is."""
    run = copy_of()
    cli.main(["preprocess", "--input", str(made.log), "--run", run.path, "--seed=1"])
    capsys.readouterr()
    before = files_of(run.path)
    for command, source, remedy in (
        (["precompute"], "teacher", "train-teacher"),
        (["distill", "--method", "kd", *flags(STUDENT)], "targets", "precompute"),
        (["evaluate"], "targets", "precompute"),
    ):
        assert refused([*command, "--run", run.path], capsys) == (
            f"error: The {source} of a run must be made from its present examples. Received: {source} from others; "
            f"make them again with `ctr-distill {remedy} --run {run.path}`.\n"
        )
    assert refused(["report", "--run", run.path], capsys) == (
        "error: A report must be of the run's present models. Received: an evaluation of others; make it again with "
        f"`ctr-distill evaluate --run {run.path}`.\n"
    )
    assert files_of(run.path) == before


@pytest.mark.parametrize("stage", ["teacher", "students/kd"])
def test_a_stage_that_is_gone_is_made_again(made: Made, copy_of: Callable[..., Run], stage: str) -> None:
    run: Any = copy_of(stage)
    assert again(made, run, "kd") is True
    assert Path(run.file(stage, "manifest.json")).exists()
    assert again(made, run, "kd") is False


def test_embeddings_and_derived_targets_are_made_where_a_student_needs_them(
    made: Made, copy_of: Callable[..., Run]
) -> None:
    run = copy_of("students", "report")
    arguments = (made, run, "lelp", "--student-epochs=0.2", "--targets-embedding=8", "--derived-pseudo-subclasses=2")
    assert again(*arguments) is True
    assert run.manifest("targets")["embedding"] == 8 and run.manifest("derived/lelp")["outputs"] == 4
    assert run.manifest("students/lelp")["sources"] == student_sources(run, "lelp")
    assert list(json.loads(Path(run.file("report/metrics.json")).read_text())["models"]) == ["teacher", "students/lelp"]
    assert again(*arguments) is False


def test_cross_fitted_teachers_are_not_trained_for_embeddings(made: Made, copy_of: Callable[..., Run]) -> None:
    run = copy_of()
    before = files_of(run.path)
    with pytest.raises(ConfigError, match="folds must be 0 where a student needs .* embeddings. Received: 2"):
        again(made, run, "lelp", "--teacher-folds=2")
    assert files_of(run.path) == before

"""``refit``: a run on training and validation rows together, with the steps of its original and the same test rows."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from example_runs import table_of
from small_run import make_run, write_log
from support import SMALL, STUDENT, TEACHER, Made, ctr_distill, files_of, flags

from features.errors import ConfigError
from pipeline import cli
from pipeline.config import build
from pipeline.keys import is_complete
from pipeline.originals import original_student, original_teacher
from pipeline.refit import refit_config
from pipeline.settings import DerivedConfig, StudentConfig, TeacherConfig
from pipeline.workspace import Run

MODELS = ("teacher", "students/hard", "students/kd")


@dataclass(frozen=True)
class Refits:
    """A run with two students, and its refit.

    Args:
        original: the run.
        run: the refit.
        stdout: of the command that made it.
    """

    original: Run
    run: Run
    stdout: str


@pytest.fixture(scope="module")
def refits(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Refits:
    folder = tmp_path_factory.mktemp("refit")
    original, run = Run(str(folder / "original")), Run(str(folder / "refit"))
    shutil.copytree(made.run.path, original.path, ignore=shutil.ignore_patterns("subclass", "*_k", "report"))
    # A learning rate that drops, and trees: what else validation rows decide.
    trees = flags({**TEACHER, "boosted": "0.2", "boosted-trees": "5"})
    changed = flags({**STUDENT, "schedule": "plateau", "evaluations": "4", "epochs": "3"})
    commands = [
        ["train-teacher", *trees],
        ["precompute"],
        ["distill", "--method", "hard", *flags(STUDENT)],
        ["distill", "--method", "kd", *changed],
        ["refit", "--output", run.path],
    ]
    done = ctr_distill(*([*command, "--run", original.path, "--deterministic"] for command in commands))
    return Refits(original, run, done.stdout)


def settings_of(run: Run, stage: str) -> dict[str, Any]:
    return dict(run.manifest(stage)["settings"])


def test_the_rows(refits: Refits) -> None:
    """Validation rows have become training rows; test rows are the same ones, in the same order."""
    before, after = table_of(refits.original), table_of(refits.run)
    assert after["split"].tolist() == before["split"].replace("valid", "train").tolist()
    assert after[["source", "offset", "fold", "label"]].equals(before[["source", "offset", "fold", "label"]])
    rows = refits.original.spec().rows
    assert refits.run.spec().rows == {"train": rows["train"] + rows["valid"], "valid": 0, "test": rows["test"]}


@pytest.mark.parametrize("model", MODELS)
def test_settings_steps_and_calibration_are_those_of_the_original(refits: Refits, model: str) -> None:
    original, run = refits.original, refits.run
    assert settings_of(run, model) == settings_of(original, model)
    assert run.manifest(model)["calibration"] == original.manifest(model)["calibration"]
    before, after = (pd.read_csv(each.file(model, "history.csv")) for each in (original, run))
    assert not {"valid_logloss", "valid_auc"} & set(after)
    batch, rows = settings_of(run, model)["batch_size"], [each.spec().rows["train"] for each in (original, run)]
    steps = [-(-number // batch) for number in rows]
    best = before.loc[before["valid_logloss"].idxmin()]
    assert after["epoch"].iloc[-1] * steps[1] == pytest.approx(best["epoch"] * steps[0])


@pytest.mark.parametrize("model", MODELS)
def test_it_has_learned_from_other_rows(refits: Refits, model: str) -> None:
    folders = [Path(each.file(model, "model")) for each in (refits.original, refits.run)]
    weights = [next(folder.rglob("variables.data*")).read_bytes() for folder in folders]
    assert weights[0] != weights[1]


def test_the_report_has_test_figures_only(refits: Refits) -> None:
    metrics = json.loads(Path(refits.run.file("report/metrics.json")).read_text())
    assert metrics["splits"] == ["test"] and list(metrics["models"]) == list(MODELS)
    assert not any("valid" in model for model in metrics["models"].values())
    assert {row["split"] for row in metrics["comparisons"]} == {"test"}
    assert metrics["models"]["teacher"]["health"][0]["usage"] > 0
    text = Path(refits.run.file("report/index.html")).read_text()
    assert f"This is a refit of {refits.original.path}: " in text and "there are no validation figures" in text
    assert "validation rows</caption>" not in text and "no test rows" not in text
    assert f"Best student by validation logloss of {refits.original.path}: students/" in refits.stdout
    assert refits.stdout.splitlines()[-1] == f"report: {refits.run.file('report/index.html')}"


def test_configuration_and_record(refits: Refits) -> None:
    config = yaml.safe_load(Path(refits.run.file("config.yaml")).read_text())
    assert config["preprocess"]["split"] == "without-validation:70/15/15"
    assert config["methods"]["kd"]["schedule"] == "plateau" and config["teacher"]["hidden"] == [16]
    record = json.loads(Path(refits.run.file("refit.json")).read_text())
    losses = {
        model: pd.read_csv(refits.original.file(model, "history.csv"))["valid_logloss"].min() for model in MODELS[1:]
    }
    assert record == {"run": refits.original.path, "valid_logloss": pytest.approx(losses)}


def test_what_is_taken_over(refits: Refits) -> None:
    original = refits.original
    teacher = original_teacher(original, build(TeacherConfig, settings_of(original, "teacher"), "teacher"), 0)
    parts = json.loads(Path(original.file("teacher/metrics.json")).read_text())["parts"]
    epoch = -(-original.spec().rows["train"] // 256)
    assert teacher.steps == pytest.approx(parts[0]["epoch"] * epoch) and teacher.last == 2 * epoch
    assert teacher.calibration.scale == parts[0]["calibration"]["scale"]
    student = original_student(original, "kd", build(StudentConfig, settings_of(original, "students/kd"), "kd"))
    assert student.calibration.shift == original.manifest("students/kd")["calibration"]["shift"]
    assert student.last == 3 * epoch


def test_trees_are_as_many_as_in_the_original(refits: Refits) -> None:
    before, after = (each.manifest("teacher")["trees"] for each in (refits.original, refits.run))
    assert after["rounds"] == before["rounds"] and all(0 < rounds <= 5 for rounds in after["rounds"])
    assert after["calibrations"] == before["calibrations"]


def test_a_second_call_makes_what_is_missing(refits: Refits, tmp_path: Path) -> None:
    run = Run(str(tmp_path / "refit"))
    shutil.copytree(refits.run.path, run.path)
    shutil.rmtree(run.file("students/hard"))
    shutil.rmtree(run.file("report"))
    command = ["refit", "--run", refits.original.path, "--output", run.path, "--deterministic"]
    done = ctr_distill(command, command)
    assert f"nothing to do: {run.path} is finished" in done.stdout.splitlines()
    before, after = (
        {name: data for name, data in files_of(path).items() if "tfevents" not in name}
        for path in (refits.run.path, run.path)
    )
    assert before.keys() == after.keys()
    same = {name for name in before if before[name] == after[name]}
    # The trained weights are the same ones.
    assert {name for name in before if "variables.data" in name or name.startswith(("teacher", "targets"))} <= same


def test_a_student_that_the_original_makes_anew_is_repeated_anew(refits: Refits, tmp_path: Path) -> None:
    original = Run(str(tmp_path / "original"))
    shutil.copytree(refits.original.path, original.path)
    config = refit_config(original, ["hard", "kd"])
    assert is_complete(refits.run, config, ["hard", "kd"], original)
    manifest = original.manifest("students/kd")
    Path(original.file("students/kd/manifest.json")).write_text(json.dumps({**manifest, "parameters": 1}))
    assert not is_complete(refits.run, config, ["hard", "kd"], original)
    assert is_complete(refits.run, config, ["hard"], original)


def fail(capsys: pytest.CaptureFixture[str], original: str, output: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["refit", "--run", original, "--output", output])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_refit_of_a_refit(refits: Refits, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fail(capsys, refits.run.path, str(tmp_path / "refit"))
    assert "--run must have validation rows" in message and "without-validation:70/15/15" in message


def test_a_refit_of_another_run(refits: Refits, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "refit"
    shutil.copytree(refits.run.path, run)
    message = fail(capsys, made.run.path, str(run))
    assert f"which is a refit of {refits.original.path}" in message


def test_derived_targets_of_one_run_have_one_seed(tmp_path: Path) -> None:
    run = make_run(tmp_path, write_log(tmp_path / "log.csv"))
    run.finish("teacher", "key", {"settings": {}})
    run.finish("targets", "key", {"embedding": 8})
    for method, settings in (("random", {"seed": 3}), ("lelp", {"seed": 3, "pseudo_subclasses": 2})):
        run.finish(f"derived/{method}", "key", {"settings": settings})
        run.finish(f"students/{method}", "key", {"settings": {}})
    config = refit_config(run, ["random", "lelp"])
    assert config.derived == DerivedConfig(seed=3, pseudo_subclasses=2) and config.targets.embedding == 8
    run.finish("derived/lelp", "key", {"settings": {"seed": 4}})
    assert refit_config(run, ["lelp"]).derived.seed == 4
    with pytest.raises(ConfigError, match=r"^seed must be the same for all derived .* Received: 3 and 4 \(.*\)\.$"):
        refit_config(run, ["random", "lelp"])


@dataclass(frozen=True)
class Untested:
    """A run without test rows that has a log of its own, and its refit, asked for twice.

    Args:
        log: of both.
        original: the run.
        run: the refit.
        stdout: of the commands that made them.
    """

    log: Path
    original: Run
    run: Run
    stdout: str


@pytest.fixture(scope="module")
def untested(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Untested:
    folder = tmp_path_factory.mktemp("untested")
    own = shutil.copy2(log, folder / "log.tsv")
    original, run = Run(str(folder / "original")), Run(str(folder / "refit"))
    refit = ["refit", "--run", original.path, "--output", run.path]
    quick = [
        *SMALL,
        "--teacher-epochs=0.5",
        "--teacher-evaluations=1",
        "--student-epochs=0.5",
        "--student-evaluations=1",
    ]
    command = ["run", "--input", str(own), "--run", original.path, "--split", "80/20/0", "--methods", "hard", *quick]
    done = ctr_distill(command, refit, refit)
    return Untested(own, original, run, done.stdout)


def test_without_test_rows(untested: Untested) -> None:
    """There is nothing to report."""
    lines, path = untested.stdout.splitlines(), untested.run.path
    assert lines[-2] == f"nothing to do: {path} is finished"
    assert lines[-1] == f"students: {path}/students (without test rows there is no report)"
    assert untested.run.spec().rows["test"] == 0 and not Path(path, "report").exists()
    assert Path(path, "students/hard/model/1/saved_model.pb").exists()


def test_a_log_that_has_changed(untested: Untested, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = os.stat(untested.log)
    try:
        os.utime(untested.log, (1, 1))
        message = fail(capsys, untested.original.path, str(tmp_path / "refit"))
    finally:
        os.utime(untested.log, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert message.startswith("error: The log of a run must be what it was when the run was made. Received: ")
    assert not (tmp_path / "refit" / "examples").exists()

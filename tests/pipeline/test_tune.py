"""``tune``: budgets, what is searched for a model, and a teacher and a student of a real run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from small_run import change_json
from support import STUDENT, TEACHER, Made, ctr_distill

from features.errors import ConfigError
from pipeline import cli
from pipeline.config import load, resolve
from pipeline.tune import budget_seconds, make_task
from pipeline.workspace import Run


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("0.5h", 1800), ("1.5s", 1.5)])
def test_budget(text: str, seconds: float) -> None:
    assert budget_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "0m", "-1m", "30 m", "1d", "1h30m", "1e3s", "nanm", "٣m"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--budget must be a time such as 90s, 30m or 2h\. Received: {text}\.$"):
        budget_seconds(text)


class TestRealRun:
    def command(self, run: Run, settings: dict[str, Any], *flags: str) -> list[str]:
        file = Path(run.path).parent / "settings.yaml"
        file.write_text(yaml.safe_dump(settings))
        return ["tune", "--run", run.path, "--config", str(file), "--budget", "1s", *flags]

    def test_teacher_and_students(self, copy_of: Callable[..., Run]) -> None:
        """The best settings train the same teacher again; nothing else in the run changes, no test row is read."""
        run = copy_of("report", "students", "examples/test", "targets/test")
        small = {name.replace("-", "_"): value for name, value in TEACHER.items()}
        student = {name.replace("-", "_"): value for name, value in STUDENT.items()}
        settings = {"teacher": small, "student": student}
        before = {path: path.read_bytes() for path in Path(run.path).rglob("*") if path.is_file()}
        done = ctr_distill(*(self.command(run, settings, "--model", model) for model in ("teacher", "kd", "hard")))
        lines = done.stdout.splitlines()
        path, copy = f"{run.path}/tune/teacher/best.yaml", Path(run.file("tune/kd/best.yaml"))
        assert lines[1] == f"use it: ctr-distill train-teacher --run {run.path} --config {path}"
        assert lines[3] == f"use it: ctr-distill distill --method kd --run {run.path} --config {copy}"
        assert lines[0].startswith("best of ") and " trials: valid logloss 0." in lines[2]
        assert list(yaml.safe_load(copy.read_text())["methods"]) == ["kd"]
        assert Path(run.file("tune/hard/best.yaml")).exists()
        teacher = resolve(load(path)).teacher_config()
        assert teacher.subclasses == 3 and teacher.evaluations == 2
        table = pd.read_csv(run.file("tune/teacher/trials.csv"))
        assert table["present"][0] and 0.3 < table["valid_logloss"].min() < 0.7
        # The first trial is the training that made the run, as far as the budget lets it go.
        history = pd.read_csv(run.file("teacher/history.csv"))["valid_logloss"]
        assert table["valid_logloss"][0] == pytest.approx(history[: table["evaluations"][0]].min(), abs=5e-3)
        after = {path: path.read_bytes() for path in Path(run.path).rglob("*") if path.is_file()}
        assert {path: after[path] for path in before} == before
        assert {path.relative_to(run.path).parts[0] for path in set(after) - set(before)} == {"tune"}

    def test_what_is_fixed_in_a_search(self, made: Made) -> None:
        """One network in each trial; the file has what was asked for."""
        config = resolve({"teacher": {"folds": 2, "boosted": 0.3}, "student": {"generations": 3}})
        teacher, student = (make_task(made.run, model, config) for model in ("teacher", "kd"))
        assert teacher.fixed == {"folds": 0, "boosted": 0.0} and student.fixed == {"generations": 1}
        found = teacher.found({"learning_rate": 0.5})["teacher"]
        assert (found["folds"], found["boosted"], found["learning_rate"]) == (2, 0.3, 0.5)
        assert student.found({})["methods"]["kd"]["generations"] == 3

    def test_another_teacher_begins_another_search_where_it_is_learnt_from(self, copy_of: Callable[..., Run]) -> None:
        run = copy_of("report", "students")
        plain, embedded = resolve({}), resolve({"student": {"similarity": 1.0}})

        def keys() -> list[str]:
            return [make_task(run, model, config).key for model in ("hard", "kd") for config in (plain, embedded)]

        before = keys()
        change_json(run.file("targets/manifest.json"), lambda manifest: manifest.update(teacher="other"))
        assert [a == b for a, b in zip(before, keys(), strict=True)] == [True, False, False, False]

    def test_without_validation_rows(self, copy_of: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
        run = copy_of("report", "students", "targets")
        change_json(run.file("examples/spec.json"), lambda spec: spec["rows"].update(valid=0))
        with pytest.raises(SystemExit):
            cli.main(["tune", "--run", run.path])
        assert "A run must have validation rows" in capsys.readouterr().err
        assert not Path(run.file("tune")).exists()

    @pytest.mark.parametrize("model", ["kd", "hard_k"])
    def test_students_need_targets(
        self, copy_of: Callable[..., Run], model: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = copy_of("targets")
        with pytest.raises(SystemExit) as ended:
            cli.main(["tune", "--run", run.path, "--model", model])
        assert ended.value.code == 2
        assert "The run must hold finished targets" in capsys.readouterr().err

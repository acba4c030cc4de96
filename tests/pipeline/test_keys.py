from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.errors import ArtifactError
from pipeline.config import Config, StudentConfig, TeacherConfig
from pipeline.keys import (
    evaluation_key,
    finished_students,
    is_complete,
    student_key,
    student_sources,
    targets_key,
    teacher_key,
)
from pipeline.workspace import EXAMPLES, REPORT, TARGETS, TEACHER, Run, student_stage

METHODS = ("hard", "kd")
CONFIG = Config()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run all of whose stages are finished, as the stages themselves write it."""
    run = Run(str(tmp_path))
    run.finish(EXAMPLES, "examples", {"shards": [{"checksum": "a"}]})
    finish_from(run, TEACHER)
    return run


def finish_from(run: Run, first: str) -> None:
    """Finishes a stage and all that follow."""
    stages: dict[str, Any] = {TEACHER: lambda: teacher_key(run, CONFIG.teacher), TARGETS: lambda: targets_key(run)}
    for method in METHODS:
        stages[student_stage(method)] = lambda m=method: student_key(run, m, CONFIG.student_config(m))
    stages[REPORT] = lambda: evaluation_key(run)
    for stage in list(stages)[list(stages).index(first) :]:
        method = stage.removeprefix("students/")
        run.finish(stage, stages[stage](), {"sources": student_sources(run, method)} if method in METHODS else {})
    Path(run.file(REPORT, "index.html")).write_text("")


def complete(run: Run, config: Config = CONFIG, methods: tuple[str, ...] = METHODS) -> bool:
    return is_complete(run, config, methods)


def test_a_finished_run_is_complete(run: Run) -> None:
    assert complete(run)
    assert complete(run, methods=("kd",))
    assert not complete(run, methods=("hard", "kd", "subclass"))


@pytest.mark.parametrize("stage", [TEACHER, TARGETS, student_stage("kd"), REPORT])
def test_a_missing_stage(run: Run, stage: str) -> None:
    Path(run.file(stage, "manifest.json")).unlink()
    assert not complete(run)


def test_a_missing_page(run: Run) -> None:
    Path(run.file(REPORT, "index.html")).unlink()
    assert not complete(run)


@pytest.mark.parametrize(
    "config",
    [
        Config(teacher=TeacherConfig(seed=1)),
        Config(student={"seed": 1}),
        Config(methods={"kd": {"alpha": 0.123}}),
    ],
)
def test_changed_settings(run: Run, config: Config) -> None:
    assert not complete(run, config)


def test_settings_of_other_methods_do_not_count(run: Run) -> None:
    assert complete(run, Config(methods={"subclass": {"alpha": 0.123}}))


def test_other_examples_make_everything_stale(run: Run) -> None:
    before = [teacher_key(run, CONFIG.teacher), targets_key(run), *student_keys(run), evaluation_key(run)]
    run.finish(EXAMPLES, "examples", {"shards": [{"checksum": "b"}]})
    after = [teacher_key(run, CONFIG.teacher), targets_key(run), *student_keys(run), evaluation_key(run)]
    assert not any(a == b for a, b in zip(before, after, strict=True))
    assert not complete(run)
    finish_from(run, TEACHER)
    assert complete(run)


def student_keys(run: Run) -> list[str]:
    return [student_key(run, method, StudentConfig()) for method in METHODS]


def test_another_teacher_leaves_the_hard_student(run: Run) -> None:
    hard, kd = student_keys(run)
    run.finish(TEACHER, "other", {})
    finish_from(run, TARGETS)
    assert student_keys(run)[0] == hard and student_keys(run)[1] != kd


def test_a_stage_needs_what_it_is_made_from(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    for call in (
        lambda: teacher_key(run, CONFIG.teacher),
        lambda: targets_key(run),
        lambda: student_key(run, "hard", StudentConfig()),
        lambda: evaluation_key(run),
    ):
        with pytest.raises(ArtifactError, match="The run must hold finished examples"):
            call()
    run.finish(EXAMPLES, "key", {})
    student_key(run, "hard", StudentConfig())
    with pytest.raises(ArtifactError, match="The run must hold finished targets"):
        student_key(run, "kd", StudentConfig())


def test_finished_students_in_the_order_of_the_methods(run: Run) -> None:
    run.finish(student_stage("subclass"), "key", {"sources": student_sources(run, "subclass")})
    assert finished_students(run) == ["students/hard", "students/kd", "students/subclass"]


def test_students_of_other_targets_do_not_count_as_finished(run: Run) -> None:
    run.finish(TARGETS, "other", {})
    assert finished_students(run) == ["students/hard"]
    run.finish(EXAMPLES, "other", {})
    assert finished_students(run) == []


def test_every_setting_counts(run: Run) -> None:
    config = StudentConfig()
    keys = {student_key(run, "kd", config)}
    for changed in (replace(config, alpha=0.5), replace(config, seed=9), replace(config, min_count=7)):
        keys.add(student_key(run, "kd", changed))
    assert len(keys) == 4

"""What `tune` searches: bounds around the present values, and nothing that a model does not read."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from models.methods import METHODS
from pipeline.config import build, plain
from pipeline.search_space import Around, Between, Choice, Distribution, draw, present, student_space, teacher_space
from pipeline.settings import StudentConfig, TeacherConfig

SPACES = {"teacher": (teacher_space(TeacherConfig()), TeacherConfig)} | {
    name: (student_space(name, StudentConfig()), StudentConfig) for name in METHODS
}


def distribution_of(kind: Distribution, value: Any) -> Any:
    """What Optuna sees of a distribution."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study().ask()
    kind.draw(trial, "x", value)
    found = trial.distributions["x"]
    return (found.low, found.high, found.log) if hasattr(found, "low") else tuple(found.choices)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Around(4), 0.5, (0.125, 2.0, True)),
        (Around(4, whole=True), 8, (2, 32, True)),
        (Around(4, whole=True), 1, (1, 4, True)),
        (Between(0.1, 0.5), 0.3, (0.1, 0.5, False)),
        (Between(0.1, 0.5), 0.0, (0.0, 0.5, False)),
        (Between(0.1, 0.5), 0.9, (0.1, 0.9, False)),
        (Choice((1, 2)), 2, (1, 2)),
        (Choice((1, 2)), 3, (1, 2, 3)),
        (Choice(("8", "8,4")), "16", ("8", "8,4", "16")),
    ],
)
def test_there_is_room_for_the_present_value(kind: Distribution, value: Any, expected: Any) -> None:
    assert distribution_of(kind, value) == expected


def test_what_is_zero_has_no_logarithm() -> None:
    study = optuna.create_study()
    assert Around(5).draw(study.ask(), "smoothing", 0.0) == 0.0


@pytest.mark.parametrize("model", SPACES)
def test_the_first_trial_has_the_present_settings(model: str) -> None:
    space, kind = SPACES[model]
    settings = plain(kind())
    study = optuna.create_study()
    study.enqueue_trial(present(space, settings))
    values = draw(space, study.ask(), settings)
    assert build(kind, {**settings, **values}, model) == kind()


@pytest.mark.parametrize("model", SPACES)
def test_every_draw_is_a_configuration(model: str) -> None:
    space, kind = SPACES[model]
    settings = plain(kind())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [build(kind, {**settings, **draw(space, study.ask(), settings)}, model) for _ in range(30)]
    for name in space:
        assert len({str(getattr(config, name)) for config in drawn}) > 1, name


def test_a_students_space_is_what_its_method_reads() -> None:
    own: dict[str, set[str]] = {name: set(student_space(name, StudentConfig())) for name in METHODS}
    common = own["hard"]
    assert own["hard_k"] == common
    assert own["kd"] == own["kd_k"] == common | {"alpha", "temperature"}
    assert own["subclass"] == own["kd"] | {"within_weight"}
    assert set(student_space("subclass", StudentConfig(temper="joint"))) == own["kd"]
    assert set(student_space("hard", StudentConfig(generations=3))) == common, "a trial has one generation"
    assert not common & {"embedding_dim", "hidden", "min_count", "seed", "batch_size"}


def test_what_only_students_gain_from_is_not_searched_for_the_teacher() -> None:
    others = {"subclasses", "beta", "aux_temperature", "aux_rows", "folds", "boosted", "seed"}
    assert not set(teacher_space(TeacherConfig())) & others


@pytest.mark.parametrize(
    ("config", "left_out"),
    [
        (TeacherConfig(), set()),
        (TeacherConfig(architecture="mlp, dcn"), set()),
        (TeacherConfig(architecture="mlp"), {"cross_layers"}),
        (TeacherConfig(architecture="dlrm,finalmlp", statistics="none"), {"cross_layers", "smoothing"}),
    ],
)
def test_what_an_architecture_does_not_read_is_not_searched(config: TeacherConfig, left_out: set[str]) -> None:
    assert set(teacher_space(TeacherConfig())) - set(teacher_space(config)) == left_out

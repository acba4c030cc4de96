"""Which settings a model reads, and what is said of others that were given."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from support import Made

from models.methods import METHODS
from pipeline import cli
from pipeline.config import resolve
from pipeline.read_settings import unread_by_student, unread_by_teacher, warn_of_unread
from pipeline.settings import StudentConfig, TeacherConfig

OF_TARGETS = {"alpha", "temperature", "correction", "auxiliary_head", "slice_alpha", "member_gate", "gate"}
OF_SUBCLASSES = {"temper", "class_weight", "within_weight"}
OF_RELATIONS = {"relations_temperature", "relations_negatives", "relation_rows"}
OF_TERMS = {"smoothing", "ranking_rows", *OF_RELATIONS}


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("hard", {}, OF_TARGETS | OF_SUBCLASSES | OF_TERMS),
        ("hard_k", {}, OF_TARGETS | OF_SUBCLASSES | OF_TERMS),
        ("kd", {}, OF_SUBCLASSES | OF_TERMS),
        ("kd_k", {}, OF_SUBCLASSES | OF_TERMS),
        ("subclass", {}, OF_TERMS),
        ("lelp", {"temper": "joint"}, {"within_weight"} | OF_TERMS),
        ("kd", {"statistics": True, "ranking": 0.1}, OF_SUBCLASSES | OF_RELATIONS),
        ("subclass", {"similarity": 1.0}, OF_TERMS - {"relation_rows"}),
        ("subclass", {"relations": 1.0}, OF_TERMS - OF_RELATIONS),
        # Its second generation learns the click probability of the first one; there is no gate before it.
        ("hard", {"generations": 2}, {"slice_alpha", "member_gate", "gate"} | OF_SUBCLASSES | OF_TERMS),
        # Labels can be ranked too.
        ("hard", {"ranking": 0.1}, OF_TARGETS | OF_SUBCLASSES | OF_TERMS - {"ranking_rows"}),
    ],
)
def test_of_students(method: str, settings: dict[str, Any], expected: set[str]) -> None:
    assert unread_by_student(method, StudentConfig(**settings)) == expected


CROSS = {"cross_layers", "cross_rank"}
TOLERANCE = {"tolerance_scope", "tolerance_classes"}
TREES = {"boosted_trees", "boosted_rate", "boosted_leaves"}
AUXILIARY = {"aux_temperature", "aux_rows", "aux_scope"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"ensemble"} | TOLERANCE | TREES),
        ({"architecture": "dcn, mlp", "tolerance": 0.1, "boosted": 0.5}, set()),
        ({"architecture": "mlp"}, {"ensemble"} | CROSS | TOLERANCE | TREES),
        ({"cross_layers": 0, "tolerance": 0.1}, {"ensemble", "cross_rank"} | TREES),
        ({"beta": 0.0, "statistics": "none"}, {"ensemble", "smoothing"} | AUXILIARY | TOLERANCE | TREES),
        ({"tolerance": 0.1, "tolerance_scope": "class"}, {"ensemble", "tolerance_classes"} | TREES),
    ],
)
def test_of_teachers(settings: dict[str, Any], expected: set[str]) -> None:
    assert unread_by_teacher(TeacherConfig(**settings)) == expected


def test_the_names_are_those_of_settings() -> None:
    students, teachers = ({item.name for item in dataclasses.fields(kind)} for kind in (StudentConfig, TeacherConfig))
    assert all(unread_by_student(method, StudentConfig()) <= students for method in METHODS)
    assert unread_by_teacher(TeacherConfig()) | CROSS | AUXILIARY <= teachers


EVERYWHERE = {"methods": {method: {"temperature": 3} for method in METHODS}}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"methods": {"hard": {"temperature": "3", "correction": 0.1, "epochs": 2}}},
            {"hard": "correction, temperature"},
        ),
        (
            {"methods": {"hard": {"temperature": 3}, "kd": {"within_weight": 0.5}}},
            {"hard": "temperature", "kd": "within_weight"},
        ),
        ({"methods": {"subclass": {"temper": "joint", "within_weight": 0.5}}}, {"subclass": "within_weight"}),
        # What would be so anyway, what all students are given, and what a preset has.
        ({"methods": {"hard": {"temperature": 1, "gate": "refuse"}}}, {}),
        ({"student": {"temperature": 3, "temper": "joint"}}, {}),
        ({"student": {"temperature": 3}, "methods": {"hard": {"temperature": "3.0"}}}, {}),
        (EVERYWHERE, {}),
        ({"preset": "40m"}, {}),
        ({"methods": {"hard": {"temperature": 3}}, "student": {"generations": 2}}, {}),
        # Nobody is trained whose settings these are.
        ({"methods": {"random": {"ranking_rows": 8}}}, {}),
    ],
)
def test_what_was_given_for_one_method_in_vain_is_said(
    sections: dict[str, Any], said: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_unread(resolve(sections).for_rows(1000), ["hard", "kd", "subclass", "kd"])
    assert capsys.readouterr().err.splitlines() == [
        f"warning: A setting for one method must be one that its student reads. Received: {names} ({method}); "
        "nothing changes with it."
        for method, names in said.items()
    ]


def test_resolved_settings_are_given_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    for sections in ({}, {"preset": "1m", "student": {"temperature": 3, "ranking_rows": 8}}):
        warn_of_unread(resolve(resolve(sections).to_json()), METHODS)
    assert capsys.readouterr().err == ""


def test_a_flag_of_distill_is_for_its_method(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said before anything is read: here targets have no embeddings, so nothing is trained."""
    with pytest.raises(SystemExit):
        cli.main(["distill", "--method=hard", f"--run={made.run.path}", "--temperature=3", "--similarity=1"])
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: A setting for one method must be one that its student reads. ")
    assert "Received: temperature (hard);" in warning and error.startswith("error: ") and "embeddings" in error

"""Arms of a comparison: the built-in ones are well-formed, those of a file are checked."""

from __future__ import annotations

from typing import Any

import pytest

from features.errors import ConfigError
from models.methods import METHODS
from pipeline.arms import ARMS, find_arms
from pipeline.config import Config, resolve


@pytest.mark.parametrize("name", ARMS)
def test_the_settings_of_every_arm_are_known(name: str) -> None:
    arm = ARMS[name]
    assert arm.description and arm.method in METHODS
    student, teacher = arm.student_config(Config()), arm.teacher_config(Config())
    assert all(getattr(student, key) == value for key, value in arm.student.items())
    assert all(getattr(teacher, key) == value for key, value in arm.teacher.items())


def test_an_arm_adds_to_the_settings_of_its_method() -> None:
    config = resolve({"methods": {"kd": {"alpha": 0.3}}, "teacher": {"beta": 0.5}})
    assert ARMS["kd+stats"].student_config(config).alpha == 0.3
    assert ARMS["kd+stats"].student_config(config).statistics
    assert ARMS["kd+folds"].teacher_config(config).beta == 0.5


def test_every_method_is_an_arm() -> None:
    assert set(METHODS) <= set(ARMS)


def test_arms_of_a_file_come_first() -> None:
    given = {"hot": {"method": "kd", "student": {"temperature": 4}}, "kd": {"method": "kd", "own_rows": True}}
    found = find_arms(["hard", "hot", "kd"], given)
    assert list(found) == ["hard", "hot", "kd"]
    assert found["hot"].student_config(Config()).temperature == 4 and found["kd"].own_rows


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["subclas"], {}, r"Received: subclas \(--methods\). Did you mean subclass\?"),
        (["x"], {"x": {}}, r"An arm must have a method, .* \(arms.x\)"),
        (["x"], {"x": {"method": "none"}}, r"An arm must have a method"),
        (["x"], {"x": {"method": ["kd"]}}, r"An arm must have a method, .* Received: .*\['kd'\].* \(arms.x\)"),
        (["x"], {"x": {"method": "kd", "name": "y"}}, r"Received: name \(arms.x\)"),
        (["x"], {"x": {"method": "kd", "students": {}}}, r"Did you mean student\?"),
        (["x"], {"x": {"method": "kd", "student": 3}}, r"Section student must hold settings"),
        (["x"], {"x": {"method": "kd", "own_rows": 3}}, r"own_rows must be true or false"),
    ],
)
def test_what_is_not_well_formed_is_said(names: list[str], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_arms(names, given)


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("student", {"alfa": 1}, r"Received: alfa \(arms\.x\.student\)\. Did you mean alpha\?$"),
        ("student", {"alpha": "much"}, r"type float\. Received: 'much' \(arms\.x\.student, alpha\)\.$"),
        ("student", {"alpha": 2}, r"^alpha must be in \[0, 1\]\. Received: 2\.0 \(arms\.x\.student\)\.$"),
        ("student", {"ranking_rows": 8}, r"^ranking_rows must be left out .* Received: 8 \(arms\.x\.student\)\.$"),
        ("student", {"within_weight": 1}, r"^within_weight must be left out .* 1\.0 \(arms\.x\.student\)\.$"),
        ("teacher", {"boosted_trees": 8}, r"^boosted_trees must be left out .* 8 \(arms\.x\.teacher\)\.$"),
        ("teacher", {"folds": 3}, r"^folds must be 0 or divide 10\. Received: 3 \(arms\.x\.teacher\)\.$"),
    ],
)
def test_a_wrong_setting_is_said_with_its_arm(section: str, settings: dict[str, Any], message: str) -> None:
    arm = find_arms(["x"], {"x": {"method": "kd", section: settings}})["x"]
    with pytest.raises(ConfigError, match=message):
        _ = arm.student_config(Config()) if section == "student" else arm.teacher_config(Config())

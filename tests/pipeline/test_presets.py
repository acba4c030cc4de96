"""Presets: which one a log has, and that each of them is a configuration."""

from __future__ import annotations

import pytest

from models.methods import METHODS
from pipeline.config import resolve
from pipeline.presets import AUTO, PRESETS, preset_for
from pipeline.settings import StudentConfig, TeacherConfig


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (1, "100k"),
        (100_000, "100k"),
        (299_999, "100k"),
        (300_000, "1m"),
        (1_000_000, "1m"),
        (9_999_999, "1m"),
        (10_000_000, "40m"),
        (4_000_000_000, "40m"),
    ],
)
def test_by_the_number_of_training_rows(rows: int, name: str) -> None:
    assert preset_for(rows) == name
    assert resolve({}).for_rows(rows) == resolve({"preset": name})


def test_one_that_is_named_stays() -> None:
    assert {resolve({"preset": "1m"}).for_rows(rows).preset for rows in (10, 10**9)} == {"1m"}


@pytest.mark.parametrize("name", PRESETS)
def test_each_makes_a_configuration(name: str) -> None:
    config, preset = resolve({"preset": name}), PRESETS[name]
    teacher = config.teacher_config()
    assert {key: getattr(teacher, key) for key in preset.teacher} == dict(preset.teacher)
    for method in METHODS:
        student = config.student_config(method)
        expected = {**preset.student, **preset.methods.get(method, {})}
        assert {key: getattr(student, key) for key in expected} == expected
    assert set(preset.methods) <= set(METHODS)


def test_the_smallest_is_what_the_dataclasses_say() -> None:
    """The help of flags shows their defaults."""
    for name in ("100k", AUTO):
        config = resolve({"preset": name})
        assert config.teacher_config() == TeacherConfig()
        assert config.student_config("kd") == StudentConfig()


def test_students_that_are_compared_differ_in_nothing_that_makes_them_larger() -> None:
    names = ("embedding_dim", "hidden", "min_count", "statistics", "seed")
    for preset in PRESETS.values():
        assert not {key for settings in preset.methods.values() for key in settings} & set(names)

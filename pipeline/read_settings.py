"""Which settings a model reads: what nothing reads is not searched, and not passed over in silence where it is given.

Whether a setting is read follows from the method, or the architecture, and from other settings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from models.methods import METHODS, Method
from pipeline.config import Config
from pipeline.settings import StudentConfig, TeacherConfig


def _is_taught(method: Method, config: StudentConfig) -> bool:
    """Whether targets are learnt; later generations learn those of the one before."""
    return method.target != "none" or config.generations > 1


def _learns_subclasses(method: Method, _: StudentConfig) -> bool:
    return method.target == "subclass"


def _is_dcn(config: TeacherConfig) -> bool:
    return "dcn" in _architectures(config)


def _architectures(config: TeacherConfig) -> list[str]:
    return [name.strip() for name in config.architecture.split(",")]


_STUDENT: tuple[tuple[tuple[str, ...], Callable[[Method, StudentConfig], bool]], ...] = (
    (("alpha", "temperature", "correction", "auxiliary_head"), _is_taught),
    (("slice_alpha", "member_gate", "gate"), lambda method, _: method.target != "none"),
    (("temper", "class_weight"), _learns_subclasses),
    (("within_weight",), lambda method, config: _learns_subclasses(method, config) and config.temper == "within"),
    (("smoothing",), lambda _, config: config.statistics),
    (("ranking_rows",), lambda _, config: config.ranking > 0),
    (("relation_rows",), lambda _, config: config.similarity > 0 or config.relations > 0),
    (("relations_temperature", "relations_negatives"), lambda _, config: config.relations > 0),
)
"""Settings of a student, and when they are read; all others always are."""

_TEACHER: tuple[tuple[tuple[str, ...], Callable[[TeacherConfig], bool]], ...] = (
    (("ensemble",), lambda config: len(_architectures(config)) > 1),
    (("cross_layers",), _is_dcn),
    (("cross_rank",), lambda config: _is_dcn(config) and config.cross_layers > 0),
    (("smoothing",), lambda config: config.statistics != "none"),
    (("aux_temperature", "aux_rows", "aux_scope"), lambda config: config.beta > 0),
    (("tolerance_scope",), lambda config: config.tolerance > 0),
    (("tolerance_classes",), lambda config: config.tolerance > 0 and config.tolerance_scope == "within"),
    (("boosted_trees", "boosted_rate", "boosted_leaves"), lambda config: config.boosted > 0),
)
"""Settings of a teacher, and when they are read; all others always are."""


def unread_by_student(method: str, config: StudentConfig) -> set[str]:
    """Names of the settings that the student of a method does not read, with these settings."""
    return {name for names, reads in _STUDENT if not reads(METHODS[method], config) for name in names}


def unread_by_teacher(config: TeacherConfig) -> set[str]:
    """Names of the settings that a teacher does not read, with these settings."""
    return {name for names, reads in _TEACHER if not reads(config) for name in names}


def warn_of_unread(config: Config, methods: Iterable[str]) -> None:
    """Says on the terminal which settings were given for one method, and are not read by its student.

    What is given for all students, or comes from a preset, is for those that read it.

    Args:
        config: of a preset that has been chosen.
        methods: of the students that are to be trained.
    """
    for method in dict.fromkeys(methods):
        unread = unread_by_student(method, config.student_config(method)) & config.own_settings(method)
        if unread:
            names = ", ".join(sorted(unread))
            text = f"A setting for one method must be one that its student reads. Received: {names} ({method})"
            print(f"warning: {text}; nothing changes with it.", file=sys.stderr, flush=True)

"""What ``tune`` searches: a distribution for each setting, around the value that would be used without tuning."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pipeline.read_settings import unread_by_student, unread_by_teacher
from pipeline.settings import StudentConfig, TeacherConfig


class Suggests(Protocol):
    """The part of an Optuna trial that draws values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number in [low, high]."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Around:
    """Log-uniform from the present value divided by a factor to the value times the factor; 0 stays 0.

    Args:
        factor: above 1.
        whole: only whole numbers, 1 or more.
    """

    factor: float
    whole: bool = False

    def draw(self, trial: Suggests, name: str, value: Any) -> float:
        """Lets the trial choose."""
        if value == 0:
            return 0.0
        low, high = value / self.factor, value * self.factor
        if self.whole:
            return trial.suggest_int(name, max(round(low), 1), round(high), log=True)
        return trial.suggest_float(name, low, high, log=True)


@dataclass(frozen=True)
class Between:
    """Uniform between two bounds, which make room for the present value.

    Args:
        low: lower bound.
        high: upper bound.
    """

    low: float
    high: float

    def draw(self, trial: Suggests, name: str, value: Any) -> float:
        """Lets the trial choose."""
        return trial.suggest_float(name, min(self.low, value), max(self.high, value))


@dataclass(frozen=True)
class Choice:
    """One of some values, or the present one.

    Args:
        values: numbers or texts.
    """

    values: tuple[float | str, ...]

    def draw(self, trial: Suggests, name: str, value: Any) -> float | str:
        """Lets the trial choose."""
        found: float | str = trial.suggest_categorical(name, list(dict.fromkeys((*self.values, value))))
        return found


Distribution = Around | Between | Choice
Space = Mapping[str, Distribution]

_TRAINING: Space = {
    "learning_rate": Around(4),
    "epochs": Around(2),
    "table_rate": Around(3),
    "embedding_dropout": Between(0.0, 0.85),
    "linear_dropout": Between(0.0, 0.6),
    "field_dropout": Between(0.0, 0.3),
    "embedding_l2": Choice((0.0, 1e-6, 1e-5, 1e-4)),
    "averaging": Choice((0.0, 0.99, 0.995, 0.999)),
}

# Subclasses and their losses are for the students: the teacher's own validation logloss says nothing on them.
_TEACHER: Space = {
    **_TRAINING,
    "min_count": Around(4, whole=True),
    "embedding_dim": Choice((4, 8, 16)),
    "cross_layers": Choice((0, 1, 2, 3)),
    "hidden": Choice(("128", "512", "256,128", "512,256", "400,400,400")),
    "dropout": Between(0.0, 0.8),
    "smoothing": Around(5),
    "crosses": Choice((0, 50, 150, 300)),
}

# What makes a student larger is left as it is.
_STUDENT: Space = {
    **_TRAINING,
    "alpha": Between(0.2, 1.0),
    "temperature": Around(3),
    "within_weight": Between(0.0, 1.0),
}


def teacher_space(config: TeacherConfig) -> Space:
    """Of a teacher with these settings, without what it does not read."""
    return _without(_TEACHER, unread_by_teacher(config))


def student_space(method: str, config: StudentConfig) -> Space:
    """Of a method's student with these settings, without what it does not read, and what makes a student larger.

    Args:
        method: a key of :data:`models.methods.METHODS`.
        config: the present settings; a trial has one generation.
    """
    return _without(_STUDENT, unread_by_student(method, replace(config, generations=1)))


def _without(space: Space, names: Set[str]) -> Space:
    return {name: kind for name, kind in space.items() if name not in names}


def present(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The present values of what is searched, as a trial has them: lists as text with commas."""
    return {name: _plain(settings[name]) for name in space}


def draw(space: Space, trial: Suggests, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a trial.

    Args:
        space: what to search.
        trial: chooses.
        settings: the present values.
    """
    return {name: kind.draw(trial, name, _plain(settings[name])) for name, kind in space.items()}


def _plain(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

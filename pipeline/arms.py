"""What ``compare`` compares: methods, each with what is special of its student, its teacher and the teacher's rows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from features.errors import ConfigError
from models.methods import METHODS
from pipeline.config import Config, build, plain, unknown_key
from pipeline.read_settings import unread_by_student, unread_by_teacher
from pipeline.settings import StudentConfig, TeacherConfig, require

T = TypeVar("T", StudentConfig, TeacherConfig)


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """Says of a wrong setting where it stands, if its error does not."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if where in text else f"{text.removesuffix('.')} ({where}).") from error


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Args:
        method: a key of :data:`models.methods.METHODS`.
        description: for people.
        student: what differs in the student's settings from those of the method.
        teacher: what differs in the teacher's settings from those of the run.
        own_rows: whether the teacher sees just the fraction of the rows that the student sees.
        name: by which it was asked for; errors in its settings begin with it.
    """

    method: str
    description: str = ""
    student: Mapping[str, Any] = field(default_factory=dict)
    teacher: Mapping[str, Any] = field(default_factory=dict)
    own_rows: bool = False
    name: str = ""

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher decides what comes out."""
        return METHODS[self.method].needs_targets

    def student_config(self, config: Config) -> StudentConfig:
        """The student's settings: those of the method, and the arm's."""
        return self._build(StudentConfig, config.student_config(self.method), self.student, "student")

    def teacher_config(self, config: Config) -> TeacherConfig:
        """The teacher's settings: those of the run, and the arm's."""
        return self._build(TeacherConfig, config.teacher_config(), self.teacher, "teacher")

    def _build(self, kind: type[T], common: T, own: Mapping[str, Any], section: str) -> T:
        where = f"arms.{self.name}.{section}"
        with _naming(where):
            settings: T = build(kind, {**plain(common), **own}, where)
        self._require_read(settings, common, where)
        return settings

    def _require_read(self, settings: StudentConfig | TeacherConfig, common: object, where: str) -> None:
        """An arm that differs in what nothing reads would be compared as if it were another."""
        if isinstance(settings, TeacherConfig):
            unread = unread_by_teacher(settings)
        else:
            unread = unread_by_student(self.method, settings)
        for name in sorted(unread):
            given = getattr(settings, name)
            rule = f"{name} must be left out of an arm that does not read it"
            require(given == getattr(common, name), rule, f"{given} ({where})")


_STATISTICS = {"statistics": True}
_ENSEMBLE = {"architecture": "dcn,mlp"}
_METHODS = {
    "hard": "labels alone",
    "kd": "the teacher's click probability",
    "subclass": "the teacher's subclasses",
    "hard_k": "labels alone, with a head as wide as the teacher's",
    "kd_k": "the teacher's click probability, with a head as wide as the teacher's",
    "random": "the teacher's click probability, and subclasses without meaning",
    "lelp": "pseudo-subclasses: directions of the teacher's embeddings",
    "centroids": "pseudo-subclasses: nearness to the centres of the teacher's subclasses",
}

ARMS = {
    **{name: Arm(name, text) for name, text in _METHODS.items()},
    "hard+stats": Arm("hard", "labels, and click statistics in the student", student=_STATISTICS),
    "kd+stats": Arm("kd", "click probability, and click statistics in the student", student=_STATISTICS),
    "subclass+stats": Arm("subclass", "subclasses, and click statistics in the student", student=_STATISTICS),
    "kd+folds": Arm("kd", "click probability of five cross-fitted teachers", teacher={"folds": 5}),
    "subclass+folds": Arm("subclass", "aligned subclasses of five cross-fitted teachers", teacher={"folds": 5}),
    "kd+own": Arm("kd", "a teacher that has seen the student's rows only", own_rows=True),
    "subclass+own": Arm("subclass", "a teacher that has seen the student's rows only", own_rows=True),
    "kd+correction": Arm("kd", "targets corrected towards the labels (BoundFast)", student={"correction": 0.1}),
    "kd+auxiliary": Arm("kd", "targets on a head of their own", student={"auxiliary_head": True, "alpha": 0.5}),
    "subclass+auxiliary": Arm(
        "subclass", "subclasses on a head of their own", student={"auxiliary_head": True, "alpha": 0.5}
    ),
    "kd+slices": Arm("kd", "with less teacher where it has less skill", student={"slice_alpha": True}),
    "kd+ensemble": Arm("kd", "of a teacher of two networks", teacher=_ENSEMBLE),
    "kd+gated": Arm(
        "kd", "of the two networks of a teacher under learned weights", student={"member_gate": True}, teacher=_ENSEMBLE
    ),
    "kd+ranking": Arm("kd", "with the distilled pairwise ranking loss", student={"ranking": 0.1}),
    "kd+similarity": Arm("kd", "with similarities of the teacher's embeddings", student={"similarity": 30.0}),
    "kd+relations": Arm("kd", "with relationship matching on the teacher's embeddings", student={"relations": 20.0}),
    "subclass+reused": Arm("subclass", "on the teacher's classifier, with matched embeddings", student={"reused": 0.1}),
    "within": Arm("subclass", "labels and conditionals alone", student={"class_weight": 0.0, "alpha": 0.5}),
    "kd-headless": Arm("kd", "of a teacher without subclasses", teacher={"subclasses": 1}),
    "subclass-beta0": Arm("subclass", "of a teacher without auxiliary loss", teacher={"beta": 0.0}),
    "subclass+tolerant": Arm("subclass", "of a tolerant teacher", teacher={"tolerance": 0.1}),
    "kd+tolerant-class": Arm(
        "kd",
        "of a teacher with the published tolerance term",
        teacher={"tolerance": 0.02, "tolerance_scope": "class"},
    ),
}
"""The arms that need no file."""


def find_arms(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, Arm]:
    """Arms by name: those of a file of settings, else the built-in ones.

    Args:
        names: of the arms.
        given: the section ``arms`` of a file of settings: plain values of :class:`Arm` by name.

    Raises:
        ConfigError: an arm is unknown or not well-formed.
    """
    own = {name: _arm(name, values) for name, values in given.items()}
    known = {**ARMS, **own}
    for name in names:
        if name not in known:
            raise unknown_key(name, known, "--methods")
    return {name: dataclasses.replace(known[name], name=name) for name in names}


def _arm(name: str, values: Any) -> Arm:
    where = f"arms.{name}"
    fields = [item.name for item in dataclasses.fields(Arm) if item.name != "name"]
    if not isinstance(values, Mapping) or str(values.get("method")) not in METHODS:
        raise ConfigError(f"An arm must have a method, one of {', '.join(METHODS)}. Received: {values!r} ({where}).")
    for key in values:
        if key not in fields:
            raise unknown_key(key, fields, where)
    for section in ("student", "teacher"):
        if not isinstance(values.get(section, {}), Mapping):
            raise ConfigError(f"Section {section} must hold settings. Received: {values[section]!r} ({where}).")
    if not isinstance(values.get("own_rows", False), bool):
        raise ConfigError(f"own_rows must be true or false. Received: {values['own_rows']!r} ({where}).")
    return Arm(**values)

"""The configuration of a run: the settings of all stages, read from a YAML file and overridden by flags."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from features.errors import ConfigError
from models.methods import EMBEDDED_SOURCES, METHODS
from pipeline.presets import AUTO, PRESETS, Preset, preset_for
from pipeline.settings import (
    EMBEDDING,
    CompareConfig,
    DerivedConfig,
    PreprocessConfig,
    StudentConfig,
    TargetsConfig,
    TeacherConfig,
    one_of,
    require,
)

T = typing.TypeVar("T")

PRESET = "preset"


@dataclass(frozen=True)
class Config:
    """The settings of a run; what is not given comes from the preset, and else from the dataclasses.

    Args:
        preprocess: of the examples.
        teacher: what is given for the teacher.
        student: what is given for all students.
        methods: what is given for the student of one method.
        compare: of comparisons.
        arms: see :func:`pipeline.arms.find_arms`.
        preset: a key of :data:`pipeline.presets.PRESETS`, or ``auto``, which stands for the first of them until
            :meth:`for_rows` has chosen.
        targets: of the teacher's targets.
        derived: of targets that are made from them.
    """

    preprocess: PreprocessConfig = PreprocessConfig()
    teacher: Mapping[str, Any] = field(default_factory=dict)
    student: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    compare: CompareConfig = CompareConfig()
    arms: Mapping[str, Any] = field(default_factory=dict)
    preset: str = AUTO
    targets: TargetsConfig = TargetsConfig()
    derived: DerivedConfig = DerivedConfig()

    def for_rows(self, rows: int) -> Config:
        """The configuration for a number of training rows: ``auto`` becomes the preset for so many."""
        return dataclasses.replace(self, preset=preset_for(rows)) if self.preset == AUTO else self

    def teacher_config(self) -> TeacherConfig:
        """The settings of the teacher: defaults, preset, ``teacher``."""
        config: TeacherConfig = build(TeacherConfig, {**self._preset.teacher, **self.teacher}, "teacher")
        return config

    def student_config(self, method: str) -> StudentConfig:
        """The settings of a method's student: defaults, preset, the preset's for the method, ``student``, ``methods``.

        What the user says, for all students or for one, counts more than any preset.
        """
        preset = self._preset
        given = {**self.student, **self.methods.get(method, {})}
        values = {**preset.student, **preset.methods.get(method, {}), **given}
        config: StudentConfig = build(StudentConfig, values, f"student ({method})")
        return config

    def own_settings(self, method: str) -> set[str]:
        """Names of the settings that were given for the student of one method alone.

        Not among them is a value that it would have anyway, nor one that every method has been given: so it stands in
        the resolved settings of a run, whose methods have all settings each.
        """
        preset = {**self._preset.student, **self._preset.methods.get(method, {})}
        common = _converted({**dataclasses.asdict(StudentConfig()), **preset, **self.student})
        own = _converted(self.methods.get(method, {}))
        others = [_converted(self.methods.get(name, {})) for name in METHODS]
        return {
            name
            for name, value in own.items()
            if value != common[name] and not all(name in other and other[name] == value for other in others)
        }

    def embedding_for(self, methods: typing.Iterable[str]) -> int:
        """Floats of the embeddings to store: those of ``targets``, else some if a student of these methods needs them.

        Derived targets need them, but for the control, which is made from the logits.
        """
        needed = any(
            METHODS[method].source in EMBEDDED_SOURCES or self.student_config(method).needs_embeddings
            for method in methods
        )
        return self.targets.embedding or (EMBEDDING if needed else 0)

    @property
    def _preset(self) -> Preset:
        return PRESETS[next(iter(PRESETS)) if self.preset == AUTO else self.preset]

    def to_json(self) -> dict[str, Any]:
        """Plain values, every setting resolved."""
        return {
            "preset": self.preset,
            "preprocess": plain(self.preprocess),
            "teacher": plain(self.teacher_config()),
            "targets": plain(self.targets),
            "derived": plain(self.derived),
            "methods": {method: plain(self.student_config(method)) for method in METHODS},
        }


def _converted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Known settings of students as values of their types."""
    types = typing.get_type_hints(StudentConfig)
    return {name: convert(value, types[name], name) for name, value in values.items()}


def plain(config: Any) -> dict[str, Any]:
    """A dataclass of settings as plain JSON values."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()
    }


def of_training(config: StudentConfig) -> dict[str, Any]:
    """The settings of a student that its weights follow from, as plain JSON values."""
    return {key: value for key, value in plain(config).items() if key not in ("gate", "served")}


def narrow(config: Any, kind: type[T]) -> T:
    """The settings that a model's own dataclass has too, as that dataclass."""
    names = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(config, name) for name in names})


def build(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """Makes a dataclass of settings from plain values.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value of the wrong type.
    """
    types = typing.get_type_hints(kind)
    known = {item.name for item in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise unknown_key(key, known, where)
    return kind(**{key: convert(value, types[key], f"{where}, {key}") for key, value in values.items()})


def unknown_key(key: str, known: typing.Iterable[str], where: str) -> ConfigError:
    """The error for an unknown key."""
    near = difflib.get_close_matches(str(key), sorted(known), 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return ConfigError(f"A setting must be one of {', '.join(sorted(known))}. Received: {key} ({where}).{hint}")


def convert(value: Any, kind: Any, where: str) -> Any:
    """A plain value as the type of a setting; text is read as on the command line."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind == tuple[int, ...]:
            items = value.split(",") if isinstance(value, str) else value
            return tuple(int(item) for item in items if str(item).strip())
        if kind in (int, float) and isinstance(value, bool):
            raise ValueError("not a number")
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError("not whole")
        if kind is float and not math.isfinite(float(value)):
            raise ValueError("not finite")
        if kind is str and not isinstance(value, str | int | float):
            raise ValueError("not a text")
        return kind(value)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        name = "whole numbers with commas" if kind == tuple[int, ...] else kind.__name__
        raise ConfigError(f"A setting must be of type {name}. Received: {value!r} ({where}).") from error


def load(path: str | None) -> dict[str, Any]:
    """Reads the preset and the sections of a YAML file; no path, no settings.

    Raises:
        ConfigError: the file is not YAML, or has an unknown section.
    """
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            value = yaml.safe_load(file) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config must be a readable YAML file. Received: {path} ({reason}).") from error
    require(isinstance(value, dict), "--config must hold sections of settings", f"{value!r} ({path})")
    sections = {item.name for item in dataclasses.fields(Config)}
    loaded: dict[str, Any] = {}
    for key, section in value.items():
        if key not in sections:
            raise unknown_key(key, sections, path)
        if key == PRESET:
            # YAML has texts without quotes: 40m is one, and what else may stand here is for `resolve` to refuse.
            loaded[key] = str(section)
            continue
        require(isinstance(section or {}, dict), f"Section {key} must hold settings", f"{section!r} ({path})")
        loaded[key] = dict(section or {})
    for method, section in loaded.get("methods", {}).items():
        require(
            isinstance(section or {}, dict), f"Section methods.{method} must hold settings", f"{section!r} ({path})"
        )
        loaded["methods"][method] = dict(section or {})
    return loaded


def resolve(sections: Mapping[str, Any]) -> Config:
    """Makes the configuration from a preset and sections of plain values.

    Raises:
        ConfigError: see :func:`build`.
    """
    methods = sections.get("methods", {})
    for method, values in methods.items():
        if method not in METHODS:
            raise unknown_key(method, METHODS, "methods")
        require(isinstance(values or {}, Mapping), f"Section methods.{method} must hold settings", repr(values))
    preset = sections.get(PRESET, AUTO)
    one_of(PRESET, preset, (AUTO, *PRESETS))
    config = Config(
        build(PreprocessConfig, sections.get("preprocess", {}), "preprocess"),
        dict(sections.get("teacher", {})),
        dict(sections.get("student", {})),
        {method: dict(values or {}) for method, values in methods.items()},
        build(CompareConfig, sections.get("compare", {}), "compare"),
        # YAML has names that are no texts, such as 3 or off.
        {str(name): values for name, values in sections.get("arms", {}).items()},
        preset,
        build(TargetsConfig, sections.get("targets", {}), "targets"),
        build(DerivedConfig, sections.get("derived", {}), "derived"),
    )
    config.teacher_config()
    for method in METHODS:
        config.student_config(method)
    return config

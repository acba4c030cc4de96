"""Settings: one frozen dataclass a stage, read from a YAML file and overridden by flags."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from features.crosses import ID_BITS
from features.errors import ConfigError
from features.hashing import FOLDS
from features.layouts import LAYOUTS
from models.methods import METHODS
from pipeline.presets import AUTO, PRESETS, Preset, preset_for

T = typing.TypeVar("T")

PRESET = "preset"


def setting(default: Any, text: str) -> Any:
    """A dataclass field with a default and a help text."""
    return field(default=default, metadata={"help": text})


def require(condition: bool, rule: str, received: Any) -> None:
    """Raises a ConfigError unless the condition holds."""
    if not condition:
        raise ConfigError(f"{rule}. Received: {received}.")


def one_of(name: str, received: str, allowed: Sequence[str]) -> None:
    """Raises a ConfigError unless a setting has one of the allowed values."""
    require(received in allowed, f"{name} must be one of {', '.join(allowed)}", received)


def share(text: str, name: str) -> float:
    """A share in [0, 1] from text such as ``1%`` or ``0.01``.

    Raises:
        ConfigError: it is no such text.
    """
    stripped = text.strip()
    try:
        value = float(stripped.removesuffix("%")) / (100 if stripped.endswith("%") else 1)
    except ValueError:
        value = -1.0
    require(0 <= value <= 1, f"{name} must be a share such as 1% or 0.01", text)
    return value


@dataclass(frozen=True)
class PreprocessConfig:
    """Settings of ``preprocess``."""

    split: str = setting(
        "70/15/15",
        "train/valid/test: shares of the bytes or numbers of lines in the order of the log, files:N/N/N, "
        "hash:COLUMN:70/15/15 or time:VALID_FROM/TEST_FROM",
    )
    max_rejects: str = setting("1%", "share of bad lines above which the job fails")
    shard_mb: int = setting(64, "largest part of a log that becomes one shard, in MiB")
    min_count: int = setting(1, "training rows below which a value is not in the vocabulary")
    max_vocabulary: int = setting(500_000, "largest number of values of a column's vocabulary")
    oov_buckets: int = setting(0, "hash buckets of a column for values outside its vocabulary; 0: one id for all")
    negative_rate: float = setting(1.0, "share of the rows without click that the log has kept")
    layout: str = setting("blocks", "blocks: a record for thousands of rows; rows: an Example a row, for other tools")
    seed: int = setting(0, "of the folds and of the order of rows")

    def __post_init__(self) -> None:
        require(0 <= self.oov_buckets <= 1 << 20, "--oov-buckets must be at least 0 and at most 2^20", self.oov_buckets)
        require(0 < self.negative_rate <= 1, "--negative-rate must be above 0 and at most 1", self.negative_rate)
        require(self.layout in LAYOUTS, "--layout must be blocks or rows", self.layout)
        require(self.shard_mb > 0, "--shard-mb must be positive", self.shard_mb)
        require(self.min_count > 0, "--min-count must be positive", self.min_count)
        require(
            0 < self.max_vocabulary < 1 << ID_BITS - 1,
            f"--max-vocabulary must be positive and below {1 << ID_BITS - 1}",
            self.max_vocabulary,
        )
        _ = self.reject_limit

    @property
    def reject_limit(self) -> float:
        """``max_rejects`` as a share in [0, 1]."""
        return share(self.max_rejects, "--max-rejects")


@dataclass(frozen=True)
class TrainingConfig:
    """What teacher and student have in common."""

    min_count: int = setting(4, "training rows below which values share one embedding")
    batch_size: int = setting(1024, "rows of a training step")
    learning_rate: float = setting(6e-3, "of Adam at the first step; it falls to 0 over the epochs")
    epochs: float = setting(10.0, "most passes over the training rows")
    evaluations: int = setting(2, "evaluations on the validation rows in each epoch")
    patience: int = setting(8, "evaluations without a better validation logloss after which training stops")
    schedule: str = setting(
        "linear",
        "learning rate: linear falls to 0 over the epochs; plateau: a tenth whenever validation stops improving",
    )
    table_optimizer: str = setting("adam", "of embedding rows: adam or adagrad; other weights always have Adam")
    table_rate: float = setting(0.3, "factor on the learning rate of embedding rows")
    embedding_dropout: float = setting(0.7, "share of the embeddings' floats dropped in training")
    linear_dropout: float = setting(0.0, "share of the linear part's floats dropped in training")
    field_dropout: float = setting(0.1, "share of an example's columns dropped in training")
    embedding_l2: float = setting(0.0, "L2 penalty on the embedding rows of a batch")
    embedding_sizes: str = setting(
        "equal", "floats of an embedding: equal for all columns, or vocabulary: fewer for columns with few values"
    )
    averaging: float = setting(0.995, "decay of the moving average of the weights, a step; 0 for none")
    precision: str = setting("float32", "of hidden layers' products: float32 or bfloat16; losses are float32 always")
    seed: int = setting(0, "of the initial weights and of the order of the data")

    def __post_init__(self) -> None:
        require(0 <= self.seed < 1 << 32, "seed must be at least 0 and below 2^32", self.seed)
        require(self.batch_size > 0, "batch_size must be positive", self.batch_size)
        require(self.learning_rate > 0, "learning_rate must be positive", self.learning_rate)
        require(self.epochs > 0, "epochs must be positive", self.epochs)
        require(self.evaluations > 0, "evaluations must be positive", self.evaluations)
        require(self.min_count > 0, "min_count must be positive", self.min_count)
        require(self.patience > 0, "patience must be positive", self.patience)
        require(self.embedding_l2 >= 0, "embedding_l2 must not be negative", self.embedding_l2)
        require(self.table_rate > 0, "table_rate must be positive", self.table_rate)
        one_of("schedule", self.schedule, ("linear", "plateau"))
        one_of("table_optimizer", self.table_optimizer, ("adam", "adagrad"))
        one_of("embedding_sizes", self.embedding_sizes, ("equal", "vocabulary"))
        one_of("precision", self.precision, ("float32", "bfloat16"))
        for name in ("embedding_dropout", "linear_dropout", "field_dropout", "averaging"):
            require(0 <= getattr(self, name) < 1, f"{name} must be in [0, 1)", getattr(self, name))


@dataclass(frozen=True)
class TeacherConfig(TrainingConfig):
    """Settings of ``train-teacher``."""

    learning_rate: float = setting(2e-3, "of Adam at the first step; it falls to 0 over the epochs")
    batch_size: int = setting(2048, "rows of a training step")
    epochs: float = setting(11.0, "most passes over the training rows")
    embedding_dropout: float = setting(0.75, "share of the embeddings' floats dropped in training")
    linear_dropout: float = setting(0.3, "share of the linear part's floats dropped in training")
    field_dropout: float = setting(0.0, "share of an example's columns dropped in training")
    embedding_l2: float = setting(1e-5, "L2 penalty on the embedding rows of a batch")
    architecture: str = setting(
        "dcn", "mlp, dcn, dlrm or finalmlp; several with commas are one teacher, trained together"
    )
    ensemble: str = setting("mean", "logits of several architectures: their mean, or gated by the inputs")
    subclasses: int = setting(5, "subclasses S of each class; the head has K = 2 S logits")
    embedding_dim: int = setting(4, "floats of an embedding")
    cross_layers: int = setting(1, "DCN-v2 cross layers")
    cross_rank: int = setting(32, "rank of a cross layer's matrix; 0 for full rank")
    hidden: tuple[int, ...] = setting((512,), "widths of the hidden layers")
    dropout: float = setting(0.7, "share of the hidden units dropped in training")
    statistics: str = setting(
        "folds",
        "click statistics of the categorical values as inputs: none; folds: of all other folds; time: of "
        "earlier shards only",
    )
    smoothing: float = setting(20.0, "rows of the base rate that are added to a value's clicks")
    crosses: int = setting(150, "pairs of columns whose out-of-fold click statistics are inputs too")
    beta: float = setting(0.003, "weight of the auxiliary loss")
    aux_temperature: float = setting(1.0, "temperature of the auxiliary loss")
    aux_rows: int = setting(512, "rows of a batch that the auxiliary loss looks at")
    folds: int = setting(0, "cross-fitting: teachers, each trained without a part of the rows; 0 for none")
    label: str = setting("", "column of kind outcome that the teacher learns; empty for the label itself")
    boosted: float = setting(0.0, "weight of gradient-boosted trees in the teacher's click logit; 0 for none")
    boosted_trees: int = setting(2000, "most trees; boosting stops on validation rows")
    boosted_rate: float = setting(0.03, "learning rate of the trees")
    boosted_leaves: int = setting(31, "leaves of a tree")

    def __post_init__(self) -> None:
        super().__post_init__()
        architectures = [name.strip() for name in self.architecture.split(",")]
        for name in architectures:
            one_of("architecture", name, ("mlp", "dcn", "dlrm", "finalmlp"))
        require(
            "dlrm" not in architectures or self.embedding_sizes == "equal",
            "embedding_sizes must be equal for dlrm",
            self.embedding_sizes,
        )
        one_of("ensemble", self.ensemble, ("mean", "gated"))
        one_of("statistics", self.statistics, ("none", "folds", "time"))
        require(0 <= self.boosted <= 1, "boosted must be in [0, 1]", self.boosted)
        require(self.boosted_trees > 0, "boosted_trees must be positive", self.boosted_trees)
        require(0 < self.boosted_rate <= 1, "boosted_rate must be above 0 and at most 1", self.boosted_rate)
        require(self.boosted_leaves > 1, "boosted_leaves must be at least 2", self.boosted_leaves)
        require(self.crosses >= 0, "crosses must not be negative", self.crosses)
        require(self.subclasses > 0, "subclasses must be positive", self.subclasses)
        require(self.embedding_dim > 0, "embedding_dim must be positive", self.embedding_dim)
        require(self.cross_layers >= 0, "cross_layers must not be negative", self.cross_layers)
        require(self.cross_rank >= 0, "cross_rank must not be negative", self.cross_rank)
        require(all(width > 0 for width in self.hidden), "hidden must be positive widths", self.hidden)
        crossed = set(architectures) == {"dcn"} and self.cross_layers > 0
        require(bool(self.hidden) or crossed, "hidden must not be empty without cross layers", "no layer")
        require(0 <= self.dropout < 1, "dropout must be in [0, 1)", self.dropout)
        require(self.beta >= 0, "beta must not be negative", self.beta)
        require(self.aux_temperature > 0, "aux_temperature must be positive", self.aux_temperature)
        require(self.aux_rows > 1, "aux_rows must be at least 2", self.aux_rows)
        require(
            self.folds == 0 or (self.folds > 1 and FOLDS % self.folds == 0),
            f"folds must be 0 or divide {FOLDS}",
            self.folds,
        )


@dataclass(frozen=True)
class StudentConfig(TrainingConfig):
    """Settings of ``distill``, for one method."""

    embedding_dim: int = setting(4, "floats of an embedding")
    hidden: int = setting(32, "width of the hidden layer; 0 for none")
    statistics: bool = setting(False, "click statistics of the values as two more floats in the student's table")
    smoothing: float = setting(20.0, "rows of the base rate that are added to a value's clicks")
    generations: int = setting(1, "students in a row, each the teacher of the next")
    alpha: float = setting(0.8, "weight of the teacher's targets; the labels weigh 1 - alpha")
    temperature: float = setting(1.0, "temperature T of the targets")
    temper: str = setting("within", "joint: temper all subclasses (the paper); within: only those of a class")
    within_weight: float = setting(0.3, "weight of the within-class part; with temper = joint there is no such part")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.embedding_dim > 0, "embedding_dim must be positive", self.embedding_dim)
        require(self.hidden >= 0, "hidden must not be negative", self.hidden)
        require(self.generations > 0, "generations must be positive", self.generations)
        require(self.within_weight >= 0, "within_weight must not be negative", self.within_weight)
        require(0 <= self.alpha <= 1, "alpha must be in [0, 1]", self.alpha)
        require(self.temperature > 0, "temperature must be positive", self.temperature)
        require(self.temper in ("joint", "within"), "temper must be joint or within", self.temper)


@dataclass(frozen=True)
class Config:
    """The settings of a run; what is not given comes from the preset, and else from the dataclasses.

    Args:
        preprocess: of the examples.
        teacher: what is given for the teacher.
        student: what is given for all students.
        methods: what is given for the student of one method.
        preset: a key of :data:`pipeline.presets.PRESETS`, or ``auto``, which stands for the first of them until
            :meth:`for_rows` has chosen.
    """

    preprocess: PreprocessConfig = PreprocessConfig()
    teacher: Mapping[str, Any] = field(default_factory=dict)
    student: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preset: str = AUTO

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

    @property
    def _preset(self) -> Preset:
        return PRESETS[next(iter(PRESETS)) if self.preset == AUTO else self.preset]

    def to_json(self) -> dict[str, Any]:
        """Plain values, every setting resolved."""
        return {
            "preset": self.preset,
            "preprocess": plain(self.preprocess),
            "teacher": plain(self.teacher_config()),
            "methods": {method: plain(self.student_config(method)) for method in METHODS},
        }


def plain(config: Any) -> dict[str, Any]:
    """A dataclass of settings as plain JSON values."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()
    }


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
        preset,
    )
    config.teacher_config()
    for method in METHODS:
        config.student_config(method)
    return config

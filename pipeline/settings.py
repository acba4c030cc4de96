"""The settings of each stage: one frozen dataclass a stage, whose fields carry their help texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from features.crosses import ID_BITS
from features.errors import ConfigError
from features.hashing import FOLDS
from features.layouts import LAYOUTS


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
    aux_scope: str = setting("joint", "auxiliary loss of all logits (joint, the paper) or class by class (within)")
    tolerance: float = setting(0.0, "weight of the tolerance term of 1805.05551, which keeps second choices alive")
    tolerance_scope: str = setting(
        "within",
        "tolerance among the subclasses of a class (within) or among the two classes (class, the published form)",
    )
    tolerance_classes: int = setting(2, "M of the tolerance term: the most probable subclasses that it compares")
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
        one_of("aux_scope", self.aux_scope, ("joint", "within"))
        require(self.tolerance >= 0, "tolerance must not be negative", self.tolerance)
        one_of("tolerance_scope", self.tolerance_scope, ("within", "class"))
        most = max(self.subclasses, 2)
        require(
            2 <= self.tolerance_classes <= most,
            f"tolerance_classes must be at least 2 and at most the {most} subclasses",
            self.tolerance_classes,
        )
        require(
            self.folds == 0 or (self.folds > 1 and FOLDS % self.folds == 0),
            f"folds must be 0 or divide {FOLDS}",
            self.folds,
        )


EMBEDDING = 32
"""Floats of the embeddings that `run` stores where a student needs them and nothing is said of their number."""


@dataclass(frozen=True)
class TargetsConfig:
    """Settings of ``precompute``."""

    embedding: int = setting(
        0, "floats of the teacher's embeddings that are stored with its logits; 0 for none (cross-fitted teachers)"
    )

    def __post_init__(self) -> None:
        require(self.embedding >= 0, "embedding must not be negative", self.embedding)


SERVED = ("float32", "float16", "int8")
"""Precisions of the embedding rows in an exported model."""


@dataclass(frozen=True)
class DerivedConfig:
    """Settings of ``derive``."""

    pseudo_subclasses: int = setting(5, "lelp: pseudo-subclasses of each class, at most 2 less than the embedding")
    lelp_temperature: float = setting(1.0, "lelp: temperature of the pseudo-subclasses; above 1 they are less sharp")
    centroid_temperature: float = setting(1.0, "centroids: temperature of the nearness to the centres")
    seed: int = setting(0, "lelp: of the rotations; random: of the order of the subclasses")

    def __post_init__(self) -> None:
        require(self.pseudo_subclasses > 0, "pseudo_subclasses must be positive", self.pseudo_subclasses)
        require(self.lelp_temperature > 0, "lelp_temperature must be positive", self.lelp_temperature)
        require(self.centroid_temperature > 0, "centroid_temperature must be positive", self.centroid_temperature)
        require(0 <= self.seed < 1 << 32, "seed must be at least 0 and below 2^32", self.seed)


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
    class_weight: float = setting(1.0, "weight of the class part of subclass targets; with temper = joint it must be 1")
    correction: float = setting(
        0.0,
        "c of the loss correction BoundFast (2104.09732): targets move to labels they disagree little with; 0: none",
    )
    auxiliary_head: bool = setting(
        False, "a head of its own for the targets, so that the teacher's bias stays out of the click logit (2408.14678)"
    )
    member_gate: bool = setting(
        False,
        "kd from the networks of a teacher that has several, under learned weights in place of their mean (2011.04106)",
    )
    slice_alpha: bool = setting(
        False,
        "less alpha where the teacher has less skill on validation rows, by how often a row's rarest value is among "
        "the training rows (2106.10494)",
    )
    ranking: float = setting(0.0, "weight of the distilled pairwise ranking loss (2005.10419)")
    ranking_rows: int = setting(256, "rows of a batch whose pairs the ranking loss looks at")
    similarity: float = setting(0.0, "weight of the similarity-preserving loss (1907.09682); needs embeddings")
    relations: float = setting(0.0, "weight of relationship matching (2205.01915); needs embeddings")
    relations_temperature: float = setting(4.0, "temperature of relationship matching")
    relations_negatives: int = setting(8, "other rows that each pair of relationship matching is compared with")
    relation_rows: int = setting(256, "rows of a batch that similarity and relationship matching look at")
    reused: float = setting(0.0, "weight of the match with the teacher's embedding, below its classifier (2203.14001)")
    served: str = setting("int8", "embedding rows in the exported model: float32, float16 or int8")
    gate: str = setting(
        "refuse",
        "what happens if the teacher is clearly worse than a finished student of method hard: refuse, warn, or off",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.embedding_dim > 0, "embedding_dim must be positive", self.embedding_dim)
        require(self.hidden >= 0, "hidden must not be negative", self.hidden)
        require(self.generations > 0, "generations must be positive", self.generations)
        require(self.within_weight >= 0, "within_weight must not be negative", self.within_weight)
        require(0 <= self.alpha <= 1, "alpha must be in [0, 1]", self.alpha)
        require(self.temperature > 0, "temperature must be positive", self.temperature)
        require(self.temper in ("joint", "within"), "temper must be joint or within", self.temper)
        require(
            self.temper == "within" or self.class_weight == 1,
            "class_weight must be 1 with temper = joint, which does not split",
            self.class_weight,
        )
        for name in ("class_weight", "correction", "ranking", "similarity", "relations", "reused"):
            require(getattr(self, name) >= 0, f"{name} must not be negative", getattr(self, name))
        for name in ("ranking_rows", "relation_rows"):
            require(getattr(self, name) > 1, f"{name} must be at least 2", getattr(self, name))
        require(self.relations_temperature > 0, "relations_temperature must be positive", self.relations_temperature)
        require(self.relations_negatives > 0, "relations_negatives must be positive", self.relations_negatives)
        one_of("served", self.served, SERVED)
        one_of("gate", self.gate, ("refuse", "warn", "off"))

    @property
    def needs_embeddings(self) -> bool:
        """Whether the student learns from the teacher's embeddings."""
        return bool(self.similarity or self.relations or self.reused)


@dataclass(frozen=True)
class CompareConfig:
    """Settings of ``compare``."""

    methods: str = setting(
        "hard,kd,subclass", "methods and arms, with commas: those of pipeline/arms.py and of the file"
    )
    baseline: str = setting("hard", "what each of them is compared with")
    fractions: str = setting("1", "shares of the training rows that students see, with commas, such as 3%,0.1,1")
    seeds: int = setting(5, "trainings of each method; a seed fixes teacher and student")
    teachers: int = setting(0, "different teachers among the seeds; 0: one for each seed")
    trials: int = setting(
        0, "random settings tried for each method and fraction, on the validation rows of the first seed; 0: none"
    )

    def __post_init__(self) -> None:
        require(self.seeds > 0, "seeds must be positive", self.seeds)
        require(0 <= self.teachers <= self.seeds, "teachers must be at least 0 and at most the seeds", self.teachers)
        require(self.trials >= 0, "trials must not be negative", self.trials)
        require(bool(self.names), "methods must name at least one", repr(self.methods))
        require(self.baseline in self.names, "baseline must be one of the methods", self.baseline)
        require(len(set(self.names)) == len(self.names), "methods must differ", self.methods)
        require(all(value > 0 for value in self.shares), "fractions must be above 0", self.fractions)
        require(len(set(self.shares)) == len(self.shares), "fractions must differ", self.fractions)

    @property
    def names(self) -> list[str]:
        """The arms."""
        return [name.strip() for name in self.methods.split(",") if name.strip()]

    @property
    def shares(self) -> list[float]:
        """The fractions, rising."""
        return sorted(share(text, "fractions") for text in self.fractions.split(","))

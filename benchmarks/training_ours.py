"""Our teacher and student in the training benchmark: the models and optimizers of the project, on batches in memory."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import timed
from training_batches import BATCH, CATEGORICAL, CLICKS, NUMERIC, Arrays, column_size, read_batches

from features.hashing import FOLDS
from features.numeric import BUCKETS
from features.statistics import ClickCounts
from models import training
from models.backend import tf, tfrs
from models.methods import METHODS
from models.optimizers import RowOptimizer, make_optimizer
from models.schedules import LearningRate
from models.student import Student, StudentSettings, StudentTrunk
from models.tables import FIRST_ROW, FoldTables, RowLookup, TableLayout
from models.teacher import Teacher
from models.teacher_trunk import TeacherSettings, TeacherTrunk
from pipeline.config import Config, narrow
from pipeline.settings import StudentConfig, TeacherConfig

NOTHING_DROPPED = {
    "embedding_dropout": 0.0,
    "linear_dropout": 0.0,
    "field_dropout": 0.0,
    "embedding_l2": 0.0,
    "averaging": 0.0,
    "batch_size": BATCH,
}
TEACHER = {
    **NOTHING_DROPPED,
    "dropout": 0.0,
    "architecture": "mlp",
    "hidden": (400, 400, 400),
    "embedding_dim": 16,
    "cross_layers": 0,
    "crosses": 0,
    "statistics": "none",
    "subclasses": 5,
    "beta": 0.003,
    "aux_rows": 512,
}


def layout_of(table: int, bucketed: int = NUMERIC) -> TableLayout:
    """A table of that many rows for the categorical columns; the rows of the numbers that have buckets come on top."""
    edges = tuple(np.linspace(-2, 2, BUCKETS - 1).tolist())
    return TableLayout((column_size(table) - FIRST_ROW,) * CATEGORICAL, (edges,) * bucketed)


class WithoutBuckets(RowLookup):
    """Embedding rows of categorical columns alone, as the peers have them."""

    def numeric(self, dense: tf.Tensor) -> tf.Tensor:
        """No rows for numbers: int32 [batch, 0]."""
        return tf.zeros([tf.shape(dense)[0], 0], tf.int32)


def counts_of(table: int) -> ClickCounts:
    """Counts by which every value is known in every fold; they take no memory."""
    size = column_size(table)
    ones = np.broadcast_to(np.ones((1, FOLDS), np.int64), (size * CATEGORICAL, FOLDS))
    rows = np.full(FOLDS, size)
    return ClickCounts(np.arange(CATEGORICAL) * size, ones, ones, rows, rows // 4)


def make_teacher(table: int, config: TeacherConfig, bucketed: bool = True) -> Teacher:
    """The teacher for a table; it also looks up the buckets of numbers, or sees them as numbers alone."""
    settings = narrow(config, TeacherSettings)
    layout = layout_of(table, NUMERIC if bucketed else 0)
    tables = FoldTables(layout, counts_of(table), config.smoothing, config.statistics)
    if not bucketed:
        tables.lookup = WithoutBuckets(layout)
    return Teacher(TeacherTrunk(layout, tables, None, CLICKS, settings), settings)


def make_student(table: int, config: StudentConfig) -> Student:
    """The student for a table; its method is ``subclass``."""
    settings = narrow(config, StudentSettings)
    layout = layout_of(table)
    tables = FoldTables(layout, counts_of(table), config.smoothing, "none")
    return Student(StudentTrunk(layout, CLICKS, TEACHER["subclasses"], settings), tables, METHODS["subclass"], settings)


def with_folds(arrays: Arrays) -> Arrays:
    """The arrays with a fold a row."""
    folds = np.random.default_rng(1).integers(0, FOLDS, arrays["label"].shape, np.int32)
    return {**arrays, "fold": folds}


def with_targets(arrays: Arrays) -> Arrays:
    """The arrays with a teacher's logits."""
    shape = (*arrays["label"].shape, 2 * TEACHER["subclasses"])
    return {**arrays, "targets": np.random.default_rng(2).normal(size=shape).astype(np.float32)}


def cut(arrays: Arrays, size: int) -> Arrays:
    """The same rows in batches of another size, which divides theirs."""
    return {name: values.reshape(-1, size, *values.shape[2:]) for name, values in arrays.items()}


def endless(arrays: Arrays) -> tf.data.Dataset:
    """The batches again and again, as `models.inputs` has them."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(arrays).repeat().with_options(options).prefetch(1)


class TableLeftAlone(RowOptimizer):
    """The optimizer without its work on the table: of that gradient one float is read, so that it is computed."""

    def __init__(self, learning_rate: Any) -> None:
        super().__init__(learning_rate)
        self.read = tf.Variable(0.0, trainable=False)

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates a weight, or reads of the gradient of a table."""
        if isinstance(gradient, tf.IndexedSlices):
            self.read.assign(tf.reshape(gradient.values, [-1])[0])
        else:
            super().update_step(gradient, variable)


def take_steps(model: tfrs.Model, arrays: Arrays, optimizer: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Steps of the training loop, after some that are not counted."""
    stream = endless(arrays)
    # As the loop makes the variables: in a graph the initial values of a table need less memory.
    tf.function(lambda batch: model(batch, training=False))(next(iter(stream)))
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    train = training.compile_steps(model, iter(stream))
    float(train(tf.constant(options.warm_up)))
    times = timed(lambda: float(train(tf.constant(options.steps))))
    return {"rows": options.steps * arrays["label"].shape[1], **times}


def teacher(options: argparse.Namespace) -> dict[str, Any]:
    """The teacher with an optimizer of its table, or with none (the limit)."""
    names = {"adam": "adam", "adagrad": "adagrad", "limit": "adam"}
    config = TeacherConfig(**TEACHER, table_optimizer=names[options.optimizer], precision=options.precision)
    model, rate = make_teacher(options.table, config, not options.equal), LearningRate(config.learning_rate, None)
    optimizer = TableLeftAlone(rate) if options.optimizer == "limit" else make_optimizer(config, rate)
    figures = take_steps(model, with_folds(read_batches(options.batches)), optimizer, options)
    return {**figures, "table_mb": 4 * model.trunk.members[0].embeddings.table.shape.num_elements() / 2**20}


def student(options: argparse.Namespace) -> dict[str, Any]:
    """The student that learns subclass targets: as the teacher, with nothing dropped, or with its default settings."""
    config = Config(student={} if options.defaults else NOTHING_DROPPED).student_config("subclass")
    arrays = with_targets(with_folds(read_batches(options.batches)))
    optimizer = make_optimizer(config, LearningRate(config.learning_rate, None))
    return take_steps(make_student(options.table, config), cut(arrays, config.batch_size), optimizer, options)

"""What students become of good and bad targets: memorised ones, shifted ones, and subclasses in another order.

Rows have two columns with some values, and the log-odds of a click are the sum of an effect of each, so a student
without hidden layer can express the truth. Students are judged against it on all pairs of values, each counted once.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, log_softmax

from features.statistics import ClickCounts
from features.vocabulary import FIRST_VALUE
from models.alignment import agreement, align
from models.backend import keras, tf
from models.heads import click_logit
from models.inputs import Batch
from models.methods import METHODS
from models.student import Student, StudentSettings, StudentTrunk
from models.tables import FoldTables, TableLayout
from models.training import start
from pipeline.config import narrow
from pipeline.settings import StudentConfig

VALUES = 16
LAYOUT = TableLayout((VALUES, VALUES), ((),))
STEPS = 100
S = 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Rows of a log whose truth is known.

    Args:
        values: int64 [rows, 2].
        truth: float64 [rows], log-odds of a click.
        labels: bool [rows].
    """

    values: npt.NDArray[np.int64]
    truth: Floats
    labels: npt.NDArray[np.bool_]

    def batch(self, targets: Floats | None) -> Batch:
        """All of them, with a teacher's logits."""
        batch = {
            "ids": tf.constant(self.values + FIRST_VALUE, tf.int32),
            "dense": tf.zeros([len(self.values), 1]),
            "fold": tf.constant(np.arange(len(self.values)) % 10, tf.int32),
            "label": tf.constant(self.labels, tf.float32),
        }
        return batch if targets is None else {**batch, "targets": tf.constant(targets, tf.float32)}


EFFECTS = np.random.default_rng(100).normal(0, 0.8, (2, VALUES))


def truth_of(values: npt.NDArray[np.int64]) -> Floats:
    logits: Floats = EFFECTS[0][values[:, 0]] + EFFECTS[1][values[:, 1]] - 1.2
    return logits


def draw(rows: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    values = rng.integers(VALUES, size=(rows, 2))
    truth = truth_of(values)
    return Rows(values, truth, rng.random(rows) < expit(truth))


def every_pair() -> Rows:
    values = np.indices((VALUES, VALUES)).reshape(2, -1).T
    return Rows(values, truth_of(values), np.zeros(len(values), np.bool_))


def counts_of(rows: Rows) -> ClickCounts:
    """Every value is known in all folds; students without statistics read nothing else of it."""
    ids = 2 * (VALUES + FIRST_VALUE)
    ones = np.ones((ids, 10), np.int64)
    return ClickCounts(np.array([0, ids // 2]), ones, ones // 2, np.full(10, len(rows.labels)), np.full(10, 1))


def logits_of(rows: Rows, method: str, targets: Floats | None, auxiliary: int = 0, **settings: Any) -> Floats:
    """Trains a student on rows; its subclass logits for every pair of values."""
    start(0)
    config = StudentConfig(hidden=0, embedding_dim=2, embedding_dropout=0.0, field_dropout=0.0, averaging=0.0)
    chosen = dataclasses.replace(narrow(config, StudentSettings), **settings)
    subclasses = S if METHODS[method].wide_head else 1
    trunk = StudentTrunk(LAYOUT, float(rows.labels.mean()), subclasses, chosen)
    tables = FoldTables(LAYOUT, counts_of(rows), 5.0, "none", kept_only=True)
    student = Student(trunk, tables, METHODS[method], chosen, auxiliary)
    batch = rows.batch(targets)
    student(batch)
    student.compile(optimizer=keras.optimizers.Adam(0.05, jit_compile=False))
    step = tf.function(student.train_step)
    for _ in range(STEPS):
        step(batch)
    z: Floats = student(every_pair().batch(None)).numpy().astype(np.float64)
    return z


def clicks(z: Floats) -> Floats:
    logits: Floats = click_logit(tf.constant(z)).numpy().astype(np.float64)
    return logits


def excess(z: Floats) -> float:
    """Mean KL(p*, p): the logloss on fresh rows that is lost for not knowing the truth."""
    logits, truth = clicks(z), every_pair().truth
    p = expit(truth)
    return float((np.logaddexp(0, logits) - p * logits - np.logaddexp(0, truth) + p * truth).mean())


def pcoc(z: Floats) -> float:
    return float(expit(clicks(z)).mean() / expit(every_pair().truth).mean())


def as_targets(click_logits: Floats) -> Floats:
    """Subclass logits of a teacher with one subclass a class."""
    return np.stack([np.zeros_like(click_logits), click_logits], axis=1)


def out_of_fold(rows: Rows, seed: int) -> Floats:
    """What a teacher says of rows that it has not seen: the truth with some noise."""
    return rows.truth + np.random.default_rng(seed).normal(0, 0.3, len(rows.truth))


def by_heart(rows: Rows, seed: int) -> Floats:
    """The same of rows whose labels it has learned by heart: their log-odds have moved towards them."""
    return out_of_fold(rows, seed) + np.where(rows.labels, 2.0, -2.0)


def test_a_memorising_teacher_does_harm_and_cross_fitting_repairs_it() -> None:
    """Averaged over labels, p moved along the log-odds is no longer p*: sure teachers make sure students."""
    rows = draw(6000, 0)
    hard = excess(logits_of(rows, "hard", None))
    in_sample = excess(logits_of(rows, "kd", as_targets(by_heart(rows, 0)), alpha=0.8))
    crossed = excess(logits_of(rows, "kd", as_targets(out_of_fold(rows, 0)), alpha=0.8))
    assert crossed < 0.6 * hard < hard < 0.7 * in_sample


def test_a_teacher_that_repeats_the_labels_does_no_harm_and_no_good() -> None:
    """p = .9 y + .1 p* is p* on average: such targets are labels, and the student is that of the labels."""
    rows = draw(3000, 2)
    p = 0.9 * rows.labels + 0.1 * expit(rows.truth)
    repeated = excess(logits_of(rows, "kd", as_targets(np.log(p / (1 - p))), alpha=1.0))
    hard = excess(logits_of(rows, "hard", None))
    crossed = excess(logits_of(rows, "kd", as_targets(out_of_fold(rows, 2)), alpha=1.0))
    assert crossed < 0.3 * repeated and 0.7 * hard < repeated < hard


@pytest.mark.parametrize("method", ["kd", "subclass"])
def test_a_biased_teacher_moves_the_clicks_but_not_with_an_auxiliary_head(method: str) -> None:
    rows = draw(3000, 3)
    wide = S if METHODS[method].wide_head else 1
    found = {}
    for shift in (0.0, 0.7):
        # The class block as a whole moves.
        z = np.repeat(as_targets(rows.truth + shift), wide, axis=1)
        for auxiliary in (0, wide):
            student = logits_of(rows, method, z, alpha=0.5, auxiliary=auxiliary)
            found[shift, bool(auxiliary)] = pcoc(student)
    assert found[0.7, False] / found[0.0, False] > 1.15
    assert found[0.7, True] == pytest.approx(found[0.0, True], rel=0.01)
    assert found[0.7, True] == pytest.approx(1, abs=0.1)


def test_aligned_subclasses_of_two_teachers_teach_what_one_teacher_would() -> None:
    """Two teachers mean the same by their subclasses, in another order; each has scored half of the rows."""
    rows, pairs, order = draw(3000, 4), every_pair(), np.array([1, 2, 0, 5, 3, 4])
    effects = np.random.default_rng(5).normal(0, 2, (VALUES, 2, S))

    def said(values: npt.NDArray[np.int64], truth: Floats) -> Floats:
        conditionals = log_softmax(effects[values[:, 0]], axis=2)
        conditionals[:, 1] += truth[:, np.newaxis]
        z: Floats = conditionals.reshape(len(values), 2 * S)
        return z

    one = said(rows.values, rows.truth)
    mixed = np.where(np.arange(3000)[:, np.newaxis] % 2, one, one[:, order])
    shared = said(pairs.values, pairs.truth)
    found = align(shared, shared[:, order])
    aligned = np.where(np.arange(3000)[:, np.newaxis] % 2, one, one[:, order][:, found])
    students = {
        name: logits_of(rows, "subclass", z, alpha=0.8, within_weight=1.0)
        for name, z in (("mixed", mixed), ("aligned", aligned))
    }
    itself = agreement(shared, shared)
    assert agreement(shared, students["aligned"]) > 0.95 * itself
    assert agreement(shared, students["mixed"]) < 0.75 * itself
    assert excess(students["aligned"]) == pytest.approx(excess(students["mixed"]), abs=0.003)

"""The student: paired initial weights, its loss by method, and rows without training before export."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from features.statistics import NO_FOLD, ClickCounts
from models.backend import keras, tf
from models.corrections import corrected
from models.heads import ReusedHead, click_logit, within_class_log_probabilities
from models.losses import distillation_loss, mean_loss, student_loss
from models.methods import METHODS
from models.ranking import ranking_loss
from models.student import Student, StudentSettings, StudentTrunk, mean_click_logit, tie_untrained
from models.student_terms import RowAlphas
from models.tables import FoldTables, TableLayout
from models.training import start
from pipeline.config import narrow
from pipeline.settings import StudentConfig

# Two categorical columns with 2 and 1 kept values, two numeric ones with 2 and no edges.
LAYOUT = TableLayout((2, 1), ((-0.5, 0.5), ()))
IDS = (5, 4)
STARTS = np.array([0, 5])
S = 3


def make_counts() -> ClickCounts:
    """All values known in several folds, but value 3 of the first column in fold 6 only."""
    counts = np.full((sum(IDS), 10), 2)
    counts[1] = counts[5 + 1] = 0  # unseen
    counts[3] = np.where(np.arange(10) == 6, 20, 0)
    return ClickCounts(STARTS, counts, counts // 2, np.full(10, 10), np.full(10, 4))


def make_settings(**values: Any) -> StudentSettings:
    return dataclasses.replace(narrow(StudentConfig(), StudentSettings), **values)


def make_trunk(subclasses: int, **values: Any) -> StudentTrunk:
    return StudentTrunk(LAYOUT, 0.25, subclasses, make_settings(**values))


def make_student(method: str, **values: Any) -> Student:
    """A student with variables."""
    trunk = make_trunk(S if METHODS[method].wide_head else 1, **values)
    tables = FoldTables(LAYOUT, make_counts(), 5.0, kept_only=True)
    student = Student(trunk, tables, METHODS[method], make_settings(**values))
    student(make_batch(1))
    return student


def make_batch(rows: int, seed: int = 0) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, 2)).astype(np.float32)
    dense[rng.random((rows, 2)) < 0.2] = np.nan
    return {
        "ids": tf.constant(np.stack([rng.integers(size, size=rows) for size in IDS], axis=1), tf.int32),
        "dense": tf.constant(dense),
        "fold": tf.constant(rng.integers(10, size=rows), tf.int32),
        "label": tf.constant(rng.integers(2, size=rows), tf.float32),
        "targets": tf.constant(rng.normal(size=(rows, 2 * S)), tf.float32),
    }


def weights(student: Student) -> dict[str, np.ndarray]:
    return {variable.name: variable.numpy() for variable in student.trainable_variables}


def randomise(student: Student) -> None:
    rng = np.random.default_rng(1)
    for variable in student.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.3, variable.shape).astype(np.float32))


@pytest.mark.parametrize("statistics", [False, True])
def test_all_methods_start_from_the_same_trunk(statistics: bool) -> None:
    found = {}
    for number, method in enumerate(METHODS):
        start(number)  # what ran before and the global seed play no part
        found[method] = weights(make_student(method, statistics=statistics, seed=7))
    head = {name for name in found["hard"] if "head" in name}
    assert len(head) == 2
    for method, values in found.items():
        peer = found["subclass" if METHODS[method].wide_head else "hard"]
        assert values.keys() == peer.keys() == found["hard"].keys()
        for name, value in values.items():
            np.testing.assert_array_equal(value, peer[name])
            if name not in head:
                np.testing.assert_array_equal(value, found["hard"][name])


def test_another_seed_gives_another_trunk() -> None:
    one, other = (weights(make_student("hard", seed=seed)) for seed in (0, 1))
    for name in one:
        if "bias" not in name and "linear" not in name:
            assert (one[name] != other[name]).any(), name


@pytest.mark.parametrize("method", METHODS)
def test_number_of_logits(method: str) -> None:
    z = make_student(method)(make_batch(6))
    assert z.shape == (6, 2 * S if METHODS[method].wide_head else 2)
    assert z.dtype == tf.float32
    assert np.isfinite(z).all()


@pytest.mark.parametrize("rows", [0, 1])
def test_small_batches(rows: int) -> None:
    assert make_student("subclass")(make_batch(rows)).shape == (rows, 2 * S)


def test_the_head_starts_at_the_base_rate() -> None:
    z = make_student("subclass")(make_batch(200))
    np.testing.assert_allclose(tf.sigmoid(click_logit(z)).numpy().mean(), 0.25, atol=0.1)


def test_without_hidden_layer() -> None:
    student = make_student("hard", hidden=0, embedding_dim=2, statistics=False)
    (kernel,) = [
        variable for variable in student.trainable_variables if "head" in variable.name and "kernel" in variable.name
    ]
    assert kernel.shape[0] == LAYOUT.columns * 2 + 2
    assert student(make_batch(3)).shape == (3, 2)


def test_statistics_are_inputs_if_asked_for() -> None:
    # Kept values in rows of a fold, and the same rows without one.
    batch = {**make_batch(50), "ids": tf.fill([50, 2], 2)}
    other_fold = {**batch, "fold": tf.fill([50], NO_FOLD)}
    for statistics in (False, True):
        student = make_student("hard", statistics=statistics)
        randomise(student)
        same = (student(batch).numpy() == student(other_fold).numpy()).all(axis=1)
        assert not same.any() if statistics else same.all()


def test_a_value_of_one_fold_alone_is_scored_as_other_in_all() -> None:
    student = make_student("hard", statistics=False)
    randomise(student)
    base = make_batch(6)
    ids = tf.constant([[3, 2], [3, 2], [3, 2], [4, 2], [1, 2], [2, 2]])
    dense = tf.tile(base["dense"][:1], [6, 1])
    z = student({"ids": ids, "dense": dense, "fold": tf.constant([6, 5, NO_FOLD, 6, 6, 6])}).numpy()
    # Value 3 of the rows of fold 6, of other rows and of serving; a rare value, an unseen one.
    np.testing.assert_array_equal(z[:5], np.tile(z[:1], [5, 1]))
    # A value of several folds has a row of its own.
    assert (z[0] != z[5]).all()


def test_the_linear_part_moves_the_click_logit_only() -> None:
    student = make_student("subclass")
    randomise(student)
    batch = {**make_batch(3), "ids": tf.constant([[2, 0], [0, 2], [3, 3]]), "fold": tf.constant([0, 0, 0])}
    before = student(batch)
    table = student.trunk.embeddings.table
    change = np.zeros(table.shape, np.float32)
    change[2, -1] = 1.5  # value 2 of the first column
    table.assign_add(change)
    after = student(batch)
    np.testing.assert_allclose(click_logit(after) - click_logit(before), [1.5, 0, 0], atol=1e-5)
    np.testing.assert_allclose(within_class_log_probabilities(after), within_class_log_probabilities(before), atol=1e-5)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return -(p * np.log(q)).sum(axis=-1)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_loss_by_hand(method: str, alpha: float) -> None:
    student = make_student(method, alpha=alpha, temperature=1.0, within_weight=1.0)
    randomise(student)
    batch = make_batch(20)
    z = student(batch).numpy().astype(np.float64)
    y, targets = batch["label"].numpy(), batch["targets"].numpy().astype(np.float64)

    def classes(z: np.ndarray) -> np.ndarray:
        return softmax(z).reshape(20, 2, -1).sum(axis=2)

    loss = label_loss = cross_entropy(np.stack([1 - y, y], axis=1), classes(z))
    if METHODS[method].target == "class":
        loss = alpha * cross_entropy(classes(targets), classes(z)) + (1 - alpha) * label_loss
    if METHODS[method].target == "subclass":
        loss = alpha * cross_entropy(softmax(targets), softmax(z)) + (1 - alpha) * label_loss
    np.testing.assert_allclose(student.compute_loss(batch), loss.mean(), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_weighted_loss_is_that_of_repeated_rows(method: str) -> None:
    student = make_student(method, alpha=0.4)
    randomise(student)
    batch = make_batch(20)
    weights = np.random.default_rng(2).integers(3, size=20)
    repeated = {name: tf.repeat(value, weights, axis=0) for name, value in batch.items()}
    found = []
    for rows in ({**batch, "weight": tf.constant(weights, tf.float32)}, repeated, batch):
        with tf.GradientTape() as tape:
            loss = student.compute_loss(rows)
        gradient = tape.gradient(loss, student.trunk.head.kernel).numpy()
        found.append((float(loss), gradient))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5) != found[2][0]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_hard_needs_no_targets() -> None:
    student, batch = make_student("hard"), make_batch(5)
    targets = batch.pop("targets")
    expected = float(student.compute_loss(batch))
    assert float(student.compute_loss({**batch, "targets": targets})) == expected
    with pytest.raises(ValueError, match="teacher_z"):
        make_student("kd", alpha=0.5).compute_loss(batch)


@pytest.mark.parametrize("method", ["hard", "kd", "subclass"])
def test_gradients_reach_all_weights(method: str) -> None:
    student = make_student(method, statistics=True)
    randomise(student)
    with tf.GradientTape() as tape:
        loss = student.compute_loss(make_batch(200))
    for variable, gradient in zip(
        student.trainable_variables, tape.gradient(loss, student.trainable_variables), strict=True
    ):
        assert gradient is not None, variable.name
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.name


# Rows of the table of LAYOUT: missing, other, values of both categorical columns, then buckets and missing of both
# numeric ones.
MISSING_A, OTHER_A, VALUE_A, MISSING_B, OTHER_B, VALUE_B, NUMBER_0, NUMBER_1 = 0, 1, 2, 4, 5, 6, 7, 11


def counts_of(rows: list[tuple[int, int, int]], sizes: tuple[int, int] = IDS) -> ClickCounts:
    """Counts of training rows (id of the first column, id of the second, fold)."""
    counts = np.zeros((sum(sizes), 10), np.int64)
    totals = np.zeros(10, np.int64)
    for a, b, fold in rows:
        counts[a, fold] += 1
        counts[sizes[0] + b, fold] += 1
        totals[fold] += 1
    return ClickCounts(np.array([0, sizes[0]]), counts, np.zeros_like(counts), totals, np.zeros_like(totals))


def tied(
    rows: list[tuple[int, int, int]],
    missing: tuple[int, int] = (1, 1),
    layout: TableLayout = LAYOUT,
    sizes: tuple[int, int] = IDS,
) -> tuple[np.ndarray, np.ndarray]:
    """The table before and after."""
    trunk = StudentTrunk(layout, 0.25, 1, make_settings(embedding_dim=2))
    trunk.embeddings(tf.constant([[0]]))
    before = np.random.default_rng(0).normal(size=trunk.embeddings.table.shape).astype(np.float32)
    trunk.embeddings.table.assign(before)
    tie_untrained(trunk, layout, counts_of(rows, sizes), missing)
    return before, trunk.embeddings.table.numpy()


def check(before: np.ndarray, after: np.ndarray, changed: dict[int, np.ndarray]) -> None:
    """The rows in ``changed`` have the given values, all others are as they were."""
    for row in range(len(before)):
        np.testing.assert_allclose(after[row], changed.get(row, before[row]), rtol=1e-6, err_msg=str(row))


# Every row of the table is looked up: missing, rare and kept values, each value in two folds.
FULL = [(a, b, fold) for fold in (0, 1) for a, b in ((0, 0), (2, 2), (3, 3), (4, 2), (2, 2))]


def test_rows_that_are_trained_stay() -> None:
    before, after = tied(FULL)
    np.testing.assert_array_equal(after, before)


def test_a_missing_value_that_no_row_has_is_like_other() -> None:
    before, after = tied([(a or 4, b, fold) for a, b, fold in FULL])
    check(before, after, {MISSING_A: before[OTHER_A]})


def test_other_without_rows_is_the_mean_of_the_values() -> None:
    # Four rows of value 2 and two of value 3 in the first column; the second has a rare value.
    before, after = tied([(a, b, fold) for a, b, fold in FULL if a != 4])
    mean = (4 * before[VALUE_A] + 2 * before[VALUE_A + 1]) / 6
    check(before, after, {OTHER_A: mean})


def test_missing_and_other_without_rows_are_both_the_mean() -> None:
    before, after = tied([(a, b, fold) for a, b, fold in FULL if a in (2, 3)])
    mean = (4 * before[VALUE_A] + 2 * before[VALUE_A + 1]) / 6
    assert all(b != 0 for a, b, _ in FULL if a in (2, 3))
    check(before, after, {OTHER_A: mean, MISSING_A: mean, MISSING_B: before[OTHER_B]})


def test_a_value_in_one_fold_alone_trains_other() -> None:
    # Value 3 is shown to its own rows as other, so other is trained though no value is rare.
    rows = [(0, 0, 0), (2, 2, 0), (2, 3, 1), (3, 2, 5), (3, 3, 5), (0, 0, 1)]
    before, after = tied(rows)
    np.testing.assert_array_equal(after[[MISSING_A, OTHER_A, VALUE_A]], before[[MISSING_A, OTHER_A, VALUE_A]])


def test_a_value_in_one_fold_alone_is_like_other() -> None:
    # No training row ever looks value 3 up: its own rows are shown other, and only serving would see its weights.
    rows = [(0, 0, 0), (2, 2, 0), (2, 3, 1), (3, 2, 5), (3, 3, 5), (4, 0, 1)]
    before, after = tied(rows)
    np.testing.assert_array_equal(after[VALUE_A + 1], before[OTHER_A])


# Two hash buckets a column: the ids 5 and 6 of the first (three values in the vocabulary), 4 and 5 of the second (two).
HASHED = TableLayout((2, 1), ((-0.5, 0.5), ()), 2, (3, 2))
HASHED_IDS = (7, 6)
BUCKET_A, HASHED_OTHER_B, HASHED_VALUE_B, BUCKET_B = 4, 7, 8, 9


def tied_with_buckets(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return tied(rows, layout=HASHED, sizes=HASHED_IDS)


# Every row of the table is looked up, the buckets too, each in two folds.
FULL_HASHED = [*FULL, *((a, b, fold) for fold in (3, 4) for a, b in ((5, 4), (6, 5)))]


def test_rows_of_trained_buckets_stay() -> None:
    before, after = tied_with_buckets(FULL_HASHED)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("fold", [None, 8])
def test_a_bucket_without_rows_or_of_one_fold_is_like_other(fold: int | None) -> None:
    rows = [row for row in FULL_HASHED if row[0] != 6]
    if fold is not None:
        rows += [(6, 2, fold), (6, 2, fold)]
    before, after = tied_with_buckets(rows)
    check(before, after, {BUCKET_A + 1: before[OTHER_A], BUCKET_B + 1: before[HASHED_OTHER_B]})


def test_other_without_rows_is_the_mean_of_values_and_buckets() -> None:
    # Value 2 has four rows, value 3 two, the first bucket two and the second none.
    rows = [(a, b, fold) for a, b, fold in FULL if a != 4] + [(5, 4, 3), (5, 4, 4), (0, 5, 3), (0, 5, 4)]
    before, after = tied_with_buckets(rows)
    mean = (4 * before[VALUE_A] + 2 * before[VALUE_A + 1] + 2 * before[BUCKET_A]) / 8
    check(before, after, {OTHER_A: mean, BUCKET_A + 1: mean})


def test_a_column_that_is_missing_in_all_rows_stays() -> None:
    before, after = tied_with_buckets([(0, b, fold) for _, b, fold in FULL_HASHED])
    alike = dict.fromkeys((VALUE_A, VALUE_A + 1, BUCKET_A, BUCKET_A + 1), before[OTHER_A])
    check(before, after, alike)


def test_missing_numbers_that_no_row_has_are_the_mean_of_the_buckets() -> None:
    before, after = tied(FULL, missing=(0, 0))
    first = before[NUMBER_0 : NUMBER_0 + 3].mean(axis=0)
    check(before, after, {NUMBER_0 + 3: first, NUMBER_1 + 1: before[NUMBER_1]})


def test_rows_are_tied_in_tables_of_several_sizes() -> None:
    """The first column has embeddings of two floats, all others of one."""
    layout = TableLayout((40, 1), ((-0.5, 0.5), ()))
    trunk = StudentTrunk(layout, 0.25, 1, make_settings(embedding_dim=4, embedding_sizes="vocabulary"))
    trunk.embeddings(tf.constant([[0, 42, 45, 49]]))
    # The parts of the four columns: 2 + 40, 2 + 1, 3 + 1 and 1 + 1 rows.
    parts = [(0, 42), (42, 45), (45, 49), (49, 51)]
    rng = np.random.default_rng(0)
    before = [rng.normal(size=trunk.embeddings.read_rows(*part).shape).astype(np.float32) for part in parts]
    assert [part.shape[1] for part in before] == [3, 2, 2, 2]
    for (first_row, _), values in zip(parts, before, strict=True):
        trunk.embeddings.assign_rows(first_row, values)
    # Ids 2 to 10 have rows in two folds, the others of the first column in one fold; nothing is ever missing.
    rows = [(a, 2, fold) for fold in (0, 1) for a in range(2, 11)] + [(a, 3, a % 10) for a in range(11, 42)]
    tie_untrained(trunk, layout, counts_of(rows, (42, 4)), (0, 1))
    first, second, third, fourth = (trunk.embeddings.read_rows(*part) for part in parts)
    np.testing.assert_array_equal(first[1:11], before[0][1:11])
    np.testing.assert_array_equal(first[[0, *range(11, 42)]], np.tile(before[0][1], (32, 1)))
    np.testing.assert_array_equal(second, before[1][[1, 1, 2]])
    np.testing.assert_allclose(third, [*before[2][:3], before[2][:3].mean(axis=0)], rtol=1e-6)
    np.testing.assert_array_equal(fourth, before[3])


def test_the_within_class_weight_does_not_reach_the_joint_form() -> None:
    """At T = 1 the joint form is the within form with a weight of 1."""
    batch = make_batch(40)

    def loss(**values: Any) -> float:
        student = make_student("subclass", seed=3, alpha=0.9, temperature=1.0, **values)
        randomise(student)
        return float(student.compute_loss(batch))

    joint = loss(temper="joint", within_weight=0.3)
    assert joint == pytest.approx(loss(temper="within", within_weight=1.0), rel=1e-5)
    assert joint != pytest.approx(loss(temper="within", within_weight=0.3), rel=1e-3)


def taught(method: str, **values: Any) -> Student:
    """A student of a teacher of another label, with variables that differ from each other."""
    trunk = make_trunk(1, **values)
    tables = FoldTables(LAYOUT, make_counts(), 5.0, kept_only=True)
    subclasses = S if METHODS[method].wide_head else 1
    student = Student(trunk, tables, METHODS[method], make_settings(**values), auxiliary=subclasses)
    student(make_batch(1))
    randomise(student)
    return student


def auxiliary_of(student: Student) -> list[tf.Variable]:
    return [variable for variable in student.trainable_variables if "auxiliary" in variable.name]


@pytest.mark.parametrize(("method", "outputs"), [("kd", 2), ("subclass", 2 * S), ("kd_k", 2 * S)])
def test_an_auxiliary_head_is_no_part_of_the_trunk(method: str, outputs: int) -> None:
    student = taught(method)
    assert sorted(variable.shape[-1] for variable in auxiliary_of(student)) == [outputs, outputs]
    assert not any("auxiliary" in variable.name for variable in student.trunk.trainable_variables)
    assert student(make_batch(4)).shape == (4, 2)


@pytest.mark.parametrize("method", ["kd", "subclass"])
def test_the_loss_of_two_heads(method: str) -> None:
    """Against NumPy: own logits with labels, the auxiliary head's (without linear part) with targets."""
    student = taught(method, alpha=0.75, temperature=1.0, temper="within", within_weight=1.0)
    batch = {**make_batch(30), "weight": tf.constant(np.random.default_rng(2).random(30), tf.float32)}
    deep, _ = student.trunk.features(*student.look_up(batch))
    (bias,), (kernel,) = ([v.numpy() for v in auxiliary_of(student) if v.shape.rank == rank] for rank in (1, 2))
    q = softmax(batch["targets"].numpy().astype(np.float64))
    p = log_softmax(deep.numpy().astype(np.float64) @ kernel + bias, axis=1)
    if method == "kd":  # on the sums of the classes
        q = q.reshape(30, 2, S).sum(axis=2)
    own = log_softmax(student(batch).numpy().astype(np.float64), axis=1)
    label = batch["label"].numpy().astype(int)
    losses = -0.25 * own[np.arange(30), label] - 0.75 * (q * p).sum(axis=1)
    expected = np.average(losses, weights=batch["weight"].numpy())
    assert float(student.compute_loss(batch)) == pytest.approx(expected, rel=1e-5)


def test_targets_of_another_label_do_not_move_the_own_head() -> None:
    """Their gradient reaches the hidden layer and the embeddings, not what makes the click logit of them."""
    student = taught("kd", alpha=1.0)
    with tf.GradientTape() as tape:
        loss = student.compute_loss(make_batch(20), training=True)
    found = tape.gradient(loss, student.trainable_variables)
    for variable, gradient in zip(student.trainable_variables, found, strict=True):
        size = 0.0 if gradient is None else float(tf.norm(tf.convert_to_tensor(gradient)))
        moved = any(part in variable.name for part in ("auxiliary", "hidden", "table"))
        assert (size > 0) == moved, variable.name


def test_the_click_probability_does_not_follow_the_rate_of_the_outcome() -> None:
    """Targets of a probability near 0.99 leave the mean prediction at the rate of the labels."""
    student = taught("kd", alpha=0.8, embedding_dropout=0.0, field_dropout=0.0)
    batch = make_batch(400)
    batch["label"] = tf.constant(np.arange(400) % 5 == 0, tf.float32)
    batch["targets"] = tf.constant(np.tile([[-4.6 / 2] * S + [4.6 / 2] * S], (400, 1)), tf.float32)
    student.compile(optimizer=keras.optimizers.Adam(0.05))
    step = tf.function(student.train_step)
    for _ in range(150):
        step(batch)
    rate = tf.sigmoid(click_logit(student(batch))).numpy().mean()
    assert rate == pytest.approx(0.2, abs=0.03)


def loss_and_gradients(student: Student, batch: dict[str, tf.Tensor]) -> tuple[float, dict[str, np.ndarray]]:
    """A loss and its gradients by variable; zeros where there is none."""
    variables = student.trainable_variables
    with tf.GradientTape() as tape:
        loss = student.compute_loss(batch)
    found = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    named = {v.name: tf.convert_to_tensor(g).numpy() for v, g in zip(variables, found, strict=True)}
    return float(loss), named


@pytest.mark.parametrize("method", METHODS)
def test_terms_of_weight_0_change_no_bit(method: str) -> None:
    """Whatever their other settings, the loss is that of the logits alone."""
    others = {"ranking_rows": 3, "relation_rows": 5, "relations_negatives": 2, "relations_temperature": 0.1}
    student = make_student(method, alpha=0.6, temper="within", within_weight=0.3, **others)
    randomise(student)
    batch = make_batch(40)
    expected = mean_loss(
        student_loss(
            batch["label"],
            batch["targets"],
            student(batch),
            target=METHODS[method].target,
            alpha=0.6,
            temperature=1.0,
            temper="within",
            within_weight=0.3,
        )
    )
    assert float(student.compute_loss(batch)) == float(expected)


def test_the_class_weight_reaches_the_within_form_only() -> None:
    batch = make_batch(40)

    def loss(**values: Any) -> float:
        student = make_student("subclass", alpha=1.0, within_weight=1.0, **values)
        randomise(student)
        return float(student.compute_loss(batch))

    student = make_student("subclass")
    randomise(student)
    expected = mean_loss(distillation_loss(batch["targets"], student(batch), 1.0, "within", 1.0, 0.0))
    assert loss(class_weight=0.0) == pytest.approx(float(expected), rel=1e-6)
    assert loss(class_weight=0.0, temper="joint") == loss(temper="joint") == pytest.approx(loss(), rel=1e-5)


@pytest.mark.parametrize("method", ["hard", "kd", "subclass"])
def test_correction_moves_the_targets(method: str) -> None:
    batch = make_batch(40)
    student, plain = (make_student(method, alpha=0.9, correction=c) for c in (0.1, 0.0))
    for each in (student, plain):
        randomise(each)
    moved = {**batch, "targets": corrected(batch["targets"], batch["label"], 0.1)}
    assert float(student.compute_loss(batch)) == float(plain.compute_loss(moved))
    assert (float(student.compute_loss(batch)) == float(plain.compute_loss(batch))) == (method == "hard")


@pytest.mark.parametrize("method", ["kd", "subclass"])
def test_much_correction_is_learning_labels(method: str) -> None:
    student, labels = (make_student(method, alpha=alpha, correction=1e12, within_weight=0.0) for alpha in (1.0, 0.0))
    for each in (student, labels):
        randomise(each)
    batch = make_batch(40)
    assert float(student.compute_loss(batch)) == pytest.approx(float(labels.compute_loss(batch)), rel=1e-5)


@pytest.mark.parametrize("method", ["hard", "kd", "subclass"])
def test_ranking_is_by_the_teacher_or_by_labels(method: str) -> None:
    student, plain = (make_student(method, ranking=ranking, correction=0.1) for ranking in (0.5, 0.0))
    for each in (student, plain):
        randomise(each)
    batch = make_batch(40)
    targets = corrected(batch["targets"], batch["label"], 0.1)
    p_click = batch["label"] if method == "hard" else tf.sigmoid(click_logit(targets))
    expected = float(plain.compute_loss(batch)) + 0.5 * float(ranking_loss(click_logit(student(batch)), p_click))
    assert float(student.compute_loss(batch)) == pytest.approx(expected, rel=1e-6)


E = 4


def embedded(method: str, auxiliary: int = 0, **values: Any) -> Student:
    """A student of a teacher with embeddings of four floats."""
    values = {"reused": 0.0, **values}
    wide = METHODS[method].wide_head
    rng = np.random.default_rng(4)
    head = rng.normal(size=(E, 2 * S)).astype(np.float32), rng.normal(size=2 * S).astype(np.float32)
    trunk = StudentTrunk(
        LAYOUT, 0.25, S if wide and not auxiliary else 1, make_settings(**values), head if values["reused"] else None
    )
    tables = FoldTables(LAYOUT, make_counts(), 5.0, kept_only=True)
    student = Student(trunk, tables, METHODS[method], make_settings(**values), auxiliary, E)
    student(make_batch(1))
    randomise(student)
    return student


def embedded_batch(rows: int) -> dict[str, tf.Tensor]:
    return {**make_batch(rows), "embedding": tf.random.stateless_normal([rows, E], [1, 2])}


@pytest.mark.parametrize("hidden", [8, 0])
@pytest.mark.parametrize("name", ["similarity", "relations", "reused"])
def test_embeddings_teach_the_hidden_layer(name: str, hidden: int) -> None:
    """Without labels and targets the term alone moves what lies below it, and what is projected."""
    values = {"alpha": 1.0, "within_weight": 0.0, "class_weight": 0.0, "hidden": hidden, "statistics": False}
    loss, gradients = loss_and_gradients(embedded("subclass", **{name: 1.0}, **values), embedded_batch(40))
    assert loss > 0
    moved = {found for found, gradient in gradients.items() if np.abs(gradient).max() > 0}
    parts = {"table", "relations" if name == "relations" else "head" if name == "reused" else "table"}
    assert all(any(part in found for found in moved) for part in parts | ({"hidden"} if hidden else set()))
    assert not any("linear" in found for found in moved)


def test_variables_for_training_alone_are_no_part_of_the_trunk() -> None:
    student = embedded("kd", relations=1.0)
    own = {variable.name for variable in student.trainable_variables}
    assert {name for name in own if "relations" in name} == own - {v.name for v in student.trunk.trainable_variables}


def test_a_reused_head_serves() -> None:
    student = embedded("subclass", reused=1.0)
    assert isinstance(student.trunk.head, ReusedHead) and student.trunk.head.subclasses == S
    batch = embedded_batch(9)
    deep, linear = student.trunk.features(*student.look_up(batch))
    np.testing.assert_array_equal(student(batch), student.trunk.head(deep, linear))
    assert student(batch).shape == (9, 2 * S)
    assert not any("teacher" in variable.name for variable in student.trainable_variables)


def test_a_reused_head_learns_the_embedding() -> None:
    """The method's loss is there beside the distance of projection and embedding."""
    student, batch = embedded("subclass", reused=0.5, alpha=1.0), embedded_batch(30)
    deep, _ = student.trunk.features(*student.look_up(batch))
    apart = np.square(student.trunk.head.project(deep).numpy() - batch["embedding"].numpy()).mean()
    own = mean_loss(distillation_loss(batch["targets"], student(batch), 1.0, "within", 0.3))
    assert float(student.compute_loss(batch)) == pytest.approx(float(own) + 0.5 * apart, rel=1e-5)


def test_a_reused_head_must_fit() -> None:
    head = np.zeros([E, 2 * S], np.float32), np.zeros(2 * S, np.float32)
    with pytest.raises(ValueError, match="`reused` should have 1 subclasses a class. Received: subclasses=3"):
        StudentTrunk(LAYOUT, 0.25, 1, make_settings(), head)
    tables = FoldTables(LAYOUT, make_counts(), 5.0, kept_only=True)
    with pytest.raises(ValueError, match="`trunk` should reuse a teacher's head. Received: reused=1.0"):
        Student(make_trunk(S), tables, METHODS["subclass"], make_settings(reused=1.0), embedding=E)


@pytest.mark.parametrize("method", ["kd", "subclass"])
def test_an_auxiliary_head_of_no_weight_is_the_baseline(method: str) -> None:
    """With alpha = 0 the loss and the gradients of the trunk are those of labels alone, bit for bit."""
    batch, values = make_batch(40), {"alpha": 0.0, "statistics": False}
    student, baseline = taught(method, **values), make_student("hard", **values)
    for variable, value in zip(baseline.trainable_variables, student.trunk.trainable_variables, strict=True):
        variable.assign(value)
    loss, gradients = loss_and_gradients(student, batch)
    expected, expected_gradients = loss_and_gradients(baseline, batch)
    assert loss == expected
    for name, gradient in expected_gradients.items():
        np.testing.assert_array_equal(gradients.pop(name), gradient, err_msg=name)
    assert all("auxiliary" in name and not gradient.any() for name, gradient in gradients.items())


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize("method", ["kd", "subclass"])
def test_a_bias_of_the_teacher_stays_in_the_auxiliary_head(method: str, auxiliary: bool) -> None:
    """Teacher's click logits of 2 more pull at the own head without an auxiliary one, and leave it alone with one."""
    student = taught(method, alpha=0.8) if auxiliary else make_student(method, alpha=0.8)
    randomise(student)
    batch = make_batch(60)
    biased = {**batch, "targets": batch["targets"] + tf.constant([0.0] * S + [2.0] * S)}
    before, after = (loss_and_gradients(student, rows)[1] for rows in (batch, biased))
    own = [name for name in before if "trunk/head" in name]
    assert len(own) == 2
    for name in own:
        assert np.array_equal(before[name], after[name]) == auxiliary, name
    assert any("auxiliary" in name and not np.array_equal(before[name], after[name]) for name in before) == auxiliary


def test_terms_act_on_the_auxiliary_head() -> None:
    """Ranking and relations of a student of two heads leave its own head alone."""
    values = {"alpha": 0.8, "ranking": 1.0, "relations": 1.0, "similarity": 1.0}
    batch = embedded_batch(40)
    student, plain = (embedded("subclass", S, **{**values, **off}) for off in ({}, {"ranking": 0.0, "relations": 0.0}))
    with_terms, without = (loss_and_gradients(each, batch)[1] for each in (student, plain))
    own = [name for name in without if "trunk/head" in name]
    assert len(own) == 2
    for name in own:
        np.testing.assert_array_equal(with_terms[name], without[name])
    assert any("auxiliary" in n and not np.array_equal(with_terms[n], without[n]) for n in without)


@pytest.mark.parametrize("auxiliary", [0, S])
def test_a_step_has_the_loss_and_the_penalty_on_embeddings_once(auxiliary: int) -> None:
    terms = {"ranking": 1.0, "similarity": 1.0, "relations": 1.0, "reused": 0.0 if auxiliary else 1.0}
    values = {**terms, "embedding_l2": 0.5, "embedding_dropout": 0.0, "field_dropout": 0.0, "linear_dropout": 0.0}
    student, batch = embedded("subclass", auxiliary, **values), embedded_batch(20)
    rows, *_ = student.look_up(batch)
    penalty = 0.5 * np.square(tf.gather(student.trunk.embeddings.table, rows)).sum() / 20
    expected = float(student.compute_loss(batch))
    student.compile(optimizer=keras.optimizers.SGD(0.0))
    step = tf.function(student.train_step)
    for _ in range(2):
        found = step(batch)
        assert float(found["regularization_loss"]) == pytest.approx(penalty, rel=1e-5)
        assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)


def test_the_mean_of_trunks() -> None:
    students = [make_student("hard", seed=seed) for seed in (0, 1, 2)]
    for number, student in enumerate(students):
        randomise(student)
        student.trunk.head.bias.assign_add([0.0, float(number)])
    inputs = students[0].look_up(make_batch(7))
    logits = [click_logit(student.trunk(*inputs)).numpy() for student in students]
    found = mean_click_logit([student.trunk for student in students], *inputs)
    np.testing.assert_allclose(found, np.mean(logits, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mean_click_logit([students[1].trunk], *inputs), logits[1])


@pytest.mark.parametrize("auxiliary", [0, S])
def test_every_slice_has_its_alpha(auxiliary: int) -> None:
    """The loss is the mean of those of students with one alpha, each with the rows of its slice."""
    slices, tables = np.array([0.75, 0.0, 0.25, 0.5], np.float32), FoldTables(LAYOUT, make_counts(), 5.0)
    trunk, settings = make_trunk(1 if auxiliary else S), make_settings(alpha=0.9)
    student = Student(trunk, tables, METHODS["subclass"], settings, auxiliary, alphas=RowAlphas(make_counts(), slices))
    batch = make_batch(60)
    student(batch)
    totals = make_counts().counts.sum(axis=1)
    others = np.minimum(totals[batch["ids"][:, 0]], totals[5 + batch["ids"].numpy()[:, 1]]) - 1
    alphas = np.select([others < 1, others < 10, others < 100], [0.75, 0.0, 0.25], 0.5)
    assert len(set(alphas)) > 1
    losses = []
    for alpha in sorted(set(alphas)):
        rows = alphas == alpha
        alone = Student(trunk, tables, METHODS["subclass"], make_settings(alpha=alpha), auxiliary)
        alone._auxiliary = student._auxiliary
        losses.append(rows.sum() * float(alone.compute_loss({name: value[rows] for name, value in batch.items()})))
    assert float(student.compute_loss(batch)) == pytest.approx(sum(losses) / 60, rel=1e-5)


def gated(members: int, method: str = "kd", auxiliary: int = 0, **values: Any) -> Student:
    """A student of the members of a teacher, whose variables differ from each other but for the gate's."""
    trunk, tables = make_trunk(1, **values), FoldTables(LAYOUT, make_counts(), 5.0, kept_only=True)
    student = Student(trunk, tables, METHODS[method], make_settings(**values), auxiliary, members=members)
    student(make_batch(1))
    randomise(student)
    for variable in student.gate.variables:
        variable.assign(tf.zeros_like(variable))
    return student


def with_members(batch: dict[str, tf.Tensor], members: int) -> dict[str, tf.Tensor]:
    return {**batch, "members": tf.random.stateless_normal([len(batch["label"]), members], [5, 6]) - 1.0}


@pytest.mark.parametrize("auxiliary", [0, 1])
def test_an_untrained_gate_is_the_mean_of_single_teachers(auxiliary: int) -> None:
    """Of one member it is plain distillation; of three the mean of their losses, and of their students' gradients."""
    batch, found = with_members(make_batch(40), 3), []
    for i in range(3):
        clicks = batch["members"][:, i]
        plain = gated(1, auxiliary=auxiliary, alpha=0.7)
        plain.gate = None
        found.append(loss_and_gradients(plain, {**batch, "targets": tf.stack([0 * clicks, clicks], axis=1)}))
        alone = gated(1, auxiliary=auxiliary, alpha=0.7)
        alone_loss, _ = loss_and_gradients(alone, {**batch, "members": clicks[:, tf.newaxis]})
        assert alone_loss == pytest.approx(found[-1][0], rel=1e-6)
    loss, gradients = loss_and_gradients(gated(3, auxiliary=auxiliary, alpha=0.7), batch)
    assert loss == pytest.approx(np.mean([one for one, _ in found]), rel=1e-6)
    for name in found[0][1]:
        np.testing.assert_allclose(gradients[name], np.mean([each[name] for _, each in found], axis=0), atol=1e-6)


def test_a_gate_learns_and_is_not_exported() -> None:
    """Its gradients are the same in another order of the members, but for that order."""
    batch, order = with_members(make_batch(40), 3), [2, 0, 1]
    other = {**batch, "members": tf.gather(batch["members"], order, axis=1)}
    student = gated(3)
    first, second = (loss_and_gradients(student, rows)[1] for rows in (batch, other))
    names = [variable.name for variable in student.gate.trainable_variables]
    assert len(names) == 2 and not {v.name for v in student.trunk.trainable_variables} & set(names)
    for name in names:
        assert (np.abs(first[name]) > 1e-5).all()
        np.testing.assert_allclose(second[name], first[name][order], rtol=1e-4, atol=1e-7)

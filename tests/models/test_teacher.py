"""The teacher: its loss by hand, gradients everywhere, what an ensemble shares, the same logits in a fresh process."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.crosses import CrossTable
from features.statistics import NO_FOLD, ClickCounts
from models.architectures import ARCHITECTURES
from models.backend import keras, tf
from models.calibration import Calibration
from models.heads import click_logit, within_class_log_probabilities
from models.layers import parameters
from models.tables import CrossStatistics, FoldTables, TableLayout
from models.teacher import Teacher
from models.teacher_scorer import TeacherScorer
from models.teacher_trunk import TeacherSettings, TeacherTrunk, combine
from pipeline.config import narrow
from pipeline.settings import TeacherConfig

LAYOUT = TableLayout((2, 1), ((-0.5, 0.5), ()))
IDS = (5, 4)
S = 3
NUMERIC, CATEGORICAL = 2, 2
ENSEMBLE = "dcn, finalmlp,dlrm,mlp,dcn"


def make_counts(seed: int = 0) -> ClickCounts:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, (sum(IDS), 10))
    counts[1] = counts[5 + 1] = 0  # unseen
    return ClickCounts(np.array([0, 5]), counts, counts // 3, counts[:5].sum(axis=0), counts[:5].sum(axis=0) // 3)


def make_settings(**values: Any) -> TeacherSettings:
    small = {"subclasses": S, "embedding_dim": 3, "cross_layers": 2, "cross_rank": 0, "hidden": (8, 5)}
    return dataclasses.replace(narrow(TeacherConfig(), TeacherSettings), **{**small, **values})


def make_crosses() -> CrossStatistics:
    """Random statistics of all pairs of the categorical columns."""
    pairs = np.array([(a << 24) + b for a in range(IDS[0]) for b in range(IDS[1])])
    values = np.random.default_rng(3).normal(size=(len(pairs), 11)).astype(np.float32)
    return CrossStatistics(CrossTable(((0, 1),), pairs, values), [np.array([0.0], np.float32)] * NUMERIC)


def make_teacher(crosses: bool = False, **values: Any) -> Teacher:
    """A teacher with variables."""
    settings = make_settings(**values)
    tables = FoldTables(LAYOUT, make_counts(), 5.0, settings.statistics)
    trunk = TeacherTrunk(LAYOUT, tables, make_crosses() if crosses else None, 0.25, settings)
    teacher = Teacher(trunk, settings)
    teacher(make_batch(1))
    return teacher


def make_batch(rows: int, seed: int = 0) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, NUMERIC)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.2] = np.nan
    return {
        "ids": tf.constant(np.stack([rng.integers(size, size=rows) for size in IDS], axis=1), tf.int32),
        "dense": tf.constant(dense),
        "fold": tf.constant(rng.integers(11, size=rows), tf.int32),
        "label": tf.constant(rng.integers(2, size=rows), tf.float32),
    }


def randomise(teacher: Teacher) -> None:
    rng = np.random.default_rng(1)
    for variable in teacher.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.2, variable.shape).astype(np.float32))


def hand_auxiliary(part: np.ndarray, temperature: float) -> float:
    """The auxiliary loss of subclass distillation, of any number of logits a row, in float64."""
    u = (part - part.mean(axis=1, keepdims=True)) / np.sqrt(part.var(axis=1, keepdims=True) + 1e-9)
    similarity = u @ u.T / (temperature * part.shape[1])
    return float(np.log(np.exp(similarity).sum(axis=1)).mean() - 1 / temperature - np.log(len(part)))


def hand_loss(z: np.ndarray, y: np.ndarray, beta: float, temperature: float, rows: int) -> float:
    """Class cross-entropy plus beta times the auxiliary loss of subclass distillation, in float64."""
    z = z.astype(np.float64)
    e = np.exp(z)
    p_click = e[:, S:].sum(axis=1) / e.sum(axis=1)
    loss = -(y * np.log(p_click) + (1 - y) * np.log(1 - p_click)).mean()
    return float(loss + beta * hand_auxiliary(z[:rows], temperature))


@pytest.mark.parametrize(
    ("beta", "temperature", "rows"), [(0.0, 1.0, 512), (0.3, 1.0, 512), (0.3, 0.5, 512), (1.0, 1.0, 7)]
)
def test_loss_by_hand(beta: float, temperature: float, rows: int) -> None:
    teacher = make_teacher(beta=beta, aux_temperature=temperature, aux_rows=rows)
    randomise(teacher)
    batch = make_batch(24)
    expected = hand_loss(teacher(batch).numpy(), batch["label"].numpy(), beta, temperature, rows)
    np.testing.assert_allclose(teacher.compute_loss(batch), expected, rtol=1e-5)


@pytest.mark.parametrize(("temperature", "rows"), [(1.0, 512), (0.5, 7)])
def test_auxiliary_loss_within_the_classes_by_hand(temperature: float, rows: int) -> None:
    teacher = make_teacher(beta=0.3, aux_scope="within", aux_temperature=temperature, aux_rows=rows)
    randomise(teacher)
    batch = make_batch(24)
    z, y = teacher(batch).numpy().astype(np.float64), batch["label"].numpy()
    blocks = [hand_auxiliary(block[:rows], temperature) for block in (z[:, :S], z[:, S:])]
    expected = hand_loss(z, y, 0.0, 1.0, 512) + 0.3 * (blocks[0] + blocks[1]) / 2
    np.testing.assert_allclose(teacher.compute_loss(batch), expected, rtol=1e-5)


@pytest.mark.parametrize(("subclasses", "scope", "most"), [(1, "within", 0.0), (1, "joint", 1e-4), (2, "within", 1e-4)])
def test_of_one_or_two_logits_the_auxiliary_loss_has_no_gradient(subclasses: int, scope: str, most: float) -> None:
    """Two standardised logits are 1 and -1 whatever they were (but for eps), and one is 0: a constant, and not NaN."""
    found = []
    for beta in (0.0, 1.0):
        teacher = make_teacher(beta=beta, aux_scope=scope, subclasses=subclasses)
        randomise(teacher)
        found.append([teacher.compute_loss(make_batch(40)), *gradients_of(teacher, make_batch(40))])
    (plain_loss, *plain), (loss, *gradients) = found
    assert np.isfinite(loss) and loss < plain_loss
    for one, other in zip(plain, gradients, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=most)


def hand_tolerance(z: np.ndarray, scope: str, classes: int) -> np.ndarray:
    """The tolerance term of each row, in float64."""
    e = np.exp(z).reshape(len(z), 2, -1)
    p = e.sum(axis=2) / e.sum(axis=(1, 2))[:, np.newaxis]
    if scope == "class":
        return np.asarray(np.abs(p[:, 1] - p[:, 0]))
    ranked = -np.sort(-e / e.sum(axis=2, keepdims=True), axis=2)
    return np.asarray((p * (ranked[:, :, 0] - ranked[:, :, 1:classes].mean(axis=2))).sum(axis=1))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("scope", "classes"), [("within", 2), ("within", S), ("class", 2)])
def test_tolerance_by_hand(scope: str, classes: int, weighted: bool) -> None:
    """It is that of the whole: of the mean logits of both members; weights count as they do in the other losses."""
    values = {"architecture": "dcn,mlp", "beta": 0.0, "tolerance_scope": scope, "tolerance_classes": classes}
    with_it, without = (make_teacher(tolerance=gamma, **values) for gamma in (0.3, 0.0))
    for teacher in (with_it, without):
        randomise(teacher)
    batch, weights = make_batch(24), np.random.default_rng(2).choice([0.0, 1.0, 2.0], 24)
    if weighted:
        batch["weight"] = tf.constant(weights, tf.float32)
    losses = hand_tolerance(with_it(batch).numpy().astype(np.float64), scope, classes)
    expected = 0.3 * np.average(losses, weights=weights if weighted else None)
    assert expected > 0.01
    assert float(with_it.compute_loss(batch) - without.compute_loss(batch)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("values", [{"beta": 0.3}, {"beta": 0.0}, {"architecture": "dcn,mlp", "ensemble": "gated"}])
def test_without_tolerance_its_settings_change_no_bit(values: dict[str, Any]) -> None:
    found = []
    for settings in ({}, {"tolerance_scope": "class"}, {"tolerance_classes": S}):
        teacher = make_teacher(**values, **settings)
        randomise(teacher)
        found.append([teacher.compute_loss(make_batch(24)), *gradients_of(teacher, make_batch(24))])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("statistics", "values"),
    [
        *[(statistics, {"cross_layers": layers}) for statistics in ("none", "folds") for layers in (0, 2)],
        *[("folds", {"architecture": name}) for name in ARCHITECTURES],
        ("folds", {"architecture": "dcn,finalmlp", "embedding_sizes": "vocabulary", "precision": "bfloat16"}),
        ("folds", {"aux_scope": "within", "tolerance": 0.3}),
        *[("folds", {"architecture": ENSEMBLE, "ensemble": ensemble}) for ensemble in ("mean", "gated")],
    ],
)
def test_gradients_reach_all_weights(statistics: str, values: dict[str, Any]) -> None:
    teacher = make_teacher(crosses=statistics != "none", statistics=statistics, beta=0.1, **values)
    randomise(teacher)
    with tf.GradientTape() as tape:
        loss = teacher.compute_loss(make_batch(300))
    gradients = tape.gradient(loss, teacher.trainable_variables)
    for variable, gradient in zip(teacher.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.name


def test_statistics_of_a_row_depend_on_its_fold() -> None:
    batch = {**make_batch(40), "ids": tf.fill([40, 2], 2)}
    other = {**batch, "fold": (batch["fold"] + 1) % 11}
    for statistics, crosses in (("none", False), ("folds", False), ("none", True)):
        teacher = make_teacher(crosses=crosses, statistics=statistics)
        randomise(teacher)
        same = (teacher(batch).numpy() == teacher(other).numpy()).all(axis=1)
        assert same.all() if statistics == "none" and not crosses else not same.any()


def test_the_auxiliary_loss_alone_reaches_the_trunk() -> None:
    one, other = (make_teacher(beta=beta) for beta in (0.0, 0.5))
    batch, gradients = make_batch(64), []
    for teacher in (one, other):
        randomise(teacher)
        with tf.GradientTape() as tape:
            loss = teacher.compute_loss(batch)
        gradients.append(tf.convert_to_tensor(tape.gradient(loss, teacher.trunk.members[0].embeddings.table)).numpy())
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-5


def test_click_statistics_are_not_trained() -> None:
    teacher = make_teacher(crosses=True, statistics="folds")
    trained = {id(variable) for variable in teacher.trainable_variables}
    assert teacher.trunk.crosses is not None
    tables = [*teacher.trunk.tables.variables, *teacher.trunk.crosses.variables]
    assert len(tables) >= 3
    assert not trained & {id(variable) for variable in tables}


def test_parameters_by_hand() -> None:
    teacher = make_teacher(statistics="folds")
    inputs = (CATEGORICAL + NUMERIC) * 3 + NUMERIC + 2 * CATEGORICAL
    table = LAYOUT.rows * (3 + 1)
    cross = 2 * (inputs * inputs + inputs)
    hidden = inputs * 8 + 8 + 8 * 5 + 5
    head = (inputs + 5) * 2 * S + 2 * S
    linear = NUMERIC + 2 * CATEGORICAL  # of the dense inputs, without bias
    assert parameters(teacher) == table + cross + hidden + head + linear


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    found = []
    for number, seed in enumerate((4, 4, 5)):
        keras.utils.set_random_seed(number)
        found.append(make_teacher(seed=seed).trainable_variables)
    for one, same, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, same)
        if "bias" not in one.name and "linear" not in one.name:
            assert (one.numpy() != other.numpy()).any(), one.name


def test_starts_at_the_base_rate() -> None:
    p_click = tf.sigmoid(click_logit(make_teacher()(make_batch(300)))).numpy()
    assert p_click.mean() == pytest.approx(0.25, abs=0.1)


def test_drops_out_in_training_only() -> None:
    teacher = make_teacher(dropout=0.5, embedding_dropout=0.5)
    batch = make_batch(30)
    np.testing.assert_array_equal(teacher(batch), teacher(batch, training=False))
    assert (teacher(batch, training=True).numpy() != teacher(batch).numpy()).mean() > 0.9


def test_rows_of_a_fold_do_not_depend_on_its_labels_without_that_fold() -> None:
    """What a fold teacher is given: the same tables bit for bit, whatever the labels of its fold."""
    counts = make_counts()
    flipped = np.where(np.arange(10) % 5 == 2, counts.counts - counts.clicks, counts.clicks)
    row_clicks = np.where(np.arange(10) % 5 == 2, counts.rows - counts.row_clicks, counts.row_clicks)
    other = dataclasses.replace(counts, clicks=flipped, row_clicks=row_clicks)
    one, two = (FoldTables(LAYOUT, found.without([2, 7]), 5.0) for found in (counts, other))
    for mine, theirs in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert counts.without([2, 7]).base_rate() == other.without([2, 7]).base_rate() != other.base_rate()


def test_scorer_takes_batches_of_any_size() -> None:
    teacher = make_teacher()
    scorer = TeacherScorer(teacher.trunk, (NUMERIC, CATEGORICAL))
    for rows in (0, 1, 5):
        batch = make_batch(rows)
        logits = scorer.score(batch["ids"], batch["dense"], batch["fold"])["logits"]
        assert logits.shape == (rows, 2 * S)
        np.testing.assert_allclose(logits, teacher(batch), rtol=1e-5, atol=1e-6)


ALONE = """
import sys
import numpy as np
import tensorflow as tf

model, path = sys.argv[1:]
inputs = dict(np.load(path))
loaded = tf.saved_model.load(model)
for name, score in (("score", loaded.score), ("signature", loaded.signatures["serving_default"])):
    inputs[name] = score(**{key: tf.constant(inputs[key]) for key in ("ids", "dense", "fold")})["logits"].numpy()
assert not {name.split(".")[0] for name in sys.modules} & {"features", "models", "pipeline"}
np.savez(path, **inputs)
"""


def test_scorer_gives_the_same_logits_in_a_fresh_process(tmp_path: Path) -> None:
    teacher = make_teacher(crosses=True, statistics="folds", architecture=ENSEMBLE, ensemble="gated")
    randomise(teacher)
    TeacherScorer(teacher.trunk, (NUMERIC, CATEGORICAL)).save(str(tmp_path / "model"))
    batch = make_batch(200)
    batch["fold"] = tf.concat([batch["fold"][:100], tf.fill([100], NO_FOLD)], axis=0)
    np.savez(tmp_path / "rows.npz", **{name: batch[name].numpy() for name in ("ids", "dense", "fold")})
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(tmp_path / "model"), str(tmp_path / "rows.npz")],
        cwd=tmp_path,
        env={"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, expected = np.load(tmp_path / "rows.npz"), teacher(batch).numpy()
    for name in ("score", "signature"):
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_weighted_loss_by_hand(beta: float) -> None:
    teacher = make_teacher(beta=beta)
    randomise(teacher)
    batch = make_batch(24)
    weights = np.random.default_rng(2).choice([0.0, 1.0, 2.0], 24)
    z, y = teacher(batch).numpy().astype(np.float64), batch["label"].numpy()
    logits = np.log(np.exp(z[:, S:]).sum(axis=1) / np.exp(z[:, :S]).sum(axis=1))
    losses = np.log1p(np.exp(np.where(y == 1, -logits, logits)))
    # The auxiliary loss takes no weights.
    auxiliary = hand_loss(z, y, beta, 1.0, 512) - hand_loss(z, y, 0.0, 1.0, 512)
    expected = (weights * losses).sum() / weights.sum() + auxiliary
    found = teacher.compute_loss({**batch, "weight": tf.constant(weights, tf.float32)})
    assert float(found) == pytest.approx(expected, rel=1e-5)


def gradients_of(teacher: Teacher, batch: dict[str, tf.Tensor]) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        loss = teacher.compute_loss(batch)
    return [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, teacher.trainable_variables)]


@pytest.mark.parametrize("weights", [(2.0, 1.0), (0.0, 1.0), (2.0, 0.0)])
def test_gradients_of_weighted_rows_are_those_of_repeated_rows(weights: tuple[float, ...]) -> None:
    teacher = make_teacher(beta=0.0)
    randomise(teacher)
    batch = make_batch(20)
    chosen = np.random.default_rng(2).choice(weights, 20)
    repeated = {name: tf.repeat(value, chosen.astype(int), axis=0) for name, value in batch.items()}
    found = gradients_of(teacher, {**batch, "weight": tf.constant(chosen, tf.float32)})
    for mine, expected in zip(found, gradients_of(teacher, repeated), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-6)


def test_weights_play_no_part_in_scoring() -> None:
    teacher, batch = make_teacher(), make_batch(5)
    np.testing.assert_array_equal(teacher({**batch, "weight": tf.fill([5], 3.0)}), teacher(batch))


@pytest.mark.parametrize(
    ("architecture", "values"),
    [*[(name, {}) for name in ARCHITECTURES], ("dcn", {"embedding_sizes": "vocabulary", "precision": "bfloat16"})],
)
def test_a_loaded_model_gives_the_same_logits(architecture: str, values: dict[str, str], tmp_path: Path) -> None:
    teacher, batch = make_teacher(architecture=architecture, **values), make_batch(20)
    randomise(teacher)
    scorer = TeacherScorer(teacher.trunk, (NUMERIC, CATEGORICAL))
    scorer.save(str(tmp_path))
    # Graph against graph: without one, bfloat16 products are rounded at other places.
    models = (scorer, tf.saved_model.load(str(tmp_path)))
    expected, found = (model.score(batch["ids"], batch["dense"], batch["fold"])["logits"] for model in models)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_scorer_calibrates_the_click_logit_only() -> None:
    teacher, batch = make_teacher(), make_batch(20)
    randomise(teacher)
    scorer = TeacherScorer(teacher.trunk, (NUMERIC, CATEGORICAL), Calibration(0.8, 0.3))
    found, raw = scorer.score(batch["ids"], batch["dense"], batch["fold"])["logits"], teacher(batch)
    np.testing.assert_allclose(click_logit(found), 0.8 * click_logit(raw) + 0.3, rtol=1e-4, atol=1e-5)
    within = within_class_log_probabilities
    np.testing.assert_allclose(within(found), within(raw), rtol=1e-4, atol=1e-5)
    assert not scorer.scale.trainable and not scorer.shift.trainable


def make_toy(rows: int, seed: int) -> dict[str, tf.Tensor]:
    """A log whose clicks follow from two columns together: whether exactly one of them has a value with a row."""
    batch = make_batch(rows, seed)
    first, second = batch["ids"].numpy().T
    one = np.isin(first, (2, 3)) != (second == 2)
    label = np.random.default_rng(seed).random(rows) < np.where(one, 0.9, 0.1)
    return {**batch, "label": tf.constant(label, tf.float32)}


@pytest.mark.parametrize(
    ("architecture", "ensemble"), [*[(name, "mean") for name in ARCHITECTURES], ("mlp,finalmlp", "gated")]
)
def test_learns(architecture: str, ensemble: str) -> None:
    values = {"dropout": 0.0, "embedding_dropout": 0.0, "linear_dropout": 0.0, "hidden": (16,)}
    teacher = make_teacher(architecture=architecture, ensemble=ensemble, statistics="none", beta=0.01, **values)
    teacher.compile(optimizer=keras.optimizers.Adam(0.02, jit_compile=False))
    step = tf.function(teacher.train_step)
    for number in range(80):
        step(make_toy(256, number))
    batch = make_toy(2000, 1000)
    p_click = tf.sigmoid(click_logit(teacher(batch))).numpy()
    y = batch["label"].numpy()
    # Knowing nothing gives 0.69, knowing all 0.33.
    assert -np.log(np.where(y == 1, p_click, 1 - p_click)).mean() < 0.4


@pytest.mark.parametrize("ensemble", ["mean", "gated"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_member_is_the_teacher_bit_for_bit(architecture: str, ensemble: str) -> None:
    teacher, batch = make_teacher(architecture=architecture, ensemble=ensemble), make_batch(50)
    (member,) = teacher.trunk.members
    found, weights = teacher.trunk.outputs(batch)
    assert weights is None and teacher.trunk.gate is None
    np.testing.assert_array_equal(teacher(batch), found[:, 0])
    assert [*map(id, member.trainable_variables)] == [*map(id, teacher.trainable_variables)]


@pytest.mark.parametrize("ensemble", ["mean", "gated"])
def test_the_first_member_starts_as_the_only_one_would_and_the_others_do_not(ensemble: str) -> None:
    batch = make_batch(50)
    teacher = make_teacher(architecture="dcn,finalmlp,dcn", ensemble=ensemble)
    first, second, third = np.moveaxis(teacher.trunk.outputs(batch)[0].numpy(), 1, 0)
    np.testing.assert_array_equal(first, make_teacher(architecture="dcn")(batch))
    assert (first != third).mean() > 0.9 and (first != second).mean() > 0.9
    # Equal weights at the start, gated or not.
    np.testing.assert_allclose(teacher(batch), (first + second + third) / 3, rtol=1e-4, atol=1e-6)


def test_combined_logits_by_hand() -> None:
    logits = tf.constant([[[1.0, 2.0], [3.0, 6.0]]])
    np.testing.assert_allclose(combine(logits, None), [[2.0, 4.0]])
    np.testing.assert_allclose(combine(logits, tf.constant([[0.75, 0.25]])), [[1.5, 3.0]])


def test_the_gate_is_a_softmax_of_the_numbers() -> None:
    teacher = make_teacher(architecture="mlp,mlp,mlp", ensemble="gated", statistics="none")
    randomise(teacher)
    batch = make_batch(30)
    numbers = np.nan_to_num(batch["dense"].numpy().astype(np.float64))
    kernel, bias = (weight.numpy() for weight in teacher.trunk.gate.weights)
    odds = np.exp(numbers @ kernel + bias)
    found = teacher.trunk.outputs(batch)[1]
    np.testing.assert_allclose(found, odds / odds.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("ensemble", ["mean", "gated"])
def test_loss_of_an_ensemble_by_hand(ensemble: str, beta: float) -> None:
    teacher, batch = make_teacher(architecture="dcn,mlp", ensemble=ensemble, beta=beta), make_batch(24)
    randomise(teacher)
    y = batch["label"].numpy()
    members = [hand_loss(z, y, 0.0, 1.0, 512) for z in np.moveaxis(teacher.trunk.outputs(batch)[0].numpy(), 1, 0)]
    whole = [hand_loss(teacher(batch).numpy(), y, weight, 1.0, 512) for weight in (0.0, beta)]
    expected = np.mean(members) + whole[1] - whole[0] + (whole[0] if ensemble == "gated" else 0.0)
    np.testing.assert_allclose(teacher.compute_loss(batch), expected, rtol=1e-5)


@pytest.mark.parametrize("ensemble", ["mean", "gated"])
def test_members_learn_as_if_they_were_alone(ensemble: str) -> None:
    batch = make_batch(40)
    alone, together = (
        make_teacher(architecture=name, ensemble=ensemble, beta=0.0) for name in ("finalmlp", "finalmlp,dcn")
    )
    randomise(together)
    for mine, others in zip(alone.trainable_variables, together.trunk.members[0].trainable_variables, strict=True):
        mine.assign(others)
    first = {id(variable) for variable in together.trunk.members[0].trainable_variables}
    found = [
        gradient
        for variable, gradient in zip(together.trainable_variables, gradients_of(together, batch), strict=True)
        if id(variable) in first
    ]
    for mine, expected in zip(found, gradients_of(alone, batch), strict=True):
        np.testing.assert_allclose(2 * mine, expected, rtol=1e-4, atol=1e-7)


def test_the_gate_does_not_learn_from_the_auxiliary_loss() -> None:
    found = []
    for beta in (0.0, 0.5):
        teacher = make_teacher(architecture="dcn,mlp", ensemble="gated", beta=beta)
        randomise(teacher)
        with tf.GradientTape() as tape:
            loss = teacher.compute_loss(make_batch(40))
        found.append(tape.gradient(loss, teacher.trunk.gate.kernel).numpy())
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0]).max() > 0


def test_the_penalty_on_embeddings_is_the_mean_over_members() -> None:
    totals = []
    for architecture in ("mlp", "mlp,mlp"):
        teacher = make_teacher(architecture=architecture, embedding_l2=0.1)
        for member in teacher.trunk.members:
            member.embeddings.table.assign(tf.ones_like(member.embeddings.table))
        teacher.compute_loss(make_batch(10), training=True)
        totals.append(float(sum(teacher.losses)))
    # Four columns of three floats and a linear one.
    np.testing.assert_allclose(totals, [0.1 * 4 * 4] * 2, rtol=1e-5)

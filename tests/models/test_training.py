"""The training loop: what is kept, what is reported, when it stops."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from features.errors import ConfigError
from models.backend import keras, tf, tfrs
from models.heads import click_logit
from models.layers import EmbeddingTable
from models.losses import class_cross_entropy, mean_loss
from models.training import LoopSettings, WeightAverage, best_evaluation, evaluate, fit, start
from pipeline.config import TrainingConfig, narrow

ROWS, VALID = 160, 120


class Small(tfrs.Model):
    """A linear model of one embedding row and two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = EmbeddingTable(rows=8, dim=2, seed=0)
        self.layer = keras.layers.Dense(2, kernel_initializer="zeros")

    def call(self, batch: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        embedding, linear = self.table(batch["ids"], training=training)
        z = self.layer(tf.concat([embedding, batch["dense"]], axis=1))
        return z + tf.stack([tf.zeros_like(linear), linear], axis=1)

    def compute_loss(self, batch: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.reduce_mean(class_cross_entropy(batch["label"], self(batch, training=training)))


def make_rows(rows: int, seed: int, flip: bool = False) -> dict[str, np.ndarray]:
    """Rows whose label follows from the first number; with ``flip`` from its opposite."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, 2)).astype(np.float32)
    click = rng.random(rows) < 1 / (1 + np.exp(-3 * dense[:, 0] * (-1 if flip else 1)))
    return {
        "ids": rng.integers(8, size=(rows, 1)).astype(np.int32),
        "dense": dense,
        "label": click.astype(np.float32),
    }


def training(batch_size: int = 16, **options: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(make_rows(ROWS, 0, **options)).batch(batch_size).repeat()


def validation(flip: bool = False) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(make_rows(VALID, 1, flip)).batch(50)


def make_settings(**values: Any) -> LoopSettings:
    small = {"batch_size": 16, "learning_rate": 0.05, "epochs": 3.0, "evaluations": 2, "patience": 99, "averaging": 0.0}
    return dataclasses.replace(narrow(TrainingConfig(), LoopSettings), **{**small, **values})


def train(valid: tf.data.Dataset, **values: Any) -> tuple[Small, pd.DataFrame, list[tuple[float, str]]]:
    start(0)
    model, seen = Small(), []
    history = fit(model, training(), valid, ROWS, make_settings(**values), lambda rows, note: seen.append((rows, note)))
    return model, history, seen


def logloss(model: Small, rows: dict[str, np.ndarray]) -> float:
    return float(log_loss(rows["label"], tf.sigmoid(click_logit(model(rows))).numpy().astype(np.float64)))


@pytest.fixture(scope="module")
def learned() -> tuple[Small, pd.DataFrame, list[tuple[float, str]]]:
    """Three epochs of ten steps, two evaluations in each."""
    return train(validation())


def test_history(learned: tuple[Small, pd.DataFrame, list[tuple[float, str]]]) -> None:
    _, history, _ = learned
    assert list(history.columns) == ["epoch", "rows_seen", "train_loss", "valid_logloss", "valid_auc", "seconds"]
    np.testing.assert_allclose(history["epoch"], [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    np.testing.assert_allclose(history["rows_seen"], 80 * np.arange(1, 7))
    assert history["seconds"].is_monotonic_increasing
    assert history["train_loss"].iloc[0] == pytest.approx(math.log(2), abs=0.15)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_progress_says_the_rows_seen(learned: tuple[Small, pd.DataFrame, list[tuple[float, str]]]) -> None:
    _, history, seen = learned
    assert [rows for rows, _ in seen] == history["rows_seen"].tolist()
    assert seen[-1][1] == f"valid logloss {history['valid_logloss'].iloc[-1]:.5f}"


def test_learns(learned: tuple[Small, pd.DataFrame, list[tuple[float, str]]]) -> None:
    model, history, _ = learned
    assert history["valid_logloss"].min() < 0.5 < math.log(2)
    assert history["valid_auc"].max() > 0.85
    rows = make_rows(VALID, 1)
    assert logloss(model, rows) == pytest.approx(history["valid_logloss"].min(), rel=1e-6)


def test_keeps_the_weights_of_the_best_evaluation() -> None:
    # The validation labels follow the opposite rule, so the first evaluation is the best one.
    model, history, _ = train(validation(flip=True))
    assert history["valid_logloss"].is_monotonic_increasing
    best = history["valid_logloss"].iloc[0]
    assert history["valid_logloss"].iloc[-1] > best + 0.3
    assert logloss(model, make_rows(VALID, 1, flip=True)) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_stops_after_so_many_evaluations_without_a_better_one(patience: int) -> None:
    model, history, _ = train(validation(flip=True), patience=patience)
    assert len(history) == 1 + patience
    best = history["valid_logloss"].iloc[0]
    assert logloss(model, make_rows(VALID, 1, flip=True)) == pytest.approx(best, rel=1e-6)


def test_the_metrics_of_an_evaluation_are_those_of_all_validation_rows() -> None:
    model, _, _ = train(validation(), epochs=0.5)
    rows = make_rows(VALID, 1)
    found = evaluate(lambda batch: click_logit(model(batch)), validation())
    assert found["logloss"] == pytest.approx(logloss(model, rows), rel=1e-6)
    assert found["auc"] == pytest.approx(roc_auc_score(rows["label"], click_logit(model(rows)).numpy()), abs=1e-3)
    assert found["rows"] == VALID


def test_best_evaluation() -> None:
    history = pd.DataFrame({"epoch": [0.5, 1.0, 1.5], "valid_logloss": [0.6, 0.4, 0.5]})
    assert best_evaluation(history) == {"epoch": 1.0, "valid_logloss": 0.4}


@pytest.mark.parametrize("rate", [1e30, math.inf])
def test_a_loss_that_is_not_finite_is_the_users_error(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"training loss must stay finite. Received: (nan|inf) after .* steps"):
        train(validation(), learning_rate=rate)


def test_nan_in_the_data_is_reported_as_well() -> None:
    rows = make_rows(ROWS, 0)
    rows["dense"][3, 1] = np.nan
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(16).repeat()
    start(0)
    with pytest.raises(ConfigError, match="must stay finite. Received: nan"):
        fit(Small(), batches, validation(), ROWS, make_settings(), lambda *_: None)


def test_the_same_seed_trains_the_same_model(learned: tuple[Small, pd.DataFrame, list[tuple[float, str]]]) -> None:
    one, history, _ = learned
    two, again, _ = train(validation())
    np.testing.assert_allclose(history.drop(columns="seconds"), again.drop(columns="seconds"), rtol=1e-5)
    for mine, theirs in zip(one.trainable_variables, two.trainable_variables, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_start_seeds_what_is_drawn_later() -> None:
    def draw(seed: int) -> np.ndarray:
        start(seed)
        return keras.layers.Dropout(0.5)(tf.ones([20, 20]), training=True).numpy()

    np.testing.assert_array_equal(draw(3), draw(3))
    assert (draw(3) != draw(4)).any()


def test_a_model_of_averaged_weights_is_evaluated_and_kept() -> None:
    model, history, _ = train(validation(), averaging=0.9, epochs=6.0)
    assert logloss(model, make_rows(VALID, 1)) == pytest.approx(history["valid_logloss"].min(), rel=1e-6)
    assert history["valid_logloss"].min() < 0.5
    plain, _, _ = train(validation(), epochs=6.0)
    assert (model.layer.kernel.numpy() != plain.layer.kernel.numpy()).all()


def averages(values: np.ndarray, decay: float, every: int) -> np.ndarray:
    """Exponential moving average of values[0], values[1], ..., taken at every so many steps."""
    average = values[0].astype(np.float64)
    for step in range(every, len(values), every):
        rate = 1 - min(decay, (1 + step) / (10 + step)) ** every
        average = average + rate * (values[step] - average)
    return average


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("steps", [1, 4, 37, 120])
def test_weight_average_against_a_recursion(decay: float, steps: int) -> None:
    values = np.random.default_rng(0).normal(size=(steps + 1, 3)).astype(np.float32)
    variable = tf.Variable(values[0])
    average = WeightAverage([variable], decay)
    for value in values[1:]:
        variable.assign(value)
        average.update()
    with average.applied():
        np.testing.assert_allclose(variable, averages(values, decay, every=4), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(variable, values[-1])


def test_weights_that_do_not_change_are_their_own_average() -> None:
    variable = tf.Variable([1.5, -2.0])
    average = WeightAverage([variable], 0.99)
    for _ in range(20):
        average.update()
    with average.applied():
        np.testing.assert_array_equal(variable, [1.5, -2.0])


def test_no_average_leaves_the_weights_alone() -> None:
    variable = tf.Variable([1.0])
    average = WeightAverage([variable], 0.0)
    variable.assign([5.0])
    average.update()
    with average.applied():
        np.testing.assert_array_equal(variable, [5.0])
    np.testing.assert_array_equal(variable, [5.0])


def weighted_mean(rows: dict[str, np.ndarray], model: Small) -> float:
    p = tf.sigmoid(click_logit(model(rows))).numpy().astype(np.float64)
    return float(log_loss(rows["label"], p, sample_weight=rows["weight"]))


class Weighted(Small):
    """The same model with a weighted loss."""

    def compute_loss(self, batch: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        losses = class_cross_entropy(batch["label"], self(batch, training=training))
        return mean_loss(losses, batch.get("weight"))


def test_evaluations_are_weighted() -> None:
    rows = {**make_rows(VALID, 1), "weight": np.random.default_rng(4).choice([0.0, 0.5, 3.0], VALID)}
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(50)
    start(0)
    model = Weighted()
    history = fit(model, training(), batches, ROWS, make_settings(), lambda *_: None)
    assert history["valid_logloss"].min() == pytest.approx(weighted_mean(rows, model), rel=1e-6)
    found = evaluate(lambda batch: click_logit(model(batch)), batches)
    logits = click_logit(model(rows)).numpy()
    expected = roc_auc_score(rows["label"], logits, sample_weight=rows["weight"])
    assert found["auc"] == pytest.approx(expected, abs=1e-3) and found["rows"] == VALID


def test_rows_without_weight_teach_nothing() -> None:
    """Half of the rows follow the opposite rule, with a weight of 0."""
    good, bad = make_rows(ROWS, 0), make_rows(ROWS, 0, flip=True)
    rows = {name: np.concatenate([good[name], bad[name]]) for name in good}
    rows["weight"] = np.repeat(np.float32([1, 0]), ROWS)
    order = np.random.default_rng(0).permutation(2 * ROWS)
    batches = tf.data.Dataset.from_tensor_slices({k: v[order] for k, v in rows.items()}).batch(32).repeat()
    losses = []
    for made in (batches, batches.map(lambda batch: {**batch, "weight": tf.ones_like(batch["weight"])})):
        start(0)
        history = fit(Weighted(), made, validation(), 2 * ROWS, make_settings(batch_size=32), lambda *_: None)
        losses.append(history["valid_logloss"].min())
    assert losses[0] < 0.5 < losses[1] - 0.1

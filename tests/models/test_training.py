"""The training loop: what is kept, what is reported, when it stops."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import models.training
from features.errors import TrainingError
from models.backend import keras, tf, tfrs
from models.dropout import Dropout
from models.embeddings import EmbeddingTable
from models.heads import click_logit
from models.losses import class_cross_entropy, mean_loss
from models.training import CHECKPOINTS, TENSORBOARD, LoopSettings, Stream, evaluate, fit, start
from pipeline.config import narrow
from pipeline.settings import TrainingConfig

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


def training(rows: dict[str, np.ndarray] | None = None, batch_size: int = 16) -> Stream:
    """The same batches in every epoch."""
    rows = make_rows(ROWS, 0) if rows is None else rows
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)
    return lambda epoch, batch: batches.repeat().skip(batch)


def validation(flip: bool = False) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(make_rows(VALID, 1, flip)).batch(50)


def make_settings(**values: Any) -> LoopSettings:
    small = {"batch_size": 16, "learning_rate": 0.05, "epochs": 3.0, "evaluations": 2, "patience": 99, "averaging": 0.0}
    return dataclasses.replace(narrow(TrainingConfig(), LoopSettings), **{**small, **values})


def train(valid: tf.data.Dataset, **values: Any) -> tuple[Small, pd.DataFrame, list[tuple[float, str]]]:
    start(0)
    model, seen = Small(), []
    settings = make_settings(**values)
    with tempfile.TemporaryDirectory() as folder:
        history = fit(model, training(), valid, ROWS, settings, lambda rows, note: seen.append((rows, note)), folder)
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


@pytest.mark.parametrize("rate", [1e30, math.inf])
def test_a_loss_that_is_not_finite_is_the_users_error(rate: float) -> None:
    with pytest.raises(TrainingError, match=r"training loss must stay finite and .* Received: \S+ after \d+ steps"):
        train(validation(), learning_rate=rate)


def test_nan_in_the_data_is_reported_as_well(tmp_path: Path) -> None:
    rows = make_rows(ROWS, 0)
    rows["dense"][3, 1] = np.nan
    start(0)
    with pytest.raises(TrainingError, match=r"must stay finite .* Received: nan"):
        fit(Small(), training(rows), validation(), ROWS, make_settings(), lambda *_: None, str(tmp_path))


def test_the_same_seed_trains_the_same_model(learned: tuple[Small, pd.DataFrame, list[tuple[float, str]]]) -> None:
    one, history, _ = learned
    two, again, _ = train(validation())
    np.testing.assert_allclose(history.drop(columns="seconds"), again.drop(columns="seconds"), rtol=1e-5)
    for mine, theirs in zip(one.trainable_variables, two.trainable_variables, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_start_seeds_what_is_drawn_later() -> None:
    def draw(seed: int) -> np.ndarray:
        start(seed)
        return tf.random.normal([20]).numpy()

    np.testing.assert_array_equal(draw(3), draw(3))
    assert (draw(3) != draw(4)).any()


def test_a_model_of_averaged_weights_is_evaluated_and_kept() -> None:
    model, history, _ = train(validation(), averaging=0.9, epochs=6.0)
    assert logloss(model, make_rows(VALID, 1)) == pytest.approx(history["valid_logloss"].min(), rel=1e-6)
    assert history["valid_logloss"].min() < 0.5
    plain, _, _ = train(validation(), epochs=6.0)
    assert (model.layer.kernel.numpy() != plain.layer.kernel.numpy()).all()


def weighted_mean(rows: dict[str, np.ndarray], model: Small) -> float:
    p = tf.sigmoid(click_logit(model(rows))).numpy().astype(np.float64)
    return float(log_loss(rows["label"], p, sample_weight=rows["weight"]))


class Weighted(Small):
    """The same model with a weighted loss."""

    def compute_loss(self, batch: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        losses = class_cross_entropy(batch["label"], self(batch, training=training))
        return mean_loss(losses, batch.get("weight"))


def test_evaluations_are_weighted(tmp_path: Path) -> None:
    rows = {**make_rows(VALID, 1), "weight": np.random.default_rng(4).choice([0.0, 0.5, 3.0], VALID)}
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(50)
    start(0)
    model = Weighted()
    history = fit(model, training(), batches, ROWS, make_settings(), lambda *_: None, str(tmp_path))
    assert history["valid_logloss"].min() == pytest.approx(weighted_mean(rows, model), rel=1e-6)
    found = evaluate(lambda batch: click_logit(model(batch)), batches)
    logits = click_logit(model(rows)).numpy()
    expected = roc_auc_score(rows["label"], logits, sample_weight=rows["weight"])
    assert found["auc"] == pytest.approx(expected, abs=1e-3) and found["rows"] == VALID


def test_rows_without_weight_teach_nothing(tmp_path: Path) -> None:
    """Half of the rows follow the opposite rule, with a weight of 0."""
    good, bad = make_rows(ROWS, 0), make_rows(ROWS, 0, flip=True)
    rows = {name: np.concatenate([good[name], bad[name]]) for name in good}
    order = np.random.default_rng(0).permutation(2 * ROWS)
    losses = []
    for name, weights in (("weighted", [1, 0]), ("equal", [1, 1])):
        made = {**rows, "weight": np.repeat(np.float32(weights), ROWS)}
        stream = training({key: value[order] for key, value in made.items()}, 32)
        start(0)
        settings, folder = make_settings(batch_size=32), str(tmp_path / name)
        history = fit(Weighted(), stream, validation(), 2 * ROWS, settings, lambda *_: None, folder)
        losses.append(history["valid_logloss"].min())
    assert losses[0] < 0.5 < losses[1] - 0.1


class Dropping(Small):
    """The same model with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = Dropout(0.3, 5, "dropout")

    def call(self, batch: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return super().call({**batch, "dense": self.dropout(batch["dense"], training=training)}, training)


class Killed(Exception):
    """In place of a signal."""


def fit_dropping(folder: Path, kill_at: float = math.inf, **values: Any) -> tuple[Dropping, pd.DataFrame]:
    """Trains with chunks of four steps and a checkpoint after each; ends with `Killed` after so many rows."""
    start(0)
    model = Dropping()

    def progress(rows: float, note: str) -> None:
        if rows >= kill_at:
            raise Killed

    settings = make_settings(averaging=0.9, **values)
    history = fit(model, training(), validation(), ROWS, settings, progress, str(folder))
    return model, history


@pytest.mark.parametrize("schedule", ["linear", "plateau"])
@pytest.mark.parametrize("table_optimizer", ["adam", "adagrad"])
def test_a_killed_training_goes_on_where_it_was(
    table_optimizer: str, schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two evaluations, at one, and again in the next epoch."""
    monkeypatch.setattr(models.training, "_CHUNK_STEPS", 4)
    monkeypatch.setattr(models.training, "_CHECKPOINT_SECONDS", 0)
    values = {"table_optimizer": table_optimizer, "schedule": schedule, "evaluations": 1, "epochs": 2.0}
    whole, expected = fit_dropping(tmp_path / "whole", **values)
    for kill_at in (64, 160, 224):
        with pytest.raises(Killed):
            fit_dropping(tmp_path / "killed", kill_at, **values)
    again, history = fit_dropping(tmp_path / "killed", **values)
    for mine, theirs in zip(again.trainable_variables, whole.trainable_variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), expected.drop(columns="seconds"))


def test_a_finished_training_is_taken_from_its_checkpoint(tmp_path: Path) -> None:
    whole, expected = fit_dropping(tmp_path)
    again, history = fit_dropping(tmp_path, 0)
    pd.testing.assert_frame_equal(history, expected)
    np.testing.assert_array_equal(again.layer.kernel, whole.layer.kernel)


def test_an_explosion_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    rows = {name: np.concatenate([value] * 2) for name, value in make_rows(ROWS, 0).items()}
    rows["dense"][ROWS + 5] = 1e9
    stream = training(rows)
    start(0)
    with pytest.raises(TrainingError, match=r"below .* Received: .* after \d+ steps; lower the learning rate"):
        fit(Small(), stream, validation(), ROWS, make_settings(evaluations=5), lambda *_: None, str(tmp_path))
    (state,) = (tmp_path / CHECKPOINTS).glob("latest-*/state.json")
    assert json.loads(state.read_text())["record"]["step"] == 10


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    start(0)
    model, rows = Small(), make_rows(ROWS, 0)
    history = fit(model, training(), None, ROWS, make_settings(), lambda *_: None, str(tmp_path), stop_after=17)
    assert list(history.columns) == ["epoch", "rows_seen", "train_loss", "seconds"]
    np.testing.assert_allclose(history["epoch"], [0.5, 1.0, 1.5, 1.7])
    same, untouched = Small(), Small()
    start(0)
    fit(same, training(), validation(), ROWS, make_settings(), lambda *_: None, str(tmp_path / "x"), stop_after=17)
    untouched(rows)
    np.testing.assert_array_equal(same.layer.kernel, model.layer.kernel)
    assert (model.layer.kernel != untouched.layer.kernel).numpy().any()


@pytest.mark.parametrize("epochs", [0.5, 1.5])
def test_no_more_steps_than_epochs(epochs: float) -> None:
    _, history, seen = train(validation(), epochs=epochs, evaluations=1)
    assert seen[-1][0] == epochs * ROWS and history["epoch"].iloc[-1] == epochs


def test_a_validation_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    batches = tf.data.Dataset.from_tensor_slices({**make_rows(VALID, 1), "weight": np.zeros(VALID)}).batch(50)
    start(0)
    with pytest.raises(TrainingError, match=r"validation logloss must stay finite. Received: nan after 5 steps"):
        fit(Small(), training(), batches, ROWS, make_settings(), lambda *_: None, str(tmp_path))


def test_what_an_evaluation_raises_ends_the_training(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []

    def stop(row: dict[str, float]) -> None:
        rows.append(row)
        if len(rows) == 2:
            raise Killed

    start(0)
    with pytest.raises(Killed):
        fit(
            Small(), training(), validation(), ROWS, make_settings(), lambda *_: None, str(tmp_path), on_evaluation=stop
        )
    assert [row["epoch"] for row in rows] == [0.5, 1.0]


def test_on_a_plateau_the_learning_rate_drops_and_is_logged(tmp_path: Path) -> None:
    start(0)
    settings = make_settings(schedule="plateau", epochs=3.0)
    fit(Small(), training(), validation(flip=True), ROWS, settings, lambda *_: None, str(tmp_path))
    logged: dict[str, list[float]] = {}
    (path,) = (tmp_path / TENSORBOARD).iterdir()
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            logged.setdefault(value.tag, []).append(value.simple_value)
    # The first of six evaluations is the best one; after two more without a better one the rate is a tenth.
    np.testing.assert_allclose(logged["learning_rate"], [0.05, 0.05, 0.05, 0.005, 0.005, 0.0005], rtol=1e-5)
    assert set(logged) >= {"train_loss", "valid_logloss", "valid_auc", "rows_per_second", "rows_seen"}

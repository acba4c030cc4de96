"""Boosted trees: what they learn, from whom they hear, and that the same rows give the same trees."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.blocks import Block
from features.errors import ConfigError
from features.hashing import FOLDS
from models.boosted import LoadedTrees, TreeInputs, TreeRows, TreeSettings, boost, require_lightgbm, tree_inputs

SETTINGS = TreeSettings(boosted_trees=40, boosted_rate=0.1, boosted_leaves=7, seed=3)


def exclusive_or(rows: int, seed: int, noise: float = 0.0) -> TreeRows:
    """Clicks where one of two numbers is missing or below 0, and not both; the rows in two pieces."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 3)).astype(np.float32)
    low = x[:, :2] < 0
    x[:, 1] = np.where(low[:, 1], np.nan, x[:, 1])
    labels = (low[:, 0] ^ low[:, 1]) ^ (generator.random(rows) < noise)
    return TreeRows([x[: rows // 3], x[rows // 3 :]], labels.astype(np.uint8))


def constant(labels: list[int], weights: list[float] | None = None) -> TreeRows:
    weight = None if weights is None else np.array(weights, np.float32)
    return TreeRows([np.zeros((len(labels), 2), np.float32)], np.array(labels, np.uint8), weight)


def test_trees_learn_what_no_single_column_says() -> None:
    training, test = exclusive_or(3000, seed=1), exclusive_or(500, seed=2)
    trees = boost(training, None, SETTINGS)
    logits = trees.predict(np.concatenate(test.inputs), raw_score=True)
    assert ((logits > 0) == test.labels).mean() > 0.95
    assert trees.num_trees() == 40


def test_the_same_rows_give_the_same_trees() -> None:
    training = exclusive_or(2000, seed=1)
    texts = [boost(training, None, SETTINGS).model_to_string() for _ in range(2)]
    assert texts[0] == texts[1]
    assert texts[0] != boost(training, None, replace(SETTINGS, boosted_leaves=3)).model_to_string()


def test_validation_rows_say_how_many_trees_are_kept() -> None:
    training, validation = exclusive_or(400, 1, noise=0.3), exclusive_or(400, 2, noise=0.3)
    many = replace(SETTINGS, boosted_trees=1000)
    said: list[float] = []
    trees = boost(training, validation, many, lambda done, note: said.append(done))
    kept = trees.num_trees()
    assert said == list(range(1, kept + 51)), "50 more trees were no better"
    longer = boost(training, None, replace(many, boosted_trees=kept + 50))

    def loss(number: int) -> float:
        logits = longer.predict(np.concatenate(validation.inputs), raw_score=True, num_iteration=number)
        return float(np.logaddexp(0, np.where(validation.labels == 1, -logits, logits)).mean())

    losses = [loss(number) for number in range(1, kept + 51)]
    assert 1 < kept and np.argmin(losses) == kept - 1


@pytest.mark.parametrize(
    ("weights", "odds"), [(None, 1 / 3), ([3.0, 1.0, 1.0, 1.0], 1.0), ([0.5, 0.0, 2.0, 0.0], 0.25)]
)
def test_weights_count_rows(weights: list[float] | None, odds: float) -> None:
    """Inputs that say nothing leave the base rate."""
    rows = constant([1, 0, 0, 0] * 30, weights and weights * 30)
    logit = boost(rows, None, SETTINGS).predict(rows.inputs[0][:1], raw_score=True)
    assert logit[0] == pytest.approx(math.log(odds), abs=1e-6)


def block_of(rows: int) -> Block:
    generator = np.random.default_rng(5)
    return Block(
        np.zeros(rows, np.uint8),
        generator.normal(size=(rows, 2)).astype(np.float32),
        np.zeros((rows, 1), np.int32),
        (np.arange(rows) % FOLDS).astype(np.uint8),
        np.arange(rows),
    )


def test_a_training_row_hears_the_booster_that_has_not_seen_it(tmp_path: Path) -> None:
    """Boosters that know nothing but their base rate, by which they can be told apart."""
    clicks, paths = (10, 20, 40, 80, 90), []
    for part, number in enumerate(clicks):
        rows = constant([1] * number + [0] * (100 - number))
        paths.append(str(tmp_path / f"booster-{part}.txt"))
        boost(rows, None, SETTINGS).save_model(paths[-1])
    TreeInputs(None, None, (2, 1)).save(str(tmp_path / "inputs"))
    trees = LoadedTrees([str(tmp_path / "inputs")], paths)
    block, logits = block_of(23), [math.log(number / (100 - number)) for number in clicks]
    own = trees.click_logits(block, block.folds.astype(np.int32), training=True)
    np.testing.assert_allclose(own, [logits[row % 10 % 5] for row in range(23)], atol=1e-6)
    other = trees.click_logits(block, np.full(23, FOLDS, np.int32), training=False)
    np.testing.assert_allclose(other, np.full(23, np.mean(logits)), atol=1e-6)
    assert trees.click_logits(block.take(slice(0, 0)), np.empty(0, np.int32), training=True).shape == (0,)


def test_inputs_without_statistics_are_the_numerics() -> None:
    block = block_of(4)
    block.dense[1, 0] = np.nan
    found = tree_inputs(TreeInputs(None, None, (2, 1)), block, np.zeros(4, np.int32))
    np.testing.assert_array_equal(found, block.dense)


def test_without_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    require_lightgbm()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^boosted above 0 must have the boost extra: .* Received: no lightgbm.$"):
        require_lightgbm()

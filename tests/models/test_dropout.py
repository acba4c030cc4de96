"""Dropout by (seed, name, call): what is kept, how often, and that it can be taken up again."""

from __future__ import annotations

import numpy as np
import pytest

from models.backend import keras, tf
from models.dropout import Dropout


def test_nothing_is_dropped_outside_training_or_at_rate_0() -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 4)), tf.float32)
    for layer in (Dropout(0.5, 1, "dropout"), Dropout(0.0, 1, "dropout")):
        np.testing.assert_array_equal(layer(x, training=False), x)
        np.testing.assert_array_equal(layer(x), x)
    layer = Dropout(0.0, 1, "dropout")
    np.testing.assert_array_equal(layer(x, training=True), x)
    assert layer.variables == []


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_kept_values_are_scaled_up(rate: float) -> None:
    x = tf.ones([200, 200])
    y = Dropout(rate, 3, "dropout")(x, training=True).numpy()
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)
    # Four standard deviations of a share of 40,000 draws.
    assert abs((y == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / y.size)


def test_masks_differ_by_call_seed_and_name() -> None:
    x = tf.ones([40, 40])
    layer = Dropout(0.5, 3, "dropout")
    masks = [layer(x, training=True), layer(x, training=True)]
    masks += [Dropout(0.5, 4, "dropout")(x, training=True), Dropout(0.5, 3, "other")(x, training=True)]
    assert len({mask.numpy().tobytes() for mask in masks}) == 4


def test_the_number_of_the_call_is_all_that_must_be_restored() -> None:
    x = tf.ones([40, 40])
    layer = Dropout(0.5, 3, "dropout")
    whole = [layer(x, training=True).numpy() for _ in range(5)]
    again = Dropout(0.5, 3, "dropout")
    again.calls.assign(3)
    for mask in whole[3:]:
        np.testing.assert_array_equal(again(x, training=True), mask)


def test_inside_a_graph_every_step_draws_anew() -> None:
    layer = Dropout(0.5, 3, "dropout")
    step = tf.function(lambda x: layer(x, training=True))
    x = tf.ones([40, 40])
    eager = Dropout(0.5, 3, "dropout")
    for _ in range(3):
        np.testing.assert_array_equal(step(x), eager(x, training=True))


def test_config_makes_the_same_layer() -> None:
    layer = Dropout(0.25, 9, "dropout")
    again = Dropout.from_config(layer.get_config())
    x = tf.ones([30, 30])
    np.testing.assert_array_equal(layer(x, training=True), again(x, training=True))
    assert isinstance(again, keras.layers.Layer)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rate_must_be_a_share_below_1(rate: float) -> None:
    with pytest.raises(ValueError, match=r"`rate` should be in \[0, 1\). Received: rate="):
        Dropout(rate, 0, "dropout")

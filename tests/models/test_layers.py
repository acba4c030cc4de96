"""Shared layers: formulas in NumPy, seeds, precision, serialisation."""

from __future__ import annotations

import numpy as np
import pytest

from models.backend import keras, tf
from models.layers import HiddenLayers, dense, dense_inputs, linear_part
from models.seeds import seed_for


def test_initial_weights_follow_from_seed_and_name() -> None:
    keras.utils.set_random_seed(1)
    kernel = built_kernel(dense(8, 0, "first"))
    keras.utils.set_random_seed(2)
    built_kernel(dense(3, 0, "another layer before"))
    np.testing.assert_array_equal(built_kernel(dense(8, 0, "first")), kernel)
    assert (built_kernel(dense(8, 0, "second")) != kernel).all()
    assert (built_kernel(dense(8, 1, "first")) != kernel).all()


def built_kernel(layer: keras.layers.Dense) -> np.ndarray:
    layer(tf.zeros([1, 5]))
    return layer.kernel.numpy()


def test_dense_kernel_is_glorot_uniform() -> None:
    kernel = dense(300, 0, "wide")
    kernel(tf.zeros([1, 200]))
    limit = np.sqrt(6 / 500)
    values = kernel.kernel.numpy()
    assert abs(values).max() <= limit
    assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)


def test_seeds_differ_by_name_and_seed() -> None:
    seeds = {seed_for(seed, name) for seed in range(20) for name in ("head", "hidden_0", "hidden_1", "cross_0")}
    assert len(seeds) == 80
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_for(3, "head") == seed_for(3, "head")


def test_dense_inputs() -> None:
    values = tf.constant([[np.nan, 1.5], [-2.0, np.nan]])
    np.testing.assert_array_equal(dense_inputs(values, None), [[0.0, 1.5], [-2.0, 0.0]])
    found = dense_inputs(values, tf.constant([[7.0], [8.0]]))
    np.testing.assert_array_equal(found, [[0.0, 1.5, 7.0], [-2.0, 0.0, 8.0]])


def test_linear_part_starts_at_zero() -> None:
    layer = linear_part()
    np.testing.assert_array_equal(layer(tf.ones([3, 4])), np.zeros([3, 1]))
    assert [weight.shape.as_list() for weight in layer.weights] == [[4, 1]]


def test_hidden_layers_formula() -> None:
    layers = HiddenLayers([8, 3], seed=0)
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    found = layers(tf.constant(x))
    for layer in layers.layers:
        layer.bias.assign(np.random.default_rng(1).normal(size=layer.bias.shape))
    found = layers(tf.constant(x))
    for layer in layers.layers:
        x = np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)
    np.testing.assert_allclose(found, x, rtol=1e-5, atol=1e-6)


def test_no_hidden_layer_is_the_identity() -> None:
    x = tf.constant([[1.0, -2.0]])
    np.testing.assert_array_equal(HiddenLayers([], seed=0, dropout=0.9)(x, training=True), x)


def test_hidden_layers_drop_out_in_training_only() -> None:
    layers = HiddenLayers([50], seed=0, dropout=0.5)
    x = tf.ones([40, 10])
    kept = layers(x).numpy()
    dropped = layers(x, training=True).numpy()
    active = kept > 0
    np.testing.assert_array_equal(layers(x, training=False), kept)
    assert (dropped[active] == 0).mean() == pytest.approx(0.5, abs=0.1)
    left = active & (dropped > 0)
    np.testing.assert_allclose(dropped[left], 2 * kept[left], rtol=1e-6)


def test_hidden_layers_round_trip() -> None:
    layers = HiddenLayers((8, 3), seed=5, dropout=0.25, precision="bfloat16", name="deep")
    copy = HiddenLayers.from_config(layers.get_config())
    assert copy.get_config() == layers.get_config()
    x = tf.random.stateless_normal([4, 6], seed=[0, 0])
    np.testing.assert_array_equal(layers(x), copy(x))


def test_layers_of_equal_width_start_from_different_weights() -> None:
    layers = HiddenLayers([6, 6], seed=0)
    layers(tf.zeros([1, 6]))
    assert (layers.layers[0].kernel.numpy() != layers.layers[1].kernel.numpy()).all()


def test_bfloat16_rounds_the_products_and_nothing_else() -> None:
    x = np.random.default_rng(0).normal(size=(64, 30)).astype(np.float32)
    exact, rounded = HiddenLayers([20, 10], seed=0), HiddenLayers([20, 10], seed=0, precision="bfloat16")
    expected, found = exact(tf.constant(x)), rounded(tf.constant(x))
    assert found.dtype == tf.float32
    assert [weight.dtype for weight in rounded.weights] == [tf.float32] * 4
    np.testing.assert_allclose(found, expected, atol=0.02)  # bfloat16 has eight bits
    assert (found.numpy() != expected.numpy()).any()


def test_every_hidden_layer_drops_units_of_its_own() -> None:
    layers = HiddenLayers([400, 400], seed=0, dropout=0.5)
    layers(tf.ones([1, 3]))
    masks = [drop(tf.ones([1, 400]), training=True).numpy() for drop in layers.dropouts]
    assert 100 < (masks[0] != masks[1]).sum() < 300

"""Shared layers: formulas in NumPy, seeds, serialisation."""

from __future__ import annotations

import numpy as np
import pytest

from models.backend import keras, tf
from models.layers import EmbeddingTable, HiddenLayers, TableDropout, dense, dense_inputs, linear_part, seed_for

ROWS = [[1, 50, 7], [2, 51, 7], [99, 0, 1]]


def random_table(table: EmbeddingTable) -> np.ndarray:
    """Builds the table and gives it random weights."""
    table(tf.constant([[0]]))
    values = np.random.default_rng(0).normal(size=table.table.shape).astype(np.float32)
    table.table.assign(values)
    return values


def initial(rows: int = 100, dim: int = 4, seed: int = 0, name: str = "embedding_table") -> np.ndarray:
    table = EmbeddingTable(rows, dim, seed, name=name)
    table(tf.constant([[0]]))
    return table.table.numpy()


def test_embedding_table_formula() -> None:
    table = EmbeddingTable(rows=100, dim=4, seed=0)
    values = random_table(table)
    embedding, linear = table(tf.constant(ROWS))
    expected = [np.concatenate([values[row, :4] for row in rows]) for rows in ROWS]
    np.testing.assert_array_equal(embedding, expected)
    np.testing.assert_allclose(linear, [sum(values[row, 4] for row in rows) for rows in ROWS], rtol=1e-6)


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_embedding_table_shapes(batch: int) -> None:
    embedding, linear = EmbeddingTable(rows=10, dim=3, seed=0)(tf.zeros([batch, 7], tf.int32))
    assert (embedding.shape, linear.shape) == ([batch, 21], [batch])


def test_embeddings_start_small_and_the_linear_part_at_zero() -> None:
    values = initial(rows=5000)
    assert values[:, :4].std() == pytest.approx(0.01, rel=0.03)
    assert abs(values[:, :4].mean()) < 5e-4
    assert (values[:, 4] == 0).all()


def test_initial_weights_follow_from_seed_and_name() -> None:
    keras.utils.set_random_seed(1)
    one, kernel = initial(), built_kernel(dense(8, 0, "first"))
    keras.utils.set_random_seed(2)
    built_kernel(dense(3, 0, "another layer before"))
    np.testing.assert_array_equal(initial(), one)
    np.testing.assert_array_equal(built_kernel(dense(8, 0, "first")), kernel)
    assert (initial(seed=1) != one)[:, :4].all()
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


def test_the_gradient_is_one_of_looked_up_rows() -> None:
    table = EmbeddingTable(rows=100, dim=2, seed=0)
    random_table(table)
    with tf.GradientTape() as tape:
        embedding, linear = table(tf.constant(ROWS))
        loss = 3 * tf.reduce_sum(embedding) + 2 * tf.reduce_sum(linear)
    gradient = tape.gradient(loss, table.table)
    assert isinstance(gradient, tf.IndexedSlices)
    expected = np.zeros((100, 3), np.float32)
    for row in np.ravel(ROWS):  # row 7 occurs twice
        expected[row] += [3, 3, 2]
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient), expected)


def test_penalty_on_the_rows_of_a_batch() -> None:
    table = EmbeddingTable(rows=100, dim=2, seed=0, l2=0.5)
    values = random_table(table)
    table(tf.constant(ROWS))
    assert table.losses == []
    table(tf.constant(ROWS), training=True)
    expected = 0.5 * sum(np.square(values[row]).sum() for row in np.ravel(ROWS)) / len(ROWS)
    np.testing.assert_allclose(table.losses, [expected], rtol=1e-5)


@pytest.mark.parametrize("arguments", [{"rows": 0, "dim": 4}, {"rows": 4, "dim": 0}, {"rows": -1, "dim": 1}])
def test_embedding_table_refuses_empty_tables(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"`rows` and `dim` should be positive. Received: rows="):
        EmbeddingTable(arguments["rows"], arguments["dim"], seed=0)


def test_embedding_table_round_trip() -> None:
    dropout = TableDropout(embedding=0.5, field=0.1)
    table = EmbeddingTable(rows=20, dim=3, seed=5, dropout=dropout, l2=0.1, name="table")
    copy = EmbeddingTable.from_config(table.get_config())
    assert copy.get_config() == table.get_config()
    assert (copy.name, copy.rows, copy.dim, copy.seed, copy.l2) == ("table", 20, 3, 5, 0.1)
    rows = tf.constant([[1, 2], [19, 0]])
    for mine, theirs in zip(table(rows), copy(rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("rates", [{"embedding": 0.5}, {"linear": 0.5}, {"field": 0.5}])
def test_embedding_table_drops_out_in_training_only(rates: dict[str, float]) -> None:
    table = EmbeddingTable(rows=100, dim=4, seed=0, dropout=TableDropout(**rates))
    random_table(table)
    rows = tf.constant(np.random.default_rng(0).integers(100, size=(300, 6)), tf.int32)
    embedding, linear = (part.numpy() for part in table(rows))
    dropped_embedding, dropped_linear = (part.numpy() for part in table(rows, training=True))
    if "linear" in rates:
        np.testing.assert_array_equal(dropped_embedding, embedding)
    else:
        gone = dropped_embedding == 0
        assert gone.mean() == pytest.approx(0.5, abs=0.05)
        np.testing.assert_allclose(dropped_embedding[~gone], 2 * embedding[~gone], rtol=1e-6)
        by_column = gone.reshape(300, 6, 4)
        assert (by_column.all(axis=2) == by_column.any(axis=2)).all() == ("field" in rates)
    if "embedding" in rates:
        np.testing.assert_array_equal(dropped_linear, linear)
    else:
        assert (dropped_linear != linear).mean() > 0.9


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
    layers = HiddenLayers((8, 3), seed=5, dropout=0.25, name="deep")
    copy = HiddenLayers.from_config(layers.get_config())
    assert copy.get_config() == layers.get_config()
    x = tf.random.stateless_normal([4, 6], seed=[0, 0])
    np.testing.assert_array_equal(layers(x), copy(x))


def test_layers_of_equal_width_start_from_different_weights() -> None:
    layers = HiddenLayers([6, 6], seed=0)
    layers(tf.zeros([1, 6]))
    assert (layers.layers[0].kernel.numpy() != layers.layers[1].kernel.numpy()).all()

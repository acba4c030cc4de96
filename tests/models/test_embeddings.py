"""Embeddings: formulas in NumPy, seeds, dropout, sizes by vocabulary, serialisation."""

from __future__ import annotations

import numpy as np
import pytest

from models.backend import keras, tf
from models.embeddings import EmbeddingTable, EmbeddingTables, TableDropout, make_embeddings, vocabulary_dim
from models.tables import TableLayout

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


def test_initial_embeddings_follow_from_seed_and_name() -> None:
    keras.utils.set_random_seed(1)
    one = initial()
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(initial(), one)
    assert (initial(seed=1) != one)[:, :4].all()
    assert (initial(name="another") != one)[:, :4].all()


def test_rows_are_read_and_assigned() -> None:
    table = EmbeddingTable(rows=100, dim=2, seed=0)
    values = random_table(table)
    np.testing.assert_array_equal(table.read_rows(7, 20), values[7:20])
    table.assign_rows(98, np.ones((2, 3), np.float32))
    values[98:] = 1
    np.testing.assert_array_equal(table.table, values)


@pytest.mark.parametrize(
    ("length", "largest", "expected"),
    [(1, 16, 1), (5, 16, 2), (16, 16, 2), (40, 16, 2), (100, 16, 4), (2000, 16, 8), (10**5, 16, 16), (10**9, 16, 16)]
    + [(10**5, 4, 4), (10**5, 3, 3), (5, 3, 2)],
)
def test_embeddings_grow_with_the_fourth_root_of_the_vocabulary(length: int, largest: int, expected: int) -> None:
    assert vocabulary_dim(length, largest) == expected


LENGTHS, DIMS = [4, 6, 3, 5], [2, 4, 2, 1]


def several(dropout: TableDropout | None = None, l2: float = 0.0) -> tuple[EmbeddingTables, list[np.ndarray]]:
    """Tables with random weights, and those of each column."""
    tables = EmbeddingTables(LENGTHS, DIMS, 0, dropout or TableDropout(), l2)
    tables(tf.constant([[0, 4, 10, 13]]))
    rng, columns, start = np.random.default_rng(0), [], 0
    for length, dim in zip(LENGTHS, DIMS, strict=True):
        columns.append(rng.normal(size=(length, dim + 1)).astype(np.float32))
        tables.assign_rows(start, columns[-1])
        start += length
    return tables, columns


def test_several_tables_formula() -> None:
    tables, columns = several()
    own = np.array([[0, 5, 2, 4], [3, 0, 0, 0], [1, 2, 1, 3]])  # rows of each column, from 0 on
    embedding, linear = tables(tf.constant(own + [0, 4, 10, 13], tf.int32))
    # The smallest first: the column of one float, then those of two, then the one of four.
    found = [[columns[column][row[column]] for column in (3, 0, 2, 1)] for row in own]
    np.testing.assert_array_equal(embedding, [np.concatenate([values[:-1] for values in row]) for row in found])
    np.testing.assert_allclose(linear, [sum(values[-1] for values in row) for row in found], rtol=1e-6)


def test_several_tables_share_a_table_for_each_size() -> None:
    tables, columns = several()
    assert sorted(variable.shape.as_list() for variable in tables.trainable_variables) == [[5, 2], [6, 5], [7, 3]]
    np.testing.assert_array_equal(tables.read_rows(10, 13), columns[2])
    np.testing.assert_array_equal(tables.read_rows(5, 7), columns[1][1:3])
    tables.assign_rows(13, np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(tables.read_rows(13, 18), [[0, 0], *columns[3][1:].tolist()])


def test_penalty_of_several_tables_is_that_of_all_rows() -> None:
    tables, columns = several(l2=0.5)
    tables(tf.constant([[0, 4, 10, 13], [3, 4, 11, 14]]), training=True)
    looked_up = [columns[0][[0, 3]], columns[1][[0, 0]], columns[2][[0, 1]], columns[3][[0, 1]]]
    np.testing.assert_allclose(
        sum(tables.losses), 0.5 * sum(np.square(rows).sum() for rows in looked_up) / 2, rtol=1e-5
    )


def test_made_for_a_layout() -> None:
    layout = TableLayout(kept=(2000, 3), edges=((0.0, 1.0),))
    equal = make_embeddings(layout, 8, "equal", 0, TableDropout(), 0.1)
    assert isinstance(equal, EmbeddingTable)
    assert (equal.rows, equal.dim, equal.l2) == (layout.rows, 8, 0.1)
    sized = make_embeddings(layout, 8, "vocabulary", 0, TableDropout(), 0.1)
    rows = tf.constant([layout.starts])
    embedding, linear = sized(rows)
    # 2002, 5 and 4 rows have 8, 2 and 1 floats.
    assert (embedding.shape, linear.shape) == ([1, 11], [1])

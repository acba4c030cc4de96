"""Statistics of pairs of columns, against pandas on the rows that may be seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from features import crosses
from features.blocks import Block
from features.crosses import (
    CrossRows,
    CrossTable,
    bucket_codes,
    cell_keys,
    coarse_edges,
    cross_rows,
    find_crosses,
)
from features.numeric import NumericColumn

EDGES = [np.array([-1.0, 0.0, 1.0], np.float32), np.array([0.5], np.float32)]
SIZES = (4, 3, 40, 2)


def make_block(rows: int = 4000, seed: int = 0) -> Block:
    """Four categorical columns of which 0 and 3 make the label together (an exclusive or), and two numeric ones."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(size, size=rows) for size in SIZES], axis=1).astype(np.int32)
    dense = rng.normal(size=(rows, 2)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.1] = np.nan
    rate = np.where((ids[:, 0] % 2) ^ (ids[:, 3] % 2), 0.5, 0.15)
    labels = (rng.random(rows) < rate).astype(np.uint8)
    folds = rng.integers(10, size=rows).astype(np.uint8)
    return Block(labels, dense, ids, folds, np.arange(rows, dtype=np.int64))


def frame_of(rows: CrossRows) -> pd.DataFrame:
    frame = pd.DataFrame(rows.codes)
    return frame.assign(label=rows.labels.astype(np.int64), fold=rows.folds)


def smoothed(frame: pd.DataFrame, by: list[int], smoothing: float, prior: pd.Series) -> pd.Series:
    """Log-odds of the groups with some rows of the prior log-odds added, minus the prior."""
    found = frame.groupby(by)["label"].agg(["sum", "count"])
    prior = prior.reindex(found.index)
    rate = 1 / (1 + np.exp(-prior))
    clicks, others = found["sum"] + smoothing * rate, found["count"] - found["sum"] + smoothing * (1 - rate)
    return np.log(clicks / others) - prior


def expected_cells(seen: pd.DataFrame, pair: tuple[int, int]) -> pd.Series:
    """The statistic of each pair of values, from the rows that may be seen."""
    rate = seen["label"].mean()
    base = np.log(rate / (1 - rate))
    single = [smoothed(seen, [c], 10.0, pd.Series(base, index=seen.groupby([c]).size().index)) for c in pair]
    pairs = seen.groupby(list(pair)).size().index
    additive = [single[0].loc[a] + single[1].loc[b] + base for a, b in pairs]
    return smoothed(seen, list(pair), 30.0, pd.Series(additive, index=pairs).clip(-4.6, 4.6))


def cells_of(table: CrossTable, cross: tuple[int, ...]) -> tuple[pd.MultiIndex, np.ndarray]:
    """The pairs of codes of a cross, and their values."""
    number = table.crosses.index(cross)
    own = table.keys >> 48 == number
    keys = table.keys[own] & ((1 << 48) - 1)
    return pd.MultiIndex.from_arrays([keys >> 24, keys & ((1 << 24) - 1)]), table.values[own].astype(np.float64)


@pytest.fixture(scope="module")
def rows() -> CrossRows:
    return cross_rows(make_block(), EDGES)


@pytest.fixture(scope="module")
def table(rows: CrossRows) -> CrossTable:
    return find_crosses(rows, 100)


def test_codes_by_hand() -> None:
    dense = np.array([[-2.0, 0.4], [-1.0, 0.5], [0.3, np.nan], [np.nan, 9.0], [1.0, -np.inf]], np.float32)
    assert bucket_codes(dense, EDGES).tolist() == [[0, 0], [1, 1], [2, 2], [4, 1], [3, 0]]


def test_coarse_edges_are_every_second_one() -> None:
    columns = [
        NumericColumn("I1", "log", 1.0, 2.0, 0, (0.0, 1.0, 2.0, 4.0, 5.0)),
        NumericColumn("I2", "log", 0.0, 1.0, 3, ()),
    ]
    assert [edges.tolist() for edges in coarse_edges(columns)] == [[-0.5, 0.5, 2.0], []]


def test_a_fold_is_left_out_with_its_rows() -> None:
    block = make_block(200)
    rows = cross_rows(block, EDGES, without=[1, 3, 5, 7, 9])
    kept = block.folds % 2 == 0
    assert np.array_equal(rows.folds, block.folds[kept]) and np.array_equal(rows.labels, block.labels[kept])
    assert np.array_equal(rows.codes[:, :4], block.ids[kept])
    assert np.array_equal(rows.codes[:, 4:], bucket_codes(block.dense[kept], EDGES))
    assert rows.categorical == 4


@pytest.mark.parametrize("pair", [(0, 3), (1, 2), (0, 5), (4, 5)])
@pytest.mark.parametrize("fold", [0, 7, 10])
def test_cells_equal_pandas_without_the_fold(
    rows: CrossRows, table: CrossTable, pair: tuple[int, int], fold: int
) -> None:
    frame = frame_of(rows)
    index, values = cells_of(table, pair)
    sizes = frame.groupby(list(pair)).size()
    assert index.equals(sizes[sizes >= 20].index.set_names([None, None])), "cells are the pairs with enough rows"
    total = expected_cells(frame, pair).loc[list(index)]
    deviation = np.sqrt((total**2 * sizes.loc[list(index)]).sum() / len(frame))
    expected = expected_cells(frame[frame["fold"] != fold], pair).loc[list(index)] / max(deviation, 0.01)
    np.testing.assert_allclose(values[:, fold], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pair", [(0, 3), (4, 5)])
def test_cells_in_time_equal_pandas_on_earlier_slices(rows: CrossRows, pair: tuple[int, int]) -> None:
    """The folds are taken for slices."""
    frame = frame_of(rows)
    index, values = cells_of(find_crosses(rows, 100, "time"), pair)
    sizes = frame.groupby(list(pair)).size()
    total = expected_cells(frame, pair).loc[list(index)]
    deviation = np.sqrt((total**2 * sizes.loc[list(index)]).sum() / len(frame))
    for number in (2, 9, 10):
        expected = expected_cells(frame[frame["fold"] < number], pair).loc[list(index)] / max(deviation, 0.01)
        np.testing.assert_allclose(values[:, number], expected, rtol=1e-5, atol=1e-6)
    assert len(index) and not values[:, 0].any()


def test_labels_of_a_slice_are_seen_by_later_slices_only(rows: CrossRows) -> None:
    flipped = np.where(rows.folds == 4, 1 - rows.labels, rows.labels).astype(np.uint8)
    parts = [crosses._Statistics(dataclasses.replace(rows, labels=labels), "time") for labels in (rows.labels, flipped)]
    for column in range(rows.codes.shape[1]):
        one, other = (part._single[column] for part in parts)
        assert one[:, :5].tobytes() == other[:, :5].tobytes()
        assert (np.abs(one[:, 5:] - other[:, 5:]).max(axis=0) > 1e-4).all()


def test_rows_in_time_have_the_slice_of_their_shard() -> None:
    block = make_block(200)
    rows = cross_rows(block, EDGES, without=[1, 3], time_slice=7)
    assert rows.folds.dtype == np.uint8 and rows.folds.tolist() == [7] * len(rows)
    assert np.array_equal(rows.labels, block.labels[~np.isin(block.folds, [1, 3])])


@pytest.mark.parametrize(("order", "chosen"), [("time", (0, 3)), ("folds", (1, 3))])
def test_ranking_in_time_is_on_rows_of_all_times(
    order: str, chosen: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early rows have the interaction of columns 0 and 3, the latest 4000 of 40,000 another one."""
    block = make_block(40_000)
    late = np.arange(len(block)) >= 36_000
    signs = np.where(late, (block.ids[:, 1] == 1) ^ (block.ids[:, 3] == 1), (block.ids[:, 0] % 2) ^ block.ids[:, 3])
    labels = (np.random.default_rng(1).random(len(block)) < 0.1 + 0.6 * signs).astype(np.uint8)
    monkeypatch.setattr(crosses, "_RANKING_ROWS", 4000)
    rows = cross_rows(dataclasses.replace(block, labels=labels), EDGES)
    rows = dataclasses.replace(rows, folds=(np.arange(len(block)) // 4000).astype(np.uint8))
    if order == "folds":
        rows = dataclasses.replace(rows, folds=block.folds)
    assert find_crosses(rows, 1, order).crosses[-1] == chosen


def test_single_numeric_columns_equal_pandas(rows: CrossRows, table: CrossTable) -> None:
    frame = frame_of(rows)
    index, values = cells_of(table, (4,))
    buckets = index.get_level_values(0)
    assert buckets.equals(index.get_level_values(1)) and buckets.tolist() == [0, 1, 2, 3, 4]
    for fold in (3, 10):
        seen = frame[frame["fold"] != fold]
        base = np.log(seen["label"].mean() / (1 - seen["label"].mean()))
        expected = smoothed(seen, [4], 10.0, pd.Series(base, index=pd.Index(range(5), name=4)))
        shape = values[:, fold] / np.abs(values[:, fold]).max()
        np.testing.assert_allclose(shape, expected / expected.abs().max(), rtol=1e-5)


def test_the_own_fold_left_out_is_as_if_its_rows_did_not_exist(table: CrossTable) -> None:
    """The same numbers, but for the scale, come from the rows without fold 4."""
    without = find_crosses(cross_rows(make_block(), EDGES, without=[4]), 100)
    for pair in [(0, 3), (0, 1), (1, 5)]:
        (index, values), (other_index, others) = cells_of(table, pair), cells_of(without, pair)
        assert index.equals(other_index)
        left, whole = values[:, 4], others[:, 10]
        np.testing.assert_allclose(left / np.abs(left).max(), whole / np.abs(whole).max(), rtol=1e-5)


def test_a_planted_interaction_comes_first(rows: CrossRows) -> None:
    """Column 2 has 40 values: on the rows themselves, its pairs would explain more than the planted one."""
    assert find_crosses(rows, 1).crosses == ((4,), (5,), (0, 3))


def test_noise_is_not_taken_for_an_interaction() -> None:
    rng = np.random.default_rng(5)
    block = dataclasses.replace(make_block(20_000), labels=(rng.random(20_000) < 0.3).astype(np.uint8))
    rows = cross_rows(block, EDGES)
    found = find_crosses(rows, 100)
    keys, own = cell_keys(rows.codes, found.crosses), rows.folds.astype(np.int64)
    for number, cross in enumerate(found.crosses):
        cells = np.minimum(np.searchsorted(found.keys, keys[:, number]), len(found.keys) - 1)
        values = np.where(found.keys[cells] == keys[:, number], found.values[cells, own], 0.0)
        # Five deviations of a correlation of 20,000 independent rows.
        assert abs(np.corrcoef(values, rows.labels)[0, 1]) < 5 / np.sqrt(len(rows)), cross


def test_labels_of_folds_left_out_change_no_bit() -> None:
    block, hidden = make_block(), [0, 2, 4, 6, 8]
    flipped = np.where(np.isin(block.folds, hidden), 1 - block.labels, block.labels).astype(np.uint8)
    other = dataclasses.replace(block, labels=flipped)
    found, again = (find_crosses(cross_rows(b, EDGES, hidden), 8) for b in (block, other))
    assert found.crosses == again.crosses
    assert found.keys.tobytes() == again.keys.tobytes() and found.values.tobytes() == again.values.tobytes()
    seen, changed = (find_crosses(cross_rows(b, EDGES), 8) for b in (block, other))
    assert seen.values.tobytes() != changed.values.tobytes()


def test_the_latest_rows_count(rows: CrossRows, monkeypatch: pytest.MonkeyPatch) -> None:
    late = rows.take(slice(-1500, None))
    expected = find_crosses(late, 4)
    monkeypatch.setattr(crosses, "MAX_ROWS", 1500)
    found = find_crosses(rows, 4)
    assert found.crosses == expected.crosses and np.array_equal(found.values, expected.values)


def test_order_of_parts(rows: CrossRows) -> None:
    parts = [rows.take(slice(start, start + 1000)) for start in range(0, len(rows), 1000)]
    whole = CrossRows.concatenate(parts)
    assert np.array_equal(whole.codes, rows.codes) and np.array_equal(whole.folds, rows.folds)
    assert whole.categorical == rows.categorical


@pytest.mark.parametrize(("number", "size"), [(0, 4000), (5, 0)])
def test_nothing_to_find(rows: CrossRows, number: int, size: int) -> None:
    found = find_crosses(rows.take(slice(0, size)), number)
    assert found.crosses == () and found.keys.shape == (0,) and found.values.shape == (0, 11)


def test_keys_rise_and_name_cross_and_codes(rows: CrossRows, table: CrossTable) -> None:
    assert (np.diff(table.keys) > 0).all()
    codes = np.array([[3, 1, 7, 0, 2, 1]], np.int32)
    keys = cell_keys(codes, [(4,), (0, 3), (2, 5)])
    assert keys.tolist() == [[(2 << 24) + 2, (1 << 48) + (3 << 24), (2 << 48) + (7 << 24) + 1]]


def test_tensorflow_finds_the_same_statistics(table: CrossTable) -> None:
    """On rows with pairs that are no cells, missing and infinite numbers, for every fold and for none."""
    from models.backend import tf
    from models.tables import CrossStatistics

    block = make_block(1100, seed=3)
    ids = block.ids + np.random.default_rng(4).integers(3, size=block.ids.shape, dtype=np.int32)
    dense = block.dense.copy()
    dense[:5, 0], dense[5:9, 1] = np.inf, -np.inf
    dense[9:12, 0] = EDGES[0]
    fold = np.arange(len(ids), dtype=np.int32) % 11
    found = CrossStatistics(table, EDGES)(tf.constant(ids), tf.constant(dense), tf.constant(fold)).numpy()
    values = {int(key): row for key, row in zip(table.keys, table.values, strict=True)}
    keys = cell_keys(np.concatenate([ids, bucket_codes(dense, EDGES)], axis=1), table.crosses)
    nothing = np.zeros(11, np.float32)
    expected = np.array(
        [[values.get(key, nothing)[f] for key in row] for row, f in zip(keys.tolist(), fold, strict=True)]
    )
    assert (expected == 0).any() and np.array_equal(found, expected)


def test_tensorflow_takes_a_table_without_cells() -> None:
    """A log of a few rows has no pair with enough of them."""
    from models.backend import tf
    from models.tables import CrossStatistics

    nothing = CrossTable(((4,), (0, 3)), np.empty(0, np.int64), np.empty((0, 11), np.float32))
    block = make_block(3)
    found = CrossStatistics(nothing, EDGES)(tf.constant(block.ids), tf.constant(block.dense), tf.constant([0, 5, 10]))
    assert found.shape == (3, 2) and not found.numpy().any()


def weighted_rows(weights: list[float], rows: int = 4000) -> CrossRows:
    block = make_block(rows)
    chosen = np.random.default_rng(5).choice(weights, rows).astype(np.float32)
    return cross_rows(dataclasses.replace(block, weights=chosen), EDGES)


def take(rows: CrossRows, places: np.ndarray, weighted: bool = False) -> CrossRows:
    weights = rows.weights[places] if weighted and rows.weights is not None else None
    return CrossRows(rows.codes[places], rows.labels[places], rows.folds[places], rows.categorical, weights)


def assert_close(found: CrossTable, expected: CrossTable) -> None:
    assert found.crosses == expected.crosses and len(found.crosses) > 2
    assert found.keys.tolist() == expected.keys.tolist()
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-6)


@pytest.fixture
def every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows decide which cells there are; here all of them."""
    monkeypatch.setattr(crosses, "_MIN_CELL_ROWS", 1)
    monkeypatch.setattr(crosses, "_MIN_CELL_SHARE", 0.0)


def test_weights_of_one_change_nothing(rows: CrossRows, table: CrossTable) -> None:
    found = find_crosses(weighted_rows([1.0]), 100)
    assert found.crosses == table.crosses and found.keys.tobytes() == table.keys.tobytes()
    assert found.values.tobytes() == table.values.tobytes()


@pytest.mark.usefixtures("every_cell")
def test_weight_two_is_the_row_twice() -> None:
    rows = weighted_rows([1.0, 2.0])
    assert rows.weights is not None
    twice = take(rows, np.repeat(np.arange(len(rows)), rows.weights.astype(int)))
    for number in (2, 100):
        assert_close(find_crosses(rows, number), find_crosses(twice, number))


@pytest.mark.usefixtures("every_cell")
def test_weight_zero_is_the_row_absent() -> None:
    rows = weighted_rows([0.0, 1.0, 1.0])
    assert rows.weights is not None
    rest = take(rows, np.flatnonzero(rows.weights))
    for number in (2, 100):
        assert_close(find_crosses(rows, number), find_crosses(rest, number))


def test_rows_decide_which_cells_there_are(rows: CrossRows, table: CrossTable) -> None:
    light = find_crosses(weighted_rows([1e-4]), 100)
    assert light.crosses == table.crosses and light.keys.tolist() == table.keys.tolist()
    # What they say is smoothed by 30 rows of the prior, in which a ten-thousandth of a row is nothing.
    assert np.abs(light.values).max() < np.abs(table.values).max() / 20


def test_no_weight_at_all_chooses_no_pair() -> None:
    found = find_crosses(weighted_rows([0.0]), 8)
    assert found.crosses == ((4,), (5,)) and not found.values.any()


def test_weighted_labels_of_a_fold_leave_no_trace() -> None:
    rows = weighted_rows([0.1, 0.7, 3.3, 1e4])
    flipped = np.where(rows.folds == 4, 1 - rows.labels, rows.labels).astype(np.uint8)
    statistics = [
        crosses._Statistics(dataclasses.replace(rows, labels=made), "folds") for made in (rows.labels, flipped)
    ]
    for column in range(rows.codes.shape[1]):
        own = [found._single[column][:, 4].tobytes() for found in statistics]
        assert own[0] == own[1]


def test_parts_with_weights(rows: CrossRows) -> None:
    whole = weighted_rows([0.5, 2.0])
    parts = [whole.take(slice(start, start + 1000)) for start in range(0, len(whole), 1000)]
    joined = CrossRows.concatenate(parts)
    assert joined.weights is not None and np.array_equal(joined.weights, whole.weights)
    assert CrossRows.concatenate([rows]).weights is None

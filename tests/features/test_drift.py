"""Histograms of columns and the population stability index."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy

from features.blocks import Block
from features.drift import TOP, ColumnCells, Histograms, stability_index
from features.numeric import NumericColumn
from features.schema import Column, Schema
from features.spec import ExamplesSpec

COUNTS = arrays(np.int64, 6, elements=st.integers(0, 10_000))
CELLS = ColumnCells((3, 1000), (np.array([-1.0, 0.5], np.float32), np.zeros(0, np.float32)))


def test_index_by_hand() -> None:
    # With half a row more a cell: 1.5/7 and 5.5/7 against 1/2 and 1/2, so 2/7 ln(11/7) - 2/7 ln(3/7).
    expected = 2 / 7 * math.log(11 / 3)
    assert stability_index(np.array([1, 5]), np.array([3, 3])) == pytest.approx(expected)
    assert stability_index(np.array([0, 1, 5, 0]), np.array([0, 3, 3, 0])) == pytest.approx(expected)


@given(COUNTS, COUNTS)
def test_index_is_the_divergence_both_ways(left: np.ndarray, right: np.ndarray) -> None:
    index = stability_index(left, right)
    if not left.any() or not right.any():
        assert math.isnan(index)
        return
    used = np.flatnonzero(left + right)
    p, q = left[used] + 0.5, right[used] + 0.5
    assert index == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-12)
    assert index >= 0 and index == pytest.approx(stability_index(right, left))
    assert stability_index(left, left) == 0


def test_equal_shares_of_other_sizes_are_near() -> None:
    rows = np.array([100, 1000, 10_000])
    assert stability_index(rows, 7 * rows) < 1e-6 < 1 < stability_index(rows, rows[::-1])


def block(ids: list[list[int]], dense: list[list[float]]) -> Block:
    rows = len(ids)
    zeros = np.zeros(rows, np.uint8)
    return Block(zeros, np.array(dense, np.float32), np.array(ids, np.int32), zeros, np.arange(rows))


ROWS = block(
    [[0, 0], [1, 2], [4, 51], [5, 52], [6, 1001], [2, 1002], [4, 1]],
    [[math.nan, math.nan], [-1, 1], [-1.5, 3], [0.5, 1], [0.75, math.nan], [0, 2], [math.nan, 1]],
)


def test_cells_by_hand() -> None:
    found = Histograms.empty(CELLS).update(ROWS, CELLS)
    # Of three values (ids 2 to 4) the ids 5 and 6 are hash buckets; of a thousand, 1002.
    first, second = (dict(enumerate(cells.tolist())) for cells in found.categorical)
    assert {cell: rows for cell, rows in first.items() if rows} == {0: 1, 1: 3, 2: 1, 4: 2}
    assert {cell: rows for cell, rows in second.items() if rows} == {0: 1, 1: 2, 2: 1, 51: 1, 2 + TOP: 2}
    assert [cells.tolist() for cells in found.numeric] == [[1, 2, 2, 2], [5, 2]]
    assert found.rows == 7 and found.missing.tolist() == [2, 2, 1, 1] and found.outside.tolist() == [3, 2]
    mean, std = found.moments()
    values = [[-1, -1.5, 0.5, 0.75, 0], [1, 3, 1, 2, 1]]
    assert mean == pytest.approx(np.mean(values, axis=1)) and std == pytest.approx(np.std(values, axis=1))


def test_parts_merge() -> None:
    whole = Histograms.empty(CELLS).update(ROWS, CELLS)
    parts = [Histograms.empty(CELLS).update(ROWS.take(slice(start, start + 3)), CELLS) for start in (0, 3, 6)]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert merged.rows == whole.rows and np.array_equal(merged.categorical, whole.categorical)
    assert all(map(np.array_equal, merged.numeric, whole.numeric))
    assert merged.sums == pytest.approx(whole.sums) and merged.squares == pytest.approx(whole.squares)
    assert merged.stability(whole).tolist() == [0, 0, 0, 0]


def test_each_column_is_compared_with_itself() -> None:
    changed = ROWS.take(np.arange(len(ROWS)))
    changed.ids[:, 1] = 0
    changed.dense[:, 0] = math.nan
    other = Histograms.empty(CELLS).update(changed, CELLS)
    index = Histograms.empty(CELLS).update(ROWS, CELLS).stability(other).tolist()
    assert index[1] == index[2] == 0 and min(index[0], index[3]) > 0.5


def test_values_outside_the_vocabulary_are_rare_values() -> None:
    sizes = ColumnCells((100,), ())
    rare, outside, frequent = (
        Histograms.empty(sizes).update(block([[2]] * 5 + [[number]] * 5, [[]] * 10), sizes) for number in (90, 1, 3)
    )
    assert rare.outside.tolist() == [0] and outside.outside.tolist() == [5]
    assert rare.stability(outside).tolist() == [0]
    assert rare.stability(frequent).tolist() == [stability_index(np.array([5, 5, 0]), np.array([5, 0, 5]))]


def test_no_rows() -> None:
    nothing = Histograms.empty(CELLS)
    assert nothing.rows == 0 and np.isnan(nothing.moments()).all()
    assert np.isnan(nothing.stability(Histograms.empty(CELLS).update(ROWS, CELLS))).all()


def test_cells_of_a_run() -> None:
    schema = Schema(
        (Column("y", "label"), Column("x", "float"), Column("a", "categorical"), Column("b", "categorical"))
    )
    column = NumericColumn("x", "log", 2.0, 4.0, 3, (0.0, 4.0, 10.0))
    spec = ExamplesSpec(schema, (column,), (10, 25), 8, {}, {}, (1,) * 10, (1,) * 10, (1.0,) * 10, (1.0,) * 10, 0, 0, 0)
    cells = ColumnCells.of(spec)
    assert cells.sizes == (0, 15)
    assert [edges.tolist() for edges in cells.edges] == [[-0.5, 0.5, 2.0]]

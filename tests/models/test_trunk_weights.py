"""Weights as arrays: what they are, stored and read, and with fewer values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from features.statistics import ClickCounts
from models.tables import TableLayout
from models.trunk_weights import TrunkWeights

# A column of three kept values, one of one kept value and two hash buckets each, and a numeric one of two buckets.
LAYOUT = TableLayout((3, 1), ((0.5,),), buckets=2, sizes=(5, 2))
# By id: missing, unseen, values, buckets.
TOTALS = [[7, 0, 40, 6, 4, 2, 1, 3, 2], [1, 0, 50, 9, 2, 3]]
ROWS = 100


def counts() -> ClickCounts:
    by_fold = np.zeros((sum(map(len, TOTALS)), 10), np.int64)
    by_fold[:, 3] = np.concatenate(TOTALS)
    by_fold[2, 3], by_fold[2, 8] = 30, 10
    rows = np.zeros(10, np.int64)
    rows[[3, 8]] = 90, 10
    return ClickCounts(np.array([0, 9]), by_fold, by_fold, rows, rows)


def weights(dim: int = 2) -> TrunkWeights:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    columns = draw(7, dim + 1), draw(5, dim + 1), draw(3, dim + 1)
    return TrunkWeights(columns, draw(1), (draw(3 * dim + 1, 4), draw(4)), (draw(4, 6), draw(6)))


@pytest.mark.parametrize("hidden", [True, False])
def test_arrays_are_the_weights(hidden: bool) -> None:
    first = weights()
    first = first if hidden else dataclasses.replace(first, hidden=None)
    second = TrunkWeights.from_arrays(first.to_arrays())
    assert len(second.columns) == 3 and (second.hidden is None) is not hidden
    for one, other in zip(first.to_arrays().items(), second.to_arrays().items(), strict=True):
        assert one[0] == other[0] and one[1].tobytes() == other[1].tobytes()


def test_an_array_that_is_missing() -> None:
    arrays = weights().to_arrays()
    del arrays["linear"]
    with pytest.raises(KeyError, match="linear"):
        TrunkWeights.from_arrays(arrays)


def test_rows_that_go_join_the_row_for_other_values() -> None:
    before = weights()
    after = before.pruned(LAYOUT, [1, 1], counts())
    first = before.columns[0].astype(float)
    # Of 100 rows 7 lack the value, 40 + 6 + 4 have a kept one and 5 a hashed one: 38 have a value without a row.
    other = (38 * first[1] + 6 * first[3] + 4 * first[4]) / 48
    expected = np.stack([first[0], other, first[2], first[5], first[6]])
    np.testing.assert_allclose(after.columns[0], expected, rtol=1e-6)
    assert after.columns[0].dtype == np.float32
    assert after.columns[1] is before.columns[1] and after.columns[2] is before.columns[2]
    assert after.head is before.head


def test_rows_equal_to_that_of_other_values_stay_so() -> None:
    before = weights()
    before.columns[0][0] = before.columns[0][2] = before.columns[0][1]
    after = before.pruned(LAYOUT, [2, 1], counts()).columns[0]
    assert not np.array_equal(after[1], before.columns[0][1])
    assert np.array_equal(after[0], after[1]) and np.array_equal(after[2], after[1])
    assert np.array_equal(after[3], before.columns[0][3])


def test_no_value_is_left() -> None:
    after = weights().pruned(LAYOUT, [0, 0], counts())
    assert [len(rows) for rows in after.columns] == [4, 4, 3]

"""Time slices: how shards are cut, counts against pandas, and that nothing later is seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.blocks import Block
from features.errors import DataError
from features.hashing import FOLDS
from features.statistics import ClickCounts
from features.time_slices import SLICES, slice_of_shards, sliced_counts
from features.vocabulary import UNSEEN

IDS = (6, 9)
STARTS = np.array([0, 6])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([5, 5], [0, 1]),
        ([1000, 1], [0, 1]),
        ([1, 1000], [0, 1]),
        ([7] * 10, list(range(10))),
        ([7] * 20, [number // 2 for number in range(20)]),
        # A tenth of 100 rows is 10: a large shard is a slice, small ones share one.
        ([60, 4, 3, 3, 20, 10], [0, 1, 1, 1, 2, 3]),
        ([0, 5, 0, 5, 0], [0, 1, 2, 3, 4]),
    ],
)
def test_slices_by_hand(rows: list[int], expected: list[int]) -> None:
    assert slice_of_shards(rows) == expected


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=200))
def test_slices_rise_from_0_without_a_gap(rows: list[int]) -> None:
    if sum(count > 0 for count in rows) < 2:
        with pytest.raises(DataError, match="at least 2 training shards"):
            slice_of_shards(rows)
        return
    found = slice_of_shards(rows)
    assert found[0] == 0 and max(found) < SLICES and set(np.diff(found)) <= {0, 1}
    filled = {number for number, count in zip(found, rows, strict=True) if count}
    assert len(filled) >= 2


def test_slices_of_many_shards_have_about_equal_rows() -> None:
    rows = np.random.default_rng(0).integers(500, 1500, 300)
    sums = np.bincount(slice_of_shards(rows.tolist()), rows)
    assert len(sums) == SLICES and np.abs(sums / rows.sum() - 0.1).max() < 0.006


@pytest.mark.parametrize("rows", [[], [0, 0], [0, 9, 0]])
def test_one_shard_cannot_be_cut(rows: list[int]) -> None:
    with pytest.raises(DataError, match=f"shards with rows. Received: {sum(count > 0 for count in rows)}"):
        slice_of_shards(rows)


def make_blocks(weighted: bool = False) -> list[tuple[int, Block]]:
    """Blocks of random rows in four slices; the slices 1 and 2 have two blocks."""
    rng = np.random.default_rng(0)
    made = []
    for number, time_slice in enumerate((0, 1, 1, 2, 2, 3)):
        size = 50 + 10 * number
        block = Block(
            (rng.random(size) < 0.4).astype(np.uint8),
            np.zeros((size, 1), np.float32),
            np.stack([rng.integers(ids, size=size) for ids in IDS], axis=1).astype(np.int32),
            rng.integers(FOLDS, size=size).astype(np.uint8),
            np.arange(size),
            rng.choice([0.25, 1.5], size).astype(np.float32) if weighted else None,
        )
        made.append((time_slice, block))
    return made


def like(weighted: bool) -> ClickCounts:
    """Counts of the columns, which say where they lie; the numbers do not count here."""
    counts, rows = np.ones((sum(IDS), FOLDS), np.int64), np.ones(FOLDS, np.int64)
    weights = (np.ones(counts.shape), np.ones(FOLDS)) if weighted else ()
    return ClickCounts(STARTS, counts, counts, rows, rows, *weights)


def sums_by_pandas(blocks: list[tuple[int, Block]], column: int, without: list[int]) -> pd.DataFrame:
    """Rows, weights and clicked weights of each id and slice of a column; those of all rows for column -1."""
    parts = []
    for time_slice, block in blocks:
        weights = np.ones(len(block)) if block.weights is None else block.weights.astype(np.float64)
        ids = block.ids[:, column] if column >= 0 else 0
        frame = pd.DataFrame({"id": ids, "one": 1, "weight": weights, "click": weights * block.labels})
        parts.append(frame.assign(slice=time_slice)[~np.isin(block.folds, without)])
    found = pd.concat(parts).groupby(["id", "slice"])[["one", "weight", "click"]].sum()
    size = IDS[column] if column >= 0 else 1
    return found.reindex(pd.MultiIndex.from_product([range(size), range(SLICES)]), fill_value=0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("without", [[], [0, 3, 7]])
def test_counts_equal_pandas(weighted: bool, without: list[int]) -> None:
    blocks = make_blocks(weighted)
    found = sliced_counts(like(weighted), iter(blocks), without)
    assert found.counts.dtype == np.int64 and found.clicks.dtype == (np.float64 if weighted else np.int64)
    for column, start in enumerate(STARTS):
        part = slice(start, start + IDS[column])
        expected = {
            name: values.to_numpy(copy=True).reshape(-1, SLICES)
            for name, values in sums_by_pandas(blocks, column, without).items()
        }
        for values in expected.values():
            # Rows whose value did not fit into the vocabulary are not rows of the unseen.
            assert values[UNSEEN].any()
            values[UNSEEN] = 0
        np.testing.assert_array_equal(found.counts[part], expected["one"])
        np.testing.assert_array_equal(found.clicks[part], expected["click"])
        if found.weights is not None:
            np.testing.assert_array_equal(found.weights[part], expected["weight"])
    whole = sums_by_pandas(blocks, -1, without)
    assert found.rows.tolist() == whole["one"].tolist() and found.row_clicks.tolist() == whole["click"].tolist()
    assert (found.weights is not None) == (found.row_weights is not None) == weighted
    if found.row_weights is not None:
        assert found.row_weights.tolist() == whole["weight"].tolist()


@pytest.mark.parametrize("weighted", [False, True])
def test_labels_of_a_slice_are_seen_by_later_slices_only(weighted: bool) -> None:
    """Labels and weights of slice 2, and even its ids, change no bit of what slices 0 to 2 see, but for the scale."""
    blocks = make_blocks(weighted)
    changed = [
        (number, dataclasses.replace(block, labels=1 - block.labels, ids=block.ids[::-1]) if number == 2 else block)
        for number, block in blocks
    ]
    one, other = (sliced_counts(like(weighted), made).statistics(5.0, "time") for made in (blocks, changed))
    for start, size in zip(STARTS, IDS, strict=True):
        # The distances of all values to each other, in units of the first: free of the column's scale.
        first, second = (part.values[start : start + size].astype(np.float64) for part in (one, other))
        free = [(part - part[:, 1:2]) / np.ptp(part[:, 1], axis=0) for part in (first, second)]
        np.testing.assert_allclose(free[0][:, :3], free[1][:, :3], atol=1e-4)
        assert (np.abs(free[0][:, 3:, 0] - free[1][:, 3:, 0]).max(axis=0) > 0.01).all()


def test_labels_of_folds_left_out_change_no_bit() -> None:
    blocks, hidden = make_blocks(), [1, 6]
    flipped = [
        (number, dataclasses.replace(block, labels=np.where(np.isin(block.folds, hidden), 1, block.labels)))
        for number, block in blocks
    ]
    one, other = (sliced_counts(like(False), made, hidden).statistics(5.0, "time") for made in (blocks, flipped))
    assert one.values.tobytes() == other.values.tobytes()

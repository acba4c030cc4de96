"""What a row counts, and which bootstrap group it is in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.blocks import Block
from features.hashing import groups
from models.metrics import GROUPS
from pipeline.scored_rows import ScoredRows, row_weights
from pipeline.truth import Truth

ROWS = 4
BLOCK = Block(
    np.array([1, 0, 1, 0], np.uint8),
    np.zeros((ROWS, 1), np.float32),
    np.zeros((ROWS, 1), np.int32),
    np.zeros(ROWS, np.uint8),
    np.array([30, 0, 20, 10], np.int64),
)
WEIGHTED = replace(BLOCK, weights=np.array([2.0, 3.0, 0.0, 0.5], np.float32))


@pytest.mark.parametrize(
    ("block", "rate", "expected"),
    [
        (BLOCK, 1.0, None),
        (BLOCK, 0.25, [1.0, 4.0, 1.0, 4.0]),
        (WEIGHTED, 1.0, [2.0, 3.0, 0.0, 0.5]),
        (WEIGHTED, 0.25, [2.0, 12.0, 0.0, 2.0]),
    ],
)
def test_weights_by_hand(block: Block, rate: float, expected: list[float] | None) -> None:
    found = row_weights(block, rate)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found.dtype == np.float64 and found.tolist() == expected
    other = ScoredRows.of(block, "log.tsv", rate, None).weights
    assert (None if other is None else other.tolist()) == expected


def test_rows_without_groups_are_resampled_one_by_one() -> None:
    found = ScoredRows.of(BLOCK, "log.tsv", 1.0, None)
    assert found.groups.tolist() == groups(BLOCK.offsets, "log.tsv", GROUPS).tolist()
    assert found.p_star is None and found.kinds is None and found.labels is BLOCK.labels


def test_rows_of_one_group_stay_together_in_all_logs() -> None:
    grouped = replace(BLOCK, groups=np.array([-7, 9, -7, 10**18], np.int64))
    found = ScoredRows.of(grouped, "a.tsv", 1.0, None).groups.tolist()
    assert found[0] == found[2] and len(set(found)) == 3 and set(found) <= set(range(GROUPS))
    assert ScoredRows.of(grouped, "b.tsv", 1.0, None).groups.tolist() == found


def test_the_truth_is_found_by_offset() -> None:
    truth = Truth(np.arange(4) * 10, np.array([0.1, 0.2, 0.3, 0.4]), np.arange(4, dtype=np.int16))
    found = ScoredRows.of(BLOCK, "log.tsv", 0.5, truth)
    assert found.p_star is not None and found.p_star.tolist() == [0.4, 0.1, 0.3, 0.2]
    assert found.kinds is not None and found.kinds.tolist() == [3, 0, 2, 1]

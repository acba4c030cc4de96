"""Counts of chosen rows, by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from features.blocks import Block
from features.counts import WEIGHT_UNIT
from features.numeric import NumericColumn
from features.schema import Column, Schema
from features.spec import ExamplesSpec
from pipeline.chosen_counts import ChosenCounts

NAN = float("nan")
VALUES = pa.array([b"x", b"y"], pa.binary())
COLUMNS = [Column("label", "label"), Column("n", "float"), Column("first", "categorical"), Column("c", "categorical")]
NONE = (0,) * 10


def spec_of(weighted: bool) -> ExamplesSpec:
    """Two columns: one of a bucket alone (id 2), and one of two values (ids 2 and 3) and a bucket (id 4)."""
    schema = Schema((*COLUMNS, *([Column("w", "weight")] if weighted else [])))
    numeric = (NumericColumn("n", "log", 0.5, 2.0, 99, (1.0,)),)
    rows = {"train": 900, "valid": 7, "test": 8}
    floats = (0.0,) * 10
    return ExamplesSpec(schema, numeric, (3, 5), 1, rows, dict(rows), NONE, NONE, floats, floats, 920, 5, seed=1)


def counted(weighted: bool) -> ChosenCounts:
    counts = ChosenCounts(spec_of(weighted))
    block = Block(
        np.array([1, 0, 1, 1, 0], np.uint8),
        np.array([[0], [NAN], [1], [NAN], [2]], np.float32),
        np.array([[0, 2], [0, 2], [2, 4], [0, 0], [2, 2]], np.int32),
        np.array([3, 3, 9, 0, 3], np.uint8),
        np.arange(5, dtype=np.int64),
        np.array([0.5, 2, 1, 4, 0.25], np.float32) if weighted else None,
    )
    # In two parts, as blocks come.
    counts.add(block.take(slice(0, 2)))
    counts.add(block.take(slice(2, 5)))
    return counts


def by_fold(**found: float) -> tuple[float, ...]:
    return tuple(found.get(f"fold_{number}", 0) for number in range(10))


@pytest.mark.parametrize("weighted", [False, True])
def test_spec(weighted: bool) -> None:
    before = spec_of(weighted)
    spec = counted(weighted).to_spec(before)
    assert spec.rows == {"train": 5, "valid": 7, "test": 8}
    assert spec.clicks == {"train": 3, "valid": 7, "test": 8}
    assert (spec.lines, spec.rejects) == (20, 0)
    assert spec.fold_rows == by_fold(fold_0=1, fold_3=3, fold_9=1)
    assert spec.fold_clicks == by_fold(fold_0=1, fold_3=1, fold_9=1)
    weights = {"fold_0": 4, "fold_3": 2.75, "fold_9": 1} if weighted else {"fold_0": 1, "fold_3": 3, "fold_9": 1}
    clicks = {"fold_0": 4, "fold_3": 0.5, "fold_9": 1} if weighted else {"fold_0": 1, "fold_3": 1, "fold_9": 1}
    assert spec.fold_weights == by_fold(**weights)
    assert spec.fold_click_weights == by_fold(**clicks)
    assert spec.numeric == (NumericColumn("n", "log", 0.5, 2.0, 2, (1.0,)),)
    assert (spec.schema, spec.seed, spec.buckets) == (before.schema, 1, 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_column(weighted: bool) -> None:
    found, buckets = counted(weighted).column(1, VALUES, spec_of(weighted))
    unit, names = WEIGHT_UNIT, slice(0, 4 if weighted else 2)
    cells = {
        (found.values[number].as_py(), fold): sums
        for number, fold, sums in zip(found.numbers.tolist(), found.folds.tolist(), found.sums.tolist(), strict=True)
    }
    assert cells == {
        (b"", 0): [1, 1, 4 * unit, 4 * unit][names],
        (b"x", 3): [3, 1, 2.75 * unit, 0.5 * unit][names],
    }
    assert found.values.to_pylist() == [b"", b"x", b"y"]
    assert buckets.shape == (1, 10, 4 if weighted else 2)
    assert buckets[0, 9].tolist() == [1, 1, unit, unit][names]
    assert not buckets[0, :9].any()

"""Lifts by hand on a small table, and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.subclass_map import SubclassMap

# Subclass probabilities (no click 0 and 1, click 0 and 1) of rows with value 2 and of rows with value 3.
JOINT = {2: [0.4, 0.1, 0.4, 0.1], 3: [0.1, 0.4, 0.2, 0.3]}
ROWS = {2: 120, 3: 80}


def table() -> tuple[np.ndarray, np.ndarray]:
    """Logits, moved by a constant of each row, and ids of a column of these values and one of a value for all rows."""
    values = np.repeat(list(ROWS), list(ROWS.values()))
    logits = np.log([JOINT[value] for value in values]) + np.arange(len(values))[:, np.newaxis] / 7
    return logits.astype(np.float32), np.stack([values, np.full_like(values, 2)], axis=1).astype(np.int32)


def records(found: SubclassMap, **options: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in found.top(**options).itertuples(index=False)]


def test_lifts_by_hand() -> None:
    """No click: 100 rows, 56 and 44 by subclass; click: 100 rows, 64 and 36."""
    found = records(SubclassMap.empty(2, [4, 3]).update(*table()))
    expected = [
        ("no click", 0, 0.56, 0, 2, (48 / 56) / (60 / 100), 48.0),
        ("no click", 1, 0.44, 0, 3, (32 / 44) / (40 / 100), 32.0),
        ("click", 0, 0.64, 0, 2, (48 / 64) / (60 / 100), 48.0),
        # Value 3 has a lift of (24 / 36) / (40 / 100), and 24 rows only.
        ("click", 1, 0.36, -1, -1, np.nan, 36.0),
    ]
    assert [row[:2] + row[3:5] for row in found] == [row[:2] + row[3:5] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row[2:] == pytest.approx(other[2:], rel=1e-5, nan_ok=True)


def test_weights_count_as_rows() -> None:
    logits, ids = table()
    doubled = SubclassMap.empty(2, [4, 3]).update(np.tile(logits, (2, 1)), np.tile(ids, (2, 1)))
    weighted = SubclassMap.empty(2, [4, 3]).update(logits, ids, np.full(len(ids), 2.0))
    pd.testing.assert_frame_equal(doubled.top(), weighted.top())
    assert len(weighted.top()) == 4 and weighted.top()["column"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("weight", "ids"), [(20_000, [2, 3, 2]), (40_000, [2, 2]), (60_000, [])])
def test_values_below_a_thousandth_of_the_rows_are_left_out(weight: int, ids: list[int]) -> None:
    """Value 2 has 48 rows in a subclass of each class, value 3 has 32."""
    found = SubclassMap.empty(2, [4, 0]).update(*table())
    found.update(np.zeros((1, 4)), np.array([[9, 9]]), np.array([float(weight)]))
    assert found.top().query("column == 0")["id"].tolist() == ids


def test_ids_that_are_not_counted_are_in_no_value() -> None:
    logits, ids = table()
    found = SubclassMap.empty(2, [3, 0]).update(logits, ids)
    assert [row[3:5] for row in records(found)] == [(0, 2), (-1, -1), (0, 2), (-1, -1)]
    assert found.top()["share"].tolist() == pytest.approx([0.56, 0.44, 0.64, 0.36], abs=1e-6)


def test_the_best_come_first_and_no_more_than_asked_for() -> None:
    """Values 0, 1 and 2 of a column have rising shares of subclass 1."""
    share = np.repeat([0.2, 0.5, 0.8], 100)
    joint = np.stack([0.5 * (1 - share), 0.5 * share, 0.25 + 0 * share, 0.25 + 0 * share], axis=1)
    ids = np.repeat([0, 1, 2], 100)[:, np.newaxis]
    found = SubclassMap.empty(2, [3]).update(np.log(joint), ids)
    top = found.top().query("`class` == 'no click'")
    assert top[["subclass", "id"]].to_numpy().tolist() == [[0, 0], [1, 2]], "value 1 is no more frequent than elsewhere"
    joint[100:200] = [0.2, 0.3, 0.25, 0.25]
    found = SubclassMap.empty(2, [3]).update(np.log(joint), ids)
    assert found.top().query("`class` == 'no click' and subclass == 1")["id"].tolist() == [2, 1]
    assert found.top(count=1).query("`class` == 'no click' and subclass == 1")["id"].tolist() == [2]


def test_parts_merge() -> None:
    logits, ids = table()
    parts = [SubclassMap.empty(2, [4, 3]).update(logits[part], ids[part]) for part in (slice(50), slice(50, None))]
    whole = SubclassMap.empty(2, [4, 3]).update(logits, ids)
    pd.testing.assert_frame_equal(parts[0].merge(parts[1]).top(), whole.top())
    with pytest.raises(ValueError, match="same subclasses and sizes"):
        whole.merge(SubclassMap.empty(2, [4, 2]))


def test_without_rows_or_columns() -> None:
    assert records(SubclassMap.empty(1, []))[0] == pytest.approx(
        ("no click", 0, np.nan, -1, -1, np.nan, 0.0), nan_ok=True
    )
    found = SubclassMap.empty(2, []).update(table()[0], np.zeros((200, 0), np.int32))
    assert found.top()["rows"].tolist() == pytest.approx([56, 44, 64, 36], rel=1e-5)
    with pytest.raises(ValueError, match=r"`logits` should be \[n, 4\]"):
        found.update(np.zeros((3, 6)), np.zeros((3, 0), np.int32))

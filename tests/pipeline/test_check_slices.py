"""Slices: which rows each one has, in chunks whose dictionaries differ, and what is no column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features.errors import ConfigError
from features.rows import ParsedRows
from features.schema import Column, Schema
from pipeline import check_slices
from pipeline.check_slices import Slices
from pipeline.scored_rows import ScoredRows

SCHEMA = Schema((Column("y", "label"), Column("x", "integer"), Column("site", "categorical")))


def update(slices: Slices, values: list[bytes], labels: list[int], strangers: list[int], *logits: list[float]) -> None:
    """Adds rows of one column; its dictionary has a value that no row has."""
    count = len(values)
    column = pa.array([b"unused", *values], pa.binary()).dictionary_encode()[1:]
    y = np.array(labels, np.uint8)
    parsed = ParsedRows(np.arange(count), y, None, [], [column], [], [])
    rows = ScoredRows(y, np.arange(count) % 3, None, None, None)
    slices.update(parsed, rows, np.array(strangers), [np.array(z) for z in logits])


def found(slices: Slices, by: str) -> dict[str, tuple[int, float]]:
    records: list[dict[str, Any]] = slices.records()
    return {row["slice"]: (row["rows"], row["clicks"]) for row in records if row["by"] == by}


def test_rows_of_each_slice() -> None:
    slices = Slices(SCHEMA, ["new", "current"], "site")
    update(slices, [b"a", b"", b"b", b"a"], [1, 0, 1, 1], [0, 1, 2, 3], [0.0] * 4, [-3.0, -1.0, 1.0, 3.0])
    update(slices, [b"b", b"a"], [0, 0], [9, 0], [0.0] * 2, [-3.0, 3.0])
    assert found(slices, "site") == {"a": (3, 2.0), "b": (2, 1.0), "(missing)": (1, 0.0)}
    assert found(slices, "values without embedding") == {"0": (2, 1.0), "1-2": (2, 1.0), "3+": (2, 1.0)}
    # The middles of the four cells lie at 1/6, 5/12, 7/12 and 5/6 of the rows.
    expected = {"2 of 10": (2, 1.0), "5 of 10": (1, 0.0), "6 of 10": (1, 1.0), "9 of 10": (2, 1.0)}
    assert found(slices, "p_click, current") == expected


def test_without_a_column_and_a_current_model() -> None:
    slices = Slices(SCHEMA, ["new"], "")
    update(slices, [b"a", b"b"], [1, 0], [0, 0], [0.0, 1.0])
    assert {row["by"] for row in slices.records()} == {"values without embedding", "p_click, new"}


def test_only_the_most_frequent_values_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_slices, "SHOWN_VALUES", 2)
    slices = Slices(SCHEMA, ["new"], "site")
    update(slices, [b"c", b"a", b"b", b"b", b"a", b"a"], [1] * 6, [0] * 6, [0.0] * 6)
    assert list(found(slices, "site").items()) == [("a", (3, 3.0)), ("b", (2, 2.0))]


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_slices, "MOST_VALUES", 2)
    slices = Slices(SCHEMA, ["new"], "site")
    update(slices, [b"a", b"b"], [1, 0], [0, 0], [0.0] * 2)
    with pytest.raises(ConfigError, match=r"--slice must be a column of at most 2 values\. Received: site \(it has"):
        update(slices, [b"a", b"c"], [1, 0], [0, 0], [0.0] * 2)


@pytest.mark.parametrize("column", ["x", "y", "page"])
def test_what_is_no_categorical_column(column: str) -> None:
    with pytest.raises(ConfigError, match=rf"--slice must be a categorical column \(site\)\. Received: {column}"):
        Slices(SCHEMA, ["new"], column)

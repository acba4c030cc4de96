"""Rows of the strict parser side by side."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from verdicts import check_types

from features.rejects import Reject
from features.rows import NO_OFFSETS, from_rows
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, LABEL, OUTCOME, WEIGHT, Column, Schema
from features.strict import Row

SCHEMA = Schema(
    (
        Column("k", KEY),
        Column("n", INTEGER),
        Column("c", CATEGORICAL),
        Column("w", WEIGHT),
        Column("y", LABEL),
        Column("x", FLOAT),
        Column("g", GROUP),
        Column("d", CATEGORICAL),
        Column("o", OUTCOME),
    )
)
ROWS = [
    Row(1, [3.0, None], [b"a", b""], [b"k1", b"g"], 0.5, (1,)),
    Row(0, [None, -0.5], [b"b", b"longer than eight"], [b"", b"g"], 0.0, (0,)),
    Row(1, [3.0, 1e38], [b"a", b""], [b"k2", b"h"], 65536.0, (0,)),
]
REJECTS = [Reject(5, "label", "expected 0 or 1", b"2")]


def test_columns_by_hand() -> None:
    offsets = np.array([0, 9, 20], np.int64)
    parsed = from_rows(offsets, ROWS, REJECTS, SCHEMA, labelled=True)
    check_types(parsed, SCHEMA, labelled=True)
    assert len(parsed) == 3 and parsed.offsets is offsets and parsed.rejects is REJECTS
    assert parsed.labels is not None and parsed.labels.tolist() == [1, 0, 1]
    assert parsed.weights is not None and parsed.weights.tolist() == [0.5, 0, 65536]
    assert parsed.outcomes is not None and parsed.outcomes.tolist() == [[1], [0], [0]]
    assert [column.to_pylist() for column in parsed.categorical] == [
        [b"a", b"b", b"a"],
        [b"", b"longer than eight", b""],
    ]
    assert [column.to_pylist() for column in parsed.keys] == [[b"k1", b"", b"k2"], [b"g", b"g", b"h"]]
    expected = np.array([[3, np.nan], [np.nan, -0.5], [3, 1e38]], np.float32)
    assert parsed.numbers().dtype == np.float32
    np.testing.assert_array_equal(parsed.numbers(), expected)


def test_rows_without_label_and_weight() -> None:
    rows = [Row(None, [1.0, 2.0], [b"a", b"b"], [b"k", b"g"])]
    parsed = from_rows(np.array([7], np.int64), rows, [], SCHEMA, labelled=False)
    check_types(parsed, SCHEMA, labelled=False)
    assert parsed.labels is None and parsed.weights is None and parsed.outcomes is None
    assert parsed.numbers().tolist() == [[1, 2]]


@pytest.mark.parametrize("labelled", [True, False])
def test_no_rows(labelled: bool) -> None:
    parsed = from_rows(NO_OFFSETS, [], REJECTS, SCHEMA, labelled)
    check_types(parsed, SCHEMA, labelled)
    assert len(parsed) == 0 and parsed.numbers().shape == (0, 2) and parsed.rejects == REJECTS


def test_numbers_of_dictionaries_with_values_that_occur_twice_or_never() -> None:
    parsed = from_rows(np.array([1, 2, 3], np.int64), ROWS, [], SCHEMA, labelled=True)
    coded = pa.DictionaryArray.from_arrays(pa.array([3, 1, 0], pa.int32()), pa.array([5, 5, 9, -1], pa.float32()))
    parsed.numeric[0] = coded
    assert parsed.numbers()[:, 0].tolist() == [-1, 5, 5]

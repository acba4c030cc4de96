"""The files beside an exported student's graph."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from exports import Export, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ArtifactError
from features.numeric import NumericColumn
from features.schema import CATEGORICAL, INTEGER, LABEL, LOG, Column, Schema
from models.serving_features import (
    FEATURES_FILE,
    VOCABULARY_FILE,
    ServingFeatures,
    column_marks,
    features_json,
    read_features,
    serving_statistics,
    vocabulary_lines,
)
from models.tables import TableLayout


def test_features_round_trip(exported: Export) -> None:
    features = read_features(
        (exported.path / FEATURES_FILE).read_bytes(), (exported.path / VOCABULARY_FILE).read_bytes()
    )
    assert features.schema == exported.schema
    assert features.numeric == exported.features.numeric
    assert [values.to_pylist() for values in features.values] == [
        values.to_pylist() for values in exported.features.values
    ]
    assert features.layout() == exported.features.layout()
    assert (features.kept, features.buckets) == (exported.features.kept, exported.features.buckets)
    assert features.negative_rate == exported.features.negative_rate
    rows = parse(exported.log, exported.schema)
    mine, theirs = features.transform(), exported.features.transform()
    np.testing.assert_array_equal(mine.ids([rows]), theirs.ids([rows]))
    np.testing.assert_array_equal(mine.dense([rows]), theirs.dense([rows]))


def test_buckets_need_the_whole_vocabulary(visits: Export, shop: Export) -> None:
    assert [len(values) for values in shop.features.values] == list(shop.features.kept)
    longer = [len(values) - kept for values, kept in zip(visits.features.values, visits.features.kept, strict=True)]
    assert max(longer) > 5
    assert visits.features.layout().sizes == tuple(len(values) for values in visits.features.values)
    assert shop.features.layout().sizes == ()


@pytest.mark.parametrize("damage", [lambda value: value.pop("kept"), lambda value: value["numeric"][0].pop("mean")])
def test_other_files_are_refused(damage: Callable[[dict[str, Any]], object], shop: Export) -> None:
    value = json.loads(features_json(shop.features))
    damage(value)
    for content in (json.dumps(value).encode(), b"no JSON", b"[]"):
        with pytest.raises(ArtifactError, match=r"^The features of a student must be what distill wrote. Received: "):
            read_features(content, b"")


def test_a_vocabulary_of_another_model_is_refused(shop: Export) -> None:
    whole = (shop.path / VOCABULARY_FILE).read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole.replace(b"!", b"0\t")):
        with pytest.raises(ArtifactError, match=r"^The features of a student must be what distill wrote. Received: "):
            read_features(features_json(shop.features), content)


@pytest.mark.parametrize(("columns", "width"), [(1, 1), (26, 1), (94, 1), (95, 2), (8836, 2), (8837, 3)])
def test_marks_of_columns_differ_and_have_one_length(columns: int, width: int) -> None:
    marks = column_marks(columns)
    assert len(set(marks)) == len(marks) == columns
    assert {len(mark) for mark in marks} == {width}
    assert all(33 <= byte <= 126 for byte in b"".join(marks))


# Fields of lines hold no NUL, no carriage return and no line end.
VALUES = st.binary(min_size=1, max_size=5).filter(lambda value: not set(value) & set(b"\0\r\n"))
VOCABULARIES = st.one_of(
    st.lists(st.lists(VALUES, unique=True, max_size=6), min_size=1, max_size=4),
    st.lists(st.lists(st.sampled_from([b"!", b'"', b"!!", b"a"]), unique=True), min_size=93, max_size=96),
)


@settings(deadline=None, max_examples=20)
@given(values=VOCABULARIES)
def test_any_vocabulary_is_read_as_it_was_written(values: list[list[bytes]]) -> None:
    columns = [Column(f"c{number}", CATEGORICAL) for number in range(len(values))]
    schema = Schema((Column("label", LABEL), Column("n", INTEGER), *columns))
    numeric = (NumericColumn("n", LOG, 0.0, 1.0, 0, ()),)
    arrays = tuple(pa.array(column, pa.binary()) for column in values)
    features = ServingFeatures(schema, numeric, arrays, tuple(map(len, values)))
    content = b"".join(vocabulary_lines(features))
    assert [column.to_pylist() for column in read_features(features_json(features), content).values] == values
    held = [value for column in values for value in column]
    # Two bytes a value beyond its own for up to 94 columns.
    assert len(content) == sum(map(len, held)) + (2 if len(values) <= 94 else 3) * len(held)


STATISTICS = [
    # Vocabulary ids 0 ... 4 of the first column (two values are rare), 0 ... 3 of the second.
    (0, (), (0, 5), 9, [0, 1, 2, 5, 6, 7, 8]),
    # The same with two buckets a column.
    (2, (3, 2), (0, 7), 13, [0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12]),
]


@pytest.mark.parametrize(("buckets", "sizes", "starts", "ids", "wanted"), STATISTICS)
def test_serving_statistics_follow_the_layout(
    buckets: int, sizes: tuple[int, ...], starts: tuple[int, int], ids: int, wanted: list[int]
) -> None:
    layout = TableLayout((1, 2), ((), ()), buckets, sizes)
    odds, count = np.arange(ids, dtype=np.float32), np.arange(ids, dtype=np.float32) + math.pi
    found = serving_statistics(layout, odds, count, np.array(starts))
    np.testing.assert_array_equal(found, np.stack([odds[wanted], count[wanted]], axis=1))
    assert found.dtype == np.float32

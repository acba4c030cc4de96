"""The files beside an exported student's graph."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exports import Export, parse

from features.errors import ArtifactError
from models.serving_features import (
    FEATURES_FILE,
    VOCABULARY_FILE,
    features_json,
    read_features,
    serving_statistics,
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

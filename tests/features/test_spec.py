"""``spec.json``: what is written is read back, and anything else is an error of the run directory."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from features.errors import ArtifactError, CtrDistillError
from features.numeric import NumericColumn
from features.schema import CATEGORICAL, FLOAT, LABEL, QUANTILE, Column, Schema
from features.spec import SPLITS, ExamplesSpec

SPEC = ExamplesSpec(
    schema=Schema((Column("c", CATEGORICAL), Column("y", LABEL), Column("x", FLOAT), Column("a", CATEGORICAL)), ","),
    numeric=(NumericColumn("x", QUANTILE, 1.5, 0.25, 3, (0.5, 1.5), (2.0, 3.5)),),
    vocabulary_ids=(10, 4),
    buckets=2,
    rows={"train": 100, "valid": 10, "test": 0},
    clicks={"train": 25, "valid": 1, "test": 0},
    fold_rows=(10,) * 10,
    fold_clicks=(2, 3) * 5,
    fold_weights=(8.5,) * 10,
    fold_click_weights=(1.5, 0.2) * 5,
    lines=113,
    rejects=3,
    seed=7,
    negative_rate=0.25,
    layout="rows",
)


def test_json_round_trip() -> None:
    licensed = replace(SPEC, schema=replace(SPEC.schema, licence="CC0 1.0"))
    for spec in (SPEC, licensed):
        assert ExamplesSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_json_is_as_documented() -> None:
    value = SPEC.to_json()
    assert value["vocabulary_ids"] == {"c": 10, "a": 4} and value["buckets"] == 2
    assert value["rows"] == {"train": 100, "valid": 10, "test": 0}
    statistics = {"mean": 1.5, "std": 0.25, "missing": 3, "edges": [0.5, 1.5], "cuts": [2.0, 3.5]}
    assert value["numeric"] == [{"name": "x", "transform": "quantile", **statistics}]
    assert value["schema"]["delimiter"] == "," and value["base_rate"] == pytest.approx(0.1)
    assert value["fold_weights"] == [8.5] * 10 and value["fold_click_weights"] == [1.5, 0.2] * 5
    assert value["negative_rate"] == 0.25 and value["layout"] == "rows"
    assert (value["lines"], value["rejects"], value["seed"]) == (113, 3, 7)
    assert SPLITS == ("train", "valid", "test")


def test_base_rate_is_that_of_the_training_rows_weighted() -> None:
    assert SPEC.base_rate == pytest.approx(8.5 / 85)
    assert replace(SPEC, clicks={"train": 1, "valid": 10, "test": 0}, fold_clicks=(0,) * 10).base_rate == SPEC.base_rate
    assert replace(SPEC, fold_weights=(10.0,) * 10, fold_click_weights=(2.0, 3.0) * 5).base_rate == 0.25


def test_a_log_was_not_downsampled_and_has_blocks_unless_it_says_so() -> None:
    given = {name: value for name, value in vars(SPEC).items() if name not in ("negative_rate", "layout")}
    plain = ExamplesSpec(**given)
    assert plain.negative_rate == 1.0 and plain.layout == "blocks"


def test_a_vocabulary_for_every_column_is_needed() -> None:
    with pytest.raises(ValueError, match="zip"):
        replace(SPEC, vocabulary_ids=(10,)).to_json()


@pytest.mark.parametrize("name", sorted(set(SPEC.to_json()) - {"base_rate"}))
def test_a_missing_field_is_an_artifact_error(name: str) -> None:
    value = SPEC.to_json()
    del value[name]
    with pytest.raises(ArtifactError, match=rf"preprocess wrote. Received: .*{name}.*spec.json"):
        ExamplesSpec.from_json(value)


@pytest.mark.parametrize(
    "changed",
    [
        {"numeric": None},
        {"numeric": [3]},
        {"numeric": [{"name": "x"}]},
        {"numeric": [{**SPEC.numeric[0].to_json(), "median": 2}]},
        {"vocabulary_ids": {"c": 10}},
        {"vocabulary_ids": [10, 2]},
        {"fold_rows": 3},
        {"schema": {}},
        {"schema": None},
    ],
)
def test_another_form_is_an_error_of_the_project(changed: dict[str, Any]) -> None:
    with pytest.raises(CtrDistillError, match="spec.json"):
        ExamplesSpec.from_json({**SPEC.to_json(), **changed})

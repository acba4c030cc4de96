"""The schema: Criteo's columns, the rules, and JSON that is read back or refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from features.errors import ConfigError
from features.schema import (
    CATEGORICAL,
    CRITEO,
    FLOAT,
    FORMATS,
    GROUP,
    INTEGER,
    JSON,
    KEY,
    LABEL,
    OUTCOME,
    PARQUET,
    PASSED,
    RESERVED,
    TIME,
    TRANSFORMS,
    WEIGHT,
    Column,
    Schema,
)

REQUIRED = (Column("y", LABEL), Column("n", INTEGER), Column("c", CATEGORICAL))
MIXED = Schema(
    (
        Column("id", KEY),
        Column("site", CATEGORICAL),
        Column("price", FLOAT),
        Column("click", LABEL),
        Column("app", CATEGORICAL),
        Column("age", INTEGER),
        Column("hour", KEY),
    ),
    delimiter=",",
    header=True,
)
FULL = Schema(
    (
        Column("ts", TIME),
        Column("user", GROUP),
        Column("click", LABEL),
        Column("w", WEIGHT),
        Column("price", FLOAT, "quantile"),
        Column("age", INTEGER),
        Column("site", CATEGORICAL),
        Column("id", KEY),
    ),
    format=JSON,
)


def test_criteo_has_the_columns_of_the_display_advertising_challenge() -> None:
    assert len(CRITEO.columns) == 40 and CRITEO.delimiter == "\t" and not CRITEO.header
    assert CRITEO.names[0] == CRITEO.label == "label"
    assert CRITEO.numeric == tuple("I1 I2 I3 I4 I5 I6 I7 I8 I9 I10 I11 I12 I13".split())
    assert len(CRITEO.categorical) == 26
    assert CRITEO.categorical[0] == "C1" and CRITEO.categorical[-1] == "C26"
    assert CRITEO.names == ("label", *CRITEO.numeric, *CRITEO.categorical)
    assert CRITEO.keys == ()
    assert {column.kind for column in CRITEO.columns[1:14]} == {INTEGER}


def test_names_by_kind_keep_the_order_of_the_file() -> None:
    assert MIXED.names == ("id", "site", "price", "click", "app", "age", "hour")
    assert MIXED.label == "click"
    assert MIXED.numeric == ("price", "age")
    assert MIXED.categorical == ("site", "app")
    assert MIXED.keys == ("id", "hour")
    assert [column.name for column in MIXED.without_label()] == ["id", "site", "price", "app", "age", "hour"]


def test_weight_group_and_time() -> None:
    assert (FULL.weight, FULL.group, FULL.time) == ("w", "user", "ts")
    assert (MIXED.weight, MIXED.group, MIXED.time) == (None, None, None)
    assert FULL.keys == ("ts", "user", "id")  # what predict passes through, in file order
    assert FULL.numeric == ("price", "age") and FULL.categorical == ("site",)
    # Weights are those of labels.
    assert [column.name for column in FULL.without_label()] == ["ts", "user", "price", "age", "site", "id"]


def test_outcomes() -> None:
    outcomes = Column("bought", OUTCOME), Column("returned", OUTCOME)
    schema = Schema((outcomes[0], *REQUIRED, outcomes[1]))
    assert schema.outcomes == ("bought", "returned") and MIXED.outcomes == ()
    assert schema.numeric == ("n",) and schema.categorical == ("c",) and schema.keys == ()
    # A log that is yet to be scored has none.
    assert [column.name for column in schema.without_label()] == ["n", "c"]


def test_transforms() -> None:
    assert FULL.transforms == ("quantile", "log") and CRITEO.transforms == ("log",) * 13


def test_schemas_are_values() -> None:
    copy = pickle.loads(pickle.dumps(MIXED))
    assert copy == MIXED and hash(copy) == hash(MIXED) and copy != CRITEO
    assert copy.numeric == ("price", "age")


@pytest.mark.parametrize(
    ("columns", "delimiter", "message"),
    [
        ((*REQUIRED, Column("n", FLOAT)), "\t", "unique"),
        ((*REQUIRED, Column("", FLOAT)), "\t", "not empty"),
        ((*REQUIRED, Column("x", "text")), "\t", "'text' .*'x'"),
        (REQUIRED[1:], "\t", r"one label column. Received: \[\]"),
        ((*REQUIRED, Column("z", LABEL)), "\t", r"one label column. Received: \['y', 'z'\]"),
        (REQUIRED[:2], "\t", "1 numeric, 0 categorical"),
        ((REQUIRED[0], REQUIRED[2]), "\t", "0 numeric, 1 categorical"),
        (REQUIRED, "", "delimiter .* Received: ''"),
        (REQUIRED, "||", "delimiter"),
        (REQUIRED, "§", "delimiter"),
        (REQUIRED, "\n", "delimiter"),
        (REQUIRED, "\r", "delimiter"),
        (REQUIRED, "\0", "delimiter"),
        (REQUIRED, '"', "delimiter"),
        ((*REQUIRED, Column("v", WEIGHT), Column("w", WEIGHT)), ",", r"at most one weight .* Received: \['v', 'w'\]"),
        ((*REQUIRED, Column("g", GROUP), Column("h", GROUP)), ",", r"at most one group .* Received: \['g', 'h'\]"),
        ((*REQUIRED, Column("s", TIME), Column("t", TIME)), ",", r"at most one time .* Received: \['s', 't'\]"),
        ((*REQUIRED, Column("x", FLOAT, "sqrt")), ",", r"one of log, linear, .* Received: 'sqrt' .*column 'x'"),
        ((*REQUIRED, Column("x", CATEGORICAL, "log")), ",", "Only a numeric column .* 'log' for a categorical column"),
        ((*REQUIRED, Column("x", "list")), ",", r"'list' .*'x'\)\. A column of several values a row is not supported"),
    ],
)
def test_a_broken_rule_is_a_config_error(columns: tuple[Column, ...], delimiter: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schema(columns, delimiter)


@pytest.mark.parametrize("file_format", FORMATS)
def test_formats(file_format: str) -> None:
    assert Schema(REQUIRED, format=file_format).format == file_format


@pytest.mark.parametrize("file_format", ["csv", "", "JSON"])
def test_another_format(file_format: str) -> None:
    with pytest.raises(ConfigError, match=rf"one of text, json, parquet\. Received: '{file_format}'"):
        Schema(REQUIRED, format=file_format)


@pytest.mark.parametrize("file_format", [JSON, PARQUET])
def test_only_delimited_lines_have_a_header(file_format: str) -> None:
    with pytest.raises(ConfigError, match=rf"header\. Received: format {file_format}"):
        Schema(REQUIRED, header=True, format=file_format)


@pytest.mark.parametrize("kind", PASSED)
@pytest.mark.parametrize("name", ["source", "offset", "label", "p_click"])
def test_a_key_must_not_be_called_like_a_column_of_predictions(name: str, kind: str) -> None:
    assert name in RESERVED and len(RESERVED) == 4
    message = rf"key column must not .*label, offset, p_click, source.* Received: {name} \(schema"
    for columns in ((*REQUIRED, Column(name, kind)), (Column("id", KEY), Column(name, kind), *REQUIRED)):
        with pytest.raises(ConfigError, match=message):
            Schema(columns)
    with pytest.raises(ConfigError, match=message):
        Schema.from_json({"columns": [*GOOD["columns"], {"name": name, "kind": kind}]})
    # Other columns are no columns of predictions, and case matters.
    for other in (INTEGER, FLOAT, CATEGORICAL):
        assert name in Schema((*REQUIRED, Column(name, other))).names
    assert Schema((Column(name, LABEL), *REQUIRED[1:])).label == name
    assert Schema((*REQUIRED, Column(name.upper(), kind))).keys == (name.upper(),)


def test_all_keys_with_reserved_names_are_named() -> None:
    with pytest.raises(ConfigError, match=r"Received: offset, source \(schema"):
        Schema((*REQUIRED, Column("source", KEY), Column("id", KEY), Column("offset", KEY)))


@pytest.mark.parametrize("delimiter", [",", ";", "|", " ", "\x01", "'"])
def test_delimiters(delimiter: str) -> None:
    assert Schema(REQUIRED, delimiter).delimiter == delimiter


def test_json_is_plain_and_as_documented() -> None:
    assert Schema(REQUIRED, ",", True).to_json() == {
        "format": "text",
        "delimiter": ",",
        "header": True,
        "columns": [
            {"name": "y", "kind": "label"},
            {"name": "n", "kind": "integer"},
            {"name": "c", "kind": "categorical"},
        ],
    }


def test_json_of_other_formats_has_no_delimiter_and_only_transforms_that_are_set() -> None:
    assert FULL.to_json() == {
        "format": "json",
        "columns": [
            {"name": "ts", "kind": "time"},
            {"name": "user", "kind": "group"},
            {"name": "click", "kind": "label"},
            {"name": "w", "kind": "weight"},
            {"name": "price", "kind": "float", "transform": "quantile"},
            {"name": "age", "kind": "integer"},
            {"name": "site", "kind": "categorical"},
            {"name": "id", "kind": "key"},
        ],
    }
    assert Schema.from_json(FULL.to_json()) == FULL


def test_json_defaults_are_those_of_criteo() -> None:
    schema = Schema.from_json({"columns": CRITEO.to_json()["columns"]})
    assert schema == CRITEO


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(st.text(min_size=1), min_size=3, max_size=12, unique=True))
    many = st.lists(st.sampled_from([INTEGER, FLOAT, CATEGORICAL, KEY, OUTCOME]), max_size=9)
    kinds = [LABEL, INTEGER, CATEGORICAL, *draw(st.lists(st.sampled_from([WEIGHT, GROUP, TIME]), unique=True))]
    kinds += draw(many)
    columns = []
    for name, kind in zip(names, kinds, strict=False):
        assume(kind not in PASSED or name not in RESERVED)
        transform = draw(st.sampled_from(["", *TRANSFORMS])) if kind in (INTEGER, FLOAT) else ""
        columns.append(Column(name, kind, transform))
    columns = draw(st.permutations(columns))
    if draw(st.booleans()):
        return Schema(tuple(columns), format=draw(st.sampled_from([JSON, PARQUET])))
    return Schema(tuple(columns), draw(st.sampled_from("\t,;|")), draw(st.booleans()))


@settings(deadline=None, max_examples=50)
@given(schemas())
def test_json_round_trip(schema: Schema) -> None:
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    licensed = replace(schema, licence="CC0 1.0")
    assert Schema.from_json(json.loads(json.dumps(licensed.described()))) == licensed


def test_only_the_description_has_the_licence() -> None:
    """What is made from a log does not depend on it."""
    licensed = Schema(REQUIRED, licence="CC BY 4.0")
    assert licensed.to_json() == Schema(REQUIRED).to_json() == Schema(REQUIRED).described()
    assert licensed.described() == {**licensed.to_json(), "licence": "CC BY 4.0"}


GOOD = Schema(REQUIRED).to_json()


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"delimiter": ","},
        {**GOOD, "delimeter": ","},
        {**GOOD, "delimiter": 9},
        {**GOOD, "delimiter": None},
        {**GOOD, "header": "false"},
        {**GOOD, "header": 1},
        {**GOOD, "columns": None},
        {**GOOD, "columns": "label"},
        {**GOOD, "columns": {"name": "y", "kind": "label"}},
        {**GOOD, "columns": []},
        {**GOOD, "columns": ["y"]},
        {**GOOD, "columns": [*GOOD["columns"], {"name": "x"}]},
        {**GOOD, "columns": [*GOOD["columns"], {"name": "x", "kind": "float", "type": "int"}]},
        {**GOOD, "columns": [*GOOD["columns"], {"name": 7, "kind": "float"}]},
        {**GOOD, "columns": [*GOOD["columns"], {"name": "x", "kind": None}]},
        {**GOOD, "columns": [*GOOD["columns"], {"name": "x", "kind": "float", "transform": 1}]},
        {**GOOD, "format": None},
        {**GOOD, "format": 1},
        {**GOOD, "licence": None},
        {**GOOD, "licence": ["MIT"]},
    ],
)
def test_other_json_is_a_config_error_that_says_where(value: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"Received: .*\((.*)schema"):
        Schema.from_json(value, "my schema")


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(MIXED.to_json()), encoding="utf-8")
    assert Schema.load(str(path)) == MIXED


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b'{"columns": 3}'])
def test_load_of_anything_else_is_a_config_error_with_the_path(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="schema.json"):
        Schema.load(str(path))

"""The exported student: one answer whatever the signature, the same as training's features, TensorFlow alone."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from exports import (
    CALIBRATION,
    TOLERANCE,
    VISITS,
    Export,
    check_agreement,
    every_signature,
    export,
    line_of,
    nothing,
    parse,
    random_student,
    saved,
    serialized,
    split,
)
from scipy.special import expit, softmax
from shop import SHOP
from tensorflow.core.protobuf import saved_model_pb2

from features.errors import ConfigError
from features.numeric import NumericColumn, standardise
from features.schema import (
    CATEGORICAL,
    CRITEO,
    FLOAT,
    GROUP,
    INTEGER,
    KEY,
    LABEL,
    LINEAR,
    LOG,
    OUTCOME,
    TIME,
    WEIGHT,
    Column,
    Schema,
)
from features.statistics import NO_FOLD, ClickCounts
from features.vocabulary import FIRST_VALUE
from models.backend import tf
from models.calibration import Calibration
from models.heads import click_logit
from models.input_names import input_names
from models.serving import ServingModule
from models.serving_features import VOCABULARY_FILE, ServingFeatures, features_json, read_features
from models.serving_lines import LineParser


def test_signatures_agree_on_log_rows(exported: Export) -> None:
    p_click = check_agreement(exported, exported.log)
    assert ((p_click > 0) & (p_click < 1)).all()
    assert p_click.std() > 0.02
    assert len(np.unique(p_click)) > 0.9 * len(p_click)


def test_serving_is_what_training_sees(exported: Export) -> None:
    transform, rows = exported.features.transform(), parse(exported.log, exported.schema)
    ids, dense = transform.ids([rows]), transform.dense([rows])
    fold = tf.fill([len(ids)], NO_FOLD)
    z = exported.student({"ids": tf.constant(ids), "dense": tf.constant(dense), "fold": fold})
    expected = CALIBRATION.apply(click_logit(z).numpy()) + np.log(exported.features.negative_rate)
    found = exported.call("features", ids=ids, dense=dense)["logit"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_value_of_one_fold_alone_is_unseen_in_serving_too(criteo: Export) -> None:
    columns = zip(CRITEO.categorical, criteo.counts.starts, criteo.features.values, strict=True)
    alone = [
        (name, value, values[0].as_py())
        for name, start, values in columns
        for value, by_fold in zip(values.to_pylist(), criteo.counts.counts[start + FIRST_VALUE :], strict=False)
        if (by_fold > 0).sum() == 1
    ]
    assert alone
    fields = split(criteo.log[17], CRITEO)
    for name, value, common in alone:
        # Serving has a key for the value; its row is that of values without one.
        lines = [line_of({**fields, name: text}, CRITEO) for text in (value, b"unseen", common)]
        for signature, outputs in every_signature(criteo, lines).items():
            one, unseen, other = outputs["logit"]
            assert one == unseen != other, (signature, name, value)


def test_every_column_moves_the_probability(exported: Export) -> None:
    schema, line = exported.schema, exported.log[17]
    fields = split(line, schema)
    (expected,) = exported.tsv([line])["p_click"]
    for name in (*schema.numeric, *schema.categorical):
        other = {**fields, name: b"" if fields[name] else b"9"}
        (found,) = exported.tsv([schema.delimiter.encode().join(other.values())])["p_click"]
        assert abs(found - expected) > 100 * TOLERANCE, name


WEIGHTS = "0 0.0 1 007 .5 5. 65536 6e4 65535.999 65536.001 1e-400 3.5E+2".split()
TIMES = ["2026-02-31", "0000-01-01", "2026-12-31T23:59", "2026-12-31 23:59:59Z", "2026-01-01T00:00:00.123456789"]


def hostile_lines(schema: Schema, lines: Sequence[bytes]) -> Iterator[bytes]:
    """Good lines with one hostile value each."""
    integers = "0 -0 -1 -2 007 -007 16777217 2147483648 4294967295 999999999999999999 -999999999999999999".split()
    integers += ["-000000000000000000", "000000000000000001"]
    numbers = [*integers, "3e38", "-3e38", "3.4028235e38", "1e-30", ".5", "5.", "-.5E+2", "1e-400", "0.1"]
    # Below the normal range of float32, and halfway between two of its numbers.
    numbers += ["1e-40", "-1e-45", "-0.0", "0e9", "16777217", "16777219.0", "1.00000005960464477539"]
    known = [split(line, schema) for line in lines[:40]]
    for number, column in enumerate(schema.columns):
        seen = known[number % len(known)]
        if column.kind in (LABEL, OUTCOME):
            continue
        values = {FLOAT: numbers, WEIGHT: WEIGHTS, TIME: [*integers, *TIMES]}.get(column.kind, integers)
        if column.kind in (CATEGORICAL, KEY, GROUP):
            value = next((row[column.name] for row in known if row[column.name]), b"value")
            foreign = next((row[other] for row in known for other in schema.categorical if other != column.name), b"")
            texts = [
                "ffffffff",
                "FFFFFFFF",
                "unseen",
                "été",
                "e\u0301te\u0301",
                "ÉTÉ",
                "日本",
                "\ufeffx",
                "\ufffd",
                "\x85",
            ]
            texts += ["NULL", "nan", " ", "0", "-1", "\x0b", "\x1c", "\u2028", "x" * 5000, '"', "\\t", "\x7f\x01"]
            awkward = [value, value.upper(), b" " + value, value + b" ", value[:-1], value + b"0", foreign]
            values = [text for text in texts if schema.delimiter not in text]
            yield from (line_of({**seen, column.name: raw or b"x"}, schema) for raw in awkward)
        for text in values if column.kind in (WEIGHT, TIME, GROUP) else ["", *values]:
            yield line_of({**seen, column.name: text.encode()}, schema)
    yield nothing(schema)


def test_signatures_agree_on_hostile_values(exported: Export) -> None:
    lines = list(hostile_lines(exported.schema, exported.log))
    assert len(lines) > 100
    p_click = check_agreement(exported, lines)
    assert ((p_click >= 0) & (p_click <= 1)).all()


def test_hostile_values_become_the_features_of_training(exported: Export) -> None:
    lines = list(hostile_lines(exported.schema, exported.log))
    transform, rows = exported.features.transform(), parse(lines, exported.schema)
    raw, values, reasons = LineParser(exported.schema)(tf.constant(lines), labelled=True)
    assert not np.any(reasons != b"")
    np.testing.assert_array_equal(exported.module._ids(values), transform.ids([rows]))
    found, expected = exported.module._numeric(raw).numpy(), transform.dense([rows])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    # One step of float32. Beside the mean, the last bit of a logarithm is more than the step of the small rest.
    step = np.maximum(np.spacing(np.abs(np.nan_to_num(expected))), 1e-13)
    np.testing.assert_array_less(np.abs(np.nan_to_num(found - expected)), 1.01 * step)


def test_values_differ_by_case_spaces_and_column(shop: Export) -> None:
    base = [b"k,1.5,0,3,%s,4,c1" % site for site in (b"a.b", b"A.B", b" a.b", b"a.b ", b"a\tb", b"unseen", b"")]
    p_click = shop.tsv(base)["p_click"]
    assert len(set(p_click)) == len(base)  # all of them have rows of their own
    # A value of the other column alone is unseen; rare values are as well.
    other = shop.tsv([b"k,1.5,0,3,%s,4,c1" % site for site in (b"c1", b'"c1', b"!a.b", b"nowhere", b"A.b")])["p_click"]
    np.testing.assert_array_equal(other, np.full(5, p_click[5]))


@pytest.mark.parametrize("name", ["criteo", "shop", "visits"])
def test_numeric_transform_equals_numpy_on_floats(name: str, request: pytest.FixtureRequest) -> None:
    exported: Export = request.getfixturevalue(name)
    schema, rng = exported.schema, np.random.default_rng(0)
    shape = (4000, len(schema.numeric))
    raw = (rng.choice([-1, 1], shape) * np.exp(rng.uniform(-20, 88, shape))).astype(np.float32)
    if LINEAR in schema.transforms:
        # Numbers far beyond the training rows' leave no room for a difference in the click probability.
        raw = np.clip(raw, -1e5, 1e5)
    raw[:1500] = rng.integers(-5, 5000, (1500, shape[1]))
    reach = raw.max()
    extremes = np.array([np.nan, 3e38, -3e38, np.finfo(np.float32).max, 0.0, -0.0, 1e-38, 4294967295], np.float32)
    raw[: len(extremes)] = np.clip(extremes, -reach, reach)[:, np.newaxis]
    values = [[b""] * len(schema.categorical)] * len(raw)
    found = exported.fields_of(raw, values)
    ids = np.zeros((len(raw), len(schema.categorical)), np.int32)
    expected = exported.call("features", ids=ids, dense=standardise(raw, exported.features.numeric))
    np.testing.assert_allclose(found["p_click"], expected["p_click"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found["logit"], expected["logit"], rtol=1e-5, atol=1e-5)
    assert np.isfinite(found["logit"]).all()


def test_infinity_does_not_disturb_other_rows(shop: Export) -> None:
    raw = np.array([[1.0, 2.0, 3.0], [np.inf, -np.inf, np.inf], [1.0, 2.0, 3.0]], np.float32)
    p_click = shop.fields_of(raw, [[b"a.b", b"c1"]] * 3)["p_click"]
    (alone,) = shop.fields_of(raw[:1], [[b"a.b", b"c1"]])["p_click"]
    np.testing.assert_allclose(p_click[[0, 2]], alone, atol=TOLERANCE)


def test_infinity_is_the_largest_number(exported: Export) -> None:
    largest = np.finfo(np.float32).max
    raw = np.full((4, len(exported.schema.numeric)), np.nan, np.float32)
    raw[:, 0] = [np.inf, largest, -np.inf, -largest]
    p_click = exported.fields_of(raw, [[b""] * len(exported.schema.categorical)] * 4)["p_click"]
    np.testing.assert_array_equal(p_click[[0, 2]], p_click[[1, 3]])
    assert ((p_click >= 0) & (p_click <= 1)).all()


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_batches_of_any_size(exported: Export, rows: int) -> None:
    whole = exported.tsv(exported.log[:5])["p_click"]
    for signature, outputs in every_signature(exported, exported.log[:rows]).items():
        assert outputs["p_click"].shape == outputs["logit"].shape == (rows,), signature
        np.testing.assert_allclose(outputs["p_click"], whole[:rows], atol=TOLERANCE, err_msg=signature)


def signature_types(exported: Export) -> dict[str, dict[str, tuple[str, list[int | None]]]]:
    """Inputs of each signature; outputs are checked."""
    found = {}
    for name, signature in exported.model.signatures.items():
        _, inputs = signature.structured_input_signature
        found[name] = {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in inputs.items()}
        outputs = {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in signature.structured_outputs.items()}
        reason = {"reason": ("string", [None])} if name in ("tsv", "tsv_unlabelled") else {}
        assert outputs == {"p_click": ("float32", [None]), "logit": ("float32", [None]), **reason}
    return found


def test_inputs_and_outputs_of_the_signatures(shop: Export) -> None:
    text, number = ("string", [None]), ("float32", [None])
    assert signature_types(shop) == {
        "serving_default": {"price": number, "count": number, "age": number, "site": text, "city": text},
        "strings": dict.fromkeys(("price", "count", "age", "site", "city"), text),
        "tsv": {"lines": text},
        "tsv_unlabelled": {"lines": text},
        "examples": {"examples": text},
        "features": {"ids": ("int32", [None, 2]), "dense": ("float32", [None, 3])},
    }


def test_weight_time_and_group_are_no_inputs(visits: Export) -> None:
    text, number = ("string", [None]), ("float32", [None])
    found, fields = signature_types(visits), ("price", "count", "age", "score", "site", "city")
    assert found["serving_default"] == {**dict.fromkeys(fields[:4], number), **dict.fromkeys(fields[4:], text)}
    assert found["strings"] == dict.fromkeys(fields, text)
    assert found["features"] == {"ids": ("int32", [None, 2]), "dense": ("float32", [None, 4])}


@pytest.mark.parametrize("file_format", ["json", "parquet"])
def test_logs_of_other_formats_have_no_lines(file_format: str, visits: Export, tmp_path: Path) -> None:
    schema = dataclasses.replace(VISITS, format=file_format)
    features = dataclasses.replace(visits.features, schema=schema)
    other = saved(tmp_path, features, visits.log, visits.student, visits.counts)
    assert set(other.model.signatures) == set(visits.model.signatures) - {"tsv", "tsv_unlabelled"}
    lines = visits.log[:50]
    expected = every_signature(visits, lines)["strings"]["p_click"]
    fields = [split(line, VISITS) for line in lines]
    names = (*schema.numeric, *schema.categorical)
    found = other.call("strings", **{name: np.array([row[name] for row in fields], object) for name in names})
    np.testing.assert_array_equal(found["p_click"], expected)


def test_any_column_names_can_be_exported(tmp_path: Path) -> None:
    names = ("user id", "größe", "class", "SELF", "user_id", "2nd")
    kinds = (INTEGER, FLOAT, INTEGER, CATEGORICAL, CATEGORICAL, CATEGORICAL)
    schema = Schema((Column("label", LABEL), *map(Column, names, kinds)), "|")
    lines = [b"1|3|2.5||x|y|z", b"0|||7||y|", b"1|1|-0.5|2|q||z"] * 4
    exported = export(tmp_path, schema, lines, subclasses=1, statistics=False)
    fields = {name: np.array([split(line, schema)[name] for line in lines], object) for name in names}
    found = exported.call("strings", **{key: fields[name] for name, key in input_names(names).items()})
    expected = exported.features_of(lines)["p_click"]
    np.testing.assert_allclose(found["p_click"], expected, atol=TOLERANCE)
    examples = np.array([serialized(split(line, schema), schema) for line in lines], object)
    np.testing.assert_allclose(exported.call("examples", examples=examples)["p_click"], expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("column", "text", "kind"),
    [
        ("count", b"1.5", "integer"),
        ("age", b"x", "integer"),
        ("age", b" 1", "integer"),
        ("price", b"nan", "float"),
        ("price", b"1e39", "float"),
        ("price", b"1,5", "float"),
    ],
)
def test_strings_refuses_what_is_no_number(shop: Export, column: str, text: bytes, kind: str) -> None:
    fields = {name: np.array([b"1", b""], object) for name in ("price", "count", "age", "site", "city")}
    fields[column] = np.array([b"1", text], object)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{column} must be a number of kind {kind} or "):
        shop.call("strings", **fields)


def test_examples_refuses_what_is_no_example_or_of_another_kind(shop: Export) -> None:
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[3]))
    integers = tf.train.Example(features=tf.train.Features(feature={"count": feature}))
    for damaged in (b"no example", integers.SerializeToString()):
        with pytest.raises(tf.errors.InvalidArgumentError):
            shop.call("examples", examples=np.array([damaged], object))


def test_an_empty_example_has_all_fields_missing(exported: Export) -> None:
    (expected,) = exported.tsv([nothing(exported.schema)])["p_click"]
    extra = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1"]))
    more = tf.train.Example(features=tf.train.Features(feature={"not a column": extra}))
    found = exported.call("examples", examples=np.array([b"", more.SerializeToString()], object))
    np.testing.assert_allclose(found["p_click"], expected, atol=TOLERANCE)


@pytest.mark.parametrize("values", [[[], [b"x"]], [[b"x"], []], [[], []]])
def test_columns_without_kept_values(tmp_path: Path, values: list[list[bytes]]) -> None:
    numeric = tuple(NumericColumn(name, LOG, 0.0, 1.0, 0, ()) for name in SHOP.numeric)
    columns = tuple(pa.array(column, pa.binary()) for column in values)
    features = ServingFeatures(SHOP, numeric, columns, tuple(map(len, values)))
    counts = ClickCounts(np.array([0, 2]), *np.zeros((2, 5, 10), np.int64), *np.ones((2, 10), np.int64))
    student = random_student(features, counts, 1, False)
    ServingModule([student.trunk], features, CALIBRATION).save(str(tmp_path))
    model = tf.saved_model.load(str(tmp_path))
    ids = [[0, 0], [1, 1], [2 if values[0] else 1, 2 if values[1] else 1]]
    dense = np.full((3, 3), np.nan, np.float32)
    expected = model.signatures["features"](ids=tf.constant(ids), dense=tf.constant(dense))
    found = model.signatures["tsv"](lines=tf.constant(["k,,0,,,,", "k,,0,,?,,?", "k,,0,,x,,x"]))
    np.testing.assert_allclose(found["p_click"], expected["p_click"], atol=TOLERANCE)
    again = read_features(features_json(features), (tmp_path / VOCABULARY_FILE).read_bytes())
    assert [column.to_pylist() for column in again.values] == values


def test_ids_are_those_of_the_transform(exported: Export) -> None:
    """A value a time, with all else missing: kept, rare, unseen and hashed values are the same to both."""
    schema, features = exported.schema, exported.features
    missing = np.full((1, len(schema.numeric)), np.nan, np.float32)
    for column, name in enumerate(schema.categorical):
        seen = [split(line, schema)[name] for line in exported.log]
        values = sorted({*seen, *features.values[column].to_pylist(), *(b"unseen %d" % i for i in range(50))})
        rows = [[b""] * column + [value] + [b""] * (len(schema.categorical) - column - 1) for value in values]
        found = exported.fields_of(np.repeat(missing, len(rows), axis=0), rows)["logit"]
        lines = [line_of({**split(nothing(schema), schema), name: value}, schema) for value in values]
        ids = features.transform().ids([parse(lines, schema)])
        expected = exported.call("features", ids=ids, dense=np.repeat(missing, len(rows), axis=0))["logit"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        # Other rows of the table are farther apart than that.
        assert len(np.unique(np.round(found, 4))) >= 0.9 * len(np.unique(np.round(found, 6)))


def test_values_outside_the_vocabulary_share_buckets_and_rare_ones_do_not(visits: Export) -> None:
    features, city = visits.features, VISITS.categorical.index("city")
    values = features.values[city].to_pylist()
    kept, rare = values[: features.kept[city]], values[features.kept[city] :]
    once = sorted({split(line, VISITS)["city"] for line in visits.log} - {b"", *values})
    assert len(kept) > 20 and len(rare) > 5 and len(once) > 5
    base = split(visits.log[17], VISITS)

    def logits(cities: Sequence[bytes]) -> list[float]:
        lines = [line_of({**base, "city": value}, VISITS) for value in cities]
        # Where in its batch a row stands may change its last bit.
        found: list[float] = np.round(visits.tsv(lines)["logit"], 4).tolist()
        return found

    (other,) = set(logits(rare))
    # Some buckets may hold values of one fold alone, which are scored as rare ones are.
    buckets = set(logits([b"never seen %d" % i for i in range(200)]))
    assert 3 <= len(buckets) <= features.buckets
    assert set(logits(once)) <= buckets
    assert len(buckets - {other}) >= 3
    assert not buckets & set(logits(kept)) - {other}


@pytest.mark.parametrize("rate", [0.5, 0.01])
def test_the_rate_of_rows_without_click_is_part_of_the_model(rate: float, shop: Export, tmp_path: Path) -> None:
    features = dataclasses.replace(shop.features, negative_rate=rate)
    sampled = saved(tmp_path, features, shop.log, shop.student, shop.counts)
    whole = every_signature(shop, shop.log[:100])
    for signature, outputs in every_signature(sampled, shop.log[:100]).items():
        logit = whole[signature]["logit"].astype(np.float64) + math.log(rate)
        np.testing.assert_allclose(outputs["logit"], logit, rtol=0, atol=1e-6, err_msg=signature)
        np.testing.assert_allclose(outputs["p_click"], expit(logit), rtol=0, atol=TOLERANCE, err_msg=signature)


def test_several_trunks_and_embeddings_of_several_sizes(tmp_path: Path) -> None:
    """The mean of the click logits, calibrated as a whole; sizes may differ from column to column."""
    numeric = tuple(NumericColumn(name, LOG, 0.0, 1.0, 0, (-1.0, 1.0)) for name in SHOP.numeric)
    cities = [b"c%d" % number for number in range(40)]
    features = ServingFeatures(SHOP, numeric, (pa.array([b"x"]), pa.array(cities)), (1, 40))
    counts = ClickCounts(np.array([0, 3]), *np.ones((2, 3 + 42, 10), np.int64), *np.ones((2, 10), np.int64))
    settings = {"embedding_dim": 4, "embedding_sizes": "vocabulary"}
    students = [random_student(features, counts, size, False, seed, **settings) for seed, size in ((1, 1), (2, 3))]
    assert len(students[0].trunk.embeddings.tables) == 2
    ServingModule([student.trunk for student in students], features, CALIBRATION).save(str(tmp_path))
    model = tf.saved_model.load(str(tmp_path))
    ids = tf.constant([[0, 0], [1, 1], [2, 2], [2, 41]])
    dense = tf.constant(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    batch = {"ids": ids, "dense": dense, "fold": tf.fill([4], NO_FOLD)}
    logits = [click_logit(student(batch)).numpy().astype(np.float64) for student in students]
    found = model.signatures["features"](ids=ids, dense=dense)["logit"]
    np.testing.assert_allclose(found, CALIBRATION.apply(np.mean(logits, axis=0)), rtol=1e-5, atol=1e-6)
    lines = ["k,,0,,,,", "k,,0,,?,,?", "k,,0,,x,,c0", "k,,0,,x,,c39"]
    missing = model.signatures["features"](ids=ids, dense=tf.fill([4, 3], np.float32("nan")))
    served = model.signatures["tsv"](lines=tf.constant(lines))
    np.testing.assert_allclose(served["p_click"], missing["p_click"], atol=TOLERANCE)


def test_subclass_probabilities_on_request(tmp_path: Path, criteo: Export) -> None:
    """P(class) of the calibrated click probability times P(subclass | class) of the student's own logits."""
    rows = criteo.log[:60]
    made = saved(tmp_path, criteo.features, rows, criteo.student, criteo.counts, subclass_probabilities=True)
    transform, parsed = made.features.transform(), parse(rows, made.schema)
    ids, dense = transform.ids([parsed]), transform.dense([parsed])
    batch = {"ids": tf.constant(ids), "dense": tf.constant(dense), "fold": tf.fill([len(ids)], NO_FOLD)}
    blocks = made.student(batch).numpy().astype(np.float64).reshape(len(rows), 2, -1)
    p_click = criteo.tsv(rows)["p_click"].astype(np.float64)
    expected = softmax(blocks, axis=2) * np.stack([1 - p_click, p_click], axis=1)[:, :, np.newaxis]
    assert expected.shape[2] > 1
    for signature, outputs in every_signature(made, rows).items():
        found = outputs["subclass_probabilities"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.reshape(len(rows), -1), rtol=0, atol=TOLERANCE, err_msg=signature)
        np.testing.assert_allclose(outputs["p_click"], p_click, rtol=0, atol=TOLERANCE, err_msg=signature)
    assert "subclass_probabilities" not in criteo.tsv(rows)
    bad = made.tsv([rows[0], b"no log line"])["subclass_probabilities"]
    np.testing.assert_array_equal(np.isnan(bad), np.repeat([[False], [True]], expected[0].size, axis=1))


def test_an_ensemble_has_no_subclass_probabilities(shop: Export) -> None:
    with pytest.raises(ConfigError, match=r"^Subclass probabilities must be those of a single student. Received: the "):
        ServingModule([shop.student.trunk] * 2, shop.features, CALIBRATION, subclass_probabilities=True)


def test_the_graph_is_small(criteo: Export, visits: Export) -> None:
    assert (criteo.path / "saved_model.pb").stat().st_size < 200_000
    # The thresholds of a squared logarithm and the cuts of quantiles lie in variables.
    graph = (
        saved_model_pb2.SavedModel.FromString((visits.path / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    )
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert max(node.ByteSize() for node in nodes if node.op == "Const") < 5_000


def test_many_columns(tmp_path: Path) -> None:
    """Numbers of columns that one character does not tell apart; all columns share values."""
    kinds = [(f"c{number}", CATEGORICAL) for number in range(100)]
    schema = Schema((Column("label", LABEL), Column("n", INTEGER), *(Column(*kind) for kind in kinds)))
    values = [[b"a", b"!", b"!a"][: 1 + number % 3] for number in range(100)]
    numeric = (NumericColumn("n", LOG, 0.0, 1.0, 0, ()),)
    sizes = np.array([*map(len, values)])
    features = ServingFeatures(schema, numeric, tuple(map(pa.array, values)), tuple(sizes.tolist()))
    ids = sizes + FIRST_VALUE
    counts = ClickCounts(np.cumsum(ids) - ids, *np.ones((2, ids.sum(), 10), np.int64), *np.ones((2, 10), np.int64))
    exported = saved(tmp_path, features, [], random_student(features, counts, 1, False), counts)
    rng = np.random.default_rng(0)
    drawn = rng.choice(np.array([b"a", b"!", b"!a", b"", b"!!a", b'"a'], object), (20, 100))
    check_agreement(exported, [b"\t".join([b"1", b"3", *row]) for row in drawn])
    again = read_features(features_json(features), (exported.path / VOCABULARY_FILE).read_bytes())
    assert [column.to_pylist() for column in again.values] == values


def test_calibration_is_part_of_the_model(tmp_path: Path, shop: Export) -> None:
    ServingModule([shop.student.trunk], shop.features, Calibration()).save(str(tmp_path))
    plain = tf.saved_model.load(str(tmp_path)).signatures["tsv"](lines=tf.constant(shop.log[:50]))
    np.testing.assert_allclose(
        shop.tsv(shop.log[:50])["logit"], CALIBRATION.apply(plain["logit"].numpy()), rtol=1e-5, atol=1e-6
    )


ALONE = """
import sys
import tensorflow as tf
import numpy as np

for model, inputs, output in zip(*[iter(sys.argv[1:])] * 3):
    loaded = tf.saved_model.load(model)
    lines = open(inputs, "rb").read().split(b"\\n")
    outputs = loaded.signatures["tsv"](lines=tf.constant(lines))
    np.savez(output, **{name: value.numpy() for name, value in outputs.items()})
ours = {name.split(".")[0] for name in sys.modules} & {"features", "models", "pipeline"}
assert not ours, ours
assert not any("ctr_distill" in name and "finder" not in name for name in sys.modules)
"""


def test_loads_with_tensorflow_alone(tmp_path: Path, criteo: Export, shop: Export, visits: Export) -> None:
    script = tmp_path / "alone.py"
    script.write_text(ALONE, encoding="utf-8")
    exports, arguments = (criteo, shop, visits), []
    lines = [[*exported.log[:200], b"bad", b""] for exported in exports]
    for number, exported in enumerate(exports):
        (tmp_path / f"{number}.tsv").write_bytes(b"\n".join(lines[number]))
        arguments += [str(exported.path), str(tmp_path / f"{number}.tsv"), str(tmp_path / f"{number}.npz")]
    # -I: neither the working directory nor PYTHONPATH nor TF_USE_LEGACY_KERAS of this process plays a part.
    done = subprocess.run(
        [sys.executable, "-I", str(script), *arguments],
        cwd=tmp_path,
        env={"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for number, exported in enumerate(exports):
        found, expected = np.load(tmp_path / f"{number}.npz", allow_pickle=True), exported.tsv(lines[number])
        assert found["reason"].tolist() == [*[b""] * 200, b"field_count", b"empty_line"]
        np.testing.assert_allclose(found["p_click"], expected["p_click"], rtol=0, atol=TOLERANCE)

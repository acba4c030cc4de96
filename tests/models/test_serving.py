"""The exported student: one answer whatever the signature, the same as training's features, TensorFlow alone."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import strict
from features.hashing import folds
from features.lines import Chunk
from features.numeric import NumericColumn, NumericStatistics, standardise
from features.parsing import ParsedRows, parse_chunk
from features.schema import CATEGORICAL, CRITEO, FLOAT, INTEGER, KEY, LABEL, Column, Schema
from features.statistics import NO_FOLD, ClickCounts
from features.strict import BadLine, parse_line
from features.vocabulary import FIRST_VALUE, Vocabulary, count_values
from models.backend import tf
from models.calibration import Calibration
from models.heads import click_logit
from models.methods import METHODS
from models.serving import (
    FEATURES_FILE,
    VOCABULARY_FILE,
    ServingFeatures,
    ServingModule,
    features_json,
    input_names,
    read_features,
    serving_statistics,
)
from models.student import Student, StudentSettings, StudentTrunk, tie_untrained
from models.tables import FoldTables
from pipeline.config import StudentConfig, narrow
from pipeline.generate import generate

SHOP = Schema(
    (
        Column("id", KEY),
        Column("price", FLOAT),
        Column("clicked", LABEL),
        Column("count", INTEGER),
        Column("site", CATEGORICAL),
        Column("age", INTEGER),
        Column("city", CATEGORICAL),
    ),
    delimiter=",",
)
CALIBRATION = Calibration(0.9, -0.2)
MIN_COUNT = 3
SMOOTHING = 5.0
# The largest difference of click probabilities between two ways to the same row.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Export:
    """A random student, exported and loaded again.

    Args:
        path: of the SavedModel.
        features: of the student.
        log: lines of its training log.
        model: what was loaded; kept, because its variables go with it.
        student: as training sees it.
    """

    path: Path
    features: ServingFeatures
    log: list[bytes]
    model: Any
    student: Student

    @property
    def schema(self) -> Schema:
        return self.features.schema

    def call(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        outputs = self.model.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def tsv(self, lines: Sequence[bytes], labelled: bool = True) -> dict[str, np.ndarray]:
        return self.call("tsv" if labelled else "tsv_unlabelled", lines=np.array(lines, object))

    def features_of(self, lines: Sequence[bytes], labelled: bool = True) -> dict[str, np.ndarray]:
        """What ``predict`` does: parse and transform with Arrow and NumPy, score blocks."""
        rows = parse(lines, self.schema, labelled)
        assert not rows.rejects
        transform = self.features.transform()
        return self.call("features", ids=transform.ids([rows]), dense=transform.dense([rows]))

    def fields_of(self, raw: np.ndarray, values: Sequence[Sequence[bytes]]) -> dict[str, np.ndarray]:
        return self.call("serving_default", **raw_fields(self.schema, raw, values))


def parse(lines: Sequence[bytes], schema: Schema, labelled: bool = True) -> ParsedRows:
    # Not at the beginning of a file, where a byte order mark would be one.
    return parse_chunk(Chunk(100, b"".join(line + b"\n" for line in lines)), schema, labelled)


def split(line: bytes, schema: Schema) -> dict[str, bytes]:
    """Fields of a good labelled line by column name."""
    return dict(zip(schema.names, line.split(schema.delimiter.encode()), strict=True))


def without_label(lines: Sequence[bytes], schema: Schema) -> list[bytes]:
    delimiter = schema.delimiter.encode()
    place = schema.names.index(schema.label)
    fields = [line.split(delimiter) for line in lines]
    return [delimiter.join(line[:place] + line[place + 1 :]) for line in fields]


def raw_fields(schema: Schema, raw: np.ndarray, values: Sequence[Sequence[bytes]]) -> dict[str, np.ndarray]:
    """Inputs of ``serving_default``: float32 [n, numeric columns] and n rows of categorical values."""
    texts = np.array([list(row) for row in values], object).reshape(len(values), len(schema.categorical))
    numbers = {name: np.asarray(raw[:, i], np.float32) for i, name in enumerate(schema.numeric)}
    return {**numbers, **{name: texts[:, i] for i, name in enumerate(schema.categorical)}}


def shop_log(rows: int = 900, seed: int = 0) -> list[bytes]:
    """A log of the custom schema whose values are as awkward as values may be."""
    rng = np.random.default_rng(seed)
    sites = ["a.b", "A.B", " a.b", "a.b ", "München", "a\tb", '"q"', "ffffffff", "0", "NULL", "", "日本", "\ufeffx"]
    cities = ["a.b", "0", "x", "", *(f"c{i}" for i in range(40))]
    lines = []
    for i in range(rows):
        price = "" if rng.random() < 0.2 else f"{rng.lognormal(2, 2):.{rng.integers(5)}f}"
        count, age = ("" if rng.random() < 0.3 else str(rng.integers(-3, 3000)) for _ in range(2))
        site, city = sites[min(rng.geometric(0.2), 13) - 1], cities[min(rng.geometric(0.1), 44) - 1]
        lines.append(f"k{i},{price},{rng.integers(2)},{count},{site},{age},{city}".encode())
    return lines


def criteo_log(folder: Path, rows: int = 1200) -> list[bytes]:
    """A generated log in which ffffffff and a value beyond ASCII are common in C1."""
    path = folder / "log.tsv"
    generate(rows, str(path), seed=5)
    lines = path.read_bytes().splitlines()
    for start, value in ((0, b"ffffffff"), (1, "été".encode())):
        for i in range(start, 40, 2):
            fields = lines[i].split(b"\t")
            lines[i] = b"\t".join([*fields[:14], value, *fields[15:]])
    return lines


def fit_features(log: list[bytes], schema: Schema) -> tuple[ServingFeatures, ClickCounts]:
    rows = parse(log, schema)
    assert rows.labels is not None
    fold = folds(rows.offsets, "log", 0)
    numbers = NumericStatistics(len(schema.numeric))
    numbers.update(rows.numeric)
    vocabularies = [Vocabulary.merge([count_values([c], fold, rows.labels)], 1, 10**6) for c in rows.categorical]
    of_fold = [fold == number for number in range(10)]
    counts = ClickCounts.of(
        vocabularies,
        [int(chosen.sum()) for chosen in of_fold],
        [int(rows.labels[chosen].sum()) for chosen in of_fold],
    )
    kept = tuple(vocabulary.values.slice(0, vocabulary.kept(MIN_COUNT)) for vocabulary in vocabularies)
    return ServingFeatures(schema, numbers.columns(schema.numeric), kept), counts


def random_student(features: ServingFeatures, counts: ClickCounts, subclasses: int, statistics: bool) -> Student:
    """A student in which every row of the table and every input moves the logit."""
    shape = dataclasses.replace(
        narrow(StudentConfig(), StudentSettings), embedding_dim=3, hidden=16, statistics=statistics
    )
    layout = features.layout()
    trunk = StudentTrunk(layout, 0.25, subclasses, shape)
    tables = FoldTables(layout, counts, SMOOTHING, kept_only=True)
    student = Student(trunk, tables, METHODS["hard"], shape)
    numeric, categorical = len(features.schema.numeric), len(features.schema.categorical)
    student({"ids": tf.zeros([1, categorical], tf.int32), "dense": tf.zeros([1, numeric]), "fold": tf.constant([10])})
    rng = np.random.default_rng(0)
    for variable in trunk.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.1, variable.shape).astype(np.float32))
    return student


def export(folder: Path, schema: Schema, log: list[bytes], subclasses: int, statistics: bool) -> Export:
    features, counts = fit_features(log, schema)
    student = random_student(features, counts, subclasses, statistics)
    # As before every export: serving does not know in which folds a value lies.
    tie_untrained(student.trunk, features.layout(), counts, [column.missing for column in features.numeric])
    table = None
    if statistics:
        found = counts.statistics(SMOOTHING)
        table = serving_statistics(
            features.layout(), found.log_odds[:, NO_FOLD], found.log_count[:, NO_FOLD], counts.starts
        )
    path = folder / "model" / "1"
    ServingModule(student.trunk, features, CALIBRATION, table).save(str(path))
    (path / FEATURES_FILE).parent.mkdir(exist_ok=True)
    (path / FEATURES_FILE).write_bytes(features_json(features))
    return Export(path, features, log, tf.saved_model.load(str(path)), student)


@pytest.fixture(scope="module")
def criteo(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("criteo")
    return export(folder, CRITEO, criteo_log(folder), subclasses=3, statistics=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(tmp_path_factory.mktemp("shop"), SHOP, shop_log(), subclasses=1, statistics=False)


@pytest.fixture(scope="module")
def with_statistics(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(tmp_path_factory.mktemp("statistics"), SHOP, shop_log(), subclasses=2, statistics=True)


@pytest.fixture(params=["criteo", "shop", "with_statistics"])
def exported(request: pytest.FixtureRequest) -> Export:
    found: Export = request.getfixturevalue(request.param)
    return found


def serialized(fields: dict[str, bytes], schema: Schema) -> bytes:
    """A tf.train.Example of raw fields; missing ones are absent."""
    features = {}
    for name in schema.numeric:
        if fields[name]:
            number = tf.train.FloatList(value=[float(np.float32(fields[name]))])
            features[name] = tf.train.Feature(float_list=number)
    for name in schema.categorical:
        if fields[name]:
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[fields[name]]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def every_signature(exported: Export, lines: Sequence[bytes]) -> dict[str, dict[str, np.ndarray]]:
    """The outputs of all signatures for good labelled lines."""
    schema = exported.schema
    rows = [split(line, schema) for line in lines]
    texts = {name: np.array([row[name] for row in rows], object) for name in (*schema.numeric, *schema.categorical)}
    numbers = {
        name: np.array([np.float32(text or b"nan") for text in texts[name]], np.float32) for name in schema.numeric
    }
    return {
        "serving_default": exported.call("serving_default", **{**texts, **numbers}),
        "strings": exported.call("strings", **texts),
        "tsv": exported.tsv(lines),
        "tsv_unlabelled": exported.tsv(without_label(lines, schema), labelled=False),
        "examples": exported.call("examples", examples=np.array([serialized(row, schema) for row in rows], object)),
        "features": exported.features_of(lines),
    }


def check_agreement(exported: Export, lines: Sequence[bytes]) -> np.ndarray:
    """All signatures give the same probabilities; returns them."""
    outputs = every_signature(exported, lines)
    expected = outputs["features"]["p_click"]
    for signature, found in outputs.items():
        np.testing.assert_allclose(found["p_click"], expected, rtol=0, atol=TOLERANCE, err_msg=signature)
        sigmoid = 1 / (1 + np.exp(-found["logit"].astype(np.float64)))
        np.testing.assert_allclose(found["p_click"], sigmoid, rtol=1e-5, err_msg=signature)
        assert found["p_click"].dtype == found["logit"].dtype == np.float32
        assert found["p_click"].shape == found["logit"].shape == (len(lines),)
        assert ("reason" in found) == signature.startswith("tsv")
        if signature.startswith("tsv"):
            assert (found["reason"] == b"").all(), signature
    return expected


def test_signatures_agree_on_log_rows(exported: Export) -> None:
    p_click = check_agreement(exported, exported.log)
    assert ((p_click > 0) & (p_click < 1)).all()
    assert p_click.std() > 0.05
    assert len(np.unique(p_click)) > 0.9 * len(p_click)


def test_serving_is_what_training_sees(exported: Export) -> None:
    transform, rows = exported.features.transform(), parse(exported.log, exported.schema)
    ids, dense = transform.ids([rows]), transform.dense([rows])
    fold = tf.fill([len(ids)], NO_FOLD)
    z = exported.student({"ids": tf.constant(ids), "dense": tf.constant(dense), "fold": fold})
    expected = CALIBRATION.apply(click_logit(z).numpy())
    found = exported.call("features", ids=ids, dense=dense)["logit"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_value_of_one_fold_alone_is_unseen_in_serving_too(criteo: Export) -> None:
    _, counts = fit_features(criteo.log, CRITEO)
    alone = [
        (name, value, values[0].as_py())
        for name, start, values in zip(CRITEO.categorical, counts.starts, criteo.features.values, strict=True)
        for value, by_fold in zip(values.to_pylist(), counts.counts[start + FIRST_VALUE :], strict=False)
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


def hostile_lines(schema: Schema, lines: Sequence[bytes]) -> Iterator[bytes]:
    """Good lines with one hostile value each."""
    integers = "0 -0 -1 -2 007 -007 16777217 2147483648 4294967295 999999999999999999 -999999999999999999".split()
    numbers = [*integers, "3e38", "-3e38", "3.4028235e38", "1e-30", ".5", "5.", "-.5E+2", "1e-400", "0.1"]
    known = [split(line, schema) for line in lines[:40]]
    for number, column in enumerate(schema.columns):
        seen = known[number % len(known)]
        if column.kind == LABEL:
            continue
        values = numbers if column.kind == FLOAT else integers
        if column.kind in (CATEGORICAL, KEY):
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
            yield from (line_of({**seen, column.name: raw}, schema) for raw in awkward)
        for text in ["", *values]:
            yield line_of({**seen, column.name: text.encode()}, schema)
    yield line_of({name: b"0" if name == schema.label else b"" for name in schema.names}, schema)


def line_of(fields: dict[str, bytes], schema: Schema) -> bytes:
    return schema.delimiter.encode().join(fields[name] for name in schema.names)


def test_signatures_agree_on_hostile_values(exported: Export) -> None:
    lines = list(hostile_lines(exported.schema, exported.log))
    assert len(lines) > 100
    p_click = check_agreement(exported, lines)
    assert ((p_click >= 0) & (p_click <= 1)).all()


def test_values_differ_by_case_spaces_and_column(shop: Export) -> None:
    base = [b"k,1.5,0,3,%s,4,c1" % site for site in (b"a.b", b"A.B", b" a.b", b"a.b ", b"a\tb", b"unseen", b"")]
    p_click = shop.tsv(base)["p_click"]
    assert len(set(p_click)) == len(base)  # all of them have rows of their own
    # A value of the other column alone is unseen; rare values are as well.
    other = shop.tsv([b"k,1.5,0,3,%s,4,c1" % site for site in (b"c1", b"1\tc1", b"nowhere", b"A.b")])["p_click"]
    np.testing.assert_array_equal(other, np.full(4, p_click[5]))


@pytest.mark.parametrize("name", ["criteo", "shop"])
def test_numeric_transform_equals_numpy_on_floats(name: str, request: pytest.FixtureRequest) -> None:
    exported: Export = request.getfixturevalue(name)
    schema, rng = exported.schema, np.random.default_rng(0)
    shape = (4000, len(schema.numeric))
    raw = (rng.choice([-1, 1], shape) * np.exp(rng.uniform(-20, 88, shape))).astype(np.float32)
    raw[:1500] = rng.integers(-5, 5000, (1500, shape[1]))
    extremes = np.array([np.nan, 3e38, -3e38, np.finfo(np.float32).max, 0.0, -0.0, 1e-38, 4294967295], np.float32)
    raw[: len(extremes)] = extremes[:, np.newaxis]
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


def expected_reason(line: bytes, schema: Schema, labelled: bool) -> str:
    """What the strict parser says of a line; its newline is not its own."""
    try:
        parse_line(line.removesuffix(b"\n"), schema, labelled)
    except BadLine as bad:
        return bad.reason
    return ""


def check_reasons(exported: Export, lines: Sequence[bytes], labelled: bool = True) -> list[str]:
    """Reasons are those of the strict parser, probabilities NaN exactly for bad lines; returns the reasons."""
    outputs = exported.tsv(lines, labelled)
    reasons = [reason.decode() for reason in outputs["reason"]]
    assert reasons == [expected_reason(line, exported.schema, labelled) for line in lines]
    bad = np.array([bool(reason) for reason in reasons], bool)
    for name in ("p_click", "logit"):
        np.testing.assert_array_equal(np.isnan(outputs[name]), bad)
    assert ((outputs["p_click"][~bad] >= 0) & (outputs["p_click"][~bad] <= 1)).all()
    return reasons


GOOD = b"k,1.5,1,3,a.b,4,c1"
GOOD_UNLABELLED = b"k,1.5,3,a.b,4,c1"
# Bad with and without the label column.
BAD_ANYWAY = [
    (b"", strict.EMPTY_LINE),
    (b"\r", strict.EMPTY_LINE),
    (b"\n", strict.EMPTY_LINE),
    (b"\r\n", strict.EMPTY_LINE),
    (b"x" * (1 << 20), strict.FIELD_COUNT),
    (b"x" * (1 << 20) + b"\r\n", strict.FIELD_COUNT),
    (b"x" * (1 << 20) + b"x", strict.TOO_LONG),
    (GOOD + b"x" * (1 << 20), strict.TOO_LONG),
    (b"\xff\0\r" + b"x" * (1 << 20), strict.TOO_LONG),
    (b"k,1.5,1,3,a\0b,4,c1", strict.NUL_BYTE),
    (b"\0", strict.NUL_BYTE),
    (b"\xff\0", strict.NUL_BYTE),
    (b"\r\0\xff", strict.NUL_BYTE),
    (b"\r\r", strict.CARRIAGE_RETURN),
    (GOOD + b"\r\r\n", strict.CARRIAGE_RETURN),
    (b"k,1.5,1,\r3,a,4,c1", strict.CARRIAGE_RETURN),
    (b"\xff\r1", strict.CARRIAGE_RETURN),
    (b"\xff", strict.INVALID_UTF8),
    (b"\xff\r", strict.INVALID_UTF8),
    (b"k,x,2,x,\xc0\xaf,4,c1", strict.INVALID_UTF8),
    (b"k,1.5,1,3,\xed\xa0\x80,4,c1", strict.INVALID_UTF8),
    (b"k,1.5,1,3,\xe6\x97,4,c1", strict.INVALID_UTF8),
    (b"k,1.5,1,3,\xf4\x90\x80\x80,4,c1", strict.INVALID_UTF8),
    (b"\xff,\xff", strict.INVALID_UTF8),
    (b"x", strict.FIELD_COUNT),
    (b" ", strict.FIELD_COUNT),
    (b",", strict.FIELD_COUNT),
    (b"k,x,x,x,x", strict.FIELD_COUNT),
    (b"k,1.5,1,3,a,4,c1,", strict.FIELD_COUNT),
    (b"k\t1.5\t1\t3\ta\t4\tc1", strict.FIELD_COUNT),
]
BAD_LINES = [
    *BAD_ANYWAY,
    (b"k,x,2,x,a,4,c1", strict.BAD_LABEL),
    (b"k,1.5,,3,a,4,c1", strict.BAD_LABEL),
    (b"k,1.5,01,3,a,4,c1", strict.BAD_LABEL),
    (b"k,1.5,1.0,3,a,4,c1", strict.BAD_LABEL),
    (b"k,x,1,3,a,x,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,3.0,a,4,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,3,a, 4,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,+3,a,4,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,3,a,4\n,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,1111111111111111111,a,4,c1", strict.BAD_INTEGER),
    ("k,1.5,1,٣,a,4,c1".encode(), strict.BAD_INTEGER),
    (b"k,x,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,nan,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,inf,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,1e39,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,1e999,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,.,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,0x1p3,1,3,a,4,c1", strict.BAD_FLOAT),
    # Without the label column.
    (GOOD_UNLABELLED, strict.FIELD_COUNT),
    (GOOD_UNLABELLED + b"\r\n", strict.FIELD_COUNT),
    (b",,,,,", strict.FIELD_COUNT),
    (b"k,x,x,a,4,c1", strict.FIELD_COUNT),
    (b"k,x,3,a,4,c1", strict.FIELD_COUNT),
]
BAD_UNLABELLED_LINES = [
    *BAD_ANYWAY,
    (b"k,x,x,a,4,c1", strict.BAD_INTEGER),
    (b"k,x,3,a,x,c1", strict.BAD_INTEGER),
    (b"k,1.5,3.0,a,4,c1", strict.BAD_INTEGER),
    (b"k,1.5,3,a,4\n,c1", strict.BAD_INTEGER),
    (b"k,1.5,1111111111111111111,a,4,c1", strict.BAD_INTEGER),
    (b"k,x,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,nan,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,1e39,3,a,4,c1", strict.BAD_FLOAT),
    # With the label column.
    (GOOD, strict.FIELD_COUNT),
    (GOOD + b"\r\n", strict.FIELD_COUNT),
    (b",,0,,,,", strict.FIELD_COUNT),
    (b"k,x,2,x,a,4,c1", strict.FIELD_COUNT),
    (b"k,x,1,3,a,4,c1", strict.FIELD_COUNT),
]
GOOD_LINES = [
    GOOD,
    GOOD + b"\r",
    GOOD + b"\r\n",
    GOOD + b"\n",
    b",,0,,,,",
    b"k,3.4028235e38,1,3,a,4,c1",
    b"k,1e-400,1,3,a,4,c1",
    "\ufeffk,1.5,1,3,\ufffd,4,\uffff".encode(),
    b"k" * ((1 << 20) - len(GOOD) + 1) + GOOD[1:],
]
GOOD_UNLABELLED_LINES = [
    *(GOOD_UNLABELLED + ending for ending in (b"", b"\r", b"\r\n", b"\n")),
    b",,,,,",
    b"k,3.4028235e38,3,a,4,c1",
    b"k,1e-400,3,a,4,c1",
    "\ufeffk,1.5,3,\ufffd,4,\uffff".encode(),
    b"k" * ((1 << 20) - len(GOOD_UNLABELLED) + 1) + GOOD_UNLABELLED[1:],
]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("name", ["shop", "with_statistics"])
def test_bad_lines_have_the_reason_of_the_strict_parser(
    name: str, labelled: bool, request: pytest.FixtureRequest
) -> None:
    exported: Export = request.getfixturevalue(name)
    bad, good = (BAD_LINES, GOOD_LINES) if labelled else (BAD_UNLABELLED_LINES, GOOD_UNLABELLED_LINES)
    reasons = check_reasons(exported, [line for line, _ in bad] + good, labelled)
    assert reasons == [reason for _, reason in bad] + [""] * len(good)
    assert {*reasons} == {*strict.REASONS, ""} - (set() if labelled else {strict.BAD_LABEL})


@pytest.mark.parametrize("labelled", [True, False])
def test_bad_lines_do_not_disturb_good_ones(shop: Export, labelled: bool) -> None:
    good, bad_lines = (GOOD, BAD_LINES) if labelled else (GOOD_UNLABELLED, BAD_UNLABELLED_LINES)
    mixed = [line for bad, _ in bad_lines for line in (bad, good)]
    (alone,) = shop.tsv([GOOD])["p_click"]
    np.testing.assert_allclose(shop.tsv(mixed, labelled)["p_click"][1::2], alone, atol=TOLERANCE)


def test_criteo_lines(criteo: Export) -> None:
    good = criteo.log[3]
    fields = good.split(b"\t")
    lines = [
        good,
        good + b"\r\n",
        b"\t".join(fields[1:]),
        b"\t".join(fields[:-1]) + b"\t",
        b"\t".join([b"1", *[b""] * 39]),
        b"\t".join([b"", *fields[1:]]),
        b"\t".join([b"1", b"1.5", *fields[2:]]),
        b"\t".join([*fields, b"x"]),
        b"\t".join(fields[:-2]),
        good.replace(b"\t", b","),
        b"\t".join([*fields[:-1], b"\xe9"]),
    ]
    expected = ["", "", "field_count", "", "", "label", "integer", *["field_count"] * 3, "invalid_utf8"]
    assert check_reasons(criteo, lines) == expected


def test_criteo_lines_without_label(criteo: Export) -> None:
    good = criteo.log[3]
    fields = good.split(b"\t")[1:]
    lines = [
        b"\t".join(fields),
        b"\t".join(fields) + b"\r\n",
        good,
        b"\t".join(fields[:-1]) + b"\t",
        b"\t" * 38,
        b"\t".join([b"1.5", *fields[1:]]),
        b"\t".join(fields[:-1]),
        b"\t".join(fields).replace(b"\t", b","),
        b"\t".join([*fields[:-1], b"\xe9"]),
    ]
    expected = ["", "", "field_count", "", "", "integer", "field_count", "field_count", "invalid_utf8"]
    assert check_reasons(criteo, lines, labelled=False) == expected
    found = criteo.tsv(lines[:2], labelled=False)["p_click"]
    np.testing.assert_allclose(found, criteo.tsv([good] * 2)["p_click"], rtol=0, atol=TOLERANCE)


TOKENS = st.sampled_from(
    [b"", b"0", b"1", b"-7", b"2.5", b"1e39", b"3e38", b"a.b", b"x", b"nan", b"\r", b"\n", b"\0", b"\xff", b" 1", b","]
    + ["é".encode(), "\ufeff".encode(), b"\xed\xa0\x80", b"9" * 19, b".", b"-", b'"', b"\t", b"\x85", b"\xc3"]
)
FIELDS = st.one_of(TOKENS, st.binary(max_size=6), st.text(max_size=5).map(lambda text: text.encode("utf-8", "ignore")))


@st.composite
def lines_like_rows(draw: st.DrawFn) -> bytes:
    """The good line, labelled or not, with some fields replaced; or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=30))
    fields = GOOD.split(b",")
    if draw(st.booleans()):
        del fields[2]
    for place in draw(st.lists(st.integers(0, len(fields) - 1), max_size=3)):
        fields[place] = draw(FIELDS)
    ending = draw(st.sampled_from([b"", b"", b"", b"\r", b"\n", b"\r\n", b"\r\r", b"\n\r", b"\n\n", b","]))
    return b",".join(fields) + ending


@settings(deadline=None, max_examples=60)
@given(lines=st.lists(lines_like_rows(), min_size=1, max_size=12))
def test_any_lines_are_judged_and_scored_as_by_preprocess(shop: Export, lines: list[bytes]) -> None:
    kept = [line.removesuffix(b"\n").removesuffix(b"\r") for line in lines]
    for labelled in (True, False):
        reasons = check_reasons(shop, lines, labelled)
        p_click = shop.tsv(lines, labelled)["p_click"]
        chosen = [i for i, line in enumerate(kept) if not reasons[i] and b"\n" not in line]
        if chosen:
            expected = shop.features_of([kept[i] for i in chosen], labelled)["p_click"]
            np.testing.assert_allclose(p_click[chosen], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_batches_of_any_size(exported: Export, rows: int) -> None:
    whole = exported.tsv(exported.log[:5])["p_click"]
    for signature, outputs in every_signature(exported, exported.log[:rows]).items():
        assert outputs["p_click"].shape == outputs["logit"].shape == (rows,), signature
        np.testing.assert_allclose(outputs["p_click"], whole[:rows], atol=TOLERANCE, err_msg=signature)


def test_inputs_and_outputs_of_the_signatures(shop: Export) -> None:
    found = {}
    for name, signature in shop.model.signatures.items():
        _, inputs = signature.structured_input_signature
        found[name] = {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in inputs.items()}
        outputs = {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in signature.structured_outputs.items()}
        reason = {"reason": ("string", [None])} if name in ("tsv", "tsv_unlabelled") else {}
        assert outputs == {"p_click": ("float32", [None]), "logit": ("float32", [None]), **reason}
    text, number = ("string", [None]), ("float32", [None])
    assert found == {
        "serving_default": {"price": number, "count": number, "age": number, "site": text, "city": text},
        "strings": dict.fromkeys(("price", "count", "age", "site", "city"), text),
        "tsv": {"lines": text},
        "tsv_unlabelled": {"lines": text},
        "examples": {"examples": text},
        "features": {"ids": ("int32", [None, 2]), "dense": ("float32", [None, 3])},
    }


@pytest.mark.parametrize(
    ("columns", "inputs"),
    [
        (["I1", "C1", "site_id", "name"], ["I1", "C1", "site_id", "name"]),
        (["user id", "größe", "x/y"], ["user_id", "gr__e", "x_y"]),
        (["2nd", "_x", "%"], ["column_2nd", "column__x", "column__"]),
        (["class", "self", "None"], ["class_", "self_", "None_"]),
        (["a-b", "a b", "a_b"], ["a_b_", "a_b__", "a_b"]),  # the name that may stay does
        (["A", "a"], ["A", "a_"]),
    ],
)
def test_input_names(columns: list[str], inputs: list[str]) -> None:
    assert input_names(columns) == dict(zip(columns, inputs, strict=True))


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
    schema = exported.schema
    nothing = line_of({name: b"0" if name == schema.label else b"" for name in schema.names}, schema)
    (expected,) = exported.tsv([nothing])["p_click"]
    extra = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1"]))
    more = tf.train.Example(features=tf.train.Features(feature={"not a column": extra}))
    found = exported.call("examples", examples=np.array([b"", more.SerializeToString()], object))
    np.testing.assert_allclose(found["p_click"], expected, atol=TOLERANCE)


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
    rows = parse(exported.log, exported.schema)
    mine, theirs = features.transform(), exported.features.transform()
    np.testing.assert_array_equal(mine.ids([rows]), theirs.ids([rows]))
    np.testing.assert_array_equal(mine.dense([rows]), theirs.dense([rows]))


@pytest.mark.parametrize("values", [[[], [b"x"]], [[b"x"], []], [[], []]])
def test_columns_without_kept_values(tmp_path: Path, values: list[list[bytes]]) -> None:
    numeric = tuple(NumericColumn(name, 0.0, 1.0, 0, ()) for name in SHOP.numeric)
    features = ServingFeatures(SHOP, numeric, tuple(pa.array(column, pa.binary()) for column in values))
    counts = ClickCounts(np.array([0, 2]), *np.zeros((2, 5, 10), np.int64), *np.ones((2, 10), np.int64))
    student = random_student(features, counts, 1, False)
    ServingModule(student.trunk, features, CALIBRATION).save(str(tmp_path))
    model = tf.saved_model.load(str(tmp_path))
    ids = [[0, 0], [1, 1], [2 if values[0] else 1, 2 if values[1] else 1]]
    dense = np.full((3, 3), np.nan, np.float32)
    expected = model.signatures["features"](ids=tf.constant(ids), dense=tf.constant(dense))
    found = model.signatures["tsv"](lines=tf.constant(["k,,0,,,,", "k,,0,,?,,?", "k,,0,,x,,x"]))
    np.testing.assert_allclose(found["p_click"], expected["p_click"], atol=TOLERANCE)
    again = read_features(features_json(features), (tmp_path / VOCABULARY_FILE).read_bytes())
    assert [column.to_pylist() for column in again.values] == values


def test_calibration_is_part_of_the_model(tmp_path: Path, shop: Export) -> None:
    ServingModule(shop.student.trunk, shop.features, Calibration()).save(str(tmp_path))
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


def test_loads_with_tensorflow_alone(tmp_path: Path, criteo: Export, shop: Export, with_statistics: Export) -> None:
    script = tmp_path / "alone.py"
    script.write_text(ALONE, encoding="utf-8")
    exports, arguments = (criteo, shop, with_statistics), []
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


def test_serving_statistics_follow_the_layout() -> None:
    features = ServingFeatures(
        SHOP,
        tuple(NumericColumn(name, 0.0, 1.0, 0, ()) for name in SHOP.numeric),
        (pa.array([b"a"], pa.binary()), pa.array([b"b", b"c"], pa.binary())),
    )
    # Vocabulary ids 0 ... 4 of the first column (two values are rare), 0 ... 3 of the second.
    odds, count = np.arange(9, dtype=np.float32), np.arange(9, dtype=np.float32) + math.pi
    found = serving_statistics(features.layout(), odds, count, np.array([0, 5]))
    np.testing.assert_array_equal(found[:, 0], [0, 1, 2, 5, 6, 7, 8])
    np.testing.assert_array_equal(found[:, 1], count[[0, 1, 2, 5, 6, 7, 8]])
    assert found.dtype == np.float32

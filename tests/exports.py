"""Random students, exported and loaded again: what the tests of the serving module share."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import expit

from features.hashing import FOLDS, folds
from features.lines import Chunk
from features.numeric import NumericStatistics
from features.parsing import parse_chunk
from features.rows import ParsedRows
from features.schema import (
    CATEGORICAL,
    FLOAT,
    GROUP,
    INTEGER,
    LABEL,
    LINEAR,
    OUTCOME,
    QUANTILE,
    SQUARED_LOG,
    TIME,
    WEIGHT,
    Column,
    Schema,
)
from features.siphash import hash_buckets
from features.spec import ExamplesSpec
from features.statistics import NO_FOLD, ClickCounts
from features.vocabulary import Vocabulary
from models.backend import tf
from models.calibration import Calibration
from models.methods import METHODS
from models.serving import ServingModule
from models.serving_features import FEATURES_FILE, ServingFeatures, features_json, serving_statistics
from models.student import Student, StudentSettings, StudentTrunk, tie_untrained
from models.tables import FoldTables
from pipeline.config import narrow
from pipeline.generate import generate
from pipeline.settings import StudentConfig

VISITS = Schema(
    (
        Column("visitor", GROUP),
        Column("price", FLOAT, LINEAR),
        Column("clicked", LABEL),
        Column("count", INTEGER, SQUARED_LOG),
        Column("site", CATEGORICAL),
        Column("age", INTEGER, QUANTILE),
        Column("city", CATEGORICAL),
        Column("share", WEIGHT),
        Column("when", TIME),
        Column("score", FLOAT),
        Column("bought", OUTCOME),
    ),
    delimiter=",",
)
"""Every kind of column and every transform."""
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
        module: what was exported.
        model: what was loaded; kept, because its variables go with it.
        student: as training sees it.
        counts: of its training log.
    """

    path: Path
    features: ServingFeatures
    log: list[bytes]
    module: ServingModule
    model: Any
    student: Student
    counts: ClickCounts

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


def line_of(fields: dict[str, bytes], schema: Schema) -> bytes:
    return schema.delimiter.encode().join(fields[name] for name in schema.names)


def nothing(schema: Schema) -> bytes:
    """A good line in which all that may be missing is."""
    needed = {LABEL: b"0", OUTCOME: b"0", WEIGHT: b"1", TIME: b"0", GROUP: b"g"}
    return line_of({column.name: needed.get(column.kind, b"") for column in schema.columns}, schema)


def without_label(lines: Sequence[bytes], schema: Schema) -> list[bytes]:
    """Good labelled lines as those of a log without label, outcomes and weight."""
    names = [column.name for column in schema.without_label()]
    fields = [split(line, schema) for line in lines]
    return [schema.delimiter.encode().join(row[name] for name in names) for row in fields]


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


def visits_log() -> list[bytes]:
    """The shop's log with the other columns, and cities that are rare or occur once."""
    rng = np.random.default_rng(1)
    lines = []
    for i, line in enumerate(shop_log()):
        if i % 10 == 3:
            line = line.rsplit(b",", 1)[0] + f",r{rng.integers(150)}".encode()
        weight = str(rng.choice(["0", "0.25", "1", "2.5", ".5e1", "65536"], p=[0.1, 0.2, 0.3, 0.2, 0.19, 0.01]))
        when = str(rng.choice([f"{i}", f"-{i}", "2026-02-28", f"2026-01-01T00:{i % 60:02d}:00.5Z", "2026-01-01 23:59"]))
        score = "" if rng.random() < 0.1 else f"{rng.normal(0, 50):.3f}"
        lines.append(line + f",{weight},{when},{score},{i % 9 // 8}".encode())
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


def make_vocabulary(
    column: pa.DictionaryArray, fold: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, buckets: int
) -> Vocabulary:
    """The vocabulary of a column, row by row; with buckets, values that occur once are left to them."""
    values = column.to_pylist()
    totals = Counter(value for value in values if value)
    chosen = sorted((value for value in totals if totals[value] > (buckets > 0)), key=lambda v: (-totals[v], v))
    ids = {b"": 0, **{value: 2 + place for place, value in enumerate(chosen)}}
    others = [value for value in totals if value not in ids]
    hashed = hash_buckets(pa.array(others, pa.binary()), max(buckets, 1))
    ids |= {value: 2 + len(chosen) + bucket for value, bucket in zip(others, hashed.tolist(), strict=True)}
    cells = (np.array([ids[value] for value in values]), fold)

    def sums(addends: np.ndarray) -> np.ndarray:
        found = np.zeros((2 + len(chosen) + buckets, FOLDS), addends.dtype)
        np.add.at(found, cells, addends)
        return found

    clicked = labels.astype(np.int64)
    weighted: tuple[Any, ...] = (None, None)
    if weights is not None:
        weighted = sums(weights.astype(np.float64)), sums(weights.astype(np.float64) * clicked)
    return Vocabulary(
        pa.array(chosen, pa.binary()), sums(np.ones_like(clicked)), sums(clicked), *weighted, buckets=buckets
    )


def fit_features(
    log: list[bytes], schema: Schema, buckets: int = 0, negative_rate: float = 1.0
) -> tuple[ServingFeatures, ClickCounts]:
    """What ``preprocess`` finds in a log."""
    rows = parse(log, schema)
    assert rows.labels is not None
    fold, weighted = folds(rows.offsets, "log", 0), rows.weights is not None
    numbers = NumericStatistics(schema.transforms)
    for index, column in enumerate(rows.numeric):
        values = column.dictionary.to_numpy()
        numbers.update(index, values, np.bincount(column.indices.to_numpy(), minlength=len(values)))
    vocabularies = [make_vocabulary(column, fold, rows.labels, rows.weights, buckets) for column in rows.categorical]

    def by_fold(mass: np.ndarray) -> tuple[Any, ...]:
        return tuple(mass[fold == number].sum().item() for number in range(FOLDS))

    mass = rows.weights.astype(np.float64) if rows.weights is not None else np.ones(len(rows), np.int64)
    spec = ExamplesSpec(
        schema,
        numbers.columns(schema.numeric),
        tuple(vocabulary.ids for vocabulary in vocabularies),
        buckets,
        rows={"train": len(rows), "valid": 0, "test": 0},
        clicks={"train": int(rows.labels.sum()), "valid": 0, "test": 0},
        fold_rows=by_fold(np.ones(len(rows), np.int64)),
        fold_clicks=by_fold(rows.labels.astype(np.int64)),
        fold_weights=by_fold(mass),
        fold_click_weights=by_fold(mass * rows.labels),
        lines=len(rows),
        rejects=0,
        seed=0,
        negative_rate=negative_rate,
    )
    counts = ClickCounts.of(
        vocabularies, spec.fold_rows, spec.fold_click_weights, spec.fold_weights if weighted else None
    )
    kept = [vocabulary.kept(MIN_COUNT) for vocabulary in vocabularies]
    return ServingFeatures.of(spec, [vocabulary.values for vocabulary in vocabularies], kept), counts


def random_student(
    features: ServingFeatures, counts: ClickCounts, subclasses: int, statistics: bool, seed: int = 0, **settings: Any
) -> Student:
    """A student in which every row of the table and every input moves the logit."""
    values = {"embedding_dim": 3, "hidden": 16, "statistics": statistics, **settings}
    shape = dataclasses.replace(narrow(StudentConfig(), StudentSettings), **values)
    layout = features.layout()
    trunk = StudentTrunk(layout, 0.25, subclasses, shape)
    tables = FoldTables(layout, counts, SMOOTHING, kept_only=True)
    student = Student(trunk, tables, METHODS["hard"], shape)
    numeric, categorical = len(features.schema.numeric), len(features.schema.categorical)
    student({"ids": tf.zeros([1, categorical], tf.int32), "dense": tf.zeros([1, numeric]), "fold": tf.constant([10])})
    rng = np.random.default_rng(seed)
    for variable in trunk.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.1, variable.shape).astype(np.float32))
    return student


def export(
    folder: Path,
    schema: Schema,
    log: list[bytes],
    subclasses: int,
    statistics: bool,
    buckets: int = 0,
    negative_rate: float = 1.0,
) -> Export:
    features, counts = fit_features(log, schema, buckets, negative_rate)
    student = random_student(features, counts, subclasses, statistics)
    # As before every export: serving does not know in which folds a value lies.
    tie_untrained(student.trunk, features.layout(), counts, [column.missing for column in features.numeric])
    return saved(folder, features, log, student, counts)


def saved(
    folder: Path,
    features: ServingFeatures,
    log: list[bytes],
    student: Student,
    counts: ClickCounts,
    subclass_probabilities: bool = False,
) -> Export:
    """Exports a student with the files that belong to it."""
    table = None
    if student._settings.statistics:
        found = counts.statistics(SMOOTHING)
        table = serving_statistics(
            features.layout(), found.log_odds[:, NO_FOLD], found.log_count[:, NO_FOLD], counts.starts
        )
    path = folder / "model" / "1"
    module = ServingModule([student.trunk], features, CALIBRATION, table, subclass_probabilities)
    module.save(str(path))
    (path / FEATURES_FILE).parent.mkdir(exist_ok=True)
    (path / FEATURES_FILE).write_bytes(features_json(features))
    return Export(path, features, log, module, tf.saved_model.load(str(path)), student, counts)


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
        np.testing.assert_allclose(found["p_click"], expit(found["logit"].astype(np.float64)), rtol=1e-5, atol=1e-37)
        assert found["p_click"].dtype == found["logit"].dtype == np.float32
        assert found["p_click"].shape == found["logit"].shape == (len(lines),)
        assert ("reason" in found) == signature.startswith("tsv")
        if signature.startswith("tsv"):
            assert (found["reason"] == b"").all(), signature
    return expected

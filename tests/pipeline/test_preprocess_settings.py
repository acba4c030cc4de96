"""Settings and kinds of columns that change what is written: limits, buckets, weights, groups, layout, parts."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from example_runs import outputs_of, run_of, table_of
from support import files_of

from features.hashing import FOLDS
from features.schema import CATEGORICAL, FLOAT, GROUP, LABEL, WEIGHT, Column, Schema
from features.siphash import hash_buckets
from features.vocabulary import Vocabulary
from pipeline.analyze import read_vocabulary
from pipeline.workspace import EXAMPLES, Run

ROWS = 2400
NAMES = ("y", "worth", "user", "price", "site", "word")
KINDS = (LABEL, WEIGHT, GROUP, FLOAT, CATEGORICAL, CATEGORICAL)
SCHEMA = Schema(tuple(Column(name, kind) for name, kind in zip(NAMES, KINDS, strict=True)), ",")
WORDS = ("site", "word")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    words = rng.integers(4000, size=ROWS)
    return pd.DataFrame(
        {
            "y": (rng.random(ROWS) < 0.3).astype(int).astype(str),
            "worth": rng.choice(["0", "0.5", "1", "2.25", "3e1"], size=ROWS),
            "user": [f"user-{number}" for number in rng.integers(100, size=ROWS)],
            "price": np.round(rng.normal(size=ROWS), 3).astype(str),
            "site": [f"s{number}" if number % 5 else "" for number in rng.zipf(1.5, size=ROWS) % 900],
            # Most of them once, some of more than eight bytes.
            "word": [hashlib.sha256(bytes(4) + word.tobytes()).hexdigest()[: 3 + word % 9] for word in words],
        }
    )


def write(path: Path, rows: pd.DataFrame) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows.to_csv(path, header=False, index=False)
    return path


@pytest.fixture(scope="module")
def log(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("settings") / "log.csv", rows)


@pytest.fixture(scope="module")
def run(log: Path) -> Run:
    return run_of(log.parent / "run", log, SCHEMA)


def vocabularies(run: Run) -> list[Vocabulary]:
    return [read_vocabulary(run.file(EXAMPLES, "vocabulary"), name) for name in WORDS]


def ranked(values: pd.Series, min_count: int = 1, most: int = 10**6) -> list[bytes]:
    """The values in the order of a vocabulary, by Python."""
    counts = Counter(value.encode() for value in values if value)
    kept = [value for value in counts if counts[value] >= min_count]
    return sorted(kept, key=lambda value: (-counts[value], value))[:most]


class TestWeights:
    def test_are_stored_and_summed(self, run: Run, rows: pd.DataFrame) -> None:
        table, spec = table_of(run), run.spec()
        weight = rows["worth"].astype(float)
        assert table["weight"].tolist() == weight.tolist()
        train = table[table["split"] == "train"].assign(value=rows["word"])
        sums = train.groupby("fold")["weight"].sum()
        clicked = train[train["label"] == 1].groupby("fold")["weight"].sum()
        # Quarters are exact.
        assert list(spec.fold_weights) == sums.tolist() and list(spec.fold_click_weights) == clicked.tolist()
        assert spec.base_rate == pytest.approx(np.average(train["label"], weights=train["weight"]), rel=1e-12)
        assert list(spec.fold_rows) == train["fold"].value_counts().sort_index().tolist()
        (vocabulary,) = [read_vocabulary(run.file(EXAMPLES, "vocabulary"), "word")]
        assert vocabulary.weights is not None and vocabulary.click_weights is not None
        index = [value.decode() for value in vocabulary.values.to_pylist()]
        for stored, chosen in ((vocabulary.weights, train), (vocabulary.click_weights, train[train["label"] == 1])):
            cells = chosen.pivot_table("weight", "value", "fold", "sum").reindex(index=index, columns=range(FOLDS))
            np.testing.assert_array_equal(stored[2:], cells.fillna(0))

    def test_change_nothing_else(self, tmp_path: Path, run: Run, rows: pd.DataFrame) -> None:
        """Without the column: the same rows, values and counts, and what is weighted counts rows."""
        schema = Schema(tuple(column for column in SCHEMA.columns if column.kind != WEIGHT), ",")
        split = "/".join(str(number) for number in run.spec().rows.values())
        path = write(tmp_path / "log.csv", rows.drop(columns="worth"))
        other, kept = run_of(tmp_path / "run", path, schema, split=split), ["split", "label", "group", "price", *WORDS]
        pd.testing.assert_frame_equal(table_of(other)[kept], table_of(run)[kept])
        assert table_of(other)["weight"].isna().all()
        spec = other.spec()
        assert spec.fold_weights == spec.fold_rows and spec.fold_click_weights == spec.fold_clicks
        for plain, weighted in zip(vocabularies(other), vocabularies(run), strict=True):
            assert plain.values == weighted.values and plain.weights is plain.click_weights is None
            assert plain.counts.sum(axis=1).tolist() == weighted.counts.sum(axis=1).tolist()


def test_groups(run: Run, rows: pd.DataFrame) -> None:
    table = table_of(run)
    groups = table["group"].astype("int64").groupby(rows["user"])
    assert (groups.nunique() == 1).all() and table["group"].nunique() == rows["user"].nunique() == 100


class TestVocabulary:
    def test_limits(self, tmp_path: Path, log: Path, rows: pd.DataFrame) -> None:
        run = run_of(tmp_path, log, SCHEMA, min_count=2, max_vocabulary=40)
        train = rows[(table_of(run)["split"] == "train").to_numpy()]
        expected = [ranked(train[name], 2, 40) for name in WORDS]
        assert [vocabulary.values.to_pylist() for vocabulary in vocabularies(run)] == expected
        assert run.spec().vocabulary_ids == tuple(len(values) + 2 for values in expected)

    @pytest.mark.parametrize("limits", [{}, {"max_vocabulary": 30}, {"min_count": 3, "oov_buckets": 5}])
    def test_parts_give_the_same(
        self, tmp_path: Path, log: Path, limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many parts the values are merged in, and though the builder drops values in between."""
        whole = run_of(tmp_path / "whole", log, SCHEMA, **limits)
        for divisor in (3, 40):
            monkeypatch.setattr("pipeline.preprocess._MERGED_BYTES", log.stat().st_size // divisor)
            run = run_of(tmp_path / f"{divisor}", log, SCHEMA, **limits)
            assert files_of(run.file(EXAMPLES)) == files_of(whole.file(EXAMPLES))
        assert min(vocabulary.counts.any(axis=1).sum() for vocabulary in vocabularies(whole)) > 25

    @pytest.mark.parametrize("limits", [{}, {"min_count": 2}, {"max_vocabulary": 25}])
    def test_buckets(self, tmp_path: Path, log: Path, rows: pd.DataFrame, limits: dict[str, Any]) -> None:
        run = run_of(tmp_path, log, SCHEMA, oov_buckets=7, **limits)
        table, spec = table_of(run), run.spec()
        train = (table["split"] == "train").to_numpy()
        assert spec.buckets == 7
        for name, vocabulary, ids in zip(WORDS, vocabularies(run), spec.vocabulary_ids, strict=True):
            known = ranked(rows[name][train], limits.get("min_count", 1), limits.get("max_vocabulary", 10**6))
            assert vocabulary.values.to_pylist() == known and vocabulary.buckets == 7
            assert ids == vocabulary.ids == len(known) + 9
            place = {value: number for number, value in enumerate(known, 2)} | {b"": 0}
            values = [value.encode() for value in rows[name]]
            hashed = hash_buckets(pa.array(values, pa.binary()), 7) + 2 + len(known)
            assert table[name].tolist() == [
                place.get(value, other) for value, other in zip(values, hashed, strict=True)
            ]
            # Rows, clicks and weights of training rows in a bucket are those of the values that fell into it.
            for stored, weight in ((vocabulary.counts, np.ones(ROWS)), (vocabulary.weights, table["weight"])):
                assert stored is not None
                of_id = np.bincount(table[name][train], np.asarray(weight)[train], minlength=ids)
                np.testing.assert_array_equal(stored.sum(axis=1), of_id)
            clicks = np.bincount(table[name][train], table["label"][train], minlength=ids)
            np.testing.assert_array_equal(vocabulary.clicks.sum(axis=1), clicks)


def test_the_rate_of_rows_without_click_is_kept(tmp_path: Path, log: Path, run: Run) -> None:
    """It is for the stages that come after."""
    other = run_of(tmp_path, log, SCHEMA, negative_rate=0.25)
    assert (run.spec().negative_rate, other.spec().negative_rate) == (1.0, 0.25)
    names = {name for name, data in outputs_of(other).items() if data != outputs_of(run)[name]}
    assert names == {"examples/manifest.json", "examples/spec.json"}


def test_rows_as_single_examples(tmp_path: Path, log: Path, run: Run) -> None:
    other = run_of(tmp_path, log, SCHEMA, layout="rows")
    assert (run.spec().layout, other.spec().layout) == ("blocks", "rows")
    pd.testing.assert_frame_equal(table_of(other), table_of(run))
    assert files_of(other.file("examples/vocabulary")) == files_of(run.file("examples/vocabulary"))


def test_a_transform_of_each_kind(tmp_path: Path, log: Path, rows: pd.DataFrame) -> None:
    price = rows["price"].astype("float32").astype("float64")
    for transform, t in (("linear", price), ("log", np.sign(price) * np.log1p(price.abs()))):
        columns = [Column(c.name, c.kind, transform if c.kind == FLOAT else "") for c in SCHEMA.columns]
        table = table_of(run_of(tmp_path / transform, log, Schema(tuple(columns), ",")))
        train = t[table["split"] == "train"]
        np.testing.assert_allclose(table["price"], (t - train.mean()) / train.std(ddof=0), rtol=2e-6, atol=1e-6)

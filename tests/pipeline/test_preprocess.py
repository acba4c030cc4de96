"""``preprocess`` as a whole, on Beam's local runner: its values against pandas, and the same ones however it is run."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zstandard
from example_runs import run_of, shards_of, table_of
from support import files_of

from features.blocks import Block, read_blocks
from features.lines import LineReader
from features.schema import CRITEO
from features.spec import SPLITS
from pipeline.analyze import read_vocabulary
from pipeline.generate import generate
from pipeline.workspace import EXAMPLES, Run

ROWS = 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("preprocess")


@pytest.fixture(scope="module")
def log(folder: Path) -> Path:
    path = folder / "log.tsv"
    generate(ROWS, str(path), seed=1)
    return path


@pytest.fixture(scope="module")
def run(folder: Path, log: Path) -> Run:
    return run_of(folder / "run", log, min_count=2)


@pytest.fixture(scope="module")
def table(run: Run) -> pd.DataFrame:
    return table_of(run)


@pytest.fixture(scope="module")
def expected(log: Path) -> pd.DataFrame:
    """The same by pandas: raw fields, offsets and splits of all lines."""
    raw = pd.read_csv(log, sep="\t", header=None, names=list(CRITEO.names), dtype=str, keep_default_na=False)
    lengths = np.array([len(line) + 1 for line in log.read_bytes().split(b"\n")[:-1]])
    raw.insert(0, "offset", np.cumsum(lengths) - lengths)
    cuts = np.array([0.7, 0.85]) * lengths.sum()
    raw.insert(0, "split", np.array(SPLITS)[np.searchsorted(np.round(cuts), raw["offset"], side="right")])
    return raw


class TestValues:
    def test_every_line_is_a_row(self, run: Run, table: pd.DataFrame, expected: pd.DataFrame) -> None:
        assert table["offset"].tolist() == expected["offset"].tolist()
        assert table["label"].tolist() == expected["label"].astype(int).tolist()
        spec = run.spec()
        assert (spec.lines, spec.rejects, sum(spec.rows.values())) == (ROWS, 0, ROWS)
        assert spec.clicks == table.groupby("split")["label"].sum().to_dict()
        assert (spec.negative_rate, spec.layout, spec.buckets) == (1.0, "blocks", 0)
        train = table[table["split"] == "train"]
        assert spec.base_rate == pytest.approx(train["label"].mean(), rel=1e-12)

    def test_splits_are_in_time_order(self, run: Run, table: pd.DataFrame, expected: pd.DataFrame) -> None:
        assert table["split"].tolist() == expected["split"].tolist()
        offsets = table.groupby("split")["offset"]
        assert offsets.max()["train"] < offsets.min()["valid"] <= offsets.max()["valid"] < offsets.min()["test"]
        assert run.spec().rows == table["split"].value_counts().to_dict()

    def test_ids(self, table: pd.DataFrame, expected: pd.DataFrame) -> None:
        train = expected["split"] == "train"
        for name in CRITEO.categorical:
            counts = expected.loc[train & (expected[name] != ""), name].value_counts()
            counts = counts[counts >= 2].sort_index().sort_values(ascending=False, kind="stable")
            ids = expected[name].map({"": 0} | {value: index for index, value in enumerate(counts.index, 2)})
            assert table[name].tolist() == ids.fillna(1).tolist()

    def test_numerics(self, run: Run, table: pd.DataFrame, expected: pd.DataFrame) -> None:
        train = expected["split"] == "train"
        for name, column in zip(CRITEO.numeric, run.spec().numeric, strict=True):
            raw = pd.to_numeric(expected[name], errors="raise").astype("float32").astype("float64")
            t = np.sign(raw) * np.log1p(raw.abs())
            standardised = ((t - t[train].mean()) / t[train].std(ddof=0)).astype("float32")
            assert (column.name, column.missing) == (name, (expected[name] == "")[train].sum())
            assert table[name].isna().tolist() == (expected[name] == "").tolist()
            np.testing.assert_allclose(table[name], standardised, rtol=2e-6, atol=1e-6)

    def test_vocabularies_count_by_fold(self, run: Run, table: pd.DataFrame, expected: pd.DataFrame) -> None:
        rows = expected.assign(fold=table["fold"], click=expected["label"] == "1")[expected["split"] == "train"]
        spec = run.spec()
        assert list(spec.fold_rows) == list(spec.fold_weights) == rows["fold"].value_counts().sort_index().tolist()
        assert list(spec.fold_clicks) == list(spec.fold_click_weights) == rows.groupby("fold")["click"].sum().tolist()
        for name, ids in zip(CRITEO.categorical, spec.vocabulary_ids, strict=True):
            vocabulary = read_vocabulary(run.file(EXAMPLES, "vocabulary"), name)
            assert vocabulary.ids == ids and vocabulary.weights is None
            values = [b"", None, *vocabulary.values.to_pylist()]
            index = [value.decode() if value is not None else None for value in values]
            for stored, chosen in ((vocabulary.counts, rows), (vocabulary.clicks, rows[rows["click"]])):
                counted = pd.crosstab(chosen[name], chosen["fold"]).reindex(index=index, columns=range(10))
                np.testing.assert_array_equal(stored, counted.fillna(0))

    def test_manifest(self, run: Run, log: Path) -> None:
        manifest = run.manifest(EXAMPLES)
        shards, position = manifest["shards"], 0
        # The range in which two splits meet is a shard of both.
        assert [sum(shard["split"] == split for shard in shards) for split in SPLITS] == [17, 4, 4]
        for shard in shards:
            data = Path(run.file(EXAMPLES, shard["path"])).read_bytes()
            assert shard["bytes"] == len(data)
            assert shard["checksum"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        for entry in manifest["entries"]:
            of_entry = [shard for shard in shards if shard["start"] == entry["start"]]
            assert entry["source"] == str(log) and {shard["end"] for shard in of_entry} == {entry["end"]}
            assert entry["start"] == position and entry["rejected"] is None
            assert entry["lines"] == entry["rows"] == sum(shard["rows"] for shard in of_entry)
            position = entry["end"]
        assert position == log.stat().st_size
        listed = {shard["path"] for shard in shards} | {f"vocabulary/{name}.parquet" for name in CRITEO.categorical}
        assert set(files_of(run.path)) == {".lock"} | {
            f"examples/{name}" for name in listed | {"manifest.json", "spec.json"}
        }

    def test_rows_of_a_shard_are_shuffled(self, run: Run) -> None:
        shard = run.shards("train")[0]
        with open(run.file(EXAMPLES, shard["path"]), "rb") as file:
            offsets = Block.concatenate(list(read_blocks(file, "shard"))).offsets
        assert 0.3 < (np.diff(offsets) > 0).mean() < 0.7


class TestSameResult:
    def test_three_workers(self, folder: Path, log: Path, run: Run) -> None:
        other = run_of(folder / "workers", log, workers=3, min_count=2)
        assert files_of(other.file(EXAMPLES)) == files_of(run.file(EXAMPLES))

    def test_chunks(self, folder: Path, log: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipeline.reading.LineReader", partial(LineReader, chunk_bytes=2003))
        other = run_of(folder / "chunks", log, min_count=2)
        assert files_of(other.file(EXAMPLES)) == files_of(run.file(EXAMPLES))

    def test_other_shards(
        self, folder: Path, log: Path, run: Run, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.plan.MIN_TRAIN_SHARDS", 3)
        other = run_of(folder / "shards", log, min_count=2)
        assert len(other.manifest(EXAMPLES)["entries"]) == 5 < len(run.manifest(EXAMPLES)["entries"])
        pd.testing.assert_frame_equal(table_of(other).drop(columns="shard"), table.drop(columns="shard"))
        assert files_of(other.file(EXAMPLES, "vocabulary")) == files_of(run.file(EXAMPLES, "vocabulary"))
        assert other.spec() == run.spec()

    @pytest.mark.parametrize("ending", ["gz", "zst"])
    def test_compressed(
        self, folder: Path, log: Path, run: Run, table: pd.DataFrame, ending: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data, half = log.read_bytes(), log.stat().st_size // 2
        packs: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstandard.compress}
        compress = packs[ending]
        path = folder / f"log.tsv.{ending}"
        path.write_bytes(compress(data[:half]) + compress(data[half:]))
        monkeypatch.setattr("pipeline.reading.LineReader", partial(LineReader, chunk_bytes=10_007))
        other = run_of(folder / ending, path, min_count=2)
        # Folds follow the name of the file; ranges of a stream are cut every so many bytes.
        pd.testing.assert_frame_equal(
            table_of(other).drop(columns=["source", "fold", "shard"]), table.drop(columns=["source", "fold", "shard"])
        )
        assert other.manifest(EXAMPLES)["entries"][-1]["end"] == len(data)
        assert other.spec().vocabulary_ids == run.spec().vocabulary_ids
        assert other.spec().numeric == run.spec().numeric


def test_nothing_depends_on_later_rows(folder: Path, log: Path, run: Run, expected: pd.DataFrame) -> None:
    data = log.read_bytes()
    first = int(expected["offset"][expected["split"] != "train"].iloc[0])
    # Other labels, numbers and values in lines of the same lengths.
    later = data[first:].translate(bytes.maketrans(b"0123456789abcdef", b"1023456789fedcba"))
    path = folder / "later/log.tsv"
    path.parent.mkdir()
    path.write_bytes(data[:first] + later)
    other = run_of(folder / "later-run", path, min_count=2)
    assert other.spec().numeric == run.spec().numeric
    assert other.spec().clicks["test"] == run.spec().rows["test"] - run.spec().clicks["test"]
    before, after = shards_of(run), shards_of(other)
    changed = {name.split("/")[0] for name in before if before[name] != after[name]}
    assert set(before) == set(after) and changed == {"valid", "test"}


def test_the_data_side_does_not_import_tensorflow() -> None:
    code = """
import importlib, pkgutil, sys
import features, pipeline.cli, pipeline.preprocess, pipeline.precompute, pipeline.predict, pipeline.run
for module in pkgutil.iter_modules(features.__path__):
    importlib.import_module(f"features.{module.name}")
found = sorted(name for name in sys.modules if name.split(".")[0] in ("tensorflow", "tf_keras", "keras"))
sys.exit(f"imported: {found[:5]}" if found else 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

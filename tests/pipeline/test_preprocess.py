"""``preprocess`` as a whole, on Beam's local runner; nothing is replaced by a stand-in."""

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
from apache_beam.internal import cloudpickle_pickler, pickler

from features import lines
from features.blocks import Block, read_blocks
from features.errors import ConfigError, DataError
from features.schema import CATEGORICAL, CRITEO, FLOAT, INTEGER, KEY, LABEL, Column, Schema
from features.spec import SPLITS
from pipeline import plan, reading
from pipeline.analyze import AnalyzeTask, MergeColumn, read_vocabulary
from pipeline.beam import make_options
from pipeline.config import PreprocessConfig
from pipeline.generate import generate
from pipeline.precompute import ScoreShard, TeacherFiles
from pipeline.predict import PredictTask
from pipeline.preprocess import Layout, TransformTask, preprocess
from pipeline.workspace import EXAMPLES, Run

ROWS = 4000


def run_of(folder: Path, inputs: Any, schema: Schema = CRITEO, workers: int = 1, **settings: Any) -> Run:
    """A run made from files; ``force`` is no setting."""
    run, force = Run(str(folder)), settings.pop("force", False)
    inputs = [str(path) for path in (inputs if isinstance(inputs, list) else [inputs])]
    with run.lock():
        preprocess(run, inputs, schema, PreprocessConfig(**settings), make_options((), workers), force)
    return run


def files_of(run: Run, folder: str = "") -> dict[str, bytes]:
    """All files of a run, or of a folder in it, with their bytes."""
    root = Path(run.file(folder)) if folder else Path(run.path)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def shards_of(run: Run) -> dict[str, bytes]:
    """Shards and vocabularies: all outputs that do not name the inputs."""
    return {name: data for name, data in files_of(run, EXAMPLES).items() if name.endswith((".tfrecord", ".parquet"))}


def table_of(run: Run, what: str = "shard") -> pd.DataFrame:
    """The stored rows in the order of the log, a column a field, decoded from the shards of the manifest."""
    tables = []
    for index, shard in enumerate(run.manifest(EXAMPLES)["shards"]):
        with open(run.file(EXAMPLES, shard["path"]), "rb") as file:
            blocks = list(read_blocks(file, shard["path"]))
        assert sum(map(len, blocks)) == shard["rows"]
        if blocks:
            block = Block.concatenate(blocks)
            names = [*CRITEO.numeric, *CRITEO.categorical] if block.ids.shape[1] == 26 else None
            values = pd.DataFrame(np.concatenate([block.dense, block.ids.astype(np.float64)], axis=1), columns=names)
            values.insert(0, "label", block.labels)
            values.insert(0, "fold", block.folds)
            values.insert(0, "offset", block.offsets)
            values.insert(0, "split", shard["split"])
            values.insert(0, "source", os.path.basename(shard["source"]))
            values.insert(0, "shard", index)
            # Shards are in the order of the log, and so are the offsets once the order within a shard is undone.
            tables.append(values.sort_values("offset"))
    return pd.concat(tables, ignore_index=True)


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
    return run_of(folder / "run", log, min_count=2, shard_mb=128)


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

    def test_numerics(self, table: pd.DataFrame, expected: pd.DataFrame) -> None:
        for name in CRITEO.numeric:
            raw = pd.to_numeric(expected[name], errors="raise").astype("float32").astype("float64")
            t = np.sign(raw) * np.log1p(raw.abs())
            train = t[expected["split"] == "train"]
            standardised = ((t - train.mean()) / train.std(ddof=0)).astype("float32")
            assert table[name].isna().tolist() == (expected[name] == "").tolist()
            np.testing.assert_allclose(table[name], standardised, rtol=2e-6, atol=1e-6)

    def test_vocabularies_count_by_fold(self, run: Run, table: pd.DataFrame, expected: pd.DataFrame) -> None:
        rows = expected.assign(fold=table["fold"], click=expected["label"] == "1")[expected["split"] == "train"]
        spec = run.spec()
        assert list(spec.fold_rows) == rows["fold"].value_counts().sort_index().tolist()
        assert list(spec.fold_clicks) == rows.groupby("fold")["click"].sum().tolist()
        for name, ids in zip(CRITEO.categorical, spec.vocabulary_ids, strict=True):
            vocabulary = read_vocabulary(run.file(EXAMPLES, "vocabulary"), name)
            assert vocabulary.ids == ids
            values = [b"", None, *vocabulary.values.to_pylist()]
            index = [value.decode() if value is not None else None for value in values]
            for stored, chosen in ((vocabulary.counts, rows), (vocabulary.clicks, rows[rows["click"]])):
                counted = pd.crosstab(chosen[name], chosen["fold"]).reindex(index=index, columns=range(10))
                np.testing.assert_array_equal(stored, counted.fillna(0))

    def test_manifest(self, run: Run, log: Path) -> None:
        shards = run.manifest(EXAMPLES)["shards"]
        assert sum(shard["split"] == "train" for shard in shards) == 16
        position = 0
        for shard in shards:
            data = Path(run.file(EXAMPLES, shard["path"])).read_bytes()
            assert shard["bytes"] == len(data)
            assert shard["checksum"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
            assert (shard["source"], shard["start"]) == (str(log), position)
            position = shard["end"]
        assert position == log.stat().st_size
        listed = {shard["path"] for shard in shards} | {f"vocabulary/{name}.parquet" for name in CRITEO.categorical}
        assert set(files_of(run)) == {".lock"} | {f"examples/{n}" for n in listed | {"manifest.json", "spec.json"}}

    def test_rows_of_a_shard_are_shuffled(self, run: Run) -> None:
        shard = run.shards("train")[0]
        with open(run.file(EXAMPLES, shard["path"]), "rb") as file:
            offsets = Block.concatenate(list(read_blocks(file, "shard"))).offsets
        assert 0.3 < (np.diff(offsets) > 0).mean() < 0.7


class TestSameResult:
    def test_three_workers(self, folder: Path, log: Path, run: Run) -> None:
        other = run_of(folder / "workers", log, workers=3, min_count=2)
        assert files_of(other, EXAMPLES) == files_of(run, EXAMPLES)

    def test_other_shards_and_chunks(
        self, folder: Path, log: Path, run: Run, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plan, "MIN_TRAIN_SHARDS", 3)
        monkeypatch.setattr(reading, "read_chunks", partial(lines.read_chunks, chunk_bytes=10_007))
        other = run_of(folder / "shards", log, min_count=2)
        assert len(other.manifest(EXAMPLES)["shards"]) == 5
        pd.testing.assert_frame_equal(table_of(other).drop(columns="shard"), table.drop(columns="shard"))
        assert files_of(other, "examples/vocabulary") == files_of(run, "examples/vocabulary")
        assert other.spec() == run.spec()

    def test_gzip(self, folder: Path, log: Path, table: pd.DataFrame) -> None:
        path = folder / "log.tsv.gz"
        path.write_bytes(gzip.compress(log.read_bytes(), 1))
        other = table_of(run_of(folder / "gzip", path, min_count=2))
        # Folds follow the name of the file.
        pd.testing.assert_frame_equal(
            other.drop(columns=["source", "fold"]), table.drop(columns=["source", "fold"]), check_dtype=False
        )

    def test_several_files(
        self, folder: Path, log: Path, table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = log.read_bytes().splitlines(keepends=True)
        parts = folder / "parts"
        parts.mkdir()
        bounds = [0, 1500, 1501, ROWS]
        for index, (start, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            (parts / f"day-{index}.tsv").write_bytes(b"".join(data[start:end]))
        (parts / "day-1a.tsv").write_bytes(b"")
        (parts / "day-2a.tsv.gz").write_bytes(gzip.compress(b""))
        other = run_of(
            folder / "several", [parts / "day-[01]*", parts / "day-2*.tsv", parts / "day-2a.tsv.gz"], min_count=2
        )
        found = table_of(other)
        assert found["source"].tolist() == ["day-0.tsv"] * 1500 + ["day-1.tsv"] + ["day-2.tsv"] * (ROWS - 1501)
        chosen = ["split", "label", *CRITEO.numeric, *CRITEO.categorical]
        pd.testing.assert_frame_equal(found[chosen], table[chosen])
        warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert warnings == [f"warning: {parts / name} is empty" for name in ("day-1a.tsv", "day-2a.tsv.gz")]

    def test_no_last_newline_and_windows_line_ends(self, folder: Path, log: Path, table: pd.DataFrame) -> None:
        path = folder / "windows/log.tsv"
        path.parent.mkdir()
        path.write_bytes(log.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
        other = table_of(run_of(folder / "windows-run", path, split="2800/600/600"))
        assert len(other) == ROWS
        assert other["label"].tolist() == table["label"].tolist()


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


class TestSplit:
    def test_numbers_of_lines(self, folder: Path, log: Path) -> None:
        run = run_of(folder / "lines", log, split=f"3001/{ROWS - 3001}/0")
        assert run.spec().rows == {"train": 3001, "valid": ROWS - 3001, "test": 0}
        assert run.shards("test") == []
        assert (np.diff(table_of(run)["offset"]) > 0).all()

    @pytest.mark.parametrize("split", [f"3000/{ROWS - 3001}/0", f"3000/{ROWS - 3000}/1"])
    def test_other_numbers_than_there_are_lines(self, tmp_path: Path, log: Path, split: str) -> None:
        with pytest.raises(DataError, match=f"--split in lines must add up .* for {ROWS} lines"):
            run_of(tmp_path, log, split=split)
        assert list(files_of(Run(str(tmp_path)))) == [".lock"]


class TestSettings:
    def test_min_count_and_max_vocabulary(self, folder: Path, log: Path, expected: pd.DataFrame) -> None:
        run = run_of(folder / "limits", log, min_count=5, max_vocabulary=20)
        train = expected[expected["split"] == "train"]
        for name, ids in zip(CRITEO.categorical, run.spec().vocabulary_ids, strict=True):
            counts = train.loc[train[name] != "", name].value_counts()
            assert ids == 2 + min(20, int((counts >= 5).sum()))

    def test_another_schema(self, tmp_path: Path) -> None:
        schema = Schema(
            (
                Column("id", KEY),
                Column("x", FLOAT),
                Column("n", INTEGER),
                Column("word", CATEGORICAL),
                Column("y", LABEL),
            ),
            delimiter=",",
            header=True,
        )
        for day in range(2):
            rows = [f"{i},{i / 7},{i if i % 3 else ''},{'é' * (i % 12)},{i % 2}" for i in range(300)]
            (tmp_path / f"{day}.csv").write_text("\n".join(["id,x,n,word,y", *rows]))
        run = run_of(tmp_path / "run", tmp_path / "*.csv", schema)
        spec = run.spec()
        assert (spec.lines, spec.rejects, spec.vocabulary_ids, spec.numeric[1].name) == (600, 0, (13,), "n")
        assert Schema.from_json(json.loads(Path(run.file(EXAMPLES, "spec.json")).read_text())["schema"]) == schema


class TestUserErrors:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (["none-*.tsv"], r"--input must match at least one file\. Received: .*none-\*\.tsv \(no such file\)"),
            (["full.tsv", "none.tsv"], r"--input must match at least one file\. Received: .*none\.tsv"),
            (["folder"], r"--input must name files\. Received: .*folder \(a directory; try .*folder/\*\)"),
            (["empty.tsv", "empty.tsv.gz"], r"The input must hold rows\. Received: only empty files"),
            (["cut.tsv.gz"], r"A gzip file must be whole\. Received: .*cut\.tsv\.gz\)"),
            (["no-clicks.tsv"], r"The training rows must have clicks and rows without\. Received: 0 clicks in "),
            (["clicks.tsv"], r"The training rows must have clicks and rows without"),
            (["text.tsv"], r"At most 1% of the lines must be bad\. Received: 40 of 40 \(.*rejected says which"),
        ],
    )
    def test_one_line_that_says_what_to_do(self, tmp_path: Path, log: Path, inputs: list[str], message: str) -> None:
        data = log.read_bytes().splitlines(keepends=True)[:200]
        (tmp_path / "folder").mkdir()
        for name, content in {
            "full.tsv": b"".join(data),
            "empty.tsv": b"",
            "empty.tsv.gz": gzip.compress(b""),
            "cut.tsv.gz": gzip.compress(b"".join(data))[:5000],
            "no-clicks.tsv": b"".join(line for line in data if line.startswith(b"0")),
            "clicks.tsv": b"".join(line for line in data if line.startswith(b"1")),
            "text.tsv": b"This is no log.\n" * 40,
        }.items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            run_of(tmp_path / "run", [tmp_path / name for name in inputs])
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run/examples/manifest.json").exists()

    def test_a_header_that_is_missing(self, tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
        schema = Schema(CRITEO.columns, header=True)
        with pytest.raises(DataError, match=r"The header of the log must name .* File: .*log\.tsv\.$") as error:
            run_of(tmp_path / "run", log, schema)
        assert "\n" not in str(error.value)
        assert "Traceback" not in capsys.readouterr().err


LONG = 10_000_000
KINDS: list[tuple[str, int, Callable[[bytes], bytes]]] = [
    ("field_count", 142, lambda line: line.rsplit(b"\t", 1)[0]),
    ("field_count", 142, lambda line: line + b"\textra"),
    ("integer", 142, lambda line: line.split(b"\t", 1)[0] + b"\t12a\t" + line.split(b"\t", 2)[2]),
    ("label", 143, lambda line: b"2" + line[1:]),
    ("empty_line", 143, lambda line: b""),
    ("invalid_utf8", 143, lambda line: line[:-1] + b"\xff"),
    ("nul_byte", 143, lambda line: line[:-1] + b"\0"),
    ("too_long", 2, lambda line: line + b"x" * LONG),
]


Faults = tuple[Path, dict[int, tuple[str, bytes]], list[int]]
"""A log, its bad lines (reason and bytes by offset), and the offsets of the good ones."""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    folder = tmp_path_factory.mktemp("faults")
    path = folder / "log.tsv"
    generate(100_000, str(path), seed=2)
    data = path.read_bytes().split(b"\n")[:-1]
    kinds = [kind for kind in KINDS for _ in range(kind[1])]
    assert len(kinds) == 1000
    # The long lines stand early, because one behind 70 % of the bytes may leave no other line to validate on.
    chosen = [*(500 + np.random.default_rng(0).choice(len(data) - 500, 998, replace=False)).tolist(), 100, 200]
    reasons = {}
    for index, (reason, _, damage) in zip(chosen, kinds, strict=True):
        data[index], reasons[index] = damage(data[index]), reason
    offsets = np.cumsum([0, *(len(line) + 1 for line in data)]).tolist()
    path.write_bytes(b"\n".join(data) + b"\n")
    broken = {offsets[index]: (reason, data[index]) for index, reason in reasons.items()}
    return path, broken, [offset for offset in offsets[:-1] if offset not in broken]


@pytest.fixture(scope="module")
def faulty(folder: Path, faults: Faults) -> Run:
    return run_of(folder / "faulty", faults[0], workers=2, max_rejects="2%")


class TestFaults:
    """1,000 broken lines of eight kinds among 100,000."""

    @staticmethod
    def rejected(run: Run) -> dict[int, dict[str, Any]]:
        records = [json.loads(line) for data in files_of(run, "rejected").values() for line in data.splitlines()]
        found = {record["offset"]: record for record in records}
        assert len(found) == len(records)
        return found

    def test_exactly_these_are_rejected(self, faults: Faults, faulty: Run) -> None:
        path, broken, good = faults
        run, found = faulty, self.rejected(faulty)
        assert found.keys() == broken.keys()
        for offset, (reason, raw) in broken.items():
            record = found[offset]
            assert (record["source"], record["reason"]) == (str(path), reason)
            assert base64.b64decode(record["raw_base64"]) == raw
            assert "truncated_bytes" not in record
            assert record["detail"] and len(record["text"]) <= 200
        spec = run.spec()
        assert (spec.lines, spec.rejects, sum(spec.rows.values())) == (100_000, 1000, 99_000)
        assert sum(shard["rejects"] for shard in run.manifest(EXAMPLES)["shards"]) == 1000
        assert table_of(run)["offset"].tolist() == good

    def test_smaller_shards(self, tmp_path: Path, faults: Faults, faulty: Run) -> None:
        run = run_of(tmp_path, faults[0], max_rejects="2%", shard_mb=1)
        assert len(run.shards("train")) > len(faulty.shards("train")) == 16
        shards = run.manifest(EXAMPLES)["shards"]
        assert all(0 < shard["end"] - shard["start"] <= 1 << 20 for shard in shards)
        # The long lines cover some of them.
        assert not all(shard["rows"] for shard in shards)
        pd.testing.assert_frame_equal(table_of(run).drop(columns="shard"), table_of(faulty).drop(columns="shard"))
        assert files_of(run, "examples/vocabulary") == files_of(faulty, "examples/vocabulary")
        assert self.rejected(run) == self.rejected(faulty)

    def test_more_than_the_limit(self, tmp_path: Path, faults: Faults) -> None:
        path, broken, _ = faults
        message = r"At most 0\.5% of the lines must be bad\. Received: 1000 of 100000 \(.*/rejected says which and why"
        with pytest.raises(DataError, match=message):
            run_of(tmp_path, path, workers=2, max_rejects="0.5%")
        run = Run(str(tmp_path))
        assert self.rejected(run).keys() == broken.keys()
        assert not os.path.exists(run.file(EXAMPLES, "manifest.json"))
        # With a higher limit nothing has to be made again.
        times = {name: os.stat(run.file(EXAMPLES, name)).st_mtime_ns for name in shards_of(run) if "shard" in name}
        run_of(tmp_path, path, max_rejects="1%")
        assert run.spec().rejects == 1000
        assert times == {name: os.stat(run.file(EXAMPLES, name)).st_mtime_ns for name in times}


SCRIPT = """
import sys
from features.schema import CRITEO
from pipeline.beam import make_options
from pipeline.config import PreprocessConfig
from pipeline.preprocess import preprocess
from pipeline.workspace import Run
run = Run(sys.argv[1])
with run.lock():
    preprocess(run, [sys.argv[2]], CRITEO, PreprocessConfig(), make_options((), 2))
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("resume")
    path = folder / "log.tsv"
    generate(60_000, str(path), seed=3)
    data = path.read_bytes().splitlines(keepends=True)
    for index in range(0, len(data), 1000):
        data[index] = b"bad\n"
    path.write_bytes(b"".join(data))
    return path, run_of(folder / "run", path)


class TestResume:
    @pytest.mark.parametrize(
        ("pattern", "number"),
        [("examples/.work/*.arrow", 3), ("examples/.work/train-*.json", 2), ("examples/.work/*-*.json", 14)],
    )
    def test_killed_and_started_again(
        self, tmp_path: Path, undisturbed: tuple[Path, Run], pattern: str, number: int
    ) -> None:
        log, whole = undisturbed
        run = Run(str(tmp_path / "run"))
        with subprocess.Popen([sys.executable, "-c", SCRIPT, run.path, str(log)], stderr=subprocess.PIPE) as process:
            while len(list(Path(run.path).glob(pattern))) < number and process.poll() is None:
                time.sleep(0.001)
            process.kill()
        assert process.returncode == -9
        assert not os.path.exists(run.file(EXAMPLES, "manifest.json"))
        done = {path: path.stat().st_mtime_ns for path in Path(run.path).glob("examples/*/*.tfrecord")}
        records = {path.stem.replace("-", "/shard-", 1) for path in Path(run.path).glob("examples/.work/*-*.json")}
        assert len(records) < len(whole.manifest(EXAMPLES)["shards"])
        run_of(tmp_path / "run", log)
        assert files_of(run) == files_of(whole)
        # Finished shards were left as they were.
        for path, changed in done.items():
            name = str(path.relative_to(run.file(EXAMPLES)).with_suffix(""))
            assert (path.stat().st_mtime_ns == changed) == (name in records)

    def test_a_stage_without_its_work_is_made_again(self, tmp_path: Path, run: Run, log: Path) -> None:
        """A kill between the end of the job and the manifest."""
        again = Run(str(shutil.copytree(run.path, tmp_path / "run")))
        manifest = Path(again.file(EXAMPLES, "manifest.json"))
        contents = json.loads(manifest.read_text())
        manifest.unlink()
        started = {name: contents[name] for name in ("key", "inputs", "schema")}
        Path(again.file(EXAMPLES, ".started.json")).write_text(json.dumps(started))
        run_of(tmp_path / "run", log, min_count=2)
        assert files_of(again) == files_of(run)


@pytest.fixture(scope="module")
def finished(folder: Path, log: Path) -> tuple[Run, Path]:
    """A finished run with a log of its own, some lines of which are bad."""
    path = folder / "finished/log.tsv"
    path.parent.mkdir()
    path.write_bytes(b"".join([*log.read_bytes().splitlines(keepends=True)[:1500], b"bad\n" * 3]))
    return run_of(folder / "finished/run", path), path


class TestAgain:
    @pytest.fixture
    def mine(self, tmp_path: Path, finished: tuple[Run, Path]) -> Iterator[tuple[Run, Path]]:
        """A copy of the finished run; the log is the same, and put back as it was."""
        run, path = finished
        data, changed = path.read_bytes(), path.stat().st_mtime_ns
        yield Run(str(shutil.copytree(run.path, tmp_path / "run"))), path
        path.write_bytes(data)
        os.utime(path, ns=(changed, changed))

    def call(self, run: Run, path: Path, schema: Schema = CRITEO, force: bool = False, **settings: Any) -> bool:
        config = PreprocessConfig(**settings)
        with run.lock():
            return preprocess(run, [str(path)], schema, config, make_options((), 1), force)

    def test_a_finished_stage_is_skipped(self, mine: tuple[Run, Path], capsys: pytest.CaptureFixture[str]) -> None:
        run, path = mine
        before = {name: os.stat(run.file(name)).st_mtime_ns for name in files_of(run) if name != ".lock"}
        capsys.readouterr()
        assert not self.call(run, path)
        assert not self.call(run, path, max_rejects="50%")
        assert before == {name: os.stat(run.file(name)).st_mtime_ns for name in files_of(run) if name != ".lock"}
        assert capsys.readouterr() == ("", "")

    def test_changed_settings_make_it_anew(self, mine: tuple[Run, Path]) -> None:
        run, path = mine
        first, identity = files_of(run), run.identity(EXAMPLES)
        assert self.call(run, path, min_count=3)
        assert run.identity(EXAMPLES) != identity
        assert files_of(run, "examples/vocabulary") != {
            name.removeprefix("examples/vocabulary/"): data for name, data in first.items() if "vocabulary" in name
        }
        assert self.call(run, path, seed=4)
        assert [name for name in first if files_of(run)[name] == first[name]] == [".lock", "rejected/test-00003.jsonl"]
        assert self.call(run, path)
        assert files_of(run) == first

    def test_rejects_of_other_settings_do_not_stay(self, mine: tuple[Run, Path]) -> None:
        run, path = mine
        assert list(files_of(run, "rejected")) == ["test-00003.jsonl"]
        assert self.call(run, path, split="60/20/20")
        assert list(files_of(run, "rejected")) == ["test-00005.jsonl"]

    @pytest.mark.parametrize("change", ["appended", "touched", "schema"])
    def test_other_inputs_need_force(self, mine: tuple[Run, Path], change: str) -> None:
        run, path = mine
        schema, before = CRITEO, files_of(run)
        if change == "appended":
            with path.open("ab") as file:
                file.write(path.read_bytes().splitlines(keepends=True)[0])
        elif change == "touched":
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 5_000_000))
        else:
            names = ["clicked", *CRITEO.names[1:]]
            schema = Schema(tuple(Column(n, c.kind) for n, c in zip(names, CRITEO.columns, strict=True)))
        what = "schema" if change == "schema" else "inputs"
        which = "" if change == "schema" else f" ({path} has changed)"
        with pytest.raises(ConfigError) as error:
            self.call(run, path, schema)
        assert str(error.value) == (
            f"A run must keep its {what}. Received: other {what} than {run.path} was made with{which}; use another "
            "--run, or --force to make this one anew."
        )
        assert files_of(run) == before
        assert self.call(run, path, schema, force=True)
        assert run.spec().lines == 1503 + (change == "appended")
        assert not self.call(run, path, schema)

    def test_a_new_file_is_named(self, tmp_path: Path, mine: tuple[Run, Path]) -> None:
        """Also beside one that is the same as before."""
        (run, path), config, new = mine, PreprocessConfig(), tmp_path / "new.tsv"
        shutil.copyfile(path, new)
        for inputs in ([str(path), str(new)], [str(new)]):
            with pytest.raises(
                ConfigError, match=rf"was made with \({re.escape(str(new))} is new\); use another --run"
            ):
                preprocess(run, inputs, CRITEO, config, make_options((), 1))

    def test_the_same_file_from_another_folder(self, mine: tuple[Run, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        run, path = mine
        assert [item["path"] for item in run.manifest(EXAMPLES)["inputs"]] == [str(path)]
        for folder in (path.parent, path.parent.parent):
            monkeypatch.chdir(folder)
            assert not self.call(run, path.relative_to(folder))
        assert self.call(run, path.relative_to(folder), seed=1)
        manifest = run.manifest(EXAMPLES)
        assert [item["path"] for item in manifest["inputs"]] == [str(path)]
        assert {shard["source"] for shard in manifest["shards"]} == {str(path)}

    def test_an_unfinished_run_keeps_its_inputs_too(self, tmp_path: Path, mine: tuple[Run, Path]) -> None:
        run, path = mine
        with pytest.raises(DataError, match=r"At most 0% of the lines must be bad"):
            self.call(run, path, max_rejects="0%", seed=1)
        os.utime(path, ns=(0, 0))
        with pytest.raises(ConfigError, match="A run must keep its inputs"):
            self.call(run, path, seed=1)


@pytest.mark.parametrize("library", [pickler, cloudpickle_pickler])
@pytest.mark.parametrize(
    "function",
    [
        AnalyzeTask(schema=CRITEO, seed=1, work="work"),
        MergeColumn(folder="vocabulary", columns=CRITEO.categorical, min_count=1, max_size=2, parts=1),
        TransformTask(schema=CRITEO, seed=1, layout=Layout("examples", "rejected")),
        PredictTask(model="model", output="output"),
        ScoreShard(teacher=TeacherFiles(("model",), 0, "key"), examples="examples", targets="targets"),
    ],
)
def test_every_function_of_a_worker_travels(function: beam.DoFn, library: Any) -> None:
    again = library.loads(library.dumps(function))
    assert type(again) is type(function)
    settings = {name: value for name, value in vars(function).items() if name != "_shared"}
    assert {name: vars(again)[name] for name in settings} == settings


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

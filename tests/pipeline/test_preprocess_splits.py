"""Every way to divide the rows, end to end: each row's split against its fields, and what only training rows decide."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from example_runs import is_finished, run_of, table_of

from features.errors import DataError
from features.hashing import FOLDS
from features.schema import CATEGORICAL, FLOAT, GROUP, KEY, LABEL, TIME, Column, Schema
from features.spec import SPLITS
from pipeline.analyze import read_vocabulary
from pipeline.workspace import EXAMPLES, Run

ROWS = 2000
NAMES = ("user", "ts", "y", "price", "site", "place")
KINDS = (GROUP, TIME, LABEL, FLOAT, CATEGORICAL, KEY)
SCHEMA = Schema(tuple(Column(name, kind) for name, kind in zip(NAMES, KINDS, strict=True)), ",")
START = 1_700_000_000


@dataclass(frozen=True)
class Log:
    """A log in three files, its rows, and the number of each row's file."""

    files: list[Path]
    rows: pd.DataFrame

    def check(self, run: Run, splits: pd.Series) -> None:
        """Makes sure that rows are in their splits, and that vocabularies and statistics come from training rows."""
        found = table_of(run)
        assert found["split"].tolist() == splits.tolist()
        assert found["label"].tolist() == self.rows["y"].tolist()
        spec, train = run.spec(), self.rows[(splits == "train").to_numpy()]
        assert spec.rows == {split: int((splits == split).sum()) for split in SPLITS}
        counts = Counter(site.encode() for site in train["site"] if site)
        vocabulary = read_vocabulary(run.file(EXAMPLES, "vocabulary"), "site")
        assert vocabulary.values.to_pylist() == sorted(counts, key=lambda value: (-counts[value], value))
        assert vocabulary.counts[2:].sum(axis=1).tolist() == sorted(counts.values(), reverse=True)
        folds = found["fold"][splits == "train"].value_counts().reindex(range(FOLDS), fill_value=0)
        assert list(spec.fold_rows) == folds.tolist()
        t = np.log1p(train["price"].astype("float32").astype("float64"))
        assert spec.numeric[0].mean == pytest.approx(t.mean(), rel=1e-8)
        of_split = [shard["path"].split("/")[0] for shard in run.manifest(EXAMPLES)["shards"]]
        assert of_split == [shard["split"] for shard in run.manifest(EXAMPLES)["shards"]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    rng = np.random.default_rng(4)
    rows = pd.DataFrame(
        {
            "user": [f"user-{number}" for number in rng.integers(300, size=ROWS)],
            # Not in the order of time.
            "ts": START + rng.integers(1000, size=ROWS),
            "y": (rng.random(ROWS) < 0.3).astype(int),
            "price": np.round(rng.lognormal(size=ROWS), 3),
            "site": [f"s{number}" if number % 7 else "" for number in rng.zipf(1.4, size=ROWS) % 500],
            "place": [f"p{number}" for number in range(ROWS)],
        }
    )
    folder, files = tmp_path_factory.mktemp("splits"), []
    lines = [",".join(map(str, row)) + "\n" for row in rows.itertuples(index=False)]
    for number, (start, end) in enumerate([(0, 900), (900, 1300), (1300, ROWS)]):
        files.append(folder / f"{number}.csv")
        files[-1].write_text("".join(lines[start:end]))
    return Log(files, rows)


@pytest.mark.parametrize("split", ["time:1700000600/1700000800", "time:1700000600/1700002000"])
def test_by_time(tmp_path: Path, log: Log, split: str) -> None:
    valid, test = map(int, split.removeprefix("time:").split("/"))
    run = run_of(tmp_path, log.files, SCHEMA, split=split)
    splits = log.rows["ts"].map(lambda ts: "train" if ts < valid else "valid" if ts < test else "test")
    log.check(run, splits)
    assert set(splits) == ({"train", "valid", "test"} if test < 1_700_001_000 else {"train", "valid"})


def test_by_time_as_text(tmp_path: Path) -> None:
    days = [
        f"2024-{month:02d}-{day:02d}{hour}" for month in (1, 2, 3) for day in range(1, 29) for hour in ("", "T09:30")
    ]
    lines = [f"u,{day},{number % 2},{number},s{number % 5},k\n" for number, day in enumerate(days * 3)]
    (tmp_path / "log.csv").write_text("".join(lines))
    table = table_of(run_of(tmp_path / "run", tmp_path / "log.csv", SCHEMA, split="time:2024-02-10/2024-03-01"))
    expected = ["train" if day < "2024-02-10" else "valid" if day < "2024-03-01" else "test" for day in days * 3]
    assert table["split"].tolist() == expected


@pytest.mark.parametrize("split", ["time:2024-01-01/2024-02-01", f"time:{START - 9}/{START + 500}"])
def test_times_that_the_log_has_not(tmp_path: Path, log: Log, split: str) -> None:
    """Another form, or none before validation."""
    message = r"^(--split time: must be in the form of the log's times|The training rows must have clicks and rows w)"
    with pytest.raises(DataError, match=message):
        run_of(tmp_path, log.files, SCHEMA, split=split)
    assert not is_finished(Run(str(tmp_path)))


@pytest.mark.parametrize("column", ["user", "site", "place"])
def test_by_hash(tmp_path: Path, log: Log, column: str) -> None:
    """All rows with a value are in one split, the same one wherever they stand; the shares are about right."""
    run = run_of(tmp_path / "run", log.files, SCHEMA, split=f"hash:{column}:60/20/20")
    splits = table_of(run)["split"]
    log.check(run, splits)
    by_value = dict(zip(log.rows[column], splits, strict=True))
    assert splits.tolist() == [by_value[value] for value in log.rows[column]]
    shares = pd.Series(by_value).value_counts(normalize=True)
    few = 5 / np.sqrt(len(by_value))
    assert [shares[split] for split in SPLITS] == pytest.approx([0.6, 0.2, 0.2], abs=few)
    lines = [line for path in log.files for line in path.read_text().splitlines(keepends=True)]
    (tmp_path / "turned.csv").write_text("".join(reversed(lines)))
    other = table_of(run_of(tmp_path / "other", tmp_path / "turned.csv", SCHEMA, split=f"hash:{column}:60/20/20"))
    assert other["split"].tolist() == splits.tolist()[::-1]


@pytest.mark.parametrize("split", ["files:1/1/1", "files:2/1/0"])
def test_by_file(tmp_path: Path, log: Log, split: str) -> None:
    run = run_of(tmp_path, log.files, SCHEMA, split=split)
    of_file = ["train", "valid", "test"] if split == "files:1/1/1" else ["train", "train", "valid"]
    log.check(run, pd.Series(np.repeat(of_file, [900, 400, 700])))


@pytest.mark.parametrize("split", ["files:1/1/0", "files:2/2/2"])
def test_another_number_of_files(tmp_path: Path, log: Log, split: str) -> None:
    message = rf"^--split files: must add up to the files of the input\. Received: {split[6:]} for 3 files\.$"
    with pytest.raises(DataError, match=message):
        run_of(tmp_path, log.files, SCHEMA, split=split)


def test_training_files_that_are_empty(tmp_path: Path, log: Log) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "full.csv").write_text("".join(log.files[0].read_text().splitlines(keepends=True)[:10]))
    with pytest.raises(DataError, match=r"^The training rows must have .* Received: 0 clicks in 0 training rows\.$"):
        run_of(tmp_path / "run", [tmp_path / "empty.csv", tmp_path / "full.csv"], SCHEMA, split="files:1/1/0")
    assert not is_finished(Run(str(tmp_path / "run")))


@pytest.mark.parametrize("split", ["1201/500/299", "899/1101/0"])
def test_by_number_of_lines(tmp_path: Path, log: Log, split: str) -> None:
    parts = [int(part) for part in split.split("/")]
    run = run_of(tmp_path, log.files, SCHEMA, split=split)
    log.check(run, pd.Series(np.repeat(SPLITS, parts)))
    assert bool(run.shards("test")) == (parts[2] > 0)


@pytest.mark.parametrize(
    "split",
    ["70/15/15", "1201/500/299", "899/1101/0", "files:1/1/1", "hash:user:60/20/20", "time:1700000600/1700000800"],
)
def test_without_validation(tmp_path: Path, log: Log, split: str) -> None:
    """Validation rows become training rows; test rows, folds and shards' ranges are as they were."""
    before = run_of(tmp_path / "before", log.files, SCHEMA, split=split)
    after = run_of(tmp_path / "after", log.files, SCHEMA, split=f"without-validation:{split}")
    old, new = table_of(before), table_of(after)
    assert set(old["split"]) >= {"train", "valid"}
    log.check(after, old["split"].replace("valid", "train"))
    assert new[["source", "offset", "fold"]].equals(old[["source", "offset", "fold"]])
    assert after.spec().rows["valid"] == 0 and not sum(shard["rows"] for shard in after.shards("valid"))
    assert after.manifest(EXAMPLES)["entries"] == before.manifest(EXAMPLES)["entries"]


def test_rejects_count_as_lines(tmp_path: Path, log: Log) -> None:
    lines = log.files[0].read_text().splitlines(keepends=True)
    for place in (0, 300, 500, 899):
        lines[place] = "bad\n"
    (tmp_path / "log.csv").write_text("".join(lines))
    run = run_of(tmp_path / "run", tmp_path / "log.csv", SCHEMA, split="500/300/100")
    assert run.spec().rows == {"train": 498, "valid": 299, "test": 99}


@pytest.mark.parametrize("split", ["1200/500/299", "1201/500/300"])
def test_other_numbers_than_there_are_lines(tmp_path: Path, log: Log, split: str) -> None:
    with pytest.raises(DataError, match=rf"^--split in lines must add up .* Received: {split}, .* for {ROWS} lines\.$"):
        run_of(tmp_path, log.files, SCHEMA, split=split)
    assert not is_finished(Run(str(tmp_path)))

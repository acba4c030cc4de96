"""Subsets of a run against ``preprocess`` on a log that has only their lines."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_runs import outputs_of, run_of, shards_of, table_of
from small_run import ROWS, SCHEMA, add_targets, change_json, make_run, read_shard, rewrite_targets, write_log

from features.errors import ArtifactError, ConfigError, DataError
from features.targets import TargetBlock
from features.tfrecord import read_records
from models.methods import METHODS
from pipeline import storage
from pipeline.analyze import read_values
from pipeline.beam import make_options
from pipeline.chosen_rows import is_chosen
from pipeline.fitting import Circumstances
from pipeline.inspect_run import inspect
from pipeline.keys import require_current
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig, StudentConfig
from pipeline.student_data import StudentData
from pipeline.student_part import train_student
from pipeline.subset import has_targets, subset, subset_targets
from pipeline.verify import verify
from pipeline.workspace import EXAMPLES, TARGETS, Run, derived_stage

SHARE = 0.3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with targets that say which row they are of."""
    folder = tmp_path_factory.mktemp("whole")
    run = make_run(folder, write_log(folder / "log.csv"))
    add_targets(run)
    for shard in run.manifest(EXAMPLES)["shards"]:
        rewrite_targets(run, shard["path"], marked)
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest.update(embedding=1, label=""))
    return run


def marked(block: TargetBlock) -> TargetBlock:
    logits = np.stack([block.offsets, block.offsets % 7, block.offsets % 5, block.offsets % 3], axis=1)
    embedding = (block.offsets[:, np.newaxis] % 2048).astype(np.float16)
    return replace(block, logits=logits.astype(np.float32) / 1e5, embedding=embedding)


@pytest.fixture(scope="module")
def part(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A subset of it with its targets; not to be written to."""
    chosen = subset(whole, str(tmp_path_factory.mktemp("part") / "run"), SHARE)
    subset_targets(whole, chosen)
    return chosen


def cross_out(log: Path, offsets: set[int]) -> bytes:
    """The log with some lines made rejects of the same length, so that all others stay where they are."""
    lines, position = [], 0
    for line in log.read_bytes().splitlines(keepends=True):
        fields = line.rstrip(b"\r\n")
        lines.append(b"x" * len(fields) + line[len(fields) :] if position in offsets else line)
        position += len(line)
    return b"".join(lines)


CASES: list[dict[str, Any]] = [
    {"min_count": 3, "oov_buckets": 5, "split": "hash:user:70/15/15"},
    {"min_count": 2, "layout": "rows", "seed": 4},
]


@pytest.mark.parametrize("settings", CASES)
def test_it_is_what_preprocess_makes_of_its_lines(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "long").mkdir()
    (tmp_path / "short").mkdir()
    log = write_log(tmp_path / "long" / "log.csv")
    before = run_of(tmp_path / "before", log, SCHEMA, max_rejects="100%", **settings)
    found = subset(before, str(tmp_path / "found"), SHARE, seed=2)

    rows = table_of(before)
    left_out = rows[(rows["split"] == "train") & ~is_chosen(rows["offset"].to_numpy(), "log.csv", SHARE, 2)]
    assert len(left_out) > 0.6 * before.spec().rows["train"]
    short = tmp_path / "short" / "log.csv"
    short.write_bytes(cross_out(log, set(left_out["offset"])))
    expected = run_of(tmp_path / "expected", short, SCHEMA, max_rejects="100%", **settings)

    mine, theirs = table_of(found), table_of(expected)
    other = [name for name in theirs if name not in SCHEMA.numeric]
    assert mine[other].equals(theirs[other])
    for before_it, after in zip(found.spec().numeric, expected.spec().numeric, strict=True):
        raw = mine[before_it.name] * before_it.std + before_it.mean
        np.testing.assert_allclose(raw, theirs[after.name] * after.std + after.mean, rtol=1e-5, atol=1e-5)
    assert orders(found) == orders(expected)
    assert vocabularies(found) == vocabularies(expected)
    assert sum(map(len, vocabularies(found).values())) < sum(map(len, vocabularies(before).values()))
    assert spec_of(found) == spec_of(expected)
    assert found.spec().lines == len(mine) and found.spec().rejects == 0


def test_a_full_vocabulary(tmp_path: Path) -> None:
    before = run_of(
        tmp_path / "before", write_log(tmp_path / "log.csv"), SCHEMA, max_rejects="5%", max_vocabulary=8, oov_buckets=3
    )
    found = subset(before, str(tmp_path / "found"), SHARE)
    # Counted again from its rows: those of values that were outside before are those of their buckets.
    assert verify(found).wrong == []
    for name in SCHEMA.categorical:
        values = [set(read_values(run.file(EXAMPLES, "vocabulary"), name).to_pylist()) for run in (found, before)]
        assert values[0] <= values[1] and len(values[1]) == 8
        ids = table_of(found)[name].to_numpy()
        assert (ids >= 2 + len(values[0])).any() and ids.max() < 2 + len(values[0]) + 3


def orders(run: Run) -> dict[str, list[list[int]]]:
    """The rows of each block of each shard, in their order."""
    shards = run.manifest(EXAMPLES)["shards"]
    return {shard["path"]: [block.offsets.tolist() for block in read_shard(run, shard["path"])] for shard in shards}


def vocabularies(run: Run) -> dict[str, bytes]:
    return {name: data for name, data in shards_of(run).items() if name.endswith("parquet")}


def spec_of(run: Run) -> dict[str, Any]:
    """All of the spec that follows from the chosen rows alone."""
    spec = run.spec().to_json()
    numeric = [{"name": column["name"], "missing": column["missing"]} for column in spec["numeric"]]
    return {name: value for name, value in spec.items() if name not in ("lines", "rejects")} | {"numeric": numeric}


def test_which_rows_are_kept(whole: Run, part: Run) -> None:
    before, after = table_of(whole), table_of(part)
    kept = is_chosen(before["offset"].to_numpy(), "log.csv", SHARE, 0) | (before["split"] != "train")
    assert after["offset"].tolist() == before["offset"][kept].tolist()
    rows = part.spec().rows
    assert rows["valid"] == whole.spec().rows["valid"] and rows["test"] == whole.spec().rows["test"]
    assert 0.2 * whole.spec().rows["train"] < rows["train"] < 0.4 * whole.spec().rows["train"]


def test_a_smaller_one_is_in_a_larger_one(whole: Run, part: Run, tmp_path: Path) -> None:
    small = subset(whole, str(tmp_path / "small"), 0.1)
    assert set(table_of(small)["offset"]) < set(table_of(part)["offset"])
    # The smaller one of the larger one is that of the whole.
    again = subset(part, str(tmp_path / "again"), 0.1)
    assert shards_of(again) == shards_of(small)
    assert again.spec() == small.spec()


def test_all_rows_are_the_run_itself(whole: Run, tmp_path: Path) -> None:
    same = subset(whole, str(tmp_path / "same"), 1.0)
    assert shards_of(same) == shards_of(whole)
    assert same.spec() == replace(whole.spec(), lines=ROWS, rejects=0)
    subset_targets(whole, same)
    for name, data in outputs_of(whole).items():
        if name.startswith(TARGETS) and name.endswith("record"):
            assert (Path(same.path) / name).read_bytes() == data, name


def test_verify_finds_nothing_but_that_there_is_no_log(part: Run) -> None:
    findings = verify(part)
    assert findings.wrong == []
    assert "sources gone: 1, lines not re-counted" in dict(findings.proved)["lines"]
    assert dict(findings.proved)["targets"] == f"{sum(part.spec().rows.values())} rows of teacher teacher-1"


def test_inspect(part: Run) -> None:
    tables = inspect(part)
    assert tables["splits"]["rows"].tolist() == list(part.spec().rows.values())
    assert "rejects" not in tables


def test_the_same_again(whole: Run, part: Run, tmp_path: Path) -> None:
    other = subset(whole, str(tmp_path / "run"), SHARE)
    subset_targets(whole, other)
    assert outputs_of(other) == outputs_of(part)
    before = times(other)
    subset(whole, other.path, SHARE)
    subset_targets(whole, other)
    assert times(other) == before
    subset(whole, other.path, SHARE, seed=1)
    assert outputs_of(other) != outputs_of(part)


def times(run: Run) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(run.path).rglob("*")}


class Killed(BaseException):
    """What no code catches."""


def kill_at(monkeypatch: pytest.MonkeyPatch, place: str, call: int) -> None:
    """Lets a function that is called for the given time end the process."""
    module, name = place.rsplit(".", 1)
    function, calls = getattr(__import__(module, fromlist=[name]), name), 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return function(*arguments, **named)

    monkeypatch.setattr(place, counted)


MOMENTS = [
    ("pipeline.subset.read_examples", 3),
    ("pipeline.subset.write_vocabulary", 2),
    ("pipeline.subset.write_examples", 5),
    ("pipeline.subset.write_record", 4),
]
AFTER_SHARDS = ("pipeline.subset.write_examples", "pipeline.subset.write_record")


@pytest.mark.parametrize(("place", "call"), MOMENTS)
def test_killed_and_called_again(
    whole: Run, part: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, call: int
) -> None:
    chosen = Run(str(tmp_path / "run"))

    def make() -> None:
        with chosen.lock():
            subset(whole, chosen.path, SHARE)
            subset_targets(whole, chosen)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, place, call)
        make()
    assert not all((Path(chosen.file(stage)) / "manifest.json").exists() for stage in (EXAMPLES, TARGETS))
    shards = {path: path.stat().st_ino for path in Path(chosen.path).rglob("*.tfrecord")}
    assert bool(shards) == place.startswith(
        "pipeline.subset.write_e" if "examples" in place else "pipeline.subset.write_r"
    )
    make()
    assert outputs_of(chosen) == outputs_of(part)
    # What was whole has not been made again.
    assert all(path.stat().st_ino == number for path, number in shards.items())


def target_rows(run: Run, stage: str = TARGETS) -> dict[str, list[TargetBlock]]:
    found = {}
    for shard in run.manifest(stage)["shards"]:
        with open(run.file(stage, shard["path"]), "rb") as file:
            found[shard["path"]] = [TargetBlock.decode(record) for record in read_records(file, shard["path"])]
        assert sum(map(len, found[shard["path"]])) == shard["rows"]
    return found


def test_targets_are_those_of_the_chosen_rows(whole: Run, part: Run) -> None:
    for path, blocks in target_rows(part).items():
        examples = read_shard(part, path)
        assert [block.offsets.tolist() for block in blocks] == [block.offsets.tolist() for block in examples]
        for block in blocks:
            expected = marked(block)
            np.testing.assert_array_equal(block.logits, expected.logits)
            np.testing.assert_array_equal(block.embedding, expected.embedding)
    changed = ("key", "sources", "shards")
    before, after = whole.manifest(TARGETS), part.manifest(TARGETS)
    assert {name: before[name] for name in before if name not in changed} == {
        name: after[name] for name in after if name not in changed
    }
    require_current(part, TARGETS)


def test_shards_of_which_all_rows_are_chosen_are_not_copied(whole: Run, part: Run) -> None:
    for shard in part.manifest(TARGETS)["shards"]:
        mine, theirs = (Path(run.file(TARGETS, shard["path"])) for run in (part, whole))
        assert mine.samefile(theirs) == (shard["split"] != "train")


def test_without_hard_links_they_are(whole: Run, part: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    other = subset(whole, str(tmp_path / "run"), SHARE)
    subset_targets(whole, other)
    assert outputs_of(other) == outputs_of(part)
    shard = other.shards("test", TARGETS)[0]["path"]
    assert not Path(other.file(TARGETS, shard)).samefile(whole.file(TARGETS, shard))


def test_targets_that_are_made_anew_leave_a_subset_as_it_is(whole: Run, tmp_path: Path) -> None:
    run = Run(str(tmp_path / "teacher"), whole.path)
    shutil.copytree(whole.file(TARGETS), run.file(TARGETS))
    chosen = subset(whole, str(tmp_path / "rows"), SHARE)
    subset_targets(run, chosen)
    before = outputs_of(chosen)
    assert has_targets(run, chosen)
    for shard in run.shards("valid", TARGETS):
        storage.write_bytes(run.file(TARGETS, shard["path"]), b"others")
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest.update(teacher="teacher-2"))
    assert outputs_of(chosen) == before and not has_targets(run, chosen)


def test_derived_targets(whole: Run, tmp_path: Path) -> None:
    run, stage = Run(str(tmp_path / "teacher"), whole.path), derived_stage("lelp")
    shutil.copytree(whole.file(TARGETS), run.file(stage))
    (Path(run.file(stage)) / "head.npz").write_bytes(b"numbers")
    change_json(run.file(stage, "manifest.json"), lambda manifest: manifest.update(head="head.npz"))
    examples = subset(whole, str(tmp_path / "rows"), 0.1)
    chosen = Run(str(tmp_path / "cell"), examples.path)
    with chosen.lock():
        subset_targets(run, chosen, stage)
    assert (Path(chosen.file(stage)) / "head.npz").read_bytes() == b"numbers"
    assert chosen.manifest(stage)["sources"] == {EXAMPLES: examples.identity(EXAMPLES)}
    found = [offset for blocks in target_rows(chosen, stage).values() for block in blocks for offset in block.offsets]
    assert sorted(found) == sorted(table_of(examples)["offset"])
    assert not (Path(examples.path) / "derived").exists()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none(whole: Run, tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="The share of the training rows must be above 0 and at most 1. Received: "):
        subset(whole, str(tmp_path / "run"), share)
    assert not (tmp_path / "run").exists()


def test_too_few_rows(whole: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must have clicks and rows without.* Received: (.) clicks in (\1) rows"):
        subset(whole, str(tmp_path / "run"), 0.001)


def test_a_run_of_a_log_is_not_overwritten(whole: Run) -> None:
    before = times(whole)
    with pytest.raises(ConfigError, match=f"A subset must have a folder of its own. Received: {whole.path} "):
        subset(whole, whole.path, SHARE)
    assert times(whole) == before


def test_preprocess_does_not_overwrite_a_subset(part: Run) -> None:
    before = times(part)
    inputs = [item["path"] for item in part.manifest(EXAMPLES)["inputs"]]
    config = PreprocessConfig(max_rejects="5%")
    with pytest.raises(ConfigError, match=r"A run must keep its inputs\. .* has changed"):
        preprocess(part, inputs, SCHEMA, config, make_options([], 1))
    assert times(part) == before


def test_targets_of_other_examples(whole: Run, part: Run, tmp_path: Path) -> None:
    other = subset(part, str(tmp_path / "other"), 0.2)
    with pytest.raises(ArtifactError, match="A subset must be one of the run's examples. Received: "):
        subset_targets(whole, other)
    with pytest.raises(ArtifactError, match="A subset must be one of the run's examples. Received: "):
        subset_targets(whole, whole)
    subset_targets(part, other)
    assert verify(other).wrong == []


def test_stale_targets(whole: Run, part: Run, tmp_path: Path) -> None:
    run = Run(str(tmp_path / "teacher"), whole.path)
    shutil.copytree(whole.file(TARGETS), run.file(TARGETS))
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest["sources"].update(examples="others"))
    with pytest.raises(ArtifactError, match="must be made from its present examples"):
        subset_targets(run, Run(str(tmp_path / "cell"), part.path))


def test_a_student_learns_from_it(part: Run, tmp_path: Path) -> None:
    data = StudentData.read(part, METHODS["subclass"], False)
    config = StudentConfig(batch_size=32, epochs=2, evaluations=1, min_count=1, averaging=0.0)
    trained = train_student(data, "subclass", config, Circumstances(lambda done, note: None, str(tmp_path)))
    assert len(trained.history) == 2
    assert trained.layout.kept == tuple(ids - 2 for ids in part.spec().vocabulary_ids)
    assert np.isfinite(trained.history["valid_logloss"]).all()

"""What the training stages read, and what they say when it is damaged."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import DAMAGE, Made, damage_targets

from features.errors import ArtifactError, ConfigError, DataError
from features.spec import SPLITS
from models.backend import tf
from models.inputs import ShardFiles, evaluation_batches, training_batches
from pipeline import storage
from pipeline.stage_inputs import (
    click_counts,
    example_files,
    naming_damage,
    read_vocabularies,
    read_with_targets,
    require_blocks,
    require_local,
    require_validation,
    table_layout,
    target_files,
)
from pipeline.workspace import Run


def test_files_of_a_split_shard_beside_shard(made: Made) -> None:
    spec, manifest = made.run.spec(), made.run.manifest("targets")
    for split in SPLITS:
        files, plain = target_files(made.run, spec, split), example_files(made.run, spec, split)
        assert plain == ShardFiles(files.examples, (13, 26))
        assert [Path(path).parent.name for path in files.examples] == [split] * len(files.examples)
        assert [path.replace("/examples/", "/targets/") for path in files.examples] == list(files.targets)
        assert (files.teacher, files.outputs, files.columns) == (manifest["teacher"], 6, (13, 26))
        rows = sum(
            len(block)
            for pair in zip(files.examples, files.targets, strict=True)
            for block, _ in read_with_targets(*pair, files.teacher)
        )
        assert rows == spec.rows[split] > 0


def test_empty_shards_are_left_out(made: Made, tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    shutil.copytree(made.run.file("examples"), run.file("examples"))
    manifest = storage.read_json(run.file("examples/manifest.json"))
    training = [shard for shard in manifest["shards"] if shard["split"] == "train"]
    training[3]["rows"] = 0
    storage.write_json(run.file("examples/manifest.json"), manifest)
    files = example_files(run, run.spec(), "train")
    others = [run.file("examples", shard["path"]) for shard in training if shard is not training[3]]
    assert list(files.examples) == others and len(others) >= 15


def test_tables_of_the_vocabularies(made: Made) -> None:
    spec = made.run.spec()
    vocabularies = read_vocabularies(made.run, spec)
    assert [vocabulary.ids for vocabulary in vocabularies] == list(spec.vocabulary_ids)
    counts = click_counts(vocabularies, spec)
    assert counts.rows.sum() == spec.rows["train"] and counts.row_clicks.sum() == spec.clicks["train"]
    # Each training row counts once in each column, under a value or as missing.
    per_column = np.add.reduceat(counts.counts.sum(axis=1), counts.starts)
    assert (per_column == spec.rows["train"]).all()
    layout = table_layout(vocabularies, spec, min_count=5)
    assert [
        kept == int((v.counts[2:].sum(axis=1) >= 5).sum()) for kept, v in zip(layout.kept, vocabularies, strict=True)
    ]
    assert layout.rows > table_layout(vocabularies, spec, min_count=50).rows


def test_a_remote_run_is_not_for_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_local(Run(str(tmp_path)))
    monkeypatch.setattr(storage, "is_remote", lambda path: path.startswith("gs://"))
    with pytest.raises(ConfigError, match=r"^--run must be local for training. Received: gs://bucket/run; copy"):
        require_local(Run("gs://bucket/run"))


def test_a_run_without_validation_rows(made: Made) -> None:
    spec = made.run.spec()
    require_validation(spec)
    with pytest.raises(DataError, match=r"^A run must have validation rows. Received: none, and \d+ training rows"):
        require_validation(dataclasses.replace(spec, rows={**spec.rows, "valid": 0}))


def test_examples_a_row_a_record_are_not_for_training(made: Made) -> None:
    spec = made.run.spec()
    require_blocks(spec)
    rows = dataclasses.replace(spec, layout="rows")
    message = r"^The examples of a run must be in blocks for training. Received: --layout rows \(spec.json\)"
    for read in (lambda: require_blocks(rows), lambda: example_files(made.run, rows, "train")):
        with pytest.raises(ConfigError, match=message):
            read()


@pytest.fixture
def damaged(copy_of: Callable[..., Run]) -> Callable[[str], tuple[ShardFiles, str]]:
    """The training files of a run of which one is damaged, and the path of that one."""

    def damage(how: str) -> tuple[ShardFiles, str]:
        run = copy_of("students", "teacher", "report")
        files = target_files(run, run.spec(), "train")
        damage_targets(files.targets[2], how)
        return files, files.targets[2]

    return damage


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_an_error_that_names_the_file(damaged: Callable[[str], tuple[ShardFiles, str]], how: str) -> None:
    files, path = damaged(how)
    message = f"^{re.escape(DAMAGE[how])}.*{re.escape(path)}"
    with pytest.raises(ArtifactError, match=message), naming_damage(files):
        for _ in evaluation_batches(files):
            pass
    with pytest.raises(ArtifactError, match=message):
        for pair in zip(files.examples, files.targets, strict=True):
            for _ in read_with_targets(*pair, files.teacher):
                pass


def test_damage_is_found_by_the_shuffled_reader_too(damaged: Callable[[str], tuple[ShardFiles, str]]) -> None:
    files, path = damaged("offsets")
    with pytest.raises(ArtifactError, match=re.escape(path)), naming_damage(files):
        next(iter(training_batches(files, 256, seed=0)))


def test_targets_of_another_width(damaged: Callable[[str], tuple[ShardFiles, str]]) -> None:
    files, path = damaged("fewer logits")
    with pytest.raises(ArtifactError, match=rf"^Targets must have 6 logits a row. Received: 2 \({re.escape(path)}\)"):
        with naming_damage(files):
            for _ in evaluation_batches(files):
                pass


def test_damaged_examples_are_named(copy_of: Callable[..., Run]) -> None:
    run = copy_of("students", "teacher", "report")
    files = example_files(run, run.spec(), "valid")
    data = Path(files.examples[0]).read_bytes()
    Path(files.examples[0]).write_bytes(data[:-1])
    with pytest.raises(ArtifactError, match=rf"it ends within a record \({re.escape(files.examples[0])}\)"):
        with naming_damage(files):
            for _ in evaluation_batches(files):
                pass


def test_an_error_without_damage_stays_as_it_is(made: Made) -> None:
    files = target_files(made.run, made.run.spec(), "valid")
    with pytest.raises(tf.errors.InvalidArgumentError), naming_damage(files):
        tf.reshape(tf.zeros(3), [2])
    with pytest.raises(ZeroDivisionError), naming_damage(files):
        _ = 1 / 0

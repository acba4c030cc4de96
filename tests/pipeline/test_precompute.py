"""``precompute``: the targets are what the teacher says about each row, and stay beside their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import Made, ctr_distill, damage_targets, files_of

from features.blocks import Block
from features.statistics import NO_FOLD
from features.targets import TargetBlock
from models.backend import tf
from pipeline import storage
from pipeline.beam import make_options
from pipeline.precompute import LoadedTeacher, TeacherFiles, precompute
from pipeline.stage_inputs import read_with_targets
from pipeline.workspace import Run


def pairs_of(run: Run, split: str, number: int = 0) -> tuple[Block, TargetBlock]:
    """The rows of a shard with their targets."""
    shard = run.shards(split)[number]["path"]
    teacher = run.manifest("targets")["teacher"]
    pairs = list(read_with_targets(run.file("examples", shard), run.file("targets", shard), teacher))
    assert len(pairs) == 1, "the shards of the small log are single blocks"
    return pairs[0]


@pytest.mark.parametrize(("split", "number"), [("train", 0), ("train", 11), ("valid", 1), ("test", 0)])
def test_targets_are_the_logits_of_the_teacher_row_by_row(made: Made, split: str, number: int) -> None:
    block, target = pairs_of(made.run, split, number)
    teacher = tf.saved_model.load(made.run.file("teacher/model"))
    score = teacher.signatures["serving_default"]
    for row in range(0, len(block), 23):
        one = slice(row, row + 1)
        fold = block.folds[one].astype(np.int32) if split == "train" else np.array([NO_FOLD], np.int32)
        found = score(ids=tf.constant(block.ids[one]), dense=tf.constant(block.dense[one]), fold=tf.constant(fold))
        np.testing.assert_allclose(target.logits[one], found["logits"].numpy(), rtol=1e-5, atol=1e-6)


def test_a_training_row_does_not_see_its_own_fold(made: Made) -> None:
    block, target = pairs_of(made.run, "train")
    teacher = tf.saved_model.load(made.run.file("teacher/model"))
    arguments = tf.constant(block.ids), tf.constant(block.dense)
    own = teacher.score(*arguments, tf.constant(block.folds.astype(np.int32)))["logits"].numpy()
    whole = teacher.score(*arguments, tf.fill([len(block)], NO_FOLD))["logits"].numpy()
    np.testing.assert_allclose(target.logits, own, rtol=1e-5, atol=1e-6)
    assert (np.abs(own - whole).max(axis=1) > 1e-3).mean() > 0.5


def test_manifest_names_every_shard_with_its_checksum(made: Made) -> None:
    manifest, teacher = made.run.manifest("targets"), made.run.manifest("teacher")
    shards, examples = manifest["shards"], made.run.manifest("examples")["shards"]
    assert [[s["path"], s["split"], s["rows"]] for s in shards] == [
        [s["path"], s["split"], s["rows"]] for s in examples
    ]
    for shard in shards:
        data = Path(made.run.file("targets", shard["path"])).read_bytes()
        assert shard["bytes"] == len(data) and shard["checksum"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert manifest["teacher"] == teacher["fingerprint"] and manifest["outputs"] == teacher["outputs"] == 6
    assert set(files_of(made.run.file("targets"))) == {"manifest.json", *(shard["path"] for shard in shards)}


def test_every_row_has_its_targets(made: Made) -> None:
    for split, rows in made.run.spec().rows.items():
        shards = range(len(made.run.shards(split)))
        assert sum(len(pairs_of(made.run, split, number)[1].logits) for number in shards) == rows


def test_again_there_is_nothing_to_do(made: Made) -> None:
    before = files_of(made.run.file("targets"))
    assert precompute(made.run, make_options((), 1)) is False
    assert files_of(made.run.file("targets")) == before


def test_an_unfinished_stage_goes_on(copy_of: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished shards are left as they are, missing ones are made, and the whole is the same."""
    run = copy_of("students", "report")
    before, inodes = files_of(run.file("targets")), {}
    manifest = storage.read_json(run.file("targets/manifest.json"))
    Path(run.file("targets/manifest.json")).unlink()
    storage.write_json(run.file("targets/.started.json"), {"key": manifest["key"]})
    for shard in manifest["shards"]:
        path = Path(run.file("targets", shard["path"]))
        if shard["split"] == "test":
            path.unlink()
        else:
            name = shard["path"].replace("/", "-")
            storage.write_json(run.file("targets/.work", f"{name}.json"), shard)
            inodes[path] = path.stat().st_ino
    assert precompute(run, make_options((), 2)) is True
    assert {path: path.stat().st_ino for path in inodes} == inodes
    after = files_of(run.file("targets"))
    assert set(after) == set(before)
    for name, data in after.items():
        if name.endswith(".tfrecord") and not name.startswith("test"):
            assert data == before[name]
    for number in range(len(run.shards("test"))):
        (_, found), shard = pairs_of(run, "test", number), run.shards("test")[number]["path"]
        # Another process with other threads may round differently.
        (expected,) = _targets(before[shard])
        np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)


def _targets(data: bytes) -> list[TargetBlock]:
    import io

    from features.tfrecord import read_records

    return [TargetBlock.decode(record) for record in read_records(io.BytesIO(data), "targets")]


def test_other_rows_get_the_mean_of_all_teachers(made: Made) -> None:
    """With cross-fitting no teacher has seen them, so all may speak; training rows hear only the one of their fold."""
    path = made.run.file("teacher/model")
    block, _ = pairs_of(made.run, "train")
    one = LoadedTeacher(TeacherFiles((path,), 0, ""))
    two = LoadedTeacher(TeacherFiles((path, path), 2, ""))
    np.testing.assert_allclose(two.score(block, training=False), one.score(block, training=False), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two.score(block, training=True), one.score(block, training=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("command", [["distill", "--method", "subclass", "--epochs=1"], ["evaluate"]])
def test_damage_is_one_line_on_the_command_line(copy_of: Callable[..., Run], command: list[str]) -> None:
    run = copy_of("students", "report")
    path = run.file("targets", run.shards("train" if command[0] == "distill" else "valid")[1]["path"])
    damage_targets(path, "teacher")
    done = ctr_distill([*command, "--run", run.path], code=2)
    *progress, last = done.stderr.splitlines()
    assert last.startswith("error: Targets must come from the teacher of their manifest. Received: 0000000000000000 ")
    assert path in last and last.endswith("remove the folder of the targets and run precompute.")
    assert progress == [f"{'student subclass' if command[0] == 'distill' else 'evaluate'} ..."]
    assert done.stdout == ""

"""``precompute``: the targets are what the teacher says about each row, and stay beside their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import Made, damage_targets, files_of

from features.blocks import Block
from features.schema import CRITEO
from features.statistics import NO_FOLD
from features.targets import TargetBlock
from models.backend import tf
from models.estimates import mean_of_teachers
from pipeline import cli, storage
from pipeline.beam import make_options
from pipeline.config import build
from pipeline.generate import generate
from pipeline.loaded_teacher import LoadedTeacher, TeacherFiles
from pipeline.precompute import precompute
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig, TeacherConfig
from pipeline.stage_inputs import read_with_targets
from pipeline.train_teacher import train_teacher
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


class Fake(tf.Module):
    """A teacher whose logits tell which teacher spoke, of which row, and what it was told about the row's fold."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.slope = tf.Variable(np.random.default_rng(number).normal(size=(1, 4)), dtype=tf.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 26], tf.int32),
            tf.TensorSpec([None, 13], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def score(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.reduce_mean(tf.cast(ids % 7, tf.float32), axis=1) + 0.1 * tf.cast(fold, tf.float32)
        return {"logits": (1 + rows[:, tf.newaxis]) * self.slope}


@pytest.mark.parametrize("number", [2, 5])
def test_other_rows_get_the_mean_of_all_teachers(made: Made, tmp_path: Path, number: int) -> None:
    """With cross-fitting no teacher has seen them, so all may speak; training rows hear only the one of their fold."""
    block, _ = pairs_of(made.run, "train")
    assert set(block.folds) == set(range(10))
    teachers, paths = [Fake(part) for part in range(number)], []
    for part, teacher in enumerate(teachers):
        paths.append(str(tmp_path / f"fold-{part}"))
        tf.saved_model.save(teacher, paths[-1])
    loaded = LoadedTeacher(TeacherFiles(tuple(paths), number, ""))

    own = block.folds.astype(np.int32)
    found = loaded.score(block, training=True)
    every = [teacher.score(block.ids, block.dense, own)["logits"].numpy() for teacher in teachers]
    for row, fold in enumerate(block.folds):
        for part, logits in enumerate(every):
            assert np.allclose(found[row], logits[row], rtol=1e-5, atol=1e-6) == (part == fold % number)

    found = loaded.score(block, training=False)
    none = np.full(len(block), NO_FOLD, np.int32)
    every = [teacher.score(block.ids, block.dense, none)["logits"].numpy() for teacher in teachers]
    np.testing.assert_allclose(found, mean_of_teachers(every), rtol=1e-5, atol=1e-5)
    assert not any(np.isclose(found, logits, rtol=1e-3).all(axis=1).any() for logits in every)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose teacher has two parts. That a part does not see its own rows is shown in test_train_teacher.py."""
    folder = tmp_path_factory.mktemp("crossed")
    log, run, options = str(folder / "log.tsv"), Run(str(folder / "run")), make_options((), 1)
    generate(3000, log, seed=5)
    preprocess(run, [log], CRITEO, PreprocessConfig(split="2100/450/450"), options)
    quick = {"epochs": "0.5", "hidden": "8", "crosses": "5", "subclasses": "2", "batch_size": "256", "averaging": "0"}
    train_teacher(run, build(TeacherConfig, {**quick, "evaluations": "1", "folds": "2"}, "teacher"))
    precompute(run, options)
    return run


def test_stored_targets_come_from_the_teacher_of_the_row(crossed: Run) -> None:
    """As above, of whole stages: each training row has one teacher, each validation row the mean of both."""
    run = crossed
    models = [tf.saved_model.load(run.file("teacher", name)) for name in run.manifest("teacher")["models"]]
    assert len(models) == 2

    def speak(block: Block, fold: np.ndarray) -> list[np.ndarray]:
        arguments = tf.constant(block.ids), tf.constant(block.dense), tf.constant(fold.astype(np.int32))
        return [model.score(*arguments)["logits"].numpy() for model in models]

    pairs = [pairs_of(run, "train", number) for number in range(len(run.shards("train")))]
    block, logits = Block.concatenate([b for b, _ in pairs]), np.concatenate([t.logits for _, t in pairs])
    first, second = (np.isclose(logits, said, rtol=1e-4, atol=1e-5).all(axis=1) for said in speak(block, block.folds))
    assert np.array_equal(first, block.folds % 2 == 0) and np.array_equal(second, block.folds % 2 == 1)
    block, target = pairs_of(run, "valid")
    every = speak(block, np.full(len(block), NO_FOLD))
    np.testing.assert_allclose(target.logits, mean_of_teachers(every), rtol=1e-4, atol=1e-5)
    assert not np.isclose(every[0], every[1], rtol=1e-3, atol=1e-3).all(axis=1).any()


@pytest.mark.parametrize("command", [["distill", "--method", "subclass", "--epochs=1"], ["evaluate"]])
def test_damage_is_one_line_on_the_command_line(
    copy_of: Callable[..., Run], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of("students", "report")
    path = run.file("targets", run.shards("train" if command[0] == "distill" else "valid")[1]["path"])
    damage_targets(path, "teacher")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--run", run.path])
    said = capsys.readouterr()
    *progress, last = said.err.splitlines()
    assert last.startswith("error: Targets must come from the teacher of their manifest. Received: 0000000000000000 ")
    assert path in last and last.endswith("remove the folder of these targets and make them again.")
    assert progress == [f"{'student subclass' if command[0] == 'distill' else 'evaluate'} ..."]
    assert (ended.value.code, said.out) == (2, "")


class FakeMembers(Fake):
    """Two networks, the second of which says half of what the first one does."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 26], tf.int32),
            tf.TensorSpec([None, 13], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def members(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> dict[str, tf.Tensor]:
        z = self.score(ids, dense, fold)["logits"]
        clicks = tf.reduce_logsumexp(z[:, 2:], axis=1) - tf.reduce_logsumexp(z[:, :2], axis=1)
        return {"clicks": tf.stack([clicks, clicks / 2], axis=1)}


@pytest.mark.parametrize(
    ("architecture", "more", "members"),
    [("dcn, mlp", {}, 2), ("dcn", {}, 0), ("dcn,mlp", {"folds": 2, "models": ["model", "model"]}, 0)],
)
def test_members_lie_beside_the_logits(
    copy_of: Callable[..., Run], architecture: str, more: dict[str, object], members: int
) -> None:
    """Of one network there are none, and of cross-fitted teachers they are not stored."""
    run = copy_of("students", "report", "targets", "teacher/model")
    told = storage.read_json(run.file("teacher/manifest.json"))
    told["settings"] |= {"architecture": architecture}
    storage.write_json(run.file("teacher/manifest.json"), {**told, **more, "outputs": 4})
    teacher = FakeMembers(3)
    tf.saved_model.save(teacher, run.file("teacher/model"))
    assert precompute(run, make_options((), 1))
    assert run.manifest("targets").get("members", 0) == members
    for split in ("train", "test"):
        block, target = pairs_of(run, split)
        assert (target.members is not None) == (members > 0)
        if target.members is not None:
            fold = block.folds.astype(np.int32) if split == "train" else np.full(len(block), NO_FOLD, np.int32)
            expected = teacher.members(block.ids, block.dense, fold)["clicks"]
            np.testing.assert_allclose(target.members, expected, rtol=1e-5, atol=1e-5)

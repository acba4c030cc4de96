"""``train-teacher``: a teacher has not seen what it may not see, and what it learned is written down."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from small_run import change_json
from support import TEACHER, Made, ctr_distill, files_of, flags

from features.blocks import Block
from features.errors import ConfigError
from features.hashing import folds
from features.schema import CRITEO
from models import boosted
from models.backend import tf
from pipeline import align_parts as align_parts_module
from pipeline import storage
from pipeline.align_parts import align_parts
from pipeline.beam import make_options
from pipeline.config import build
from pipeline.generate import generate
from pipeline.precompute import precompute
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig, TeacherConfig
from pipeline.stage_inputs import read_with_targets
from pipeline.storage import size_of
from pipeline.train_teacher import train_teacher
from pipeline.workspace import Run

SMALL = {**TEACHER, "epochs": "1", "hidden": "8", "batch-size": "512"}
BOOSTED = {"boosted": "0.3", "boosted-trees": "5", "boosted-leaves": "4"}


@dataclass(frozen=True)
class Targets:
    """The targets of the training rows of a log, in the order of the log.

    Args:
        logits: float32 [rows, K].
        labels: uint8 [rows].
        folds: uint8 [rows].
    """

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    folds: npt.NDArray[np.uint8]


def targets_of(run: Run) -> Targets:
    teacher = run.manifest("targets")["teacher"]
    pairs = []
    for shard in run.shards("train"):
        paths = run.file("examples", shard["path"]), run.file("targets", shard["path"])
        pairs += list(read_with_targets(*paths, teacher))
    order = np.argsort(np.concatenate([block.offsets for block, _ in pairs]))
    return Targets(
        np.concatenate([target.logits for _, target in pairs])[order],
        np.concatenate([block.labels for block, _ in pairs])[order],
        np.concatenate([block.folds for block, _ in pairs])[order],
    )


def click_logits(z: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Of class-major logits of 2 x 3 subclasses."""
    e = np.exp(z.astype(np.float64))
    logits: npt.NDArray[np.float64] = np.log(e[:, 3:].sum(axis=1) / e[:, :3].sum(axis=1))
    return logits


def flip(source: Path, target: Path, part: int, rows: int) -> None:
    """Copies a log; the labels of its first rows whose fold is ``part`` modulo 2 are flipped."""
    lines = source.read_bytes().splitlines(keepends=True)
    offsets = np.cumsum([0, *map(len, lines[:-1])]).astype(np.int64)
    chosen = folds(offsets, str(source), seed=0) % 2 == part
    chosen[rows:] = False
    other = {b"0": b"1", b"1": b"0"}
    target.parent.mkdir()
    target.write_bytes(b"".join(other[x[:1]] + x[1:] if c else x for x, c in zip(lines, chosen, strict=True)))


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Targets]]:
    """Targets with cross-fitting, of a log and of the same with one part's labels flipped; of the first also without.

    Statistics of values and of pairs are inputs, and boosted trees speak too. Bits are compared, so TensorFlow runs
    deterministically in a process of its own. One run trains its parts side by side.
    """
    folder = tmp_path_factory.mktemp("leak")
    logs = {"as it is": folder / "a" / "log.tsv", "flipped": folder / "b" / "log.tsv"}
    logs["as it is"].parent.mkdir()
    generate(2600, str(logs["as it is"]), seed=3)
    # Labels of validation rows may decide when training stops; targets are made for training rows.
    flip(logs["as it is"], logs["flipped"], part=0, rows=2000)
    runs, commands = {}, []
    for name, log in logs.items():
        for folds_ in ("2", "0") if name == "as it is" else ("2",):
            runs[name, folds_] = run = Run(str(log.parent / f"run-{folds_}"))
            settings = flags({**SMALL, **BOOSTED, "folds": folds_})
            commands += [
                ["preprocess", "--input", str(log), "--run", run.path, "--split", "2000/600/0"],
                ["train-teacher", "--run", run.path, *settings, "--parallel=1", "--deterministic"],
                ["precompute", "--run", run.path],
            ]
    beside = str(folder / "a" / "run-beside")
    commands += [
        ["preprocess", "--input", str(logs["as it is"]), "--run", beside, "--split", "2000/600/0"],
        ["train-teacher", "--run", beside, *flags({**SMALL, "folds": "2"}), "--parallel=2", "--deterministic"],
    ]
    ctr_distill(*commands)
    found: dict[str, dict[str, Targets]] = {"2": {}, "0": {}}
    for (name, folds_), run in runs.items():
        found[folds_][name] = targets_of(run)
    return found


def test_flipping_the_labels_of_a_part_leaves_its_targets_bit_for_bit(leak: dict[str, dict[str, Targets]]) -> None:
    before, after = leak["2"]["as it is"], leak["2"]["flipped"]
    part = before.folds % 2 == 0
    assert np.array_equal(before.labels != after.labels, part), "every label of the part is flipped, and no other"
    assert 900 < part.sum() < 1100
    assert before.logits[part].tobytes() == after.logits[part].tobytes()


def test_the_other_part_sees_those_labels(leak: dict[str, dict[str, Targets]]) -> None:
    before, after = leak["2"]["as it is"], leak["2"]["flipped"]
    other = before.folds % 2 == 1
    assert (before.logits[other] != after.logits[other]).any(axis=1).all()
    clicks = [click_logits(t.logits[other]) for t in (before, after)]
    assert np.corrcoef(clicks)[0, 1] < 0.5, "half of what this teacher sees says the contrary"


def test_without_cross_fitting_a_teacher_sees_all_rows(
    leak: dict[str, dict[str, Targets]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    files = ("run-0", "history.csv"), ("run-2", "history-0.csv"), ("run-2", "history-1.csv")
    seen = [pd.read_csv(folder / "a" / run / "teacher" / name)["rows_seen"].iloc[-1] for run, name in files]
    # One epoch each.
    others = [(leak["2"]["as it is"].folds % 2 != part).sum() for part in range(2)]
    assert seen == pytest.approx([2000, *others])


def test_cross_fitting_changes_the_targets(leak: dict[str, dict[str, Targets]]) -> None:
    assert (leak["0"]["as it is"].logits != leak["2"]["as it is"].logits).any(axis=1).all()


def test_files_of_a_teacher(made: Made) -> None:
    manifest, folder = made.run.manifest("teacher"), Path(made.run.file("teacher"))
    assert manifest["models"] == ["model"] and manifest["folds"] == 0 and manifest["outputs"] == 6
    assert manifest["settings"]["hidden"] == [16] and manifest["settings"]["crosses"] == 5
    (part,) = json.loads((folder / "metrics.json").read_text())["parts"]
    history = pd.read_csv(folder / "history.csv")
    assert list(history) == ["epoch", "rows_seen", "train_loss", "valid_logloss", "valid_auc", "seconds"]
    assert part["valid_logloss"] == pytest.approx(history["valid_logloss"].min(), abs=1e-12)
    assert manifest["parameters"] == part["parameters"] > 0
    assert size_of(str(folder / "model")) == sum(map(len, files_of(folder / "model").values()))


def test_parts_of_a_cross_fitted_teacher(
    leak: dict[str, dict[str, Targets]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    run = Run(str(folder / "a" / "run-2"))
    manifest = run.manifest("teacher")
    assert manifest["models"] == ["model/fold-0", "model/fold-1"]
    parts = storage.read_json(run.file("teacher/metrics.json"))["parts"]
    assert parts[0]["fingerprint"] != parts[1]["fingerprint"] and len(parts) == 2
    assert manifest["parameters"] == parts[0]["parameters"] + parts[1]["parameters"]
    assert {"history-0.csv", "history-1.csv"} < set(files_of(run.file("teacher")))


def test_side_by_side_the_parts_are_the_same_bit_for_bit(
    leak: dict[str, dict[str, Targets]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    one, beside = (Run(str(folder / "a" / name)) for name in ("run-2", "run-beside"))
    parts = [storage.read_json(run.file("teacher/metrics.json"))["parts"] for run in (one, beside)]
    assert parts[0] == parts[1]
    for number in range(2):
        tables = [
            pd.read_csv(run.file(f"teacher/history-{number}.csv")).drop(columns="seconds") for run in (one, beside)
        ]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert "slices" not in beside.manifest("teacher") and "trees" not in beside.manifest("teacher")
    assert not list(Path(beside.file("teacher")).rglob("checkpoints")), "they are of no use any more"


def test_boosted_trees_speak_with_the_weight_that_is_asked_for(
    leak: dict[str, dict[str, Targets]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The targets against networks and trees by themselves; a training row hears those that have not seen it."""
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    for folds_, boosters in (("2", 2), ("0", 5)):
        run = Run(str(folder / "a" / f"run-{folds_}"))
        trees = run.manifest("teacher")["trees"]
        assert trees["weight"] == 0.3 and len(trees["boosters"]) == boosters
        assert all(1 <= number <= 5 for number in trees["rounds"])
        teacher = Spoken.of(run, trees)
        for split in ("train", "valid"):
            block, z = rows_of(run, split)
            every = teacher.click_logits(block, split)
            np.testing.assert_allclose(click_logits(z), every, rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class Spoken:
    """The members of a teacher, asked one by one."""

    networks: list[Any]
    inputs: list[Any]
    boosters: list[lightgbm.Booster]
    calibrations: list[tuple[float, float]]

    @classmethod
    def of(cls, run: Run, trees: dict[str, Any]) -> Spoken:
        folder = Path(run.file("teacher"))
        return cls(
            [tf.saved_model.load(str(folder / name)) for name in run.manifest("teacher")["models"]],
            [tf.saved_model.load(str(folder / name)) for name in trees["inputs"]],
            [lightgbm.Booster(model_file=str(folder / name)) for name in trees["boosters"]],
            [(values["scale"], values["shift"]) for values in trees["calibrations"]],
        )

    def click_logits(self, block: Block, split: str) -> npt.NDArray[np.float64]:
        fold = block.folds if split == "train" else np.full(len(block), 10)
        arguments = tf.constant(block.ids), tf.constant(block.dense), tf.constant(fold.astype(np.int32))
        networks = np.stack([click_logits(net.score(*arguments)["logits"].numpy()) for net in self.networks])
        inputs = [module.inputs(*arguments).numpy() for module in self.inputs]
        trees = np.stack(
            [tree.predict(inputs[n % len(inputs)], raw_score=True) for n, tree in enumerate(self.boosters)]
        )
        rows = np.arange(len(block))
        if len(networks) == 1:
            own = trees[block.folds % len(trees), rows] if split == "train" else trees.mean(axis=0)
            return self._calibrated(0, networks[0], own)
        every = np.stack([self._calibrated(part, networks[part], trees[part]) for part in range(len(networks))])
        return every[block.folds % len(networks), rows] if split == "train" else every.mean(axis=0)

    def _calibrated(self, part: int, network: Any, trees: Any) -> npt.NDArray[np.float64]:
        scale, shift = self.calibrations[part]
        mixed: npt.NDArray[np.float64] = scale * (0.7 * network + 0.3 * trees) + shift
        return mixed


def rows_of(run: Run, split: str) -> tuple[Block, npt.NDArray[np.float32]]:
    """All rows of a split with their targets."""
    teacher, pairs = run.manifest("targets")["teacher"], []
    for shard in run.shards(split):
        paths = run.file("examples", shard["path"]), run.file("targets", shard["path"])
        pairs += list(read_with_targets(*paths, teacher))
    return Block.concatenate([block for block, _ in pairs]), np.concatenate([target.logits for _, target in pairs])


def test_targets_are_calibrated_on_validation_rows(
    leak: dict[str, dict[str, Targets]], tmp_path_factory: pytest.TempPathFactory, made: Made
) -> None:
    """At the optimum of scale and shift the gradient of the logloss vanishes, in scale and in shift."""
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    for run in (made.run, Run(str(folder / "a" / "run-0"))):
        block, z = rows_of(run, "valid")
        logits = click_logits(z)
        error = 1 / (1 + np.exp(-logits)) - block.labels
        assert error.mean() == pytest.approx(0, abs=1e-6) and (logits * error).mean() == pytest.approx(0, abs=1e-6)
        manifest = run.manifest("teacher")
        assert manifest["calibration"] == run.manifest("targets")["calibration"]
        assert manifest["calibration"]["reason"] == "" and manifest["calibration"]["scale"] != 1


@dataclass(frozen=True)
class Conditionals:
    """What a part of a teacher says of rows: class probabilities [rows, 2], conditionals [rows, 2, S]."""

    classes: npt.NDArray[np.float64]
    within: npt.NDArray[np.float64]

    @classmethod
    def of(cls, run: Run, model: str, block: Block) -> Conditionals:
        teacher = tf.saved_model.load(run.file("teacher", model))
        asked = tf.fill([len(block)], 10)
        z = teacher.score(tf.constant(block.ids), tf.constant(block.dense), asked)["logits"].numpy()
        joint = softmax(z.astype(np.float64), axis=1).reshape(len(z), 2, -1)
        classes = joint.sum(axis=2)
        return cls(classes, joint / classes[:, :, np.newaxis])

    def gains(self, other: Conditionals, c: int) -> npt.NDArray[np.float64]:
        """Mean of P(c) times the products of all pairs of subclasses of class c."""
        gains: npt.NDArray[np.float64] = (self.classes[:, c, np.newaxis] * self.within[:, c]).T @ other.within[:, c]
        return gains / len(self.classes)


def test_subclasses_of_the_parts_are_aligned_on_validation_rows(
    leak: dict[str, dict[str, Targets]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    runs = {name: Run(str(folder / "a" / name)) for name in ("run-2", "run-0")}
    first, second = runs["run-2"].manifest("teacher")["alignment"]
    assert first == list(range(6))
    block, _ = rows_of(runs["run-2"], "valid")
    one, other = (Conditionals.of(runs["run-2"], f"model/fold-{part}", block) for part in range(2))
    gains = [one.gains(other, c) for c in range(2)]
    expected = [linear_sum_assignment(gain, maximize=True)[1] for gain in gains]
    assert second == [*expected[0], *(expected[1] + 3)]
    itself, aligned = storage.read_json(runs["run-2"].file("teacher/metrics.json"))["agreement"]
    assert itself["before"] == itself["after"]
    assert aligned["before"] == pytest.approx(sum(np.trace(gain) for gain in gains), rel=1e-5)
    best = sum(gain[np.arange(3), columns].sum() for gain, columns in zip(gains, expected, strict=True))
    assert aligned["after"] == pytest.approx(best, rel=1e-5) and best >= sum(np.trace(gain) for gain in gains)
    assert "alignment" not in runs["run-0"].manifest("teacher")
    assert "agreement" not in storage.read_json(runs["run-0"].file("teacher/metrics.json"))


class Shuffled(tf.Module):
    """A teacher with its subclasses in another order."""

    def __init__(self, path: str, order: list[int]) -> None:
        super().__init__()
        self.teacher, self.order = tf.saved_model.load(path), order
        specs = [([None, 26], tf.int32), ([None, 13], tf.float32), ([None], tf.int32)]
        self.score = tf.function(self._score, input_signature=[tf.TensorSpec(*spec) for spec in specs])

    def _score(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": tf.gather(self.teacher.score(ids, dense, fold)["logits"], self.order, axis=1)}


def test_another_order_of_the_same_subclasses_is_undone(
    leak: dict[str, dict[str, Targets]],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    run = Run(str(tmp_path / "run"))
    shutil.copytree(folder / "a" / "run-2", run.path)
    shuffled, models = [2, 0, 1, 3, 5, 4], ["model/fold-0", "model/shuffled"]
    tf.saved_model.save(Shuffled(run.file("teacher", models[0]), shuffled), run.file("teacher", models[1]))
    for rows in (20_000, 100):
        monkeypatch.setattr(align_parts_module, "ROWS", rows)
        found = align_parts(run, models)
        assert [shuffled[k] for k in found.orders[1]] == list(range(6))
        block, _ = rows_of(run, "valid")
        one = Conditionals.of(run, models[0], block.take(slice(0, rows)))
        itself = sum(np.trace(one.gains(one, c)) for c in range(2))
        assert found.agreements[1]["after"] == pytest.approx(itself, rel=1e-5)
        assert found.agreements[1]["before"] < itself


def test_without_validation_rows_parts_are_aligned_on_training_rows(
    leak: dict[str, dict[str, Targets]], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """As in a refit, whose teachers are others than those of its original."""
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    run = Run(str(tmp_path / "run"))
    shutil.copytree(folder / "a" / "run-2", run.path)
    change_json(run.file("examples/manifest.json"), lambda manifest: manifest.update(shards=run.shards("train")))
    models = run.manifest("teacher")["models"]
    block, _ = rows_of(run, "train")
    one, other = (Conditionals.of(run, model, block) for model in models)
    found = align_parts(run, models).agreements[1]
    assert found["before"] == pytest.approx(sum(np.trace(one.gains(other, c)) for c in range(2)), rel=1e-5)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has no more than the examples of a small log."""
    folder = tmp_path_factory.mktemp("prepared")
    generate(2600, str(folder / "log.tsv"), seed=3)
    run = Run(str(folder / "run"))
    settings = PreprocessConfig(split="2000/600/0")
    preprocess(run, [str(folder / "log.tsv")], CRITEO, settings, make_options((), 1))
    return run


@pytest.fixture
def examples(prepared: Run, tmp_path: Path) -> Run:
    """A copy of it."""
    run = Run(str(tmp_path / "run"))
    shutil.copytree(prepared.path, run.path)
    return run


def config(**values: str) -> TeacherConfig:
    settings = {name.replace("-", "_"): value for name, value in SMALL.items()} | values
    made: TeacherConfig = build(TeacherConfig, settings, "teacher")
    return made


def test_finished_parts_are_not_trained_again(examples: Run) -> None:
    """A call that was killed between two parts goes on with the second."""
    crossfit = config(folds="2", epochs="0.5", evaluations="1")
    assert train_teacher(examples, crossfit) is True
    folder = Path(examples.file("teacher"))
    before, manifest = files_of(folder), examples.manifest("teacher")
    (folder / "manifest.json").unlink()
    storage.write_json(
        str(folder / ".work" / "part-0.json"), storage.read_json(str(folder / "metrics.json"))["parts"][0]
    )
    storage.write_json(str(folder / ".started.json"), {"key": manifest["key"]})
    first = {path: path.stat().st_mtime_ns for path in (folder / "model" / "fold-0").rglob("*")}
    second = (folder / "model" / "fold-1" / "saved_model.pb").stat().st_ino
    assert train_teacher(examples, crossfit) is True
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert (folder / "model" / "fold-1" / "saved_model.pb").stat().st_ino != second
    logs = {name for name in {*before, *files_of(folder)} if "tensorboard" in name}
    assert logs and set(files_of(folder)) - logs == set(before) - logs
    assert train_teacher(examples, crossfit) is False


def test_a_teacher_without_statistics_depends_on_no_fold(examples: Run) -> None:
    """Without statistics of values and of pairs, a fold says only which values are known, and here all are."""
    train_teacher(examples, config(statistics="none", crosses="0", epochs="0.5", evaluations="1"))
    assert examples.manifest("teacher")["settings"]["statistics"] == "none"
    teacher = tf.saved_model.load(examples.file("teacher/model"))
    ids = tf.zeros([10, 26], tf.int32)
    dense = tf.zeros([10, 13])
    logits = teacher.score(ids, dense, tf.range(10))["logits"].numpy()
    assert logits.shape == (10, 6) and (logits == logits[0]).all()


def test_changed_settings_are_another_teacher(examples: Run) -> None:
    quick = {"epochs": "0.3", "evaluations": "1"}
    train_teacher(examples, config(**quick))
    first = examples.manifest("teacher")
    train_teacher(examples, config(**quick, seed="1"))
    second = examples.manifest("teacher")
    assert first["fingerprint"] != second["fingerprint"] and first["key"] != second["key"]
    assert first["parameters"] == second["parameters"]


def test_statistics_by_time_ask_with_the_slice_of_the_shard(examples: Run) -> None:
    train_teacher(examples, config(statistics="time", crosses="5", epochs="0.5", evaluations="1"))
    precompute(examples, make_options((), 1))
    shards = [shard for shard in examples.shards("train") if shard["rows"]]
    slices = examples.manifest("teacher")["slices"]
    assert list(slices) == [shard["path"] for shard in shards]
    numbers = list(slices.values())
    assert numbers == sorted(numbers) and numbers[0] == 0 and 2 <= len(set(numbers)) <= 10
    teacher = tf.saved_model.load(examples.file("teacher/model"))
    fingerprint = examples.manifest("targets")["teacher"]
    for split, shard in [("train", shards[0]), ("train", shards[-1]), ("valid", examples.shards("valid")[0])]:
        paths = examples.file("examples", shard["path"]), examples.file("targets", shard["path"])
        for block, target in read_with_targets(*paths, fingerprint):
            said = {}
            for number in {0, numbers[-1], 10}:
                asked = tf.fill([len(block)], number)
                said[number] = teacher.score(tf.constant(block.ids), tf.constant(block.dense), asked)["logits"].numpy()
            own = slices[shard["path"]] if split == "train" else 10
            np.testing.assert_allclose(target.logits, said.pop(own), rtol=1e-5, atol=1e-5)
            assert all((np.abs(target.logits - other).max(axis=1) > 1e-4).mean() > 0.5 for other in said.values())


def test_interrupted_boosting_goes_on_with_the_next_booster(examples: Run) -> None:
    settings = config(epochs="0.3", evaluations="1", **{name.replace("-", "_"): v for name, v in BOOSTED.items()})
    assert train_teacher(examples, settings) is True
    folder, manifest = Path(examples.file("teacher")), examples.manifest("teacher")
    (folder / "manifest.json").unlink()
    (folder / "trees/booster-3.txt").unlink()
    parts = storage.read_json(str(folder / "metrics.json"))["parts"]
    storage.write_json(str(folder / ".work" / "part-0.json"), parts[0])
    storage.write_json(str(folder / ".started.json"), {"key": manifest["key"]})
    kept = [*folder.rglob("booster-*.txt"), *folder.rglob("saved_model.pb")]
    inodes = {path: path.stat().st_ino for path in kept}
    assert train_teacher(examples, settings) is True
    assert {path: path.stat().st_ino for path in inodes} == inodes and len(inodes) == 4 + 2
    assert examples.manifest("teacher") == manifest


def test_boosting_without_lightgbm_is_an_error_before_any_training(
    examples: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boosted.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"boost extra"):
        train_teacher(examples, config(boosted="0.1"))
    assert not Path(examples.file("teacher")).exists()


@pytest.mark.parametrize(
    ("settings", "parallel", "error", "message"),
    [
        ({}, 0, ConfigError, r"^--parallel must be positive. Received: 0.$"),
        (
            {"label": "buy"},
            1,
            ConfigError,
            r"^label must be .* its schema has no outcome. Received: buy.$",
        ),
    ],
)
def test_what_cannot_be_is_said_before_any_training(
    examples: Run, settings: dict[str, str], parallel: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_teacher(examples, config(**settings), parallel=parallel)
    assert not Path(examples.file("teacher")).exists()

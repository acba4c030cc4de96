"""``train-teacher``: a teacher has not seen what it may not see, and what it learned is written down."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from support import TEACHER, Made, ctr_distill, files_of, flags

from features.hashing import folds
from models.backend import tf
from pipeline import storage
from pipeline.config import TeacherConfig, build
from pipeline.generate import generate
from pipeline.stage_inputs import read_with_targets
from pipeline.storage import size_of
from pipeline.train_teacher import train_teacher
from pipeline.workspace import Run

SMALL = {**TEACHER, "epochs": "1", "hidden": "8", "batch-size": "512"}


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
    """Targets with cross-fitting and without, of a log and of the same with one part's labels flipped.

    Statistics of values and of pairs are inputs. Bits are compared, so TensorFlow runs deterministically in a process
    of its own.
    """
    folder = tmp_path_factory.mktemp("leak")
    logs = {"as it is": folder / "a" / "log.tsv", "flipped": folder / "b" / "log.tsv"}
    logs["as it is"].parent.mkdir()
    generate(2600, str(logs["as it is"]), seed=3)
    # Labels of validation rows may decide when training stops; targets are made for training rows.
    flip(logs["as it is"], logs["flipped"], part=0, rows=2000)
    runs, commands = {}, []
    for name, log in logs.items():
        for folds_ in ("2", "0"):
            path = str(log.parent / f"run-{folds_}")
            commands += [
                ["preprocess", "--input", str(log), "--run", path, "--split", "2000/600/0"],
                ["train-teacher", "--run", path, *flags({**SMALL, "folds": folds_}), "--deterministic"],
                ["precompute", "--run", path],
            ]
            runs[name, folds_] = Run(path)
    ctr_distill(*commands)
    return {folds_: {name: targets_of(runs[name, folds_]) for name in logs} for folds_ in ("2", "0")}


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
    clicks = [
        np.logaddexp.reduce(t.logits[other, 3:], 1) - np.logaddexp.reduce(t.logits[other, :3], 1)
        for t in (before, after)
    ]
    assert clicks[1].mean() > clicks[0].mean() + 0.5, "three of four labels of the part became clicks"


def test_without_cross_fitting_every_target_changes(leak: dict[str, dict[str, Targets]]) -> None:
    before, after = leak["0"]["as it is"], leak["0"]["flipped"]
    assert (before.logits != after.logits).any(axis=1).all()


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


@pytest.fixture
def examples(leak: dict[str, dict[str, Targets]], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Run:
    """A run that has no more than the examples of the small log."""
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("leak*") if path.is_dir())
    run = Run(str(tmp_path / "run"))
    shutil.copytree(folder / "a" / "run-0" / "examples", run.file("examples"))
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
    assert set(files_of(folder)) == set(before)
    assert train_teacher(examples, crossfit) is False


def test_a_teacher_without_statistics_depends_on_no_fold(examples: Run) -> None:
    """Without statistics of values and of pairs, a fold says only which values are known, and here all are."""
    train_teacher(examples, config(statistics="false", crosses="0", epochs="0.5", evaluations="1"))
    assert examples.manifest("teacher")["settings"]["statistics"] is False
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

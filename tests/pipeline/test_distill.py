"""``distill``: students of all methods, from stored targets alone."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss
from support import METHODS, STUDENT, Made, ctr_distill, files_of, flags

from features.blocks import Block, read_blocks
from features.errors import CtrDistillError
from features.schema import CRITEO
from features.statistics import NO_FOLD
from models.backend import tf
from models.methods import METHODS as STUDENT_METHODS
from models.serving_features import FEATURES_FILE
from pipeline import cli, commands
from pipeline.beam import make_options
from pipeline.config import build
from pipeline.distill import distill
from pipeline.evaluate import load_student
from pipeline.fitting import Circumstances
from pipeline.preprocess import preprocess
from pipeline.served_student import WEIGHTS, read_weights
from pipeline.settings import PreprocessConfig, StudentConfig
from pipeline.stage_inputs import click_counts, read_vocabularies
from pipeline.student_data import StudentData
from pipeline.student_part import TrainedStudent, train_student
from pipeline.workspace import Run


def config_of(made: Made, method: str) -> StudentConfig:
    """The settings that the finished run's student was made with."""
    options, _ = cli.make_parser().parse_known_args(made.arguments)
    return commands._config(options).student_config(method)


def rows_of(run: Run, split: str) -> Block:
    blocks = []
    for shard in run.shards(split):
        with open(run.file("examples", shard["path"]), "rb") as file:
            blocks += list(read_blocks(file, shard["path"]))
    return Block.concatenate(blocks)


def weights_of(run: Run, method: str) -> dict[str, np.ndarray]:
    """The variables of an exported student by name, but for the counters of dropout, which not all students have."""
    reader = tf.train.load_checkpoint(run.file("students", method, "model/1/variables/variables"))
    names = [name for name, shape in reader.get_variable_to_shape_map().items() if "VARIABLE_VALUE" in name and shape]
    return {name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): reader.get_tensor(name) for name in names}


@dataclass(frozen=True)
class Again:
    """Students that were made a second time in a process of their own.

    Args:
        without_teacher: all methods, after the teacher was removed.
        statistics: `subclass` with click statistics.
    """

    without_teacher: Run
    statistics: Run


@pytest.fixture(scope="module")
def again(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Again:
    folder = tmp_path_factory.mktemp("again")
    runs = Run(str(folder / "without-teacher")), Run(str(folder / "statistics"))
    for run in runs:
        shutil.copytree(made.run.path, run.path, ignore=shutil.ignore_patterns("teacher", "students", "report"))
    command = ["distill", *flags(STUDENT), "--deterministic"]
    ctr_distill(
        *([*command, "--run", runs[0].path, "--method", method] for method in METHODS),
        [*command, "--run", runs[1].path, "--method", "subclass", "--student-statistics", "--served", "float32"],
    )
    return Again(*runs)


@pytest.mark.parametrize("method", METHODS)
def test_the_teacher_is_not_needed(made: Made, again: Again, method: str) -> None:
    """Weights, calibration, manifest and predictions are the same to the last bit after the teacher is gone."""
    stage, run = f"students/{method}", again.without_teacher
    assert not Path(run.file("teacher")).exists()
    before, after = files_of(made.run.file(stage)), files_of(run.file(stage))
    # The names of logs have the time in them.
    names = [{name for name in files if not name.startswith("training/")} for files in (before, after)]
    assert names[0] == names[1]
    for name in (
        "manifest.json",
        "metrics.json",
        WEIGHTS,
        "model/1/assets/vocabulary.txt",
        "model/1/assets.extra/features.json",
    ):
        assert before[name] == after[name], name
    weights, others = weights_of(made.run, method), weights_of(run, method)
    assert set(weights) == set(others) and len(weights) > 4
    assert all(weights[name].tobytes() == others[name].tobytes() for name in weights)
    block = rows_of(run, "test")
    assert np.array_equal(load_student(made.run, stage)(block), load_student(run, stage)(block))
    histories = [pd.read_csv(r.file(stage, "history.csv")).drop(columns="seconds") for r in (made.run, run)]
    pd.testing.assert_frame_equal(*histories)


def test_students_differ_in_their_heads_only(made: Made) -> None:
    shapes = {}
    for method in METHODS:
        (trunk,) = read_weights(made.run.file("students", method, WEIGHTS))
        shapes[method] = {name: array.shape for name, array in trunk.to_arrays().items()}
    assert shapes["hard"] == shapes["kd"] and shapes["subclass"] == shapes["hard_k"] == shapes["kd_k"]
    narrow, wide = shapes["kd"], shapes["subclass"]
    assert {name for name in narrow if narrow[name] != wide[name]} == {"head_kernel", "head_bias"}
    assert narrow["head_kernel"] == (8, 2) and wide["head_kernel"] == (8, 6), "two logits, or K = 2 S"
    parameters = {method: made.run.manifest(f"students/{method}")["parameters"] for method in METHODS}
    assert parameters["hard"] == parameters["kd"] == sum(math.prod(shape) for shape in narrow.values())
    assert parameters["subclass"] - parameters["kd"] == 4 * (8 + 1)


def test_methods_lead_to_different_students(made: Made) -> None:
    block = rows_of(made.run, "test")
    logits = [load_student(made.run, f"students/{method}")(block) for method in METHODS]
    for first in range(len(METHODS)):
        for second in range(first):
            assert np.abs(logits[first] - logits[second]).max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_what_is_exported_is_what_was_evaluated(made: Made, method: str) -> None:
    """The logloss of the best evaluation comes out of the SavedModel, once its calibration is undone."""
    stage = f"students/{method}"
    manifest, metrics = made.run.manifest(stage), json.loads(files_of(made.run.file(stage))["metrics.json"])
    history = pd.read_csv(made.run.file(stage, "history.csv"))
    assert metrics["valid_logloss"] == pytest.approx(history["valid_logloss"].min(), abs=1e-12)
    assert history["epoch"].iloc[history["valid_logloss"].argmin()] == metrics["epoch"]
    block, calibration = rows_of(made.run, "valid"), manifest["calibration"]
    raw = (load_student(made.run, stage)(block) - calibration["shift"]) / calibration["scale"]
    # Embedding rows have been rounded to a byte a float since.
    assert log_loss(block.labels, 1 / (1 + np.exp(-raw))) == pytest.approx(metrics["valid_logloss"], abs=1e-4)
    assert manifest["method"] == method and manifest["settings"]["hidden"] == 8


def test_click_statistics_are_part_of_the_export(made: Made, again: Again) -> None:
    run, stage = again.statistics, "students/subclass"
    assert run.manifest(stage)["settings"]["statistics"] is True
    spec = run.spec()
    vocabularies = read_vocabularies(run, spec)
    found = click_counts(vocabularies, spec).statistics(20.0)
    (table,) = [value for name, value in weights_of(run, "subclass").items() if name.endswith("_statistics")]
    expected = np.stack([found.log_odds[:, NO_FOLD], found.log_count[:, NO_FOLD]], axis=1)
    starts = np.cumsum([0, *spec.vocabulary_ids[:-1]])
    kept = [vocabulary.kept(run.manifest(stage)["settings"]["min_count"]) for vocabulary in vocabularies]
    rows = np.concatenate([np.arange(start, start + 2 + size) for start, size in zip(starts, kept, strict=True)])
    assert np.array_equal(table, expected[rows])
    metrics = json.loads(files_of(run.file(stage))["metrics.json"])
    block, calibration = rows_of(run, "valid"), run.manifest(stage)["calibration"]
    raw = (load_student(run, stage)(block) - calibration["shift"]) / calibration["scale"]
    assert log_loss(block.labels, 1 / (1 + np.exp(-raw))) == pytest.approx(metrics["valid_logloss"], abs=2e-5)
    # Two more inputs for each of 26 columns, into the hidden layer and into the linear part.
    parameters = [r.manifest(stage)["parameters"] for r in (run, made.run)]
    assert parameters[0] - parameters[1] == 26 * 2 * (8 + 1)


def test_hash_buckets_and_the_rate_of_rows_without_click_are_part_of_the_export(log: Path, tmp_path: Path) -> None:
    run, rate, stage = Run(str(tmp_path / "run")), 0.5, "students/hard"
    config = PreprocessConfig(min_count=3, oov_buckets=16, negative_rate=rate)
    preprocess(run, [str(log)], CRITEO, config, make_options((), 1))
    settings = {name.replace("-", "_"): text for name, text in STUDENT.items()}
    distill(run, "hard", build(StudentConfig, {**settings, "served": "float32"}, "student"))
    block, lines = rows_of(run, "test"), log.read_bytes()
    sizes = np.array(run.spec().vocabulary_ids)
    hashed = block.ids >= sizes - 16
    assert hashed.any(axis=0).sum() > 10 and not (block.ids == 1).any()
    # Raw lines are scored as preprocessed rows, those with a hashed value too.
    chosen = np.argsort(-hashed.sum(axis=1), kind="stable")[:500]
    raw = [lines[offset : lines.index(b"\n", offset)] for offset in block.offsets[chosen].tolist()]
    model = tf.saved_model.load(run.file(stage, "model/1"))
    served = model.signatures["tsv"](lines=tf.constant(raw))["logit"].numpy()
    np.testing.assert_allclose(served, load_student(run, stage)(block)[chosen], rtol=0, atol=1e-5)
    # Without calibration and the share of the rows they are the logits of the best evaluation.
    valid, calibration = rows_of(run, "valid"), run.manifest(stage)["calibration"]
    logits = (load_student(run, stage)(valid) - np.log(rate) - calibration["shift"]) / calibration["scale"]
    metrics = json.loads(files_of(run.file(stage))["metrics.json"])
    assert log_loss(valid.labels, 1 / (1 + np.exp(-logits))) == pytest.approx(metrics["valid_logloss"], abs=2e-5)
    features = json.loads(Path(run.file(stage, "model/1", FEATURES_FILE)).read_bytes())
    assert (features["buckets"], features["negative_rate"]) == (16, rate)


def test_trunks_start_from_the_same_weights(made: Made, tmp_path: Path) -> None:
    """With a learning rate that is 0 in float32, what is left is the initialisation, equal but for the head's width."""
    config = StudentConfig(epochs=0.1, evaluations=1, learning_rate=1e-50, averaging=0.0, hidden=8)
    trained: dict[str, TrainedStudent] = {}
    for method in ("hard", "kd", "subclass"):
        data = StudentData.read(made.run, STUDENT_METHODS[method])
        trained[method] = train_student(
            data, method, config, Circumstances(lambda rows, note: None, str(tmp_path / method))
        )
    trunks = {method: found.student.trunk for method, found in trained.items()}
    parts: dict[str, Callable[[Any], list[Any]]] = {
        "embeddings": lambda trunk: trunk.embeddings.variables,
        "linear": lambda trunk: trunk.linear.variables,
        "hidden": lambda trunk: trunk.hidden.variables,
    }
    for name, part in parts.items():
        first, *others = ([value.numpy() for value in part(trunk)] for trunk in trunks.values())
        assert first, name
        for other in others:
            # By value: the sign of a zero may follow that of a gradient.
            assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True)), name
    heads = {method: [value.numpy() for value in trunk.head.variables] for method, trunk in trunks.items()}
    assert all(a.tobytes() == b.tobytes() for a, b in zip(heads["hard"], heads["kd"], strict=True))
    assert [value.shape for value in heads["subclass"]] == [(8, 6), (6,)]


def test_again_there_is_nothing_to_do(made: Made) -> None:
    before = files_of(made.run.file("students"))
    for method in METHODS:
        assert distill(made.run, method, config_of(made, method)) is False
    assert files_of(made.run.file("students")) == before


def test_a_setting_that_cannot_be_leaves_the_finished_student_alone(copy_of: Callable[..., Run]) -> None:
    run = copy_of()
    before = files_of(run.file("students/kd"))
    settings = run.manifest("students/kd")["settings"]
    for wrong in ({"auxiliary_head": True, "alpha": 1.0}, {"similarity": 1.0}, {"generations": 2, "slice_alpha": True}):
        with pytest.raises(CtrDistillError):
            distill(run, "kd", build(StudentConfig, {**settings, **wrong}, "kd"))
    assert files_of(run.file("students/kd")) == before

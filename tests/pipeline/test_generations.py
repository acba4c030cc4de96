"""Students in a row, and students of a teacher that has learned an outcome."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_run import add_targets, change_json, make_run, rewrite_targets

from features.blocks import Block, read_blocks
from features.errors import ConfigError
from features.schema import Column, Schema
from features.targets import TargetBlock
from features.tfrecord import read_records
from models.backend import tf
from models.estimates import sigmoid
from models.heads import click_logit
from models.methods import METHODS
from models.seeds import seed_for
from pipeline.config import plain
from pipeline.distill import distill
from pipeline.evaluate import evaluate, load_student
from pipeline.export import Asked, export
from pipeline.exported_model import ExportedModel
from pipeline.generations import Generations, generation_config, train_generations
from pipeline.keys import finished_students, student_key, student_sources
from pipeline.served_student import WEIGHTS, read_weights
from pipeline.settings import StudentConfig
from pipeline.student_data import StudentData
from pipeline.student_rules import require_teachable
from pipeline.workspace import EXAMPLES, TARGETS, Run

COLUMNS = (("click", "label"), ("n", "integer"), ("ad", "categorical"), ("site", "categorical"), ("bought", "outcome"))
SCHEMA = Schema(tuple(Column(*column) for column in COLUMNS), ",")
ROWS = 2000
CONFIG: dict[str, Any] = {
    "min_count": 1,
    "epochs": 1.0,
    "batch_size": 128,
    "evaluations": 2,
    "learning_rate": 0.02,
    "averaging": 0.0,
    "hidden": 4,
    "embedding_dropout": 0.0,
    "field_dropout": 0.0,
    "served": "float32",
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in which a fifth of the rows click, by their ad, and most rows have the outcome."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("log") / "log.csv"
    ads, sites = rng.integers(10, size=ROWS), rng.integers(30, size=ROWS)
    clicks, bought = rng.random(ROWS) < 0.04 * (ads + 0.5), rng.random(ROWS) < 0.95
    columns = zip(clicks, rng.integers(9, size=ROWS), ads, sites, bought, strict=True)
    path.write_text("".join(f"{y:d},{n},a{ad},s{site},{o:d}\n" for y, n, ad, site, o in columns))
    return path


@pytest.fixture
def run(log: Path, tmp_path: Path) -> Run:
    return make_run(tmp_path, log, schema=SCHEMA)


def blocks_of(run: Run, split: str) -> list[Block]:
    found: list[Block] = []
    for shard in run.shards(split):
        with open(run.file(EXAMPLES, shard["path"]), "rb") as file:
            found += read_blocks(file, shard["path"])
    return found


def batch_of(block: Block) -> dict[str, tf.Tensor]:
    return {
        "ids": tf.constant(block.ids),
        "dense": tf.constant(block.dense),
        "fold": tf.constant(block.folds.astype(np.int32)),
    }


def write_targets(run: Run, label: str = "") -> None:
    """Targets of a teacher that is gone: two subclasses a class, a click logit near 3 whatever the row."""
    add_targets(run)
    rng = np.random.default_rng(1)

    def near_three(block: TargetBlock) -> TargetBlock:
        z = rng.normal(0, 0.3, (len(block.offsets), 4)) + [-1.5, -1.5, 1.5, 1.5]
        return replace(block, logits=z.astype(np.float32))

    for shard in run.manifest(TARGETS)["shards"]:
        rewrite_targets(run, shard["path"], near_three)
    values = {"label": label, "parameters": 1, "folds": 0, "calibration": {}, "settings": {}}
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest.update(values))


def train(run: Run, method: str, config: StudentConfig) -> Generations:
    """What a call of ``distill`` that is killed before its export leaves behind."""
    origin = {"sources": student_sources(run, method), "settings": plain(config)}
    run.begin(f"students/{method}", student_key(run, method, config), origin)
    return train_generations(run, StudentData.read(run, METHODS[method]), method, config)


def test_the_first_generation_has_the_settings_of_a_single_one() -> None:
    config = StudentConfig(generations=3, seed=5)
    assert generation_config(config, 1) == config
    seeds = [generation_config(config, number).seed for number in (1, 2, 3)]
    assert seeds == [5, seed_for(5, "generation_2"), seed_for(5, "generation_3")] and len(set(seeds)) == 3


def test_generations(run: Run, tmp_path: Path) -> None:
    config = StudentConfig(generations=2, **CONFIG)
    stage, ensemble = "students/hard", "students/hard/ensemble"
    made = train(run, "hard", config)
    assert len(made.trunks) == len(made.histories) == 2
    check_targets(run, made)
    # Nothing is trained again: the seconds of the trainings are those of before.
    assert distill(run, "hard", config)
    for history, name in zip(made.histories, ("history-1.csv", "history.csv"), strict=True):
        assert pd.read_csv(run.file(stage, name))["seconds"].tolist() == pytest.approx(history["seconds"].tolist())
    metrics = json.loads(Path(run.file(stage, "metrics.json")).read_text())
    best = [history["valid_logloss"].min() for history in made.histories]
    assert [generation["valid_logloss"] for generation in metrics["generations"]] == best
    assert metrics["valid_logloss"] == best[-1]
    block = Block.concatenate(blocks_of(run, "test"))
    check_export(run, stage, made, block, slice(1, 2))
    check_export(run, ensemble, made, block, slice(0, 2))
    parameters = [run.manifest(name)["parameters"] for name in (stage, ensemble)]
    assert parameters[1] == 2 * parameters[0]
    (last,), both = (read_weights(run.file(name, WEIGHTS)) for name in (stage, ensemble))
    assert len(both) == 2
    assert all(np.array_equal(array, both[1].to_arrays()[name]) for name, array in last.to_arrays().items())
    exported = ExportedModel(export(run, ensemble, str(tmp_path / "export"), Asked(served="float32")).path)
    assert np.array_equal(exported.logits(block.ids, block.dense), load_student(run, ensemble)(block))
    assert not list(Path(run.file(stage)).rglob("targets")) and not list(Path(run.file(stage)).rglob("checkpoints"))
    assert distill(run, "hard", config) is False
    write_targets(run)
    assert finished_students(run) == [stage, ensemble]
    assert evaluate(run)
    found = json.loads(Path(run.file("report", "metrics.json")).read_text())["models"]
    assert list(found) == ["teacher", stage, ensemble]
    assert {"test", "parameters", "bytes", "rows_per_second", "calibration", "settings"} <= set(found[ensemble])
    # The first generation is the student that there is without generations; the ensemble goes with the student.
    assert distill(run, "hard", StudentConfig(**CONFIG))
    first = pd.read_csv(run.file(stage, "history.csv")).drop(columns="seconds")
    pd.testing.assert_frame_equal(first, made.histories[0].drop(columns="seconds"), rtol=1e-3)
    assert not Path(run.file(ensemble)).exists() and finished_students(run) == [stage]


def check_targets(run: Run, made: Generations) -> None:
    """Generation 2 has learned from the logits of generation 1 on the training rows."""
    blocks = blocks_of(run, "train")
    targets = []
    for shard in run.shards("train"):
        path = run.file("students/hard/generations/2/targets", shard["path"])
        with open(path, "rb") as file:
            targets += [TargetBlock.decode(record) for record in read_records(file, path)]
    assert len(targets) == len(blocks) and len({target.teacher for target in targets}) == 1
    for block, target in zip(blocks, targets, strict=True):
        assert target.offsets.tolist() == block.offsets.tolist()
        expected = made.trunks[0](*made.last.student.look_up(batch_of(block))).numpy()
        np.testing.assert_allclose(target.logits, expected, rtol=1e-5, atol=1e-6)


def check_export(run: Run, stage: str, made: Generations, block: Block, chosen: slice) -> None:
    """The exported model has the calibrated mean click logit of some generations."""
    inputs = made.last.student.look_up(batch_of(block))
    mean = np.mean([click_logit(trunk(*inputs)).numpy() for trunk in made.trunks[chosen]], axis=0)
    calibration = run.manifest(stage)["calibration"]
    expected = mean * calibration["scale"] + calibration["shift"]
    np.testing.assert_allclose(load_student(run, stage)(block), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["kd", "subclass"])
def test_a_teacher_of_an_outcome(run: Run, method: str) -> None:
    """Its targets are near 0.95; a student that took them for click probabilities would be far from 0.2."""
    write_targets(run, "bought")
    config = StudentConfig(alpha=0.8, **CONFIG)
    assert distill(run, method, config)
    block = Block.concatenate(blocks_of(run, "test"))
    logits = load_student(run, f"students/{method}")(block)
    assert sigmoid(logits).mean() == pytest.approx(block.labels.mean(), abs=0.06)
    # As it was trained; calibration would make up for much.
    manifest = run.manifest(f"students/{method}")
    calibration = manifest["calibration"]
    raw = (logits - calibration["shift"]) / calibration["scale"]
    assert sigmoid(raw).mean() == pytest.approx(block.labels.mean(), abs=0.06)
    # Two categorical columns and a numeric one: 4 floats each, and the number, to 4 units and to two logits.
    spec, hidden = run.spec(), (3 * 4 + 1) * 4 + 4
    rows = sum(spec.vocabulary_ids) + len(spec.numeric[0].standardised_edges()) + 2
    assert manifest["settings"]["min_count"] == 1
    assert manifest["parameters"] == rows * (4 + 1) + hidden + 4 * 2 + 2 + 1


def test_a_student_must_learn_from_labels_if_the_teacher_has_learned_an_outcome(run: Run) -> None:
    write_targets(run, "bought")
    with pytest.raises(
        ConfigError, match=r"^alpha must be below 1 where the teacher has learned bought: .* Received: 1.0\.$"
    ):
        distill(run, "kd", StudentConfig(**{**CONFIG, "alpha": 1.0}))


@pytest.mark.parametrize("name", ["correction", "relations"])
def test_what_joins_labels_and_targets_is_refused_if_the_teacher_has_learned_an_outcome(run: Run, name: str) -> None:
    write_targets(run, "bought")
    data = StudentData.read(run, METHODS["kd"])
    config = StudentConfig(**{**CONFIG, "alpha": 0.5, name: 1.0})
    with pytest.raises(ConfigError, match=rf"^{name} must be 0 where the teacher has learned bought: "):
        require_teachable(data, "kd", config)


def test_the_head_of_a_teacher_that_has_learned_an_outcome_is_not_reused(run: Run) -> None:
    write_targets(run, "bought")
    data = StudentData.read(run, METHODS["hard_k"])
    config = StudentConfig(**{**CONFIG, "reused": 1.0})
    with pytest.raises(ConfigError, match=r"^reused must be 0 where the teacher has learned bought\."):
        require_teachable(data, "hard_k", config)

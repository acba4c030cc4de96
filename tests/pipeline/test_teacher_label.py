"""A teacher of an outcome: it learns, is calibrated on, and is measured by that column, and says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss
from support import TEACHER

from features.blocks import Block
from features.errors import ConfigError
from features.schema import Column, Schema
from models.estimates import sigmoid, subclass_click_logits
from pipeline import storage
from pipeline.beam import make_options
from pipeline.config import build
from pipeline.evaluate import evaluate
from pipeline.precompute import precompute
from pipeline.preprocess import preprocess
from pipeline.report import read_metrics, report, terminal_tables
from pipeline.settings import PreprocessConfig, TeacherConfig
from pipeline.stored_rows import labels_of, outcome_of, read_with_targets
from pipeline.teacher_data import TeacherData
from pipeline.train_teacher import train_teacher
from pipeline.workspace import Run

ROWS = 2000
SCHEMA = Schema(
    (
        Column("clicked", "label"),
        Column("seen", "outcome"),
        Column("bought", "outcome"),
        Column("importance", "weight"),
        Column("price", "float"),
        Column("ad", "categorical"),
    ),
    ",",
    header=True,
)


def write_log(path: Path) -> None:
    """What is bought depends on the ad, what is clicked on the price."""
    generator = np.random.default_rng(0)
    ad, price = generator.integers(10, size=ROWS), generator.normal(size=ROWS)
    table = {
        "clicked": generator.random(ROWS) < sigmoid(3 * price),
        "seen": np.ones(ROWS),
        "bought": generator.random(ROWS) < np.where(ad < 3, 0.5, 0.05),
        "importance": generator.choice([0.5, 2.0], size=ROWS),
        "price": price,
        "ad": ad,
    }
    frame = pd.DataFrame(table).astype({"clicked": int, "seen": int, "bought": int})
    frame.to_csv(path, index=False)


def config(**values: str) -> TeacherConfig:
    small = {"epochs": "2", "hidden": "8", "crosses": "2", "folds": "0", "boosted": "0.2", "boosted_trees": "10"}
    settings = {name.replace("-", "_"): value for name, value in TEACHER.items()} | small | values
    made: TeacherConfig = build(TeacherConfig, settings, "teacher")
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("label")
    write_log(folder / "log.csv")
    made, options = Run(str(folder / "run")), make_options((), 1)
    preprocess(made, [str(folder / "log.csv")], SCHEMA, PreprocessConfig(split="1200/800/0"), options)
    train_teacher(made, config(label="bought"))
    precompute(made, options)
    evaluate(made)
    return made


@pytest.fixture(scope="module")
def valid(run: Run) -> tuple[Block, np.ndarray]:
    """The validation rows and what the targets say of them."""
    pairs = []
    for shard in run.shards("valid"):
        paths = run.file("examples", shard["path"]), run.file("targets", shard["path"])
        pairs += list(read_with_targets(*paths, run.manifest("targets")["teacher"]))
    z = np.concatenate([target.logits for _, target in pairs])
    return Block.concatenate([block for block, _ in pairs]), sigmoid(subclass_click_logits(z))


def test_it_predicts_the_outcome_and_not_the_click(valid: tuple[Block, np.ndarray]) -> None:
    block, p = valid
    assert block.outcomes is not None and block.weights is not None
    bought = block.outcomes[:, 1]
    assert np.average(p, weights=block.weights) == pytest.approx(np.average(bought, weights=block.weights), abs=1e-5)
    # The price says almost all about the click; an overfitted teacher of the purchase looks at it a little.
    assert np.corrcoef(p, bought)[0, 1] > 0.35 and abs(np.corrcoef(p, block.labels)[0, 1]) < 0.25


def test_it_is_measured_by_the_outcome(run: Run, valid: tuple[Block, np.ndarray]) -> None:
    block, p = valid
    assert block.outcomes is not None
    teacher = storage.read_json(run.file("report/metrics.json"))["models"]["teacher"]
    expected = log_loss(block.outcomes[:, 1], p, sample_weight=block.weights)
    assert teacher["valid"]["logloss"] == pytest.approx(expected, abs=1e-6)
    assert teacher["label"] == "bought"


def test_manifests_name_it(run: Run) -> None:
    assert run.manifest("teacher")["label"] == run.manifest("targets")["label"] == "bought"


@pytest.mark.parametrize("folds", ["0", "2"])
def test_a_head_begins_at_the_rate_of_the_rows_that_it_may_see(run: Run, folds: str) -> None:
    data = TeacherData.read(run, config(label="bought"))
    parts = [
        list(read_with_targets(path, path.replace("/examples/", "/targets/"), run.manifest("targets")["teacher"]))
        for path in data.training.examples
    ]
    block = Block.concatenate([block for pairs in parts for block, _ in pairs])
    assert block.outcomes is not None and block.weights is not None
    seen = block.folds % 2 != 0 if folds == "2" else np.ones(len(block), bool)
    expected = np.average(block.outcomes[seen, 1], weights=block.weights[seen])
    assert data.tables(config(label="bought", folds=folds), 0).base_rate == pytest.approx(expected, abs=1e-6)
    always = TeacherData.read(run, config(label="seen"))
    assert always.tables(config(label="seen"), 0).base_rate == 1 - 1e-6, "a head cannot begin at certainty"


def test_labels_of_a_block(run: Run, valid: tuple[Block, np.ndarray]) -> None:
    spec, (block, _) = run.spec(), valid
    assert block.outcomes is not None
    assert outcome_of(spec, "") is None and outcome_of(spec, "bought") == 1
    assert labels_of(block, None) is block.labels
    assert np.array_equal(labels_of(block, 1), block.outcomes[:, 1])
    with pytest.raises(ConfigError, match=r"one of its outcomes \(seen, bought\). Received: clicked.$"):
        outcome_of(spec, "clicked")


def test_the_page_and_the_terminal_say_so(run: Run) -> None:
    report(run)
    text = "The teacher has learned bought, not the click: its figures are of bought."
    assert text in Path(run.file("report/index.html")).read_text()
    assert text in terminal_tables(read_metrics(run))

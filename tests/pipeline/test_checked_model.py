"""A student to be checked: rows as preprocessing stores them, and the same answer by both signatures."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from small_run import SCHEMA, make_run, read_shard, write_log
from support import ROWS, Made

from features.blocks import Block
from features.errors import ArtifactError
from features.rows import ParsedRows
from features.schema import CRITEO, Schema
from features.transform import Transform
from pipeline import storage
from pipeline.analyze import read_values
from pipeline.checked_model import CheckedModel, to_block
from pipeline.predict_plan import find_tasks
from pipeline.reading import read_ranges
from pipeline.workspace import EXAMPLES


def parsed(path: Path, schema: Schema) -> list[ParsedRows]:
    tasks = find_tasks(storage.find_inputs([str(path)]), schema)
    return [part for task, _ in tasks for found in read_ranges(task, schema) for part in found.parts]


def test_blocks_are_those_of_preprocessing(tmp_path: Path) -> None:
    """Of a log with weights and groups; only order and folds differ."""
    log = write_log(tmp_path / "log.csv")
    run = make_run(tmp_path, log)
    folder, spec = run.file(EXAMPLES, "vocabulary"), run.spec()
    transform = Transform(spec.numeric, tuple(read_values(folder, name) for name in SCHEMA.categorical))
    (rows,) = parsed(log, SCHEMA)
    found = to_block(rows, SCHEMA, transform)
    stored: list[Block] = [
        block for shard in run.manifest(EXAMPLES)["shards"] for block in read_shard(run, shard["path"])
    ]
    order = np.argsort(np.concatenate([block.offsets for block in stored]))
    for name in (field.name for field in fields(Block)):
        if name not in ("folds", "outcomes"):
            expected = np.concatenate([getattr(block, name) for block in stored])[order]
            np.testing.assert_array_equal(getattr(found, name), expected, err_msg=name)


@pytest.fixture(scope="module")
def model(made: Made) -> CheckedModel:
    return CheckedModel(made.run.file("students/subclass", "model"), "MODEL")


def test_both_signatures_agree(made: Made, model: CheckedModel) -> None:
    parts = parsed(made.log, CRITEO)
    assert sum(map(len, parts)) == ROWS and model.schema == CRITEO and model.negative_rate == 1
    chosen = np.arange(0, len(parts[0]), 7)
    probabilities = model.answer(model.request(parts[0], chosen))
    logits = model.logits(model.block(parts[0]))
    np.testing.assert_allclose(probabilities, expit(logits)[chosen], rtol=0, atol=1e-6)


def test_a_student_that_has_lost_its_mind(made: Made) -> None:
    model = CheckedModel(made.run.file("students/hard", "model"), "MODEL")
    block = model.block(parsed(made.log, CRITEO)[0])
    model.exported.loaded._calibration.assign([np.nan, 0.0])
    with pytest.raises(ArtifactError, match=r"must be finite\. Received: [1-9]\d* that are not \(.*model/1\)"):
        model.logits(block)

"""A teacher in memory: the subclasses of its parts in one order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_teacher_embeddings import OUTPUTS, Fake

from features.blocks import Block
from features.errors import ArtifactError
from models.backend import tf
from models.estimates import mean_of_teachers
from pipeline.loaded_teacher import LoadedTeacher, TeacherFiles

ORDERS = ([0, 1, 2, 3], [1, 0, 3, 2])
RNG = np.random.default_rng(0)
BLOCK = Block(
    np.zeros(40, np.uint8),
    RNG.normal(size=(40, 2)).astype(np.float32),
    RNG.integers(9, size=(40, 3)).astype(np.int32),
    (np.arange(40) % 10).astype(np.uint8),
    np.arange(40),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    tf.saved_model.save(Fake((2, 3)), str(folder / "model"))
    return folder


def manifest(**more: object) -> dict[str, object]:
    return {"models": ["model", "model"], "folds": 2, "fingerprint": "f", **more}


def test_each_part_speaks_in_the_order_of_the_first(model: Path) -> None:
    plain = LoadedTeacher(TeacherFiles.of(str(model), manifest()))
    aligned = LoadedTeacher(TeacherFiles.of(str(model), manifest(alignment=[list(order) for order in ORDERS])))
    before, after = (teacher.score(BLOCK, training=True) for teacher in (plain, aligned))
    assert before.shape == (40, OUTPUTS)
    for part, order in enumerate(ORDERS):
        rows = BLOCK.folds % 2 == part
        np.testing.assert_array_equal(after[rows], before[rows][:, order])
    # Other rows: the conditionals of the first part, whose order is its own.
    before, after = (teacher.score(BLOCK, training=False) for teacher in (plain, aligned))
    np.testing.assert_allclose(after, mean_of_teachers([before, before[:, ORDERS[1]]]), rtol=1e-6)


def test_a_teacher_without_alignment_has_no_order() -> None:
    assert TeacherFiles.of("folder", manifest()).alignment == ()
    assert TeacherFiles.of("folder", manifest(alignment=[[0, 1]])).alignment == ((0, 1),)


def test_a_teacher_that_is_older_than_its_members(model: Path) -> None:
    loaded = LoadedTeacher(TeacherFiles.of(str(model), manifest()))
    with pytest.raises(ArtifactError, match="A teacher of several networks must have been exported with its members"):
        loaded.members(BLOCK, training=True)

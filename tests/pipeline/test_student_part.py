"""What a student is trained on, and which students there cannot be."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_targets import KERNEL, OUTPUTS, WIDTH, make_embedded_run, pairs_of
from small_run import change_json

from features.errors import ArtifactError, ConfigError
from models.heads import ReusedHead
from models.inputs import evaluation_batches
from models.methods import METHODS
from pipeline.beam import make_options
from pipeline.derive import derive
from pipeline.distill import distill
from pipeline.fitting import Circumstances
from pipeline.settings import DerivedConfig, StudentConfig
from pipeline.student_part import StudentData, train_student
from pipeline.workspace import Run

TINY = StudentConfig(min_count=1, epochs=1.0, batch_size=256, evaluations=1, hidden=4, averaging=0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_embedded_run(tmp_path_factory.mktemp("student"))
    derive(run, "random", DerivedConfig(), make_options((), 1))
    return run


def make_student(data: StudentData, method: str, folder: Path, **values: Any) -> Any:
    return train_student(data, method, replace(TINY, **values), Circumstances(lambda rows, note: None, str(folder)))


@pytest.mark.parametrize(
    ("method", "embeddings", "outputs", "width"),
    [
        ("hard", False, 0, 0),
        ("hard", True, OUTPUTS, WIDTH),
        ("kd", False, OUTPUTS, 0),
        ("random", True, OUTPUTS, WIDTH),
    ],
)
def test_what_is_read(run: Run, method: str, embeddings: bool, outputs: int, width: int) -> None:
    data = StudentData.read(run, METHODS[method], embeddings)
    assert (data.training.outputs, data.training.embedding) == (outputs, width)
    assert (data.head is not None) == (embeddings and method != "random")
    folder = "derived/random" if method == "random" else "targets"
    assert all(f"/{folder}/" in path for path in data.training.targets)
    if width:
        found = np.concatenate([batch["embedding"].numpy() for batch in evaluation_batches(data.training)])
        stored = [target.embedding for _, target in pairs_of(run, "train") if target.embedding is not None]
        np.testing.assert_array_equal(found, np.concatenate(stored).astype(np.float32))


def test_embeddings_that_are_not_there(run: Run, tmp_path: Path) -> None:
    copy = Run(str(tmp_path / "copy"))
    shutil.copytree(run.path, copy.path)
    change_json(copy.file("targets", "manifest.json"), lambda manifest: manifest.update(embedding=0))
    with pytest.raises(ArtifactError, match=r"Targets must have embeddings.* --embedding 32 --run"):
        StudentData.read(copy, METHODS["hard"], embeddings=True)


def test_a_reused_head_is_the_teachers(run: Run, tmp_path: Path) -> None:
    data = StudentData.read(run, METHODS["subclass"], embeddings=True)
    trained = make_student(data, "subclass", tmp_path, reused=0.5)
    head = trained.student.trunk.head
    assert isinstance(head, ReusedHead)
    np.testing.assert_array_equal(head.teacher_kernel.numpy(), KERNEL)


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("kd", {"reused": 0.5}, "reused must be 0 for a head of two logits. Received: class"),
        ("hard", {"reused": 0.5}, "reused must be 0 for a head of two logits. Received: none"),
        ("random", {"reused": 0.5}, "reused must be 0 for derived targets and gated teachers.* targets of random"),
        (
            "subclass",
            {"reused": 0.5, "auxiliary_head": True, "alpha": 0.5},
            "reused must be 0 for a head of two logits. Received: subclass",
        ),
        (
            "kd",
            {"auxiliary_head": True, "alpha": 1.0},
            "alpha must be below 1 where the targets have a head of their own: .* Received: 1.0.$",
        ),
    ],
)
def test_students_that_cannot_be(run: Run, tmp_path: Path, method: str, values: dict[str, Any], message: str) -> None:
    data = StudentData.read(run, METHODS[method], "reused" in values)
    with pytest.raises(ConfigError, match=message):
        make_student(data, method, tmp_path, **values)


def test_generations_have_no_embeddings(run: Run) -> None:
    with pytest.raises(ConfigError, match="generations must be 1 for students that learn from embeddings. Received: 2"):
        distill(run, "kd", replace(TINY, similarity=1.0, generations=2))

"""What a student is trained on, and which students there cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_targets import KERNEL, OUTPUTS, WIDTH, embed_targets, make_embedded_run, pairs_of
from scipy.special import expit
from sklearn.metrics import brier_score_loss
from small_run import add_targets, change_json, make_run, read_shard, rewrite_targets, write_log

from features.errors import ArtifactError, ConfigError
from features.targets import TargetBlock
from features.vocabulary import UNSEEN
from models.calibration import Calibration
from models.heads import ReusedHead
from models.inputs import evaluation_batches
from models.methods import METHODS
from pipeline.beam import make_options
from pipeline.derive import derive
from pipeline.distill import distill
from pipeline.fitting import Circumstances
from pipeline.originals import Original, original_student
from pipeline.settings import DerivedConfig, StudentConfig
from pipeline.student_data import StudentData
from pipeline.student_part import train_student
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
        ("kd", {"reused": 0.5}, r"reused must be 0 for a student whose own head has two logits. Received: 0.5 \(kd\)"),
        (
            "hard",
            {"reused": 0.5},
            r"reused must be 0 for a student whose own head has two logits. Received: 0.5 \(hard\)",
        ),
        ("random", {"reused": 0.5}, r"reused must be 0 without a linear head of the teacher: .* \(targets of random\)"),
        (
            "subclass",
            {"reused": 0.5, "auxiliary_head": True, "alpha": 0.5},
            r"reused must be 0 for a student whose own head has two logits. Received: 0.5 \(subclass\)",
        ),
        (
            "kd",
            {"auxiliary_head": True, "alpha": 1.0},
            "alpha must be below 1 where the targets have a head of their own: .* Received: 1.0.$",
        ),
        (
            "subclass",
            {"class_weight": 0.0, "alpha": 1.0},
            "alpha must be below 1 where class_weight is 0: .* Received: 1.0.$",
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


ALPHA = 0.6
SLICED = replace(TINY, slice_alpha=True, alpha=ALPHA)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with many validation rows, whose teacher knows the labels of rows with frequent values better."""
    folder = tmp_path_factory.mktemp("judged")
    logs = [write_log(folder / f"{number}.csv") for number in range(4)]
    run = make_run(folder, *logs, split="hash:user:12/80/8")
    add_targets(run)
    embed_targets(run)
    for shard in run.shards("valid"):
        blocks = iter(read_shard(run, shard["path"]))

        def known(target: TargetBlock, blocks: Any = blocks) -> TargetBlock:
            block, logits = next(blocks), np.zeros_like(target.logits)
            strength = np.where((block.ids == UNSEEN).any(axis=1), 0.3, np.where(block.ids[:, 1] < 20, 1.5, 0.8))
            logits[:, 2:] = ((2.0 * block.labels - 1) * strength)[:, np.newaxis]
            return replace(target, logits=logits)

        rewrite_targets(run, shard["path"], known)
    return run


def skills_of(run: Run) -> list[float]:
    """Brier skill on the slices of values seen never, 1 to 9 times, and 10 to 99 times, by scikit-learn."""
    data, pairs = StudentData.read(run, METHODS["kd"]), pairs_of(run, "valid")
    labels, weights, ids = (
        np.concatenate([getattr(block, name) for block, _ in pairs]) for name in ("labels", "weights", "ids")
    )
    # Both subclasses of a class have the same logit.
    p = np.concatenate([expit(target.logits[:, 2] - target.logits[:, 0]) for _, target in pairs])
    counts = [vocabulary.counts.sum(axis=1) for vocabulary in data.vocabularies]
    rarest, skills = np.minimum(counts[0][ids[:, 0]], counts[1][ids[:, 1]]), []
    for low, high in ((0, 1), (1, 10), (10, 100)):
        rows = (rarest >= low) & (rarest < high)
        assert rows.sum() > 200
        rate = np.full(rows.sum(), np.average(labels[rows], weights=weights[rows]))
        losses = [brier_score_loss(labels[rows], q, sample_weight=weights[rows]) for q in (p[rows], rate)]
        skills.append(1 - losses[0] / losses[1])
    return skills


def test_alphas_are_those_of_the_validation_rows(judged: Run) -> None:
    """They are written beside the student, where a refit finds them."""
    never, few, some = skills_of(judged)
    assert 0 < never < few < some
    assert distill(judged, "kd", SLICED)
    stored = judged.manifest("students/kd")["slice_alphas"]
    expected = [ALPHA * never / some, ALPHA * few / some, *[ALPHA] * 9]
    np.testing.assert_allclose(stored, expected, rtol=1e-5)
    original = original_student(judged, "kd", SLICED)
    assert original.slice_alphas == tuple(stored)


def test_a_refit_takes_the_alphas_of_its_original(judged: Run, tmp_path: Path) -> None:
    alphas = tuple(np.linspace(0, 1, 11))
    original = Original(2, 4, (), Calibration(), alphas)
    circumstances = Circumstances(lambda rows, note: None, str(tmp_path), original)
    data = replace(StudentData.read(judged, METHODS["kd"]), validation=None, judged=None)
    trained = train_student(data, "kd", SLICED, circumstances)
    np.testing.assert_array_equal(trained.slice_alphas, np.float32(alphas))


@pytest.mark.parametrize(("method", "sliced"), [("hard", True), ("kd", False)])
def test_one_alpha_for_all_rows(judged: Run, tmp_path: Path, method: str, sliced: bool) -> None:
    trained = make_student(StudentData.read(judged, METHODS[method]), method, tmp_path, slice_alpha=sliced)
    assert trained.slice_alphas is None


def test_alphas_need_validation_rows(run: Run, judged: Run, tmp_path: Path) -> None:
    data = StudentData.read(judged, METHODS["kd"])
    with pytest.raises(ConfigError, match=r"slice_alpha must be false without validation rows that have targets"):
        make_student(replace(data, judged=None), "kd", tmp_path, slice_alpha=True)
    with pytest.raises(ConfigError, match=r"slice_alpha must be false where no slice has 200 validation rows"):
        make_student(StudentData.read(run, METHODS["kd"]), "kd", tmp_path, slice_alpha=True)


@pytest.mark.parametrize("values", [{"slice_alpha": True}, {"member_gate": True}])
def test_what_a_student_cannot_give_is_of_one_generation(judged: Run, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"generations must be 1 with slice_alpha or member_gate.* Received: 2"):
        distill(judged, "kd", replace(TINY, generations=2, **values))


GATED = replace(TINY, member_gate=True)


@pytest.fixture(scope="module")
def members(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run whose teacher has three members, each of which is another shift of its click logits."""
    copy = Run(str(tmp_path_factory.mktemp("members") / "run"))
    shutil.copytree(run.path, copy.path)

    def with_members(target: TargetBlock) -> TargetBlock:
        clicks = target.logits[:, 2] - target.logits[:, 0]
        return replace(target, members=np.stack([clicks, clicks - 1, 2 - clicks], axis=1).astype(np.float32))

    for shard in copy.manifest("targets")["shards"]:
        rewrite_targets(copy, shard["path"], with_members)
    change_json(copy.file("targets", "manifest.json"), lambda manifest: manifest.update(members=3))
    return copy


def test_a_gate_that_has_learned(members: Run) -> None:
    """Its mean entropy is beside the student, and lies below that of equal weights."""
    assert distill(members, "kd", replace(GATED, learning_rate=0.1, epochs=4.0))
    metrics = json.loads(Path(members.file("students/kd/metrics.json")).read_text())
    assert 0 < metrics["gate_entropy"] < np.log(3) - 1e-4


def test_without_validation_rows_a_gate_has_no_entropy(members: Run, tmp_path: Path) -> None:
    data = StudentData.read(members, METHODS["kd"])
    assert data.members == 3
    trained = make_student(replace(data, judged=None), "kd", tmp_path, member_gate=True)
    assert trained.gate_entropy is None and trained.student.gate is not None


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("subclass", {}, "member_gate must be false for a method that learns subclasses. Received: subclass"),
        ("kd", {"correction": 0.1}, "correction must be 0 with member_gate. Received: 0.1"),
        ("kd_k", {}, "member_gate must be false unless targets have a teacher's members: .* targets of teacher"),
    ],
)
def test_gates_that_cannot_be(run: Run, tmp_path: Path, method: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_student(StudentData.read(run, METHODS[method]), method, tmp_path, member_gate=True, **values)


def test_a_student_of_labels_has_no_gate(members: Run, tmp_path: Path) -> None:
    trained = make_student(StudentData.read(members, METHODS["hard"]), "hard", tmp_path, member_gate=True)
    assert trained.student.gate is None and trained.gate_entropy is None

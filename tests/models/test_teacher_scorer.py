"""Embeddings of a teacher, and its head on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_teacher import CATEGORICAL, ENSEMBLE, NUMERIC, S, make_batch, make_teacher, randomise

from models.backend import tf
from models.calibration import Calibration
from models.projections import Moments, Projection
from models.teacher import Teacher
from models.teacher_scorer import TeacherScorer


def saved(teacher: Teacher, folder: Path) -> tf.Module:
    """What ``precompute`` loads; its calibration plays no part in embeddings and head."""
    randomise(teacher)
    TeacherScorer(teacher.trunk, (NUMERIC, CATEGORICAL), Calibration(0.5, 2.0)).save(str(folder))
    return tf.saved_model.load(str(folder))


def embedded(scorer: tf.Module, batch: dict[str, tf.Tensor]) -> np.ndarray:
    hidden: np.ndarray = scorer.embed(batch["ids"], batch["dense"], batch["fold"])["hidden"].numpy()
    return hidden


def linear_part(teacher: Teacher, batch: dict[str, tf.Tensor]) -> np.ndarray:
    """The mean of the members' linear parts: float64 [batch]."""
    rows, numbers = teacher.trunk._inputs(batch)
    parts = [member.embeddings(rows)[1] + member.linear(numbers)[:, 0] for member in teacher.trunk.members]
    return np.mean([part.numpy().astype(np.float64) for part in parts], axis=0)


@pytest.mark.parametrize("architecture", ["mlp", "dcn", "dlrm", "mlp, dcn,dlrm"])
def test_the_head_on_embeddings_gives_the_logits_less_the_linear_part(architecture: str, tmp_path: Path) -> None:
    teacher, batch = make_teacher(architecture=architecture), make_batch(40)
    scorer = saved(teacher, tmp_path)
    head = scorer.head()
    hidden = embedded(scorer, batch).astype(np.float64)
    kernel, bias = (head[name].numpy().astype(np.float64) for name in ("kernel", "bias"))
    assert kernel.shape == (hidden.shape[1], 2 * S) and bias.shape == (2 * S,)
    expected = teacher(batch).numpy().astype(np.float64)
    expected[:, S:] -= linear_part(teacher, batch)[:, np.newaxis]
    np.testing.assert_allclose(hidden @ kernel + bias, expected, rtol=1e-4, atol=1e-4)
    # On all directions of the embeddings the head says the same.
    projection = Projection.principal(Moments.of(embedded(scorer, make_batch(300, 1))), hidden.shape[1])
    own_kernel, own_bias = projection.head(kernel.astype(np.float32), bias.astype(np.float32))
    stored = projection.apply(hidden.astype(np.float32)).astype(np.float64)
    np.testing.assert_allclose(stored @ own_kernel + own_bias, expected, atol=0.03)


def test_members_lie_side_by_side(tmp_path: Path) -> None:
    teacher, batch = make_teacher(architecture="mlp,dcn"), make_batch(10)
    found = embedded(saved(teacher, tmp_path), batch)
    rows, numbers = teacher.trunk._inputs(batch)
    widths = [member.head.kernel.shape[0] for member in teacher.trunk.members]
    assert found.shape == (10, sum(widths))
    second = teacher.trunk.members[1].hidden(rows, numbers)
    np.testing.assert_allclose(found[:, widths[0] :], second, rtol=1e-5, atol=1e-5)


def test_bilinear_logits_are_not_in_the_head(tmp_path: Path) -> None:
    """FinalMLP adds logits that are not linear in its hidden layers."""
    teacher, batch = make_teacher(architecture="finalmlp"), make_batch(10)
    scorer = saved(teacher, tmp_path)
    head = {name: value.numpy() for name, value in scorer.head().items()}
    (member,) = teacher.trunk.members
    rows, numbers = teacher.trunk._inputs(batch)
    outputs = member.body(member.embeddings(rows)[0], numbers)
    expected = teacher(batch).numpy() - outputs.logits.numpy()
    expected[:, S:] -= linear_part(teacher, batch)[:, np.newaxis].astype(np.float32)
    np.testing.assert_allclose(embedded(scorer, batch) @ head["kernel"] + head["bias"], expected, rtol=1e-4, atol=1e-4)


def test_a_gated_teacher_has_embeddings_and_no_head(tmp_path: Path) -> None:
    teacher = make_teacher(architecture=ENSEMBLE, ensemble="gated")
    scorer = saved(teacher, tmp_path)
    assert embedded(scorer, make_batch(3)).shape[0] == 3
    assert scorer.head() == {} and teacher.trunk.head() is None


@pytest.mark.parametrize("ensemble", ["mean", "gated"])
def test_click_logits_of_the_members(ensemble: str, tmp_path: Path) -> None:
    """Each on the calibration of the whole."""
    teacher, batch = make_teacher(architecture="mlp,dcn,dlrm", ensemble=ensemble), make_batch(20)
    scorer = saved(teacher, tmp_path)
    found = scorer.members(batch["ids"], batch["dense"], batch["fold"])["clicks"].numpy()
    rows, numbers = teacher.trunk._inputs(batch)
    for number, member in enumerate(teacher.trunk.members):
        e = np.exp(member(rows, numbers).numpy().astype(np.float64))
        clicks = np.log(e[:, S:].sum(axis=1) / e[:, :S].sum(axis=1))
        np.testing.assert_allclose(found[:, number], 0.5 * clicks + 2.0, rtol=1e-4, atol=1e-4)


def test_one_network_has_no_members(tmp_path: Path) -> None:
    assert not hasattr(saved(make_teacher(architecture="dcn"), tmp_path), "members")

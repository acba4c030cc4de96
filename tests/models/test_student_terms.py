"""The terms of a student's loss: their rows, weights and variables; the losses themselves have tests of their own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from features.statistics import ClickCounts
from models.backend import tf
from models.heads import ReusedHead, click_logit
from models.ranking import ranking_loss
from models.relations import pseudo_labels, relation_loss, similarity_loss
from models.student_terms import MemberGate, RowAlphas, StudentTerms, TermSettings
from pipeline.config import narrow
from pipeline.settings import StudentConfig

ROWS, WIDTH, E, S = 20, 6, 4, 3
RNG = np.random.default_rng(0)
DEEP = tf.constant(RNG.normal(size=(ROWS, WIDTH)), tf.float32)
Z = tf.constant(RNG.normal(size=(ROWS, 2)), tf.float32)
P = tf.constant(RNG.random(ROWS), tf.float32)
BATCH = {
    "label": tf.constant(RNG.integers(2, size=ROWS), tf.float32),
    "targets": tf.constant(RNG.normal(size=(ROWS, 2 * S)), tf.float32),
    "embedding": tf.constant(RNG.normal(size=(ROWS, E)), tf.float32),
}
WEIGHTS = tf.constant(RNG.integers(3, size=ROWS), tf.float32)
HEAD = ReusedHead(RNG.normal(size=(E, 2 * S)).astype(np.float32), np.zeros(2 * S, np.float32), seed=1)
HEAD(DEEP)


def make_terms(embedding: int = E, **values: Any) -> StudentTerms:
    settings = dataclasses.replace(narrow(StudentConfig(), TermSettings), **values)
    terms = StudentTerms(settings, embedding, seed=3)
    if terms.projection is not None:
        terms.projection(DEEP)
    return terms


def values_of(terms: StudentTerms, **batch: tf.Tensor) -> list[float]:
    return [float(term) for term in terms.weighted({**BATCH, **batch}, P, DEEP, Z, HEAD)]


def test_by_default_there_are_none() -> None:
    terms = make_terms(embedding=0)
    assert terms.weighted({}, P, DEEP, Z, HEAD) == []
    assert terms.trainable_variables == []


def test_ranking_of_the_first_rows() -> None:
    found = values_of(make_terms(embedding=0, ranking=0.5, ranking_rows=8))
    assert found == [pytest.approx(0.5 * float(ranking_loss(click_logit(Z[:8]), P[:8])), rel=1e-6)]


def test_ranking_takes_weights() -> None:
    terms = make_terms(ranking=1.0, ranking_rows=8)
    expected = float(ranking_loss(click_logit(Z[:8]), P[:8], WEIGHTS[:8]))
    assert values_of(terms, weight=WEIGHTS) == [pytest.approx(expected, rel=1e-6)] != values_of(terms)


def test_similarity_of_the_first_rows() -> None:
    found = values_of(make_terms(similarity=3.0, relation_rows=8), weight=WEIGHTS)
    assert found == [pytest.approx(3 * float(similarity_loss(BATCH["embedding"][:8], DEEP[:8])), rel=1e-6)]


def test_relations_are_those_of_a_projection() -> None:
    terms = make_terms(relations=2.0, relation_rows=8, relations_negatives=2, relations_temperature=0.5)
    (kernel,) = terms.trainable_variables
    assert kernel.shape == (WIDTH, E) and "relations" in kernel.name
    kinds = pseudo_labels(BATCH["label"], BATCH["targets"])[:8]
    expected = relation_loss(BATCH["embedding"][:8], tf.matmul(DEEP, kernel)[:8], kinds, 2, 0.5)
    assert values_of(terms, weight=WEIGHTS) == [pytest.approx(2 * float(expected), rel=1e-5)]


@pytest.mark.parametrize("weighted", [False, True])
def test_reused_is_a_mean_squared_distance(weighted: bool) -> None:
    projected = DEEP.numpy() @ HEAD.kernel.numpy() + HEAD.bias.numpy()
    apart = np.square(projected - BATCH["embedding"].numpy()).mean(axis=1)
    expected = np.average(apart, weights=WEIGHTS.numpy() if weighted else None)
    found = values_of(make_terms(reused=0.1), **({"weight": WEIGHTS} if weighted else {}))
    assert found == [pytest.approx(0.1 * expected, rel=1e-5)]


def test_more_rows_than_the_batch_has() -> None:
    found = values_of(make_terms(ranking=1.0, ranking_rows=1000))
    assert found == [pytest.approx(float(ranking_loss(click_logit(Z), P)), rel=1e-6)]


def test_several_terms_are_several_scalars() -> None:
    assert len(values_of(make_terms(ranking=1.0, similarity=1.0, relations=1.0, reused=1.0))) == 4


@pytest.mark.parametrize("name", ["similarity", "relations", "reused"])
def test_terms_of_embeddings_need_some(name: str) -> None:
    with pytest.raises(ValueError, match=f"`embedding` should be positive for .*{name}=1.0.* Received: embedding=0"):
        make_terms(embedding=0, **{name: 1.0})


def test_the_projection_comes_from_the_seed() -> None:
    one, same = (make_terms(relations=1.0).trainable_variables[0].numpy() for _ in range(2))
    np.testing.assert_array_equal(one, same)


def test_the_rarest_value_decides_on_a_rows_alpha() -> None:
    """Two columns with ids 0 to 3 and 0 to 2. A training row does not count itself."""
    totals = np.array([9, 0, 10, 1000, 100, 0, 10**9])
    counts = np.zeros((7, 10), np.int64)
    counts[:, 3], counts[:, 7] = totals - totals // 2, totals // 2
    zeros = np.zeros(10, np.int64)
    alphas = RowAlphas(
        ClickCounts(np.array([0, 4]), counts, counts, zeros, zeros), (np.arange(11) / 10).astype(np.float32)
    )
    ids = tf.constant([[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2], [2, 2]], tf.int32)
    np.testing.assert_allclose(alphas(ids), [0.1, 0.0, 0.1, 0.2, 0.0, 0.3, 0.1], rtol=1e-6)


CLICKS = RNG.normal(-1, 1, (ROWS, 3)).astype(np.float32)


def make_gate(scale: list[float], shift: list[float]) -> MemberGate:
    gate = MemberGate(len(scale))
    gate.scale.assign(scale)
    gate.shift.assign(shift)
    return gate


def test_members_weigh_the_same_at_the_start() -> None:
    gate = MemberGate(3)
    np.testing.assert_allclose(gate(CLICKS), np.full((ROWS, 3), 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(gate.entropy(CLICKS), np.full(ROWS, np.log(3)), rtol=1e-6)
    np.testing.assert_array_equal(MemberGate(1)(CLICKS[:, :1]), np.ones((ROWS, 1)))
    np.testing.assert_array_equal(MemberGate(1).entropy(CLICKS[:, :1]), np.zeros(ROWS))


def test_weights_and_entropies_of_members() -> None:
    gate = make_gate([0.5, -1.0, 2.0], [0.1, 0.0, -0.3])
    expected = softmax(CLICKS * [0.5, -1.0, 2.0] + [0.1, 0.0, -0.3], axis=1)
    np.testing.assert_allclose(gate(CLICKS), expected, rtol=1e-5)
    np.testing.assert_allclose(gate.entropy(CLICKS), entropy(expected, axis=1), rtol=1e-4)


def test_members_in_another_order_have_their_weights_in_that_order() -> None:
    scale, shift, order = [0.5, -1.0, 2.0], [0.1, 0.0, -0.3], [2, 0, 1]
    before = make_gate(scale, shift)(CLICKS).numpy()
    after = make_gate([scale[i] for i in order], [shift[i] for i in order])(CLICKS[:, order])
    np.testing.assert_allclose(after, before[:, order], rtol=1e-6)


def test_one_member_may_have_all_the_weight() -> None:
    gate = make_gate([0.0, 0.0, 0.0], [200.0, 0.0, -200.0])
    np.testing.assert_array_equal(gate.entropy(CLICKS), np.zeros(ROWS))

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from scipy import special
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import normalized_mutual_info_score

from models.subclasses import (
    SubclassHealth,
    class_blocks,
    class_logits,
    log_softmax,
    normalized_mutual_information,
)

ROWS, S, KINDS = 5000, 4, 6


def sample(noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels, kinds = rng.integers(0, 2, ROWS), rng.integers(0, KINDS, ROWS)
    logits = rng.normal(0, noise, (ROWS, 2 * S))
    for c in (0, 1):
        logits[np.arange(ROWS), c * S + kinds % S] += 2.0
    return logits.astype(np.float32), labels, kinds


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        # log(1 + 2) and log(3 + 4): the odds of the classes are 7 to 3.
        (np.log([[1.0, 2.0, 3.0, 4.0]]), np.log([[3.0, 7.0]])),
        ([[0.3, -0.2]], [[0.3, -0.2]]),
        ([[1000.0, 1000.0, -1000.0, -1000.0]], [[1000 + math.log(2), -1000 + math.log(2)]]),
        ([[-math.inf, 0.5, -math.inf, -math.inf]], [[0.5, -math.inf]]),
        (np.zeros((0, 6)), np.zeros((0, 2))),
    ],
)
def test_class_logits_by_hand(z: object, expected: object) -> None:
    np.testing.assert_allclose(class_logits(np.asarray(z)), np.asarray(expected), rtol=1e-15)


def test_class_logits_and_conditionals_agree_with_scipy() -> None:
    z = sample(noise=5.0)[0]
    blocks = z.astype(np.float64).reshape(ROWS, 2, S)
    np.testing.assert_array_equal(class_blocks(z), blocks)
    np.testing.assert_allclose(class_logits(z), special.logsumexp(blocks, axis=2), rtol=1e-13)
    np.testing.assert_allclose(log_softmax(blocks), special.log_softmax(blocks, axis=2), rtol=1e-12, atol=1e-13)


def test_agrees_with_scipy() -> None:
    logits, labels, kinds = sample()
    table = SubclassHealth.empty(S, KINDS).update(logits, labels, kinds).health()
    for c in (0, 1):
        q = softmax(logits.astype(np.float64)[:, c * S : (c + 1) * S], axis=1)
        usage, within = entropy(q.mean(axis=0)), entropy(q, axis=1).mean()
        assert table["usage"][c] == pytest.approx(math.exp(usage) / S)
        assert table["entropy_nats"][c] == pytest.approx(within)
        assert table["information_bits"][c] == pytest.approx((usage - within) / math.log(2))


@pytest.mark.parametrize(
    ("logits", "usage", "nats", "bits"),
    [
        ([[0.0, 0.0], [5.0, 5.0]], 1.0, math.log(2), 0.0),
        ([[900.0, 0.0], [900.0, 0.0]], 0.5, 0.0, 0.0),
        ([[900.0, 0.0], [0.0, 900.0]], 1.0, 0.0, 1.0),
    ],
)
def test_limits(logits: list[list[float]], usage: float, nats: float, bits: float) -> None:
    table = SubclassHealth.empty(2).update(np.tile(logits, 2)).health()
    assert list(table["class"]) == ["no click", "click"]
    assert table["usage"].tolist() == pytest.approx([usage] * 2)
    assert table["entropy_nats"].tolist() == pytest.approx([nats] * 2)
    assert table["information_bits"].tolist() == pytest.approx([bits] * 2)


def test_one_subclass_is_full_usage_without_information() -> None:
    table = SubclassHealth.empty(1).update(np.array([[0.3, -0.2]])).health()
    assert table["usage"].tolist() == [1.0, 1.0]
    assert table["information_bits"].tolist() == [0.0, 0.0]


def test_agreement_is_scikit_learns_nmi_of_the_rows_of_each_class() -> None:
    logits, labels, kinds = sample()
    table = SubclassHealth.empty(S, KINDS).update(logits, labels, kinds).agreement()
    for c in (0, 1):
        rows = labels == c
        assigned = logits[rows, c * S : (c + 1) * S].argmax(axis=1)
        assert table["nmi"][c] == pytest.approx(normalized_mutual_info_score(kinds[rows], assigned))
        shuffled = np.random.default_rng(1).permutation(assigned)
        chance = normalized_mutual_info_score(kinds[rows], shuffled)
        assert 0 < table["random_nmi"][c] < 3 * chance + 1e-3
        assert table["random_nmi"][c] < table["nmi"][c] / 20


def test_agreement_is_seeded() -> None:
    health = SubclassHealth.empty(S, KINDS).update(*sample())
    assert health.agreement(seed=3).equals(health.agreement(seed=3))
    assert not health.agreement(seed=3).equals(health.agreement(seed=4))


@pytest.mark.parametrize(
    ("table", "value"),
    [([[5, 0], [0, 5]], 1.0), ([[2, 2], [2, 2]], 0.0), ([[7]], 1.0), ([[0, 0]], math.nan)],
)
def test_nmi_by_hand(table: list[list[int]], value: float) -> None:
    assert normalized_mutual_information(np.array(table)) == pytest.approx(value, abs=1e-12, nan_ok=True)


def test_merge_over_shards_equals_a_single_pass() -> None:
    logits, labels, kinds = sample()
    whole, merged = (
        SubclassHealth.empty(S, KINDS).update(logits, labels, kinds),
        SubclassHealth.empty(S, KINDS),
    )
    for part in np.array_split(np.arange(ROWS), 5):
        merged = merged.merge(SubclassHealth.empty(S, KINDS).update(logits[part], labels[part], kinds[part]))
    assert merged.weight == ROWS
    np.testing.assert_array_equal(merged.table, whole.table)
    np.testing.assert_allclose(merged.shares, whole.shares, rtol=1e-12)
    np.testing.assert_allclose(merged.entropy, whole.entropy, rtol=1e-12)


def test_pickle_round_trip() -> None:
    health = SubclassHealth.empty(S, KINDS).update(*sample())
    assert pickle.loads(pickle.dumps(health)).health().equals(health.health())


def test_no_rows_give_nan() -> None:
    health = SubclassHealth.empty(S, KINDS).update(np.zeros((0, 2 * S)))
    assert health.health()[["usage", "entropy_nats", "information_bits"]].isna().all(axis=None)
    assert health.agreement()[["nmi", "random_nmi"]].isna().all(axis=None)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        SubclassHealth.empty(0)
    with pytest.raises(ValueError, match=r"\[n, 8\]"):
        SubclassHealth.empty(4).update(np.zeros((3, 6)))
    with pytest.raises(ValueError, match="labels"):
        SubclassHealth.empty(1, 2).update(np.zeros((3, 2)), kinds=np.zeros(3, int))
    with pytest.raises(ValueError, match="same subclasses"):
        SubclassHealth.empty(1).merge(SubclassHealth.empty(2))


def test_a_weight_is_how_often_a_row_counts() -> None:
    logits, labels, kinds = sample()
    weights = np.random.default_rng(3).integers(3, size=ROWS)
    found = SubclassHealth.empty(S, KINDS).update(logits, labels, kinds, weights)
    repeated = SubclassHealth.empty(S).update(np.repeat(logits, weights, axis=0))
    plain = SubclassHealth.empty(S, KINDS).update(logits, labels, kinds)
    assert found.weight == weights.sum()
    for column in ("usage", "entropy_nats", "information_bits"):
        np.testing.assert_allclose(found.health()[column], repeated.health()[column], rtol=1e-9)
        assert (found.health()[column] != plain.health()[column]).all()
    # The agreement with kinds counts rows.
    assert found.agreement().equals(plain.agreement())

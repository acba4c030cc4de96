"""Moments and principal directions of embeddings, against NumPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from features.errors import ArtifactError
from models.projections import Moments, Projection, leading

RNG = np.random.default_rng(0)
ROWS = (RNG.normal(size=(400, 6)) * [3, 2, 1, 0.5, 0.2, 0.1] @ RNG.normal(size=(6, 6)) + 5).astype(np.float32)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    parts = Moments.sum(map(Moments.of, np.array_split(ROWS, [0, 7, 130, 400])))
    assert parts.count == 400
    np.testing.assert_allclose(parts.mean, ROWS.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(parts.covariance, np.cov(ROWS.T.astype(np.float64), bias=True), rtol=1e-9, atol=1e-9)


def test_moments_are_summed_without_a_change_of_the_parts() -> None:
    first, second = Moments.of(ROWS[:3]), Moments.of(ROWS[3:5])
    before = first.products.copy()
    Moments.sum([first, second])
    np.testing.assert_array_equal(first.products, before)


def test_no_rows_have_no_mean() -> None:
    empty = Moments.of(ROWS[:0])
    np.testing.assert_array_equal(empty.mean, np.zeros(6))
    np.testing.assert_array_equal(empty.covariance, np.zeros((6, 6)))


@pytest.mark.parametrize("size", [1, 3, 6])
def test_principal_directions_are_those_of_scikit_learn(size: int) -> None:
    projection, peer = Projection.principal(Moments.of(ROWS), size), PCA(size).fit(ROWS.astype(np.float64))
    assert projection.explained == pytest.approx(peer.explained_variance_ratio_.sum(), rel=1e-6)
    found, expected = projection.apply(ROWS).astype(np.float64), peer.transform(ROWS.astype(np.float64))
    # One scale for all floats, whose mean variance becomes 1.
    expected /= np.sqrt(expected.var(axis=0).mean())
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=6e-3)
    assert found.var(axis=0).mean() == pytest.approx(1, rel=1e-3)


def test_the_largest_entry_of_a_direction_is_positive() -> None:
    values, vectors = leading(np.cov(ROWS.T.astype(np.float64)), 6)
    assert (np.diff(values) < 0).all()
    assert all(column[np.abs(column).argmax()] > 0 for column in vectors.T)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-12)


def test_all_directions_keep_what_a_head_says() -> None:
    """z = h . kernel + bias, to the precision of float16."""
    projection = Projection.principal(Moments.of(ROWS), 6)
    kernel, bias = RNG.normal(size=(6, 4)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
    own_kernel, own_bias = projection.head(kernel, bias)
    assert (own_kernel.dtype, own_bias.dtype) == (np.float32, np.float32)
    exact = (ROWS.astype(np.float64) - projection.mean) @ projection.basis
    np.testing.assert_allclose(exact @ own_kernel + own_bias, ROWS @ kernel + bias, rtol=1e-5, atol=1e-4)
    stored = projection.apply(ROWS).astype(np.float64)
    np.testing.assert_allclose(stored @ own_kernel + own_bias, ROWS @ kernel + bias, atol=0.05)


def test_few_directions_keep_what_the_nearest_row_says() -> None:
    projection = Projection.principal(Moments.of(ROWS), 2)
    kernel, bias = RNG.normal(size=(6, 4)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
    directions = projection.basis * projection.scale
    centred = ROWS.astype(np.float64) - projection.mean
    nearest = projection.mean + centred @ directions @ directions.T
    own_kernel, own_bias = projection.head(kernel, bias)
    exact = centred @ projection.basis
    np.testing.assert_allclose(exact @ own_kernel + own_bias, nearest @ kernel + bias, rtol=1e-5, atol=1e-4)


def test_equal_rows_have_embeddings_of_zero() -> None:
    projection = Projection.principal(Moments.of(np.ones((5, 3), np.float32)), 2)
    assert (projection.scale, projection.explained) == (1.0, 1.0)
    np.testing.assert_array_equal(projection.apply(np.ones((2, 3), np.float32)), np.zeros((2, 2)))


def test_what_float16_cannot_hold_is_an_error() -> None:
    projection = Projection.principal(Moments.of(ROWS), 2)
    with pytest.raises(ArtifactError, match=r"Embeddings must fit into float16. Received: .* standard deviations"):
        projection.apply(np.full((1, 6), 1e9, np.float32))

"""Few directions in place of a teacher's last hidden layer: moments of embeddings, and their leading directions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.errors import ArtifactError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over rows of embeddings.

    Args:
        count: of the rows.
        total: float64 [D], sum of the embeddings.
        products: float64 [D, D], sum of the outer products of each embedding with itself.
    """

    count: int
    total: Floats
    products: Floats

    @classmethod
    def of(cls, rows: npt.NDArray[np.floating]) -> Moments:
        """Those of embeddings, any float [rows, D]."""
        wide = np.asarray(rows, np.float64)
        return cls(len(wide), wide.sum(axis=0), wide.T @ wide)

    @classmethod
    def sum(cls, parts: Iterable[Moments]) -> Moments:
        """Those of the rows of all parts, of which there is at least one; the order decides on the last bits alone."""
        first, *others = parts
        count, total, products = first.count, first.total.copy(), first.products.copy()
        for part in others:
            count += part.count
            total += part.total
            products += part.products
        return cls(count, total, products)

    @property
    def mean(self) -> Floats:
        """float64 [D]; 0 without rows."""
        return self.total / max(self.count, 1)

    @property
    def covariance(self) -> Floats:
        """Population covariance, float64 [D, D]."""
        return self.products / max(self.count, 1) - np.outer(self.mean, self.mean)


@dataclass(frozen=True)
class Projection:
    """The map ``h -> (h - mean) @ basis``.

    Args:
        mean: float64 [D].
        basis: float64 [D, E]: orthogonal columns, all of the length ``1 / scale``.
        scale: root of the mean variance along the columns, so that projected floats have the mean variance 1.
        explained: share of the variance of h that the columns keep.
    """

    mean: Floats
    basis: Floats
    scale: float
    explained: float

    @classmethod
    def principal(cls, moments: Moments, size: int) -> Projection:
        """The directions of largest variance (PCA), with one scale for all: distances keep their ratios.

        Args:
            moments: of the rows.
            size: E, at most D.
        """
        values, directions = leading(moments.covariance, size)
        scale = float(np.sqrt(max(values.mean(), 0.0))) or 1.0
        whole = float(np.trace(moments.covariance))
        explained = float(values.sum()) / whole if whole > 0 else 1.0
        return cls(moments.mean, directions / scale, scale, min(explained, 1.0))

    def apply(self, hidden: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """Embeddings float16 [rows, E] of hidden layers float32 [rows, D].

        Raises:
            ArtifactError: a float lies beyond what float16 can hold.
        """
        found = (np.asarray(hidden, np.float64) - self.mean) @ self.basis
        with np.errstate(over="ignore"):
            narrow = found.astype(np.float16)
        if not np.isfinite(narrow).all():
            largest = np.abs(found).max()
            raise ArtifactError(f"Embeddings must fit into float16. Received: {largest:g} standard deviations.")
        return narrow

    def head(
        self, kernel: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """A linear head on h as one on the embeddings: what it says of the h that is nearest to an embedding.

        With E = D it says the same; else it misses what h has outside the directions.

        Args:
            kernel: float32 [D, K].
            bias: float32 [K].

        Returns:
            kernel float32 [E, K] and bias float32 [K].
        """
        # The columns of the basis have the length 1 / scale, so their transpose times scale^2 is the way back.
        wide = np.asarray(kernel, np.float64)
        shifted = np.asarray(bias, np.float64) + self.mean @ wide
        return (self.scale**2 * self.basis.T @ wide).astype(np.float32), shifted.astype(np.float32)


def leading(covariance: Floats, size: int) -> tuple[Floats, Floats]:
    """The eigenvectors of the largest eigenvalues.

    Args:
        covariance: float64 [D, D], symmetric.
        size: how many, at most D.

    Returns:
        eigenvalues [size], falling, and eigenvectors [D, size]. Of each the entry with the largest magnitude is
        positive, as an eigenvector's sign means nothing.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:size], vectors[:, ::-1][:, :size]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[np.newaxis], axis=0)
    return np.maximum(values, 0.0), vectors * np.where(largest < 0, -1.0, 1.0)

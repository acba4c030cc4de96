"""Subclasses that stand in place of the teacher's: conditionals from its embeddings, or from nothing.

Each source gives the logs of r_{j|c}, conditionals of subclasses given the class. The class part stays the teacher's:
``z_cj = L_c + log r_{j|c}``, whose logsumexp over j is L_c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from features.hashing import mix, salt
from features.targets import TargetBlock
from models.projections import Floats, Moments, leading
from models.subclasses import class_blocks, class_logits, log_softmax


class Conditionals(Protocol):
    """A source."""

    def log_conditionals(self, targets: TargetBlock, source: str) -> Floats:
        """The logs of r_{j|c}: float64 [rows, 2, S].

        Args:
            targets: of the teacher.
            source: the log that the rows came from.
        """
        ...


def with_conditionals(z: npt.NDArray[np.float32], log_conditionals: Floats) -> npt.NDArray[np.float32]:
    """Logits with the class logits of z, and other conditionals within each class.

    Args:
        z: the teacher's logits, float32 [rows, K], class-major.
        log_conditionals: float64 [rows, 2, S]; S may differ from that of the teacher.

    Returns:
        float32 [rows, 2 S], class-major.
    """
    joint = class_logits(z)[:, :, np.newaxis] + log_conditionals
    return joint.reshape(len(z), -1).astype(np.float32)


@dataclass(frozen=True)
class Shuffled:
    """The control: the teacher's own conditionals in an order that a hash of the row decides.

    Each row keeps how sure its teacher is, and loses of what: subclasses of two rows have nothing in common.

    Args:
        seed: of the hash.
    """

    seed: int

    def log_conditionals(self, targets: TargetBlock, source: str) -> Floats:
        """See :class:`Conditionals`."""
        conditionals = np.sort(log_softmax(class_blocks(targets.logits)), axis=2)
        names = [[f"random {c} {j}" for j in range(conditionals.shape[2])] for c in range(2)]
        keys = [[mix(targets.offsets, salt(self.seed, name, source)) for name in row] for row in names]
        order = np.argsort(np.array(keys).transpose(2, 0, 1), axis=2)
        return np.take_along_axis(conditionals, order, axis=2)


@dataclass(frozen=True)
class Lelp:
    """Linear projections of the embeddings: ``r_{j|c} = softmax_j(a_cj / temperature)``, a_cj = u_cj . (h - m_c).

    The u_cj are the directions of largest variance of class c within the null space of the class weights, turned at
    random so that each has a like share of the variance, and scaled so that a has the root mean square 1 in its class.

    Args:
        means: m_c, float64 [2, E].
        directions: u_cj, float64 [2, E, S].
        temperature: see above.

    References:
      Loo, Iliopoulos, Hu and Vee, Linear Projections of Teacher Embeddings for Few-Class Distillation (2024),
      https://arxiv.org/abs/2409.20449. The scale of a is ours.
    """

    means: Floats
    directions: Floats
    temperature: float

    @classmethod
    def of(
        cls,
        classes: tuple[Moments, Moments],
        weights: Floats,
        subclasses: int,
        temperature: float,
        seed: int,
    ) -> Lelp:
        """Finds the directions.

        Args:
            classes: moments of the embeddings of the training rows of each class.
            weights: W, the class weights on embeddings, float64 [2, E], whose directions are left out.
            subclasses: S, at most E less the rank of W.
            temperature: see above.
            seed: of the rotations.
        """
        outside = null_projector(weights)
        found = [
            _rotated(outside, moments, subclasses, np.random.default_rng([seed, number]))
            for number, moments in enumerate(classes)
        ]
        return cls(np.stack([moments.mean for moments in classes]), np.stack(found), temperature)

    def log_conditionals(self, targets: TargetBlock, source: str) -> Floats:
        """See :class:`Conditionals`."""
        centred = embedding_of(targets)[:, np.newaxis] - self.means
        return log_softmax(np.einsum("nce,ces->ncs", centred, self.directions) / self.temperature)


def null_projector(weights: Floats) -> Floats:
    """``P = I - W^+ W``, the projection to what W maps to 0: [C, E] to [E, E] (2409.20449, step 2)."""
    return np.eye(weights.shape[1]) - np.linalg.pinv(weights) @ weights


def class_weights(kernel: npt.NDArray[np.float32]) -> Floats:
    """The weights of the classes in a head of subclass logits: the mean of each class's columns.

    The class logit is the logsumexp of its subclasses, whose gradient is a mean of their columns too, with the
    conditionals as weights.

    Args:
        kernel: float32 [E, K], class-major.

    Returns:
        float64 [2, E].
    """
    return np.asarray(kernel, np.float64).reshape(len(kernel), 2, -1).mean(axis=2).T


def _rotated(outside: Floats, moments: Moments, subclasses: int, generator: np.random.Generator) -> Floats:
    """The directions of one class: float64 [E, S]."""
    values, directions = leading(outside @ moments.covariance @ outside, subclasses)
    rotation, triangle = np.linalg.qr(generator.normal(size=(subclasses, subclasses)))
    # With a positive diagonal the factors are unique, and the rotation is uniform.
    rotation *= np.where(np.diag(triangle) < 0, -1.0, 1.0)
    # Directions without variance may leave the null space.
    return outside @ directions @ rotation / (np.sqrt(values.mean()) or 1.0)


@dataclass(frozen=True)
class Centroids:
    """Nearness to the centres of the teacher's subclasses: ``r_{j|c} = softmax_j(h . mu_cj / temperature)``.

    mu_cj is the mean embedding of a subclass over the training rows, weighted by its probability, of length 1.

    Args:
        centres: mu, float64 [2, S, E].
        temperature: see above.

    References:
      Ye, Lu and Zhan, Generalized Knowledge Distillation via Relationship Matching (2022),
      https://arxiv.org/abs/2205.01915, stage 2, whose centres are those of classes.
    """

    centres: Floats
    temperature: float

    @classmethod
    def of(cls, sums: Floats, temperature: float) -> Centroids:
        """The centres of sums of embeddings, float64 [2, S, E], by :func:`subclass_sums`; their weights cancel."""
        lengths = np.linalg.norm(sums, axis=2, keepdims=True)
        return cls(sums / np.where(lengths > 0, lengths, 1.0), temperature)

    def log_conditionals(self, targets: TargetBlock, source: str) -> Floats:
        """See :class:`Conditionals`."""
        return log_softmax(np.einsum("ne,cse->ncs", embedding_of(targets), self.centres) / self.temperature)


def subclass_sums(targets: TargetBlock) -> Floats:
    """Sums of embeddings, each row weighted by the probability of the subclass: float64 [2, S, E]."""
    joint = np.exp(log_softmax(np.asarray(targets.logits, np.float64)))
    return np.einsum("ncs,ne->cse", class_blocks(joint), embedding_of(targets))


def embedding_of(targets: TargetBlock) -> Floats:
    """The embeddings of targets that have them: float64 [rows, E]."""
    assert targets.embedding is not None
    return targets.embedding.astype(np.float64)

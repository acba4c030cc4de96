"""Health of a teacher's subclasses: whether they are used, sure, and informative about the row.

health = SubclassHealth.empty(subclasses=4, kinds=8)
health.update(logits, labels, kinds)        # any number of batches
health = health.merge(of_another_shard)
health.health(), health.agreement()         # DataFrames, a row a class
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

CLASSES = ("no click", "click")


def class_blocks(z: np.ndarray) -> np.ndarray:
    """Subclass logits by class: float [n, 2 S], class-major, to float64 [n, 2, S]."""
    return np.asarray(z, np.float64).reshape(len(z), len(CLASSES), z.shape[1] // len(CLASSES))


def class_logits(z: np.ndarray) -> np.ndarray:
    """Computes the class logits L_c = logsumexp_j z[c, j]: float [n, 2 S], class-major, to float64 [n, 2].

    The form for TensorFlow is :func:`models.heads.class_logits`.
    """
    return np.logaddexp.reduce(class_blocks(z), axis=2)


def log_softmax(a: np.ndarray) -> np.ndarray:
    """Computes a - logsumexp(a) over the last axis: float64 of any shape; of class blocks, log conditionals."""
    return a - np.logaddexp.reduce(a, axis=-1, keepdims=True)


@dataclass(eq=False)
class SubclassHealth:
    """Sums from which the health of S subclasses per class is computed.

    Attributes:
        weight: Sum of the weights of the rows.
        shares: float64 [2, S]: weighted sum over rows of the probability of each subclass within its class.
        entropy: float64 [2]: weighted sum over rows of the entropy of these probabilities, in nats.
        table: int64 [2, S, kinds]: rows by label, most probable subclass of the label's class, and kind.
    """

    weight: float
    shares: np.ndarray
    entropy: np.ndarray
    table: np.ndarray

    @classmethod
    def empty(cls, subclasses: int, kinds: int = 0) -> SubclassHealth:
        """Returns an accumulator without rows; `kinds` is the number of hidden kinds, 0 when unknown."""
        if subclasses < 1 or kinds < 0:
            raise ValueError(f"`subclasses` should be positive. Received: {subclasses} (kinds {kinds})")
        table = np.zeros((2, subclasses, kinds), np.int64)
        return cls(0.0, np.zeros((2, subclasses)), np.zeros(2), table)

    def update(
        self,
        logits: np.ndarray,
        labels: np.ndarray | None = None,
        kinds: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> SubclassHealth:
        """Adds a batch of rows in place and returns the accumulator itself.

        Args:
            logits: [n, 2S], class-major: z[c * S + j]; not tempered.
            labels: [n], 0 or 1; needed with `kinds` only.
            kinds: integers [n] in [0, kinds): the hidden kind of each row.
            weights: [n], not negative; 1 for every row when absent. The agreement with kinds counts rows.
        """
        z = np.asarray(logits, np.float64)
        if z.ndim != 2 or z.shape[1] != self.shares.size:
            raise ValueError(f"`logits` should be [n, {self.shares.size}]. Received: {z.shape}")
        z = class_blocks(z)
        log_q = log_softmax(z)
        q = np.exp(log_q)
        w = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
        weighted = w[:, np.newaxis, np.newaxis] * q
        self.weight += float(w.sum())
        self.shares += weighted.sum(axis=0)
        self.entropy -= (weighted * log_q).sum(axis=(0, 2))
        if kinds is not None:
            if labels is None:
                raise ValueError("`labels` should be given with `kinds`. Received: None")
            y = np.asarray(labels, np.int64)
            np.add.at(self.table, (y, z[np.arange(len(z)), y].argmax(axis=1), np.asarray(kinds, np.int64)), 1)
        return self

    def merge(self, other: SubclassHealth) -> SubclassHealth:
        """Returns the accumulator of the rows of both."""
        if self.table.shape != other.table.shape:
            raise ValueError(
                f"both sides should have the same subclasses and kinds. "
                f"Received: {self.table.shape[1:]} and {other.table.shape[1:]}"
            )
        return SubclassHealth(
            self.weight + other.weight,
            self.shares + other.shares,
            self.entropy + other.entropy,
            self.table + other.table,
        )

    def health(self) -> pd.DataFrame:
        """Returns a row for each class; columns class, usage, entropy_nats, information_bits.

        With q_i[c, :] the probabilities of row i within class c, over all rows, whatever their label, and weighted
        means:

        - usage: exp(H(mean_i q_i[c, :])) / S, from 1 / S (one subclass takes all) to 1 (all used equally).
        - entropy_nats: mean_i H(q_i[c, :]), 0 when each row has one sure subclass, at most log S.
        - information_bits: I(subclass; row | class) = H(mean_i q_i) - mean_i H(q_i), at most log2 S.
        """
        weight = self.weight or np.nan
        usage = _entropy(self.shares / weight)
        within = self.entropy / weight
        return pd.DataFrame(
            {
                "class": CLASSES,
                "usage": np.exp(usage) / self.shares.shape[1],
                "entropy_nats": within,
                "information_bits": (usage - within) / np.log(2),
            }
        )

    def agreement(self, seed: int = 0, partitions: int = 20) -> pd.DataFrame:
        """Returns how well the subclasses match the hidden kinds; a row a class: class, nmi, random_nmi.

        `nmi` is the normalized mutual information (arithmetic mean of the entropies, as scikit-learn's) of
        the rows with this label; `random_nmi` the mean over `partitions` random partitions of the same rows
        into subclasses of the same sizes: what chance alone gives.
        """
        generator = np.random.default_rng(seed)
        rows = []
        for name, table in zip(CLASSES, self.table, strict=True):
            chance = [normalized_mutual_information(_shuffled(table, generator)) for _ in range(partitions)]
            rows.append((name, normalized_mutual_information(table), float(np.mean(chance))))
        return pd.DataFrame(rows, columns=["class", "nmi", "random_nmi"])


def normalized_mutual_information(table: np.ndarray) -> float:
    """Computes I(a; b) / ((H(a) + H(b)) / 2) of a contingency table [a, b] of counts.

    1 when both sides are one group (as scikit-learn), NaN for an empty table.
    """
    total = table.sum()
    if not total:
        return float("nan")
    joint = table / total
    first, second = _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0))
    if first == second == 0:
        return 1.0
    return float(max(first + second - _entropy(joint.reshape(-1)), 0.0) / ((first + second) / 2))


def _entropy(p: np.ndarray) -> np.ndarray:
    """Entropy in nats over the last axis; NaN stays NaN."""
    return -(p * np.log(np.where(p == 0, 1.0, p))).sum(axis=-1)


def _shuffled(table: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random contingency table with the margins of `table`: rows assigned to subclasses at random."""
    left = table.sum(axis=0)
    drawn = np.zeros_like(table)
    for index, size in enumerate(table.sum(axis=1)):
        drawn[index] = generator.multivariate_hypergeometric(left, size, method="marginals")
        left = left - drawn[index]
    return drawn

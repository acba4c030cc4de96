"""Small pure functions behind the metrics: ratios, histograms over the logit, resamples and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.subclasses import class_logits


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Computes 1 / (1 + exp(-logits)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -logits))


def subclass_click_logits(z: np.ndarray) -> np.ndarray:
    """Click logits of subclass logits: float [n, 2 S], class-major, to float64 [n]; see `models.heads.click_logit`."""
    classes = class_logits(z)
    return classes[:, 1] - classes[:, 0]


def mean_of_teachers(every: Sequence[np.ndarray]) -> np.ndarray:
    """Subclass logits with the mean class logits of several teachers and the conditionals of the first one.

    Subclass j of one teacher is not subclass j of another, so only class logits can be averaged. A block moved by a
    constant keeps its within-class conditionals.

    Args:
        every: float [n, 2 S] of each teacher, class-major.

    Returns:
        float32 [n, 2 S]; for one teacher, what it says.
    """
    first = np.asarray(every[0])
    if len(every) == 1:
        return first
    classes = [class_logits(z) for z in every]
    shift = np.mean(classes, axis=0) - classes[0]
    blocks = first.reshape(len(first), 2, -1) + shift[:, :, np.newaxis]
    return blocks.reshape(first.shape).astype(np.float32)


def with_click_logits(z: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    """Subclass logits with other click logits and the same conditionals within each class.

    With d the difference of the click logits, the block of class 1 moves by d / 2 and that of class 0 by -d / 2.

    Args:
        z: float [n, 2 S], class-major.
        clicks: float [n], what the click logits are to be.

    Returns:
        float32 [n, 2 S].
    """
    half = (np.asarray(clicks, np.float64) - subclass_click_logits(z)) / 2
    blocks = np.asarray(z, np.float64).reshape(len(z), 2, -1) + np.stack([-half, half], axis=1)[:, :, np.newaxis]
    return blocks.reshape(z.shape).astype(np.float32)


def divide(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> np.ndarray:
    """Computes the quotient; it is NaN where the denominator is not positive."""
    positive = np.asarray(denominator) > 0
    return np.where(positive, np.asarray(numerator) / np.where(positive, denominator, 1.0), np.nan)


def roc_area(weight: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    """Computes the area under the ROC curve from histograms by rising logit.

    Args:
        weight: [..., bins], weight of the rows of each bin. The rows of a bin count as tied, a tie as half.
        clicks: [..., bins], weight of the clicking rows among them.

    Returns:
        [...], NaN where one class is absent.
    """
    others = weight - clicks
    below = np.cumsum(others, axis=-1) - others / 2
    return divide((clicks * below).sum(axis=-1), clicks.sum(axis=-1) * others.sum(axis=-1))


def equal_mass_bins(weight: np.ndarray, bins: int) -> np.ndarray:
    """Assigns each cell of a histogram to one of `bins` bins of about equal weight.

    Args:
        weight: [cells], not negative.
        bins: Number of bins.

    Returns:
        int64 [cells], rising: the bin in which the middle of the cell's cumulative weight lies.
    """
    middle = np.cumsum(weight) - weight / 2
    total = weight.sum()
    return np.minimum(middle * (bins / total if total > 0 else 0.0), bins - 1).astype(np.int64)


@lru_cache(maxsize=8)
def draw_groups(groups: int, resamples: int, seed: int) -> np.ndarray:
    """Draws groups with replacement: float64 [resamples, groups], how often each is in each resample."""
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    counts = draws.astype(np.float64)
    counts.flags.writeable = False
    return counts


def percentile_interval(replicates: np.ndarray, level: float) -> tuple[float, float]:
    """Computes the central interval that holds the share `level` of the finite replicates: (low, high)."""
    known = replicates[np.isfinite(replicates)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson_interval(rate: np.ndarray, rows: np.ndarray, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Computes the score interval of a binomial rate (Wilson, 1927).

    Args:
        rate: [n], share of clicks.
        rows: [n], number of rows behind each rate.
        z: Quantile of the normal distribution; 1.96 for 95 %.

    Returns:
        low and high, both [n].
    """
    centre = rate + z**2 / (2 * rows)
    margin = z * np.sqrt(rate * (1 - rate) / rows + z**2 / (4 * rows**2))
    scale = 1 + z**2 / rows
    return np.clip((centre - margin) / scale, 0, 1), np.clip((centre + margin) / scale, 0, 1)

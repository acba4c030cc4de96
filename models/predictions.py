"""Predictions of the same rows beside each other: of a method's seeds, and of a student and its teacher."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from features.errors import DataError
from models.estimates import divide, sigmoid


def churn(logits: npt.ArrayLike) -> dict[str, float]:
    """Computes how much predictions change when a model is trained again with another seed.

    Args:
        logits: [seeds, rows], click logits.

    Returns:
        means over rows and pairs of seeds, NaN for one seed: mean_difference, of |p_a - p_b|; relative, of
        2 |p_a - p_b| / |p_a + p_b|, between 0 and 2; correlation, Pearson's, of the logits.
    """
    z = np.asarray(logits, np.float64)
    names = ("mean_difference", "relative", "correlation")
    found = np.array([_pair(z[a], z[b]) for a, b in combinations(range(len(z)), 2)])
    return {name: float(found[:, i].mean()) if len(found) else float("nan") for i, name in enumerate(names)}


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """What :func:`churn` returns, of one pair."""
    p, q = sigmoid(a), sigmoid(b)
    gap = np.abs(p - q)
    # Where both are 0 in float64 they agree.
    relative = np.nan_to_num(divide(2 * gap, p + q)).mean()
    return float(gap.mean()), float(relative), _correlation(a, b)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a - a.mean(), b - b.mean()
    return float(divide(x @ y, np.sqrt((x @ x) * (y @ y))))


def fidelity(teacher_logits: npt.ArrayLike, student_logits: npt.ArrayLike) -> dict[str, float]:
    """Computes how close a student's predictions are to its teacher's.

    Args:
        teacher_logits: [rows], click logits.
        student_logits: [rows], click logits.

    Returns:
        kl: mean KL(p_t, p_s) in nats. top_decile: share of the teacher's highest tenth of the rows that are in the
        student's; of rows that are tied at its end each counts in part. 0.1 is chance, 1 is agreement.
    """
    t, s = np.asarray(teacher_logits, np.float64), np.asarray(student_logits, np.float64)
    if t.shape != s.shape or t.ndim != 1 or not t.size:
        raise DataError(f"logits of teacher and student must have one shape [rows]. Received: {t.shape} and {s.shape}.")
    # With p = sigmoid(z): log p = z - softplus(z) and log(1 - p) = -softplus(z), exact for extreme logits too.
    kl = sigmoid(t) * (t - s) + np.logaddexp(0, s) - np.logaddexp(0, t)
    top = [_top(z, max(len(z) // 10, 1)) for z in (t, s)]
    return {"kl": float(kl.mean()), "top_decile": float(np.minimum(*top).sum() / top[0].sum())}


def _top(z: np.ndarray, count: int) -> np.ndarray:
    """How much of each row is among the `count` highest: 0, 1, or the share of those tied at the end that fit in."""
    end = np.partition(z, len(z) - count)[len(z) - count]
    above, tied = z > end, z == end
    return above + tied * ((count - above.sum()) / tied.sum())

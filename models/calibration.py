"""Two-parameter calibration of a click logit, fitted on validation rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.estimates import sigmoid

_STEPS = 50
_RIDGE = 1e-12
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Calibration:
    """The map logit -> scale * logit + shift (Platt, 1999).

    Attributes:
        scale: Factor; below 1 where the model is over-confident.
        shift: Term in log-odds; above 0 where the model predicts too few clicks.
        reason: Why the map is not the full fit; empty when it is.
    """

    scale: float = 1.0
    shift: float = 0.0
    reason: str = ""

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Returns calibrated logits with the shape and float type of `logits`."""
        return np.asarray(logits) * self.scale + self.shift


def fit_calibration(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Calibration:
    """Fits the map that minimises the logloss, by Newton's method in float64.

    Args:
        logits: [n], finite: log-odds of a click.
        labels: [n], 1 for a click and 0 for none.
        weights: [n], not negative; 1 for every row when absent.

    Returns:
        The fitted map. Without a finite optimum (no rows, one class, separable rows) the identity with the
        reason; for constant logits the shift alone is fitted.
    """
    weight = np.ones(len(logits)) if weights is None else np.asarray(weights, np.float64)
    used = weight > 0
    z, y, weight = np.asarray(logits, np.float64)[used], np.asarray(labels, np.float64)[used], weight[used]
    if not np.isfinite(z).all():
        raise ValueError(f"`logits` should be finite. Received: {int((~np.isfinite(z)).sum())} that are not")
    reason = _no_optimum(z, y)
    if reason:
        return Calibration(reason=reason)
    centre, spread = np.average(z, weights=weight), z.std()
    if z.min() == z.max():
        rate = np.average(y, weights=weight)
        return Calibration(1.0, float(np.log(rate / (1 - rate)) - z[0]), "constant logits: only the shift is fitted")
    slope, intercept = _newton((z - centre) / spread, y, weight / weight.sum(), np.array([spread, centre]))
    return Calibration(float(slope / spread), float(intercept - slope * centre / spread))


def _no_optimum(z: np.ndarray, y: np.ndarray) -> str:
    if not z.size:
        return "no rows"
    clicks, others = z[y == 1], z[y == 0]
    if not clicks.size or not others.size:
        return "only one class"
    if z.min() < z.max() and (others.max() <= clicks.min() or clicks.max() <= others.min()):
        return "separable: every clicking row lies on one side"
    return ""


def _newton(x: np.ndarray, y: np.ndarray, weight: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Minimises the mean logloss of start[0] * x + start[1]; halves a step that does not lower it."""
    design = np.stack([x, np.ones_like(x)], axis=1)

    def loss(theta: np.ndarray) -> float:
        z = design @ theta
        return float(weight @ (np.logaddexp(0.0, z) - y * z))

    theta, value = start, loss(start)
    for _ in range(_STEPS):
        p = sigmoid(design @ theta)
        gradient = design.T @ (weight * (p - y))
        hessian = design.T @ (design * (weight * p * (1 - p))[:, None])
        step = np.linalg.solve(hessian + _RIDGE * np.eye(2), gradient)
        while (new := loss(theta - step)) > value and np.abs(step).max() > _TOLERANCE:
            step = step / 2
        theta, value = theta - step, new
        if np.abs(step).max() <= _TOLERANCE * (1 + np.abs(theta).max()):
            break
    return theta

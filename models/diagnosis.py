"""What held-out rows say of a model's probabilities: calibration, rare values, and its worth as a teacher.

Held-out rows are those that neither the model nor its teacher has learned from. A teacher p_t is as good as its mean
(p_t - p*)^2 is small, p* being the true click probability. Where p* is known, :class:`RiskMoments` has all terms.
Where it is not, mean (p_t - y)^2 = mean (p_t - p*)^2 + mean p* (1 - p*) still holds on average, so the difference of
the Brier scores of two models is that of their first terms; the same goes for logloss and KL(p*, p_t).

References:
  Menon et al., A statistical perspective on distillation (ICML 2021), https://arxiv.org/abs/2005.10419
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.calibration import fit_calibration
from models.estimates import divide, sigmoid
from models.metrics import ClickMetrics

_LEAST = 1e-12
# 0, then the powers of ten up to where the counts of a log end.
EDGES = 10 ** np.arange(10)


@dataclass(frozen=True)
class Recalibration:
    """The map slope * logit + intercept that fits some rows best, and what is lost without it.

    Args:
        slope: below 1 where the model is over-confident.
        intercept: above 0 where it predicts too few clicks.
        logloss: mean logloss of the rows minus what it is after the map, in nats; not negative.
        brier: the same for the Brier score, which the map does not minimise: it can be below 0.
        reason: why the map is not the full fit; empty when it is.
    """

    slope: float
    intercept: float
    logloss: float
    brier: float
    reason: str


def recalibration(metrics: ClickMetrics) -> Recalibration:
    """The logistic regression of the labels on a model's logit (Cox, 1958).

    Rows of a bin of the histogram (1.5e-4 wide) share its mean probability.

    Args:
        metrics: of the model on the rows.
    """
    _, weight, clicks, predicted, _ = metrics.fine[:, metrics.fine[1] > 0]
    p = np.clip(predicted / weight, _LEAST, 1 - _LEAST)
    clicks = np.minimum(clicks, weight)
    logits, labels = np.log(p) - np.log1p(-p), np.repeat([1, 0], len(p))
    found = fit_calibration(np.tile(logits, 2), labels, np.concatenate([clicks, weight - clicks]))
    mapped = found.apply(logits)
    q = sigmoid(mapped)

    def mean(lost_of_clicks: np.ndarray, lost_of_others: np.ndarray) -> float:
        return float(divide(clicks @ lost_of_clicks + (weight - clicks) @ lost_of_others, weight.sum()))

    logloss = mean(
        np.logaddexp(0, -logits) - np.logaddexp(0, -mapped), np.logaddexp(0, logits) - np.logaddexp(0, mapped)
    )
    brier = mean((1 - p) ** 2 - (1 - q) ** 2, p**2 - q**2)
    return Recalibration(found.scale, found.shift, logloss, brier, found.reason)


def rarest(ids: np.ndarray, counts: Sequence[np.ndarray]) -> np.ndarray:
    """Training rows of the rarest value of each row: int64 [n].

    Args:
        ids: integers [n, columns], at least one column: vocabulary ids.
        counts: of each column, integers [ids]: training rows with that id; 0 for unseen values.
    """
    return np.min([count[column] for count, column in zip(counts, ids.T, strict=True)], axis=0)


@dataclass(eq=False)
class FrequencyTable:
    """Click metrics by how often a row's rarest value is among the training rows: never, 1 to 9, 10 to 99, ...

    Attributes:
        sums: float64 [5, buckets]: rows, weight, clicks, predicted clicks and logloss in nats.
    """

    sums: np.ndarray

    @classmethod
    def empty(cls) -> FrequencyTable:
        """Returns a table without rows."""
        return cls(np.zeros((5, len(EDGES) + 1)))

    def update(
        self, frequency: np.ndarray, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
    ) -> FrequencyTable:
        """Adds a batch of rows in place and returns the table itself.

        Args:
            frequency: integers [n]; see :func:`rarest`.
            labels: [n], 1 for a click and 0 for none.
            logits: [n], finite: log-odds of a click.
            weights: [n], not negative; 1 for every row when absent.
        """
        y, z = np.asarray(labels, np.float64), np.asarray(logits, np.float64)
        w = np.ones_like(y) if weights is None else np.asarray(weights, np.float64)
        columns = [np.ones_like(y), w, w * y, w * sigmoid(z), w * (np.logaddexp(0.0, z) - y * z)]
        bucket = np.searchsorted(EDGES, frequency, side="right")
        self.sums += np.stack([np.bincount(bucket, column, self.sums.shape[1]) for column in columns])
        return self

    def merge(self, other: FrequencyTable) -> FrequencyTable:
        """Returns the table of the rows of both."""
        return FrequencyTable(self.sums + other.sums)

    def table(self) -> pd.DataFrame:
        """Returns a row a bucket that has rows: frequency, rows, click_rate, mean_predicted, pcoc, logloss (nats)."""
        names = ["0", *(f"{low}-{10 * low - 1}" for low in EDGES[:-1]), f"{EDGES[-1]}+"]
        rows, weight, clicks, predicted, logloss = self.sums
        columns = {
            "frequency": names,
            "rows": rows.astype(np.int64),
            "click_rate": divide(clicks, weight),
            "mean_predicted": divide(predicted, weight),
            "pcoc": divide(predicted, clicks),
            "logloss": divide(logloss, weight),
        }
        return pd.DataFrame(columns)[rows > 0].reset_index(drop=True)


@dataclass(frozen=True)
class Risk:
    """Terms of the logistic risk of a student on n rows, whose labels are either drawn or a teacher's p_t.

    Args:
        teacher_error: mean (p_t - p*)^2.
        noise: mean p* (1 - p*), the Brier score of p* itself.
        bias: of the risk with the teacher's probabilities, in nats.
        variance: of the risk with drawn labels, the rows being given; with the teacher's it is 0.
        alpha: the weight of the teacher in the targets at which squared bias plus variance is least.
    """

    teacher_error: float
    noise: float
    bias: float
    variance: float
    alpha: float


@dataclass(eq=False)
class RiskMoments:
    """Sums for :class:`Risk` over rows whose true click probability p* is known; f is the student's click logit.

    Attributes:
        sums: float64 [6], of w, w^2 p* (1 - p*) f^2, w (p_t - p*) f, w (p_t - p*)^2, w p* (1 - p*) and 1.
    """

    sums: np.ndarray

    @classmethod
    def empty(cls) -> RiskMoments:
        """Returns sums over no rows."""
        return cls(np.zeros(6))

    def update(
        self, p_star: np.ndarray, teacher: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
    ) -> RiskMoments:
        """Adds a batch of rows in place and returns the sums themselves.

        Args:
            p_star: float [n], true click probabilities.
            teacher: float [n], the teacher's p_t.
            logits: float [n], the student's f.
            weights: [n], not negative; 1 for every row when absent.
        """
        w = np.ones(len(p_star)) if weights is None else np.asarray(weights, np.float64)
        gap, noise = teacher - p_star, p_star * (1 - p_star)
        columns = [w, w**2 * noise * logits**2, w * gap * logits, w * gap**2, w * noise, np.ones_like(w)]
        self.sums += np.stack(columns).sum(axis=1)
        return self

    def merge(self, other: RiskMoments) -> RiskMoments:
        """Returns the sums over the rows of both."""
        return RiskMoments(self.sums + other.sums)

    def risk(self, rows: int | None = None) -> Risk:
        """Computes the terms; NaN without rows.

        The logloss of a row is log(1 + exp(f)) - y f. So labels give the risk the variance sum w^2 p* (1 - p*) f^2 /
        (sum w)^2, and a teacher gives it the bias -mean (p_t - p*) f (2005.10419, the variance lemma and the
        bias-variance proposition in the binary logistic case).

        Args:
            rows: size of a sample of such rows, whose risk is meant; None for these rows themselves.
        """
        weight, squares, product, error, noise, own = self.sums
        size = own if rows is None else rows
        # The variance falls with the rows.
        variance = float(divide(squares * own, weight**2 * size))
        bias = float(-divide(product, weight))
        return Risk(
            float(divide(error, weight)), float(divide(noise, weight)), bias, variance, best_alpha(variance, bias)
        )


def best_alpha(variance: float, bias: float) -> float:
    """The alpha at which alpha^2 bias^2 + (1 - alpha)^2 variance is least: V / (V + B^2); NaN where both are 0.

    That is the error of the risk with targets alpha p_t + (1 - alpha) y at fixed rows and f.

    Args:
        variance: V of the risk with labels.
        bias: B of the risk with the teacher's probabilities.
    """
    total = variance + bias**2
    return variance / total if total else math.nan

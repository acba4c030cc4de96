"""Click metrics as mergeable accumulators: Beam, the evaluation loop and reports share one class.

    metrics = ClickMetrics.empty()
    metrics.update(labels, logits, groups)      # any number of batches
    metrics = metrics.merge(of_another_shard)
    metrics.compute()                           # {"rows": ..., "logloss": ..., "auc": ..., ...}
    metrics.intervals()                         # {"logloss": (low, high), ...}

Memory is bounded: sums by group and histograms over the logit, whatever the number of rows. Intervals come
from a bootstrap over groups of rows (a hash of the row id), the same groups for every model, so that the
differences of models are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.estimates import (
    divide,
    draw_groups,
    equal_mass_bins,
    percentile_interval,
    roc_area,
    sigmoid,
    wilson_interval,
)

METRICS = ("logloss", "auc", "ne", "pcoc", "ece", "brier")
GROUPS = 200
ECE_BINS = 20

_LIMIT = 20.0
_FINE = 2**18
_COARSE = 2**10

# Rows of `ClickMetrics.sums`; the first four are also those of `fine`, and the second to fourth of `coarse`.
_ROWS, _WEIGHT, _CLICKS, _PREDICTED, _LOGLOSS, _BRIER = range(6)


@dataclass(eq=False)
class ClickMetrics:
    """Sums and histograms from which every click metric is computed.

    Attributes:
        sums: float64 [6, groups]: rows, weight, clicks, predicted clicks, logloss in nats and squared error.
        fine: float64 [5, 2**18]: rows, weight, clicks, predicted clicks and squared weight by logit, over
            [-20, 20]; the outer bins hold what lies beyond. Two rows of a bin (1.5e-4 wide) count as tied: for
            logits of deviation 1 the AUC differs from the exact one by about 0.006 / rows.
        coarse: float64 [3, groups, 1024]: weight, clicks and predicted clicks by logit, for the bootstrap.
    """

    sums: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray

    @classmethod
    def empty(cls, groups: int = GROUPS) -> ClickMetrics:
        """Returns an accumulator without rows, for rows that are assigned to `groups` groups."""
        if groups < 1:
            raise ValueError(f"`groups` must be positive. Received: {groups}")
        return cls(np.zeros((6, groups)), np.zeros((5, _FINE)), np.zeros((3, groups, _COARSE)))

    @property
    def groups(self) -> int:
        """The number of groups that the bootstrap resamples."""
        return self.sums.shape[1]

    @property
    def weight(self) -> float:
        """The sum of the weights of all rows."""
        return float(self.sums[_WEIGHT].sum())

    def update(
        self, labels: np.ndarray, logits: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None
    ) -> ClickMetrics:
        """Adds a batch of rows in place and returns the accumulator itself.

        Args:
            labels: [n], 1 for a click and 0 for none.
            logits: [n], finite: log-odds of a click.
            groups: integers [n] in [0, groups): the same for the same row, whatever the model.
            weights: [n], not negative; 1 for every row when absent.
        """
        y, z = np.asarray(labels, np.float64), np.asarray(logits, np.float64)
        group = np.asarray(groups, np.int64)
        weight = np.ones_like(y) if weights is None else np.asarray(weights, np.float64)
        _check_batch(y, z, group, weight, self.groups)
        p = sigmoid(z)
        columns = [np.ones_like(y), weight, weight * y, weight * p]
        columns += [weight * (np.logaddexp(0.0, z) - y * z), weight * (p - y) ** 2]
        fine = np.minimum((np.clip(z, -_LIMIT, _LIMIT) + _LIMIT) * (_FINE / (2 * _LIMIT)), _FINE - 1).astype(np.int64)
        coarse = group * _COARSE + fine // (_FINE // _COARSE)
        for index, column in enumerate(columns):
            self.sums[index] += np.bincount(group, column, self.groups)
        for index, column in enumerate([*columns[:4], weight**2]):
            np.add.at(self.fine[index], fine, column)
        for index in range(3):
            np.add.at(self.coarse[index].reshape(-1), coarse, columns[index + 1])
        return self

    def merge(self, other: ClickMetrics) -> ClickMetrics:
        """Returns the accumulator of the rows of both."""
        _check_groups(self, other)
        return ClickMetrics(self.sums + other.sums, self.fine + other.fine, self.coarse + other.coarse)

    def compute(self) -> dict[str, float]:
        """Returns rows, logloss (nats), auc, ne, pcoc, ece and brier; what is undefined is NaN.

        - ne: logloss / entropy of the base rate of these rows (He et al., "Practical Lessons from Predicting
          Clicks on Ads at Facebook", 2014, equation 1).
        - pcoc: predicted clicks over clicks.
        - ece: mean |predicted - click rate| over 20 bins of equal weight (Naeini et al., 2015).
        - auc: ties count half.
        """
        totals = self.sums.sum(axis=1)
        values = {"rows": int(totals[_ROWS])} | {k: float(v) for k, v in _averages(totals).items()}
        values["auc"] = float(roc_area(self.fine[_WEIGHT], self.fine[_CLICKS]))
        bins = equal_mass_bins(self.fine[_WEIGHT], ECE_BINS)
        gaps = np.bincount(bins, self.fine[_PREDICTED] - self.fine[_CLICKS], ECE_BINS)
        values["ece"] = float(divide(np.abs(gaps).sum(), totals[_WEIGHT]))
        return {name: values[name] for name in ("rows", *METRICS)}

    def bootstrap(self, resamples: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
        """Returns each metric for `resamples` resamples of the groups: name -> float64 [resamples].

        Groups are drawn with replacement; the same `seed` draws the same groups for every accumulator. AUC
        and ECE are replicated on the coarse histogram and shifted to the fine point estimate. ECE, a mean of
        absolute values, grows with the noise that resampling adds; its replicates are shifted by their mean,
        so that they show its spread and not that bias (single replicates can be below 0).
        """
        draws = draw_groups(self.groups, resamples, seed)
        point = self.compute()
        weight, clicks, predicted = self.coarse[:, :, self.coarse[0].any(axis=0)]
        values = _averages(self.sums @ draws.T)
        shift = point["auc"] - roc_area(weight.sum(axis=0), clicks.sum(axis=0))
        values["auc"] = roc_area(draws @ weight, draws @ clicks) + shift
        bins = np.eye(ECE_BINS)[equal_mass_bins(weight.sum(axis=0), ECE_BINS)]
        gaps = draws @ ((predicted - clicks) @ bins)
        ece = divide(np.abs(gaps).sum(axis=1), draws @ self.sums[_WEIGHT])
        values["ece"] = ece + (point["ece"] - divide(np.nansum(ece), np.isfinite(ece).sum()))
        return {name: values[name] for name in METRICS}

    def intervals(self, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Returns the percentile interval of each metric: name -> (low, high)."""
        bounds = {name: percentile_interval(v, level) for name, v in self.bootstrap(resamples, seed).items()}
        low, high = bounds["ece"]
        return bounds | {"ece": (float(np.maximum(low, 0.0)), high)}

    def summary(self, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> dict[str, float]:
        """Returns `compute` with `<metric>_low` and `<metric>_high` of `intervals`: a row of a report."""
        bounds = self.intervals(level, resamples, seed)
        ends = {f"{name}_{end}": v for name in METRICS for end, v in zip(("low", "high"), bounds[name], strict=True)}
        return self.compute() | ends

    def reliability(self, bins: int = 15) -> pd.DataFrame:
        """Returns a row for each of at most `bins` bins of equal weight, by rising predicted probability.

        Columns: mean_predicted, click_rate, rows, low, high; low and high are the 95 % Wilson interval of the
        click rate. Rows with equal logits share a bin. With weights the interval is that of the effective number
        of rows, (sum w)^2 / sum w^2 (Kish, Survey Sampling, 1965).
        """
        table = np.stack([np.bincount(equal_mass_bins(self.fine[_WEIGHT], bins), row, bins) for row in self.fine])
        rows, weight, clicks, predicted, squares = table[:, table[_WEIGHT] > 0]
        rate = np.clip(clicks / weight, 0.0, 1.0)
        low, high = wilson_interval(rate, weight**2 / squares)
        columns = {"mean_predicted": predicted / weight, "click_rate": rate, "rows": rows.astype(np.int64)}
        return pd.DataFrame(columns | {"low": low, "high": high})

    def __getstate__(self) -> dict[str, Any]:
        """Keeps the filled cells only: Beam moves accumulators between workers."""
        return {k: (v.shape, np.flatnonzero(v), v[v != 0]) for k, v in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, (shape, cells, values) in state.items():
            array = np.zeros(shape)
            array.reshape(-1)[cells] = values
            setattr(self, name, array)


def paired_difference(
    a: ClickMetrics, b: ClickMetrics, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Computes metric of `a` minus metric of `b` with its interval, on the same resampled groups for both.

    Args:
        a: Metrics of one model.
        b: Metrics of another model on the same rows, in the same groups.
        level: Coverage of the interval.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        A row for each of `METRICS`; columns metric, difference, low, high.
    """
    _check_groups(a, b)
    if not np.array_equal(a.sums[_ROWS], b.sums[_ROWS]):
        raise ValueError("`a` and `b` should hold the same rows. Received: different row counts by group")
    points = a.compute(), b.compute()
    replicates = a.bootstrap(resamples, seed), b.bootstrap(resamples, seed)
    rows = []
    for name in METRICS:
        low, high = percentile_interval(replicates[0][name] - replicates[1][name], level)
        rows.append((name, points[0][name] - points[1][name], low, high))
    return pd.DataFrame(rows, columns=["metric", "difference", "low", "high"])


def _averages(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics that are ratios of sums; `totals` is [6, ...]."""
    base = divide(totals[_CLICKS], totals[_WEIGHT])
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -(base * np.log(base) + (1 - base) * np.log1p(-base))
    logloss = divide(totals[_LOGLOSS], totals[_WEIGHT])
    return {
        "logloss": logloss,
        "ne": divide(logloss, entropy),
        "pcoc": divide(totals[_PREDICTED], totals[_CLICKS]),
        "brier": divide(totals[_BRIER], totals[_WEIGHT]),
    }


def _check_batch(y: np.ndarray, z: np.ndarray, group: np.ndarray, weight: np.ndarray, groups: int) -> None:
    shapes = [array.shape for array in (y, z, group, weight)]
    if y.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(f"labels, logits, groups and weights should have one shape [n]. Received: {shapes}")
    if not np.isfinite(z).all():
        raise ValueError(f"`logits` should be finite. Received: {int((~np.isfinite(z)).sum())} that are not")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(f"`labels` should be 0 or 1. Received: {np.setdiff1d(y, [0, 1])[:3].tolist()}")
    if y.size and not 0 <= group.min() <= group.max() < groups:
        raise ValueError(f"`groups` should lie in [0, {groups}). Received: {group.min()} to {group.max()}")
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError("`weights` should be finite and not negative. Received: others")


def _check_groups(a: ClickMetrics, b: ClickMetrics) -> None:
    if a.groups != b.groups:
        raise ValueError(f"both sides should have the same groups. Received: {a.groups} and {b.groups}")

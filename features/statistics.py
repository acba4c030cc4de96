"""Click statistics of categorical values: smoothed log-odds and log-count, with a training row's own fold left out.

A training row must not see its own label in its features, so its statistics are the totals without its own fold. The
teacher of a fold is given counts in which that fold is zero from the start.

In a log with weights a row of weight 2 is two rows to log-odds, log-count and base rate. Which values are known is
decided by the rows, whatever their weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.errors import ConfigError
from features.hashing import FOLDS
from features.vocabulary import Vocabulary

# Below these a column hardly varies: scaled up further it would show the noise of its folds, and rare values would
# lie thousands of deviations away.
_MIN_ODDS_DEVIATION = 0.1
_MIN_COUNT_DEVIATION = 1.0

NO_FOLD = FOLDS
"""The fold to ask for when no fold is to be left out: validation, test and serving."""


Counts = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClickCounts:
    """Counts and clicks of the values of all categorical columns, one below the other.

    Args:
        starts: int64 [columns]: where each column's vocabulary id 0 lies.
        counts: int64 [all ids, 10] training rows by id and fold.
        clicks: int64 [all ids, 10] clicks by id and fold; with weights float64, the weight of the clicking rows.
        rows: int64 [10] all training rows by fold.
        row_clicks: [10] all clicks by fold, as ``clicks``.
        weights: float64 [all ids, 10] weight of the training rows by id and fold; None in a log without weights.
        row_weights: float64 [10] weight of all training rows by fold; None in a log without weights.
    """

    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    clicks: Counts
    rows: npt.NDArray[np.int64]
    row_clicks: Counts
    weights: npt.NDArray[np.float64] | None = None
    row_weights: npt.NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        vocabularies: Sequence[Vocabulary],
        rows: Sequence[int],
        row_clicks: Sequence[float],
        row_weights: Sequence[float] | None = None,
    ) -> ClickCounts:
        """Puts the vocabularies of all columns, in the schema's order, one below the other.

        Args:
            vocabularies: of each categorical column.
            rows: training rows by fold.
            row_clicks: clicks by fold; with weights, the weight of the clicking rows.
            row_weights: weight of the training rows by fold; None in a log without weights, and nothing else is.
        """
        sizes = [vocabulary.ids for vocabulary in vocabularies]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        counts = np.concatenate([vocabulary.counts for vocabulary in vocabularies])
        fold_rows = np.asarray(rows, np.int64)
        if row_weights is None:
            clicks = np.concatenate([vocabulary.clicks for vocabulary in vocabularies])
            return cls(starts, counts, clicks, fold_rows, np.asarray(row_clicks, np.int64))
        return cls(
            starts,
            counts,
            np.concatenate([vocabulary.click_weights for vocabulary in vocabularies]),
            fold_rows,
            np.asarray(row_clicks, np.float64),
            np.concatenate([vocabulary.weights for vocabulary in vocabularies]),
            np.asarray(row_weights, np.float64),
        )

    def without(self, folds: Sequence[int]) -> ClickCounts:
        """The counts as if the rows of these folds did not exist."""
        keep = np.ones(FOLDS, np.int64)
        keep[list(folds)] = 0
        return ClickCounts(
            self.starts,
            self.counts * keep,
            self.clicks * keep,
            self.rows * keep,
            self.row_clicks * keep,
            None if self.weights is None else self.weights * keep,
            None if self.row_weights is None else self.row_weights * keep,
        )

    @property
    def _masses(self) -> Counts:
        """What each id counts by fold: its rows, or their weight."""
        return self.counts if self.weights is None else self.weights

    @property
    def _row_masses(self) -> Counts:
        return self.rows if self.row_weights is None else self.row_weights

    def base_rate(self) -> float:
        """Clicks over rows (weighted, if the log is) of all folds; 0 without rows."""
        return float(ratio(self.row_clicks.sum(), self._row_masses.sum()))

    def statistics(self, smoothing: float) -> ClickStatistics:
        """The click statistics of each id, by the fold that is left out.

        With n rows and k clicks of a value, and the base rate pi of the same folds:
        log-odds = log((k + a pi) / (n - k + a (1 - pi))), log-count = log(1 + n R / r), where r of all R rows are left.
        Both are standardised by column over the training rows, each with its own fold left out. In a log with
        weights n, k, r and R are sums of weights.

        Args:
            smoothing: a, in rows (of weight 1).

        Raises:
            ConfigError: the smoothing is not positive and finite; without it, log-odds would be infinite.
        """
        if not 0 < smoothing < np.inf:
            raise ConfigError(f"The smoothing must be positive and finite. Received: {smoothing} (click statistics).")
        rows = leave_out(self._row_masses)
        # A part without clicks, or of clicks alone, must not give an infinite prior.
        rate = np.clip(ratio(leave_out(self.row_clicks), rows), 1e-6, 1 - 1e-6)
        # Where a fold is left out there are fewer rows of every value; counts mean the same in training and serving.
        scale = ratio(rows[FOLDS], rows)
        shape = (len(self.counts), FOLDS + 1)
        found = ClickStatistics(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.bool_))
        # A column at a time, so that the float64 of all ids is never in memory.
        for start, end in itertools.pairwise([*self.starts.tolist(), len(self.counts)]):
            ids, by_fold = slice(start, end), self._masses[start:end]
            counts, clicks = leave_out(by_fold), leave_out(self.clicks[ids])
            # Sums of weights are rounded: the clicks' may be the larger one by a bit where all rows click.
            others = np.maximum(counts - clicks, 0)
            odds = np.log((clicks + smoothing * rate) / (others + smoothing * (1 - rate)))
            found.log_odds[ids] = _standardised(odds, by_fold, _MIN_ODDS_DEVIATION)
            found.log_count[ids] = _standardised(np.log1p(counts * scale), by_fold, _MIN_COUNT_DEVIATION)
            # A value whose rows all lie in one fold is unknown to each of them, so it is unknown to all.
            found.known[ids] = (self.counts[ids] > 0).sum(axis=1, keepdims=True) > 1
        return found


@dataclass(frozen=True)
class ClickStatistics:
    """Statistics of each vocabulary id of all columns; column f leaves fold f out, column 10 none.

    Args:
        log_odds: float32 [all ids, 11], standardised.
        log_count: float32 [all ids, 11], standardised.
        known: bool [all ids, 11], whether the training rows of the value lie in more than one fold, so that some are
            left whichever fold is left out.
    """

    log_odds: npt.NDArray[np.float32]
    log_count: npt.NDArray[np.float32]
    known: npt.NDArray[np.bool_]


def _standardised(values: npt.NDArray[np.float64], rows: Counts, floor: float) -> npt.NDArray[np.float64]:
    """Values [ids, 11] of one column with mean 0 and deviation (at most) 1 over its training rows [ids, 10]."""
    total = rows.sum()
    own = values[:, :FOLDS]
    mean = ratio((own * rows).sum(), total)
    deviation = np.sqrt(ratio((rows * (own - mean) ** 2).sum(), total))
    return (values - mean) / np.maximum(deviation, floor)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The quotient; 0 where the whole is 0, and with it the part."""
    return np.asarray(part) / np.where(np.asarray(whole) > 0, whole, 1)


def leave_out(by_fold: Counts) -> Counts:
    """[..., 10] by fold to [..., 11]: the total without each fold, then the whole total.

    What is left does not depend on the fold that is left out, not by a bit.
    """
    if np.issubdtype(by_fold.dtype, np.integer):
        total = by_fold.sum(axis=-1, keepdims=True)
        return np.concatenate([total - by_fold, total], axis=-1)
    # A difference of two sums of weights would keep their rounding, and with it a trace of the fold.
    left = np.zeros((*by_fold.shape[:-1], FOLDS + 1))
    for fold in range(FOLDS):
        left[..., :fold] += by_fold[..., fold : fold + 1]
        left[..., fold + 1 :] += by_fold[..., fold : fold + 1]
    return left

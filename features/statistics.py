"""Click statistics of categorical values: smoothed log-odds and log-count, of rows other than a training row's own.

A training row must not see its own label in its features. In the order "folds" its statistics are the totals without
its own fold; in the order "time" they are those of earlier time slices, as a row in serving sees the past only (see
:mod:`features.time_slices`). The teacher of a fold is given counts in which that fold is zero from the start.

In a log with weights a row of weight 2 is two rows to log-odds, log-count and base rate. Which values are known is
decided by the rows, whatever their weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
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
"""The fold (or time slice) of a row that may see all training rows: validation, test and serving."""


Counts = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClickCounts:
    """Counts and clicks of the values of all categorical columns, one below the other.

    The second axis is the fold, or the time slice (:func:`features.time_slices.sliced_counts`).

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

    def known(self) -> npt.NDArray[np.bool_]:
        """Which ids have training rows in more than one fold, so that some are left whichever is left out: bool [ids].

        A value whose rows all lie in one fold is unknown to each of them, so it is unknown to all.
        """
        return np.count_nonzero(self.counts, axis=1) > 1

    def statistics(self, smoothing: float, order: str = "folds") -> ClickStatistics:
        """The click statistics of each id, by the fold or time slice of the row that asks.

        With n rows and k clicks of a value, and the base rate pi, of the rows that it may see:
        log-odds = log((k + a pi) / (n - k + a (1 - pi))), log-count = log(1 + n R / r), where it may see r of all R
        rows: a count means the same early in the log, late, and in serving. Both are standardised by column over the
        training rows, with what each of them sees. In a log with weights n, k, r and R are sums of weights. See
        :func:`prior_rates` for the rows of the first time slice, which see nothing: n = 0 for all values.

        Args:
            smoothing: a, in rows (of weight 1).
            order: a key of :data:`SEEN`, as the second axis is the fold or the time slice.

        Raises:
            ConfigError: the smoothing is not positive and finite; without it, log-odds would be infinite.
        """
        if not 0 < smoothing < np.inf:
            raise ConfigError(f"The smoothing must be positive and finite. Received: {smoothing} (click statistics).")
        see = SEEN[order]
        rows = see(self._row_masses)
        rate = prior_rates(see(self.row_clicks), rows, order)
        # Every row sees other numbers of rows; counts mean the same in training and serving.
        scale = ratio(rows[FOLDS], rows)
        found = ClickStatistics(np.empty((len(self.counts), FOLDS + 1, 2), np.float32))
        # A column at a time, so that the float64 of all ids is never in memory.
        for start, end in itertools.pairwise([*self.starts.tolist(), len(self.counts)]):
            ids, by_part = slice(start, end), self._masses[start:end]
            counts, clicks = see(by_part), see(self.clicks[ids])
            # Sums of weights are rounded: the clicks' may be the larger one by a bit where all rows click.
            others = np.maximum(counts - clicks, 0)
            odds = np.log((clicks + smoothing * rate) / (others + smoothing * (1 - rate)))
            found.log_odds[ids] = _standardised(odds, by_part, _MIN_ODDS_DEVIATION)
            found.log_count[ids] = _standardised(np.log1p(counts * scale), by_part, _MIN_COUNT_DEVIATION)
        return found


@dataclass(frozen=True)
class ClickStatistics:
    """Statistics of each vocabulary id of all columns.

    Args:
        values: float32 [all ids, 11, 2]: for a row of each fold or time slice, then for one that may see all, the
            log-odds and the log-count of the id, standardised. Both lie side by side: they are looked up together.
    """

    values: npt.NDArray[np.float32]

    @property
    def log_odds(self) -> npt.NDArray[np.float32]:
        """float32 [all ids, 11], a view."""
        return self.values[:, :, 0]

    @property
    def log_count(self) -> npt.NDArray[np.float32]:
        """float32 [all ids, 11], a view."""
        return self.values[:, :, 1]


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


def earlier(by_slice: Counts) -> Counts:
    """[..., 10] by time slice to [..., 11]: the total of the slices before each, then the whole total.

    What was before does not depend on a slice or those after it, not by a bit: the sums are made in their order.
    """
    sums = np.zeros((*by_slice.shape[:-1], FOLDS + 1), by_slice.dtype)
    np.cumsum(by_slice, axis=-1, out=sums[..., 1:])
    return sums


SEEN: dict[str, Callable[[Counts], Counts]] = {"folds": leave_out, "time": earlier}
"""What a training row may see, from counts by fold or time slice: all other folds, or the slices before its own."""


def prior_rates(clicks: Counts, rows: Counts, order: str) -> npt.NDArray[np.float64]:
    """Base rates [11] of what rows may see, from the clicks [11] and rows [11]; never 0 or 1.

    In time, rows that see nothing have the rate of those that see the least, which is that of the first slice itself:
    one number for a whole slice tells no row its label, and the log-odds of a rate of 0 would lie far from all others.
    """
    rate = ratio(clicks, rows)
    if order == "time":
        first = np.argmax(rows > 0)
        rate, seen = (np.where(rows > 0, found, found[first]) for found in (rate, np.asarray(rows)))
        # The first slices may have few rows: no rate is more extreme than so many rows can tell.
        rate = np.clip(rate, 1 / (seen + 2), 1 - 1 / (seen + 2))
    # A part without clicks, or of clicks alone, must not give an infinite prior.
    return np.clip(rate, 1e-6, 1 - 1e-6)

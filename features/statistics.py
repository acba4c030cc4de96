"""Click statistics of categorical values: smoothed log-odds and log-count, with a training row's own fold left out.

A training row must not see its own label in its features, so its statistics are the totals minus its own fold. The
teacher of a fold is given counts in which that fold is zero from the start.
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


@dataclass(frozen=True)
class ClickCounts:
    """Counts and clicks of the values of all categorical columns, one below the other.

    Args:
        starts: int64 [columns]: where each column's vocabulary id 0 lies.
        counts: int64 [all ids, 10] training rows by id and fold.
        clicks: int64 [all ids, 10] clicks by id and fold.
        rows: int64 [10] all training rows by fold.
        row_clicks: int64 [10] all clicks by fold.
    """

    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    clicks: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    row_clicks: npt.NDArray[np.int64]

    @classmethod
    def of(cls, vocabularies: Sequence[Vocabulary], rows: Sequence[int], row_clicks: Sequence[int]) -> ClickCounts:
        """Puts the vocabularies of all columns, in the schema's order, one below the other.

        Args:
            vocabularies: of each categorical column.
            rows: training rows by fold.
            row_clicks: clicks by fold.
        """
        sizes = [vocabulary.ids for vocabulary in vocabularies]
        return cls(
            np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
            np.concatenate([vocabulary.counts for vocabulary in vocabularies]),
            np.concatenate([vocabulary.clicks for vocabulary in vocabularies]),
            np.asarray(rows, np.int64),
            np.asarray(row_clicks, np.int64),
        )

    def without(self, folds: Sequence[int]) -> ClickCounts:
        """The counts as if the rows of these folds did not exist."""
        keep = np.ones(FOLDS, np.int64)
        keep[list(folds)] = 0
        return ClickCounts(
            self.starts, self.counts * keep, self.clicks * keep, self.rows * keep, self.row_clicks * keep
        )

    def base_rate(self) -> float:
        """Clicks over rows, of all folds."""
        return float(self.row_clicks.sum() / max(self.rows.sum(), 1))

    def statistics(self, smoothing: float) -> ClickStatistics:
        """The click statistics of each id, by the fold that is left out.

        With n rows and k clicks of a value, and the base rate pi of the same folds:
        log-odds = log((k + a pi) / (n - k + a (1 - pi))), log-count = log(1 + n R / r), where r of all R rows are left.
        Both are standardised by column over the training rows, each with its own fold left out.

        Args:
            smoothing: a, in rows.

        Raises:
            ConfigError: the smoothing is not positive and finite; without it, log-odds would be infinite.
        """
        if not 0 < smoothing < np.inf:
            raise ConfigError(f"The smoothing must be positive and finite. Received: {smoothing} (click statistics).")
        rows = leave_out(self.rows)
        rate = leave_out(self.row_clicks) / np.maximum(rows, 1)
        # Where a fold is left out there are fewer rows of every value; counts mean the same in training and serving.
        scale = rows[FOLDS] / np.maximum(rows, 1)
        # A part without clicks, or of clicks alone, must not give an infinite prior.
        rate = np.clip(rate, 1e-6, 1 - 1e-6)
        shape = (len(self.counts), FOLDS + 1)
        found = ClickStatistics(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.bool_))
        # A column at a time, so that the float64 of all ids is never in memory.
        for start, end in itertools.pairwise([*self.starts.tolist(), len(self.counts)]):
            ids, by_fold = slice(start, end), self.counts[start:end]
            counts, clicks = leave_out(by_fold), leave_out(self.clicks[ids])
            odds = np.log((clicks + smoothing * rate) / (counts - clicks + smoothing * (1 - rate)))
            found.log_odds[ids] = _standardised(odds, by_fold, _MIN_ODDS_DEVIATION)
            found.log_count[ids] = _standardised(np.log1p(counts * scale), by_fold, _MIN_COUNT_DEVIATION)
            # A value whose rows all lie in one fold is unknown to each of them, so it is unknown to all.
            found.known[ids] = (by_fold > 0).sum(axis=1, keepdims=True) > 1
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


def _standardised(
    values: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], floor: float
) -> npt.NDArray[np.float64]:
    """Values [ids, 11] of one column with mean 0 and deviation (at most) 1 over its training rows [ids, 10]."""
    total = max(int(rows.sum()), 1)
    own = values[:, :FOLDS]
    mean = (own * rows).sum() / total
    deviation = np.sqrt((rows * (own - mean) ** 2).sum() / total)
    return (values - mean) / max(deviation, floor)


def leave_out(by_fold: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[..., 10] by fold to [..., 11]: the total without each fold, then the whole total."""
    total = by_fold.sum(axis=-1, keepdims=True)
    return np.concatenate([total - by_fold, total], axis=-1)

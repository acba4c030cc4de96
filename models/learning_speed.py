"""How fast students learn: training rows until a validation logloss is reached, and the area between two curves.

A curve is a DataFrame with the columns rows_seen, rising, and valid_logloss, a row an evaluation. Between evaluations
it is taken as straight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import DataError

Floats = npt.NDArray[np.float64]


def rows_to_target(history: pd.DataFrame, target: float) -> float:
    """Returns the rows seen when the validation logloss first is as low as `target`; NaN if it never is.

    What happens before the first evaluation is not known: a curve that begins below the target has reached it at its
    first evaluation.
    """
    seen, loss = _points(history)
    reached = np.flatnonzero(loss <= target)
    if not reached.size:
        return float("nan")
    last = int(reached[0])
    if last == 0:
        return float(seen[0])
    share = (loss[last - 1] - target) / (loss[last - 1] - loss[last])
    return float(seen[last - 1] + share * (seen[last] - seen[last - 1]))


def area_between(curve: pd.DataFrame, baseline: pd.DataFrame) -> float:
    """Computes the mean of `curve` minus `baseline`, in nats, over the rows seen that both cover.

    It is the area between the curves over the length of that range, so it is below 0 for a student that is ahead.

    Returns:
        NaN if no number of rows is covered by both.
    """
    (seen, loss), (other_seen, other_loss) = _points(curve), _points(baseline)
    if not seen.size or not other_seen.size:
        return float("nan")
    start, end = max(seen[0], other_seen[0]), min(seen[-1], other_seen[-1])
    if start > end:
        return float("nan")
    every = np.union1d(seen, other_seen)
    x = np.union1d([start, end], every[(every > start) & (every < end)])
    gap = np.interp(x, seen, loss) - np.interp(x, other_seen, other_loss)
    return float(np.trapezoid(gap, x) / (end - start) if end > start else gap[0])


def speed_table(histories: Mapping[str, Sequence[pd.DataFrame]], baseline: str) -> pd.DataFrame:
    """Compares the curves of each method with those of the baseline, seed by seed.

    Args:
        histories: the curve of each seed, by method.
        baseline: name of the method that the others are compared with.

    Returns:
        a row a method and seed; columns method, seed, rows_to_target (the target is the best validation logloss of the
        baseline with that seed), ratio (to the rows at which the baseline has it; below 1 is faster), area.

    Raises:
        DataError: the baseline is missing, or has other seeds.
    """
    if baseline not in histories:
        raise DataError(f"curves must include those of the baseline. Received: {', '.join(histories)} ({baseline}).")
    rows = []
    for method, curves in histories.items():
        if len(curves) != len(histories[baseline]):
            received = f"{len(curves)} and {len(histories[baseline])}"
            raise DataError(
                f"seeds must be as many for the method as for the baseline. Received: {received} ({method})."
            )
        for seed, (curve, other) in enumerate(zip(curves, histories[baseline], strict=True)):
            best = _points(other)[1].min(initial=np.inf)
            reached = rows_to_target(curve, best)
            rows.append((method, seed, reached, reached / rows_to_target(other, best), area_between(curve, other)))
    return pd.DataFrame(rows, columns=["method", "seed", "rows_to_target", "ratio", "area"])


def _points(history: pd.DataFrame) -> tuple[Floats, Floats]:
    """Rows seen and validation logloss where that is a number."""
    seen, loss = (history[name].to_numpy(np.float64) for name in ("rows_seen", "valid_logloss"))
    known = np.isfinite(loss)
    return seen[known], loss[known]

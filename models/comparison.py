"""Whether one method is better than another: paired differences over seeds and rows, with adjusted intervals.

    metrics = resampled(labels, logits, groups)             # of a student: name -> value and draws
    difference = two_way([a["auc"] for a in kd], [b["auc"] for b in hard])
    holm({"kd": difference})["kd"].low

The same groups of rows are drawn for every student. Students of one seed share its teacher, initial weights and order
of the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import ConfigError, DataError
from models.metrics import METRICS, ClickMetrics

Floats = npt.NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
LEVEL = 0.05
RESAMPLES = 4000
"""Enough for 200 comparisons at this level, see :func:`holm`."""

_COLUMNS = ["method", "baseline", "fraction", "metric", "difference", "low", "high", "p_value", "adjusted_p"]
_COLUMNS += ["seeds", "teachers", "interval"]


@dataclass(frozen=True, eq=False)
class Resampled:
    """A metric of one model.

    Attributes:
        value: on all rows; NaN where it is not defined.
        draws: float64 [resamples], on each resample of the rows.
    """

    value: float
    draws: Floats


@dataclass(frozen=True, eq=False)
class Difference:
    """A metric of a method minus that of the baseline, in the mean over seeds.

    Attributes:
        difference: of the values.
        draws: float64 [resamples], on resamples of rows and seeds.
        seeds: number of trainings on each side.
        teachers: number of different teachers behind them; 0 where no student has one.
    """

    difference: float
    draws: Floats
    seeds: int
    teachers: int

    @property
    def units(self) -> int:
        """What is resampled beside the rows: teachers, or seeds if there is one teacher or none."""
        return self.teachers if self.teachers > 1 else self.seeds


@dataclass(frozen=True)
class Interval:
    """What the draws say about a difference; all NaN where they do not say enough.

    Attributes:
        low: lower end.
        high: upper end.
        p_value: two-sided, of no difference.
        adjusted_p: the same, adjusted for the number of comparisons.
    """

    low: float
    high: float
    p_value: float
    adjusted_p: float


Models = Mapping[tuple[str, float], Sequence[Mapping[str, Resampled]]]
"""The metrics of each seed, by method and fraction of the rows."""


def resampled(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Resampled]:
    """Computes the metrics of a model on all rows, and on resamples of groups of rows.

    Args:
        labels: [rows], 1 for a click and 0 for none.
        logits: [rows], finite: log-odds of a click.
        groups: integers [rows], rows that are drawn together: the same draws for all models with the same groups
            and seed. A group takes 25 kB of memory.
        weights: [rows], not negative; 1 for every row when absent.
        resamples: number of resamples.
        seed: of the draws.

    Returns:
        each of ``METRICS``, as :meth:`models.metrics.ClickMetrics.bootstrap` has them.
    """
    names, number = np.unique(groups, return_inverse=True)
    metrics = ClickMetrics.empty(max(len(names), 1)).update(labels, logits, number, weights)
    values, draws = metrics.compute(), metrics.bootstrap(resamples, seed)
    return {name: Resampled(float(values[name]), draws[name]) for name in METRICS}


def two_way(
    method: Sequence[Resampled], baseline: Sequence[Resampled], teachers: Sequence[int] | None = None, seed: int = 0
) -> Difference:
    """Resamples rows and seeds of a paired difference (pigeonhole bootstrap: Owen, 2007, arXiv 0712.1111).

    Draw r has resample r of the rows, and seeds drawn with replacement, the same on both sides. Seeds that share a
    teacher are drawn together: only teachers are independent. With u units drawn, the distance of a draw from the mean
    of all seeds is stretched by sqrt(u / chi2), chi2 drawn with u - 1 degrees of freedom. So the seeds' part has the
    variance s^2 / u and the tails of Student's t; a plain bootstrap has (u - 1) / u of that variance and the tails of
    a normal distribution, and its 95 % of 5 seeds cover 81 %.

    Args:
        method: a metric of the method, an element a seed.
        baseline: that of the baseline with the same seeds, rows and resamples.
        teachers: which teacher each seed has; None where there is none.
        seed: of the draws of seeds.

    Raises:
        DataError: there are no seeds, or not as many on both sides, or not as many teachers named.
    """
    if not len(method) == len(baseline) == len(method if teachers is None else teachers) > 0:
        sizes = f"{len(method)} and {len(baseline)}"
        raise DataError(f"seeds must be as many for the method as for the baseline. Received: {sizes}.")
    value = float(np.mean([a.value - b.value for a, b in zip(method, baseline, strict=True)]))
    paired = np.stack([a.draws - b.draws for a, b in zip(method, baseline, strict=True)], axis=1)
    unit, distinct = np.arange(len(method)), 0
    if teachers is not None:
        names, number = np.unique(np.asarray(teachers), return_inverse=True)
        distinct, unit = len(names), number if len(names) > 1 else unit
    return Difference(value, _with_units(paired, unit, seed), len(method), distinct)


def _with_units(paired: Floats, unit: npt.NDArray[np.intp], seed: int) -> Floats:
    """Draws of the mean over seeds: float64 [resamples, seeds] and the unit of each seed to float64 [resamples]."""
    mean: Floats = paired.mean(axis=1)
    units, resamples = int(unit.max()) + 1, len(paired)
    if units == 1:
        return mean
    # Not `seed` alone: the resamples of the rows are drawn from it, and seeds must not depend on rows.
    generator = np.random.default_rng([seed, 1])
    counts = generator.multinomial(units, np.full(units, 1 / units), size=resamples)[:, unit]
    stretch = np.sqrt(units / generator.chisquare(units - 1, size=resamples))
    drawn = (counts * paired).sum(axis=1) / counts.sum(axis=1)
    return mean + stretch * (drawn - mean)


def holm(differences: Mapping[Key, Difference], level: float = LEVEL) -> dict[Key, Interval]:
    """Tests all differences together by Holm's method (1979), with intervals that decide as it does.

    The p-value is twice the share of draws on the other side of 0, at least 1 / draws. Of m comparisons, the one with
    the i-th smallest has the percentile interval of the level 1 - level / (m - i + 1); those after the first that is
    not significant have that one's level. So an interval excludes 0 exactly where the adjusted p-value is at most
    ``level``, and any of them is wrong to do so with a chance of at most ``level``. This is said of 0 only: the
    intervals do not cover all true differences at once. A difference that is defined on less than half of its draws
    has no interval, and is not one of the m.

    Raises:
        ConfigError: there are too few draws for so many comparisons; one needs m / level.
    """
    draws = {key: np.sort(of.draws[np.isfinite(of.draws)]) for key, of in differences.items()}
    known = {key: _p_value(of) for key, of in draws.items() if 2 * len(of) > len(differences[key].draws)}
    fewest = min((len(draws[key]) for key in known), default=0)
    if len(known) > fewest * level:
        rule = f"at most {level:g} of the {fewest} resamples that are defined"
        raise ConfigError(f"comparisons (methods x fractions) must be {rule}. Received: {len(known)}.")
    p = np.sort(list(known.values()))
    adjusted = np.minimum(np.maximum.accumulate(p * np.arange(len(p), 0, -1)), 1.0)
    rejected = int((adjusted <= level).sum())
    found = dict.fromkeys(differences, Interval(*[float("nan")] * 4))
    for key, value in known.items():
        rank = int(np.searchsorted(p, value))
        outside = int(len(draws[key]) * level / (len(p) - min(rank, rejected)) / 2)
        ends = float(draws[key][outside]), float(draws[key][-1 - outside])
        found[key] = Interval(*ends, value, float(adjusted[rank]))
    return found


def _p_value(draws: Floats) -> float:
    share = 2 * min((draws <= 0).mean(), (draws >= 0).mean())
    return float(np.clip(share, 1 / len(draws), 1.0))


def comparison_table(
    models: Models, baseline: str, teachers: Sequence[int], untaught: Collection[str] = ()
) -> pd.DataFrame:
    """Compares every method with the baseline on the same fraction of the rows, metric by metric.

    Holm's method takes all methods and fractions of a metric together.

    Args:
        models: see :data:`Models`.
        baseline: name of the method that the others are compared with.
        teachers: which teacher each seed has.
        untaught: methods whose students have no teacher.

    Returns:
        a row a method, fraction and metric; columns method, baseline, fraction, metric, difference (method minus
        baseline), low, high, p_value, adjusted_p, seeds, teachers, interval (what it covers, in words).

    Raises:
        ConfigError: see :func:`holm`.
        DataError: the baseline is missing on a fraction, or has other seeds.
    """
    rows = []
    for metric in METRICS:
        differences = {
            key: _difference(models, key, baseline, metric, None if {key[0], baseline} <= set(untaught) else teachers)
            for key in models
            if key[0] != baseline
        }
        intervals = holm(differences)
        family = sum(np.isfinite(of.p_value) for of in intervals.values())
        for (method, fraction), of in differences.items():
            row = {"method": method, "baseline": baseline, "fraction": fraction, "metric": metric}
            row |= {"difference": of.difference, **vars(intervals[method, fraction])}
            row |= {"seeds": of.seeds, "teachers": of.teachers, "interval": _text(of, family)}
            rows.append(row)
    return pd.DataFrame(rows, columns=_COLUMNS)


def _difference(
    models: Models, key: tuple[str, float], baseline: str, metric: str, teachers: Sequence[int] | None
) -> Difference:
    if (baseline, key[1]) not in models:
        raise DataError(f"fractions must have the baseline {baseline}. Received: {key[1]:g} without it (of {key[0]}).")
    method, other = ([of[metric] for of in models[name, key[1]]] for name in (key[0], baseline))
    return two_way(method, other, teachers)


def _text(of: Difference, family: int) -> str:
    """What an interval covers."""
    units = f"{of.units} {'seeds' if of.units == of.seeds else 'teachers'}"
    parts = [f"two-way bootstrap over seeds and rows (Student's t for {units})"]
    if of.seeds == 1:
        parts = ["bootstrap over rows only: one seed"]
    parts += [f"{100 * (1 - LEVEL):g} %", f"Holm over {family} comparison{'' if family == 1 else 's'}"]
    if of.teachers == 1 and of.seeds > 1:
        parts.append("conditional on one teacher")
    return ", ".join(parts)

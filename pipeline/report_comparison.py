"""What ``compare`` has found, as tables, and which method to use by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.report_tables import BETTER

TEACHER = "teacher"

_COLUMNS = {
    "comparisons": "method baseline fraction metric difference low high p_value adjusted_p seeds teachers interval",
    "models": "method fraction metric mean sd seeds",
    "curves": "method fraction seed rows_seen valid_logloss",
    "speed": "method fraction seed rows_to_target ratio area",
    "churn": "method fraction mean_difference relative correlation",
    "fidelity": "method fraction kl top_decile",
    "slices": "method fraction slice rows logloss pcoc",
    "reliability": "method fraction mean_predicted click_rate low high rows",
    "costs": "method parameters bytes",
    "arms": "arm method fraction description teacher settings",
}
_NO_NUMBERS = {
    *("method", "baseline", "metric", "interval", "slice", "rows_seen", "valid_logloss"),
    *("arm", "description", "teacher", "settings"),
}


@dataclass(frozen=True)
class Choice:
    """The method to use at one fraction of the rows.

    Attributes:
        method: Its name; the baseline where no method is clearly better.
        best: The other method with the best mean; the chosen one itself unless that is the baseline; empty for none.
        difference: `best` minus the baseline; NaN where that is not known.
        low: Lower end of its interval.
        high: Upper end of its interval.
        seeds: Trainings of each.
        teachers: Different teachers among them; 0 where there is none.
        unclear: Methods with a better mean than the chosen one that are not clearly better than the baseline.
        close: Methods with a worse mean than the chosen one, but a difference within its interval.
    """

    method: str
    best: str = ""
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 0
    teachers: int = 0
    unclear: tuple[str, ...] = ()
    close: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A comparison of methods. Tables have the columns of ``comparison.json``, NaN for what is not known.

    Attributes:
        baseline: What the methods are compared with.
        metric: What decides.
        split: What models are judged on: ``test``, or ``valid`` where there are no test rows.
        test_rows: Number of these rows.
        fractions: Shares of the training rows that students have seen, rising.
        notes: Sentences that a reader must know.
        comparisons: Row a (method, fraction, metric): paired differences, method minus baseline.
        models: Row a (method, fraction, metric): mean and standard deviation over seeds. Teachers are methods too,
            ``teacher`` and ``teacher of ARM``, at the fraction that they have seen.
        curves: Row a (method, fraction, seed), with lists of rows_seen and valid_logloss.
        speed: Row a (method, fraction, seed).
        churn: Row a (method, fraction).
        fidelity: Row a (method, fraction).
        slices: Row a (method, fraction, slice).
        reliability: Row a (method, fraction, bin).
        costs: Row a method.
        arms: Row a (arm, fraction): what it is. Other tables have the name of the arm as ``method``.
    """

    baseline: str
    metric: str
    split: str
    test_rows: int
    fractions: tuple[float, ...]
    notes: tuple[str, ...]
    comparisons: pd.DataFrame
    models: pd.DataFrame
    curves: pd.DataFrame
    speed: pd.DataFrame
    churn: pd.DataFrame
    fidelity: pd.DataFrame
    slices: pd.DataFrame
    reliability: pd.DataFrame
    costs: pd.DataFrame
    arms: pd.DataFrame

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Comparison:
        """Returns the comparison that ``comparison.json`` holds."""
        tables = {name: _table(found.get(name, []), columns.split()) for name, columns in _COLUMNS.items()}
        labels = str(found.get("labels", ""))
        sentence = f"{labels[:1].upper()}{labels[1:].removesuffix('.')}."
        return cls(
            baseline=found["baseline"],
            metric=found["metric_of_choice"],
            split=found["split"],
            test_rows=found["test_rows"],
            fractions=tuple(sorted(found["fractions"])),
            notes=(*([sentence] if labels else []), *found.get("notes", [])),
            **tables,
        )

    @property
    def full(self) -> float:
        """The largest fraction, by which the method is chosen."""
        return max(self.fractions, default=1.0)

    def means(self, fraction: float, metric: str) -> pd.Series:
        """Returns the mean of a metric by method, the best first; without teachers."""
        rows = self.models.query("fraction == @fraction and metric == @metric")
        rows = rows[~rows["method"].map(is_teacher).astype(bool)]
        values = rows.dropna(subset="mean").set_index("method")["mean"]
        return values.sort_values(ascending=BETTER.get(metric) != "higher", kind="stable")

    def differences(self, fraction: float, metric: str) -> pd.DataFrame:
        """Returns the differences from the baseline by method, the best first."""
        rows = self.comparisons.query("fraction == @fraction and metric == @metric and baseline == @self.baseline")
        rows = rows.sort_values("difference", ascending=BETTER.get(metric) != "higher", kind="stable")
        return rows.set_index("method")

    @property
    def methods(self) -> list[str]:
        """The baseline, then the other methods, the best of the largest fraction first; without teachers."""
        names = [self.baseline, *self.means(self.full, self.metric).index]
        names += [*self.models["method"], *self.comparisons["method"], *self.costs["method"]]
        return [name for name in dict.fromkeys(names) if not is_teacher(name)]

    @property
    def teachers(self) -> list[str]:
        """The teachers, that of the run's settings first."""
        names = [name for name in dict.fromkeys(self.models["method"]) if is_teacher(name)]
        return sorted(names, key=len)

    def style(self, method: str) -> int:
        """Returns the colour, dashes and marker of a method: the teacher's, the baseline's, then by rank."""
        return 1 + self.methods.index(method) if method in self.methods else 0

    def choice(self, fraction: float) -> Choice | None:
        """Returns the method to use: the best of those clearly better than the baseline, else the baseline.

        A difference is clear if its interval, adjusted for the number of methods, excludes 0. None where there is no
        result.
        """
        means, rows = self.means(fraction, self.metric), self._records(fraction)
        if means.empty:
            return None
        others = [str(name) for name in means.index if name != self.baseline]
        better = [name for name in others if name in rows and self._is_better(rows[name])]
        if not better and self.baseline not in means.index and not rows:
            return Choice(others[0])
        best = next(iter(better or others), "")
        numbers = _numbers(rows[best]) if best in rows else {}
        if not better:
            return Choice(self.baseline, best, **numbers)
        place, low, high = others.index(best), rows[best]["low"], rows[best]["high"]
        close = [name for name in others[place + 1 :] if name in rows and low <= rows[name]["difference"] <= high]
        return Choice(best, best, **numbers, unclear=tuple(others[:place]), close=tuple(close))

    def _is_better(self, row: Mapping) -> bool:
        return bool(row["low"] > 0 if BETTER.get(self.metric) == "higher" else row["high"] < 0)

    def _records(self, fraction: float) -> dict[str, Mapping]:
        """The differences of the decisive metric from the baseline, by method."""
        rows = self.differences(fraction, self.metric).to_dict("index")
        return {str(name): record for name, record in rows.items()}


def is_teacher(name: str) -> bool:
    """Whether a row is about a teacher."""
    return name == TEACHER or name.startswith(f"{TEACHER} of ")


def _numbers(row: Mapping) -> dict[str, Any]:
    counts = {name: int(row[name]) if math.isfinite(row[name]) else 0 for name in ("seeds", "teachers")}
    return {**{name: float(row[name]) for name in ("difference", "low", "high")}, **counts}


def _table(records: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(records, columns=columns)
    # Unknown everywhere, a column would be no numbers.
    return frame.astype({name: float for name in columns if name not in _NO_NUMBERS})

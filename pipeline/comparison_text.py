"""A comparison in words: the verdict, and the tables for the terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report_comparison import Choice, Comparison
from pipeline.report_data import SPLITS
from pipeline.report_tables import DECIMALS, TITLES
from pipeline.svg import MINUS, signed

_WIDTH = 100
_LONGEST = 32  # characters of a name


def comparison_text(found: Mapping[str, Any]) -> str:
    """Returns the verdict and a table for each fraction, at most 100 columns wide.

    Args:
        found: What ``comparison.json`` holds.
    """
    comparison = Comparison.of(found)
    parts = [textwrap.fill(sentence, _WIDTH) for sentence in (verdict(comparison), *comparison.notes)]
    parts[1:1] = [_fraction_text(comparison, fraction) for fraction in reversed(comparison.fractions)]
    if len(comparison.comparisons):
        legend = f"Differences are from {comparison.baseline}, with 95 % intervals adjusted for the number of methods"
        parts.insert(1, textwrap.fill(f"{legend}; * excludes 0.", _WIDTH))
    return "\n\n".join(parts).replace(MINUS, "-")


def fraction_name(fraction: float) -> str:
    """Returns a share of the training rows in words."""
    return "all training rows" if fraction == 1 else f"{100 * fraction:g} % of the training rows"


def short_metric(metric: str) -> str:
    """Returns the name of a metric within a sentence."""
    return metric if metric == "logloss" else TITLES.get(metric, metric)


def judged(comparison: Comparison) -> str:
    """Returns the metric that decides, with the rows that it is of."""
    return f"{SPLITS[comparison.split]} {short_metric(comparison.metric)}"


def verdict(comparison: Comparison) -> str:
    """Returns which method to use and why: computed at the largest fraction of the rows."""
    choice = comparison.choice(comparison.full)
    if choice is None:
        return "No method has a result yet."
    where = "" if comparison.full == 1 else f" on {fraction_name(comparison.full)}"
    metric = judged(comparison)
    if choice.method == comparison.baseline:
        return _stay(comparison, choice, metric, where)
    if not choice.best:
        mean = comparison.means(comparison.full, comparison.metric).iloc[0]
        return (
            f"{choice.method} has the best mean {metric}{where}, {mean:.5f}; it has not been compared with "
            f"{comparison.baseline}."
        )
    text = f"Use {choice.method}: {_amount(comparison, choice, metric)} than {comparison.baseline}{where}"
    text += f" {interval(comparison, choice)}, {counts(choice)}."
    if choice.unclear:
        has = "has" if len(choice.unclear) == 1 else "have"
        text += f" {_listed(choice.unclear)} {has} a better mean, but not clearly better than {comparison.baseline}'s."
    return f"{text} {about_as_good(choice)}".strip()


def interval(comparison: Comparison, choice: Choice) -> str:
    """Returns the interval of a choice, in the direction of its difference: positive where that is."""
    sign = -1 if choice.difference < 0 else 1
    low, high = sorted((sign * choice.low, sign * choice.high))
    if not math.isfinite(low + high):
        return "[no interval]"
    shown = (signed(value, DECIMALS[comparison.metric], plus=False) for value in (low, high))
    return f"[{', '.join(shown)}]"


def counts(choice: Choice) -> str:
    """Returns the number of seeds, and what the interval leaves out."""
    if choice.seeds == 1:
        return "one seed: the interval covers the choice of rows alone"
    seeds = f"{choice.seeds} seeds"
    return f"{seeds}, conditional on one teacher" if choice.teachers == 1 else seeds


def about_as_good(choice: Choice) -> str:
    """Returns a sentence on the methods that are nearly as good as the chosen one; empty if there are none."""
    if not choice.close:
        return ""
    of, lie = ("mean", "lies") if len(choice.close) == 1 else ("means", "lie")
    return f"The {of} of {_listed(choice.close)} {lie} within that interval."


def _stay(comparison: Comparison, choice: Choice, metric: str, where: str) -> str:
    if not choice.best:
        return f"Use {choice.method}: no other method has a result{where}."
    text = f"Use {choice.method}: no method is clearly better on {metric}{where}. "
    if not math.isfinite(choice.difference):
        return f"{text}The difference of {choice.best} is not known."
    text += f"The best of the others, {choice.best}: {_amount(comparison, choice, metric)} "
    return f"{text}{interval(comparison, choice)}, {counts(choice)}."


def _amount(comparison: Comparison, choice: Choice, metric: str) -> str:
    side = "lower" if choice.difference < 0 else "higher"
    return f"{abs(choice.difference):.{DECIMALS[comparison.metric]}f} {side} {metric}"


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _fraction_text(comparison: Comparison, fraction: float) -> str:
    names = [*comparison.teachers, *comparison.means(fraction, comparison.metric).index]
    rows = [_cells(comparison, fraction, name) for name in names]
    metric = short_metric(comparison.metric)
    header = ["", metric, f"difference from {comparison.baseline}"[:34], "AUC"]
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    title = (
        f"{fraction_name(fraction).capitalize()}, judged on {comparison.test_rows:,} {SPLITS[comparison.split]} rows"
    )
    return "\n".join([title, *("  ".join(_aligned(row, widths)).rstrip() for row in (header, *rows))])


def _cells(comparison: Comparison, fraction: float, name: str) -> list[str]:
    metric, table = comparison.metric, comparison.models
    shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."
    means = table[(table["method"] == name) & (table["fraction"] == fraction)].groupby("metric")["mean"].first()
    rows, difference = comparison.differences(fraction, metric), "baseline" if name == comparison.baseline else "-"
    if name in rows.index and name != comparison.baseline:
        row, decimals = rows.loc[name], DECIMALS[metric]
        low, value, high = (f"{row[key]:+.{decimals}f}" for key in ("low", "difference", "high"))
        difference = f"{value} [{low}, {high}]{' *' if row['low'] > 0 or row['high'] < 0 else '  '}"
    numbers = [_number(means.get(key, math.nan), DECIMALS[key]) for key in (metric, "auc")]
    return [shown, numbers[0], difference, numbers[1]]


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "-"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = row
    return [f"{first:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))]

"""The tables of a comparison of methods."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from example_comparison import comparison

from models.metrics import METRICS
from pipeline.comparison_tables import (
    choice_table,
    difference_tables,
    mean_tables,
    method_table,
    repeat_table,
    slice_tables,
    speed_table,
)
from pipeline.report_comparison import Comparison
from pipeline.report_tables import TITLES


def rows(html: str) -> dict[str, list[str]]:
    """The first row by name: the texts of its cells, lines parted by a bar."""
    found: dict[str, list[str]] = {}
    for row in re.findall(r"<tr.*?</tr>", html):
        name, *cells = (
            re.sub(r"<[^>]*>", "", re.sub(r"<small>|<span[^>]*>", "|", cell))
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row)
        )
        found.setdefault(unescape(name), [unescape(cell) for cell in cells])
    return found


def test_choice_by_fraction() -> None:
    value = comparison({"kd": (-0.0003, -0.0008, 0.0002), "subclass": (-0.0001, -0.001, 0.001)}, fractions=(0.03, 1.0))
    for row in value["comparisons"]:
        if row["fraction"] == 0.03 and row["method"] == "kd":
            row["high"] = -0.0001
    found = rows(choice_table(Comparison.of(value)))
    assert found["3 %"] == ["kd", "\u22120.00060|\u22120.00160 to \u22120.00010", found["3 %"][2]]
    assert found["3 %"][2] == "The mean of subclass lies within that interval."
    assert found["100 %"] == ["hard", "\u2013", "kd: \u22120.00030 [\u22120.00080 to +0.00020], not clear"]
    assert choice_table(Comparison.of(comparison())) == "", "the verdict says it"


def test_differences_of_all_metrics() -> None:
    html = difference_tables(Comparison.of(comparison(fractions=(0.1, 1.0))))
    found = rows(html)
    assert found["Method \u2212 baseline"] == [TITLES[name] for name in METRICS]
    cell = "\u22120.00200|\u22120.00300 to \u22120.00100|better, p 0.023"
    assert found["kd|\u2212 hard"][0] == cell
    assert found["kd|\u2212 hard"][1] == "+0.00200|+0.00100 to +0.00300|better, p 0.023"
    assert html.count("<details>") == 1 and "With 10 % of the training rows" in html
    assert "Intervals: two-way bootstrap, 95 %, Holm." in html


@pytest.mark.parametrize(
    ("p", "words"), [(0.0002, ", p &lt; 0.001"), (0.25, ", p 0.250"), (None, "better</small></td>")]
)
def test_p_values(p: float | None, words: str) -> None:
    value = comparison({"kd": (-0.002, -0.003, -0.001)})
    for row in value["comparisons"]:
        row["adjusted_p"] = p
    assert words in difference_tables(Comparison.of(value))


def speed(reached: list[float | None]) -> dict[str, Any]:
    table = [
        {
            "method": "kd",
            "fraction": 1.0,
            "seed": seed,
            "rows_to_target": rows,
            "ratio": rows and rows / 2000,
            "area": a,
        }
        for seed, (rows, a) in enumerate(zip(reached, (-0.001, -0.002, -0.003), strict=False))
    ]
    return comparison(speed=table)


@pytest.mark.parametrize(
    ("reached", "cells"),
    [
        ([1000.0, 1400.0, 1800.0], ["1,400", "0.700", "3 of 3", "\u22120.00200"]),
        ([1000.0, None, 1800.0], ["1,800", "0.900", "2 of 3", "\u22120.00200"]),
        ([1000.0, None, None], ["\u2013", "\u2013", "1 of 3", "\u22120.00200"]),
        ([1000.0], ["1,000", "0.500", "1 of 1", "\u22120.00100"]),
    ],
)
def test_speed_is_a_median_in_which_late_seeds_count(reached: list[float | None], cells: list[str]) -> None:
    assert rows(speed_table(Comparison.of(speed(reached))))["kd"] == cells


def test_means_mark_the_best_student() -> None:
    html = mean_tables(Comparison.of(comparison()))
    found = rows(html)
    assert list(found)[1:] == ["teacher|1 teacher", "kd|5 seeds", "subclass|5 seeds", "hard|5 seeds"]
    assert found["kd|5 seeds"][:2] == ["0.44800|\u00b1 0.00030", "0.78200|\u00b1 0.00030"]
    assert "<strong>0.44800</strong>" in html and "<strong>0.78200</strong>" in html
    # Of PCOC the nearest to 1: 1.008 of kd, 1.0085 and 1.01 of the others.
    assert "<strong>1.0080</strong>" in html and html.count("<strong>") == 6


def test_means_of_one_seed_have_no_deviation() -> None:
    found = rows(mean_tables(Comparison.of(comparison(seeds=1))))
    assert found["kd|1 seed"][0] == "0.44800"


def test_churn_and_fidelity_are_one_table() -> None:
    found = rows(repeat_table(Comparison.of(comparison(fractions=(0.1, 1.0)))))
    assert found["kd"] == ["0.01234", "0.0987", "0.9654", "0.01230", "0.8765"]
    assert found["hard"] == ["0.01234", "0.0987", "0.9654", "\u2013", "\u2013"]
    one = rows(repeat_table(Comparison.of(comparison(seeds=1, churn=[]))))
    assert one["kd"][-2:] == ["0.01230", "0.8765"]


def test_slices() -> None:
    found = rows(slice_tables(Comparison.of(comparison(fractions=(0.1, 1.0)))))
    assert found["Model"] == ["0 (120 rows)", "1-9 (24,880 rows)"]
    assert found["subclass"] == ["0.51111|PCOC 1.0321", "0.44999|PCOC 0.9987"]


def test_a_slice_that_a_method_lacks_is_a_dash() -> None:
    value = comparison()
    value["slices"] = [row for row in value["slices"] if row["method"] != "kd" or row["slice"] != "0"]
    assert rows(slice_tables(Comparison.of(value)))["kd"] == ["\u2013", "0.44999|PCOC 0.9987"]


def test_methods_show_the_settings_that_differ_from_the_baseline() -> None:
    value = comparison()
    value["arms"].append({**value["arms"][1], "arm": "kd+x", "settings": {"seed": 0, "alpha": 0.0, "x": [1, 2]}})
    found = rows(method_table(Comparison.of(value)))
    assert found["hard"] == ["what hard learns from", "\u2013", "seed 0, alpha 0.0"]
    assert found["subclass"] == ["what subclass learns from", "beta 0.25", "alpha 0.9"]
    assert found["kd+x|kd"] == ["what kd learns from", "\u2013", "x [1, 2]"]

"""The sections of the page on a comparison of methods."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from example_comparison import comparison

from pipeline.comparison_sections import mean_curve, sections
from pipeline.report_comparison import Comparison

TITLES = (
    "Comparison of methods",
    "Speed of learning",
    "Fewer rows",
    "Reliability by method",
    "Cost against quality",
    "Metrics by method",
    "The methods",
)


def markup(value: dict, title: str) -> str:
    return sections()[title](Comparison.of(value))


def charts(html: str) -> list[str]:
    found = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert all(ET.fromstring(chart).get("role") == "img" for chart in found)
    return found


def names(chart: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(chart).iter("text")]


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("seeds", [1, 5])
def test_sections_are_well_formed_and_hold_no_nan(title: str, seeds: int) -> None:
    unknown = {"kd": (None, None, None), "subclass": (-0.002, -0.003, -0.001)}
    html = markup(comparison(unknown, fractions=(0.1, 1.0), seeds=seeds, teachers=1), title)
    assert ET.fromstring(f"<div>{html}</div>").tag == "div"
    assert len(html) > 500 and not re.search(r"\b(nan|inf|None)\b", html)
    charts(html)


@pytest.mark.parametrize("title", TITLES)
def test_names_are_escaped(title: str) -> None:
    wild = "<script>&\"'"
    html = markup(comparison({wild: (-0.002, -0.003, -0.001)}, fractions=(0.1, 1.0)), title)
    assert "<script>" not in html
    assert "&lt;script&gt;&amp;" in html


@pytest.mark.parametrize("title", TITLES)
def test_nothing_known_is_nothing_shown(title: str) -> None:
    tables = ("comparisons", "models", "curves", "speed", "churn", "fidelity", "slices", "reliability", "costs", "arms")
    assert markup(comparison() | {name: [] for name in tables}, title) == ""


def test_forest_plots_are_a_panel_a_fraction_sorted_by_difference() -> None:
    given = {"b": (0.001, -0.001, 0.003), "kd": (-0.001, -0.003, 0.001), "a": (-0.002, -0.003, -0.001)}
    found = charts(markup(comparison(given, fractions=(0.1, 1.0)), "Comparison of methods"))
    assert [ET.fromstring(chart).get("aria-label") for chart in found] == [
        "Logloss, all training rows",
        "Logloss, 10 % of the training rows",
        "AUC, all training rows",
        "AUC, 10 % of the training rows",
    ]
    for chart in found:
        assert [word for word in names(chart) if word in given] == ["a", "kd", "b"]
        assert chart.count('class="clear"') == 1 and chart.count('class="hollow"') == 2
    assert "\u22120.00200 [\u22120.00300, \u22120.00100]" in names(found[0])
    assert "\u2190 better \u00b7 logloss minus that of hard (nats)" in names(found[0])
    assert "AUC minus that of hard \u00b7 better \u2192" in names(found[2])


def test_learning_curves_have_bands_where_there_are_seeds() -> None:
    found = charts(markup(comparison(fractions=(0.1, 1.0)), "Speed of learning"))
    assert len(found) == 2
    assert {"hard", "kd", "subclass"} <= set(names(found[0]))
    assert [chart.count('class="band"') for chart in found] == [3, 3]
    assert charts(markup(comparison(seeds=1), "Speed of learning"))[0].count('class="band"') == 0


def test_many_methods_leave_the_charts_of_lines_to_the_best() -> None:
    given = {f"m{i}": (-0.001 * i, -0.001 * i - 0.0005, -0.001 * i + 0.0005) for i in range(1, 9)}
    value = comparison(given, fractions=(0.1, 1.0))
    for title in ("Speed of learning", "Fewer rows"):
        html = markup(value, title)
        assert "Drawn are hard and the best 4 of the other methods" in html
        drawn = [word for word in names(charts(html)[0]) if word in given]
        assert drawn == ["m8", "m7", "m6", "m5"]


def test_mean_curve_by_hand() -> None:
    curves = [([0, 10, 20], [4.0, 2.0, 1.0]), ([5, 15], [3.0, 3.0]), ([0, 10, 30], [2.0, None, 2.0])]
    found = mean_curve(curves)  # type: ignore[arg-type]
    # All of them go from 5 to 15; between its points a curve is straight.
    expected = pd.DataFrame(
        {"x": [5, 10, 15], "y": [8 / 3, 7 / 3, 6.5 / 3], "low": [2.0, 2.0, 1.5], "high": [3.0, 3.0, 3.0]}
    ).astype(float)
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("curves", [[], [([], [])], [([1.0], [float("nan")])]])
def test_mean_curve_of_nothing(curves: list[tuple[list[float], list[float]]]) -> None:
    assert mean_curve(curves).empty


def test_curves_that_do_not_overlap_have_no_mean() -> None:
    assert mean_curve([([1, 2], [0.5, 0.4]), ([3, 4], [0.5, 0.4])]).empty


def test_fractions_are_a_line_a_method_and_the_teacher() -> None:
    assert markup(comparison(), "Fewer rows") == ""
    chart = charts(markup(comparison(fractions=(0.03, 0.1, 1.0)), "Fewer rows"))[0]
    assert {"teacher", "hard", "kd", "subclass", "3 %", "10 %", "100 %"} <= set(names(chart))
    assert "<title>kd: 0.44800 at 1</title>" in chart and "<title>hard: 0.45900 at 0.1</title>" in chart
    # It has seen all rows, whatever its students see.
    assert "<title>teacher: 0.44000 at 0.03</title>" in chart and "<title>teacher: 0.44000 at 1</title>" in chart
    assert chart.count('class="band"') == 3


def test_reliability_of_each_method_at_the_largest_fraction() -> None:
    found = charts(markup(comparison(fractions=(0.1, 1.0)), "Reliability by method"))
    assert [names(chart)[0] for chart in found] == ["hard", "kd", "subclass"]
    assert all("predicted 0.1000, click rate 0.1200, 10,000 rows" in chart for chart in found)


def test_costs_join_what_is_worth_its_size() -> None:
    """`hard` is the smallest, `kd` better and larger; `subclass` is larger still and worse than `kd`."""
    html = markup(comparison(), "Cost against quality")
    chart = charts(html)[0]
    assert {"hard", "kd", "subclass", "mean test logloss"} <= set(names(chart))
    path = next(node for node in ET.fromstring(chart).iter("path") if node.get("class") == "joined")
    assert path.get("d", "").count("L") == 1
    assert "<td>1,001</td><td>4 kB</td><td>0.44800</td>" in html

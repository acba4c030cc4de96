from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from pipeline.charts import Estimate, Series, interval_chart, line_chart, reliability_chart


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter("text")]


def with_class(svg: str, name: str) -> list[ET.Element]:
    return [node for node in ET.fromstring(svg).iter() if name in node.get("class", "").split()]


def test_line_chart_has_title_labels_legend_and_a_line_a_series() -> None:
    series = [
        Series("teacher", [1, 2, 3], [0.50, 0.48, 0.49]),
        Series("students/kd", [1, 2], [0.52, 0.51], 1),
    ]
    svg = line_chart(series, "Validation logloss", "rows seen", "logloss (nats)", mark_lowest=True)
    assert {"Validation logloss", "rows seen", "logloss (nats)", "teacher", "students/kd"} <= set(texts(svg))
    assert len(with_class(svg, "line")) == 2 * len(series)  # one in the plot, one in the legend
    assert len(with_class(svg, "ring")) == 2
    assert {node.get("stroke-dasharray") for node in with_class(svg, "line")} == {None, "7 3"}


def test_lines_lie_inside_the_chart_and_lower_is_lower() -> None:
    svg = line_chart([Series("a", [0, 1e6], [0.5, 0.4], 2)], "t", "x", "y")
    width, height = (float(v) for v in ET.fromstring(svg).get("viewBox", "").split()[2:])
    path = with_class(svg, "line")[1].get("d", "").replace("M", "").replace("L", "").split()
    x0, y0, x1, y1 = map(float, path)
    assert 0 < x0 < x1 < width and 0 < y0 < y1 < height


def test_missing_points_break_the_line_and_empty_series_vanish() -> None:
    series = [Series("a", [1, 2, 3, 4], [1.0, math.nan, 2.0, 3.0]), Series("gone", [1], [math.nan], 1)]
    svg = line_chart(series, "t", "x", "y", mark_lowest=True)
    assert with_class(svg, "line")[1].get("d", "").count("M") == 2
    assert "gone" not in texts(svg)


@pytest.mark.parametrize("series", [[], [Series("a", [1], [0.5])], [Series("a", [1, 2], [0.5, 0.5])]])
def test_degenerate_line_charts_are_drawn(series: list[Series]) -> None:
    assert "nan" not in line_chart(series, "t", "x", "y", mark_lowest=True)


def test_reliability_chart_has_the_diagonal_and_a_bar_a_bin() -> None:
    table = pd.DataFrame(
        {
            "mean_predicted": [0.1, 0.5],
            "click_rate": [0.12, 0.4],
            "rows": [10, 20],
            "low": [0.05, 0.3],
            "high": [0.2, 0.6],
        }
    )
    svg = reliability_chart(table, "teacher")
    assert len(with_class(svg, "diagonal")) == 1
    bars = with_class(svg, "bar")
    assert len(bars) == len(with_class(svg, "marker")) == 2
    assert float(bars[0].get("y1", "")) > float(bars[0].get("y2", ""))
    assert "predicted 0.1000, click rate 0.1200, 10 rows" in svg
    assert {"teacher", "click rate", "mean predicted click probability"} <= set(texts(svg))


def test_interval_chart_tells_clear_from_unclear() -> None:
    rows = [
        Estimate("kd \u2212 hard", -0.002, -0.003, -0.001),
        Estimate("subclass \u2212 kd", 0.0, -0.001, 0.001),
    ]
    svg = interval_chart(rows, "Logloss", "difference", better="lower")
    clear, hollow = with_class(svg, "clear"), with_class(svg, "hollow")
    assert len(clear) == len(hollow) == 1
    assert float(clear[0].get("cx", "")) < float(hollow[0].get("cx", ""))
    assert float(with_class(svg, "zero")[0].get("x1", "")) == float(hollow[0].get("cx", ""))
    assert "\u22120.00200 [\u22120.00300, \u22120.00100]" in texts(svg)
    assert "\u2190 better \u00b7 difference" in texts(svg)


def test_interval_chart_without_an_interval_shows_the_name_only() -> None:
    svg = interval_chart([Estimate("a", math.nan, math.nan, math.nan)], "t", "x")
    assert not with_class(svg, "interval")
    assert "a" in texts(svg) and "nan" not in svg


def test_names_are_escaped() -> None:
    wild = '<b>"&\x01'
    table = pd.DataFrame({"mean_predicted": [0.1], "click_rate": [0.1], "rows": [1], "low": [0.0], "high": [0.2]})
    for svg in (
        line_chart([Series(wild, [1, 2], [1, 2])], wild, wild, wild),
        reliability_chart(table, wild),
        interval_chart([Estimate(wild, 1, 0, 2)], wild, wild),
    ):
        assert '<b>"&\ufffd' in texts(svg)

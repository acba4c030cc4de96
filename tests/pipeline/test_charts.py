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


def test_a_band_lies_around_its_line() -> None:
    series = Series("a", [0, 1, 2], [2.0, 3.0, 4.0], 1, low=[1.0, 2.0, math.nan], high=[3.0, 5.0, 6.0])
    svg = line_chart([series, Series("b", [0, 1], [2.0, 2.0])], "t", "x", "y")
    (band,) = with_class(svg, "band")
    corners = [tuple(map(float, point.split())) for point in band.get("d", "").strip("Mz").split(" L")]
    # There along the lower edge, back along the upper one; y grows downwards.
    assert len(corners) == 4
    assert corners[0][0] == corners[3][0] < corners[1][0] == corners[2][0]
    assert corners[0][1] > corners[3][1] and corners[1][1] > corners[2][1]
    line = with_class(svg, "line")[2].get("d", "").replace("M", "").replace("L", "").split()
    assert corners[3][1] < float(line[1]) < corners[0][1]


def test_ticks_of_a_logarithmic_chart_do_not_overlap() -> None:
    series = [Series("a", [0.01, 0.1, 0.95, 1.0], [4.0, 3.0, 2.0, 1.0])]
    ticks = {0.01: "1 %", 0.1: "10 %", 0.95: "95 %", 1.0: "100 %"}
    svg = line_chart(series, "t", "x", "y", log_ticks=ticks)
    assert [word for word in texts(svg) if "%" in word] == ["100 %", "10 %", "1 %"]
    places = [float(n.get("x", "")) for n in ET.fromstring(svg).iter("text") if "%" in (n.text or "")]
    assert places[0] - places[1] == pytest.approx(places[1] - places[2], abs=0.02)


def test_styles_with_the_same_colour_differ_in_dashes() -> None:
    series = [Series(str(style), [1, 2], [1, 2], style) for style in range(18)]
    svg = line_chart(series, "t", "x", "y")
    groups = [node for node in ET.fromstring(svg).iter("g") if "series" in node.get("class", "")]
    looks = {(g.get("class"), g[0].get("stroke-dasharray")) for g in groups}
    assert len(looks) == 18


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


def test_labels_of_an_interval_chart_are_not_cut() -> None:
    svg = interval_chart([Estimate("a", -0.008, -0.01, -0.0051)], "t", "x")
    root = ET.fromstring(svg)
    width = float(root.get("viewBox", "").split()[2])
    ticks = [n for n in root.iter("text") if n.get("class") == "tick"]
    assert len(ticks) > 2
    for tick in ticks:
        half = 3.2 * len(tick.text or "")
        assert half <= float(tick.get("x", "")) <= width - half


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

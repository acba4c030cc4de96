"""Named points: what each costs, and how good it is."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from pipeline.report_tables import size
from pipeline.scatter_chart import Spot, efficient, scatter_chart


def spot(name: str, x: float, y: float, sd: float = 0.001) -> Spot:
    return Spot(name, x, y, y - sd, y + sd)


@pytest.mark.parametrize(
    ("points", "names"),
    [
        ([("a", 1, 3), ("b", 2, 2), ("c", 3, 1)], "abc"),
        ([("a", 1, 3), ("b", 2, 4), ("c", 3, 1)], "ac"),
        ([("a", 1, 1), ("b", 2, 1), ("c", 1, 2)], "a"),
        ([("c", 3, 1), ("a", 1, 2)], "ac"),
        ([], ""),
    ],
)
def test_efficient(points: list[tuple[str, float, float]], names: str) -> None:
    assert "".join(found.name for found in efficient([spot(*point) for point in points])) == names


def test_points_with_bars_and_names() -> None:
    chart = scatter_chart([spot("kd", 4e5, 0.45), spot("teacher", 4e7, 0.44)], "t", "size", "logloss", size)
    root = ET.fromstring(chart)
    assert {"kd", "teacher", "t", "size", "logloss", "1 MB", "10 MB"} <= {node.text for node in root.iter("text")}
    assert len([node for node in root.iter() if node.get("class") == "bar"]) == 2
    assert "<title>teacher: 0.44000 at 40 MB</title>" in chart


def test_what_is_not_known_is_left_out() -> None:
    spots = [spot("a", 1e5, math.nan), spot("b", math.nan, 0.4), spot("c", 0.0, 0.4), spot("d", 1e5, 0.4, math.nan)]
    chart = scatter_chart(spots, "t", "x", "y", size)
    assert {node.text for node in ET.fromstring(chart).iter("text")} & set("abcd") == {"d"}
    assert "nan" not in chart and 'class="bar"' not in chart and "joined" not in chart
    assert "nan" not in scatter_chart([], "t", "x", "y", size)


def test_names_do_not_lie_on_each_other() -> None:
    """Sixteen models of one size and nearly one quality."""
    spots = [spot(f"method-{i}", 4e5 + i, 0.45 + i * 1e-5) for i in range(16)]
    root = ET.fromstring(scatter_chart(spots, "t", "x", "y", size))
    width, height = (float(v) for v in root.get("viewBox", "").split()[2:])
    boxes = []
    for node in root.iter("text"):
        if (node.text or "").startswith("method"):
            x, y, length = float(node.get("x", "")), float(node.get("y", "")), 6.0 * len(node.text or "")
            left = x if node.get("text-anchor") == "start" else x - length
            assert 0 <= left and left + length <= width and 0 < y < height
            boxes.append((left, left + length, y))
    assert len(boxes) == 16
    for i, (left, right, y) in enumerate(boxes):
        for other_left, other_right, other_y in boxes[:i]:
            assert right <= other_left or other_right <= left or abs(y - other_y) >= 14

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from pipeline.svg import Axis, element, label, log_ticks, nice_ticks, safe, signed, tick_labels


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.4807, 0.4993, [0.485, 0.49, 0.495]),
        (-0.0031, 0.0012, [-0.003, -0.002, -0.001, 0, 0.001]),
        (0, 12_000_000, [0, 2.5e6, 5e6, 7.5e6, 1e7]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.8, 12, [1, 2, 5, 10]),
        (0.008, 1.2, [0.01, 0.03, 0.1, 0.3, 1]),
        (9e3, 2e8, [1e4, 1e5, 1e6, 1e7, 1e8]),
        (340, 690, [400, 500, 600]),
    ],
)
def test_log_ticks_are_round_and_few(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0.0, 0.25, 0.5], ["0.00", "0.25", "0.50"]),
        ([-0.002, 0.0, 0.002], ["\u22120.002", "0.000", "0.002"]),
        ([0, 2.5e6, 5e6], ["0.0", "2.5M", "5.0M"]),
        ([0, 2000, 4000], ["0", "2k", "4k"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([], []),
    ],
)
def test_tick_labels_tell_ticks_apart(ticks: list[float], labels: list[str]) -> None:
    assert tick_labels(ticks) == labels


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.00123, "+0.001"), (-0.00123, "\u22120.001"), (-0.0001, "0.000"), (math.nan, "\u2013")],
)
def test_signed(value: float, words: str) -> None:
    assert signed(value, 3) == words


def test_text_is_escaped_and_stays_well_formed() -> None:
    wild = "<script>&\"'\x00\x1b\ufffe"
    assert ET.fromstring(label(0, 0, wild)).text == "<script>&\"'\ufffd\ufffd\ufffd"
    assert ET.fromstring(element("g", title=wild)).get("title") == "<script>&\"'\ufffd\ufffd\ufffd"
    assert safe(3) == "3"


def test_element_writes_short_numbers_and_leaves_none_out() -> None:
    assert element("circle", r=1.5, cx=2.0, cy=0.333, fill=None) == '<circle r="1.5" cx="2" cy="0.33"></circle>'
    assert element("rect", width=100.0, x=0.0) == '<rect width="100" x="0"></rect>'


def test_axis_maps_its_ends_and_shows_every_value() -> None:
    axis = Axis(0.0, 10.0, 100.0, 0.0)
    assert (axis(0), axis(5), axis(10)) == (100, 50, 0)
    around = Axis.around([3.0, math.nan, 5.0], 0, 100, zero=True)
    assert around.low < 0 < 5 < around.high
    flat = Axis.around([2.0, 2.0], 0, 100)
    assert flat.low < 2 < flat.high
    assert Axis.around([], 0, 100).low < Axis.around([], 0, 100).high


def test_a_log_axis_has_equal_steps_for_equal_ratios() -> None:
    axis = Axis(1.0, 100.0, 0.0, 200.0, log=True)
    assert [axis(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])
    around = Axis.around([10.0, 1000.0, math.nan, 0.0], 0, 100, margin=0.25, log=True)
    assert (around.low, around.high) == pytest.approx((10**0.5, 10**3.5))
    assert around.ticks(words=lambda values: [f"{v:g}!" for v in values])[0][1] == "10!"


@pytest.mark.parametrize("values", [[480.0, 481.0], [480.0]])
def test_a_log_axis_makes_no_mountain_of_a_small_difference(values: list[float]) -> None:
    around = Axis.around(values, 0, 100, log=True)
    assert around.high / around.low == pytest.approx(2)
    assert math.sqrt(around.low * around.high) == pytest.approx(480.5, abs=0.6)

"""The report's section on the teacher."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pandas as pd

from pipeline.report_data import ReportData
from pipeline.report_teacher import diagnosis, subclass_map, subclasses

COLUMNS = ["class", "subclass", "share", "column", "value", "lift", "rows"]
MAP = pd.DataFrame(
    [
        ("no click", 0, 0.75, "site", "<news>", 3.456, 1234.4),
        ("no click", 0, 0.75, "hour", "12", 1.5, 50.0),
        ("no click", 1, 0.25, "", "", math.nan, 250.0),
        ("click", 0, 1.0, "site", "shop", 2.0, 99.0),
    ],
    columns=COLUMNS,
)


def data(**frames: pd.DataFrame) -> ReportData:
    return ReportData("t", "s", pd.DataFrame(), **frames)  # type: ignore[arg-type]


def test_each_subclass_has_a_card_with_its_values() -> None:
    root = ET.fromstring(f"<div>{subclass_map(MAP)}</div>")
    cards = [node for node in root.iter("div") if node.get("class") == "card"]
    texts = [" ".join(" ".join(card.itertext()).split()) for card in cards]
    assert texts == [
        "Subclass 0 75.0 % site = <news> 3.46\u00d7 1,234 rows hour = 12 1.50\u00d7 50 rows",
        "Subclass 1 25.0 % No value stands out.",
        "Subclass 0 100.0 % site = shop 2.00\u00d7 99 rows",
    ]
    assert [node.text for node in root.iter("h3")] == ["Subclasses of no click", "Subclasses of click"]
    assert [node.get("style") for node in root.iter("div") if node.get("style")] == [
        "width: 75.0%",
        "width: 25.0%",
        "width: 100.0%",
    ]


def test_a_teacher_without_subclasses_has_no_map() -> None:
    assert subclass_map(pd.DataFrame()) == "" and subclasses(data()) == ""
    assert "No value stands out" in subclasses(data(subclass_map=MAP))


def test_diagnosis_is_a_column_a_split() -> None:
    rows = [
        ("valid", "calibration slope", 0.98765, math.nan, math.nan),
        ("test", "calibration slope", 1.01234, math.nan, math.nan),
        ("test", "logloss minus that of hard", -0.004, -0.005, -0.003),
        ("test", "mean (p_t - p*)^2", 0.0000123, math.nan, math.nan),
        ("valid", "logloss lost", -3.1e-14, math.nan, math.nan),
        ("test", "best alpha", math.nan, math.nan, math.nan),
    ]
    html = diagnosis(data(diagnosis=pd.DataFrame(rows, columns=["split", "what", "value", "low", "high"])))
    for words in (
        '<th scope="col">Test rows</th><th scope="col">Validation rows</th>',
        "<td>1.01234</td><td>0.98765</td>",
        "<td><strong>\u22120.00400</strong><small>\u22120.00500 to \u22120.00300</small></td><td>\u2013</td>",
        "<td>1.23e\u221205</td>",
        "<td>0.00000</td>",
    ):
        assert words in html, words
    assert "nan" not in html and diagnosis(data()) == ""


def test_diagnosis_without_intervals() -> None:
    """A run without the student that has no teacher."""
    frame = pd.DataFrame([{"split": "test", "what": "calibration slope", "value": 0.9}])
    assert "<td>0.90000</td>" in diagnosis(data(diagnosis=frame))

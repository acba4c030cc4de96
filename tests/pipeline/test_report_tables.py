from __future__ import annotations

import math

import pandas as pd
import pytest

from models.metrics import METRICS
from pipeline.report_tables import best_students, cost_table, number, size


@pytest.mark.parametrize(
    ("value", "decimals", "words"),
    [
        (0.48213, 5, "0.48213"),
        (1234567, 0, "1,234,567"),
        (-0.5, 1, "\u22120.5"),
        (-0.0001, 3, "0.000"),
        (math.nan, 2, "\u2013"),
    ],
)
def test_number(value: float, decimals: int, words: str) -> None:
    assert number(value, decimals) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (512, "512 B"),
        (1500, "1.5 kB"),
        (20.9e6, "20.9 MB"),
        (3.21e9, "3.21 GB"),
        (999.7e3, "1 MB"),
        (math.nan, "\u2013"),
    ],
)
def test_size(count: float, words: str) -> None:
    assert size(count) == words


def test_best_students_by_metric() -> None:
    values = {
        "teacher": (0.1, 0.9, 0.1, 1.0, 0.0, 0.1),
        "students/a": (0.5, 0.7, 0.8, 1.2, math.nan, 0.2),
        "students/b": (0.4, 0.6, 0.9, 0.9, math.nan, 0.2),
    }
    frame = pd.DataFrame([{"model": m} | dict(zip(METRICS, v, strict=True)) for m, v in values.items()])
    assert best_students(frame) == {
        "logloss": "students/b",
        "auc": "students/a",
        "ne": "students/a",
        "pcoc": "students/b",
        "brier": "students/a",
    }
    assert best_students(frame[:1]) == {}


def test_costs_are_compared_with_the_teacher() -> None:
    columns = ["model", "parameters", "bytes", "rows_per_second"]
    rows = [
        ("teacher", 1000, 4e6, 100.0),
        ("students/kd", 80, 4e6, 250.0),
        ("students/x", 2000, math.nan, 50.0),
    ]
    html = cost_table(pd.DataFrame(rows, columns=columns))
    for words in (
        "1/12 of the teacher",
        "as the teacher",
        "2.5\u00d7 the teacher",
        "2\u00d7 the",
        "1/2 of the",
    ):
        assert words in html
    assert "of the teacher" not in cost_table(pd.DataFrame(rows[1:], columns=columns))

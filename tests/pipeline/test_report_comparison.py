"""What a comparison says: its tables, and the method to use."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest
from example_comparison import Numbers, comparison

from pipeline.report_comparison import Choice, Comparison, is_teacher

CLEAR, WIDE = (-0.002, -0.003, -0.001), (-0.003, -0.007, 0.001)
CASES: dict[str, tuple[dict[str, Numbers], tuple[str, str, tuple[str, ...], tuple[str, ...]]]] = {
    # differences, then method, best, unclear and close
    "the best is clear": ({"kd": CLEAR, "subclass": (-0.0005, -0.001, 0.001)}, ("kd", "kd", (), ())),
    "another is close": ({"kd": CLEAR, "subclass": (-0.001, -0.002, 0.0)}, ("kd", "kd", (), ("subclass",))),
    "the best is not clear": ({"kd": WIDE}, ("hard", "kd", (), ())),
    "the best mean is not clear, the next is": ({"subclass": WIDE, "kd": CLEAR}, ("kd", "kd", ("subclass",), ())),
    "all are worse": ({"kd": (0.002, 0.001, 0.003), "subclass": (0.001, -0.001, 0.003)}, ("hard", "subclass", (), ())),
    "the interval ends at 0": ({"kd": (-0.001, -0.002, 0.0)}, ("hard", "kd", (), ())),
    "no interval": ({"kd": (-0.001, None, None)}, ("hard", "kd", (), ())),
    "the baseline alone": ({}, ("hard", "", (), ())),
    "a method without a result": ({"kd": (None, None, None), "subclass": CLEAR}, ("subclass", "subclass", (), ())),
}


@pytest.mark.parametrize("name", CASES)
def test_the_method_to_use(name: str) -> None:
    differences, expected = CASES[name]
    choice = Comparison.of(comparison(differences)).choice(1.0)
    assert choice is not None
    assert (choice.method, choice.best, choice.unclear, choice.close) == expected


def test_the_numbers_of_a_choice() -> None:
    found = Comparison.of(comparison(fractions=(0.1, 1.0), seeds=7, teachers=3))
    assert found.choice(1.0) == Choice("kd", "kd", -0.002, -0.003, -0.001, 7, 3, (), ("subclass",))
    assert found.choice(0.1) == Choice("kd", "kd", -0.004, -0.006, -0.002, 7, 3, (), ("subclass",))
    assert found.choice(0.5) is None


def test_without_the_baseline_nothing_is_compared() -> None:
    value = comparison()
    value["models"] = [row for row in value["models"] if row["method"] != "hard"]
    value["comparisons"] = []
    assert Comparison.of(value).choice(1.0) == Choice("kd")


def test_another_metric_may_decide() -> None:
    """Of the AUC more is better."""
    found = Comparison.of(comparison(metric_of_choice="auc"))
    choice = found.choice(1.0)
    assert choice is not None and choice.method == "kd" and choice.difference == 0.002
    worse = Comparison.of(comparison({"kd": (0.002, 0.001, 0.003)}, metric_of_choice="auc")).choice(1.0)
    assert worse is not None and (worse.method, worse.low, worse.high) == ("hard", -0.003, -0.001)


def test_tables_are_numbers_and_null_is_unknown() -> None:
    found = Comparison.of(json.loads(json.dumps(comparison({"kd": (None, None, None)}, seeds=1))))
    assert found.comparisons[["difference", "low", "high"]].isna().all(axis=None)
    assert found.models["sd"].dtype == float and found.models.query("method == 'kd'")["mean"].isna().all()
    assert found.methods == ["hard", "kd"] and found.means(1.0, "logloss").to_dict() == {"hard": 0.45}


def test_a_comparison_of_nothing() -> None:
    parts: dict[str, Any] = dict.fromkeys(("comparisons", "models", "curves", "speed", "churn", "fidelity"), [])
    found = Comparison.of(comparison(**parts, slices=[], reliability=[], costs=[], arms=[], fractions=[], labels=""))
    assert found.choice(found.full) is None and found.methods == ["hard"] and found.notes == ("A note.",)
    tables = [value for value in vars(found).values() if isinstance(value, pd.DataFrame)]
    assert len(tables) == 10 and all(table.empty and len(table.columns) for table in tables)


def test_methods_are_ranked_and_keep_their_style() -> None:
    found = Comparison.of(comparison({"b": (0.001, 0.0, 0.002), "a": (-0.001, -0.002, 0.0)}, fractions=(1.0, 0.1)))
    assert found.fractions == (0.1, 1.0) and found.full == 1.0
    assert found.methods == ["hard", "a", "b"]
    assert [found.style(name) for name in ("teacher", "hard", "a", "b")] == [0, 1, 2, 3]
    assert list(found.differences(0.1, "logloss").index) == ["a", "b"]
    assert list(found.differences(0.1, "auc")["difference"]) == pytest.approx([0.002, -0.002])


def test_teachers_are_no_methods() -> None:
    row = {"fraction": 1.0, "metric": "logloss", "mean": 0.3, "sd": math.nan, "seeds": 1}
    value = comparison()
    value["models"] = [{"method": "teacher of kd+own", **row}, *value["models"]]
    found = Comparison.of(value)
    assert found.teachers == ["teacher", "teacher of kd+own"]
    assert found.methods == ["hard", "kd", "subclass"] and found.means(1.0, "logloss").index[0] == "kd"
    assert [is_teacher(name) for name in ("teacher", "teacher of kd", "teachers", "kd")] == [True, True, False, False]


def test_notes_begin_with_the_labels_that_the_teacher_saw() -> None:
    assert Comparison.of(comparison()).notes == ("The teacher saw all labels.", "A note.")

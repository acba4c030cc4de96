"""A comparison in words."""

from __future__ import annotations

import math

import pytest
from example_comparison import Numbers, comparison

from pipeline.comparison_text import comparison_text, fraction_name, verdict
from pipeline.report_comparison import Comparison

CLEAR = (-0.002, -0.003, -0.001)
VERDICTS: list[tuple[dict[str, Numbers], str]] = [
    ({"kd": CLEAR}, "Use kd: 0.00200 lower test logloss than hard [0.00100, 0.00300], 5 seeds."),
    (
        {"kd": CLEAR, "subclass": (-0.0019, -0.004, 0.0001)},
        "Use kd: 0.00200 lower test logloss than hard [0.00100, 0.00300], 5 seeds. "
        "The mean of subclass lies within that interval.",
    ),
    (
        {"kd": CLEAR, "subclass": (-0.0019, -0.004, 0.0001), "lelp": (-0.001, -0.002, 0.0)},
        "Use kd: 0.00200 lower test logloss than hard [0.00100, 0.00300], 5 seeds. "
        "The means of subclass and lelp lie within that interval.",
    ),
    (
        {"kd": CLEAR, "a": (-0.004, -0.009, 0.001), "b": (-0.003, -0.009, 0.003)},
        "Use kd: 0.00200 lower test logloss than hard [0.00100, 0.00300], 5 seeds. "
        "a and b have a better mean, but not clearly better than hard's.",
    ),
    (
        {"kd": (-0.0003, -0.0008, 0.0002)},
        "Use hard: no method is clearly better on test logloss. "
        "The best of the others, kd: 0.00030 lower test logloss [\u22120.00020, 0.00080], 5 seeds.",
    ),
    (
        {"kd": (0.002, 0.001, 0.003)},
        "Use hard: no method is clearly better on test logloss. "
        "The best of the others, kd: 0.00200 higher test logloss [0.00100, 0.00300], 5 seeds.",
    ),
    (
        {"kd": (-0.002, None, None)},
        "Use hard: no method is clearly better on test logloss. "
        "The best of the others, kd: 0.00200 lower test logloss [no interval], 5 seeds.",
    ),
    ({}, "Use hard: no other method has a result."),
]


@pytest.mark.parametrize(("differences", "words"), VERDICTS)
def test_verdict(differences: dict[str, Numbers], words: str) -> None:
    assert verdict(Comparison.of(comparison(differences))) == words


@pytest.mark.parametrize(
    ("seeds", "teachers", "words"),
    [
        (5, 1, "5 seeds, conditional on one teacher."),
        (1, 1, "one seed: the interval covers the choice of rows alone."),
        (5, 0, "5 seeds."),
    ],
)
def test_verdict_says_what_the_interval_leaves_out(seeds: int, teachers: int, words: str) -> None:
    found = Comparison.of(comparison({"kd": CLEAR}, seeds=seeds, teachers=teachers))
    assert verdict(found) == f"Use kd: 0.00200 lower test logloss than hard [0.00100, 0.00300], {words}"


def test_verdict_names_the_rows() -> None:
    found = comparison({"kd": CLEAR}, fractions=(0.1, 0.3), split="valid")
    assert verdict(Comparison.of(found)) == (
        "Use kd: 0.00400 lower validation logloss than hard on 30 % of the training rows [0.00200, 0.00600], 5 seeds."
    )


def test_verdict_without_what_it_needs() -> None:
    assert verdict(Comparison.of(comparison(models=[]))) == "No method has a result yet."
    value = comparison({"kd": CLEAR})
    students = [row for row in value["models"] if row["method"] == "kd"]
    lonely = Comparison.of(value | {"models": students, "comparisons": []})
    assert verdict(lonely) == "kd has the best mean test logloss, 0.44800; it has not been compared with hard."
    unknown = Comparison.of(value | {"comparisons": []})
    assert verdict(unknown) == (
        "Use hard: no method is clearly better on test logloss. The difference of kd is not known."
    )


def test_text_for_the_terminal() -> None:
    found = comparison({"kd": CLEAR, "subclass": (0.001, -0.001, 0.003)}, fractions=(0.1, 1.0))
    lines = comparison_text(found).splitlines()
    assert lines[0] == "Use kd: 0.00200 lower test logloss than hard [0.00100, 0.00300], 5 seeds."
    start = lines.index("All training rows, judged on 25,000 test rows")
    assert lines[start + 1].split() == ["logloss", "difference", "from", "hard", "AUC"]
    assert [line.split() for line in lines[start + 2 : start + 6]] == [
        ["teacher", "0.44000", "-", "0.44000"],
        ["kd", "0.44800", "-0.00200", "[-0.00300,", "-0.00100]", "*", "0.78200"],
        ["hard", "0.45000", "baseline", "0.78000"],
        ["subclass", "0.45100", "+0.00100", "[-0.00100,", "+0.00300]", "0.77900"],
    ]
    assert "10 % of the training rows, judged on 25,000 test rows" in lines
    assert lines[-3:] == ["The teacher saw all labels.", "", "A note."]


def test_text_is_narrow_and_holds_no_nan() -> None:
    long = "a_method_with_a_name_that_is_longer_than_any_that_is_built_in"
    wide = comparison({long: (-0.002, -0.003, -0.001), "kd": (math.nan, None, math.nan)}, seeds=1)
    wide["notes"] = ["A very long note. " * 20]
    text = comparison_text(wide)
    assert max(map(len, text.splitlines())) <= 100
    assert "nan" not in text.lower() and "a_method_with_a_name_that_is_..." in text


def test_text_is_ascii() -> None:
    assert comparison_text(comparison({"kd": (-0.0003, -0.0008, 0.0002)})).isascii()


@pytest.mark.parametrize(
    ("fraction", "words"),
    [(1.0, "all training rows"), (0.1, "10 % of the training rows"), (0.0025, "0.25 % of the training rows")],
)
def test_fraction_name(fraction: float, words: str) -> None:
    assert fraction_name(fraction) == words

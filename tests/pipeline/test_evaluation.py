"""One model on one split: the excess over Bayes by hand, and which models are compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.evaluation import Evaluation, comparisons_of
from pipeline.scored_rows import ScoredRows


def rows(weights: list[float] | None, p_star: list[float] | None) -> ScoredRows:
    known = [None if values is None else np.array(values) for values in (weights, p_star)]
    return ScoredRows(np.array([1, 0, 0], np.uint8), np.array([0, 1, 1]), known[0], known[1], None)


@pytest.mark.parametrize(("weights", "shares"), [(None, (1 / 3, 1 / 3, 1 / 3)), ([2.0, 1.0, 0.0], (2 / 3, 1 / 3, 0))])
def test_excess_by_hand(weights: list[float] | None, shares: tuple[float, ...]) -> None:
    """p is 1/2, 1/2 and 1/4, p* 1/2, 1/4 and 1/4: only the second row loses something."""
    found = Evaluation()
    found.update(rows(weights, [0.5, 0.25, 0.25]), np.array([0.0, 0.0, -math.log(3)]))
    lost = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert found.summary()["excess_over_bayes"] == pytest.approx(shares[1] * lost, rel=1e-12)


def test_without_the_truth_there_is_no_excess() -> None:
    found = Evaluation()
    found.update(rows(None, None), np.zeros(3))
    summary = found.summary()
    assert "excess_over_bayes" not in summary and summary["logloss"] == pytest.approx(math.log(2))
    assert set(summary["intervals"]) < set(summary)


def test_every_later_student_is_compared_with_every_earlier_one() -> None:
    models = {name: Evaluation() for name in ("teacher", "students/hard", "students/kd", "students/subclass")}
    for number, model in enumerate(models.values()):
        model.update(rows(None, None), np.full(3, float(number)))
    found = comparisons_of("test", models)
    pairs = {(row["method"], row["baseline"]) for row in found}
    students = ["students/hard", "students/kd", "students/subclass"]
    assert pairs == {(students[1], students[0]), (students[2], students[0]), (students[2], students[1])}
    first = next(row for row in found if row["metric"] == "logloss")
    expected = models["students/kd"].summary()["logloss"] - models["students/hard"].summary()["logloss"]
    assert first["split"] == "test" and first["difference"] == pytest.approx(expected, abs=1e-12)

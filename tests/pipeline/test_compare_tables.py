"""The tables of a comparison, from results whose logits are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_run import make_run, write_log

from pipeline import storage
from pipeline.compare_plan import Plan
from pipeline.compare_results import JudgedRows, write_scores
from pipeline.compare_tables import Results, comparison_json
from pipeline.config import resolve
from pipeline.workspace import Run

SHIFTS = {"hard": 0.0, "kd": 0.5}
"""Click logits of all rows, by arm; a seed adds its number."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tables")
    return make_run(folder, write_log(folder / "log.csv"))


def found_of(run: Run, names: str = "hard,kd", **sections: Any) -> dict[str, Any]:
    """What is found with a teacher of an outcome, which has no figures, so that no targets are read."""
    compare = {"methods": names, "seeds": 2}
    plan = Plan.of(run, resolve({"preset": "100k", "compare": compare, "teacher": {"label": "bought"}, **sections}))
    jobs, rows = list(plan.jobs({})), JudgedRows.of(run)
    for job in jobs:
        logits = np.full(len(rows.labels), SHIFTS.get(job.arm, 0.0) + job.seed)
        write_scores(job.path, logits, rows.judge(logits))
        history = {"rows_seen": [10.0, 20.0], "valid_logloss": [0.7, 0.6]}
        gate = {"gate_entropy": 0.3 + 0.2 * job.seed} if job.arm == "kd" else {}
        storage.write_json(f"{job.path}.json", {"history": history, "parameters": 5, "bytes": 28, **gate})
    return comparison_json(plan, Results.read(plan, jobs))


def test_figures_of_given_logits(run: Run) -> None:
    found, rows = found_of(run), JudgedRows.of(run)
    assert found["examples"] == run.identity("examples") and found["test_rows"] == len(rows.labels)
    rate = np.average(rows.labels, weights=rows.weights)
    losses = {z: np.log1p(np.exp(z)) - rate * z for z in (0.0, 0.5, 1.0, 1.5)}
    difference = next(row["difference"] for row in found["comparisons"] if row["metric"] == "logloss")
    assert difference == pytest.approx((losses[0.5] - losses[0.0] + losses[1.5] - losses[1.0]) / 2)
    churn = {row["method"]: row["mean_difference"] for row in found["churn"]}
    assert churn["hard"] == pytest.approx(1 / (1 + np.exp(-1)) - 0.5)
    assert {row["method"]: row["bytes"] for row in found["costs"]} == {"hard": 28, "kd": 28}
    assert {row["arm"]: row.get("gate_entropy") for row in found["arms"]} == {"hard": None, "kd": pytest.approx(0.4)}


def test_a_teacher_of_an_outcome_is_not_judged_by_clicks(run: Run) -> None:
    found = found_of(run)
    assert {row["method"] for row in found["models"]} == {"hard", "kd"} and found["fidelity"] == []
    assert "Teachers have learned an outcome, not the click, and are not judged: that of kd bought." in found["notes"]


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ("hard", ""),
        ("hard,kd", "Teachers have seen the labels of all training rows, whatever the fraction of the student's."),
        ("hard,kd+own", "Teachers have seen the labels of the student's rows only."),
        (
            "hard,kd,kd+own",
            "Teachers have seen the labels of all training rows, whatever the fraction of the student's; those of "
            "kd+own only the labels of the student's rows.",
        ),
    ],
)
def test_which_labels_the_teachers_have_seen(run: Run, methods: str, words: str) -> None:
    assert found_of(run, methods)["labels"] == words


def test_students_of_other_sizes_are_told_unless_an_arm_is_about_it(run: Run) -> None:
    note = "Students are not of one size: their methods have settings that differ in hidden."
    assert note in found_of(run, methods={"kd": {"hidden": 8}})["notes"]
    arms = {"wide": {"method": "kd", "student": {"hidden": 8}}}
    assert not any("size" in text for text in found_of(run, "hard,wide,hard+stats", arms=arms)["notes"])

"""A comparison: every student is there and judged, and what is finished is neither trained nor judged again."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import STUDENT, TEACHER, Made, ctr_distill

from pipeline import storage
from pipeline.compare import best_settings, is_finished
from pipeline.compare_plan import Plan
from pipeline.compare_results import JudgedRows, read_scores, teacher_click_logits
from pipeline.config import load, resolve
from pipeline.workspace import Run

METRICS = ("logloss", "auc", "ne", "pcoc", "ece", "brier")
ASKED = ["--methods=hard,kd,hot", "--fractions=50%", "--seeds=2", "--trials=2", "--parallel=2"]


@pytest.fixture(scope="module")
def compared(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A comparison on the examples of the finished run, and its file of settings."""
    folder = tmp_path_factory.mktemp("compared")
    for name in ("examples", "rejected"):
        os.symlink(made.run.file(name), folder / name)
    sections: dict[str, Any] = {"preset": "100k", "arms": {"hot": {"method": "kd", "student": {"temperature": 3.0}}}}
    for name, settings in (("teacher", TEACHER), ("student", STUDENT)):
        sections[name] = {key.replace("-", "_"): value for key, value in settings.items()}
    config = folder / "settings.yaml"
    config.write_text(yaml.safe_dump(sections))
    run = Run(str(folder))
    ctr_distill(["compare", "--run", run.path, "--config", str(config), *ASKED])
    return run, config


@pytest.fixture(scope="module")
def found(compared: tuple[Run, Path]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Path(compared[0].file("report", "comparison.json")).read_text())
    return value


def plan_of(compared: tuple[Run, Path], *flags: str) -> Plan:
    run, config = compared
    sections = load(str(config))
    sections["compare"] = dict(flag.removeprefix("--").split("=") for flag in flags if "parallel" not in flag)
    return Plan.of(run, resolve(sections))


def test_every_pair_has_a_row_for_each_metric(found: dict[str, Any]) -> None:
    rows = {(row["method"], row["metric"]): row for row in found["comparisons"]}
    assert set(rows) == {(method, metric) for method in ("kd", "hot") for metric in METRICS}
    for row in rows.values():
        assert row["baseline"] == "hard" and row["fraction"] == 0.5
        assert row["seeds"] == row["teachers"] == 2 and "Holm over 2 comparisons" in row["interval"]
        assert row["low"] <= row["high"]


def test_differences_are_those_of_the_stored_logits(compared: tuple[Run, Path], found: dict[str, Any]) -> None:
    rows = JudgedRows.of(compared[0])
    folder = Path(compared[0].file("compare", "results"))

    def logloss(arm: str) -> float:
        logits = [read_scores(str(folder / f"{arm}-0.5-{seed}"))[0] for seed in range(2)]
        return float(np.mean([np.logaddexp(0, z) - rows.labels * z for z in logits]))

    for row in found["comparisons"]:
        if row["metric"] == "logloss":
            assert math.isclose(row["difference"], logloss(row["method"]) - logloss("hard"), abs_tol=1e-7)
    assert len(rows.labels) == found["test_rows"] == compared[0].spec().rows["test"]


def test_models_curves_and_costs_are_told(found: dict[str, Any]) -> None:
    means = {(row["method"], row["metric"]): row["mean"] for row in found["models"]}
    assert {method for method, _ in means} == {"hard", "kd", "hot", "teacher"}
    assert all(0.3 < means[method, "logloss"] < 0.9 for method in ("hard", "kd", "hot", "teacher"))
    assert {(row["method"], row["seed"]) for row in found["curves"]} == {
        (method, seed) for method in ("hard", "kd", "hot") for seed in (0, 1)
    }
    assert all(len(row["rows_seen"]) == len(row["valid_logloss"]) > 1 for row in found["curves"])
    assert {row["method"] for row in found["fidelity"]} == {"kd", "hot"}
    assert {row["method"] for row in found["churn"]} == {"hard", "kd", "hot"}
    slices = [row["rows"] for row in found["slices"] if row["method"] == "kd"]
    assert sum(slices) == found["test_rows"]
    assert all(row["bytes"] == 4 * row["parameters"] > 0 for row in found["costs"])


def test_seeds_are_paired_and_differ(compared: tuple[Run, Path]) -> None:
    jobs = list(plan_of(compared, *ASKED).jobs({}))
    teachers = {job.seed: job.cell.teacher_run for job in jobs if job.arm == "kd"}
    assert teachers == {job.seed: job.cell.teacher_run for job in jobs if job.arm == "hot"}
    rows = JudgedRows.of(compared[0])
    first, second = (teacher_click_logits(teachers[seed], rows) for seed in (0, 1))
    assert not np.allclose(first, second)


def test_the_best_trial_counts(compared: tuple[Run, Path]) -> None:
    plan = plan_of(compared, *ASKED)
    trials = list(plan.trials())
    best = best_settings(trials)
    for arm in plan.arms:
        own = [job for job in trials if job.arm == arm]
        losses = [storage.read_json(f"{job.path}.json")["valid_logloss"] for job in own]
        assert best[arm, 0.5]["learning_rate"] == own[int(np.argmin(losses))].config.learning_rate
    assert all(is_finished(job) for job in plan.jobs(best))


def test_a_larger_comparison_takes_what_is_there(compared: tuple[Run, Path]) -> None:
    best = best_settings(list(plan_of(compared, *ASKED).trials()))
    larger = [flag.replace("--seeds=2", "--seeds=3").replace("hot", "hot,kd_k") for flag in ASKED]
    missing = [job for job in plan_of(compared, *larger).jobs(best) if not is_known(job)]
    assert {(job.arm, job.seed) for job in missing} == {
        ("hard", 2), ("kd", 2), ("hot", 2), ("kd_k", 0), ("kd_k", 1), ("kd_k", 2),
    }  # fmt: skip


def is_known(job: Any) -> bool:
    return storage.exists(f"{job.path}.json") and is_finished(job)


def test_a_second_call_trains_nothing(compared: tuple[Run, Path]) -> None:
    run, config = compared
    folder = Path(run.file("compare"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in (".npz", ".json", ".pb")}
    before.pop(folder / "comparison.json")
    done = ctr_distill(["compare", "--run", run.path, "--config", str(config), *ASKED])
    assert not any(f"{work} ..." in done.stderr for work in ("teachers", "trials", "students"))
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert "All" not in done.stdout.splitlines()[0] and "hot" in done.stdout


def test_other_settings_are_trained_anew(compared: tuple[Run, Path]) -> None:
    plan = plan_of(compared, *ASKED)
    job = next(job for job in plan.jobs(best_settings(list(plan.trials()))) if job.arm == "hard")
    assert is_finished(job)
    path = Path(f"{job.path}.json")
    record = path.read_text()
    try:
        path.write_text(json.dumps({**json.loads(record), "key": "another"}))
        assert not is_finished(job)
    finally:
        path.write_text(record)


def test_an_unknown_method_is_said_before_anything_is_made(made: Made) -> None:
    done = ctr_distill(["compare", "--run", made.run.path, "--methods=hard,kdd"], code=2)
    assert "Did you mean kd" in done.stderr and not storage.exists(made.run.file("compare"))

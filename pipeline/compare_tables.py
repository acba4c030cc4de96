"""The tables of a comparison, from the results of its students."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.comparison import Resampled, comparison_table
from models.diagnosis import FrequencyTable
from models.learning_speed import speed_table
from models.metrics import ClickMetrics
from models.predictions import churn, fidelity
from pipeline import storage
from pipeline.compare_plan import Job, Plan
from pipeline.compare_results import Floats, JudgedRows, read_history, read_scores, teacher_click_logits
from pipeline.config import plain
from pipeline.workspace import EXAMPLES, Run

TEACHER = "teacher"
_SIZES = ("embedding_dim", "hidden", "min_count", "statistics")


@dataclass(frozen=True)
class Result:
    """One student.

    Args:
        job: its training.
        metrics: of the judged rows.
        record: its learning curve and its size.
    """

    job: Job
    metrics: dict[str, Resampled]
    record: dict[str, Any]

    @property
    def logits(self) -> Floats:
        """Of the judged rows: float64 [rows]; read when they are asked for, as those of all students take gigabytes."""
        return read_scores(self.job.path)[0]


@dataclass(frozen=True)
class Results:
    """All students, and the rows that they are judged on.

    Args:
        rows: these rows.
        students: by arm and fraction, in the order of the seeds.
        teachers: click logits of the teachers by path, without those that have learned an outcome.
    """

    rows: JudgedRows
    students: dict[tuple[str, float], list[Result]]
    teachers: dict[str, Floats]

    @classmethod
    def read(cls, plan: Plan, jobs: Sequence[Job]) -> Results:
        """The results of finished jobs, with the scores of their teachers by path."""
        rows = JudgedRows.of(Run(plan.base))
        students: dict[tuple[str, float], list[Result]] = {}
        for job in jobs:
            record = storage.read_json(f"{job.path}.json")
            students.setdefault((job.arm, job.cell.rows), []).append(Result(job, read_scores(job.path)[1], record))
        cells = [job.cell for job in jobs if job.cell.teacher and not job.cell.teacher.label]
        runs = {cell.teacher_run.path: cell.teacher_run for cell in cells}
        return cls(rows, students, {path: teacher_click_logits(run, rows) for path, run in runs.items()})


def comparison_json(plan: Plan, results: Results) -> dict[str, Any]:
    """What ``comparison.json`` holds: plain values, NaN for what is not known."""
    settings, rows = plan.settings, results.rows
    return {
        "examples": Run(plan.base).identity(EXAMPLES),
        "baseline": settings.baseline,
        "metric_of_choice": "logloss",
        "seeds": settings.seeds,
        "teachers": plan.teachers,
        "split": rows.split,
        "test_rows": len(rows.labels),
        "fractions": settings.shares,
        "labels": _labels(plan),
        "notes": _notes(plan, rows),
        "comparisons": _comparisons(plan, results),
        "models": [*_models(results), *_teachers(plan, results)],
        "curves": _curves(results),
        "speed": _speed(plan, results),
        "churn": _churn(results),
        "fidelity": _fidelity(results),
        "slices": _slices(results),
        "reliability": _reliability(results),
        "costs": _costs(results),
        "arms": _arms(plan, results),
    }


def _labels(plan: Plan) -> str:
    """Which labels the teachers have seen; empty where there are no teachers."""
    taught = [name for name, arm in plan.arms.items() if plan.needs_teacher(arm)]
    own = [name for name in taught if plan.arms[name].own_rows]
    if own == taught:
        return "Teachers have seen the labels of the student's rows only." if taught else ""
    text = "Teachers have seen the labels of all training rows, whatever the fraction of the student's"
    return f"{text}; those of {', '.join(own)} only the labels of the student's rows." if own else f"{text}."


def _notes(plan: Plan, rows: JudgedRows) -> list[str]:
    notes = []
    if rows.split == "valid":
        notes.append("There are no test rows: all figures are of validation rows, on which trainings stopped.")
    if plan.teachers == 1 and plan.settings.seeds > 1:
        notes.append("All seeds share one teacher: intervals are conditional on it.")
    if plan.settings.trials:
        notes.append(
            f"The settings of each method and fraction are the best of {plan.settings.trials} trials by the logloss on "
            "validation rows, with the first seed."
        )
    if unequal := _unequal(plan):
        notes.append(f"Students are not of one size: their methods have settings that differ in {', '.join(unequal)}.")
    labels = {name: arm.teacher_config(plan.config).label for name, arm in plan.arms.items() if plan.needs_teacher(arm)}
    if outcomes := [f"that of {name} {label}" for name, label in labels.items() if label]:
        notes.append(f"Teachers have learned an outcome, not the click, and are not judged: {', '.join(outcomes)}.")
    return notes


def _unequal(plan: Plan) -> list[str]:
    """Settings of size that differ between students, though no arm is about them."""
    configs = [(arm.student_config(plan.config), arm.student) for arm in plan.arms.values()]
    return [name for name in _SIZES if len({getattr(config, name) for config, own in configs if name not in own}) > 1]


def _comparisons(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Paired differences of every arm from the baseline."""
    metrics = {key: [result.metrics for result in found] for key, found in results.students.items()}
    teachers = [plan.teacher_of(seed) for seed in range(plan.settings.seeds)]
    untaught = [name for name, arm in plan.arms.items() if not plan.needs_teacher(arm)]
    return _records(comparison_table(metrics, plan.settings.baseline, teachers, untaught))


def _models(results: Results) -> list[dict[str, Any]]:
    """Mean and deviation of each metric over the seeds."""
    return [
        row
        for (arm, fraction), found in results.students.items()
        for row in _means(arm, fraction, [result.metrics for result in found])
    ]


def _means(name: str, fraction: float, metrics: Sequence[dict[str, Resampled]]) -> list[dict[str, Any]]:
    rows = []
    for metric in metrics[0]:
        values = np.array([found[metric].value for found in metrics])
        deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        rows.append(
            {
                "method": name,
                "fraction": fraction,
                "metric": metric,
                "mean": float(values.mean()),
                "sd": deviation,
                "seeds": len(values),
            }
        )
    return rows


def _teachers(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """The same of the teachers, those of an arm with settings of its own under a name of their own."""
    paths: dict[tuple[str, float], dict[str, None]] = {}
    for arm, fraction in results.students:
        for result in results.students[arm, fraction]:
            cell = result.job.cell
            if cell.teacher_run.path in results.teachers:
                special = plan.arms[arm].teacher or plan.arms[arm].own_rows
                name = f"{TEACHER} of {arm}" if special else TEACHER
                paths.setdefault((name, cell.teacher_rows), {})[cell.teacher_run.path] = None
    return [
        row
        for (name, fraction), found in paths.items()
        for row in _means(name, fraction, [results.rows.judge(results.teachers[path]) for path in found])
    ]


def _curves(results: Results) -> list[dict[str, Any]]:
    return [
        {"method": arm, "fraction": fraction, "seed": result.job.seed, **result.record["history"]}
        for arm, fraction, result in _each(results)
    ]


def _speed(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """How soon each student is as good as the baseline's of the same seed ever gets."""
    rows = []
    for fraction in plan.settings.shares:
        histories = {
            arm: [read_history(result.record) for result in found]
            for (arm, of), found in results.students.items()
            if of == fraction
        }
        rows += _records(speed_table(histories, plan.settings.baseline).assign(fraction=fraction))
    return rows


def _churn(results: Results) -> list[dict[str, Any]]:
    return [
        {"method": arm, "fraction": fraction, **churn(np.stack([result.logits for result in found]))}
        for (arm, fraction), found in results.students.items()
        if len(found) > 1
    ]


def _fidelity(results: Results) -> list[dict[str, Any]]:
    """How close students are to their teachers, in the mean over the seeds."""
    rows = []
    for (arm, fraction), found in results.students.items():
        taught = [result for result in found if result.job.cell.teacher_run.path in results.teachers]
        if taught:
            each = [fidelity(results.teachers[result.job.cell.teacher_run.path], result.logits) for result in taught]
            means = {str(name): float(value) for name, value in pd.DataFrame(each).mean().items()}
            rows.append({"method": arm, "fraction": fraction, **means})
    return rows


def _slices(results: Results) -> list[dict[str, Any]]:
    """Metrics by the frequency of the rows' rarest values, over all seeds."""
    rows, found = results.rows, []
    for (arm, fraction), students in results.students.items():
        sums = FrequencyTable.empty()
        for result in students:
            sums.update(rows.frequency, rows.labels, result.logits, rows.weights)
        table = sums.table().rename(columns={"frequency": "slice"})
        table["rows"] //= len(students)
        found += _records(table.assign(method=arm, fraction=fraction))
    return found


def _reliability(results: Results) -> list[dict[str, Any]]:
    """Reliability of the first seed's students on the largest fraction."""
    largest, rows = max(fraction for _, fraction in results.students), results.rows
    found = []
    for arm, fraction, result in _each(results):
        if fraction == largest and result.job.seed == 0:
            metrics = ClickMetrics.empty()
            metrics.update(rows.labels, result.logits, rows.groups, rows.weights)
            found += _records(metrics.reliability().assign(method=arm, fraction=fraction))
    return found


def _costs(results: Results) -> list[dict[str, Any]]:
    """Parameters, and the bytes of these and of click statistics, of the students of the largest fraction."""
    largest = max(fraction for _, fraction in results.students)
    return [
        {"method": arm, "parameters": result.record["parameters"], "bytes": result.record["bytes"]}
        for arm, fraction, result in _each(results)
        if fraction == largest and result.job.seed == 0
    ]


def _arms(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """What each arm is, and the settings of its students by fraction where they differ from the baseline's."""
    return [
        {
            "arm": arm,
            "method": plan.arms[arm].method,
            "fraction": fraction,
            "description": plan.arms[arm].description,
            "teacher": dict(plan.arms[arm].teacher),
            "settings": plain(found[0].job.config),
            **_gate_entropy(found),
        }
        for (arm, fraction), found in results.students.items()
    ]


def _gate_entropy(found: Sequence[Result]) -> dict[str, float]:
    """The mean over the seeds of the entropy of a gate over a teacher's members; nothing for students without one."""
    entropies = [result.record["gate_entropy"] for result in found if "gate_entropy" in result.record]
    return {"gate_entropy": float(np.mean(entropies))} if entropies else {}


def _each(results: Results) -> Iterator[tuple[str, float, Result]]:
    for (arm, fraction), found in results.students.items():
        for result in found:
            yield arm, fraction, result


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]

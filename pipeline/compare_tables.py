"""The tables of a comparison, from the results of its students."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.comparison import Resampled, churn, comparison_table, fidelity
from models.learning_speed import speed_table
from models.metrics import METRICS, ClickMetrics
from pipeline import storage
from pipeline.compare_jobs import JudgedRows, read_history, read_scores, teacher_click_logits
from pipeline.compare_plan import Job, Plan
from pipeline.workspace import Run

Floats = npt.NDArray[np.float64]
TEACHER = "teacher"


@dataclass(frozen=True)
class Result:
    """One student.

    Args:
        job: its training.
        logits: float64 [rows], of the judged rows.
        metrics: of these rows.
        record: its learning curve and its size.
    """

    job: Job
    logits: Floats
    metrics: dict[str, Resampled]
    record: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """All students, and the rows that they are judged on."""

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
            students.setdefault((job.arm, job.cell.rows), []).append(Result(job, *read_scores(job.path), record))
        runs = {job.cell.teacher_run.path: job.cell.teacher_run for job in jobs if job.cell.teacher}
        return cls(rows, students, {path: teacher_click_logits(run, rows) for path, run in runs.items()})

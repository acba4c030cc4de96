"""``compare``: methods against each other, with paired seeds and intervals over seeds and rows.

``RUN/compare`` holds subsets of the rows, teachers with their targets, trials, and a result for each student. What is
there is kept, so a killed comparison goes on, and a larger one takes what a smaller one has made.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from features.spec import ExamplesSpec
from pipeline import storage
from pipeline.compare_jobs import is_made, make_teacher, train_students
from pipeline.compare_plan import COMPARISON, FOLDER, Cell, Job, Plan
from pipeline.compare_tables import Results, comparison_json
from pipeline.config import Config, plain
from pipeline.evaluate import without_nan
from pipeline.progress import Progress
from pipeline.read_settings import warn_of_unread
from pipeline.settings import require
from pipeline.side_by_side import available_memory, processes_that_fit, run_side_by_side
from pipeline.stage_inputs import require_blocks, require_local, require_validation
from pipeline.subset import subset
from pipeline.train_teacher import training_memory
from pipeline.workspace import Run

# Students in one process: enough that the import of TensorFlow counts little, few enough that graphs do not pile up.
_STUDENTS = 8


def compare(run: Run, config: Config, parallel: int | None = None, deterministic: bool = False) -> dict[str, Any]:
    """Trains what is missing and writes ``compare/comparison.json``; returns what is in it.

    Args:
        run: the run directory with finished examples; the caller holds its lock.
        config: with its preset chosen.
        parallel: trainings at a time, each in a process of its own; None for as many as cores and memory allow.
        deterministic: whether TensorFlow is to be deterministic in those processes.

    Raises:
        ConfigError: an arm or a setting is wrong.
        DataError: the run has no validation rows.
    """
    require_local(run)
    require(parallel is None or parallel > 0, "--parallel must be positive", parallel)
    spec = run.spec()
    require_blocks(spec)
    require_validation(spec)
    plan = Plan.of(run, config)
    warn_of_unread(config, [arm.method for arm in plan.arms.values()])
    _make_rows(run, plan)
    work = _Work(config, parallel or _processes(spec, plan), deterministic)
    work.make_teachers([job.cell for job in [*plan.trials(), *plan.jobs({})]])
    work.train(list(plan.trials()), "trials")
    found = best_settings(list(plan.trials()))
    jobs = list(plan.jobs(found))
    work.train(jobs, "students")
    value: dict[str, Any] = without_nan(comparison_json(plan, Results.read(plan, jobs)))
    storage.write_json(run.file(FOLDER, COMPARISON), value)
    return value


def _processes(spec: ExamplesSpec, plan: Plan) -> int:
    """Trainings that fit side by side, by the largest teacher of all arms."""
    memory = max(training_memory(spec, arm.teacher_config(plan.config)) for arm in plan.arms.values())
    return processes_that_fit(memory, available_memory(), os.cpu_count() or 1)


def _make_rows(run: Run, plan: Plan) -> None:
    for rows in plan.settings.shares:
        if rows < 1:
            subset(run, run.file(FOLDER, "rows", f"{rows:g}"), rows)


def best_settings(trials: Sequence[Job]) -> dict[tuple[str, float], dict[str, Any]]:
    """The settings of the best trial, by arm and fraction, by the logloss on validation rows."""
    groups = defaultdict(list)
    for trial in trials:
        groups[trial.arm, trial.cell.rows].append(trial)
    best = {name: min(group, key=_valid_logloss) for name, group in groups.items()}
    return {name: plain(job.config) for name, job in best.items()}


def _valid_logloss(job: Job) -> float:
    loss = storage.read_json(f"{job.path}.json")["valid_logloss"]
    return math.inf if loss is None else float(loss)


def is_finished(job: Job) -> bool:
    """Whether the result of a job is there, and of these settings and data."""
    path = f"{job.path}.json"
    return storage.exists(path) and storage.read_json(path)["key"] == job.key()


class _Work:
    """Teachers and students in processes of their own.

    Args:
        config: of the run.
        processes: at a time.
        deterministic: whether TensorFlow is to be deterministic.
    """

    def __init__(self, config: Config, processes: int, deterministic: bool) -> None:
        self._config, self._processes, self._deterministic = config, processes, deterministic

    def make_teachers(self, cells: Sequence[Cell]) -> None:
        """Makes the teachers of these cells, and the targets of each of them, unless they are there."""
        by_teacher = defaultdict(list)
        for cell in dict.fromkeys(cells):
            if cell.teacher is not None:
                by_teacher[cell.teacher_run.path].append(cell)
        calls = [(group, self._config) for group in by_teacher.values() if not is_made(group, self._config)]
        self._run(make_teacher, calls, "teachers", len(calls))

    def train(self, jobs: Sequence[Job], title: str) -> None:
        """Trains the students whose results are not there."""
        missing = [job for job in jobs if not is_finished(job)]
        # Long and short trainings take turns, so that no process has all the long ones.
        parts = max(-(-len(missing) // _STUDENTS), min(self._processes, len(missing)))
        self._run(train_students, [(missing[part::parts],) for part in range(parts)], title, len(missing))

    def _run(self, work: Callable[..., None], calls: Sequence[tuple[Any, ...]], title: str, units: int) -> None:
        if not calls:
            return
        processes = min(self._processes, len(calls))
        threads = 0 if self._deterministic else max((os.cpu_count() or 1) // processes, 1)
        progress = Progress(title, units, title)
        run_side_by_side(work, [(*call, threads) for call in calls], processes, progress.update)
        progress.close(f"{units}, {processes} at a time")

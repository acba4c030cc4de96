"""``tune``: a search for better settings of one model of a run, on the validation logloss alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from features.errors import ConfigError
from models.methods import METHODS
from pipeline.config import Config, build, plain
from pipeline.keys import student_sources
from pipeline.read_settings import warn_of_unread
from pipeline.search import Found, Report, Task, Train, search
from pipeline.search_space import student_space, teacher_space
from pipeline.settings import StudentConfig, TeacherConfig
from pipeline.workspace import EXAMPLES, TEACHER, Run

TUNE = "tune"

_UNITS = {"s": 1, "m": 60, "h": 3600}


def budget_seconds(text: str) -> float:
    """A time such as ``90s``, ``30m`` or ``2h`` in seconds.

    Raises:
        ConfigError: it is no such text.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise ConfigError(f"--budget must be a time such as 90s, 30m or 2h. Received: {text}.")
    return seconds


def make_task(run: Run, model: str, config: Config) -> Task:
    """What to search for a model of a run.

    Cross-fitting and trees are left out of the search of a teacher: one neural teacher is trained in each trial.
    """
    if model == TEACHER:
        teacher = config.teacher_config()
        sources = {EXAMPLES: run.identity(EXAMPLES)}
        return Task(model, teacher_space(teacher), plain(teacher), {"folds": 0, "boosted": 0.0}, sources)
    student = config.student_config(model)
    learnt = student_sources(run, model, student.needs_embeddings)
    return Task(model, student_space(model, student), plain(student), {"generations": 1}, learnt)


def tune(run: Run, model: str, config: Config, seconds: float) -> Found:
    """Searches for better settings of a model.

    Args:
        run: the run directory; the caller holds its lock. Students need its targets.
        model: ``teacher`` or a method.
        config: what to search around, of a preset that has been chosen.
        seconds: how long to search. The trial in progress is stopped at its next evaluation.

    Returns:
        what was found by this call and those before.

    Raises:
        DataError: the run has no validation rows.
        TrainingError: no trial could be evaluated.
    """
    task = make_task(run, model, config)
    warn_of_unread(config, [] if model == TEACHER else [model])
    # Imported here, so that wrong settings are found before TensorFlow is imported.
    from pipeline.stage_inputs import require_local, require_validation

    require_local(run)
    require_validation(run.spec())
    if model == TEACHER:
        train = _teacher_trial(run, config)
    else:
        train = _student_trial(run, model, config.student_config(model).needs_embeddings)
    deadline = time.monotonic() + seconds
    return search(task, train, run.file(TUNE, model), lambda: deadline - time.monotonic())


def _teacher_trial(run: Run, config: Config) -> Train:
    from pipeline.fitting import Circumstances
    from pipeline.teacher_data import TeacherData
    from pipeline.teacher_part import train_part

    data = TeacherData.read(run, config.teacher_config())

    def train(settings: dict[str, Any], progress: Callable[[float, str], None], report: Report, folder: str) -> object:
        return train_part(
            data, build(TeacherConfig, settings, TEACHER), 0, Circumstances(progress, folder, on_evaluation=report)
        )

    return train


def _student_trial(run: Run, method: str, embeddings: bool) -> Train:
    from pipeline.fitting import Circumstances
    from pipeline.student_data import StudentData
    from pipeline.student_part import train_student

    data = StudentData.read(run, METHODS[method], embeddings)

    def train(settings: dict[str, Any], progress: Callable[[float, str], None], report: Report, folder: str) -> object:
        config = build(StudentConfig, settings, method)
        return train_student(data, method, config, Circumstances(progress, folder, on_evaluation=report))

    return train

"""A search by Optuna: trials of a training one after another, in a journal that later calls go on with.

A trial counts with its best evaluation, as a training does, so one that is stopped half-way counts too: trained to its
end it is as good or better.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from features.errors import TrainingError
from pipeline import storage
from pipeline.config import build, plain
from pipeline.progress import Progress
from pipeline.search_space import Space, draw, present
from pipeline.settings import StudentConfig, TeacherConfig
from pipeline.workspace import TEACHER, digest

BEST = "best.yaml"

Report = Callable[[dict[str, float]], None]
Train = Callable[[dict[str, Any], Callable[[float, str], None], Report, str], object]
"""A training: of settings, progress, what to call with each row of its history, and a folder for checkpoints."""

_ENDED = "ended"
# The first trials are drawn at random, and none of them is stopped early.
_RANDOM_TRIALS = 8


@dataclass(frozen=True)
class Task:
    """What is tuned.

    Args:
        model: ``teacher`` or a method.
        space: what is searched.
        settings: all settings of the model as they are without tuning.
        fixed: settings that are others in the search than in ``settings``.
        sources: identities of what is trained on.
    """

    model: str
    space: Space
    settings: Mapping[str, Any]
    fixed: Mapping[str, Any]
    sources: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The name of the search: another one begins when the data, the settings or the space are others."""
        return digest({"sources": self.sources, "settings": self.settings, "space": repr(self.space)})

    def found(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section of a file of settings with what was found."""
        kind = TeacherConfig if self.model == TEACHER else StudentConfig
        settings = plain(build(kind, {**self.settings, **values}, self.model))
        return {TEACHER: settings} if self.model == TEACHER else {"methods": {self.model: settings}}


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        path: file of settings for ``--config``.
        valid_logloss: of the best trial.
        trial: its number.
        trials: of the search so far.
        present: validation logloss of the present settings; NaN if their trial failed.
    """

    path: str
    valid_logloss: float
    trial: int
    trials: int
    present: float


def search(task: Task, train: Train, folder: str, left: Callable[[], float]) -> Found:
    """Takes trials until the time is over, at least one; the one in progress then is stopped at its next evaluation.

    Args:
        task: what to search.
        train: a training.
        folder: for the journal and what is found.
        left: seconds that are left.
    """
    study = _open_study(folder, task)
    trials = _Trials(study, task, train, storage.join(folder, storage.WORK), left)
    while True:
        trials.take()
        table = _write(study, task, folder)
        if trials.over:
            break
    trials.close()
    return _found(table, folder)


class _Stopped(Exception):
    """Ends a trial before its end."""


class _Trials:
    """Trials, one after another.

    Args:
        study: with the trials of earlier calls.
        task: what is tuned.
        train: a training.
        folder: of the training in progress.
        left: seconds that are left.
    """

    def __init__(self, study: optuna.Study, task: Task, train: Train, folder: str, left: Callable[[], float]) -> None:
        self._study, self._task, self._train = study, task, train
        self._folder, self._left = folder, left
        self._progress = Progress(f"tune {task.model}", None, "trials", len(study.trials))

    @property
    def over(self) -> bool:
        """Whether there is no time left."""
        return self._left() <= 0

    def take(self) -> None:
        """Takes one trial."""
        # A model has cycles of references; two at a time may be too many for the memory.
        gc.collect()
        storage.remove(self._folder)
        trial = self._study.ask()
        values = draw(self._task.space, trial, self._task.settings)
        evaluations: list[float] = []

        def report(row: dict[str, float]) -> None:
            evaluations.append(row["valid_logloss"])
            trial.report(row["valid_logloss"], len(evaluations))
            if self.over:
                raise _Stopped("out of time")
            if trial.should_prune():
                raise _Stopped("worse than others")

        def progress(rows: float, note: str) -> None:
            self._progress.update(trial.number, f"({self._note()}; trial {trial.number}: {note})")

        try:
            self._train({**self._task.settings, **values, **self._task.fixed}, progress, report, self._folder)
        except (_Stopped, TrainingError) as error:
            trial.set_user_attr(_ENDED, str(error))
            stopped = isinstance(error, _Stopped)
            self._study.tell(trial, state=TrialState.PRUNED if stopped else TrialState.FAIL)
        else:
            self._study.tell(trial, min(evaluations))

    def close(self) -> None:
        """Removes what the last training left, and ends the display."""
        storage.remove(self._folder)
        self._progress.close(f"{len(self._study.trials)} trials, {self._best_text()}")

    def _note(self) -> str:
        return f"{self._best_text()}, {max(self._left(), 0) / 60:.1f} min left"

    def _best_text(self) -> str:
        best = self._best()
        return "none finished yet" if math.isnan(best) else f"best valid logloss {best:.5f}"

    def _best(self) -> float:
        losses = [loss_of(trial) for trial in self._study.get_trials(deepcopy=False)]
        return min((loss for loss in losses if not math.isnan(loss)), default=math.nan)


def loss_of(trial: FrozenTrial) -> float:
    """The best validation logloss of a trial; NaN of one that has failed or was not evaluated."""
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return math.nan
    return min(trial.intermediate_values.values(), default=math.nan)


def _open_study(folder: str, task: Task) -> optuna.Study:
    """The search of earlier calls, or a new one that begins with the present settings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    evaluations = task.settings["evaluations"]
    pruner = optuna.pruners.MedianPruner(_RANDOM_TRIALS, n_warmup_steps=evaluations + 1)
    study = optuna.create_study(
        storage=_open_journal(storage.join(folder, "journal.log")),
        study_name=task.key,
        pruner=pruner,
        load_if_exists=True,
    )
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        # Its process was killed: the caller holds the lock of the run.
        study.tell(trial.number, state=TrialState.FAIL)
    # Drawn anew by every call, the same random numbers would be the same trials.
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=_RANDOM_TRIALS, seed=task.settings["seed"] + len(study.trials)
    )
    begin = present(task.space, task.settings)
    tried = [trial.system_attrs.get("fixed_params") for trial in study.trials if trial.state != TrialState.FAIL]
    if begin not in tried:
        study.enqueue_trial(begin)
    return study


def _open_journal(path: str) -> JournalStorage:
    """Optuna's journal, without what a killed process may have left of a line and of its lock."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        with open(path, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    lock = JournalFileOpenLock(path)
    storage.remove(f"{path}.lock")
    return JournalStorage(JournalFileBackend(path, lock))


def _write(study: optuna.Study, task: Task, folder: str) -> pd.DataFrame:
    """Writes all trials as a table, which it returns, and the best settings as a file for ``--config``."""
    table = trial_table(study)
    storage.write_bytes(storage.join(folder, "trials.csv"), table.to_csv(index=False).encode())
    if not table["valid_logloss"].isna().all():
        best = _best_row(table)
        text = yaml.safe_dump(task.found(study.trials[best["trial"]].params), sort_keys=False)
        title = f"# valid logloss {best['valid_logloss']:.6f}, trial {best['trial']} of {len(table)}\n"
        storage.write_bytes(storage.join(folder, BEST), (title + text).encode())
    return table


def _best_row(table: pd.DataFrame) -> dict[str, Any]:
    return {str(name): value for name, value in table.iloc[int(np.nanargmin(table["valid_logloss"]))].items()}


def _found(table: pd.DataFrame, folder: str) -> Found:
    if table["valid_logloss"].isna().all():
        raise TrainingError(
            f"A search must have a trial that can be evaluated. Received: {len(table)} without ({folder}/trials.csv)."
        )
    best = _best_row(table)
    present = float(table["valid_logloss"][table["present"]].min())
    return Found(storage.join(folder, BEST), float(best["valid_logloss"]), int(best["trial"]), len(table), present)


def trial_table(study: optuna.Study) -> pd.DataFrame:
    """A row a trial: trial, state, valid_logloss, evaluations, seconds, whether of the present settings, values."""
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
    rows = [
        {
            "trial": trial.number,
            "state": states[trial.state],
            "reason": trial.user_attrs.get(_ENDED, "killed" if trial.state == TrialState.FAIL else ""),
            "valid_logloss": loss_of(trial),
            "evaluations": len(trial.intermediate_values),
            "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
            "present": "fixed_params" in trial.system_attrs,
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    return pd.DataFrame(rows)

"""``search``: real searches by Optuna of a made-up training that takes no time."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import ROOT

from features.errors import ConfigError, TrainingError
from pipeline.config import load, plain, resolve
from pipeline.search import Found, Report, Task, Train, search
from pipeline.search_space import Around, Choice
from pipeline.settings import TeacherConfig

SPACE = {"learning_rate": Around(8), "hidden": Choice(("8", "16"))}
Progress = Callable[[float, str], None]


def task_of(**changes: Any) -> Task:
    settings = plain(TeacherConfig(**{"learning_rate": 0.08, "hidden": (16,), "evaluations": 1, **changes}))
    return Task("teacher", SPACE, settings, {"folds": 0}, {"examples": "a"})


def loss(settings: dict[str, Any]) -> float:
    """Lowest at a learning rate of 0.02, with 8 hidden units."""
    return 0.5 + 0.01 * abs(math.log(settings["learning_rate"] / 0.02)) + 0.005 * (settings["hidden"] != "8")


def train(settings: dict[str, Any], progress: Progress, report: Report, folder: str) -> None:
    """Three evaluations, the last one the best."""
    for evaluation in (3, 2, 1):
        progress(100.0, "a note")
        report({"valid_logloss": loss(settings) + 0.1 * (evaluation - 1)})


def searched(folder: Path, trials: int, training: Train = train, task: Task | None = None) -> Found:
    """A search of so many trials: a second passes with each of them."""
    left = [trials]

    def one(settings: dict[str, Any], progress: Progress, report: Report, work: str) -> None:
        try:
            training(settings, progress, report, work)
        finally:
            left[0] -= 1

    return search(task or task_of(), one, str(folder), lambda: left[0])


def trials_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "trials.csv", keep_default_na=False, na_values={"valid_logloss": [""]})


class TestSearch:
    def test_finds_better_settings(self, tmp_path: Path) -> None:
        found = searched(tmp_path, 20)
        table = trials_of(tmp_path)
        assert found.trials == len(table) == 20
        assert found.present == pytest.approx(loss({"learning_rate": 0.08, "hidden": "16"}))
        assert found.valid_logloss == pytest.approx(table["valid_logloss"].min())
        assert found.valid_logloss < found.present - 0.01
        assert found.trial == table["trial"][table["valid_logloss"].argmin()]
        written = load(found.path)
        best = table.loc[table["trial"] == found.trial].iloc[0]
        assert written["teacher"]["learning_rate"] == pytest.approx(best["learning_rate"])
        resolved = resolve(written).teacher_config()
        # Everything else stands there as it was.
        assert plain(resolved) == {**task_of().settings, **written["teacher"]}
        assert loss({**written["teacher"], "hidden": ",".join(map(str, resolved.hidden))}) == pytest.approx(
            found.valid_logloss
        )
        assert Path(found.path).read_text().startswith(f"# valid logloss {found.valid_logloss:.6f}, trial ")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["best.yaml", "journal.log", "trials.csv"]

    def test_the_first_trial_has_the_present_settings(self, tmp_path: Path) -> None:
        seen = []

        def note(settings: dict[str, Any], progress: Progress, report: Report, folder: str) -> None:
            seen.append(settings)
            train(settings, progress, report, folder)

        searched(tmp_path, 3, note)
        assert {key: seen[0][key] for key in ("learning_rate", "hidden", "folds")} == {
            "learning_rate": 0.08,
            "hidden": "16",
            "folds": 0,
        }
        assert trials_of(tmp_path)["present"].tolist() == [True, False, False]

    def test_bad_trials_are_stopped(self, tmp_path: Path) -> None:
        searched(tmp_path, 20)
        table = trials_of(tmp_path)
        stopped = table[table["reason"] == "worse than others"]
        assert len(stopped) and (stopped["state"] == "stopped").all() and (stopped["evaluations"] < 3).all()
        assert stopped["trial"].min() >= 8
        whole = table[table["state"] == "complete"]
        assert (whole["evaluations"] == 3).all()

    def test_the_budget_ends_a_trial(self, tmp_path: Path) -> None:
        """It counts with what it has reached."""
        left = [3]

        def slow(settings: dict[str, Any], progress: Progress, report: Report, folder: str) -> None:
            for value in (0.7, 0.5, 0.6, 0.1):
                left[0] -= 1
                report({"valid_logloss": value})

        found = search(task_of(), slow, str(tmp_path), lambda: left[0])
        table = trials_of(tmp_path)
        assert (table["state"].tolist(), table["reason"].tolist()) == (["stopped"], ["out of time"])
        assert table["evaluations"].tolist() == [3] and found.valid_logloss == found.present == 0.5

    def test_a_training_that_explodes_is_a_failed_trial(self, tmp_path: Path) -> None:
        def explode(settings: dict[str, Any], progress: Progress, report: Report, folder: str) -> None:
            report({"valid_logloss": 0.3})
            if settings["learning_rate"] >= 0.08:
                raise TrainingError("The training loss must stay finite.")

        found = searched(tmp_path, 6, explode)
        table = trials_of(tmp_path)
        assert table["state"][0] == "failed" and table["reason"][0] == "The training loss must stay finite."
        assert math.isnan(table["valid_logloss"][0]) and math.isnan(found.present)
        assert found.valid_logloss == 0.3 and found.trial > 0

    def test_no_trial_that_counts(self, tmp_path: Path) -> None:
        def explode(settings: dict[str, Any], progress: Progress, report: Report, folder: str) -> None:
            raise TrainingError("The training loss must stay finite.")

        with pytest.raises(TrainingError, match=r"^A search must have a trial that can be evaluated\. Received: 1 "):
            searched(tmp_path, 1, explode)
        assert not (tmp_path / "best.yaml").exists()

    def test_other_errors_are_not_hidden(self, tmp_path: Path) -> None:
        def wrong(settings: dict[str, Any], progress: Progress, report: Report, folder: str) -> None:
            raise ConfigError("label must be a column.")

        with pytest.raises(ConfigError, match="label"):
            searched(tmp_path, 3, wrong)

    def test_goes_on(self, tmp_path: Path) -> None:
        first = searched(tmp_path, 4)
        before = trials_of(tmp_path)
        second = searched(tmp_path, 4)
        after = trials_of(tmp_path)
        assert (first.trials, second.trials) == (4, 8) and second.valid_logloss <= first.valid_logloss
        pd.testing.assert_frame_equal(after.iloc[:4], before)
        assert after["present"].sum() == 1
        assert not after["learning_rate"].duplicated().any(), "random numbers are not drawn again"

    @pytest.mark.parametrize("change", ["examples", "settings"])
    def test_begins_anew_for_other_data_or_settings(self, tmp_path: Path, change: str) -> None:
        searched(tmp_path, 2)
        other = task_of(seed=3) if change == "settings" else task_of()
        if change == "examples":
            other = Task(other.model, other.space, other.settings, other.fixed, {"examples": "b"})
        found = searched(tmp_path, 1, task=other)
        assert found.trials == 1 and found.valid_logloss == found.present
        assert searched(tmp_path, 1).trials == 3, "the first search is still there"

    def test_checkpoints_of_one_trial_are_not_those_of_the_next(self, tmp_path: Path) -> None:
        def leave(settings: dict[str, Any], progress: Progress, report: Report, folder: str) -> None:
            assert not os.path.exists(folder)
            os.makedirs(folder)
            report({"valid_logloss": 0.3})

        assert searched(tmp_path, 3, leave).trials == 3
        assert not (tmp_path / ".work").exists()


_KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests/pipeline")
from test_search import search, task_of, train

def hang(settings, progress, report, folder):
    if len(started) == 3:
        report({"valid_logloss": 0.1})
        Path(sys.argv[2]).touch()
        time.sleep(60)
    started.append(settings)
    train(settings, progress, report, folder)

started = []
search(task_of(), hang, sys.argv[1], lambda: 100.0)
"""


def test_a_killed_search_loses_only_the_trial_in_progress(tmp_path: Path) -> None:
    folder, marker = tmp_path / "search", tmp_path / "hangs"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(folder), str(marker)], cwd=ROOT, env=environment)
    limit = time.monotonic() + 60
    while not marker.exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = trials_of(folder)
    assert before["state"].tolist() == ["complete"] * 3 and (folder / "best.yaml").exists()
    # What a kill in the middle of a write would leave.
    with open(folder / "journal.log", "ab") as file:
        file.write(b'{"op_code":6,"worker')
    (folder / "journal.log.lock").touch()
    begun = time.monotonic()
    found = searched(folder, 2)
    assert time.monotonic() - begun < 20, "nobody waits for a lock without a holder"
    after = trials_of(folder)
    pd.testing.assert_frame_equal(after.iloc[:3], before)
    assert (after["state"][3], after["reason"][3]) == ("failed", "killed") and math.isnan(after["valid_logloss"][3])
    assert found.trials == 6 and found.valid_logloss > 0.49

"""What a refit takes over: steps, learning rates and calibrations, from the histories that trainings write."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from models.calibration import Calibration
from pipeline.originals import RECORD, Original, refit_record, valid_logloss
from pipeline.settings import StudentConfig, TrainingConfig
from pipeline.workspace import Run

CALIBRATION = Calibration(0.9, -0.1)
ROWS = 1050
"""In batches of 100: eleven steps an epoch, of which the last one has 50 rows."""


def history_of(losses: list[float], steps: int) -> pd.DataFrame:
    """A history with an evaluation every so many steps."""
    return pd.DataFrame(
        {"epoch": (number + 1) * steps / 11, "valid_logloss": loss} for number, loss in enumerate(losses)
    )


def original_of(losses: list[float], steps: int, **settings: Any) -> Original:
    config = TrainingConfig(batch_size=100, **settings)
    return Original.of(history_of(losses, steps), ROWS, config, CALIBRATION)


@pytest.mark.parametrize(
    ("losses", "steps"),
    [([0.5], 6), ([0.6, 0.5, 0.4], 18), ([0.6, 0.4, 0.5, 0.5], 12), ([0.6, 0.4, 0.4], 12)],
)
def test_steps_up_to_the_best_evaluation(losses: list[float], steps: int) -> None:
    found = original_of(losses, 6, epochs=2.5)
    # 2.5 epochs of eleven steps.
    assert found == Original(steps, 28, (), CALIBRATION)


@pytest.mark.parametrize(
    ("losses", "drops"),
    [
        # With one evaluation an epoch the rate drops when one is no better.
        ([0.6, 0.5, 0.55, 0.4], (33,)),
        ([0.6, 0.5, 0.55, 0.52, 0.4], (33, 44)),
        ([0.6, 0.65, 0.5, 0.55, 0.4, 0.41, 0.42], (22, 44)),
        # What comes with the best evaluation or behind it has no effect.
        ([0.6, 0.5, 0.4, 0.55, 0.6], ()),
        ([0.6], ()),
    ],
)
def test_drops_before_the_best_evaluation(losses: list[float], drops: tuple[int, ...]) -> None:
    assert original_of(losses, 11, schedule="plateau", evaluations=1).drops == drops
    assert original_of(losses, 11, schedule="linear", evaluations=1).drops == ()


def test_drops_wait_for_an_epoch_without_a_better_evaluation() -> None:
    losses = [0.6, 0.5, 0.51, 0.52, 0.53, 0.54, 0.4]
    assert original_of(losses, 6, schedule="plateau", evaluations=2).drops == (24, 36)


@pytest.mark.parametrize("rows", [1, 99, 1050, 1051, 1275, 33333])
@pytest.mark.parametrize("epochs", [0.3, 1.0, 2.5, 10.0])
def test_epochs_that_end_at_the_same_step(rows: int, epochs: float) -> None:
    """As the training counts them: its learning rate is 0 after ceil(epochs * steps of an epoch) steps."""
    original = original_of([0.5], 6, epochs=epochs)
    found = original.epochs(rows, 100)
    assert math.ceil(found * math.ceil(rows / 100)) == original.last == math.ceil(epochs * 11)
    assert found > 0


def test_the_best_of_a_students_training(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    folder = tmp_path / "students" / "kd"
    folder.mkdir(parents=True)
    history_of([0.6, 1 / 3, 0.5], 6).to_csv(folder / "history.csv", index=False)
    assert valid_logloss(run, "kd") == pytest.approx(1 / 3, abs=1e-15)


def test_the_record(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    assert refit_record(run) is None
    Path(run.file(RECORD)).write_text(json.dumps({"run": "/a", "valid_logloss": {}}))
    assert refit_record(run) == {"run": "/a", "valid_logloss": {}}


def test_a_student_is_a_training(tmp_path: Path) -> None:
    config = StudentConfig(batch_size=100, epochs=1.0)
    assert Original.of(history_of([0.5], 6), ROWS, config, CALIBRATION).last == 11

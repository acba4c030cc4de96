"""Which evaluation was the best, when to stop, when the learning rate drops."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from models.history import History, best_evaluation


def after(
    losses: list[float], patience: int = 3, plateau: int = 2
) -> tuple[History, list[bool], list[bool], list[bool]]:
    """A history with these evaluations, and what it said after each."""
    history, better, drops, ends = History(patience, plateau), [], [], []
    for loss in losses:
        better.append(history.add({"valid_logloss": loss}))
        drops.append(history.on_plateau())
        ends.append(history.exhausted)
    return history, better, drops, ends


@pytest.mark.parametrize(
    ("losses", "better", "drops", "ends"),
    [
        ([0.5, 0.4, 0.3], [1, 1, 1], [0, 0, 0], [0, 0, 0]),
        ([0.5, 0.6, 0.5, 0.6], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]),
        ([0.5, 0.6, 0.4, 0.5, 0.5], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]),
        # Two more without a better one after the drop: it drops again.
        ([0.5, 0.6, 0.6, 0.6, 0.6], [1, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 1]),
    ],
)
def test_what_follows_each_evaluation(
    losses: list[float], better: list[int], drops: list[int], ends: list[int]
) -> None:
    _, *found = after(losses)
    assert [list(map(int, part)) for part in found] == [better, drops, ends]


@pytest.mark.parametrize("cut", range(6))
def test_goes_on_from_json(cut: int) -> None:
    losses = [0.5, 0.6, 0.6, 0.4, 0.6, 0.6, 0.6]
    whole, _, _, _ = after(losses)
    part, _, _, _ = after(losses[:cut])
    again = History(3, 2)
    again.load(json.loads(json.dumps(part.to_json())))
    for loss in losses[cut:]:
        again.add({"valid_logloss": loss})
        again.on_plateau()
    assert again.to_json() == whole.to_json() and again.exhausted == whole.exhausted


def test_without_validation_the_latest_is_the_best() -> None:
    history = History(2, 2)
    assert all(history.add({"train_loss": loss}) for loss in (0.1, 0.2, 0.3))
    assert not history.exhausted and not history.on_plateau()


@pytest.mark.parametrize(
    ("table", "best"),
    [
        ({"epoch": [0.5, 1.0, 1.5], "valid_logloss": [0.6, 0.4, 0.5]}, {"epoch": 1.0, "valid_logloss": 0.4}),
        ({"epoch": [0.5, 1.0, 1.5], "train_loss": [0.6, 0.4, 0.5]}, {"epoch": 1.5, "train_loss": 0.5}),
    ],
)
def test_best_evaluation(table: dict[str, list[float]], best: dict[str, float]) -> None:
    assert best_evaluation(pd.DataFrame(table)) == best

"""Random settings of a trial: within their bounds, spread over them, and the same whatever else is drawn."""

from __future__ import annotations

import math

import numpy as np

from pipeline.shared_draws import SharedDraws

TRIALS = range(400)


def test_a_value_depends_on_trial_and_name_alone() -> None:
    first = SharedDraws(3)
    alone = first.suggest_float("alpha", 0.2, 1.0)
    second = SharedDraws(3)
    second.suggest_float("epochs", 1, 10, log=True)
    assert second.suggest_float("alpha", 0.2, 1.0) == alone
    assert SharedDraws(4).suggest_float("alpha", 0.2, 1.0) != alone
    assert SharedDraws(3).suggest_float("beta", 0.2, 1.0) != alone


def test_values_are_spread_over_their_bounds() -> None:
    uniform = np.array([SharedDraws(trial).suggest_float("a", 2.0, 4.0) for trial in TRIALS])
    assert uniform.min() > 2 and uniform.max() < 4 and abs(uniform.mean() - 3) < 0.1
    logs = np.log([SharedDraws(trial).suggest_float("a", 0.01, 1.0, log=True) for trial in TRIALS])
    assert abs(logs.mean() - math.log(0.1)) < 0.25
    whole = [SharedDraws(trial).suggest_int("n", 1, 16, log=True) for trial in TRIALS]
    assert min(whole) == 1 and max(whole) == 16
    chosen = [SharedDraws(trial).suggest_categorical("c", ("x", "y", "z")) for trial in TRIALS]
    assert all(100 < chosen.count(choice) < 170 for choice in "xyz")

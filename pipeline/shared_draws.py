"""Random settings that do not depend on what else is drawn: methods with the same setting try the same values of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.seeds import seed_for


class SharedDraws:
    """Draws the settings of one trial (see :class:`pipeline.search_space.Suggests`).

    Args:
        trial: its number.
    """

    def __init__(self, trial: int) -> None:
        self._trial = trial

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""
        if log:
            return math.exp(self.suggest_float(name, math.log(low), math.log(high)))
        return low + (high - low) * self._uniform(name)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number in [low, high]."""
        return min(max(round(self.suggest_float(name, low, high, log=log)), low), high)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        return choices[min(int(self._uniform(name) * len(choices)), len(choices) - 1)]

    def _uniform(self, name: str) -> float:
        return float(np.random.default_rng([self._trial, seed_for(0, name)]).random())

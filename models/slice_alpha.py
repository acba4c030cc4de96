"""How much a student trusts its teacher on each slice of rows: less where the teacher is hardly better than the rate.

Slices are those of :class:`models.diagnosis.FrequencyTable`: how often a row's rarest value is among the training rows
(never, 1 to 9, 10 to 99, ...). No TensorFlow here.

References:
  Lukasik, Bhojanapalli, Menon and Kumar, Teacher's pet: understanding and mitigating biases in distillation (2021),
  https://arxiv.org/abs/2106.10494, for less teacher on subgroups where it is less reliable. Slices by frequency, and
  skill as the measure, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.errors import ConfigError
from models.diagnosis import EDGES
from models.estimates import divide, sigmoid

LEAST_ROWS = 200
"""Rows below which a slice says too little of a teacher."""

_SLICES = len(EDGES) + 1


def slices_of(frequency: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The slice of each frequency: integers of any shape to int64 of that shape, in [0, 10]; it rises with them."""
    found: npt.NDArray[np.int64] = np.searchsorted(EDGES, frequency, side="right")
    return found


@dataclass(eq=False)
class SliceErrors:
    """A teacher's squared errors by slice.

    Attributes:
        sums: float64 [4, slices]: rows, weight, clicks and squared errors, the last two times weight.
    """

    sums: np.ndarray

    @classmethod
    def empty(cls) -> SliceErrors:
        """Returns sums over no rows."""
        return cls(np.zeros((4, _SLICES)))

    def update(
        self, frequency: np.ndarray, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
    ) -> SliceErrors:
        """Adds a batch of rows in place and returns the sums themselves.

        Args:
            frequency: integers [n]; see :func:`models.diagnosis.rarest`.
            labels: [n], 1 for a click and 0 for none.
            logits: [n], finite: the teacher's log-odds of a click.
            weights: [n], not negative; 1 for every row when absent.
        """
        y = np.asarray(labels, np.float64)
        w = np.ones_like(y) if weights is None else np.asarray(weights, np.float64)
        columns = [np.ones_like(y), w, w * y, w * (sigmoid(np.asarray(logits, np.float64)) - y) ** 2]
        own = slices_of(frequency)
        self.sums += np.stack([np.bincount(own, column, _SLICES) for column in columns])
        return self

    def skills(self) -> npt.NDArray[np.float64]:
        """The teacher's Brier skill of each slice, float64 [slices].

        That is 1 - mean (p_t - y)^2 / (r (1 - r)), r being the click rate of the slice: 1 for a perfect teacher, 0 for
        one that is no better than saying r of all. NaN with fewer than 200 rows, and where all labels are the same.
        """
        rows, weight, clicks, errors = self.sums
        rate = divide(clicks, weight)
        skills: npt.NDArray[np.float64] = 1 - divide(errors, weight * rate * (1 - rate))
        return np.where(rows >= LEAST_ROWS, skills, np.nan)

    def alphas(self, alpha: float) -> npt.NDArray[np.float32]:
        """The weight of the targets on each slice, float32 [slices]: alpha * clip(skill / largest skill, 0, 1).

        A slice of unknown skill has the weight of the nearest one; of two that are as near, that of the rarer values.

        Args:
            alpha: on the slice of the largest skill.

        Raises:
            ConfigError: no slice has a skill.
        """
        skills = self.skills()
        known = np.flatnonzero(np.isfinite(skills))
        if not known.size:
            raise ConfigError(
                f"slice_alpha must be false where no slice has {LEAST_ROWS} validation rows, some with a click and "
                f"some without. Received: {self.sums[0].astype(int).tolist()} rows (slices by rarest value)."
            )
        largest = skills[known].max()
        shares = np.clip(skills[known] / largest, 0, 1) if largest > 0 else np.zeros(len(known))
        nearest = np.abs(np.arange(_SLICES)[:, np.newaxis] - known).argmin(axis=1)
        return (alpha * shares[nearest]).astype(np.float32)

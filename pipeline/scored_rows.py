"""The rows of a block as metrics take them: labels, bootstrap groups, weights, and the truth of generated logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.hashing import groups, groups_of
from models.metrics import GROUPS
from pipeline.truth import Truth

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScoredRows:
    """What metrics need beside a model's logits.

    Args:
        labels: uint8 [rows].
        groups: int64 [rows], bootstrap groups, the same for every model.
        weights: float64 [rows]; None if every row counts once.
        p_star: float64 [rows], true click probability; None where it is not known.
        kinds: int16 [rows], hidden kind; None where it is not known.
    """

    labels: npt.NDArray[np.uint8]
    groups: npt.NDArray[np.int64]
    weights: Floats | None
    p_star: Floats | None
    kinds: npt.NDArray[np.int16] | None

    @classmethod
    def of(cls, block: Block, source: str, negative_rate: float, truth: Truth | None) -> ScoredRows:
        """The rows of a block.

        Args:
            block: of the rows. If it has groups, the rows of one stay together in the bootstrap.
            source: the log that they came from.
            negative_rate: share of the rows without click that the log kept.
            truth: of that log, if it was generated.
        """
        group = groups(block.offsets, source, GROUPS) if block.groups is None else groups_of(block.groups, GROUPS)
        p_star, kinds = truth.find(block.offsets) if truth else (None, None)
        return cls(block.labels, group, row_weights(block, negative_rate), p_star, kinds)


def row_weights(block: Block, negative_rate: float = 1.0) -> Floats | None:
    """What each row of a block counts: see :func:`whole_log_weights`."""
    return whole_log_weights(block.labels, block.weights, negative_rate)


def whole_log_weights(
    labels: npt.NDArray[np.generic], weights: npt.NDArray[np.floating[Any]] | None, negative_rate: float
) -> Floats | None:
    """What each row counts: its weight, and without a click 1 / negative_rate times that.

    Of a log that kept only a share of its rows without click, each that is left stands for 1 / negative_rate rows.
    With these weights metrics are those of the whole log.

    Args:
        labels: 0 or 1, [rows].
        weights: [rows], or None of a log without.
        negative_rate: that share, in (0, 1].

    Returns:
        float64 [rows]; None if every row counts once.
    """
    own = None if weights is None else weights.astype(np.float64)
    if negative_rate == 1:
        return own
    return np.where(labels == 1, 1.0, 1 / negative_rate) * (1.0 if own is None else own)

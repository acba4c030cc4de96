"""Cross-fitting: the rows of part p of B are those whose fold is p modulo B, and model p has not seen them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from features.hashing import FOLDS


def folds_of_part(part: int, parts: int) -> list[int]:
    """The folds of a part; none where there is no cross-fitting (0 parts)."""
    return [fold for fold in range(FOLDS) if parts and fold % parts == part]


def by_part(
    folds: npt.NDArray[np.uint8], parts: int, score: Callable[[int, npt.NDArray[np.int64]], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """Asks for each row the model of its part.

    Args:
        folds: uint8 [n].
        parts: B, the number of models.
        score: called with a part and the numbers of its rows; gives an array with a row for each of them.

    Returns:
        [n, ...], in the order of the rows.
    """
    rows = [np.flatnonzero(folds % parts == part) for part in range(parts)]
    scores = [score(part, own) for part, own in enumerate(rows)]
    return np.concatenate(scores)[np.argsort(np.concatenate(rows))]

"""What the subclasses of a teacher mean: the values that are more frequent in a subclass than in its class.

found = SubclassMap.empty(subclasses=5, sizes=[120, 35])
found.update(logits, ids)               # any number of batches
found = found.merge(of_another_shard)
found.top()                             # DataFrame, some rows a subclass
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.estimates import divide
from models.subclasses import CLASSES, log_softmax

LEAST_ROWS = 30
LEAST_SHARE = 0.001
TOP = 5


@dataclass(eq=False)
class SubclassMap:
    """Expected rows by subclass and value.

    Attributes:
        rows: weight of the rows.
        totals: float64 [2, S]: sum over rows i of w_i P_t(c, j | x_i), the expected rows of each subclass.
        values: float64 [columns, largest size, 2, S]: the same of the rows with each value.
        sizes: of each column, how many vocabulary ids are counted, from 0 on.
    """

    rows: float
    totals: np.ndarray
    values: np.ndarray
    sizes: tuple[int, ...]

    @classmethod
    def empty(cls, subclasses: int, sizes: Sequence[int]) -> SubclassMap:
        """Returns a map without rows.

        Args:
            subclasses: S of each class.
            sizes: of each column, vocabulary ids that are counted; rows with others are in no value's rows.
        """
        values = np.zeros((len(sizes), max(sizes, default=0), 2, subclasses))
        return cls(0.0, np.zeros((2, subclasses)), values, tuple(sizes))

    def update(self, logits: np.ndarray, ids: np.ndarray, weights: np.ndarray | None = None) -> SubclassMap:
        """Adds a batch of rows in place and returns the map itself.

        Args:
            logits: [n, 2 S], class-major: z[c S + j]; not tempered.
            ids: integers [n, columns]: vocabulary ids.
            weights: [n], not negative; 1 for every row when absent.
        """
        z = np.asarray(logits, np.float64)
        if z.ndim != 2 or z.shape[1] != self.totals.size:
            raise ValueError(f"`logits` should be [n, {self.totals.size}]. Received: {z.shape}")
        joint = np.exp(log_softmax(z))
        if weights is not None:
            joint = joint * np.asarray(weights, np.float64)[:, np.newaxis]
        self.rows += float(joint.sum())
        self.totals += joint.sum(axis=0).reshape(self.totals.shape)
        columns, width = self.values.shape[:2]
        sizes = np.array(self.sizes, np.int64)
        row, column = np.nonzero(ids < sizes)
        cell = column * width + ids[row, column]
        counted = self.values.reshape(columns * width, joint.shape[1])
        for output in range(joint.shape[1]):
            counted[:, output] += np.bincount(cell, joint[row, output], columns * width)
        return self

    def merge(self, other: SubclassMap) -> SubclassMap:
        """Returns the map of the rows of both."""
        if (self.sizes, self.totals.shape) != (other.sizes, other.totals.shape):
            raise ValueError(
                "both sides should have the same subclasses and sizes. "
                f"Received: {self.values.shape} and {other.values.shape}"
            )
        return SubclassMap(self.rows + other.rows, self.totals + other.totals, self.values + other.values, self.sizes)

    def top(self, count: int = TOP) -> pd.DataFrame:
        """Returns for each subclass its values of highest lift, the highest first.

        lift = (rows of the value in the subclass / rows of the subclass) / (rows of the value in the class / rows of
        the class), all of them expected under the teacher. Values that are no more frequent than in the class, and
        those with fewer rows in the subclass than 30 or 0.1 % of all rows, are left out.

        Args:
            count: of values for a subclass, at most.

        Returns:
            columns class, subclass, share (of the class's rows), column and id (positions), lift, rows. A subclass
            without such a value has one row, in which column and id are -1, lift is NaN and rows are its own.
        """
        least = max(LEAST_ROWS, LEAST_SHARE * self.rows)
        share = divide(self.totals, self.totals.sum(axis=1, keepdims=True))
        of_class = self.values.sum(axis=3, keepdims=True)
        lifts = divide(divide(self.values, of_class), share)
        lifts = np.where((self.values >= least) & (lifts > 1), lifts, np.nan)
        rows = []
        for c, j in np.ndindex(*self.totals.shape):
            names = (CLASSES[c], j, float(share[c, j]))
            found = self._best(lifts[:, :, c, j], self.values[:, :, c, j], count)
            rows += [(*names, *each) for each in found or [(-1, -1, np.nan, float(self.totals[c, j]))]]
        return pd.DataFrame(rows, columns=["class", "subclass", "share", "column", "id", "lift", "rows"])

    @staticmethod
    def _best(lifts: np.ndarray, values: np.ndarray, count: int) -> list[tuple[int, int, float, float]]:
        """Column, id, lift and rows of the values of highest lift; of equal ones the first columns and ids."""
        known = np.flatnonzero(np.isfinite(lifts.ravel()))
        best = known[np.argsort(-lifts.ravel()[known], kind="stable")][:count]
        places = zip(*np.unravel_index(best, lifts.shape), strict=True)
        return [(int(c), int(v), float(lifts[c, v]), float(values[c, v])) for c, v in places]

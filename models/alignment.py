"""Which subclass of one teacher is which of another: subclasses of teachers that were trained apart, in one order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.subclasses import class_blocks, class_logits, log_softmax

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLASSES = 2


def align(reference: np.ndarray, other: np.ndarray) -> Ints:
    """Finds the order of another teacher's subclasses in which they agree best with those of a reference.

    Within each class c it is the assignment pi that maximises ``sum_i P(c|x_i) sum_j r_ij r'_i,pi(j)``, with the
    class probabilities P and conditionals r of the reference and the conditionals r' of the other. As no assignment
    changes the norms of r and r', it is also the one with the least (weighted) squared distance between both.

    Args:
        reference: float [n, 2 S], class-major subclass logits of n rows.
        other: float [n, 2 S], those of the other teacher for the same rows.

    Returns:
        int64 [2 S]: ``other[:, order]`` has the reference's subclasses; no subclass leaves its class.

    Raises:
        ValueError: the shapes differ, or are not [n, 2 S].
    """
    gains = _gains(reference, other)
    size = gains.shape[1]
    return np.concatenate([number * size + best_assignment(gain) for number, gain in enumerate(gains)])


def agreement(reference: np.ndarray, other: np.ndarray) -> float:
    """Computes how well the subclasses of two teachers agree, in [0, 1].

    It is the mean over rows of ``sum_c P(c|x_i) sum_j r_ij r'_ij``: the chance that both draw the same subclass of a
    class that the reference has drawn. Equal one-hot conditionals give 1, uniform ones 1 / S; NaN without rows.

    Args:
        reference: float [n, 2 S], class-major subclass logits of n rows.
        other: float [n, 2 S], those of the other teacher for the same rows.

    Raises:
        ValueError: as :func:`align`.
    """
    gains = _gains(reference, other)
    return float(np.trace(gains, axis1=1, axis2=2).sum() / len(reference)) if len(reference) else float("nan")


def _gains(reference: np.ndarray, other: np.ndarray) -> Floats:
    """What each pair of subclasses adds to the agreement: float64 [2, S, S], by class, reference and other."""
    if reference.ndim != 2 or reference.shape != other.shape or not reference.shape[1] or reference.shape[1] % CLASSES:
        raise ValueError(f"both logits should be [n, 2 S]. Received: {reference.shape} and {other.shape}")
    classes, first = _probabilities(reference)
    _, second = _probabilities(other)
    gains: Floats = np.einsum("nc,ncj,nck->cjk", classes, first, second, optimize=True)
    return gains


def _probabilities(z: np.ndarray) -> tuple[Floats, Floats]:
    """Class probabilities [n, 2] and conditionals within each class [n, 2, S]."""
    return np.exp(log_softmax(class_logits(z))), np.exp(log_softmax(class_blocks(z)))


def best_assignment(gain: np.ndarray) -> Ints:
    """Computes the one-to-one assignment of rows to columns with the largest sum of gains, exactly, in O(n^3).

    Rows are assigned one after another. Each takes the cheapest way to a free column, which may move earlier rows to
    other columns; prices of rows and columns keep the remaining costs from becoming negative. Where everything is
    equal, row i gets column i.

    Args:
        gain: float [n, n], finite.

    Returns:
        int64 [n], the column of each row.

    References:
        Jonker and Volgenant, A shortest augmenting path algorithm for dense and sparse linear assignment problems
        (1987), https://doi.org/10.1007/BF02278710
    """
    gain = np.asarray(gain, np.float64)
    matching = _Matching(gain.max(initial=0.0) - gain)
    for row in range(len(gain)):
        matching.add(row)
    return matching.columns


class _Matching:
    """A cheapest assignment of some rows of a cost matrix, with the prices that prove it.

    Args:
        cost: float64 [n, n], not negative.
    """

    def __init__(self, cost: Floats) -> None:
        size = len(cost)
        self._cost = cost
        self._row_prices, self._column_prices = np.zeros(size), np.zeros(size)
        self._rows = np.full(size, -1, np.int64)
        self.columns = np.full(size, -1, np.int64)

    def add(self, row: int) -> None:
        """Assigns one more row."""
        size = len(self._cost)
        distance, before, done = np.full(size, np.inf), np.full(size, -1, np.int64), np.zeros(size, np.bool_)
        current, column, least = row, -1, 0.0
        while current >= 0:
            through = least + self._cost[current] - self._row_prices[current] - self._column_prices
            shorter = ~done & (through < distance)
            distance[shorter], before[shorter] = through[shorter], current
            column = int(np.where(done, np.inf, distance).argmin())
            least, done[column] = float(distance[column]), True
            current = int(self._rows[column])
        self._price(row, done, distance, least)
        self._move(row, column, before)

    def _price(self, row: int, done: npt.NDArray[np.bool_], distance: Floats, least: float) -> None:
        """Changes the prices so that the steps of the shortest ways cost nothing."""
        held = done & (self._rows >= 0)
        self._row_prices[row] += least
        self._row_prices[self._rows[held]] += least - distance[held]
        self._column_prices[held] -= least - distance[held]

    def _move(self, row: int, column: int, before: Ints) -> None:
        """Gives every row on the way back from a free column the column that it came by."""
        while True:
            current = int(before[column])
            self._rows[column] = current
            self.columns[current], column = column, int(self.columns[current])
            if current == row:
                return

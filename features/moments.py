"""Sums of numbers over rows as Python integers, so that they are exact and do not depend on the rows' order."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_LIMB = 16
# Every float32 is a multiple of 2^-149; its 24 bits as an integer reach down to the unit 2^-172.
_FLOAT_BITS = 24
FLOAT_UNIT = 172
"""Sums of float32 numbers come in units of 2^-172, those of their squares in units of 2^-344."""


def weighted_sum(numbers: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
    """The sum of integers, each as often as its count says.

    Args:
        numbers: int64 [v], of less than 48 bits.
        counts: int64 [v], not negative, together at most 2^46.
    """
    # A limb times all counts has less than 63 bits.
    low, middle = numbers & 0xFFFF, (numbers >> _LIMB) & 0xFFFF
    limbs = (low, middle, numbers >> 2 * _LIMB)
    return sum(int(limb @ counts) << index * _LIMB for index, limb in enumerate(limbs))


def float_sums(numbers: NDArray[np.floating], counts: NDArray[np.int64]) -> tuple[int, int]:
    """The sum of float32 numbers and that of their squares, each as often as its count says.

    Args:
        numbers: finite [v], of a type that holds them; each must be a float32.
        counts: as in :func:`weighted_sum`.

    Returns:
        the sum in units of 2^-172 and the sum of the squares in units of 2^-344.
    """
    fraction, exponent = np.frexp(numbers.astype(np.float64))
    mantissa = (fraction * 2**_FLOAT_BITS).astype(np.int64)
    total = squares = 0
    for power in np.unique(exponent).tolist():
        here = exponent == power
        same, rows = mantissa[here], counts[here]
        shift = power - _FLOAT_BITS + FLOAT_UNIT
        total += weighted_sum(same, rows) << shift
        squares += weighted_sum(same * same, rows) << 2 * shift
    return total, squares


def moments(total: int, squares: int, count: int, unit: int) -> tuple[float, float]:
    """Mean and population standard deviation of numbers from their sums; each is exact but for its last rounding.

    Args:
        total: sum of the numbers in units of 2^-unit.
        squares: sum of their squares in units of 2^-(2 unit).
        count: of the numbers.
        unit: see above.

    Returns:
        mean and deviation; the deviation of equal numbers is given as 1, both of no numbers as 0 and 1.
    """
    if not count:
        return 0.0, 1.0
    # The quotient of two integers is rounded once, however large they are.
    variance = (count * squares - total * total) / (count * count << 2 * unit)
    return total / (count << unit), math.sqrt(variance) or 1.0

"""The constants of generated logs: columns in Criteo's order, codes of values, and the worlds (presets)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OWN_EFFECTS = 32
CLUSTERS = 8


@dataclass(frozen=True)
class Numeric:
    """An integer column: floor(exp(center + spread * z)) + low, where z is about standard normal.

    Args:
        center: logarithm of the median, before ``low`` is added.
        spread: standard deviation of the logarithm.
        low: the smallest value.
        missing: typical probability that the field is empty; it differs by segment.
        use: which effects the column has besides ``main``: s (segment), u (user) or a (ad).
    """

    center: float
    spread: float
    low: int
    missing: float
    use: str = ""


@dataclass(frozen=True)
class Categorical:
    """A categorical column: Zipf's law over the values of each cluster.

    Args:
        cardinality: number of values; a multiple of ``CLUSTERS`` if above ``OWN_EFFECTS``.
        exponent: exponent of Zipf's law, not 1.
        missing: typical probability that the field is empty; it differs by segment.
        use: which effects the column has besides ``main``: s (segment), u (user) or a (ad).
    """

    cardinality: int
    exponent: float
    missing: float
    use: str = ""

    @property
    def clusters(self) -> int:
        """Number of clusters (value v is in cluster v mod ``clusters``); small columns: one a value."""
        return self.cardinality if self.cardinality <= OWN_EFFECTS else CLUSTERS

    @property
    def ranks(self) -> int:
        """Number of values in a cluster."""
        return self.cardinality // self.clusters


@dataclass(frozen=True)
class Preset:
    """A world.

    Args:
        segments: number S of segments; a log has S non-clicking and S clicking kinds.
        segment: weight of the effects that hold in one segment only, relative to ``main`` effects.
        product: weight of the products user * ad, relative to ``main`` effects.
        scale: of the click score, fitted once to a Bayes AUC of 0.80.
        intercept: of the click score, fitted once to a click rate of 0.25.
    """

    segments: int
    segment: float
    product: float
    scale: float
    intercept: float


PRESETS = {
    "kinds": Preset(segments=5, segment=1.4, product=0.8, scale=0.3033, intercept=-1.3751),
    "no-kinds": Preset(segments=1, segment=0.0, product=0.9, scale=0.3541, intercept=-1.6333),
    "linear": Preset(segments=1, segment=0.0, product=0.0, scale=0.9174, intercept=-2.0803),
}

NUMERIC = (
    Numeric(0.9, 1.5, 0, 0.45, "s"),
    Numeric(2.5, 1.7, -3, 0.0, "u"),
    Numeric(2.0, 1.6, 0, 0.21),
    Numeric(1.6, 1.0, 0, 0.22),
    Numeric(8.0, 2.2, 0, 0.03, "s"),
    Numeric(3.8, 1.7, 0, 0.22),
    Numeric(1.3, 1.6, 0, 0.04, "a"),
    Numeric(2.0, 1.2, 0, 0.001),
    Numeric(3.9, 1.5, 0, 0.04),
    Numeric(0.2, 0.6, 0, 0.45),
    Numeric(0.8, 1.0, 0, 0.04),
    Numeric(0.2, 1.2, 0, 0.76),
    Numeric(1.6, 1.2, 0, 0.22),
)

CATEGORICAL = (
    Categorical(144, 1.3, 0.0),
    Categorical(552, 1.4, 0.0),
    Categorical(600_000, 0.7, 0.03),
    Categorical(100_000, 1.2, 0.03),
    Categorical(304, 1.6, 0.0, "s"),
    Categorical(18, 1.1, 0.12, "u"),
    Categorical(1_200, 1.5, 0.0),
    Categorical(640, 1.6, 0.0),
    Categorical(3, 1.1, 0.0, "s"),
    Categorical(40_000, 1.4, 0.0),
    Categorical(520, 1.4, 0.0),
    Categorical(400_000, 0.8, 0.03),
    Categorical(320, 1.4, 0.0),
    Categorical(26, 1.1, 0.0, "a"),
    Categorical(2_400, 1.5, 0.0),
    Categorical(200_000, 0.95, 0.03),
    Categorical(10, 1.1, 0.0, "s"),
    Categorical(48, 1.3, 0.0),
    Categorical(200, 1.4, 0.44),
    Categorical(4, 1.1, 0.44, "s"),
    Categorical(300_000, 0.85, 0.03),
    Categorical(17, 1.1, 0.76),
    Categorical(15, 1.1, 0.0, "a"),
    Categorical(80_000, 1.3, 0.03),
    Categorical(88, 1.3, 0.44, "u"),
    Categorical(56_000, 1.5, 0.44),
)


def value_codes(column: int, values: Iterable[int] | NDArray[np.int32]) -> NDArray[np.uint32]:
    """Maps values of a column to distinct 32-bit codes by the finaliser of MurmurHash3, a bijection."""
    code = np.asarray(values, np.uint32) + np.uint32(column << 20)
    code ^= code >> np.uint32(16)
    code *= np.uint32(0x85EBCA6B)
    code ^= code >> np.uint32(13)
    code *= np.uint32(0xC2B2AE35)
    return code ^ (code >> np.uint32(16))

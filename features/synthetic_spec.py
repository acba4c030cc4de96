"""The constants of generated logs: their columns in Criteo's order and the three worlds (presets)."""

from __future__ import annotations

from dataclasses import dataclass

OWN_EFFECTS = 32
CLUSTERS = 8


@dataclass(frozen=True)
class Numeric:
    """An integer column: floor(exp(center + spread * z)) + low, where z is about standard normal.

    Args:
        center: logarithm of the median, before ``low`` is added.
        spread: standard deviation of the logarithm.
        low: the smallest value.
        missing: mean probability that the field is empty.
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
        missing: mean probability that the field is empty.
        use: which effects the column has besides ``main``: s (segment), u (user) or a (ad).
    """

    cardinality: int
    exponent: float
    missing: float
    use: str = ""

    @property
    def clusters(self) -> int:
        """Number of clusters (value v is in cluster v mod ``clusters``); in a small column each value is one."""
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
    "kinds": Preset(segments=5, segment=0.6, product=0.17, scale=0.452, intercept=-1.4017),
    "no-kinds": Preset(segments=1, segment=0.0, product=0.2, scale=0.5004, intercept=-1.2622),
    "linear": Preset(segments=1, segment=0.0, product=0.0, scale=0.751, intercept=-1.1367),
}

NUMERIC = (
    Numeric(0.9, 1.5, 0, 0.45, "s"),
    Numeric(2.5, 1.7, -3, 0.0, "u"),
    Numeric(2.0, 1.6, 0, 0.21),
    Numeric(1.6, 1.0, 0, 0.22),
    Numeric(8.0, 2.2, 0, 0.03, "s"),
    Numeric(3.8, 1.7, 0, 0.22, "a"),
    Numeric(1.3, 1.6, 0, 0.04, "s"),
    Numeric(2.0, 1.2, 0, 0.001),
    Numeric(3.9, 1.5, 0, 0.04),
    Numeric(0.2, 0.6, 0, 0.45),
    Numeric(0.8, 1.0, 0, 0.04, "u"),
    Numeric(0.2, 1.2, 0, 0.76),
    Numeric(1.6, 1.2, 0, 0.22, "a"),
)

CATEGORICAL = (
    Categorical(1_440, 1.2, 0.0, "u"),
    Categorical(552, 1.1, 0.0, "s"),
    Categorical(600_000, 0.7, 0.03),
    Categorical(100_000, 0.9, 0.03),
    Categorical(304, 1.3, 0.0, "s"),
    Categorical(18, 1.1, 0.12, "u"),
    Categorical(12_000, 1.1, 0.0),
    Categorical(640, 1.3, 0.0, "a"),
    Categorical(3, 1.1, 0.0, "sa"),
    Categorical(40_000, 1.1, 0.0),
    Categorical(5_200, 1.1, 0.0),
    Categorical(400_000, 0.8, 0.03),
    Categorical(3_200, 1.1, 0.0),
    Categorical(26, 1.1, 0.0, "sa"),
    Categorical(12_000, 1.05, 0.0),
    Categorical(200_000, 0.9, 0.03),
    Categorical(10, 1.1, 0.0, "su"),
    Categorical(4_800, 1.1, 0.0),
    Categorical(2_000, 1.2, 0.44),
    Categorical(4, 1.1, 0.44, "s"),
    Categorical(300_000, 0.85, 0.03),
    Categorical(17, 1.1, 0.76, "a"),
    Categorical(15, 1.1, 0.0, "su"),
    Categorical(80_000, 0.95, 0.03),
    Categorical(88, 1.2, 0.44, "sa"),
    Categorical(56_000, 1.1, 0.44),
)

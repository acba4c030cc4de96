"""The hidden model behind generated logs: what a row looks like, and how likely it is to be clicked.

The fields of a row are drawn first, for a segment of visitors that is then forgotten. The click is drawn from
the fields alone: kind scores s_k(fields) give P(kind | fields) by a softmax, and the click probability p*
is the sum over the clicking kinds. So p* is exactly the Bayes probability of the row, and the kinds are its
natural subclasses.

With S segments, the score of non-clicking kind t is fit_t (how well the fields fit segment t) and the score
of clicking kind t is fit_t + c_t, where

    c_t = intercept + scale * (main + segment_t + sum_r user_r * ad_r)

and fit, main, segment, user and ad are each a sum of effects of single fields. A model of additive effects
can express ``main`` only; the effects that hold in one segment and the products need a model of
interactions.

Drift moves the fields, never the scores: from the first row to the last the mixture of segments and of values
goes over from one state to another, numerics shift, and new values enter the long tails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.synthetic_spec import CATEGORICAL, NUMERIC, PRESETS, Categorical, Numeric, Preset

Array32 = NDArray[np.float32]
Ints = NDArray[np.int32]

MISSING_NUMBER = int(np.iinfo(np.int32).min)
MISSING_VALUE = -1
# The largest float32 of eight digits: one more digit would not fit the layout of a line.
MAX_NUMBER = 99_999_992
_MODEL_SEED = 20
_RANK = 3
_SLOTS = 4096
_STEADY_RANKS = 64


@dataclass(frozen=True)
class Fields:
    """What is visible of n rows.

    Args:
        numeric: int32 [13, n], MISSING_NUMBER where missing.
        categorical: int32 [26, n], the index of the value in its column, MISSING_VALUE where missing.
    """

    numeric: Ints
    categorical: Ints


@dataclass(frozen=True)
class HiddenModel:
    """The tables of a world. Its 2·S sources are the segments at the start of the log, then those at its end.

    The E = 2·S + 1 + 2·3 effects of a field are fit_t, segment_t, main, user_r and ad_r.

    Args:
        preset: the world.
        prior: float32 [2, S], cumulative probability of the segments at both ends of the log.
        number_mean: float32 [13, 2·S], mean of z by source.
        number_missing: float32 [13, 2·S], probability that the field is missing by source.
        number_effects: float32 [26, E], effects of one unit of z, then those of being missing instead.
        draw: uint8 [26, 2·S · 4096], the cluster (or missing) for a source and a slot.
        cluster_effects: 26 arrays float32 [clusters + 1, E]; the last row is the missing value.
        value_effects: 26 arrays float32 [cardinality + 1], ``main`` effects of single values; the last is the
            missing value; empty in columns whose clusters are single values.
    """

    preset: Preset
    prior: Array32
    number_mean: Array32
    number_missing: Array32
    number_effects: Array32
    draw: NDArray[np.uint8]
    cluster_effects: tuple[Array32, ...]
    value_effects: tuple[Array32, ...]

    @property
    def kinds(self) -> int:
        """Number of kinds, 2·S: kinds 0 to S-1 do not click, kinds S to 2·S-1 do."""
        return 2 * self.preset.segments


def build_model(preset: str) -> HiddenModel:
    """Draws the tables of a world; they depend on the preset alone, so its calibration holds for all rows.

    Args:
        preset: a key of ``PRESETS``.
    """
    world = PRESETS[preset]
    rng = np.random.default_rng([_MODEL_SEED, list(PRESETS).index(preset)])
    prior = rng.normal(0, 0.35, world.segments) + rng.normal(0, 0.35, (2, world.segments))
    numeric = [_numeric_tables(rng, world, column) for column in NUMERIC]
    categorical = [_categorical_tables(rng, world, column) for column in CATEGORICAL]
    mean, missing, slope, absent = (np.stack(tables) for tables in zip(*numeric, strict=True))
    draw, clusters, values = zip(*categorical, strict=True)
    return HiddenModel(
        preset=world,
        prior=np.cumsum(_softmax(prior), axis=1).astype(np.float32),
        number_mean=mean,
        number_missing=missing,
        number_effects=np.concatenate([slope, absent]),
        draw=np.stack(draw),
        cluster_effects=clusters,
        value_effects=values,
    )


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _click_effects(rng: np.random.Generator, world: Preset, rows: int, use: str, main: float) -> Array32:
    """Effects [rows, E] of a field on clicks; fit_t is left at 0."""
    count = world.segments
    table = np.zeros((rows, 2 * count + 1 + 2 * _RANK), np.float32)
    table[:, 2 * count] = main * rng.normal(size=rows)
    if "s" in use:
        table[:, count : 2 * count] = world.segment * rng.normal(size=(rows, count))
    if "u" in use:
        table[:, -2 * _RANK : -_RANK] = np.sqrt(world.product) * rng.normal(size=(rows, _RANK))
    if "a" in use:
        table[:, -_RANK:] = np.sqrt(world.product) * rng.normal(size=(rows, _RANK))
    return table


def _numeric_tables(rng: np.random.Generator, world: Preset, column: Numeric) -> tuple[Array32, ...]:
    """Mean and missing probability by source [2·S], effects of z and of missing [E]."""
    count = world.segments
    segment_mean = 0.4 * rng.normal(size=count) * (count > 1)
    mean = segment_mean + 0.15 * rng.normal() * np.array([[-1.0], [1.0]])
    odds = column.missing / (1 - column.missing) * np.exp(0.4 * rng.normal(size=count))
    missing = odds / (1 + odds)
    slope, absent = _click_effects(rng, world, 2, column.use, 0.3)
    slope *= 0.7
    slope[:count] = segment_mean
    # The constant of a present field, folded into the effect of its absence.
    absent[:count] = np.log(np.maximum(odds, 1e-9)) + segment_mean**2 / 2 if column.missing else 0.0
    tables = (mean.ravel(), np.tile(missing, 2), slope, absent)
    return tuple(np.asarray(table, np.float32) for table in tables)


def _categorical_tables(
    rng: np.random.Generator, world: Preset, column: Categorical
) -> tuple[NDArray[np.uint8], Array32, Array32]:
    """Cluster by source and slot [2·S · 4096], effects by cluster [clusters + 1, E] and by value."""
    count, clusters, small = world.segments, column.clusters, column.cardinality <= 100
    scores = np.zeros((2, count, clusters + 1))
    popular = -np.log1p(np.arange(clusters)) if column.ranks == 1 else 0.4 * rng.normal(size=clusters)
    scores[..., :-1] = _softmax(popular)
    tilt = (0.8 if small else 0.2) * rng.normal(size=(count, clusters + 1)) * (count > 1)
    drift = 0.2 * rng.normal(size=(2, 1, clusters + 1))
    scores[..., :-1] = np.log((1 - column.missing) * scores[..., :-1])
    scores[..., -1] = np.log(column.missing) if column.missing else -np.inf
    chances = _softmax(scores + tilt + drift)
    edges = np.cumsum(chances.reshape(2 * count, -1), axis=1)
    slots = (np.arange(_SLOTS) + 0.5) / _SLOTS
    draw = np.stack([np.searchsorted(edge[:-1], slots) for edge in edges]).astype(np.uint8)
    effects = _click_effects(rng, world, clusters + 1, column.use, 0.3 if small else 0.2)
    effects[:, :count] = np.log(np.maximum(chances.mean(axis=0), 1e-9)).T
    single = np.zeros(0 if column.ranks == 1 else column.cardinality + 1, np.float32)
    single[:-1] = 0.2 * rng.normal(size=max(single.size - 1, 0))
    return draw.ravel(), effects, single


def sample_fields(model: HiddenModel, rng: np.random.Generator, time: Array32) -> Fields:
    """Draws the visible fields of n rows.

    Args:
        model: the world.
        rng: the only source of chance.
        time: float32 [n], position of each row in its log, 0 (start) to 1 (end).
    """
    n = len(time)
    late = (rng.random(n, np.float32) < time).astype(np.int32)
    chance = rng.random(n, np.float32)
    source = late * model.preset.segments
    for edge in range(model.preset.segments - 1):
        source += chance >= model.prior[late, edge]
    numeric = np.empty((len(NUMERIC), n), np.int32)
    for i, column in enumerate(NUMERIC):
        z = rng.standard_normal(n, np.float32) + model.number_mean[i][source]
        size = np.exp(np.float32(column.spread) * z + np.float32(column.center))
        numeric[i] = np.minimum(size, MAX_NUMBER).astype(np.int32) + column.low
        numeric[i][rng.random(n, np.float32) < model.number_missing[i][source]] = MISSING_NUMBER
    categorical = np.empty((len(CATEGORICAL), n), np.int32)
    source *= _SLOTS
    for i, category in enumerate(CATEGORICAL):
        cluster = model.draw[i][source + rng.integers(0, _SLOTS, n, np.uint16)].astype(np.int32)
        value = _sample_ranks(rng, category, time) * category.clusters + cluster if category.ranks > 1 else cluster
        categorical[i] = np.where(cluster == category.clusters, MISSING_VALUE, value)
    return Fields(numeric, categorical)


def _sample_ranks(rng: np.random.Generator, column: Categorical, time: Array32) -> Ints:
    """Draws ranks int32 [n] within a cluster by Zipf's law; in long columns the tail moves on with time."""
    power = np.float32(1 - column.exponent)
    reach = np.float32((column.ranks + 1) ** power - 1)
    rank = np.exp(np.log1p(rng.random(len(time), np.float32) * reach) / power).astype(np.int32) - 1
    np.minimum(rank, column.ranks - 1, out=rank)
    tail = column.ranks - _STEADY_RANKS
    if tail < 1_000:
        return rank
    moved = rank + (time * np.float32(0.05 * tail)).astype(np.int32)
    moved -= tail * (moved >= column.ranks)
    return np.where(rank < _STEADY_RANKS, rank, moved)


def kind_probabilities(model: HiddenModel, fields: Fields) -> NDArray[np.float64]:
    """Computes P(kind | fields), float64 [n, 2·S], in the order of the kinds."""
    preset, count = model.preset, model.preset.segments
    effects = _sum_effects(model, fields).astype(np.float64)
    fit, segment, main = effects[:, :count], effects[:, count : 2 * count], effects[:, 2 * count, None]
    product = np.einsum("nr,nr->n", effects[:, -2 * _RANK : -_RANK], effects[:, -_RANK:])[:, None]
    click = preset.intercept + preset.scale * (main + segment + product)
    return _softmax(np.concatenate([fit, fit + click], axis=1))


def _sum_effects(model: HiddenModel, fields: Fields) -> Array32:
    """Sums the effects of all fields to float32 [n, E]."""
    n = fields.numeric.shape[1]
    units = np.zeros((n, 2 * len(NUMERIC)), np.float32)
    for i, column in enumerate(NUMERIC):
        missing = fields.numeric[i] == MISSING_NUMBER
        size = np.where(missing, 1, fields.numeric[i] - column.low).astype(np.float32)
        z = (np.log(size + np.float32(0.5)) - np.float32(column.center)) / np.float32(column.spread)
        units[:, i] = np.where(missing, 0, np.clip(z, -2.5, 2.5))
        units[:, len(NUMERIC) + i] = missing
    total = units @ model.number_effects
    for i, category in enumerate(CATEGORICAL):
        value = fields.categorical[i]
        cluster = value if category.ranks == 1 else np.where(value < 0, value, value % category.clusters)
        total += model.cluster_effects[i].take(cluster, axis=0, mode="wrap")
        if category.ranks > 1:
            total[:, 2 * model.preset.segments] += model.value_effects[i].take(value, mode="wrap")
    return total


def sample_kinds(probabilities: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int16]:
    """Draws a kind for each row, int16 [n], from probabilities [n, 2·S]."""
    chance = rng.random(len(probabilities))[:, None]
    below = np.cumsum(probabilities, axis=1)[:, :-1] <= chance
    return below.sum(axis=1, dtype=np.int16)

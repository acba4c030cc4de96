"""Numeric columns: the transforms t of a raw value x, their training statistics and bucket edges.

===========  =============================================================================================
log          sign(x) log(1 + |x|)
linear       x
squared_log  floor((ln x)^2) if x > 2, else x truncated toward zero: what the public Criteo benchmark does
             (FuxiCTR, ``fuxictr/datasets/criteo.py``; its README describes something else)
quantile     the number of the training quantiles that are not above x
===========  =============================================================================================

A column is t standardised with the training rows' mean and standard deviation, in float64 with one final cast to
float32. Missing is NaN throughout, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.logarithms import SQUARED_LOGS, Raw, Wide, inverse_signed_log, signed_log, squared_log
from features.moments import FLOAT_UNIT, float_sums, moments, weighted_sum
from features.schema import LINEAR, LOG, QUANTILE, SQUARED_LOG

# Sums of logarithms are kept as integers, so that they do not depend on the order of the rows.
_FIXED_POINT = 2.0**32
# Quantiles are cut on a fixed grid of the signed logarithm, so that counts merge exactly. Grid lines lie at
# (k + 1/2) / 32, where the logarithm of no small integer falls.
_CELLS_PER_UNIT = 32
_REACH = 90  # |t| of the largest float32 is below 89.5
_CELLS = 2 * _REACH * _CELLS_PER_UNIT + 1
BUCKETS = 40
# Squared logarithms below it share a bucket, because numbers that are not above 2 have no bound.
_LOWEST = -1000
_LARGEST = float(np.finfo(np.float32).max)

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class NumericColumn:
    """What the training rows say about a numeric column.

    Args:
        name: of the column.
        transform: t, one of :data:`features.schema.TRANSFORMS`.
        mean: of t over the training rows that have a value.
        std: population standard deviation of t; 1 for a constant column.
        missing: number of training rows without a value.
        edges: increasing bucket edges, in units of t; a bucket takes in its lower edge.
        cuts: increasing raw values that define the transform ``quantile``: t is the number of cuts <= x.
    """

    name: str
    transform: str
    mean: float
    std: float
    missing: int
    edges: tuple[float, ...]
    cuts: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "edges": list(self.edges), "cuts": list(self.cuts)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> NumericColumn:
        """Reads what :meth:`to_json` wrote."""
        return cls(**{**value, "edges": tuple(value["edges"]), "cuts": tuple(value["cuts"])})

    def transformed(self, values: Raw) -> Wide:
        """The transform t of raw values: float32 [...] to float64 [...], NaN = missing."""
        if self.transform == LOG:
            return signed_log(values)
        if self.transform == LINEAR:
            return values.astype(np.float64)
        if self.transform == SQUARED_LOG:
            return squared_log(values)
        # Raw values are compared, not logarithms: those of two libraries differ in their last bits.
        found = np.searchsorted(np.array(self.cuts, np.float64), values, side="right")
        return np.where(np.isnan(values), np.nan, found)

    def standardised(self, values: Raw) -> Raw:
        """Standardised values of raw ones: float32 [...] to float32 [...], finite or NaN = missing."""
        wide = (self.transformed(values) - self.mean) / self.std
        return np.clip(wide, -_LARGEST, _LARGEST).astype(np.float32)

    def standardised_edges(self) -> Raw:
        """The bucket edges in the units of the standardised column: float32 [edges]."""
        return ((np.asarray(self.edges, np.float64) - self.mean) / self.std).astype(np.float32)


def standardise(values: Raw, columns: Sequence[NumericColumn]) -> Raw:
    """Standardised values of all columns.

    Args:
        values: float32 [n, columns], raw, NaN = missing.
        columns: the statistics of each column.

    Returns:
        float32 [n, columns], NaN = missing.
    """
    found = np.empty_like(values)
    for index, column in enumerate(columns):
        found[:, index] = column.standardised(values[:, index])
    return found


class NumericStatistics:
    """Mergeable sums of numeric columns, exact: the result does not depend on how the rows are divided.

    Args:
        transforms: of each column.
    """

    def __init__(self, transforms: Sequence[str]) -> None:
        self._columns = [_ColumnSums(transform) for transform in transforms]

    def update(self, column: int, values: Raw, counts: Counts) -> None:
        """Adds rows of one column.

        Args:
            column: its number.
            values: float32 [v], raw, finite or NaN = missing; they need not be distinct.
            counts: int64 [v], the rows that have each value; 0 is as if the value were not there.
        """
        self._columns[column].update(values, counts)

    def merge(self, other: NumericStatistics) -> None:
        """Adds another part's sums; it must have the same transforms."""
        for column, addend in zip(self._columns, other._columns, strict=True):
            column.merge(addend)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain JSON values, an object a column."""
        return [column.to_json() for column in self._columns]

    @classmethod
    def from_json(cls, value: list[dict[str, Any]]) -> NumericStatistics:
        """Reads what :meth:`to_json` wrote."""
        statistics = cls([])
        statistics._columns = [_ColumnSums.from_json(column) for column in value]
        return statistics

    def columns(self, names: Sequence[str]) -> tuple[NumericColumn, ...]:
        """The finished statistics of each column."""
        return tuple(column.finish(name) for column, name in zip(self._columns, names, strict=True))


class _ColumnSums:
    """Sums of t and of its square as integers in a unit of the transform's, and rows by grid cell."""

    def __init__(self, transform: str) -> None:
        self.transform = transform
        self.missing = self.total = self.squares = 0
        self.cells = np.zeros(SQUARED_LOGS - _LOWEST + 1 if transform == SQUARED_LOG else _CELLS, np.int64)

    def update(self, values: Raw, counts: Counts) -> None:
        absent = np.isnan(values)
        self.missing += int(counts[absent].sum())
        values, counts = values[~absent], counts[~absent]
        t = squared_log(values) if self.transform == SQUARED_LOG else signed_log(values)
        if self.transform == LOG:
            self.total += weighted_sum(np.rint(t * _FIXED_POINT).astype(np.int64), counts)
            self.squares += weighted_sum(np.rint(t * t * _FIXED_POINT).astype(np.int64), counts)
        elif self.transform != QUANTILE:
            total, squares = float_sums(t if self.transform == SQUARED_LOG else values, counts)
            self.total += total
            self.squares += squares
        cell = np.maximum(t, _LOWEST) - _LOWEST if self.transform == SQUARED_LOG else _grid_cell(t)
        # Sums of float64 weights are exact up to 2^53 rows.
        self.cells += np.bincount(cell.astype(np.int64), counts, len(self.cells)).astype(np.int64)

    def merge(self, other: _ColumnSums) -> None:
        self.missing += other.missing
        self.total += other.total
        self.squares += other.squares
        self.cells += other.cells

    def to_json(self) -> dict[str, Any]:
        found = np.flatnonzero(self.cells)
        cells = [found.tolist(), self.cells[found].tolist()]
        return {**vars(self), "cells": cells}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> _ColumnSums:
        sums = cls(value["transform"])
        sums.missing, sums.total, sums.squares = value["missing"], value["total"], value["squares"]
        found, counts = value["cells"]
        sums.cells[found] = counts
        return sums

    def finish(self, name: str) -> NumericColumn:
        count = int(self.cells.sum())
        if self.transform == LOG:
            mean, std = _log_moments(self.total, self.squares, count)
            return NumericColumn(name, LOG, mean, std, self.missing, tuple(_lines(_cuts(self.cells)).tolist()))
        if self.transform == QUANTILE:
            return self._quantiles(name, count)
        mean, std = moments(self.total, self.squares, count, FLOAT_UNIT)
        edges = _raw_lines(_cuts(self.cells)) if self.transform == LINEAR else _half_integers(self.cells, _LOWEST)
        return NumericColumn(name, self.transform, mean, std, self.missing, edges)

    def _quantiles(self, name: str, count: int) -> NumericColumn:
        cuts = _cuts(self.cells)
        sizes = np.diff(np.cumsum(self.cells)[cuts], prepend=0, append=count)
        bucket = np.arange(len(sizes))
        mean, std = moments(weighted_sum(bucket, sizes), weighted_sum(bucket**2, sizes), count, 0)
        return NumericColumn(name, QUANTILE, mean, std, self.missing, _half_integers(sizes, 0), _raw_lines(cuts))


def _grid_cell(logs: Wide) -> Wide:
    return np.rint(logs * _CELLS_PER_UNIT) + _REACH * _CELLS_PER_UNIT


def _cuts(cells: Counts) -> Counts:
    """Cells that hold the quantiles 1/40, 2/40, ..., each once, without the last cell that has rows."""
    total = int(cells.sum())
    if not total:
        return np.empty(0, np.int64)
    cumulative = np.cumsum(cells)
    wanted = np.arange(1, BUCKETS) * total / BUCKETS
    cuts = np.unique(np.searchsorted(cumulative, wanted, side="left"))
    return cuts[cumulative[cuts] < total]


def _lines(cuts: Counts) -> Wide:
    """The grid lines next above cells."""
    return (cuts - _REACH * _CELLS_PER_UNIT + 0.5) / _CELLS_PER_UNIT


def _raw_lines(cuts: Counts) -> tuple[float, ...]:
    return tuple(inverse_signed_log(_lines(cuts)).tolist())


def _half_integers(cells: Counts, first: int) -> tuple[float, ...]:
    """Every half-integer between the smallest and the largest integer that has rows; the cells begin at `first`."""
    found = np.flatnonzero(cells)
    return tuple((np.arange(found[0], found[-1]) + first + 0.5).tolist()) if len(found) else ()


def _log_moments(total: int, squares: int, count: int) -> tuple[float, float]:
    mean = total / _FIXED_POINT / count if count else 0.0
    variance = squares / _FIXED_POINT / count - mean * mean if count else 0.0
    # Below this the column is constant and the rest is rounding, which grows with the mean: of 2^-33 a row in the
    # sums, 2 |mean| 2^-33 is left in the variance.
    return mean, math.sqrt(variance) if variance > 1e-8 * max(1.0, abs(mean)) else 1.0

"""The numeric transforms of :mod:`features.numeric` inside a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.logarithms import squared_log_thresholds
from features.numeric import NumericColumn
from features.schema import LINEAR, LOG, QUANTILE, SQUARED_LOG, TRANSFORMS
from models.backend import tf


class NumericTransform(tf.Module):
    """Raw numerics to standardised ones, as :func:`features.numeric.standardise`.

    Equal to it for ``linear``, ``squared_log`` and ``quantile``; the logarithms of ``log`` may differ in their last
    bits. Numbers below float32's normal range count as 0: TensorFlow flushes them.

    Args:
        columns: statistics of each numeric column.
    """

    def __init__(self, columns: Sequence[NumericColumn]) -> None:
        super().__init__(name="numeric_transform")
        self._mean = tf.constant([column.mean for column in columns], tf.float64)
        self._std = tf.constant([column.std for column in columns], tf.float64)
        transforms = np.array([column.transform for column in columns])
        positions = {name: np.flatnonzero(transforms == name).tolist() for name in TRANSFORMS}
        self._positions = {name: found for name, found in positions.items() if found}
        self._order = np.argsort(sum(self._positions.values(), [])).tolist()
        if SQUARED_LOG in self._positions:
            # A variable, not a constant: 31 kB that an exported graph need not hold.
            self._thresholds = tf.Variable(squared_log_thresholds(), trainable=False)
        if QUANTILE in self._positions:
            cuts = [column.cuts for column in columns if column.transform == QUANTILE]
            width = max(1, *map(len, cuts))
            padded = [[*own, *[np.inf] * (width - len(own))] for own in cuts]
            self._cuts = tf.Variable(padded, trainable=False, dtype=tf.float64)
            self._last = tf.constant([len(own) for own in cuts], tf.int32)

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Standardises examples.

        Args:
            raw: float32 [batch, columns], NaN = missing.

        Returns:
            float32 [batch, columns], NaN = missing.
        """
        standardised = (self._transformed(raw) - self._mean) / self._std
        return tf.cast(tf.clip_by_value(standardised, tf.float32.min, tf.float32.max), tf.float32)

    def _transformed(self, raw: tf.Tensor) -> tf.Tensor:
        functions = {LOG: _signed_log, LINEAR: _linear, SQUARED_LOG: self._squared_log, QUANTILE: self._quantile}
        if len(self._positions) == 1:
            (name,) = self._positions
            return functions[name](raw)
        # Column by column in the order of the transforms, then back in the order of the schema.
        parts = [functions[name](tf.gather(raw, found, axis=1)) for name, found in self._positions.items()]
        return tf.gather(tf.concat(parts, axis=1), self._order, axis=1)

    def _squared_log(self, raw: tf.Tensor) -> tf.Tensor:
        found = tf.searchsorted(self._thresholds, tf.reshape(raw, [-1]), side="right")
        wide = tf.cast(raw, tf.float64)
        truncated = tf.sign(wide) * tf.floor(tf.abs(wide))
        return tf.where(raw > 2, tf.cast(tf.reshape(found, tf.shape(raw)), tf.float64), truncated)

    def _quantile(self, raw: tf.Tensor) -> tf.Tensor:
        wide = tf.cast(raw, tf.float64)
        found = tf.transpose(tf.searchsorted(self._cuts, tf.transpose(wide), side="right"))
        # Infinity lies behind the padding too.
        return tf.where(tf.math.is_nan(wide), wide, tf.cast(tf.minimum(found, self._last), tf.float64))


def _signed_log(raw: tf.Tensor) -> tf.Tensor:
    wide = tf.cast(raw, tf.float64)
    return tf.sign(wide) * tf.math.log1p(tf.abs(wide))


def _linear(raw: tf.Tensor) -> tf.Tensor:
    return tf.cast(raw, tf.float64)

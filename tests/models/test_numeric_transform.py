"""Numeric transforms in a TensorFlow graph against those of preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from features.logarithms import squared_log_thresholds
from features.numeric import NumericColumn, NumericStatistics, standardise
from features.schema import LINEAR, LOG, QUANTILE, SQUARED_LOG, TRANSFORMS
from models.backend import tf
from models.numeric import NumericTransform

COLUMNS = 4
LARGEST = np.finfo(np.float32).max
SPEC = tf.TensorSpec([None, COLUMNS], tf.float32, "raw")
MIXED = (QUANTILE, LOG, SQUARED_LOG, LINEAR)
SETS = [*((name,) * COLUMNS for name in TRANSFORMS), MIXED, (LINEAR, QUANTILE, QUANTILE, LOG)]


def random_table(rows: int = 3000, seed: int = 0) -> np.ndarray:
    """Counts with a heavy tail, signed floats, floats of all sizes and small integers, a tenth missing."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(0, 20, rows)) * rng.choice([-1, 1], rows)
    table = np.stack(
        [rng.pareto(0.7, rows).round(), rng.normal(-3, 40, rows), sizes, rng.integers(-2, 9, rows)], axis=1
    )
    table[rng.random(table.shape) < 0.1] = np.nan
    return table.astype(np.float32)


def fitted(transforms: Sequence[str]) -> tuple[NumericColumn, ...]:
    table = random_table()
    statistics = NumericStatistics(transforms)
    for index, values in enumerate(table.T):
        statistics.update(index, values, np.ones(len(values), np.int64))
    return statistics.columns("abcd")


def delicate(columns: Sequence[NumericColumn]) -> np.ndarray:
    """Each threshold and cut with its neighbours, bounds and missing values: the same in all columns."""
    cuts = [cut for column in columns for cut in column.cuts]
    limits = np.concatenate([squared_log_thresholds(), np.array(cuts, np.float32), np.array([2, 1e9], np.float32)])
    beside = [np.nextafter(limits, np.float32(-np.inf)), limits, np.nextafter(limits, np.float32(np.inf))]
    bounds = np.array([0, -0.0, -0.5, -7.9, np.nan, LARGEST, -LARGEST, np.inf, -np.inf], np.float32)
    return np.repeat(np.concatenate([*beside, bounds])[:, np.newaxis], COLUMNS, axis=1)


def eager(module: NumericTransform, path: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    return module


def graph(module: NumericTransform, path: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.function(module.__call__, input_signature=[SPEC])


def exported(module: NumericTransform, path: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    tf.saved_model.save(module, str(path), signatures=tf.function(module.__call__, input_signature=[SPEC]))
    loaded = tf.saved_model.load(str(path))

    def call(raw: tf.Tensor) -> tf.Tensor:
        (found,) = loaded.signatures["serving_default"](raw=raw).values()
        return found

    return call


def ordinals(values: np.ndarray) -> np.ndarray:
    """Numbers of float32 values on their line, so that neighbours differ by one."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - bits, bits)


@pytest.mark.parametrize("make", [eager, graph, exported])
@pytest.mark.parametrize("transforms", SETS, ids="-".join)
def test_the_same_numbers_as_in_preprocessing(transforms: Sequence[str], make: Callable, tmp_path: Path) -> None:
    columns = fitted(transforms)
    call = make(NumericTransform(columns), tmp_path)
    raw = np.concatenate([random_table(seed=1), delicate(columns)])
    found, expected = call(tf.constant(raw)).numpy(), standardise(raw, columns)
    assert found.dtype == np.float32 and found.shape == raw.shape
    np.testing.assert_array_equal(np.isnan(found), np.isnan(raw))
    for index, transform in enumerate(transforms):
        if transform != LOG:
            np.testing.assert_array_equal(found[:, index], expected[:, index])
            continue
        steps = np.abs(ordinals(found[:, index]) - ordinals(expected[:, index]))
        # Beside the mean a difference in the last bit of the logarithm is many steps of the small rest.
        near = np.abs(found[:, index] - expected[:, index]) < 1e-13
        assert (near | np.isnan(raw[:, index]) | (steps <= 1)).all()


@pytest.mark.parametrize("make", [eager, graph, exported])
@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_no_and_of_one_example(rows: int, make: Callable, tmp_path: Path) -> None:
    columns = fitted(MIXED)
    found = make(NumericTransform(columns), tmp_path)(tf.ones([rows, COLUMNS]))
    np.testing.assert_array_equal(found, standardise(np.ones((rows, COLUMNS), np.float32), columns))


def test_by_hand() -> None:
    columns = [
        NumericColumn("a", SQUARED_LOG, 5.0, 2.0, 0, ()),
        NumericColumn("b", QUANTILE, 0.0, 1.0, 0, (0.5, 1.5), (0.5, 100.0)),
        NumericColumn("c", LINEAR, -1.0, 4.0, 0, ()),
        NumericColumn("d", LOG, 0.0, 0.5, 0, ()),
        NumericColumn("e", QUANTILE, 0.0, 1.0, 0, (), ()),
        NumericColumn("f", SQUARED_LOG, 0.0, 1.0, 0, ()),
    ]
    raw = [[100, 0.25, 7, 0, 5, -1.5], [10, 0.5, np.nan, -1, np.nan, 2], [np.nan, np.inf, -1, np.nan, np.inf, 3]]
    found = NumericTransform(columns)(tf.constant(raw)).numpy()
    log_2 = 0.6931471805599453
    expected = [[8, 0, 2, 0, 0, -1], [0, 1, np.nan, -2 * log_2, np.nan, 2], [np.nan, 2, 0, np.nan, 0, 1]]
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-7)


def test_numbers_below_the_normal_range_count_as_zero() -> None:
    column = NumericColumn("x", LINEAR, 0.0, 1e-39, 0, ())
    assert NumericTransform([column])(tf.constant([[1e-40], [-1e-40]])).numpy().tolist() == [[0], [0]]


def test_logarithms_alone_need_no_more_than_their_formula() -> None:
    concrete = tf.function(NumericTransform(fitted((LOG,) * COLUMNS)).__call__).get_concrete_function(SPEC)
    operations = {operation.type for operation in concrete.graph.get_operations()}
    assert {"Log1p", "Cast"} <= operations
    assert not operations & {"GatherV2", "ConcatV2", "UpperBound"}

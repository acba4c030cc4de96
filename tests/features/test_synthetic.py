import numpy as np
import pytest

from features.synthetic import (
    MAX_NUMBER,
    MISSING_NUMBER,
    MISSING_VALUE,
    Fields,
    build_model,
    kind_probabilities,
    sample_fields,
    sample_kinds,
)
from features.synthetic_spec import CATEGORICAL, NUMERIC, PRESETS, value_codes


def _time(rows):
    return np.linspace(0, 1, rows, dtype=np.float32)


def _fields(preset, rows=20_000, seed=3):
    model = build_model(preset)
    return model, sample_fields(model, np.random.default_rng(seed), _time(rows))


@pytest.fixture(scope="module")
def kinds():
    model, fields = _fields("kinds", 60_000)
    return model, fields, kind_probabilities(model, fields)


def test_there_are_criteos_columns():
    assert len(NUMERIC) == 13
    assert len(CATEGORICAL) == 26
    sizes = [column.cardinality for column in CATEGORICAL]
    assert min(sizes) == 3
    assert max(sizes) > 100_000
    assert all(column.cardinality == column.clusters * column.ranks for column in CATEGORICAL)


def test_model_is_a_constant_of_the_preset():
    first, second, other = build_model("kinds"), build_model("kinds"), build_model("no-kinds")
    for one, two in zip(first.cluster_effects, second.cluster_effects, strict=True):
        np.testing.assert_array_equal(one, two)
    assert first.kinds == 10
    assert other.kinds == build_model("linear").kinds == 2


def test_probabilities_are_a_distribution_and_a_function_of_the_fields(kinds):
    model, fields, probabilities = kinds
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    some = np.array([5, 17, 17, 40_000])
    again = kind_probabilities(model, Fields(fields.numeric[:, some], fields.categorical[:, some]))
    np.testing.assert_allclose(again, probabilities[some], rtol=1e-5)


def test_kinds_are_drawn_from_their_probabilities(kinds):
    _, _, probabilities = kinds
    drawn = sample_kinds(probabilities, np.random.default_rng(0))
    assert drawn.dtype == np.int16
    for kind in range(probabilities.shape[1]):
        expected = probabilities[:, kind]
        z = ((drawn == kind).sum() - expected.sum()) / np.sqrt((expected * (1 - expected)).sum())
        assert abs(z) < 4


def test_kinds_within_a_class_are_well_determined_by_the_fields(kinds):
    model, _, probabilities = kinds
    count = model.preset.segments
    for part in (probabilities[:, :count], probabilities[:, count:]):
        within = part / part.sum(axis=1, keepdims=True)
        share = np.average(within, axis=0, weights=part.sum(axis=1))
        assert share.min() > 0.05
        assert within.max(axis=1).mean() > 0.75


def test_values_stay_in_range_and_the_long_tails_are_long(kinds):
    _, fields, _ = kinds
    for column, values in zip(CATEGORICAL, fields.categorical, strict=True):
        assert values.max() < column.cardinality
        assert values.min() == (MISSING_VALUE if column.missing else 0)
    distinct = [len(np.unique(values)) for values in fields.categorical]
    assert min(distinct) == 3
    assert max(distinct) > 40_000


def test_numerics_have_negatives_heavy_tails_and_missing_values(kinds):
    _, fields, _ = kinds
    for column, numbers in zip(NUMERIC, fields.numeric, strict=True):
        missing = numbers == MISSING_NUMBER
        assert abs(missing.mean() - column.missing) < 0.1
        assert numbers[~missing].min() == column.low
    assert set(np.unique(fields.numeric[1][fields.numeric[1] < 0])) == {-3, -2, -1}
    assert fields.numeric.max() > 1_000_000


def test_the_heaviest_tail_keeps_to_eight_digits():
    class Extreme(np.random.Generator):
        def standard_normal(self, size, dtype):
            return np.full(size, 9, dtype)

    model = build_model("linear")
    numbers = sample_fields(model, Extreme(np.random.PCG64(0)), _time(1_000)).numeric
    assert numbers.max() == MAX_NUMBER < 10**8


def test_missing_numbers_say_something_about_the_click(kinds):
    model, fields, probabilities = kinds
    click = probabilities[:, model.preset.segments :].sum(axis=1)
    missing = fields.numeric == MISSING_NUMBER
    gaps = [abs(click[row].mean() - click[~row].mean()) for row in missing if 0.1 < row.mean() < 0.9]
    assert max(gaps) > 0.02


def test_fields_drift_with_time():
    model = build_model("kinds")
    start, end = (
        sample_fields(model, np.random.default_rng(1), np.full(20_000, time, np.float32)) for time in (0.0, 1.0)
    )
    column = [column.cardinality for column in CATEGORICAL].index(26)
    before, after = (np.bincount(part.categorical[column], minlength=26) / 20_000 for part in (start, end))
    assert 0.03 < np.abs(before - after).sum() < 0.6


def _logit(model, fields):
    click = kind_probabilities(model, fields)[:, 1]
    return np.log(click) - np.log1p(-click)


@pytest.mark.parametrize(("preset", "additive"), [("linear", True), ("no-kinds", False)])
def test_only_the_linear_preset_is_additive(preset, additive):
    model, fields = _fields(preset, 4_000)
    one = Fields(fields.numeric[:, :2_000], fields.categorical[:, :2_000])
    two = Fields(fields.numeric[:, 2_000:], fields.categorical[:, 2_000:])
    swapped = np.arange(26)[:, None] % 2 == 0
    left = Fields(one.numeric, np.where(swapped, one.categorical, two.categorical))
    right = Fields(two.numeric, np.where(swapped, two.categorical, one.categorical))
    # Swapping fields between two rows keeps the sum of their logits if and only if the logit is additive.
    gap = _logit(model, one) + _logit(model, two) - _logit(model, left) - _logit(model, right)
    assert bool(np.abs(gap).max() < 1e-4) == additive
    assert additive or np.abs(gap).mean() > 0.1


@pytest.mark.parametrize("preset", PRESETS)
def test_click_rate_does_not_depend_on_the_seed(preset):
    for seed in (1, 2):
        model, fields = _fields(preset, 40_000, seed)
        click = kind_probabilities(model, fields)[:, model.preset.segments :].sum(axis=1)
        assert abs(click.mean() - 0.25) < 0.01


def test_codes_of_a_column_are_distinct_and_those_of_columns_differ():
    codes = value_codes(2, np.arange(CATEGORICAL[2].cardinality, dtype=np.int32))
    assert len(np.unique(codes)) == CATEGORICAL[2].cardinality
    assert not np.intersect1d(value_codes(0, range(100)), value_codes(1, range(100))).size
    # MurmurHash3's fmix32(1), from the reference implementation.
    assert value_codes(0, [1])[0] == 0x514E28B7

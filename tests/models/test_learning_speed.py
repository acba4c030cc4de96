from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, interpolate

from features.errors import DataError
from models.learning_speed import area_between, rows_to_target, speed_table


def curve(*points: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(points, columns=["rows_seen", "valid_logloss"])


FALLING = curve((100, 0.6), (200, 0.5), (300, 0.46), (400, 0.48), (500, 0.40))


@pytest.mark.parametrize(
    ("target", "rows"),
    [
        (0.5, 200),
        (0.55, 150),
        (0.47, 275),
        (0.46, 300),  # the rise after it does not count
        (0.44, 450),
        (0.40, 500),
        (0.39, math.nan),
        (0.7, 100),  # better than that when first looked at
        (math.inf, 100),
        (math.nan, math.nan),
    ],
)
def test_rows_to_target(target: float, rows: float) -> None:
    assert rows_to_target(FALLING, target) == pytest.approx(rows, nan_ok=True)


def test_evaluations_without_a_number_are_left_out() -> None:
    assert rows_to_target(curve((100, 0.6), (200, math.nan), (300, 0.4)), 0.5) == pytest.approx(200)
    assert math.isnan(rows_to_target(curve((100, math.nan)), 0.5))
    assert math.isnan(rows_to_target(curve(), 0.5))


@pytest.mark.parametrize(
    ("a", "b", "area"),
    [
        (curve((0, 1), (10, 0)), curve((0, 0), (10, 0)), 0.5),
        (curve((0, 0.4), (10, 0.4)), curve((0, 0.5), (5, 0.5), (10, 0.5)), -0.1),
        # They cross at 5: the halves cancel.
        (curve((0, 1), (10, 0)), curve((0, 0), (10, 1)), 0.0),
        # Both cover 10 to 20 only, with 0 against a triangle of height 1 over 5.
        (curve((0, 0), (20, 0)), curve((10, 0), (15, 1), (20, 0), (40, 9)), -0.5),
        # One number of rows is covered by both, and none.
        (curve((0, 3), (10, 1)), curve((10, 0.25), (20, 0)), 0.75),
        (curve((0, 3)), curve((0, 1)), 2.0),
        (curve((0, 3), (10, 1)), curve((11, 0), (20, 0)), math.nan),
        (curve((0, 3)), curve(), math.nan),
    ],
)
def test_area_between(a: pd.DataFrame, b: pd.DataFrame, area: float) -> None:
    assert area_between(a, b) == pytest.approx(area, nan_ok=True)
    assert area_between(b, a) == pytest.approx(-area, nan_ok=True)


def test_area_agrees_with_an_integral() -> None:
    rng = np.random.default_rng(0)
    a, b = (curve(*zip(np.cumsum(rng.integers(1, 9, 12)), rng.random(12), strict=True)) for _ in range(2))
    f, g = (interpolate.interp1d(*of.to_numpy().T) for of in (a, b))
    start, end = max(a.iloc[0, 0], b.iloc[0, 0]), min(a.iloc[-1, 0], b.iloc[-1, 0])
    x = np.linspace(start, end, 200_001)
    assert area_between(a, b) == pytest.approx(integrate.trapezoid(f(x) - g(x), x) / (end - start), abs=1e-6)


def test_table_compares_each_seed_with_the_baseline_of_that_seed() -> None:
    fast = curve((100, 0.45), (200, 0.41), (300, 0.38), (400, 0.38), (500, 0.38))
    table = speed_table({"hard": [FALLING, FALLING.iloc[:3]], "kd": [fast, fast], "late": [FALLING + 0.1] * 2}, "hard")
    assert list(table.columns) == ["method", "seed", "rows_to_target", "ratio", "area"]
    assert table["method"].tolist() == ["hard", "hard", "kd", "kd", "late", "late"]
    assert table["seed"].tolist() == [0, 1] * 3
    # Targets are 0.40, which the baseline has at 500, and 0.46, which it has at 300.
    expected = [500, 300, 200 + 100 / 3, 100, math.nan, math.nan]
    assert table["rows_to_target"].tolist() == pytest.approx(expected, nan_ok=True)
    ratios = [1, 1, (200 + 100 / 3) / 500, 1 / 3, math.nan, math.nan]
    assert table["ratio"].tolist() == pytest.approx(ratios, nan_ok=True)
    assert table["area"].tolist()[:2] == [0, 0]
    assert (table["area"][2:4] < 0).all() and (table["area"][4:] > 0).all()


def test_a_baseline_that_was_never_evaluated_has_no_target() -> None:
    table = speed_table({"hard": [curve()], "kd": [FALLING]}, "hard")
    assert table["ratio"].isna().all() and table["area"].isna().all()


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ({"kd": [FALLING]}, "baseline"),
        ({"hard": [FALLING], "kd": [FALLING] * 2}, r"Received: 2 and 1 \(kd\)"),
    ],
)
def test_every_seed_needs_its_baseline(histories: dict[str, list[pd.DataFrame]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        speed_table(histories, "hard")

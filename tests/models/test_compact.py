"""The trunk that is served: the trained one's logits, and what rounding its rows does to them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from exports import fit_features, random_student, shop_log
from shop import SHOP

from models.backend import tf
from models.compact import CompactTrunk, quantised
from models.heads import ReusedHead
from models.student import StudentSettings, StudentTrunk, mean_click_logit
from models.tables import TableLayout
from models.trunk_weights import TrunkWeights
from pipeline.config import narrow
from pipeline.settings import SERVED, StudentConfig

FEATURES, COUNTS = fit_features(shop_log(400), SHOP)
LAYOUT = FEATURES.layout()
ROUNDED = {"float16": 1.0, "int8": 127.0}
BYTES = {"float32": 4, "float16": 2, "int8": 1}
KINDS: dict[str, dict[str, Any]] = {
    "subclasses": {"subclasses": 3},
    "two logits": {"subclasses": 1},
    "several sizes": {"subclasses": 2, "embedding_sizes": "vocabulary", "embedding_dim": 4},
    "no hidden layer": {"subclasses": 2, "hidden": 0},
    "no hidden layer, several sizes": {"subclasses": 1, "hidden": 0, "embedding_sizes": "vocabulary"},
    "statistics": {"subclasses": 2, "statistics": True},
}


def make_trunk(kind: str) -> StudentTrunk:
    settings = {"statistics": False, **KINDS[kind]}
    return random_student(FEATURES, COUNTS, **settings).trunk


def inputs(layout: TableLayout = LAYOUT, rows: int = 200, statistics: bool = False) -> list[tf.Tensor]:
    """Arguments of a trunk, some numerics missing."""
    rng = np.random.default_rng(1)
    bounds = np.append(layout.starts, layout.rows)
    looked_up = rng.integers(bounds[:-1], bounds[1:], (rows, layout.columns)).astype(np.int32)
    dense = rng.normal(size=(rows, len(layout.edges))).astype(np.float32)
    dense[rng.random(dense.shape) < 0.2] = np.nan
    more = rng.normal(size=(rows, 2 * len(layout.kept))).astype(np.float32) if statistics else None
    return [looked_up, dense, more]


def columns_of(layout: TableLayout) -> list[tuple[int, int]]:
    bounds = [*layout.starts.tolist(), layout.rows]
    return list(zip(bounds, bounds[1:], strict=False))


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_the_trunk(kind: str) -> None:
    trunk, arguments = make_trunk(kind), inputs(statistics=kind == "statistics")
    compact = CompactTrunk(TrunkWeights.of(trunk, LAYOUT), "float32")
    found = compact(*arguments)
    assert found.dtype == tf.float32 and found.shape == (200, 2 * KINDS[kind]["subclasses"])
    np.testing.assert_allclose(found, trunk(*arguments), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(
        mean_click_logit([compact], *arguments), mean_click_logit([trunk], *arguments), rtol=1e-5, atol=2e-6
    )


@pytest.mark.parametrize("served", ROUNDED)
@pytest.mark.parametrize("kind", KINDS)
def test_rounded_rows_are_those_of_numpy(kind: str, served: str) -> None:
    """The trained trunk gives the same logits when its own rows have been rounded, column by column."""
    trunk, arguments = make_trunk(kind), inputs(statistics=kind == "statistics")
    compact, exact = CompactTrunk(TrunkWeights.of(trunk, LAYOUT), served), trunk(*arguments).numpy()
    for start, stop in columns_of(LAYOUT):
        rows = trunk.embeddings.read_rows(start, stop).astype(np.float64)
        scale = np.abs(rows).max(axis=0) / ROUNDED[served]
        stored = np.round(rows / scale) if served == "int8" else (rows / scale).astype(np.float16).astype(np.float64)
        assert np.abs(stored * scale - rows).max() <= scale.max() * (0.5 if served == "int8" else 2**-11)
        trunk.embeddings.assign_rows(start, (stored * scale).astype(np.float32))
    found = compact(*arguments).numpy()
    np.testing.assert_allclose(found, trunk(*arguments), rtol=1e-4, atol=1e-5)
    assert 1e-5 < np.abs(found - exact).max() < (0.05 if served == "int8" else 0.005)


def test_a_reused_head_is_one_layer() -> None:
    rng = np.random.default_rng(2)
    head = rng.normal(size=(5, 6)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    settings = dataclasses.replace(narrow(StudentConfig(), StudentSettings), hidden=7, embedding_dim=3)
    trunk, arguments = StudentTrunk(LAYOUT, 0.25, 3, settings, head), inputs()
    trunk(*arguments)
    for variable in trunk.variables:
        variable.assign(variable + rng.normal(0, 0.1, variable.shape))
    weights = TrunkWeights.of(trunk, LAYOUT)
    assert isinstance(trunk.head, ReusedHead) and weights.head[0].shape == (7, 6)
    np.testing.assert_allclose(CompactTrunk(weights, "float32")(*arguments), trunk(*arguments), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("served", SERVED)
@pytest.mark.parametrize("kind", ["subclasses", "several sizes"])
def test_bytes_of_rows(kind: str, served: str) -> None:
    trunk = make_trunk(kind)
    compact = CompactTrunk(TrunkWeights.of(trunk, LAYOUT), served)
    floats = sum(trunk.embeddings.read_rows(*bounds).size for bounds in columns_of(LAYOUT))
    assert compact.row_bytes == floats * BYTES[served]
    tables = [variable for variable in compact.variables if variable.dtype == served and "rows" in variable.name]
    assert sum(int(np.prod(table.shape)) for table in tables) == floats
    assert not any(variable.trainable for variable in compact.variables)


def test_an_empty_batch() -> None:
    compact = CompactTrunk(TrunkWeights.of(make_trunk("several sizes"), LAYOUT), "int8")
    assert compact(*inputs(rows=0)).shape == (0, 4)


TINY = float(np.finfo(np.float32).tiny)


@pytest.mark.parametrize(
    ("served", "rows", "numbers", "scales"),
    [
        ("int8", [[1.27, 0, -2.54], [0.635, 0, 0.6]], [[127, 0, -127], [64, 0, 30]], [0.01, 1, 0.02]),
        ("int8", [[3e38], [1.0], [-3e38]], [[127], [0], [-127]], [3e38 / 127]),
        ("int8", [[TINY], [0.0]], [[0], [0]], [1]),
        ("float16", [[1e6, 0], [-2.5e5, 0]], [[1, 0], [-0.25, 0]], [1e6, 1]),
        ("float32", [[1e6, 0], [1 / 3, 0]], [[1e6, 0], [1 / 3, 0]], [1, 1]),
    ],
)
def test_scales(served: str, rows: list[list[float]], numbers: list[list[float]], scales: list[float]) -> None:
    found, by = quantised(np.array(rows, np.float32), served)
    assert (found.dtype, by.dtype) == (served, np.float32)
    np.testing.assert_array_equal(found, np.array(numbers, np.float32).astype(served))
    np.testing.assert_allclose(by, scales, rtol=1e-6)


def test_a_huge_value_costs_its_own_column_and_float_alone() -> None:
    """Beside it the other rows round to 0 there, and nowhere else."""
    arguments = inputs()
    arguments[0][:, 0] = 0
    weights, others = (TrunkWeights.of(make_trunk("subclasses"), LAYOUT) for _ in range(2))
    weights.columns[0][2, 0] = 1e6
    others.columns[0][:, 0] = 0
    found, expected = (CompactTrunk(each, "int8")(*arguments) for each in (weights, others))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

"""Sums that compare two models: slices by hand, intervals by an own bootstrap, rank correlation by SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import spearmanr

from models.estimates import draw_groups
from models.metrics import GROUPS
from pipeline.check_sums import CELLS, Churn, SliceSums, logit_cells
from pipeline.scored_rows import ScoredRows


def rows_of(labels: list[int], groups: list[int], weights: list[float] | None = None) -> ScoredRows:
    weight = None if weights is None else np.array(weights)
    return ScoredRows(np.array(labels, np.uint8), np.array(groups), weight, None, None)


def test_slices_by_hand() -> None:
    sums = SliceSums.empty(3, 2)
    rows = rows_of([1, 0, 1], [0, 1, 1], [2.0, 1.0, 1.0])
    sums.update(np.array([0, 0, 2]), rows, [logit([0.5, 0.25, 0.5]), logit([0.2, 0.2, 0.8])])
    table = sums.table("what", ["a", "b", "c"], ["new", "current"])
    assert table["slice"].tolist() == ["a", "c"] and set(table["by"]) == {"what"}
    assert table["rows"].tolist() == [2, 1] and table["clicks"].tolist() == [2.0, 1.0]
    np.testing.assert_allclose(table["click_rate"], [2 / 3, 1])
    np.testing.assert_allclose(table["pcoc_new"], [1.25 / 2, 0.5])
    np.testing.assert_allclose(table["pcoc_current"], [0.6 / 2, 0.8])
    np.testing.assert_allclose(table["logloss_new"], [(2 * math.log(2) - math.log(0.75)) / 3, math.log(2)])
    np.testing.assert_allclose(table["logloss_current"], [(-2 * math.log(0.2) - math.log(0.8)) / 3, -math.log(0.8)])


def test_merged_cells_are_those_of_their_rows() -> None:
    rng = np.random.default_rng(0)
    cells, z = rng.integers(6, size=300), rng.normal(size=300)
    rows = rows_of(rng.integers(2, size=300).tolist(), rng.integers(GROUPS, size=300).tolist())
    slices = np.array([1, 0, 0, 1, 1, 0])
    fine, whole = SliceSums.empty(6, 1), SliceSums.empty(2, 1)
    fine.update(cells, rows, [z])
    whole.update(slices[cells], rows, [z])
    merged = fine.merged(slices, 2)
    np.testing.assert_allclose(merged.sums, whole.sums, atol=1e-12)
    assert merged.rows.tolist() == whole.rows.tolist()


def test_intervals_resample_groups() -> None:
    rng = np.random.default_rng(1)
    z, group = rng.normal(size=3000), rng.integers(GROUPS, size=3000)
    labels = (rng.random(3000) < expit(z)).astype(int)
    sums = SliceSums.empty(1, 1)
    sums.update(np.zeros(3000, np.int64), rows_of(labels.tolist(), group.tolist()), [z])
    replicates = []
    for draw in draw_groups(GROUPS, 1000, 0):
        count = draw[group]
        replicates.append((count * expit(z)).sum() / (count * labels).sum())
    row = sums.table("all", ["all"], ["new"]).iloc[0]
    assert [row["low_new"], row["high_new"]] == pytest.approx(np.quantile(replicates, [0.025, 0.975]), rel=1e-9)
    assert row["low_new"] < row["pcoc_new"] < row["high_new"]


def test_a_slice_without_clicks_has_no_pcoc() -> None:
    sums = SliceSums.empty(1, 1)
    sums.update(np.array([0]), rows_of([0], [5]), [np.zeros(1)])
    row = sums.table("all", ["all"], ["new"]).iloc[0]
    assert all(math.isnan(row[name]) for name in ("pcoc_new", "low_new", "high_new")) and row["clicks"] == 0


def test_cells_of_logits() -> None:
    assert logit_cells(np.array([-50.0, -10.0, 0.0, 9.999, 10.0, 80.0])).tolist() == [
        0, 0, CELLS // 2, CELLS - 1, CELLS - 1, CELLS - 1
    ]  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
def test_churn(weighted: bool) -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=5000)
    other = z + rng.normal(scale=0.4, size=5000)
    weights = rng.integers(1, 4, size=5000).astype(np.float64) if weighted else None
    churn = Churn.empty()
    for part in (slice(0, 2000), slice(2000, 5000)):
        churn.update(z[part], other[part], None if weights is None else weights[part])
    # A row that weighs 3 stands for three rows.
    times = np.ones(5000, int) if weights is None else weights.astype(int)
    p, q = np.repeat(expit(z), times), np.repeat(expit(other), times)
    found = churn.compute()
    assert found["mean_change"] == pytest.approx(np.abs(p - q).mean(), rel=1e-12)
    assert found["moved"] == pytest.approx(np.mean((p / q > 1.5) | (q / p > 1.5)), rel=1e-12)
    in_cells = spearmanr(np.repeat(logit_cells(z), times), np.repeat(logit_cells(other), times)).statistic
    assert found["rank_correlation"] == pytest.approx(in_cells, rel=1e-9)
    assert found["rank_correlation"] == pytest.approx(spearmanr(p, q).statistic, abs=1e-4)


def test_a_model_beside_itself() -> None:
    churn, z = Churn.empty(), np.linspace(-3, 3, 100)
    churn.update(z, z, None)
    assert churn.compute() == {"mean_change": 0.0, "moved": 0.0, "rank_correlation": pytest.approx(1.0)}


def test_constant_logits_have_no_ranks() -> None:
    churn = Churn.empty()
    churn.update(np.zeros(3), np.array([0.0, 1.0, 2.0]), None)
    assert math.isnan(churn.compute()["rank_correlation"])

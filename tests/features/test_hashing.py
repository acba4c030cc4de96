"""Folds, groups and row order: stable for ever, uniform, and dependent on nothing but their arguments."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from features.hashing import FOLDS, folds, groups, groups_of, mix, row_order, salt

OFFSETS = np.array([0, 1, 100, 4096, 2**31, 2**32 + 1, 2**40, 2**62], np.int64)
# Offsets as they come: the starts of 50,000 lines.
LINES = np.cumsum(np.random.default_rng(3).integers(150, 300, 50_000)).astype(np.int64)
DISTINCT = st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=50).map(lambda x: np.array(x, np.int64))


def test_mix_is_splitmix64() -> None:
    # The published first outputs of SplitMix64 for the seed 1234567: its state after n steps is seed + n * gamma.
    assert mix(np.arange(1, 6), np.uint64(1234567)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@settings(deadline=None)
@given(DISTINCT, st.integers(0, 2**64 - 1))
def test_mix_of_distinct_values_is_distinct(values: np.ndarray, start: int) -> None:
    assert len(set(mix(values, np.uint64(start)).tolist())) == len(values)


def test_golden_values() -> None:
    """Change these and every stored fold, and every run directory, is worthless."""
    assert int(salt(0, "fold", "day_0.tsv")) == 15632252385149433968
    assert int(salt(7, "order", "logs/é.tsv.gz")) == 7888454798104743372
    assert folds(OFFSETS, "day_0.tsv", 0).tolist() == [8, 8, 9, 8, 9, 3, 7, 1]
    assert folds(OFFSETS, "day_0.tsv", 1).tolist() == [6, 6, 7, 0, 3, 0, 4, 5]
    assert folds(OFFSETS, "train.txt", 0).tolist() == [8, 1, 5, 8, 3, 8, 0, 4]
    assert groups(OFFSETS, "day_0.tsv", 200).tolist() == [64, 105, 92, 7, 124, 192, 145, 128]
    assert row_order(OFFSETS, "day_0.tsv", 0).tolist() == [5, 4, 1, 7, 3, 6, 2, 0]
    assert row_order(OFFSETS, "day_0.tsv", 1).tolist() == [4, 5, 6, 3, 2, 7, 0, 1]


def test_dtypes_and_empty_input() -> None:
    none = np.zeros(0, np.int64)
    assert folds(OFFSETS, "a", 0).dtype == np.uint8 and folds(none, "a", 0).shape == (0,)
    assert groups(OFFSETS, "a", 7).dtype == np.int64 and groups(none, "a", 7).shape == (0,)
    assert row_order(OFFSETS, "a", 0).dtype == np.int64 and row_order(none, "a", 0).shape == (0,)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**70])
def test_folds_are_uniform(seed: int) -> None:
    count = np.bincount(folds(LINES, "day_0.tsv", seed), minlength=FOLDS)
    assert len(count) == FOLDS == 10
    assert chisquare(count).pvalue > 1e-4


def test_groups_are_uniform_and_independent_of_folds() -> None:
    group = groups(LINES, "day_0.tsv", 20)
    cells = np.bincount(group * FOLDS + folds(LINES, "day_0.tsv", 0), minlength=200)
    assert len(cells) == 200 and chisquare(cells).pvalue > 1e-4


def test_rows_of_a_group_share_a_bootstrap_group() -> None:
    hashes = np.array([5, -(2**63), 2**63 - 1, 0, -1, 5], np.int64)
    found = groups_of(np.tile(hashes, 3), 200)
    assert found.dtype == np.int64 and found.reshape(3, 6).tolist() == [found[:6].tolist()] * 3
    assert found[0] == found[5] and len(set(found[:5].tolist())) == 5
    # Whatever the hash: numbers in a row are as good as random ones.
    count = np.bincount(groups_of(np.arange(50_000), 200), minlength=200)
    assert len(count) == 200 and chisquare(count).pvalue > 1e-4
    assert groups_of(np.zeros(0, np.int64), 7).shape == (0,)


@pytest.mark.parametrize(
    "source", ["/data/day_0.tsv", "other/folder/day_0.tsv", "gs://bucket/a/day_0.tsv", "./day_0.tsv"]
)
def test_the_folder_does_not_matter(source: str) -> None:
    assert folds(LINES, source, 5).tolist() == folds(LINES, "day_0.tsv", 5).tolist()
    assert groups(LINES, source, 9).tolist() == groups(LINES, "day_0.tsv", 9).tolist()
    assert row_order(LINES, source, 5).tolist() == row_order(LINES, "day_0.tsv", 5).tolist()


@pytest.mark.parametrize(("source", "seed"), [("day_0.tsv", 1), ("day_1.tsv", 0), ("day_0.tsv.gz", 0)])
def test_seed_and_file_name_matter(source: str, seed: int) -> None:
    same = np.mean(folds(LINES, source, seed) == folds(LINES, "day_0.tsv", 0))
    assert same == pytest.approx(1 / FOLDS, abs=0.01)
    assert np.mean(row_order(LINES, source, seed) == row_order(LINES, "day_0.tsv", 0)) < 0.01


def test_a_row_keeps_its_fold_in_any_company() -> None:
    whole = folds(LINES, "a", 0)
    assert folds(LINES[1000:1010], "a", 0).tolist() == whole[1000:1010].tolist()
    assert folds(LINES[::-1], "a", 0).tolist() == whole[::-1].tolist()


def test_file_names_may_be_any_bytes() -> None:
    name = b"day_\xff.tsv".decode("utf-8", "surrogateescape")
    assert folds(OFFSETS, name, 0).tolist() != folds(OFFSETS, "day_.tsv", 0).tolist()


@settings(deadline=None)
@given(DISTINCT, st.integers(0, 100), st.randoms())
def test_row_order_is_a_permutation_that_depends_on_ids_only(offsets: np.ndarray, seed: int, random: Random) -> None:
    order = row_order(offsets, "a", seed)
    assert sorted(order.tolist()) == list(range(len(offsets)))
    shuffled = offsets.copy()
    random.shuffle(shuffled)
    assert shuffled[row_order(shuffled, "a", seed)].tolist() == offsets[order].tolist()


def test_row_order_leaves_no_trace_of_the_file() -> None:
    order = row_order(LINES, "a", 0)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.02
    # Nor of the folds: the first tenth holds each fold as often as the rest does.
    assert chisquare(np.bincount(folds(LINES, "a", 0)[order[:5000]], minlength=FOLDS)).pvalue > 1e-4

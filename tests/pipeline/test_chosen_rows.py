"""Chosen rows: whose hash decides, and blocks that are as full as those of any run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from features.blocks import Block
from features.targets import TargetBlock
from pipeline.chosen_rows import ChosenRows, is_chosen

OFFSETS = np.arange(20_000, dtype=np.int64) * 137
TRAIN = {"path": "train/a", "split": "train", "source": "/logs/day_0.tsv"}
WORD = 2**64


def place(offset: int, source: str, seed: int) -> float:
    """The hash of a row in [0, 1), a row at a time and in Python's integers."""
    digest = hashlib.blake2b(f"{seed}\0subset\0{source.split('/')[-1]}".encode(), digest_size=8).digest()
    z = (offset * 0x9E3779B97F4A7C15 + int.from_bytes(digest, "little")) % WORD
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB % WORD
    return (z ^ z >> 31) / WORD


@pytest.mark.parametrize("share", [0.03, 0.5])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_hash_of_a_row_decides(share: float, seed: int) -> None:
    chosen = is_chosen(OFFSETS, TRAIN["source"], share, seed)
    expected = [place(offset, TRAIN["source"], seed) < share for offset in OFFSETS[:2000].tolist()]
    assert chosen[:2000].tolist() == expected
    # Four deviations of a binomial number.
    assert abs(chosen.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(OFFSETS))


def test_shares_are_nested() -> None:
    shares = [0.0, 0.03, 0.1, 0.3, 1.0]
    chosen = [is_chosen(OFFSETS, "a.tsv", share, 0) for share in shares]
    for smaller, larger in zip(chosen[:-1], chosen[1:], strict=True):
        assert not (smaller & ~larger).any()
    assert not chosen[0].any() and chosen[-1].all()


def test_seeds_and_files_are_independent() -> None:
    first, seed, file = (
        is_chosen(OFFSETS, source, 0.3, seed) for source, seed in (("a.tsv", 0), ("a.tsv", 1), ("b.tsv", 0))
    )
    for other in (seed, file):
        assert abs((first & other).mean() - 0.09) < 0.01
    # As with folds, a log that lies elsewhere is the same log.
    np.testing.assert_array_equal(first, is_chosen(OFFSETS, "/elsewhere/a.tsv", 0.3, 0))


def examples(sizes: Sequence[int]) -> list[Block]:
    ends = np.cumsum(sizes)
    whole = Block(
        (OFFSETS % 2).astype(np.uint8),
        OFFSETS[:, np.newaxis].astype(np.float32),
        np.stack([OFFSETS, OFFSETS + 1], axis=1).astype(np.int32),
        (OFFSETS % 10).astype(np.uint8),
        OFFSETS,
        groups=OFFSETS + 5,
    )
    return [whole.take(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def targets(sizes: Sequence[int], embedding: bool) -> list[TargetBlock]:
    floats = OFFSETS[:, np.newaxis].astype(np.float32)
    halves = (floats % 100).astype(np.float16) if embedding else None
    whole = TargetBlock(floats, OFFSETS, "teacher-1", halves)
    return [whole.take(slice(end - size, end)) for size, end in zip(sizes, np.cumsum(sizes), strict=True)]


@pytest.mark.parametrize("sizes", [[4096] * 4, [4096, 4096, 3616], [100, 4096, 1, 0, 4000], [3], []])
@pytest.mark.parametrize("share", [0.02, 0.7, 1.0])
def test_blocks_are_full_and_in_order(sizes: list[int], share: float) -> None:
    found = list(ChosenRows(share, 3).blocks(examples(sizes), TRAIN))
    expected = OFFSETS[: sum(sizes)][is_chosen(OFFSETS[: sum(sizes)], TRAIN["source"], share, 3)]
    assert [offset for block in found for offset in block.offsets] == expected.tolist()
    assert all(len(block) == 4096 for block in found[:-1])
    assert all(0 < len(block) <= 4096 for block in found)
    for block in found:
        np.testing.assert_array_equal(block.labels, block.offsets % 2)
        np.testing.assert_array_equal(block.dense[:, 0], block.offsets.astype(np.float32))
        np.testing.assert_array_equal(block.ids, np.stack([block.offsets, block.offsets + 1], axis=1))
        np.testing.assert_array_equal(block.folds, block.offsets % 10)
        np.testing.assert_array_equal(block.groups, block.offsets + 5)
        assert block.weights is None and block.outcomes is None


@pytest.mark.parametrize("embedding", [False, True])
def test_targets_keep_the_blocks_of_their_examples(embedding: bool) -> None:
    sizes, rows = [4096, 4096, 3616], ChosenRows(0.6, 0)
    pairs = zip(rows.blocks(examples(sizes), TRAIN), rows.blocks(targets(sizes, embedding), TRAIN), strict=True)
    for block, target in pairs:
        np.testing.assert_array_equal(target.offsets, block.offsets)
        np.testing.assert_array_equal(target.logits[:, 0], block.offsets.astype(np.float32))
        assert target.teacher == "teacher-1"
        assert (target.embedding is not None) == embedding
        if target.embedding is not None:
            assert target.embedding.dtype == np.float16
            np.testing.assert_array_equal(target.embedding[:, 0], (target.logits[:, 0] % 100).astype(np.float16))


def test_no_row_is_left_out_of_validation_and_test() -> None:
    for split in ("valid", "test"):
        found = ChosenRows(0.1, 0).blocks(examples([4096, 10]), TRAIN | {"split": split})
        assert [len(block) for block in found] == [4096, 10]

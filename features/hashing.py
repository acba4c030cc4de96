"""Hashes of row ids: folds, bootstrap groups and the order of rows within a shard."""

from __future__ import annotations

import hashlib
import posixpath

import numpy as np
import numpy.typing as npt

FOLDS = 10
"""Training rows are divided into this many folds; the number of fold teachers must divide it."""


def salt(seed: int, purpose: str, source: str) -> np.uint64:
    """A 64-bit salt for the rows of one source.

    Only the file's name counts, not its folder, so moving a log does not move its rows to other folds.
    """
    text = f"{seed}\0{purpose}\0{posixpath.basename(source)}"
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def mix(values: npt.NDArray[np.int64], salt_value: np.uint64) -> npt.NDArray[np.uint64]:
    """SplitMix64 of each value (Steele, Lea, Flood 2014), started at the salt.

    Args:
        values: int64 [n], for example byte offsets.
        salt_value: see :func:`salt`.

    Returns:
        uint64 [n]; distinct values give distinct hashes under one salt.
    """
    z = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + salt_value
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def folds(offsets: npt.NDArray[np.int64], source: str, seed: int) -> npt.NDArray[np.uint8]:
    """The fold in [0, 10) of each row, from (seed, source, offset): uint8 [n]."""
    return (mix(offsets, salt(seed, "fold", source)) % np.uint64(FOLDS)).astype(np.uint8)


def groups(offsets: npt.NDArray[np.int64], source: str, number: int) -> npt.NDArray[np.int64]:
    """The bootstrap group in [0, number) of each row, the same for every model: int64 [n]."""
    return (mix(offsets, salt(0, "bootstrap", source)) % np.uint64(number)).astype(np.int64)


def groups_of(hashes: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    """The same for a log with a group column: rows with the same hash of their group share one: int64 [n]."""
    return (mix(hashes, salt(0, "bootstrap", "")) % np.uint64(number)).astype(np.int64)


def row_order(offsets: npt.NDArray[np.int64], source: str, seed: int) -> npt.NDArray[np.int64]:
    """A permutation of the rows of a shard that depends on nothing but the rows' ids and the seed: int64 [n]."""
    return np.argsort(mix(offsets, salt(seed, "order", source)), kind="stable")

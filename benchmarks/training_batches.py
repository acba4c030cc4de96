"""The batches of the training benchmark: made once, read by every peer, so that all see the same bits.

A folder holds ``ids.npy`` (int32 [batches, 4096, 26], each column with its own ids from 0), ``dense.npy`` (float32
[batches, 4096, 13]) and ``label.npy`` (float32 [batches, 4096]); the peer that parses has ``examples.tfrecord``, the
rows of the first batches as 40-feature Examples.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

BATCHES, BATCH, CATEGORICAL, NUMERIC = 64, 4096, 26, 13
ZIPF = 1.2
DISTRIBUTIONS = ("zipf", "uniform")
CLICKS = 0.25
PARSED_BATCHES = 8
"""Batches that are written as Examples, which takes long."""

Arrays = dict[str, npt.NDArray[np.generic]]


def column_size(table: int) -> int:
    """Rows of each column's part of a table."""
    return table // CATEGORICAL


def draw_ids(size: int, distribution: str, generator: np.random.Generator) -> npt.NDArray[np.int32]:
    """Ids below a size; with Zipf the id is the rank, as in a vocabulary by falling count."""
    shape = (BATCHES, BATCH, CATEGORICAL)
    if distribution == "uniform":
        return generator.integers(0, size, shape, np.int32)
    reached = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -ZIPF)
    places = generator.random(shape) * reached[-1]
    return np.minimum(np.searchsorted(reached, places), size - 1).astype(np.int32)


def write_batches(folder: Path, table: int, distribution: str) -> None:
    """Draws the batches for a table of that many rows, unless they are there."""
    if folder.exists():
        return
    generator = np.random.default_rng(0)
    arrays = {
        "ids": draw_ids(column_size(table), distribution, generator),
        "dense": generator.normal(size=(BATCHES, BATCH, NUMERIC)).astype(np.float32),
        "label": (generator.random((BATCHES, BATCH)) < CLICKS).astype(np.float32),
    }
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, values in arrays.items():
        np.save(part / f"{name}.npy", values)
    part.rename(folder)


def read_batches(folder: Path) -> Arrays:
    """The arrays of a folder by name."""
    return {name: np.load(folder / f"{name}.npy") for name in ("ids", "dense", "label")}


def by_column(arrays: Arrays) -> Arrays:
    """A feature a column, as the usual way has them: I1..I13 [batches, 4096, 1], C1..C26 [batches, 4096]."""
    ids, dense = arrays["ids"], arrays["dense"]
    numeric = {f"I{i + 1}": np.ascontiguousarray(dense[:, :, i : i + 1]) for i in range(NUMERIC)}
    return numeric | {f"C{i + 1}": np.ascontiguousarray(ids[:, :, i]) for i in range(CATEGORICAL)}


def parsed_rows(arrays: Arrays) -> Iterator[tuple[float, list[float], list[int]]]:
    """Label, numbers and ids of each row that is written as an Example."""
    parts = (arrays[name][:PARSED_BATCHES] for name in ("label", "dense", "ids"))
    label, dense, ids = (part.reshape(PARSED_BATCHES * BATCH, *part.shape[2:]).tolist() for part in parts)
    yield from zip(label, dense, ids, strict=True)

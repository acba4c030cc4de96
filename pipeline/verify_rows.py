"""What must hold for the rows of a shard, and what they add up to."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.blocks import Block
from features.counts import fixed_weights
from features.errors import ArtifactError
from features.hashing import FOLDS, folds
from features.layouts import read_examples
from features.spec import ExamplesSpec
from features.vocabulary import UNSEEN
from pipeline.findings import Findings


def block_digest(offsets: NDArray[np.int64]) -> bytes:
    """A short hash of the offsets of a block: which rows it holds, in which order."""
    return hashlib.blake2b(np.ascontiguousarray(offsets, "<i8").tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class ShardContents:
    """What a shard was found to hold.

    Args:
        offsets: int64 [rows], of the rows.
        digests: see :func:`block_digest`, one for each block.
    """

    offsets: NDArray[np.int64]
    digests: list[bytes]


class TrainingSums:
    """Rows, clicks and weights of the training rows by vocabulary id and fold, counted anew.

    Weights are added up as integers in units of 2^-20.

    Args:
        spec: of the examples.
    """

    def __init__(self, spec: ExamplesSpec) -> None:
        ids = np.array(spec.vocabulary_ids, np.int64)
        self.starts = np.cumsum(ids) - ids
        self.sums = np.zeros((4 if spec.schema.weight else 2, int(ids.sum()) * FOLDS), np.int64)
        self.folds = np.zeros((4, FOLDS), np.int64)
        self.missing = np.zeros(len(spec.numeric), np.int64)

    def update(self, block: Block) -> None:
        """Adds rows whose ids and folds are in bounds."""
        units = fixed_weights(np.ones(len(block), np.float32) if block.weights is None else block.weights)
        clicks = block.labels.astype(np.int64)
        addends = [np.ones_like(units), clicks, units, units * clicks]
        cells = (block.ids + self.starts) * FOLDS + block.folds[:, None]
        for index, addend in enumerate(addends):
            np.add.at(self.folds[index], block.folds, addend)
        for row, addend in zip(self.sums, addends, strict=False):
            np.add.at(row, cells, addend[:, None])
        self.missing += np.isnan(block.dense).sum(axis=0)

    def column(self, index: int, ids: int) -> NDArray[np.int64]:
        """The sums of one categorical column: int64 [2 or 4, ids, 10]."""
        start = self.starts[index] * FOLDS
        return self.sums[:, start : start + ids * FOLDS].reshape(len(self.sums), ids, FOLDS)


def check_shard(
    data: bytes, shard: dict[str, Any], spec: ExamplesSpec, sums: TrainingSums, findings: Findings, path: str
) -> ShardContents | None:
    """Checks every row of a shard; adds training rows to the sums.

    Args:
        data: of the file.
        shard: its entry in the manifest.
        spec: of the examples.
        sums: of the training rows.
        findings: what is wrong goes here.
        path: of the file, for the findings.

    Returns:
        what the shard holds; None where it cannot be read.
    """
    try:
        blocks = list(read_examples(io.BytesIO(data), spec.schema, spec.layout, path))
    except ArtifactError as error:
        findings.wrong.append(str(error))
        return None
    for number, block in enumerate(blocks):
        good = _check_block(block, shard, spec, findings, f"{path}, block {number}")
        if good and shard["split"] == "train":
            sums.update(block)
    findings.equal(sum(map(len, blocks)), shard["rows"], "The number of rows of a shard", path)
    clicks = sum(int((block.labels == 1).sum()) for block in blocks)
    findings.equal(clicks, shard["clicks"], "The number of clicks of a shard", path)
    offsets = [block.offsets for block in blocks]
    return ShardContents(np.concatenate(offsets or [np.zeros(0, np.int64)]), [block_digest(part) for part in offsets])


def _check_block(block: Block, shard: dict[str, Any], spec: ExamplesSpec, findings: Findings, where: str) -> bool:
    """Checks the values of a block; returns whether they can be counted."""
    outcomes = np.zeros((len(block), 0), np.uint8) if block.outcomes is None else block.outcomes
    shape = (block.dense.shape[1], block.ids.shape[1], block.weights is not None, block.groups is not None)
    columns = (len(spec.numeric), len(spec.vocabulary_ids), bool(spec.schema.weight), bool(spec.schema.group))
    what = "Numeric columns, categorical columns, weights, groups and outcomes of a block"
    if not findings.equal((*shape, outcomes.shape[1]), (*columns, len(spec.schema.outcomes)), what, where):
        return False
    offsets, ids = block.offsets, block.ids
    inside = (offsets >= shard["start"]) & (offsets < shard["end"])
    known = (ids >= 0) & (ids < np.array(spec.vocabulary_ids))
    rules: list[tuple[np.ndarray, str, np.ndarray]] = [
        (block.labels <= 1, "A label must be 0 or 1", block.labels),
        (outcomes <= 1, "An outcome must be 0 or 1", outcomes),
        (~np.isinf(block.dense), "A numeric value must be finite or missing", block.dense),
        (known, "A vocabulary id must be one of its column", ids),
        (block.folds == folds(offsets, shard["source"], spec.seed), "A fold must be the hash of its row", block.folds),
        (inside, f"An offset must be in [{shard['start']}, {shard['end']})", offsets),
    ]
    if spec.buckets:
        rules.append((ids != UNSEEN, "With hash buckets a vocabulary id must not be that of unseen values", ids))
    if block.weights is not None:
        good = np.isfinite(block.weights) & (block.weights >= 0)
        rules.append((good, "A weight must be finite and not negative", block.weights))
    held = [_check_rows(good, rule, values, findings, where) for good, rule, values in rules]
    return all(held)


def _check_rows(good: np.ndarray, rule: str, values: np.ndarray, findings: Findings, where: str) -> bool:
    bad = np.argwhere(~good)
    if not len(bad):
        return True
    first = values[tuple(bad[0])]
    return findings.check(False, rule, f"{first} at {bad[0].tolist()}, one of {len(bad)} such values", where)

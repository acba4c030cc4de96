"""Targets with embeddings of a teacher that is gone, for the tests of what is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from small_run import add_targets, change_json, make_run, rewrite_targets, write_log

from features.blocks import Block
from features.targets import TargetBlock
from pipeline.arrays import write_arrays
from pipeline.stored_rows import read_with_targets
from pipeline.workspace import TARGETS, Run

WIDTH, OUTPUTS = 8, 4
KERNEL = np.random.default_rng(7).normal(size=(WIDTH, OUTPUTS)).astype(np.float32)


def make_embedded_run(folder: Path) -> Run:
    """Examples in several shards, and targets whose embeddings and logits have to do with each other."""
    run = make_run(folder, *two_logs(folder), split="hash:user:70/15/15", min_count=2)
    add_targets(run)
    embed_targets(run)
    return run


def two_logs(folder: Path) -> list[Path]:
    """Logs of the same rows, each of which becomes shards of its own."""
    return [write_log(folder / name) for name in ("first.csv", "second.csv")]


def embed_targets(run: Run) -> None:
    """Gives stored targets embeddings, and the logits of a head on them."""
    rng = np.random.default_rng(3)

    def embedded(block: TargetBlock) -> TargetBlock:
        embedding = (rng.normal(size=(len(block), WIDTH)) * np.linspace(1.5, 0.5, WIDTH)).astype(np.float16)
        logits = embedding.astype(np.float32) @ KERNEL + np.array([1, 1, -1, -1], np.float32) / 2
        return TargetBlock(logits, block.offsets, block.teacher, embedding)

    for shard in run.manifest(TARGETS)["shards"]:
        rewrite_targets(run, shard["path"], embedded)
    write_arrays(run.file(TARGETS, "head.npz"), kernel=KERNEL, bias=np.zeros(OUTPUTS, np.float32))
    values: dict[str, Any] = {"label": "", "parameters": 1, "folds": 0, "calibration": {}, "settings": {}}
    more = {**values, "embedding": WIDTH, "explained": 1.0, "head": "head.npz"}
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest.update(more))


def pairs_of(run: Run, split: str, stage: str = TARGETS) -> list[tuple[Block, TargetBlock]]:
    """The rows of a split with their targets."""
    teacher, found = run.manifest(stage)["teacher"], []
    for shard in run.filled_shards(split):
        found += list(read_with_targets(run.file("examples", shard["path"]), run.file(stage, shard["path"]), teacher))
    return found

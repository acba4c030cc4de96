"""The targets of a run against its examples."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.errors import ArtifactError
from features.targets import TargetBlock
from features.tfrecord import read_records
from models.methods import SOURCES
from pipeline import storage
from pipeline.findings import Findings
from pipeline.keys import require_current
from pipeline.verify_rows import ShardContents, block_digest
from pipeline.workspace import TARGETS, Run, derived_stage


def target_stages(run: Run) -> list[str]:
    """The finished stages of a run that hold targets: the teacher's, and those that are derived from them."""
    stages = [TARGETS, *map(derived_stage, SOURCES)]
    return [stage for stage in stages if storage.exists(run.file(stage, "manifest.json"))]


def target_files(run: Run, stage: str) -> set[str]:
    """The files of a stage of targets, relative to its folder."""
    manifest = run.manifest(stage)
    head = [manifest["head"]] if "head" in manifest else []
    return {"manifest.json", *head, *(shard["path"] for shard in manifest["shards"])}


def check_targets(run: Run, shards: Mapping[str, ShardContents], findings: Findings) -> str:
    """Checks the targets of every shard.

    Args:
        run: whose targets.
        shards: by path, what the examples were found to hold.
        findings: what is wrong goes here.

    Returns:
        what was proved, for people.
    """
    proved = []
    for stage in target_stages(run):
        name = "" if stage == TARGETS else f"{stage}: "
        try:
            require_current(run, stage)
        except ArtifactError:
            proved.append(f"{name}not checked: they were made from other examples or another teacher")
            continue
        proved.append(name + _check_stage(run, stage, shards, findings))
    return "; ".join(proved) or "none yet"


def _check_stage(run: Run, stage: str, shards: Mapping[str, ShardContents], findings: Findings) -> str:
    manifest = run.manifest(stage)
    described = {shard["path"]: shard for shard in manifest["shards"]}
    findings.equal(sorted(described), sorted(shards), "The shards of the targets", run.file(stage, "manifest.json"))
    for path in sorted(set(described) & set(shards)):
        data = findings.read(run.file(stage, path), described[path])
        if data is not None:
            _check_shard(data, shards[path].digests, manifest, findings, run.file(stage, path))
    return f"{sum(shard['rows'] for shard in manifest['shards']):,} rows of teacher {manifest['teacher']}"


def _check_shard(
    data: bytes, digests: Sequence[bytes], manifest: Mapping[str, Any], findings: Findings, path: str
) -> None:
    try:
        blocks = [TargetBlock.decode(record, path) for record in read_records(io.BytesIO(data), path)]
    except ArtifactError as error:
        findings.wrong.append(str(error))
        return
    same = [block_digest(block.offsets) for block in blocks] == list(digests)
    findings.check(same, "Targets must belong to the rows of their examples", "others", path)
    for number, block in enumerate(blocks):
        where = f"{path}, block {number}"
        findings.equal(block.teacher, manifest["teacher"], "The teacher of a block of targets", where)
        findings.equal(block.logits.shape[1], manifest["outputs"], "The logits of a row", where)
        findings.check(bool(np.isfinite(block.logits).all()), "Logits must be finite", "others", where)
        for name, what in (("embedding", "floats of an embedding"), ("members", "members of the teacher")):
            values = getattr(block, name)
            found = 0 if values is None else values.shape[1]
            findings.equal(found, manifest.get(name, 0), f"The {what}", where)
            finite = values is None or bool(np.isfinite(values).all())
            findings.check(finite, f"The {what} must be finite", "others", where)

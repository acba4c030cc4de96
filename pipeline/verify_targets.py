"""The targets of a run against its examples."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.errors import ArtifactError
from features.targets import TargetBlock
from features.tfrecord import read_records
from pipeline import storage
from pipeline.findings import Findings
from pipeline.keys import require_current
from pipeline.verify_rows import ShardContents, block_digest
from pipeline.workspace import TARGETS, Run


def check_targets(run: Run, shards: Mapping[str, ShardContents], findings: Findings) -> str:
    """Checks the targets of every shard.

    Args:
        run: whose targets.
        shards: by path, what the examples were found to hold.
        findings: what is wrong goes here.

    Returns:
        what was proved, for people.
    """
    if not storage.exists(run.file(TARGETS, "manifest.json")):
        return "none yet"
    try:
        require_current(run, TARGETS)
    except ArtifactError:
        return "not checked: they were made from other examples or another teacher"
    manifest = run.manifest(TARGETS)
    described = {shard["path"]: shard for shard in manifest["shards"]}
    where = run.file(TARGETS, "manifest.json")
    findings.equal(sorted(described), sorted(shards), "The shards of the targets", where)
    for path in sorted(set(described) & set(shards)):
        data = findings.read(run.file(TARGETS, path), described[path])
        if data is not None:
            _check_shard(data, shards[path].digests, manifest, findings, run.file(TARGETS, path))
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

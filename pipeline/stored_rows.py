"""The stored rows of a run, shard by shard: blocks of examples, and their targets. No TensorFlow here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from features.blocks import Block, read_blocks
from features.errors import ArtifactError, ConfigError
from features.spec import ExamplesSpec
from features.targets import TargetBlock
from features.tfrecord import read_records
from pipeline import storage
from pipeline.settings import EMBEDDING
from pipeline.workspace import Run


def outcome_of(spec: ExamplesSpec, label: str) -> int | None:
    """Position of the outcome column that a model learns in place of the label; None for the label itself.

    Raises:
        ConfigError: the schema has no such outcome.
    """
    if not label:
        return None
    known = spec.schema.outcomes
    if label not in known:
        rule = f"one of its outcomes ({', '.join(known)})" if known else "left out, as its schema has no outcome"
        raise ConfigError(f"label must be a column of the log that is {rule}. Received: {label}.")
    return known.index(label)


def labels_of(block: Block, outcome: int | None) -> npt.NDArray[np.uint8]:
    """The labels of a block, or one of its outcomes: uint8 [rows]."""
    if outcome is None:
        return block.labels
    assert block.outcomes is not None
    labels: npt.NDArray[np.uint8] = block.outcomes[:, outcome]
    return labels


def blocks_of(path: str) -> Iterator[Block]:
    """The blocks of a shard.

    Raises:
        ArtifactError: the file is damaged.
    """
    with storage.open_read(path) as file:
        yield from read_blocks(file, path)


def read_with_targets(examples: str, targets: str, teacher: str) -> Iterator[tuple[Block, TargetBlock]]:
    """The blocks of a shard with their targets.

    Raises:
        ArtifactError: a file is damaged, or the targets belong to other rows or another teacher.
    """
    with storage.open_read(examples) as example_file, storage.open_read(targets) as target_file:
        records = (TargetBlock.decode(record, targets) for record in read_records(target_file, targets))
        for block, target in itertools.zip_longest(read_blocks(example_file, examples), records):
            if block is None or target is None or not np.array_equal(block.offsets, target.offsets):
                raise wrong_targets("belong to the rows of their examples", "others", targets)
            if target.teacher != teacher:
                received = f"{target.teacher} instead of {teacher}"
                raise wrong_targets("come from the teacher of their manifest", received, targets)
            yield block, target


def embedding_size(run: Run, stage: str) -> int:
    """E of the stored embeddings.

    Raises:
        ArtifactError: there are none.
    """
    size: int = run.manifest(stage).get("embedding", 0)
    if not size:
        raise ArtifactError(
            f"Targets must have embeddings. Received: none ({run.file(stage)}); make them with `ctr-distill precompute "
            f"--embedding {EMBEDDING} --run {run.path}`."
        )
    return size


def wrong_targets(rule: str, received: str, path: str) -> ArtifactError:
    """The error for targets that break a rule."""
    return ArtifactError(
        f"Targets must {rule}. Received: {received} ({path}); remove the folder of these targets and make them again."
    )

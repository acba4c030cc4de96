"""What validation rows with targets say of a teacher before a training, and of the weights of its members after it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from features.blocks import Block
from features.statistics import ClickCounts
from features.targets import TargetBlock
from models.diagnosis import rarest
from models.estimates import subclass_click_logits
from models.inputs import ShardFiles
from models.slice_alpha import SliceErrors
from models.student_terms import MemberGate
from pipeline.scored_rows import row_weights
from pipeline.stored_rows import labels_of, read_with_targets


def teacher_errors(judged: ShardFiles, counts: ClickCounts, outcome: int | None) -> SliceErrors:
    """A teacher's squared errors by the training rows of the rarest value, weighted if the rows are.

    Args:
        judged: shards with targets.
        counts: of the training rows.
        outcome: position of the outcome that the teacher has learned in place of the label, or None.

    Raises:
        ArtifactError: a file is damaged.
    """
    by_column = np.split(counts.counts.sum(axis=1), counts.starts[1:])
    found = SliceErrors.empty()
    for block, target in _rows(judged):
        clicks = subclass_click_logits(target.logits)
        found.update(rarest(block.ids, by_column), labels_of(block, outcome), clicks, row_weights(block))
    return found


def gate_entropy(gate: MemberGate, judged: ShardFiles) -> float:
    """Mean entropy of the members' weights in nats, weighted if the rows are: log M for equal weights, at least 0.

    Args:
        gate: of a trained student.
        judged: shards with targets that have members, of at least one row.

    Raises:
        ArtifactError: a file is damaged.
    """
    entropies, weights = [], []
    for block, target in _rows(judged):
        entropies.append(gate.entropy(target.members).numpy())
        weights.append(np.ones(len(block)) if block.weights is None else block.weights)
    return float(np.average(np.concatenate(entropies), weights=np.concatenate(weights)))


def _rows(judged: ShardFiles) -> Iterator[tuple[Block, TargetBlock]]:
    for paths in zip(judged.examples, judged.targets, strict=True):
        yield from read_with_targets(*paths, judged.teacher)

"""A teacher's errors and the entropy of a gate on stored rows, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.blocks import Block
from features.errors import ArtifactError
from features.statistics import ClickCounts
from features.targets import TargetBlock
from features.tfrecord import write_record
from models.inputs import ShardFiles
from models.student_terms import MemberGate
from pipeline.judged_rows import gate_entropy, teacher_errors

# Two columns with three and two ids: counts 0, 5, 20 and 100, 3.
TOTALS = np.array([0, 5, 20, 100, 3])
BY_FOLD = TOTALS[:, np.newaxis] * np.eye(10, dtype=np.int64)[4]
COUNTS = ClickCounts(np.array([0, 3]), BY_FOLD, BY_FOLD, np.zeros(10, np.int64), np.zeros(10, np.int64))
BLOCK = Block(
    np.array([1, 0, 1, 0], np.uint8),
    np.zeros((4, 1), np.float32),
    np.array([[2, 0], [2, 1], [0, 0], [2, 0]], np.int32),
    np.zeros(4, np.uint8),
    np.arange(4),
)
# p = 3/4, 1/2, 1/4 and 1/4: two subclasses a class, which have the same logit.
TARGETS = TargetBlock(
    np.log(np.array([[1, 1, 3, 3], [1, 1, 1, 1], [3, 3, 1, 1], [3, 3, 1, 1]], np.float32)), np.arange(4), "t"
)


def write_shards(folder: Path, block: Block, target: TargetBlock) -> ShardFiles:
    """Both in two shards, of three rows and of one."""
    files = []
    for number, rows in enumerate((slice(0, 3), slice(3, 4))):
        for kind, part in (("examples", block.take(rows)), ("targets", target.take(rows))):
            files.append(str(folder / f"{number}.{kind}"))
            with open(files[-1], "wb") as file:
                write_record(file, part.encode())
    return ShardFiles(files[::2], (1, 2), files[1::2], "t", 4)


def test_errors_lie_in_the_slice_of_the_rarest_value(tmp_path: Path) -> None:
    """Slices: 20 rows, 3, none, 20. Squared errors: 1/16, 1/4, 9/16 and 1/16."""
    found = teacher_errors(write_shards(tmp_path, BLOCK, TARGETS), COUNTS, None).sums
    assert found[:, 0].tolist() == [1, 1, 1, pytest.approx(9 / 16)]
    assert found[:, 1].tolist() == [1, 1, 0, pytest.approx(1 / 4)]
    assert found[:, 2].tolist() == [2, 2, 1, pytest.approx(2 / 16)]
    assert not found[:, 3:].any()


def test_errors_are_weighted_and_of_what_the_teacher_has_learned(tmp_path: Path) -> None:
    outcomes = np.array([[0, 0], [0, 1], [0, 0], [0, 1]], np.uint8)
    block = replace(BLOCK, weights=np.array([1, 2, 0, 4], np.float32), outcomes=outcomes)
    found = teacher_errors(write_shards(tmp_path, block, TARGETS), COUNTS, 1).sums
    assert found[:, 2].tolist() == [2, 5, 4, pytest.approx(9 / 16 + 4 * 9 / 16)]
    assert found[:, 1].tolist() == [1, 2, 2, pytest.approx(2 / 4)]


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_entropy(tmp_path: Path, weighted: bool) -> None:
    """Weights of members are (1/2, 1/2) for a click logit of 0, and (4/5, 1/5) for the last row."""
    gate = MemberGate(2)
    gate.scale.assign([1.0, 0.0])
    members = np.zeros((4, 2), np.float32)
    members[3, 0] = np.log(4)
    block = replace(BLOCK, weights=np.array([1, 0, 1, 6], np.float32)) if weighted else BLOCK
    sure, equal = -0.8 * np.log(0.8) - 0.2 * np.log(0.2), np.log(2)
    expected = (2 * equal + 6 * sure) / 8 if weighted else (3 * equal + sure) / 4
    files = write_shards(tmp_path, block, replace(TARGETS, members=members))
    assert gate_entropy(gate, files) == pytest.approx(expected, rel=1e-6)


def test_targets_of_other_rows_are_an_error(tmp_path: Path) -> None:
    files = write_shards(tmp_path, BLOCK, replace(TARGETS, offsets=np.arange(4) + 1))
    with pytest.raises(ArtifactError, match="Targets must belong to the rows of their examples"):
        teacher_errors(files, COUNTS, None)

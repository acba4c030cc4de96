"""Both layouts hold the same rows."""

from __future__ import annotations

import io

import numpy as np
import pytest

from features.blocks import BLOCK_ROWS, Block
from features.errors import ArtifactError
from features.layouts import LAYOUTS, read_examples, write_examples
from features.schema import Column, Schema
from features.tfrecord import read_records

SCHEMA = Schema((Column("label", "label"), Column("x", "float"), Column("c", "categorical")))
COUNT = BLOCK_ROWS + 7


def block(rows: int = COUNT) -> Block:
    rng = np.random.default_rng(0)
    return Block(
        rng.integers(0, 2, rows).astype(np.uint8),
        rng.normal(size=(rows, 1)).astype(np.float32),
        rng.integers(0, 1000, (rows, 1)).astype(np.int32),
        rng.integers(0, 10, rows).astype(np.uint8),
        rng.integers(0, 2**62, rows),
    )


def written(layout: str, rows: int = COUNT) -> io.BytesIO:
    stream = io.BytesIO()
    write_examples(stream, block(rows), SCHEMA, layout)
    return io.BytesIO(stream.getvalue())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [0, 1, COUNT])
def test_round_trip(layout: str, rows: int) -> None:
    blocks = list(read_examples(written(layout, rows), SCHEMA, layout, "shard"))
    assert [len(part) for part in blocks] == {0: [], 1: [1], COUNT: [BLOCK_ROWS, 7]}[rows]
    assert not rows or Block.concatenate(blocks).encode() == block(rows).encode()


@pytest.mark.parametrize(("layout", "records"), [("blocks", 2), ("rows", COUNT)])
def test_records_of_a_file(layout: str, records: int) -> None:
    assert len(list(read_records(written(layout), "shard"))) == records


@pytest.mark.parametrize(("layout", "other"), [LAYOUTS, LAYOUTS[::-1]])
def test_one_layout_is_not_the_other(layout: str, other: str) -> None:
    with pytest.raises(ArtifactError):
        list(read_examples(written(layout), SCHEMA, other, "shard"))

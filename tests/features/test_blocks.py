"""Blocks: bytes that TensorFlow's parser turns into the same arrays, and that survive damage as an error."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.blocks import BLOCK_ROWS, Block, read_blocks
from features.errors import ArtifactError
from features.example import encode_example
from features.tfrecord import write_record

NAMES = ("labels", "dense", "ids", "folds", "offsets")
DTYPES = {"labels": "u1", "dense": "<f4", "ids": "<i4", "folds": "u1", "offsets": "<i8"}


def make(rows: int, numeric: int = 3, categorical: int = 2, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, numeric)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.2] = np.nan
    return Block(
        rng.integers(0, 2, rows).astype(np.uint8),
        dense,
        rng.integers(0, 2**31 - 1, (rows, categorical)).astype(np.int32),
        rng.integers(0, 10, rows).astype(np.uint8),
        np.cumsum(rng.integers(1, 2**40, rows)).astype(np.int64),
    )


@st.composite
def any_blocks(draw: st.DrawFn) -> Block:
    rows, numeric, categorical = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    floats = st.floats(width=32)  # NaN of any payload and infinities too: the format is bits
    return Block(
        draw(hnp.arrays(np.uint8, rows, elements=st.integers(0, 1))),
        draw(hnp.arrays(np.float32, (rows, numeric), elements=floats)),
        draw(hnp.arrays(np.int32, (rows, categorical))),
        draw(hnp.arrays(np.uint8, rows, elements=st.integers(0, 9))),
        draw(hnp.arrays(np.int64, rows)),
    )


def assert_same(actual: Block, expected: Block) -> None:
    """Equal in dtype, shape and every bit."""
    for name in NAMES:
        a, b = getattr(actual, name), getattr(expected, name)
        assert a.dtype == b.dtype == np.dtype(DTYPES[name]), name
        assert a.shape == b.shape and a.tobytes() == b.tobytes(), name


@settings(deadline=None)
@given(any_blocks())
def test_round_trip(block: Block) -> None:
    data = block.encode()
    assert_same(Block.decode(data), block)
    assert block.encode() == data == Block.decode(data).encode()


def test_the_same_rows_give_the_same_bytes_whatever_their_memory_looks_like() -> None:
    block = make(10)
    other = Block(
        np.repeat(block.labels, 2)[::2],
        np.asfortranarray(block.dense),
        block.ids.astype(">i4"),
        block.folds.copy(),
        np.stack([block.offsets, block.offsets])[1],
    )
    assert other.encode() == block.encode()


def test_tensorflow_parses_the_same_arrays() -> None:
    from models.backend import tf

    block = make(100, numeric=13, categorical=26)
    features = ("label", "dense", "ids", "fold", "offset")
    parsed = tf.io.parse_single_example(block.encode(), dict.fromkeys(features, tf.io.FixedLenFeature([], tf.string)))
    types = {"label": tf.uint8, "dense": tf.float32, "ids": tf.int32, "fold": tf.uint8, "offset": tf.int64}
    for name, feature in zip(NAMES, features, strict=True):
        array = tf.io.decode_raw(parsed[feature], types[feature], little_endian=True).numpy()
        expected = getattr(block, name)
        assert array.tobytes() == expected.tobytes() and array.size == expected.size, name
    message = tf.train.Example.FromString(block.encode())
    assert sorted(message.features.feature) == sorted(features)


def test_layout_by_hand() -> None:
    block = Block(
        np.array([0, 1], np.uint8),
        np.array([[1.0, np.nan], [-2.0, 0.0]], np.float32),
        np.array([[258], [1]], np.int32),
        np.array([9, 0], np.uint8),
        np.array([0, 2**33], np.int64),
    )
    data = block.encode()
    assert b"label\x12\x06\x0a\x04\x0a\x02\x00\x01" in data
    assert b"\x00\x00\x80\x3f\x00\x00\xc0\x7f\x00\x00\x00\xc0\x00\x00\x00\x00" in data
    assert b"\x02\x01\x00\x00\x01\x00\x00\x00" in data
    assert b"fold\x12\x06\x0a\x04\x0a\x02\x09\x00" in data
    assert bytes(8) + b"\x00\x00\x00\x00\x02\x00\x00\x00" in data
    assert [data.index(name) for name in (b"dense", b"fold", b"ids", b"label", b"offset")] == sorted(
        data.index(name) for name in (b"dense", b"fold", b"ids", b"label", b"offset")
    )


def test_take_picks_rows_in_the_given_order() -> None:
    block = make(5)
    taken = block.take(np.array([4, 0, 0]))
    assert len(taken) == 3 and taken.offsets.tolist() == block.offsets[[4, 0, 0]].tolist()
    assert taken.ids.tolist() == block.ids[[4, 0, 0]].tolist()
    assert taken.labels.tolist() == block.labels[[4, 0, 0]].tolist()
    assert_same(block.take(slice(None)), block)
    assert len(block.take(np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize(
    ("rows", "size", "lengths"), [(0, 4, []), (3, 4, [3]), (4, 4, [4]), (9, 4, [4, 4, 1]), (2, 1, [1, 1])]
)
def test_split_gives_all_rows_in_order(rows: int, size: int, lengths: list[int]) -> None:
    block = make(rows)
    pieces = list(block.split(size))
    assert [len(piece) for piece in pieces] == lengths
    if pieces:
        assert_same(Block.concatenate(pieces), block)


def test_split_makes_blocks_of_the_documented_size() -> None:
    assert [len(piece) for piece in make(BLOCK_ROWS + 1).split()] == [BLOCK_ROWS, 1]


def features_of(block: Block, **changed: bytes | None) -> dict[str, bytes]:
    features = {
        "label": block.labels.tobytes(),
        "dense": block.dense.tobytes(),
        "ids": block.ids.tobytes(),
        "fold": block.folds.tobytes(),
        "offset": block.offsets.tobytes(),
    }
    merged: dict[str, Any] = features | changed
    return {name: value for name, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    "changed",
    [
        {"label": None},
        {"dense": None},
        {"offset": None},
        {"label": b"\x00" * 3},
        {"fold": b""},
        {"dense": b"\x00" * 17},
        {"dense": b"\x00" * 20},
        {"ids": b"\x00" * 6},
        {"offset": b"\x00" * 31},
        {"offset": b""},
    ],
)
def test_arrays_that_do_not_fit_together_are_an_artifact_error(changed: dict[str, bytes | None]) -> None:
    block = make(4)
    assert_same(Block.decode(encode_example(features_of(block))), block)
    with pytest.raises(ArtifactError, match=r"block of rows. Received: .* \(here\)"):
        Block.decode(encode_example(features_of(block, **changed)), "here")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_is_found_or_harmless_but_never_another_exception(data: st.DataObject) -> None:
    record = make(3).encode()
    start = data.draw(st.integers(0, len(record)))
    end = data.draw(st.integers(start, min(start + 12, len(record))))
    damaged = record[:start] + data.draw(st.binary(max_size=12)) + record[end:]
    try:
        block = Block.decode(damaged)
    except ArtifactError:
        return
    assert {len(getattr(block, name)) for name in NAMES} == {len(block)}


def test_every_truncation_and_garbage_are_artifact_errors() -> None:
    record = make(3).encode()
    for size in range(len(record)):
        with pytest.raises(ArtifactError):
            Block.decode(record[:size])


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_garbage_is_an_artifact_error(garbage: bytes) -> None:
    with pytest.raises(ArtifactError):
        Block.decode(garbage)


def test_read_blocks_names_the_file_and_the_record() -> None:
    stream = io.BytesIO()
    pieces = list(make(10).split(4))
    for piece in pieces:
        write_record(stream, piece.encode())
    write_record(stream, b"something else")
    stream.seek(0)
    blocks = read_blocks(stream, "train/shard-00001.tfrecord")
    for piece in pieces:
        assert_same(next(blocks), piece)
    with pytest.raises(ArtifactError, match=r"train/shard-00001.tfrecord, record 3"):
        next(blocks)
    assert list(read_blocks(io.BytesIO(), "empty")) == []

"""Blocks: bytes that TensorFlow's parser turns into the same arrays, and that survive damage as an error."""

from __future__ import annotations

import io
from collections.abc import Sequence
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
OPTIONAL = ("weights", "groups", "outcomes")
DTYPES = {"labels": "u1", "dense": "<f4", "ids": "<i4", "folds": "u1", "offsets": "<i8"}
SORTED = (b"dense", b"fold", b"group", b"ids", b"label", b"offset", b"outcome", b"weight")
FEATURES = tuple(name.decode() for name in SORTED)
DTYPES |= {"weights": "<f4", "groups": "<i8", "outcomes": "u1"}


def make(rows: int, numeric: int = 3, categorical: int = 2, seed: int = 0, optional: Sequence[str] = ()) -> Block:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, numeric)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.2] = np.nan
    return Block(
        rng.integers(0, 2, rows).astype(np.uint8),
        dense,
        rng.integers(0, 2**31 - 1, (rows, categorical)).astype(np.int32),
        rng.integers(0, 10, rows).astype(np.uint8),
        np.cumsum(rng.integers(1, 2**40, rows)).astype(np.int64),
        rng.random(rows).astype(np.float32) if "weights" in optional else None,
        rng.integers(-(2**63), 2**63, rows) if "groups" in optional else None,
        rng.integers(0, 2, (rows, 2)).astype(np.uint8) if "outcomes" in optional else None,
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
        draw(st.none() | hnp.arrays(np.float32, rows, elements=floats)),
        draw(st.none() | hnp.arrays(np.int64, rows)),
        draw(st.none() | hnp.arrays(np.uint8, (rows, draw(st.integers(1, 3))), elements=st.integers(0, 1))),
    )


def assert_same(actual: Block, expected: Block) -> None:
    """Equal in dtype, shape and every bit."""
    for name in (*NAMES, *OPTIONAL):
        a, b = getattr(actual, name), getattr(expected, name)
        if name in OPTIONAL and b is None:
            assert a is None, name
            continue
        assert a.dtype == b.dtype == np.dtype(DTYPES[name]), name
        assert a.shape == b.shape and a.tobytes() == b.tobytes(), name


@settings(deadline=None)
@given(any_blocks())
def test_round_trip(block: Block) -> None:
    data = block.encode()
    assert_same(Block.decode(data), block)
    assert block.encode() == data == Block.decode(data).encode()


@settings(deadline=None)
@given(any_blocks(), st.data())
def test_pieces_put_together_again_are_the_block(block: Block, data: st.DataObject) -> None:
    pieces = list(block.split(data.draw(st.integers(1, 4))))
    assert_same(Block.concatenate([Block.decode(piece.encode()) for piece in pieces]), block)
    backwards = np.arange(len(block))[::-1]
    assert_same(block.take(backwards).take(backwards), block)


def test_the_same_rows_give_the_same_bytes_whatever_their_memory_looks_like() -> None:
    block = make(10, optional=OPTIONAL)
    assert block.weights is not None and block.groups is not None and block.outcomes is not None
    other = Block(
        np.repeat(block.labels, 2)[::2],
        np.asfortranarray(block.dense),
        block.ids.astype(">i4"),
        block.folds.copy(),
        np.stack([block.offsets, block.offsets])[1],
        np.repeat(block.weights, 3)[::3].astype(np.float64),
        block.groups.astype(">i8"),
        np.asfortranarray(block.outcomes),
    )
    assert other.encode() == block.encode()


@pytest.mark.parametrize("optional", [(), ("weights",), OPTIONAL])
def test_tensorflow_parses_the_same_arrays(optional: tuple[str, ...]) -> None:
    from models.backend import tf

    block = make(100, numeric=13, categorical=26, optional=optional)
    features = {"labels": "label", "dense": "dense", "ids": "ids", "folds": "fold", "offsets": "offset"}
    features |= {name: name.removesuffix("s") for name in optional}
    wanted = dict.fromkeys(features.values(), tf.io.FixedLenFeature([], tf.string))
    parsed = tf.io.parse_single_example(block.encode(), wanted)
    for name, feature in features.items():
        expected = getattr(block, name)
        array = tf.io.decode_raw(parsed[feature], tf.as_dtype(expected.dtype), little_endian=True).numpy()
        assert array.tobytes() == expected.tobytes() and array.size == expected.size, name
    message = tf.train.Example.FromString(block.encode())
    assert sorted(message.features.feature) == sorted(features.values())


def test_layout_by_hand() -> None:
    block = Block(
        np.array([0, 1], np.uint8),
        np.array([[1.0, np.nan], [-2.0, 0.0]], np.float32),
        np.array([[258], [1]], np.int32),
        np.array([9, 0], np.uint8),
        np.array([0, 2**33], np.int64),
        np.array([0.5, 3.0], np.float32),
        np.array([-1, 1], np.int64),
        np.array([[1, 0, 0], [0, 1, 1]], np.uint8),
    )
    data = block.encode()
    assert b"group\x12\x14\x0a\x12\x0a\x10" + b"\xff" * 8 + b"\x01" + bytes(7) in data
    assert b"weight\x12\x0c\x0a\x0a\x0a\x08\x00\x00\x00\x3f\x00\x00\x40\x40" in data
    assert b"outcome\x12\x0a\x0a\x08\x0a\x06\x01\x00\x00\x00\x01\x01" in data
    assert b"label\x12\x06\x0a\x04\x0a\x02\x00\x01" in data
    assert b"\x00\x00\x80\x3f\x00\x00\xc0\x7f\x00\x00\x00\xc0\x00\x00\x00\x00" in data
    assert b"\x02\x01\x00\x00\x01\x00\x00\x00" in data
    assert b"fold\x12\x06\x0a\x04\x0a\x02\x09\x00" in data
    assert bytes(8) + b"\x00\x00\x00\x00\x02\x00\x00\x00" in data
    places = [data.index(b"\x0a%c%s\x12" % (len(name), name)) for name in SORTED]
    assert places == sorted(places)


def test_a_log_without_weights_and_groups_has_the_bytes_of_before() -> None:
    block = make(3)
    assert block.encode() == encode_example(features_of(block))


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
    if block.weights is not None:
        features["weight"] = block.weights.tobytes()
    if block.groups is not None:
        features["group"] = block.groups.tobytes()
    if block.outcomes is not None:
        features["outcome"] = block.outcomes.tobytes()
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
        {"weight": b""},
        {"weight": b"\x00" * 15},
        {"weight": b"\x00" * 20},
        {"group": b""},
        {"group": b"\x00" * 16},
        {"group": b"\x00" * 33},
        {"outcome": b"\x00" * 7},
    ],
)
def test_arrays_that_do_not_fit_together_are_an_artifact_error(changed: dict[str, bytes | None]) -> None:
    block = make(4, optional=OPTIONAL)
    assert_same(Block.decode(encode_example(features_of(block))), block)
    with pytest.raises(ArtifactError, match=r"block of rows. Received: .* \(here\)"):
        Block.decode(encode_example(features_of(block, **changed)), "here")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_is_found_or_harmless_but_never_another_exception(data: st.DataObject) -> None:
    record = make(3, optional=data.draw(st.sets(st.sampled_from(OPTIONAL)).map(tuple))).encode()
    start = data.draw(st.integers(0, len(record)))
    end = data.draw(st.integers(start, min(start + 12, len(record))))
    damaged = record[:start] + data.draw(st.binary(max_size=12)) + record[end:]
    try:
        block = Block.decode(damaged)
    except ArtifactError:
        return
    arrays = [getattr(block, name) for name in (*NAMES, *OPTIONAL)]
    assert {len(array) for array in arrays if array is not None} == {len(block)}
    assert_same(Block.decode(block.encode()), block)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(FEATURES), st.integers(0, 24).map(bytes)))
def test_any_features_give_a_block_that_encodes_again_or_an_artifact_error(features: dict[str, bytes]) -> None:
    sizes = {name: len(value) for name, value in features.items()}
    rows = sizes.get("offset", 0) // 8
    fits = rows > 0 and all(
        name in sizes and sizes[name] == rows * width for name, width in (("label", 1), ("fold", 1), ("offset", 8))
    )
    fits &= all(sizes.get(name, -1) % (rows * 4 or 1) == 0 for name in ("dense", "ids"))
    fits &= sizes.get("outcome", 0) % (rows or 1) == 0
    fits &= all(sizes.get(name, rows * width) == rows * width for name, width in (("weight", 4), ("group", 8)))
    if not fits:
        with pytest.raises(ArtifactError, match="block of rows"):
            Block.decode(encode_example(features))
        return
    block = Block.decode(encode_example(features))
    assert_same(Block.decode(block.encode()), block)


def test_every_truncation_and_garbage_are_artifact_errors() -> None:
    record = make(3, optional=OPTIONAL).encode()
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

"""An Example a row: TensorFlow and protocol buffers read it, whatever the columns and values."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.blocks import BLOCK_ROWS, Block
from features.errors import ArtifactError, ConfigError
from features.row_examples import check_names, decode_rows, encode_rows, read_rows, write_rows
from features.schema import CRITEO, Column, Schema
from features.tfrecord import read_records

PLAIN = Schema((Column("label", "label"), Column("x", "float"), Column("c", "categorical")))
# The columns are not in the order of their names, and one name is not ASCII.
FULL = Schema(
    (
        Column("user", "group"),
        Column("when", "time"),
        Column("é" * 70, "categorical"),
        Column("price", "float"),
        Column("clicked", "label"),
        Column("Z", "integer"),
        Column("ad", "categorical"),
        Column("importance", "weight"),
        Column("request", "key"),
        Column("bought", "outcome"),
        Column("Returned", "outcome"),
    )
)


def plain_block(rows: int, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)
    return Block(
        rng.integers(0, 2, rows).astype(np.uint8),
        rng.normal(size=(rows, 1)).astype(np.float32),
        rng.integers(0, 1000, (rows, 1)).astype(np.int32),
        rng.integers(0, 10, rows).astype(np.uint8),
        rng.integers(0, 2**62, rows),
    )


FULL_BLOCK = Block(
    np.array([0, 1, 1], np.uint8),
    np.array([[1.5, -2.25], [np.nan, np.float32(3.4e38)], [-0.0, 1e-45]], np.float32),
    np.array([[0, 127], [128, 2**31 - 1], [2, 1]], np.int32),
    np.array([9, 0, 5], np.uint8),
    np.array([0, 2**62, 300]),
    np.array([0.0, 1.0, 1e6], np.float32),
    np.array([-(2**63), 2**63 - 1, -1]),
    np.array([[0, 1], [1, 0], [1, 1]], np.uint8),
)


def same(left: Block, right: Block) -> bool:
    """Whether two blocks have the same bits and types."""
    return left.encode() == right.encode()


def test_bytes_by_hand() -> None:
    block = Block(
        np.array([1], np.uint8),
        np.array([[1.0]], np.float32),
        np.array([[300]], np.int32),
        np.array([7], np.uint8),
        np.array([129]),
    )
    # Example.features(1) { entry(1) { key(1), value(2) { int64_list(3) or float_list(2) { value(1), packed } } } ... }
    assert encode_rows(block, PLAIN).tobytes() == (
        b"\x0a\x5a"
        b"\x0a\x0e\x0a\x05_fold\x12\x05\x1a\x03\x0a\x01\x07"
        b"\x0a\x19\x0a\x07_offset\x12\x0e\x1a\x0c\x0a\x0a\x81\x81\x80\x80\x80\x80\x80\x80\x80\x00"
        b"\x0a\x0e\x0a\x01c\x12\x09\x1a\x07\x0a\x05\xac\x82\x80\x80\x00"
        b"\x0a\x0e\x0a\x05label\x12\x05\x1a\x03\x0a\x01\x01"
        b"\x0a\x0d\x0a\x01x\x12\x08\x12\x06\x0a\x04\x00\x00\x80\x3f"
    )


def test_protocol_buffers_read_it() -> None:
    from models.backend import tf

    for index, row in enumerate(encode_rows(FULL_BLOCK, FULL)):
        features = tf.train.Example.FromString(row.tobytes()).features.feature
        assert list(features["Z"].float_list.value) == [pytest.approx(FULL_BLOCK.dense[index, 1], nan_ok=True)]
        integers = {name: list(value.int64_list.value) for name, value in features.items() if value.int64_list.value}
        assert integers == {
            "user": [FULL_BLOCK.groups[index]],
            "é" * 70: [FULL_BLOCK.ids[index, 0]],
            "ad": [FULL_BLOCK.ids[index, 1]],
            "clicked": [FULL_BLOCK.labels[index]],
            "bought": [FULL_BLOCK.outcomes[index, 0]],
            "Returned": [FULL_BLOCK.outcomes[index, 1]],
            "_fold": [FULL_BLOCK.folds[index]],
            "_offset": [FULL_BLOCK.offsets[index]],
        }
        assert set(features) == {*integers, "price", "Z", "importance"}


def parse(records: list[bytes], schema: Schema) -> dict[str, np.ndarray]:
    """The features as TensorFlow parses a batch of records."""
    from models.backend import tf

    floats = {*schema.numeric, schema.weight} - {None}
    integers = {schema.label, *schema.outcomes, *schema.categorical, schema.group, "_fold", "_offset"} - {None}
    features = {name: tf.io.FixedLenFeature([], tf.float32) for name in floats}
    features |= {name: tf.io.FixedLenFeature([], tf.int64) for name in integers}
    return {name: value.numpy() for name, value in tf.io.parse_example(records, features).items()}


def test_tensorflow_parses_it() -> None:
    parsed = parse([row.tobytes() for row in encode_rows(FULL_BLOCK, FULL)], FULL)
    assert parsed["clicked"].tolist() == [0, 1, 1]
    assert (parsed["bought"].tolist(), parsed["Returned"].tolist()) == ([0, 1, 1], [1, 0, 1])
    assert parsed["price"].tobytes() == FULL_BLOCK.dense[:, 0].tobytes()
    assert parsed["Z"].tobytes() == FULL_BLOCK.dense[:, 1].tobytes()
    assert parsed["é" * 70].tolist() == [0, 128, 2]
    assert parsed["ad"].tolist() == [127, 2**31 - 1, 1]
    assert parsed["_fold"].tolist() == [9, 0, 5]
    assert parsed["_offset"].tolist() == [0, 2**62, 300]
    assert parsed["importance"].tolist() == [0.0, 1.0, 1e6]
    assert parsed["user"].tolist() == [-(2**63), 2**63 - 1, -1]


def test_tensorflow_reads_a_file_of_criteo_rows(tmp_path: Path) -> None:
    from models.backend import tf

    rng = np.random.default_rng(3)
    rows = BLOCK_ROWS + 1
    block = Block(
        rng.integers(0, 2, rows).astype(np.uint8),
        rng.normal(size=(rows, 13)).astype(np.float32),
        rng.integers(0, 500_000, (rows, 26)).astype(np.int32),
        rng.integers(0, 10, rows).astype(np.uint8),
        rng.integers(0, 2**40, rows),
    )
    path = tmp_path / "shard.tfrecord"
    with open(path, "wb") as file:
        for piece in block.split():
            write_rows(file, piece, CRITEO)
    parsed = parse([record.numpy() for record in tf.data.TFRecordDataset(str(path))], CRITEO)
    assert np.array_equal(np.stack([parsed[name] for name in CRITEO.numeric], axis=1), block.dense)
    assert np.array_equal(np.stack([parsed[name] for name in CRITEO.categorical], axis=1), block.ids)
    assert np.array_equal(parsed["label"], block.labels) and np.array_equal(parsed["_fold"], block.folds)
    assert np.array_equal(parsed["_offset"], block.offsets)
    with open(path, "rb") as file:
        blocks = list(read_rows(file, CRITEO, "shard"))
    assert [len(part) for part in blocks] == [BLOCK_ROWS, 1] and same(Block.concatenate(blocks), block)


def test_the_file_is_that_of_the_plain_writer() -> None:
    stream = io.BytesIO()
    write_rows(stream, FULL_BLOCK, FULL)
    records = list(read_records(io.BytesIO(stream.getvalue()), "stream"))
    assert records == [row.tobytes() for row in encode_rows(FULL_BLOCK, FULL)]


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 100))
def test_round_trip(rows: int, seed: int) -> None:
    stream = io.BytesIO()
    block = plain_block(rows, seed)
    write_rows(stream, block, PLAIN)
    blocks = list(read_rows(io.BytesIO(stream.getvalue()), PLAIN, "stream"))
    assert [len(part) for part in blocks] == ([rows] if rows else [])
    assert all(same(part, block) for part in blocks)


def test_round_trip_of_all_kinds_and_the_largest_values() -> None:
    assert same(decode_rows([row.tobytes() for row in encode_rows(FULL_BLOCK, FULL)], FULL), FULL_BLOCK)


def test_a_row_has_the_same_bytes_in_any_block() -> None:
    block = plain_block(50)
    rows = encode_rows(block, PLAIN)
    some = np.array([7, 3, 49])
    assert np.array_equal(encode_rows(block.take(some), PLAIN), rows[some])


@pytest.mark.parametrize(
    ("damage", "received"),
    [
        (lambda row: row[:-1], "a record of another length"),
        (lambda row: row.replace(b"label", b"lapel"), "a record of other features"),
        (lambda row: row.replace(b"\x1a\x03", b"\x12\x03"), "a record of other features"),
    ],
)
def test_other_records_are_refused(damage: Callable[[bytes], bytes], received: str) -> None:
    rows = [row.tobytes() for row in encode_rows(plain_block(2), PLAIN)]
    with pytest.raises(ArtifactError) as error:
        decode_rows([rows[0], damage(rows[1])], PLAIN, "shard-1")
    assert str(error.value) == f"A record of examples must be a row of the schema. Received: {received} (shard-1)."


@pytest.mark.parametrize("name", ["_fold", "_offset"])
@pytest.mark.parametrize("kind", ["categorical", "key"])
def test_names_that_columns_must_not_have(name: str, kind: str) -> None:
    check_names(PLAIN)
    with pytest.raises(ConfigError) as error:
        check_names(replace(PLAIN, columns=(*PLAIN.columns, Column(name, kind))))
    assert str(error.value) == (
        f"With --layout rows a column must not be called _fold or _offset. Received: {name} (schema)."
    )

"""Targets: bytes that TensorFlow's parser turns into the same arrays, and that survive damage as an error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.blocks import Block
from features.errors import ArtifactError
from features.example import encode_example
from features.targets import TargetBlock

TARGETS = TargetBlock(
    np.array([[0.5, -1.0, 3.25, 1e30], [0.0, -0.0, 2.0, -7.5], [1.0, 2.0, 3.0, 4.0]], np.float32),
    np.array([0, 517, 2**40], np.int64),
    "sha256:0f3a",
)
WITH_EMBEDDING = replace(TARGETS, embedding=np.array([[0.5, -1.0], [65504.0, 6e-8], [0.0, -0.0]], np.float16))
WITH_MEMBERS = replace(WITH_EMBEDDING, members=np.array([[0.5, -1.0], [1e30, 6e-8], [0.0, -0.0]], np.float32))


def assert_same(actual: TargetBlock, expected: TargetBlock) -> None:
    """Equal in dtype, shape and every bit."""
    assert actual.teacher == expected.teacher
    assert (actual.embedding is None) == (expected.embedding is None) and actual.width == expected.width
    assert (actual.members is None) == (expected.members is None)
    embedding = [("embedding", "<f2")] if expected.embedding is not None else []
    members = [("members", "<f4")] if expected.members is not None else []
    for name, dtype in (("logits", "<f4"), ("offsets", "<i8"), *embedding, *members):
        a, b = getattr(actual, name), getattr(expected, name)
        assert a.dtype == b.dtype == np.dtype(dtype)
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 3), st.text(), st.data())
def test_round_trip(rows: int, classes: int, width: int, teacher: str, data: st.DataObject) -> None:
    block = TargetBlock(
        data.draw(hnp.arrays(np.float32, (rows, 2 * classes), elements=st.floats(width=32))),
        data.draw(hnp.arrays(np.int64, rows)),
        teacher,
        data.draw(hnp.arrays(np.float16, (rows, width), elements=st.floats(width=16))) if width else None,
        data.draw(hnp.arrays(np.float32, (rows, classes), elements=st.floats(width=32))) if classes > 1 else None,
    )
    encoded = block.encode()
    assert_same(TargetBlock.decode(encoded), block)
    assert block.encode() == encoded == TargetBlock.decode(encoded).encode()


def test_the_same_logits_give_the_same_bytes_whatever_their_memory_looks_like() -> None:
    other = TargetBlock(np.asfortranarray(TARGETS.logits), np.repeat(TARGETS.offsets, 2)[::2], "sha256:0f3a")
    assert other.encode() == TARGETS.encode()


def test_without_members_there_is_no_trace_of_them() -> None:
    assert b"members" not in WITH_EMBEDDING.encode() and b"members" in WITH_MEMBERS.encode()


def test_without_embeddings_there_is_no_trace_of_them() -> None:
    assert (TARGETS.width, WITH_EMBEDDING.width) == (0, 2)
    assert b"embedding" not in TARGETS.encode() and b"embedding" in WITH_EMBEDDING.encode()


@pytest.mark.parametrize("rows", [np.array([2, 0]), slice(1, None), np.array([], np.int64)])
@pytest.mark.parametrize("width", [0, 2])
def test_rows_are_taken_from_every_array(rows: np.ndarray | slice, width: int) -> None:
    targets = WITH_MEMBERS if width else TARGETS
    taken = targets.take(rows)
    assert len(taken) == len(taken.logits) == len(taken.offsets) == len(TARGETS.offsets[rows])
    np.testing.assert_array_equal(taken.logits, TARGETS.logits[rows])
    np.testing.assert_array_equal(taken.offsets, TARGETS.offsets[rows])
    if targets.embedding is None or targets.members is None:
        assert taken.embedding is None and taken.members is None
    else:
        np.testing.assert_array_equal(taken.embedding, targets.embedding[rows])
        np.testing.assert_array_equal(taken.members, targets.members[rows])
    assert taken.teacher == TARGETS.teacher


def test_tensorflow_parses_the_same_arrays() -> None:
    from models.backend import tf

    names = ("logits", "offset", "teacher")
    parsed = tf.io.parse_single_example(TARGETS.encode(), dict.fromkeys(names, tf.io.FixedLenFeature([], tf.string)))
    logits = tf.reshape(tf.io.decode_raw(parsed["logits"], tf.float32, little_endian=True), [3, 4]).numpy()
    assert logits.tobytes() == TARGETS.logits.tobytes()
    assert tf.io.decode_raw(parsed["offset"], tf.int64).numpy().tolist() == [0, 517, 2**40]
    assert parsed["teacher"].numpy() == b"sha256:0f3a"
    assert sorted(tf.train.Example.FromString(TARGETS.encode()).features.feature) == sorted(names)


@pytest.mark.parametrize(
    "changed",
    [
        {"logits": None},
        {"offset": None},
        {"teacher": None},
        {"logits": bytes(47)},
        {"logits": bytes(52)},
        {"offset": bytes(23)},
        {"offset": b""},
        {"teacher": b"\xff"},
        {"embedding": bytes(7)},
        {"embedding": bytes(8)},
        {"members": bytes(7)},
        {"members": bytes(8)},
    ],
)
def test_features_that_do_not_fit_together_are_an_artifact_error(changed: dict[str, bytes | None]) -> None:
    features = {"logits": TARGETS.logits.tobytes(), "offset": TARGETS.offsets.tobytes(), "teacher": b"t"}
    assert TargetBlock.decode(encode_example(features)).teacher == "t"
    mixed = {name: value for name, value in {**features, **changed}.items() if value is not None}
    with pytest.raises(ArtifactError, match=r"block of logits. Received: .* \(here\)"):
        TargetBlock.decode(encode_example(mixed), "here")


def test_examples_are_not_targets() -> None:
    zero = np.zeros(2, np.uint8)
    block = Block(zero, np.zeros((2, 1), np.float32), np.zeros((2, 1), np.int32), zero, np.arange(2))
    with pytest.raises(ArtifactError, match="block of logits"):
        TargetBlock.decode(block.encode())
    with pytest.raises(ArtifactError, match="block of rows"):
        Block.decode(TARGETS.encode())


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_is_found_or_harmless_but_never_another_exception(data: st.DataObject) -> None:
    record = WITH_MEMBERS.encode()
    start = data.draw(st.integers(0, len(record)))
    end = data.draw(st.integers(start, min(start + 12, len(record))))
    damaged = record[:start] + data.draw(st.binary(max_size=12)) + record[end:]
    try:
        block = TargetBlock.decode(damaged)
    except ArtifactError:
        return
    assert len(block.logits) == len(block.offsets)


def test_every_truncation_is_an_artifact_error() -> None:
    record = WITH_MEMBERS.encode()
    for size in range(len(record)):
        with pytest.raises(ArtifactError):
            TargetBlock.decode(record[:size])


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_garbage_is_an_artifact_error(garbage: bytes) -> None:
    with pytest.raises(ArtifactError):
        TargetBlock.decode(garbage)

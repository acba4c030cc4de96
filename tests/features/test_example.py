"""The wire format of tf.train.Example: bytes by hand, against TensorFlow, and against damage."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.errors import ArtifactError
from features.example import decode_example, encode_example

FEATURES = st.dictionaries(st.text(max_size=10), st.binary(max_size=50), max_size=5)
SMALL = {"ids": b"\x01\x00\x00\x00", "label": b"\x00\x01", "": b"", "é": b"\xff"}


def test_bytes_by_hand() -> None:
    # Example.features(1) { feature(1) { key(1) "a", value(2) { bytes_list(1) { value(1) "xy" } } } }
    assert encode_example({"a": b"xy"}) == b"\x0a\x0d\x0a\x0b\x0a\x01a\x12\x06\x0a\x04\x0a\x02xy"
    assert encode_example({}) == b"\x0a\x00"


@settings(deadline=None)
@given(FEATURES)
@example(SMALL)
def test_round_trip(features: dict[str, bytes]) -> None:
    assert decode_example(encode_example(features)) == features


# Where the length of the value, or of a message around it, needs one more byte.
@pytest.mark.parametrize("size", [0, 1, *range(108, 130), *range(16_365, 16_386), 2**21 - 1, 2**21])
def test_round_trip_of_long_values(size: int) -> None:
    features = {"a": b"\x80" * size, "b": b"!"}
    assert decode_example(encode_example(features)) == features


@settings(deadline=None)
@given(FEATURES, st.randoms())
def test_the_same_features_give_the_same_bytes_in_any_order(features: dict[str, bytes], random: Random) -> None:
    names = list(features)
    random.shuffle(names)
    assert encode_example({name: features[name] for name in names}) == encode_example(features)


def field(tag: int, value: bytes) -> bytes:
    """A length-delimited field, its length written as the base-128 digits of a number, lowest first."""
    digits, rest = [], len(value)
    while rest >= 128:
        rest, digit = divmod(rest, 128)
        digits.append(digit + 128)
    return bytes([tag, *digits, rest]) + value


def message(entries: list[tuple[bytes, bytes]]) -> bytes:
    parts = [field(10, name) + field(18, field(10, field(10, value))) for name, value in entries]
    return field(10, b"".join(field(10, part) for part in parts))


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=300)), max_size=5), st.randoms())
def test_entries_in_any_order_are_read_and_a_name_twice_is_an_error(
    entries: list[tuple[str, bytes]], random: Random
) -> None:
    random.shuffle(entries)
    data = message([(name.encode(), value) for name, value in entries])
    features = dict(entries)
    if len(features) < len(entries):
        with pytest.raises(ArtifactError, match="twice"):
            decode_example(data)
        return
    assert decode_example(data) == features
    assert encode_example(features) == message(sorted((name.encode(), value) for name, value in entries))


def test_tensorflow_reads_the_same() -> None:
    from models.backend import tf

    features = {"offset": bytes(range(256)) * 100, "label": b"\x00\x01", "none": b"", "é": b"\xff\xfe"}
    data = encode_example(features)
    message = tf.train.Example.FromString(data)
    assert {name: list(value.bytes_list.value) for name, value in message.features.feature.items()} == {
        name: [value] for name, value in features.items()
    }
    parsed = tf.io.parse_single_example(data, dict.fromkeys(features, tf.io.FixedLenFeature([], tf.string)))
    assert {name: value.numpy() for name, value in parsed.items()} == features


def test_we_read_what_tensorflow_writes_in_whatever_order() -> None:
    from models.backend import tf

    features = {f"feature_{number}": bytes([number]) * number for number in range(20)}
    message = tf.train.Example()
    for name, value in features.items():
        message.features.feature[name].bytes_list.value.append(value)
    assert decode_example(message.SerializeToString()) == features


def test_features_of_other_kinds_are_refused() -> None:
    from models.backend import tf

    for field, value in (("int64_list", 1), ("float_list", 1.0)):
        message = tf.train.Example()
        getattr(message.features.feature["a"], field).value.append(value)
        with pytest.raises(ArtifactError):
            decode_example(message.SerializeToString())
    message = tf.train.Example()
    message.features.feature["a"].bytes_list.value.extend([b"x", b"y"])
    with pytest.raises(ArtifactError, match="after the last field"):
        decode_example(message.SerializeToString())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a",
        b"\x0a\x80",
        b"\x12\x00",
        b"\x0a\x05abc",
        b"\x0a\x00\x00",
        b"\x0a\x02\x0a\x00",
        b"\x0a\x04\x0a\x02\x0a\x00",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x80\x80\x80\x80\x80\x00",
        b"\x0a\x0d\x0a\x0b\x0a\x01\xff\x12\x06\x0a\x04\x0a\x02xy",
        encode_example({"a": b"xy"}) + b"\x00",
        encode_example({"a": b"xy"}) * 2,
        b"\x0a\x1a" + encode_example({"a": b"xy"})[2:] * 2,
    ],
)
def test_other_bytes_are_an_artifact_error_that_says_where(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"Received: .* \(shard 7, record 3\)"):
        decode_example(data, "shard 7, record 3")


def test_every_truncation_is_an_error() -> None:
    data = encode_example(SMALL)
    for size in range(len(data)):
        with pytest.raises(ArtifactError):
            decode_example(data[:size])


def test_every_changed_byte_gives_features_or_an_artifact_error() -> None:
    data = encode_example(SMALL)
    for position in range(len(data)):
        for value in range(256):
            try:
                decode_example(data[:position] + bytes([value]) + data[position + 1 :])
            except ArtifactError:
                pass


@settings(deadline=None, max_examples=300)
@given(FEATURES, st.data())
def test_damage_gives_features_that_encode_again_or_an_artifact_error(
    features: dict[str, bytes], data: st.DataObject
) -> None:
    whole = encode_example(features)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 5, len(whole))))
    try:
        found = decode_example(whole[:start] + data.draw(st.binary(max_size=5)) + whole[end:])
    except ArtifactError:
        return
    assert decode_example(encode_example(found)) == found


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=100), st.lists(st.sampled_from(b"\x0a\x12\x00\x02\x80\xffa"), max_size=40)))
def test_garbage_gives_features_or_an_artifact_error(garbage: bytes | list[int]) -> None:
    try:
        decode_example(bytes(garbage))
    except ArtifactError:
        pass


def test_a_length_without_end_is_refused_at_once() -> None:
    started = time.perf_counter()
    with pytest.raises(ArtifactError, match="length"):
        decode_example(b"\x0a" + b"\xff" * 5_000_000)
    assert time.perf_counter() - started < 1.0

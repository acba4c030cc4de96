"""SipHash of many values against the published vectors and TensorFlow's implementation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.siphash import KEY, hash_buckets, siphash
from models.backend import tf

# Aumasson and Bernstein: key 00 01 ... 0f, messages of 0 to 15 bytes 00 01 ..., as the bytes of the result.
VECTORS = """
310e0edd47db6f72 fd67dc93c539f874 5a4fa9d909806c0d 2d7efbd796666785
b7877127e09427cf 8da699cd64557618 cee3fe586e46c9cb 37d1018bf50002ab
6224939a79f5f593 b0e4a90bdf82009e f3b9dd94c5bb5d7a a7ad6b22462fb3f4
fbe50e86bc8f1e75 903d84c02756ea14 eef27a8e90ca23f7 e545be4961ca29a1
"""
BUCKETS = (1, 2, 7, 1000, 1 << 20, (1 << 31) - 1)


def binary(values: list[bytes]) -> pa.BinaryArray:
    return pa.array(values, pa.binary())


def by_tensorflow(values: list[bytes], buckets: int) -> list[int]:
    hashed = tf.strings.to_hash_bucket_strong(tf.constant(values, tf.string), buckets, list(KEY))
    found: list[int] = hashed.numpy().tolist()
    return found


def random_values(seed: int, number: int = 700) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(size) for size in rng.integers(0, 101, number)]


def test_published_vectors() -> None:
    expected = [int.from_bytes(bytes.fromhex(text), "little") for text in VECTORS.split()]
    assert siphash(binary([bytes(range(size)) for size in range(16)])).tolist() == expected
    assert siphash(binary([])).tolist() == []
    assert siphash(binary([b""])).tolist() == expected[:1]


@pytest.mark.parametrize("buckets", BUCKETS)
def test_buckets_are_those_of_tensorflow(buckets: int) -> None:
    values = random_values(buckets)
    found = hash_buckets(binary(values), buckets)
    assert found.dtype == np.int32
    assert found.tolist() == by_tensorflow(values, buckets)


def test_every_length() -> None:
    """Whole words and tails of each size, the length's byte running over, values of many words among short ones."""
    values = [bytes([size % 251]) * size for size in [*range(300), 5000, 8, 70_000, 0]]
    assert hash_buckets(binary(values), 10**9).tolist() == by_tensorflow(values, 10**9)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=12), st.integers(1, 2**31 - 1))
def test_any_values(values: list[bytes], buckets: int) -> None:
    assert hash_buckets(binary(values), buckets).tolist() == by_tensorflow(values, buckets)


@pytest.mark.parametrize(("start", "length"), [(0, 5), (1, 698), (350, 350), (699, 1), (300, 0), (700, 0)])
def test_slices(start: int, length: int) -> None:
    values = random_values(0)
    part = binary(values).slice(start, length)
    assert siphash(part).tolist() == siphash(binary(values))[start : start + length].tolist()
    assert hash_buckets(part, 97).tolist() == by_tensorflow(values[start : start + length], 97)


def test_a_value_has_one_hash_wherever_it_stands() -> None:
    values = [b"", b"a", b"a\0", b"\0", b"a" * 8, b"a" * 9, "été".encode()]
    alone = [int(siphash(binary([value]))[0]) for value in values]
    assert len(set(alone)) == len(values)
    assert siphash(binary(values[::-1])).tolist() == alone[::-1]


def test_hashing_leaves_the_values_as_they_are() -> None:
    values = binary(random_values(1, 50))
    before = values.to_pylist()
    siphash(values)
    assert values.to_pylist() == before


def test_buckets_fill_evenly() -> None:
    found = hash_buckets(binary([b"%d" % number for number in range(20_000)]), 10)
    # 2000 each with a deviation of 42: none beyond five of them.
    assert np.abs(np.bincount(found, minlength=10) - 2000).max() < 210

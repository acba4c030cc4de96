"""SipHash-2-4 (Aumasson and Bernstein 2012) of many texts at once: buckets for values outside a vocabulary.

TensorFlow's ``to_hash_bucket_strong`` with the same key gives the same buckets, and so does an exported model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
"""The key of the published test vectors. It is no secret: buckets must be the same in every run."""

_INITIAL = np.array([0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573], np.uint64)
_TAILS = np.array([(1 << 8 * size) - 1 for size in range(8)], np.uint64)


def siphash(values: pa.BinaryArray) -> npt.NDArray[np.uint64]:
    """Hashes of values: binary [n] without nulls to uint64 [n]."""
    lengths = pc.binary_length(values).to_numpy()
    # The longest first, so that the values that still have a word are the first ones.
    order = np.argsort(-lengths, kind="stable")
    sizes = lengths[order].astype(np.int64)
    windows, starts = _windows(values)
    starts, words = starts[order], sizes // 8
    state = np.repeat((_INITIAL ^ np.array(KEY * 2, np.uint64))[:, np.newaxis], len(order), axis=1)
    for number in range(int(words.max(initial=0))):
        going = int(np.searchsorted(-words, -number))
        _absorb(state[:, :going], windows[starts[:going] + 8 * number])
    tails = windows[starts + 8 * words] & _TAILS[sizes % 8]
    _absorb(state, tails | (sizes % 256).astype(np.uint64) << np.uint64(56))
    state[2] ^= np.uint64(0xFF)
    _mix(state, 4)
    hashes = np.empty(len(order), np.uint64)
    hashes[order] = np.bitwise_xor.reduce(state)
    return hashes


def hash_buckets(values: pa.BinaryArray, buckets: int) -> npt.NDArray[np.int32]:
    """The bucket in [0, buckets) of each value: binary [n] to int32 [n]."""
    return (siphash(values) % np.uint64(buckets)).astype(np.int32)


def _windows(values: pa.BinaryArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The eight bytes from every byte on as a little-endian number, and where each value begins: int64 [n]."""
    _, offsets, data = values.buffers()
    if not len(values) or data is None:
        return np.zeros(1, np.uint64), np.zeros(len(values), np.int64)
    limits = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    used = np.frombuffer(data, np.uint8)[limits[0] : limits[-1]]
    padded = np.concatenate([used, np.zeros(8, np.uint8)])
    return np.ndarray(len(padded) - 7, "<u8", padded, strides=(1,)), limits[:-1] - limits[0]


def _absorb(state: npt.NDArray[np.uint64], words: npt.NDArray[np.uint64]) -> None:
    """Takes a word a value into the state [4, n], in place."""
    state[3] ^= words
    _mix(state, 2)
    state[0] ^= words


def _mix(state: npt.NDArray[np.uint64], rounds: int) -> None:
    a, b, c, d = state
    for _ in range(rounds):
        a += b
        c += d
        _rotate(b, 13, a)
        _rotate(d, 16, c)
        _rotate(a, 32)
        c += b
        a += d
        _rotate(b, 17, c)
        _rotate(d, 21, a)
        _rotate(c, 32)


def _rotate(word: npt.NDArray[np.uint64], bits: int, other: npt.NDArray[np.uint64] | None = None) -> None:
    """Rotates to the left, then takes in the other word, in place."""
    low = word >> np.uint64(64 - bits)
    word <<= np.uint64(bits)
    word |= low
    if other is not None:
        word ^= other

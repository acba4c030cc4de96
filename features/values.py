"""Arrays of text values as numbers: what makes sorting, finding and unifying millions of them fast.

A value of at most eight bytes is one number; longer ones go through Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.hashing import mix

WORD_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
"""What is left of a little-endian number when only its first 0 to 8 bytes count."""
_NO_SALT, _TAIL_SALT = np.uint64(0), np.uint64(1)


def words(values: pa.BinaryArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """The first eight bytes of each value as a little-endian number, filled up with zeros.

    Returns:
        the numbers, uint64 [n]; which of them stand for one value only, bool [n]: those of at most eight bytes that do
        not end with a zero byte.
    """
    lengths = pc.binary_length(values).to_numpy()
    _, offsets, data = values.buffers()
    if not len(lengths) or data is None:
        return np.zeros(len(lengths), np.uint64), np.ones(len(lengths), bool)
    starts = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(lengths)]
    first, last = int(starts[0]), int(starts[-1]) + int(lengths[-1])
    padded = np.frombuffer(data[first:last].to_pybytes() + bytes(8), np.uint8)
    windows = np.ndarray(len(padded) - 7, "<u8", padded, strides=(1,))
    numbers = windows[starts - first] & WORD_MASKS[np.minimum(lengths, 8)]
    return numbers, (lengths <= 8) & ((lengths == 0) | (numbers > WORD_MASKS[np.clip(lengths - 1, 0, 8)]))


def from_words(numbers: npt.NDArray[np.uint64]) -> pa.BinaryArray:
    """The values of at most eight bytes, none of them zero, that :func:`words` makes into these numbers: binary [n]."""
    lengths = np.searchsorted(WORD_MASKS, numbers)
    used = np.arange(8) < lengths[:, np.newaxis]
    data = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[used]
    limits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(numbers), [None, pa.py_buffer(limits), pa.py_buffer(data)])


def order_keys(values: pa.BinaryArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Numbers that spread values evenly over 64 bits, the same for equal values.

    Returns:
        the numbers, uint64 [n]; which of them stand for one value only, bool [n].
    """
    numbers, exact = words(values)
    if not exact.all():
        # Values that begin alike must not all come to lie together.
        rest = np.flatnonzero(~exact)
        tails = words(pc.binary_slice(values.take(pa.array(rest)), -8))[0]
        numbers[rest] ^= mix(tails.view(np.int64), _TAIL_SALT)
    return mix(numbers.view(np.int64), _NO_SALT), exact


def number(values: pa.BinaryArray) -> tuple[npt.NDArray[np.int32], pa.BinaryArray]:
    """Numbers values, equal ones alike, in the order of their :func:`order_keys`, then of their bytes.

    Returns:
        the number of each value, int32 [n]; the distinct values, binary [highest number + 1].
    """
    keys, exact = order_keys(values)
    if exact.all():
        return _number(values, np.argsort(keys), keys)
    table = pa.table({"key": keys, "value": values})
    order = pc.sort_indices(table, [("key", "ascending"), ("value", "ascending")]).to_numpy()
    return _number(values, order, values.dictionary_encode().indices.to_numpy())


def _number(
    values: pa.Array, order: npt.NDArray[np.int64], identity: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int32], pa.Array]:
    """The same for values in a given order; ``identity`` is the same for equal values only."""
    ordered = identity[order]
    new = np.ones(len(order), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    numbers = np.empty(len(order), np.int32)
    numbers[order] = np.cumsum(new, dtype=np.int32) - 1
    return numbers, values.take(pa.array(order[new]))


def unify(columns: Sequence[pa.DictionaryArray]) -> pa.DictionaryArray:
    """One array of all columns, with one dictionary of distinct values in the order of :func:`number`.

    Args:
        columns: dictionary arrays of int32 codes and binary values, without nulls.

    Returns:
        a dictionary array of codes of the smallest type.
    """
    values = pa.concat_arrays([pa.array([], pa.binary()), *(column.dictionary for column in columns)])
    return _renumber(columns, *number(values))


def unify_numbers(columns: Sequence[pa.DictionaryArray]) -> pa.DictionaryArray:
    """The same for float32 values, distinct by their bits."""
    values = pa.concat_arrays([pa.array([], pa.float32()), *(column.dictionary for column in columns)])
    bits = values.to_numpy().view(np.uint32)
    return _renumber(columns, *_number(values, np.argsort(bits), bits))


def _renumber(
    columns: Sequence[pa.DictionaryArray], numbers: npt.NDArray[np.int32], distinct: pa.Array
) -> pa.DictionaryArray:
    """The columns one after another, given the new codes of the values of all their dictionaries."""
    dtype = next(kind for kind in (np.int8, np.int16, np.int32) if len(distinct) <= np.iinfo(kind).max)
    codes = numbers.astype(dtype)
    starts = np.cumsum([0, *(len(column.dictionary) for column in columns)])
    parts = [codes[start:].take(column.indices) for start, column in zip(starts, columns, strict=False)]
    return pa.DictionaryArray.from_arrays(pa.array(np.concatenate(parts or [codes])), distinct)


def by_bytes(values: pa.BinaryArray) -> npt.NDArray[np.int64]:
    """The order of distinct values by their bytes: int64 [n]."""
    numbers, exact = words(values)
    if exact.all():
        return np.argsort(numbers.byteswap())
    order: npt.NDArray[np.int64] = pc.sort_indices(values).to_numpy().astype(np.int64)
    return order


class ValueIndex:
    """Finds the places of values among distinct ones; made once, asked for every shard.

    Values of at most eight bytes are found by a binary search among sorted numbers; it is fastest where the wanted ones
    are in the order of :func:`unify`. Arrow finds the longer ones, but it makes a new hash table at each call.

    Args:
        values: binary [size], distinct.
    """

    def __init__(self, values: pa.BinaryArray) -> None:
        keys, exact = order_keys(values)
        places = np.flatnonzero(exact)
        order = np.argsort(keys[places])
        self._keys, self._places = keys[places][order], places[order].astype(np.int32)
        self._long_places = np.flatnonzero(~exact).astype(np.int32)
        self._long = values.take(pa.array(self._long_places))

    def find(self, values: pa.BinaryArray) -> npt.NDArray[np.int32]:
        """Places of values (binary [n]), -1 for those that are not there: int32 [n]."""
        keys, exact = order_keys(values)
        found = np.full(len(values), -1, np.int32)
        if len(self._keys):
            near = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            hits = exact & (self._keys[near] == keys)
            found[hits] = self._places[near[hits]]
        rest = np.flatnonzero(~exact)
        if len(self._long) and len(rest):
            places = pc.fill_null(pc.index_in(values.take(pa.array(rest)), value_set=self._long), -1).to_numpy()
            found[rest[places >= 0]] = self._long_places[places[places >= 0]]
        return found

"""Arrays of text values: numbers, unions and lookups against Python's dictionaries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.hashing import mix
from features.values import ValueIndex, by_bytes, from_words, number, order_keys, unify, unify_numbers, words

# Short and long values; values that differ only in their zero bytes, beyond the eighth byte or before the last eight.
NASTY = [b"", b"a", b"A", b"12345678", b"123456789", "é".encode(), b"\xff", b"\xff" * 8, b" ", b"\0", b"a\0", b"\0a"]
ALIKE = [b"12345678" + middle + b"abcdefgh" for middle in (b"", b"x", b"y", b"xy", b"\0")]
VALUES = st.one_of(
    st.sampled_from([*NASTY, *ALIKE]),
    st.binary(max_size=3),
    st.text(max_size=6).map(str.encode),
    st.lists(st.sampled_from(b"\0\x01a"), max_size=10).map(bytes),
    st.tuples(st.sampled_from([b"1234567", b"12345678", b"\xff" * 8]), st.binary(max_size=12)).map(b"".join),
)
SHORT = st.binary(max_size=8).filter(lambda value: not value.endswith(b"\0"))


def binary(values: Sequence[bytes]) -> pa.BinaryArray:
    return pa.array(values, pa.binary())


def encoded(values: Sequence[bytes], unused: Sequence[bytes] = ()) -> pa.DictionaryArray:
    """A dictionary array in the order of first occurrence, behind values that no row has."""
    distinct = list(dict.fromkeys([*unused, *values]))
    codes = pa.array([distinct.index(value) for value in values], pa.int32())
    return pa.DictionaryArray.from_arrays(codes, binary(distinct))


def key_alone(value: bytes) -> int:
    return int(order_keys(binary([value]))[0][0])


def in_order(values: Sequence[bytes]) -> list[bytes]:
    return sorted(set(values), key=lambda value: (key_alone(value), value))


@settings(deadline=None)
@given(st.lists(VALUES, max_size=30), st.integers(0, 3))
@example([b"", b""], 0)
def test_words_are_the_first_eight_bytes(values: list[bytes], skip: int) -> None:
    around = [b"other value"] * skip
    numbers, exact = words(binary([*around, *values, *around]).slice(skip, len(values)))
    assert numbers.dtype == np.uint64 and exact.dtype == bool
    assert numbers.tolist() == [int.from_bytes(value[:8], "little") for value in values]
    assert exact.tolist() == [len(value) <= 8 and not value.endswith(b"\0") for value in values]


@settings(deadline=None)
@given(st.lists(SHORT, max_size=30))
def test_short_values_come_back_from_their_words(values: list[bytes]) -> None:
    numbers = np.array([int.from_bytes(value, "little") for value in values], np.uint64)
    back = from_words(numbers)
    back.validate(full=True)
    assert back.type == pa.binary() and back.to_pylist() == values


@settings(deadline=None)
@given(st.lists(VALUES, max_size=30))
def test_an_order_key_depends_on_the_value_alone(values: list[bytes]) -> None:
    keys, exact = order_keys(binary(values))
    assert keys.tolist() == [key_alone(value) for value in values]
    held: dict[int, set[bytes]] = {}
    for value, key in zip(values, keys.tolist(), strict=True):
        held.setdefault(key, set()).add(value)
    for value, key, one in zip(values, keys.tolist(), exact.tolist(), strict=True):
        assert not one or {other for other in held[key] if len(other) <= 8 and not other.endswith(b"\0")} == {value}


@pytest.mark.parametrize("form", ["%d", "%08x", "https://example.org/%d", "%d/some/very/long/path/indeed"])
def test_order_keys_are_spread_evenly(form: str) -> None:
    keys, _ = order_keys(binary([(form % value).encode() for value in range(16_000)]))
    counts = np.bincount((keys >> np.uint64(60)).astype(np.int64), minlength=16)
    # 1000 a part are expected, with a standard deviation of 31.
    assert len(set(keys.tolist())) == 16_000 and counts.min() > 850 and counts.max() < 1150


@settings(deadline=None, max_examples=200)
@given(st.lists(VALUES, max_size=30), st.integers(0, 2))
def test_number_against_a_dictionary(values: list[bytes], skip: int) -> None:
    around = [b"xyz"] * skip
    numbers, distinct = number(binary([*around, *values, *around]).slice(skip, len(values)))
    assert numbers.dtype == np.int32 and distinct.type == pa.binary()
    order = in_order(values)
    assert distinct.to_pylist() == order
    places = {value: place for place, value in enumerate(order)}
    assert numbers.tolist() == [places[value] for value in values]


COLUMNS = st.lists(st.tuples(st.lists(VALUES, max_size=12), st.lists(VALUES, max_size=3)), max_size=5)


@settings(deadline=None, max_examples=200)
@given(COLUMNS)
def test_unify_gives_all_rows_with_one_dictionary(columns: list[tuple[list[bytes], list[bytes]]]) -> None:
    whole = unify([encoded(values, unused) for values, unused in columns])
    assert whole.to_pylist() == [value for values, _ in columns for value in values]
    assert whole.dictionary.to_pylist() == in_order([value for both in columns for part in both for value in part])
    assert whole.null_count == 0 and whole.type.value_type == pa.binary()


def test_unify_of_many_long_and_short_values() -> None:
    rng = np.random.default_rng(0)
    columns = [[b"%d" % n * (1 + n % 3) for n in rng.integers(0, 20_000, 5000)] for _ in range(4)]
    whole = unify([encoded_by_arrow(column) for column in columns])
    assert whole.to_pylist() == sum(columns, [])
    assert len(set(whole.dictionary.to_pylist())) == len(whole.dictionary) == len(set(sum(columns, [])))


def encoded_by_arrow(values: Sequence[bytes]) -> pa.DictionaryArray:
    return binary(values).dictionary_encode()


@pytest.mark.parametrize(("size", "code"), [(127, pa.int8()), (128, pa.int16()), (32768, pa.int32())])
def test_codes_have_the_smallest_type(size: int, code: pa.DataType) -> None:
    values = [b"%d" % index for index in range(size)]
    whole = unify([encoded_by_arrow(values), encoded_by_arrow(values[::-1])])
    assert whole.type.index_type == code and whole.to_pylist() == values + values[::-1]


FLOATS = st.lists(st.floats(width=32), max_size=12)


@settings(deadline=None)
@given(st.lists(FLOATS, max_size=4))
def test_unify_numbers_keeps_every_bit(columns: list[list[float]]) -> None:
    arrays = [np.array(column, np.float32) for column in columns]
    # A value a row: those of the dictionary may be equal.
    parts = [pa.DictionaryArray.from_arrays(pa.array(np.arange(len(a), dtype=np.int32)), pa.array(a)) for a in arrays]
    whole = unify_numbers(parts)
    bits = np.concatenate([np.empty(0, np.float32), *arrays]).view(np.uint32)
    distinct = whole.dictionary.to_numpy().view(np.uint32)
    assert distinct[whole.indices.to_numpy().astype(int)].tolist() == bits.tolist()
    assert sorted(distinct.tolist()) == sorted(set(bits.tolist()))


def test_unify_of_nothing() -> None:
    assert unify([]).to_pylist() == unify([encoded([])]).to_pylist() == []
    assert unify_numbers([]).dictionary.type == pa.float32() and unify([]).dictionary.type == pa.binary()


@settings(deadline=None)
@given(st.lists(VALUES, unique=True, max_size=30))
def test_by_bytes_is_the_order_of_python(values: list[bytes]) -> None:
    assert [values[place] for place in by_bytes(binary(values))] == sorted(values)


@settings(deadline=None)
@given(st.lists(SHORT, unique=True, max_size=30))
def test_by_bytes_of_short_values_only(values: list[bytes]) -> None:
    assert [values[place] for place in by_bytes(binary(values))] == sorted(values)


@settings(deadline=None, max_examples=200)
@given(st.lists(VALUES, max_size=30), st.lists(VALUES, unique=True, max_size=30), st.integers(0, 3))
def test_find_against_a_dictionary(values: list[bytes], known: list[bytes], skip: int) -> None:
    places = {value: place for place, value in enumerate(known)}
    expected = [places.get(value, -1) for value in values]
    around = [b"xyz"] * skip
    index = ValueIndex(binary([*around, *known]).slice(skip))
    asked = binary([*around, *values, *around]).slice(skip, len(values))
    # One index answers many questions.
    for _ in range(2):
        found = index.find(asked)
        assert found.dtype == np.int32 and found.tolist() == expected
    assert index.find(binary(known)).tolist() == list(range(len(known)))


@pytest.mark.parametrize("forms", [("%08x",), ("%x",), ("id %d of many",), ("%x", "id %d of many")])
def test_find_among_many(forms: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.permutation(np.unique(rng.integers(0, 2**32, 7000)))
    texts = [(forms[place % len(forms)] % value).encode() for place, value in enumerate(numbers.tolist())]
    known, asked = texts[:5000], [*texts[::3], b"", b"longer than 8"]
    places = {value: place for place, value in enumerate(known)}
    assert ValueIndex(binary(known)).find(binary(asked)).tolist() == [places.get(value, -1) for value in asked]


def test_a_long_value_with_the_key_of_a_short_one() -> None:
    """An attacker's value: found by no chance, but it must not be taken for the other one."""
    start, end = b"12345678", b"abcdefgh"
    tail = mix(np.array([int.from_bytes(end, "little")], np.int64), np.uint64(1))
    short = int(tail[0] ^ np.uint64(int.from_bytes(start, "little"))).to_bytes(8, "little")
    values = [start + end, short, start + b"middle" + end, b"a", short]
    assert len({key_alone(value) for value in values}) == 2
    numbers, distinct = number(binary(values))
    assert [distinct[place].as_py() for place in numbers] == values and len(distinct) == 4
    assert ValueIndex(binary([b"a", short])).find(binary(values)).tolist() == [-1, 1, -1, 0, 1]
    assert ValueIndex(binary(values[:3])).find(binary(values)).tolist() == [0, 1, 2, -1, 1]

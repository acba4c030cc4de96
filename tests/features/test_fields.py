"""Delimited lines taken apart, against ``bytes.split``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.fields import Fields


def lines_of(data: bytes) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in data.removesuffix(b"\n").split(b"\n")]


def expected(data: bytes, delimiter: str, fields: int) -> list[list[bytes]] | None:
    """The fields of every line; None where a line has another number of them."""
    found = [line.split(delimiter.encode()) for line in lines_of(data)]
    return found if all(len(line) == fields for line in found) else None


def received(data: bytes, delimiter: str, fields: int) -> list[list[bytes]] | None:
    found = Fields.find(data, delimiter, fields)
    if found is None:
        return None
    assert found.starts.shape == found.lengths.shape == (len(found), fields)
    assert found.starts.dtype == found.lengths.dtype == np.int64
    columns = []
    for index in range(fields):
        column = found.column(index)
        column.validate(full=True)
        assert column.type == pa.dictionary(pa.int32(), pa.binary()) and column.null_count == 0
        assert len(set(column.dictionary.to_pylist())) == len(column.dictionary)
        columns.append(column.to_pylist())
    return [list(row) for row in zip(*columns, strict=True)]


def data_of(field: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[bytes, str, int]]:
    """Lines of 2 or 3 fields, now and then of one more or less, with either line end, the last one perhaps without."""

    @st.composite
    def draw(draw: st.DrawFn) -> tuple[bytes, str, int]:
        delimiter, fields = draw(st.sampled_from("\t,|; a")), draw(st.integers(2, 3))
        sizes = st.sampled_from([fields] * draw(st.sampled_from([3, 1000])) + [fields - 1, fields + 1, 1])
        line = sizes.flatmap(lambda size: st.lists(field, min_size=size, max_size=size))
        lines = draw(st.lists(st.tuples(line, st.sampled_from([b"\n", b"\n", b"\r\n"])), min_size=1, max_size=6))
        data = b"".join(delimiter.encode().join(line) + end for line, end in lines)
        return data[: len(data) - draw(st.integers(0, 2))] or b"\n", delimiter, fields

    return draw()


WORDS = st.sampled_from([b"", b"x", b"1234567", b"12345678", b"123456789", b"12345678 and more", "é😀".encode()])


@settings(deadline=None, max_examples=300)
@given(data_of(WORDS))
@example((b"x\t", "\t", 2))
@example((b"x\ty\r", "\t", 2))
@example((b"x\t\r\n\t\r\n", "\t", 2))
@example((b"x\n\ty\n", "\t", 2))
@example((b"x\ty\n\n", "\t", 2))
@example((b"x\ty\tz\nx\n", "\t", 2))
@example((b"\n\n\n", "\t", 3))
def test_fields_against_split(case: tuple[bytes, str, int]) -> None:
    assert received(*case) == expected(*case)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([b"\t", b"\t", b"\n", b"\r\n", b"\r", b"a", b"long enough"]), min_size=1),
    st.integers(2, 4),
)
def test_any_data_against_split(parts: list[bytes], fields: int) -> None:
    data = b"".join(parts)
    assert received(data, "\t", fields) == expected(data, "\t", fields)


@pytest.mark.parametrize("size", range(7, 18))
def test_values_of_the_length_of_a_word_and_more(size: int) -> None:
    values = [b"x" * size, b"x" * (size - 1) + b"y", b"y" + b"x" * (size - 1), b"x" * (size - 1), b"", b"x" * size]
    data = b"".join(b"1\t%s\t%s\n" % (value, value[:3]) for value in values)
    assert received(data, "\t", 3) == [[b"1", value, value[:3]] for value in values]


@pytest.mark.parametrize(
    ("data", "longest"),
    [(b"a\tb\n", 3), (b"a\tb\r\n", 3), (b"a\tb\n\t\n", 3), (b"a\tb\nlonger\tb", 8), (b"\t", 1), (b"\t\r", 1)],
)
def test_the_longest_line_is_without_its_end(data: bytes, longest: int) -> None:
    fields = Fields.find(data, "\t", 2)
    assert fields is not None and fields.longest_line == longest


def test_starts_are_places_in_the_data() -> None:
    fields = Fields.find(b"ab,c\r\n,d", ",", 2)
    assert fields is not None and len(fields) == 2
    assert fields.starts.tolist() == [[0, 3], [6, 7]] and fields.lengths.tolist() == [[2, 1], [0, 1]]

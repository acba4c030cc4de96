"""Lines counted by their newlines, apart from the parser."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from line_ranges import read_chunks

from features.lines import BYTE_ORDER_MARK
from pipeline import verify_log
from pipeline.verify_log import LineStarts, RowNumbers

LOGS = st.lists(st.sampled_from([b"\n", b"a", b"bc\r\n", b"\r", BYTE_ORDER_MARK]), max_size=20).map(b"".join)


def starts_by_hand(data: bytes, begin: int = 0) -> list[int]:
    """Where the lines start: at the beginning, and behind each newline."""
    return [place for place in range(begin, len(data)) if place == begin or data[place - 1 : place] == b"\n"]


@given(LOGS, st.lists(st.integers(0, 40), max_size=6), st.integers(3, 9), st.booleans())
def test_starts(data: bytes, ends: list[int], read: int, header: bool) -> None:
    bounds = [0, *sorted(ends), 1 << 62]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_log, "_READ", read)
        lines = LineStarts(io.BytesIO(data), header)
        given = [lines.before(end).tolist() for end in bounds[1:]]
    expected = starts_by_hand(data, 3 if data.startswith(BYTE_ORDER_MARK) else 0)[int(header) :]
    assert given == [[start for start in expected if low <= start < high] for low, high in itertools.pairwise(bounds)]


@given(LOGS)
def test_starts_are_those_that_the_reader_finds(data: bytes) -> None:
    chunks = [chunk for _, chunk in read_chunks(io.BytesIO(data), [(0, len(data))], 5)]
    found = [chunk.offset + start for chunk in chunks for start in starts_by_hand(chunk.data)]
    assert LineStarts(io.BytesIO(data), False).before(len(data)).tolist() == found


def test_a_line_belongs_to_the_range_of_its_first_byte() -> None:
    lines = LineStarts(io.BytesIO(b"ab\ncd\nef"), False)
    assert [lines.before(end).tolist() for end in (0, 1, 3, 4, 7, 8)] == [[], [0], [], [3], [6], []]


def test_rows_of_a_parquet_file() -> None:
    rows = RowNumbers(5)
    assert [rows.before(end).tolist() for end in (2, 2, 4, 9, 9)] == [[0, 1], [], [2, 3], [4], []]
    assert rows.before(0).dtype == np.int64

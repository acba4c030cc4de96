import gzip
import io
from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_ranges import read_chunks

from features import lines
from features.lines import Chunk, LineReader


class ForwardOnly(io.RawIOBase):
    """A stream that cannot seek and answers with fewer bytes than were asked for."""

    def __init__(self, data: bytes, most: int = 5) -> None:
        self._inner = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, self._most))


def streams(data: bytes) -> list[io.IOBase]:
    return [io.BytesIO(data), ForwardOnly(data), gzip.open(io.BytesIO(gzip.compress(data)))]


def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    """(offset, line with its newline), found a byte at a time."""
    found, start = [], 3 if data.startswith(b"\xef\xbb\xbf") else 0
    for position in range(start, len(data)):
        if data[position] == 10:
            found.append((start, data[start : position + 1]))
            start = position + 1
    return found + ([(start, data[start:])] if start < len(data) else [])


def expected(data: bytes, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int, bytes]]:
    return [
        (index, offset, line)
        for index, (start, end) in enumerate(ranges)
        for offset, line in lines_of(data)
        if start <= offset < end
    ]


def received(stream: io.IOBase, ranges: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int, bytes]]:
    result = []
    for index, chunk in read_chunks(stream, ranges, size):
        # The newline in front keeps `lines_of` from taking a byte order mark in the middle of a file as one.
        inside = lines_of(b"\n" + chunk.data)[1:]
        assert chunk.truncated_bytes == 0 and inside
        assert len(chunk.data) - len(inside[-1][1]) < size
        result += [(index, chunk.offset + start - 1, line) for start, line in inside]
    return result


contents = st.builds(
    lambda mark, parts: mark + b"".join(parts),
    st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
    st.lists(
        st.sampled_from([b"\n", b"\n", b"\r\n", b"a", b"bc\n", b"defghijklmnopqrs", b"1234567\n", b"\xef\xbb\xbf"])
    ),
)
cuts = st.lists(st.integers(0, 120), min_size=2, max_size=9).map(sorted)
sizes = st.integers(1, 60)


@settings(deadline=None)
@given(contents, cuts, sizes, st.integers(1, 9))
def test_any_cut_and_any_chunk_size_give_every_line_once(data, bounds, size, slack):
    ranges = list(zip([0, *bounds], [*bounds, 10**9], strict=True))
    with mock.patch.object(lines, "_SLACK_BYTES", slack):
        for stream in streams(data):
            found = received(stream, ranges, size)
            assert found == expected(data, ranges)
            assert [(offset, line) for _, offset, line in found] == lines_of(data)


@settings(deadline=None)
@given(contents, cuts, sizes, st.integers(1, 9))
def test_ranges_with_gaps(data, bounds, size, slack):
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    with mock.patch.object(lines, "_SLACK_BYTES", slack):
        for stream in streams(data):
            assert received(stream, ranges, size) == expected(data, ranges)


@settings(deadline=None)
@given(contents, cuts, sizes, st.integers(1, 9))
def test_a_long_line_comes_alone_and_cut(data, bounds, size, slack):
    ranges = list(zip([0, *bounds], [*bounds, 10**9], strict=True))
    wanted = []
    for index, offset, line in expected(data, ranges):
        dropped = len(line.removesuffix(b"\n")) - 7
        wanted.append((index, offset, line[:7], dropped) if dropped > 0 else (index, offset, line, 0))
    for stream in streams(data):
        found = []
        with mock.patch.multiple(lines, MAX_KEPT_LINE_BYTES=7, _SLACK_BYTES=slack):
            for index, chunk in read_chunks(stream, ranges, size):
                if chunk.truncated_bytes:
                    found.append((index, chunk.offset, chunk.data, chunk.truncated_bytes))
                else:
                    found += [(index, chunk.offset + at - 1, x, 0) for at, x in lines_of(b"\n" + chunk.data)[1:]]
        assert found == wanted


@pytest.mark.parametrize(
    ("data", "ranges", "result"),
    [
        (b"", [(0, 9)], []),
        (b"\xef\xbb\xbf", [(0, 9)], []),
        (b"\xef\xbb\xbfa\nb\n", [(0, 9)], [(0, 3, b"a\nb\n")]),
        (b"\xef\xbb\xbfa\nb\n", [(0, 2), (2, 4), (4, 9)], [(1, 3, b"a\n"), (2, 5, b"b\n")]),
        (b"\xef\xbb\xbfa\nb\n", [(3, 9)], [(0, 3, b"a\nb\n")]),
        (b"\xef\xbb\xbfa\nb\n", [(4, 9)], [(0, 5, b"b\n")]),
        (b"a\nb", [(0, 1), (1, 9)], [(0, 0, b"a\n"), (1, 2, b"b")]),
        (b"aa\nbb\n", [(0, 3), (3, 6)], [(0, 0, b"aa\n"), (1, 3, b"bb\n")]),
        (b"aa\nbb\n", [(0, 4), (4, 6)], [(0, 0, b"aa\nbb\n")]),
        (
            b"a" * 20 + b"\nb\n",
            [(0, 5), (5, 9), (9, 20), (20, 99)],
            [(0, 0, b"a" * 20 + b"\n"), (3, 21, b"b\n")],
        ),
        (b"aa\nbb\n", [(2, 3), (3, 3), (3, 4)], [(2, 3, b"bb\n")]),
        (b"aa\n", [(5, 9)], []),
        (b"\r\n\n", [(0, 9)], [(0, 0, b"\r\n\n")]),
    ],
)
def test_cases(data, ranges, result):
    for stream in streams(data):
        assert [(i, chunk.offset, chunk.data) for i, chunk in read_chunks(stream, ranges)] == result


def test_a_line_of_10_mb_is_kept_whole_and_one_of_20_mb_is_cut():
    data = b"a\n" + b"x" * 10_000_000 + b"\nb\n" + b"y" * 20_000_000 + b"\nc\n"
    kept = lines.MAX_KEPT_LINE_BYTES
    wanted = [
        Chunk(0, data[:2]),
        Chunk(2, b"x" * 10_000_000 + b"\n"),
        Chunk(10_000_003, b"b\n"),
        Chunk(10_000_005, b"y" * kept, 20_000_000 - kept),
        Chunk(30_000_006, b"c\n"),
    ]
    for stream in (io.BytesIO(data), ForwardOnly(data, 1 << 20)):
        assert [chunk for _, chunk in read_chunks(stream, [(0, len(data))], 2)] == wanted


class Endless(io.RawIOBase):
    """200 MB without a newline, of which no more than ``allowed`` bytes may be asked for at once."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.left = 200 << 20

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        assert 0 <= size <= self.allowed
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


def test_memory_is_bounded_without_any_newline():
    with mock.patch.object(lines, "MAX_KEPT_LINE_BYTES", 1 << 20):
        stream = Endless(4 << 20)
        chunks = [chunk for _, chunk in read_chunks(stream, [(0, 1 << 40)], 1 << 30)]
        assert [(len(chunk.data), chunk.truncated_bytes) for chunk in chunks] == [(1 << 20, 199 << 20)]
        assert not list(read_chunks(Endless(4 << 20), [(1, 100 << 20), (100 << 20, 101 << 20)]))


def test_a_plain_file_is_not_read_from_its_beginning():
    stream = mock.Mock(wraps=io.BytesIO(b"0123456\n" * 1_000_000))
    assert len(list(read_chunks(stream, [(4_000_000, 4_000_008)]))) == 1
    stream.seek.assert_called_once_with(3_999_999)
    assert sum(call.args[0] for call in stream.read.call_args_list) < 500_000


@pytest.mark.parametrize("ranges", [[(5, 3)], [(0, 4), (3, 9)], [(4, 9), (0, 4)], [(-1, 3)]])
def test_ranges_must_be_sorted(ranges):
    with pytest.raises(ValueError, match="sorted"):
        list(read_chunks(io.BytesIO(b"a\n"), ranges))


class TestLineReader:
    @settings(deadline=None)
    @given(contents, cuts, sizes, st.integers(1, 9))
    def test_ranges_that_are_asked_for_one_by_one(self, data, bounds, size, slack):
        with mock.patch.object(lines, "_SLACK_BYTES", slack):
            for stream in streams(data):
                reader, found = LineReader(stream, size), []
                for start, end in zip([0, *bounds], [*bounds, 10**9], strict=True):
                    inside = [line for chunk in reader.chunks(start, end) for line in inner_lines(chunk)]
                    assert all(start <= offset < end for offset, _ in inside)
                    if inside:
                        assert reader.position == inside[-1][0] + len(inside[-1][1])
                    found += inside
                assert found == lines_of(data) and reader.ended
                # A plain file is not read to learn where it ends.
                assert isinstance(stream, io.BytesIO) or reader.position == len(data)

    @settings(deadline=None)
    @given(contents, st.integers(0, 120), sizes)
    def test_it_has_ended_when_nothing_is_left(self, data, end, size):
        for stream in streams(data):
            reader = LineReader(stream, size)
            list(reader.chunks(0, end))
            assert reader.ended == (not [offset for offset, _ in lines_of(data) if offset >= end])

    def test_position_and_end_of_lines_by_hand(self):
        for stream in streams(b"ab\ncdef\ngh"):
            reader = LineReader(stream)
            assert (reader.position, reader.ended) == (0, False)
            assert list(reader.chunks(0, 1)) == [Chunk(0, b"ab\n")]
            assert (reader.position, reader.ended) == (3, False)
            # The line from 3 to 8 belongs to the range that holds its first byte.
            assert list(reader.chunks(1, 4)) == [Chunk(3, b"cdef\n")]
            assert list(reader.chunks(4, 8)) == []
            assert (reader.position, reader.ended) == (8, False)
            assert list(reader.chunks(8, 9)) == [Chunk(8, b"gh")]
            assert (reader.position, reader.ended) == (10, True)
            assert list(reader.chunks(9, 99)) == [] and reader.ended

    def test_it_may_begin_in_the_middle(self):
        for stream in streams(b"\xef\xbb\xbfab\ncdef\ngh\n"):
            reader = LineReader(stream, 1)
            assert list(reader.chunks(5, 7)) == [Chunk(6, b"cdef\n")]
            assert list(reader.chunks(50, 60)) == [] and reader.ended

    @pytest.mark.parametrize(("data", "ended"), [(b"", True), (b"\xef\xbb\xbf", False), (b"\n", False)])
    def test_before_the_first_range(self, data, ended):
        for stream in streams(data):
            assert LineReader(stream).ended == ended

    @pytest.mark.parametrize("size", [0, -1])
    def test_the_size_of_chunks_must_be_positive(self, size):
        with pytest.raises(ValueError, match="`chunk_bytes` should be positive. Received: "):
            LineReader(io.BytesIO(b""), size)


def inner_lines(chunk: Chunk) -> list[tuple[int, bytes]]:
    return [(chunk.offset + offset - 1, line) for offset, line in lines_of(b"\n" + chunk.data)[1:]]

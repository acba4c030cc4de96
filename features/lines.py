"""Complete lines of byte ranges of a log, in chunks of bounded size.

A line belongs to the range that contains its first byte, so any way of cutting a file into ranges gives every
line exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CHUNK_BYTES = 4 << 20
MAX_KEPT_LINE_BYTES = 16 << 20

# Read this much beyond what is asked for: the line that straddles the cut is then almost always complete.
_SLACK_BYTES = 64 << 10


@dataclass(frozen=True)
class Chunk:
    """Complete lines of a log, or the beginning of one line that is too long to keep.

    Args:
        offset: offset of ``data[0]`` in the file (for a compressed file, in the decompressed stream).
        data: whole lines with their line ends; only the last line of a file may lack its own.
        truncated_bytes: 0, or how many further bytes the only line in ``data`` had. ``data`` is then its
            first ``MAX_KEPT_LINE_BYTES`` and has no line end.
    """

    offset: int
    data: bytes
    truncated_bytes: int = 0


class _Cursor:
    """A place in a stream that only moves forward.

    Attributes:
        position: offset of the first byte that has not been taken or skipped.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.position = 0
        self._stream = stream
        self._buffer = b""  # the bytes from `position` on that have been read ahead

    def peek(self, size: int) -> bytes:
        """The next bytes without taking them: at least ``size``, fewer only at the end of the stream."""
        if len(self._buffer) < size:
            parts, missing = [self._buffer], size + _SLACK_BYTES - len(self._buffer)
            while missing > 0 and (part := self._stream.read(missing)):
                parts.append(part)
                missing -= len(part)
            self._buffer = b"".join(parts) if parts[0] else b"".join(parts[1:])
        return self._buffer

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, which must have been peeked."""
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        self.position += size
        return data

    def skip_to(self, offset: int) -> None:
        """Moves forward to ``offset``, or to the end of a forward-only stream that is shorter."""
        ahead = min(offset - self.position, len(self._buffer))
        self._buffer = self._buffer[ahead:]
        self.position += ahead
        if self.position < offset and self._stream.seekable():
            self.position = self._stream.seek(offset)
        while self.position < offset and (data := self._stream.read(min(offset - self.position, CHUNK_BYTES))):
            self.position += len(data)

    def skip_line(self, limit: int | None = None) -> bool:
        """Moves behind the next newline before ``limit``; if there is none, to ``limit`` or the end.

        Returns:
            Whether there was a newline.
        """
        while limit is None or self.position < limit:
            data = self.peek(_SLACK_BYTES)
            if limit is not None:
                data = data[: limit - self.position]
            end = data.find(b"\n") + 1
            self.take(end or len(data))
            if end or not data:
                return end > 0
        return False


class LineReader:
    """Reads the lines of rising byte ranges of a stream.

    No byte is read twice, so a decompressing stream that cannot go back serves as well as a file. Memory is
    bounded by a small multiple of ``chunk_bytes`` and ``MAX_KEPT_LINE_BYTES``, whatever the lines are. A byte
    order mark (UTF-8) that begins the file is no part of the first line, which then starts at offset 3.

    Args:
        stream: a binary stream that stands at its beginning.
        chunk_bytes: how many bytes a chunk has at most, apart from its last line.

    Raises:
        ValueError: ``chunk_bytes`` is not positive.
    """

    def __init__(self, stream: BinaryIO, chunk_bytes: int = CHUNK_BYTES) -> None:
        if chunk_bytes < 1:
            raise ValueError(f"`chunk_bytes` should be positive. Received: {chunk_bytes}")
        # No line that fits in a chunk can then be longer than what is kept of a line.
        self._chunk_bytes = min(chunk_bytes, MAX_KEPT_LINE_BYTES)
        self._cursor = _Cursor(stream)
        self._end = 0

    def chunks(self, start: int, end: int) -> Iterator[Chunk]:
        """Reads the lines whose first byte lies in [start, end); ``end`` may lie behind the stream's.

        A chunk never spans two ranges; a range that holds no line gives none.

        Raises:
            ValueError: the range ends before it starts, or starts before the end of an earlier one.
        """
        if not self._end <= start <= end:
            raise ValueError(f"Ranges must be sorted. Received: [{start}, {end}) behind {self._end}.")
        cursor, self._end = self._cursor, end
        if cursor.position == 0 and start <= len(BYTE_ORDER_MARK) and cursor.peek(3).startswith(BYTE_ORDER_MARK):
            cursor.take(len(BYTE_ORDER_MARK))
        if _find_first_line(cursor, start, end):
            while cursor.position < end and cursor.peek(1):
                yield _next_chunk(cursor, end, self._chunk_bytes)

    @property
    def position(self) -> int:
        """Offset behind the last line that was read or passed over."""
        return self._cursor.position

    @property
    def ended(self) -> bool:
        """Whether nothing is left to read."""
        return not self._cursor.peek(1)


def _find_first_line(cursor: _Cursor, start: int, end: int) -> bool:
    """Moves to the first line that starts at or after ``start``; False if there is none before ``end``.

    A cursor at ``start`` or behind it stands at the beginning of a line: either nothing has been read, or an
    earlier range has read its last line to the end.
    """
    if cursor.position >= start:
        return True
    cursor.skip_to(start - 1)
    # A newline at end - 1 would start a line of the next range, which looks for it there.
    return cursor.skip_line(limit=end - 1)


def _next_chunk(cursor: _Cursor, end: int, chunk_bytes: int) -> Chunk:
    """Takes the lines that start within the next ``chunk_bytes`` and before ``end``; at least one."""
    offset, wanted = cursor.position, min(chunk_bytes, end - cursor.position)
    data = cursor.peek(wanted)
    last = data.rfind(b"\n", 0, min(wanted, len(data)) - 1) + 1
    longest = last + MAX_KEPT_LINE_BYTES + 1
    size = len(data)
    newline = data.find(b"\n", wanted - 1, longest)
    while newline < 0 and size < longest:
        data = cursor.peek(min(2 * size, longest))
        if len(data) == size:
            return Chunk(offset, cursor.take(size))
        newline, size = data.find(b"\n", size, longest), len(data)
    if newline >= 0:
        return Chunk(offset, cursor.take(newline + 1))
    if last > 0:
        return Chunk(offset, cursor.take(last))
    return _long_line(cursor)


def _long_line(cursor: _Cursor) -> Chunk:
    """Takes the beginning of the next line and skips the rest of it."""
    offset = cursor.position
    data = cursor.take(MAX_KEPT_LINE_BYTES)
    rest = cursor.position
    line_end = cursor.skip_line()
    return Chunk(offset, data, cursor.position - rest - line_end)

"""Chunks of several ranges of one stream, for tests."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from features.lines import CHUNK_BYTES, Chunk, LineReader


def read_chunks(
    stream: BinaryIO, ranges: Sequence[tuple[int, int]], chunk_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[int, Chunk]]:
    """Yields (index of the range, chunk) for the lines whose first byte lies in one of the ranges."""
    reader = LineReader(stream, chunk_bytes)
    for index, (start, end) in enumerate(ranges):
        for chunk in reader.chunks(start, end):
            yield index, chunk

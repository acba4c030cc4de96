"""Delimited lines taken apart: where each field begins and ends, and what it holds, a column at a time.

Eight bytes are read for each field at once, so a column of short values costs no more than a column of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.values import WORD_MASKS, from_words

_NEWLINE, _RETURN = ord("\n"), ord("\r")


@dataclass(frozen=True)
class Fields:
    """The fields of lines that all have the same number of them.

    Args:
        data: whole lines; the last one may lack its newline. A carriage return before a newline is part of it.
        starts: int64 [lines, fields].
        lengths: int64 [lines, fields].
    """

    data: bytes
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def find(cls, data: bytes, delimiter: str, fields: int) -> Fields | None:
        """Takes lines apart; None where a line has not that number of fields, or is empty.

        Args:
            data: as above, not empty.
            delimiter: one ASCII character.
            fields: at least 2.
        """
        raw = np.frombuffer(data, np.uint8)
        found = raw == ord(delimiter)
        found |= raw == _NEWLINE
        places = np.flatnonzero(found)
        if raw[-1] != _NEWLINE:
            places = np.append(places, len(raw))
        if len(places) % fields:
            return None
        ends = places.reshape(-1, fields)
        # Every last field ends with a newline and there are no more newlines: so no other field does.
        newlines = len(ends) - (raw[-1] != _NEWLINE)
        if data.count(b"\n") != newlines or (raw[ends[:newlines, -1]] != _NEWLINE).any():
            return None
        starts = np.concatenate([[0], places[:-1] + 1]).reshape(-1, fields)
        lengths = ends - starts
        if b"\r" in data:
            # Before an empty last field stands a delimiter.
            lengths[:, -1] -= raw[ends[:, -1] - 1] == _RETURN
        return cls(data, starts, lengths)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def longest_line(self) -> int:
        """Bytes of the longest line, without its newline."""
        return int((self.starts[:, -1] + self.lengths[:, -1] - self.starts[:, 0]).max())

    @cached_property
    def _words(self) -> NDArray[np.uint64]:
        """The first eight bytes of each field as a number: uint64 [fields, lines]."""
        # Read in the order of the file, then turned: the other way round every read would miss the cache.
        words = _words_at(self.data, self.starts.reshape(-1))
        words &= WORD_MASKS[np.minimum(self.lengths, 8).reshape(-1)]
        return np.ascontiguousarray(words.reshape(self.starts.shape).T)

    @cached_property
    def _longest(self) -> NDArray[np.int64]:
        return self.lengths.max(axis=0)

    def column(self, index: int) -> pa.DictionaryArray:
        """The texts of a column: a dictionary array of int32 codes and distinct binary values."""
        if self._longest[index] > 8:
            return self._binary(self.starts[:, index], self.lengths[:, index]).dictionary_encode()
        encoded = pa.array(self._words[index]).dictionary_encode()
        return pa.DictionaryArray.from_arrays(encoded.indices, from_words(encoded.dictionary.to_numpy()))

    def _binary(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> pa.BinaryArray:
        limits = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(starts - limits[:-1], lengths) + np.arange(limits[-1])
        data = np.frombuffer(self.data, np.uint8)[places]
        buffers = [None, pa.py_buffer(limits.astype(np.int32)), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)


def _words_at(data: bytes, starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The eight bytes from each place on as a little-endian number; behind the last byte stand zeros.

    Args:
        data: any bytes; they are not copied, which would hold up other threads.
        starts: int64 [n], rising, at most the length of the data.
    """
    last = max(len(data) - 8, 0)
    inside = int(np.searchsorted(starts, last))
    end = data[last:] + bytes(16)
    words = np.empty(len(starts), "<u8")
    words[:inside] = np.ndarray(last + (len(data) >= 8), "<u8", data, strides=(1,))[starts[:inside]]
    words[inside:] = np.ndarray(len(end) - 7, "<u8", end, strides=(1,))[starts[inside:] - last]
    return words

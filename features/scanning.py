"""Where the lines of a chunk begin and end, and which of them need a closer look: vectorised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.strict import MAX_LINE_BYTES

_NEWLINE, _CARRIAGE_RETURN = b"\n", b"\r"


@dataclass(frozen=True)
class Lines:
    """The lines of a piece of a log.

    Args:
        data: whole lines; the last one may lack its newline. Nothing after the last newline is no line.
    """

    data: bytes

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where each line ends, without its newline: int64 [n]."""
        ends = _positions(self.data, _NEWLINE)
        unfinished = bool(self.data) and not self.data.endswith(_NEWLINE)
        return np.append(ends, len(self.data)) if unfinished else ends

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each line begins: int64 [n]."""
        return np.concatenate([np.zeros(min(len(self), 1), np.int64), self.ends[:-1] + 1])

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        """Line ``index`` without its newline; a carriage return before it is kept."""
        return self.data[self.starts[index] : self.ends[index]]

    @cached_property
    def good_bytes(self) -> bool:
        """Whether the strict parser rejects no line for its bytes, apart from empty and long ones."""
        if b"\r" in self.data:
            alone = self.data.count(b"\r") - self.data.count(b"\r\n") - self.data.endswith(b"\r")
            if alone:
                return False
        return b"\0" not in self.data and is_utf8(self.data)

    def select(self, keep: NDArray[np.bool_]) -> bytes:
        """The lines where ``keep`` (bool [n]) is true, with their line ends, one after another."""
        if keep.all():
            return self.data
        edges = np.flatnonzero(np.diff(keep, prepend=False, append=False))
        bounds = np.append(self.starts, len(self.data))[edges].tolist()
        view = memoryview(self.data)
        return b"".join(view[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True))

    def suspects(self, delimiter: str, fields: int) -> NDArray[np.bool_]:
        """Marks every line that the strict parser rejects for its bytes or its number of fields: bool [n].

        A line that is not marked has ``fields`` fields of valid UTF-8, no NUL, and no carriage return but
        possibly one at its end. A good line may be marked too. ``fields`` is 2 or more, so an empty line has
        the wrong number.
        """
        delimiters = _positions(self.data, delimiter.encode())
        counts = np.searchsorted(delimiters, self.ends) - np.searchsorted(delimiters, self.starts)
        suspects = (counts != fields - 1) | (self.ends - self.starts > MAX_LINE_BYTES)
        suspects[self._lines_at(_positions(self.data, b"\0"))] = True
        returns = _positions(self.data, _CARRIAGE_RETURN)
        owners = self._lines_at(returns)
        suspects[owners[returns != self.ends[owners] - 1]] = True
        suspects[self._invalid_utf8()] = True
        return suspects

    def _lines_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.starts, positions, side="right") - 1

    def _invalid_utf8(self) -> list[int]:
        if is_utf8(self.data):
            return []
        foreign = np.flatnonzero(np.frombuffer(self.data, np.uint8) >= 128)
        return [index for index in np.unique(self._lines_at(foreign)).tolist() if not is_utf8(self[index])]


def _positions(data: bytes, byte: bytes) -> NDArray[np.int64]:
    if byte not in data:  # far cheaper than the comparison below, and the rule for NUL and carriage returns
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord(byte))


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

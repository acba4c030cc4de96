"""Choices from the bytes of an input: what turns the fuzzer's bytes into a log or a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Takes an input apart, byte by byte. Behind its end every byte is zero, so that any input means something."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        """Whether there are bytes left."""
        return self._position < len(self._data)

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0] if self else 0

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1, which is at most 255."""
        return self.byte() % limit

    def choice(self, options: Sequence[T]) -> T:
        """One of at most 256 options; the first one at the end of the input."""
        return options[self.below(len(options))]

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        data = self._data[self._position : self._position + size]
        self._position += size
        return data

    def text(self, letters: bytes, most: int) -> bytes:
        """At most ``most`` of the letters."""
        return bytes(letters[byte % len(letters)] for byte in self.take(self.below(most + 1)))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

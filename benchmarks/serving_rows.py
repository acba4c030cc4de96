"""Rows of a Criteo-format log as they come to a server: lines without label, and columns.

Imported by peers too, in their own environments: nothing here but the standard library, NumPy and pyarrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

NUMERIC = [f"I{i}" for i in range(1, 14)]
CATEGORICAL = [f"C{i}" for i in range(1, 27)]
FEW = 256
"""Rows below which a line is split by Python: for more, pyarrow's reader is faster."""

Columns = tuple[np.ndarray, list[Sequence[bytes]]]
"""Numbers float32 [n, 13], NaN = missing; the values of each of 26 columns, b"" = missing."""


@dataclass(frozen=True)
class LogRows:
    """Rows of a log.

    Args:
        labels: int8 [n].
        lines: n lines without label and line end.
    """

    labels: np.ndarray
    lines: list[bytes]

    @classmethod
    def read(cls, path: Path) -> LogRows:
        """All rows of a file of good lines."""
        return cls.of(path.read_bytes().splitlines())

    @classmethod
    def of(cls, labelled: Sequence[bytes]) -> LogRows:
        """The rows of good lines with labels."""
        pairs = [line.rstrip(b"\r\n").split(b"\t", 1) for line in labelled]
        labels, lines = zip(*pairs, strict=True)
        return cls(np.array(list(map(int, labels)), np.int8), list(lines))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.lines)

    @cached_property
    def columns(self) -> Columns:
        """The same rows by column."""
        return split_lines(self.lines)

    def part(self, start: int, stop: int) -> LogRows:
        """Some of the rows."""
        return LogRows(self.labels[start:stop], self.lines[start:stop])

    def slice_lines(self, start: int, stop: int) -> list[bytes]:
        """Some of the lines."""
        return self.lines[start:stop]

    def slice_columns(self, start: int, stop: int) -> Columns:
        """The columns of some rows."""
        numbers, values = self.columns
        return numbers[start:stop], [column[start:stop] for column in values]


def split_lines(lines: Sequence[bytes]) -> Columns:
    """Columns of lines, by Python's own functions."""
    columns = list(zip(*(line.split(b"\t") for line in lines), strict=True))
    numbers = [[float(text) if text else np.nan for text in column] for column in columns[: len(NUMERIC)]]
    return np.array(numbers, np.float32).T, list(columns[len(NUMERIC) :])


def read_lines(lines: Sequence[bytes]) -> tuple[np.ndarray, list[pa.DictionaryArray]]:
    """Columns of lines, by pyarrow's reader: numbers as :data:`Columns`, and values with a dictionary a column."""
    types = dict.fromkeys(NUMERIC, pa.float32()) | dict.fromkeys(CATEGORICAL, pa.dictionary(pa.int32(), pa.binary()))
    table = csv.read_csv(
        pa.BufferReader(b"\n".join(lines)),
        read_options=csv.ReadOptions(column_names=[*NUMERIC, *CATEGORICAL], use_threads=False),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False),
    )
    numbers = np.column_stack([table[name].to_numpy() for name in NUMERIC])
    return numbers, [table[name].unify_dictionaries().combine_chunks() for name in CATEGORICAL]

"""Reads a Criteo-format log: labels, integers, categorical codes, and the chronological split."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

NUMERIC = [f"I{i}" for i in range(1, 14)]
CATEGORICAL = [f"C{i}" for i in range(1, 27)]
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Rows:
    """The whole log as columns; `codes` numbers each column's values, the empty one (missing) included."""

    label: NDArray[np.int8]
    numeric: NDArray[np.float32]  # rows x 13, NaN where missing
    codes: NDArray[np.int32]  # rows x 26
    sizes: list[int]  # distinct values of each categorical column
    offset: NDArray[np.int64]  # where the line begins in the decompressed file
    split: dict[str, slice]
    values: list[list[str]]  # the text of each code of each categorical column

    def labels(self, split: str) -> NDArray[np.int8]:
        """Labels of one split."""
        return self.label[self.split[split]]


def parse_split(text: str, total: int) -> dict[str, slice]:
    """Turn A/B/C into row ranges: shares if they add up to 1 or 100, else row counts."""
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or min(parts) < 0:
        raise ValueError(f"--split must be three numbers TRAIN/VALID/TEST, received {text!r}")
    whole = sum(parts)
    if abs(whole - 1) < 1e-9 or abs(whole - 100) < 1e-9:
        ends = [round(total * share / whole) for share in np.cumsum(parts)]
    else:
        ends = [int(end) for end in np.cumsum(parts)]
    if ends[-1] > total:
        raise ValueError(f"--split {text} asks for {ends[-1]} rows, the input has {total}")
    starts = [0, *ends[:-1]]
    if ends[0] == 0 or ends[1] == starts[1]:
        raise ValueError(f"--split {text} leaves no training or no validation rows of {total}")
    return {name: slice(start, end) for name, start, end in zip(SPLITS, starts, ends, strict=True)}


def line_offsets(raw: bytes) -> NDArray[np.int64]:
    """Byte offset of the beginning of each line."""
    ends = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) == ord("\n")) + 1
    starts = np.concatenate([[0], ends]).astype(np.int64)
    return starts[starts < len(raw)]


def parse(raw: bytes) -> pa.Table:
    """Parse the bytes of a log; a line that is not 40 good columns is an error."""
    names = ["label", *NUMERIC, *CATEGORICAL]
    types = {"label": pa.int8()} | dict.fromkeys(NUMERIC, pa.int64())
    types |= dict.fromkeys(CATEGORICAL, pa.dictionary(pa.int32(), pa.string()))
    return csv.read_csv(
        pa.BufferReader(raw),
        read_options=csv.ReadOptions(column_names=names),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False),
    )


def read_rows(path: Path, split: str) -> Rows:
    """Read a .tsv or .tsv.gz log and split it by position."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    table = parse(raw)
    label = table["label"].to_numpy()
    if not np.isin(label, (0, 1)).all():
        raise ValueError(f"{path}: the label, column 1, must be 0 or 1 in every line")
    numeric = [pc.cast(table[name], pa.float32(), safe=False).to_numpy() for name in NUMERIC]
    encoded = [table[name].unify_dictionaries().combine_chunks() for name in CATEGORICAL]
    columns = [column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in encoded]
    return Rows(
        label=label.astype(np.int8),
        numeric=np.column_stack(numeric).astype(np.float32),
        codes=np.column_stack([column.indices.to_numpy() for column in columns]).astype(np.int32),
        sizes=[len(column.dictionary) for column in columns],
        offset=line_offsets(raw),
        split=parse_split(split, table.num_rows),
        values=[column.dictionary.to_pylist() for column in columns],
    )

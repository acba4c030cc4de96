"""The lines of a log, counted apart from the parser, against the rows and rejects of a run."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.lines import BYTE_ORDER_MARK
from features.schema import PARQUET, Schema
from features.strict import REASONS
from pipeline import storage
from pipeline.findings import Findings
from pipeline.storage import InputFile

_READ = 8 << 20


class Starts(Protocol):
    """Where the lines of a source start."""

    def before(self, end: int) -> NDArray[np.int64]:
        """The starts before ``end`` that have not been given yet, in order: int64 [n]."""


class LineStarts:
    """Where the lines of a stream start, found by their newlines alone.

    Args:
        stream: a log of lines, at its beginning.
        header: whether the first line is none of them.
    """

    def __init__(self, stream: BinaryIO, header: bool) -> None:
        self._stream, self._header = stream, header
        self._next = self._parts(stream)
        self._found = np.zeros(0, np.int64)
        self._position = 0

    def before(self, end: int) -> NDArray[np.int64]:
        """See :class:`Starts`."""
        parts = [self._found]
        while self._position < end and (part := next(self._next, None)) is not None:
            parts.append(part)
        found = np.concatenate(parts)
        # What would start behind the last byte is no line.
        given = found[(found < end) & (found < self._position)]
        self._found = found[len(given) :]
        return self._without_header(given)

    def _parts(self, stream: BinaryIO) -> Iterator[NDArray[np.int64]]:
        first = True
        while data := stream.read(_READ):
            starts = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + self._position + 1
            if first:
                mark = len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0
                starts, first = np.append(mark, starts), False
            self._position += len(data)
            yield starts

    def _without_header(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self._header or not len(starts):
            return starts
        self._header = False
        return starts[1:]


class RowNumbers:
    """The rows of a parquet file.

    Args:
        rows: how many there are.
    """

    def __init__(self, rows: int) -> None:
        self._rows, self._given = rows, 0

    def before(self, end: int) -> NDArray[np.int64]:
        """See :class:`Starts`."""
        start, self._given = self._given, max(self._given, min(end, self._rows))
        return np.arange(start, self._given, dtype=np.int64)


@contextlib.contextmanager
def open_starts(file: InputFile, schema: Schema) -> Iterator[Starts]:
    """Opens a source to count its lines; see :class:`Starts`."""
    with storage.open_log(file) as stream:
        if schema.format == PARQUET:
            yield RowNumbers(pq.read_metadata(stream).num_rows)
        else:
            yield LineStarts(stream, schema.header)


def unchanged(item: dict[str, Any]) -> InputFile | None:
    """An input of the manifest as a file; None if it is gone or no longer the same."""
    same = storage.version(item["path"]) == [item["size"], item["version"]]
    return InputFile(item["path"], item["size"], item["version"]) if same else None


def check_entry(
    entry: dict[str, Any],
    offsets: NDArray[np.int64],
    rejects: Sequence[dict[str, Any]],
    starts: NDArray[np.int64] | None,
    findings: Findings,
) -> None:
    """Checks that every line of a range is exactly one row or one reject.

    Args:
        entry: of the manifest.
        offsets: int64 [n], of the rows of all its shards.
        rejects: of its file of rejects.
        starts: int64 [lines], where the source's lines of the range, and any before it, start; None where the source
            is gone.
        findings: what is wrong goes here.
    """
    where = place(entry)
    findings.equal(len(offsets), entry["rows"], "The number of rows of a range", where)
    findings.equal(len(rejects), entry["rejects"], "The number of rejects of a range", where)
    findings.equal(entry["rows"] + entry["rejects"], entry["lines"], "Rows and rejects of a range", where)
    rejected = np.array([reject["offset"] for reject in rejects], np.int64)
    every = np.sort(np.concatenate([offsets, rejected]))
    twice = every[1:][every[1:] == every[:-1]]
    findings.check(not len(twice), "A line must be one row or one reject", f"offset {_first(twice)} twice", where)
    if starts is None:
        return
    findings.equal(len(starts), entry["lines"], "The number of lines of a range", where)
    lost, invented = np.setdiff1d(starts, every), np.setdiff1d(every, starts)
    rule = "Every line of a range must be a row or a reject"
    findings.check(not len(lost), rule, f"{len(lost)} lines that are neither, the first at {_first(lost)}", where)
    rule = "Every row and reject must be a line"
    findings.check(not len(invented), rule, f"{len(invented)} that are none, the first at {_first(invented)}", where)


def place(entry: dict[str, Any]) -> str:
    """Where the range of an entry lies."""
    return f"{entry['source']}, [{entry['start']}, {entry['end']})"


def _first(offsets: NDArray[np.int64]) -> int | None:
    return int(offsets[0]) if len(offsets) else None


def read_rejects(data: bytes, entry: dict[str, Any], findings: Findings, path: str) -> list[dict[str, Any]]:
    """Decodes a file of rejects, with ``raw`` (bytes) in each; what is wrong is found and left out."""
    rejects = []
    for number, line in enumerate(data.splitlines()):
        where = f"{path}, line {number + 1}"
        try:
            reject = json.loads(line)
            reject["raw"] = base64.b64decode(reject["raw_base64"], validate=True)
            offset, reason, source = int(reject["offset"]), reject["reason"], reject["source"]
        except (ValueError, KeyError, TypeError) as error:
            findings.check(False, "A line of a file of rejects must be a reject", repr(error), where)
            continue
        findings.equal(source, entry["source"], "The source of a reject", where)
        findings.check(reason in REASONS, "The reason of a reject must be a known one", reason, where)
        inside = entry["start"] <= offset < entry["end"]
        findings.check(inside, f"An offset must be in [{entry['start']}, {entry['end']})", offset, where)
        rejects.append(reject)
    return rejects


def check_raw(stream: BinaryIO, rejects: Sequence[dict[str, Any]], findings: Findings, where: str) -> None:
    """Checks that the bytes of rejects stand in their source.

    Args:
        stream: the source, decompressed; it only moves forward.
        rejects: in the order of their offsets.
        findings: what is wrong goes here.
        where: path of the source.
    """
    for reject in rejects:
        stream.seek(reject["offset"])
        received = stream.read(len(reject["raw"]) + 1)
        end = b"" if reject.get("truncated_bytes") else received[len(reject["raw"]) :]
        same = received.startswith(reject["raw"]) and end in (b"", b"\n")
        rule = "The bytes of a reject must be those of its line"
        findings.check(same, rule, "others", f"{where}, offset {reject['offset']}")

"""Logs to fuzz a parser with, and the check that it agrees with its strict counterpart."""

from __future__ import annotations

import io
import math
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from drawing import Draw

from features.errors import DataError
from features.lines import BYTE_ORDER_MARK, Chunk, LineReader
from features.rejects import Reject
from features.rows import ParsedRows
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, LABEL, OUTCOME, TIME, WEIGHT, Schema
from features.strict import BadLine, Row, columns_of

ParseChunk = Callable[[Chunk, Schema, bool], ParsedRows]
ParseLine = Callable[[bytes, Schema, bool], Row]
Verdict = tuple[int, object]
"""Offset of a line, and its reject or the values of its row."""

# So small that the inputs of a fuzzer reach them.
LIMITS = {"MAX_LINE_BYTES": 300, "MAX_KEPT_LINE_BYTES": 350, "_FEW_LINES": 1, "_PROBED_LINES": 2}
BEHIND_THE_END = 1 << 40

_GOOD = {
    LABEL: (b"0", b"1"),
    OUTCOME: (b"0", b"1"),
    WEIGHT: (b"1", b"0.5", b"0", b"1e6", b".25", b"999999.99"),
    INTEGER: (b"", b"5", b"-0", b"16777217", b"-123456789012345678"),
    FLOAT: (b"", b"1.", b"-.1e2", b"1e-50", b"3.4028235e38", b"1.0000000596046447754"),
    TIME: (b"1700000000", b"2024-02-29", b"2024-02-30T23:59:59.123Z", b"2024-12-31 00:00", b"-1"),
    GROUP: (b"u1", b"u2", b"\xc3\xa9"),
    KEY: (b"", b"k", b'"q', b"\xef\xbb\xbf"),
    CATEGORICAL: (b"", b"a", b"b", b'"a', b"\\", b"null", b"\xef\xbb\xbf"),
}
_LETTERS = {
    WEIGHT: b"0123456789.eE+-",
    INTEGER: b"0123456789-+ ",
    FLOAT: b"0123456789.eE+-",
    TIME: b"0123456789-T:Z. ",
}
_NASTY = (
    *(b"", b"2", b"-", b"+1", b".", b"1.5e", b"1e39", b"1e400", b"1e4000", b"3.4028236e38", b"1000001", b"1000000.03"),
    *(b"nan", b"NaN", b"inf", b"-inf", b"0x1F", b"1_0", b"01", b" 1", b"1 ", b"2024-02-30", b"2024-13-01", b"null"),
    *(b"\0", b"\r", b"\n", b"\t", b",", b'"', b"'", b"\x0b", b"\x1c", b"{", b"}", b"[1]", b"|", b"\x1f\x8b"),
    *(b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80", b"\xd9\xa3", b"\xe2\x80\xa8", b"\xef\xbb\xbf"),
)


@dataclass(frozen=True)
class Log:
    """A log and the way in which it is read.

    Args:
        schema: its columns.
        labelled: whether it has the label column.
        data: all its bytes.
        cuts: sorted offsets at which it is cut into ranges.
        chunk_bytes: of a chunk.
        slack: how many bytes are read ahead.
    """

    schema: Schema
    labelled: bool
    data: bytes
    cuts: Sequence[int]
    chunk_bytes: int
    slack: int


def draw_log(draw: Draw, schemas: Sequence[Schema], draw_line: Callable[[Draw, Schema, bool], bytes]) -> Log:
    """A log of one of the schemas: the rest of the input as it stands, or lines of ``draw_line``."""
    schema, labelled = draw.choice(schemas), not draw.below(4) == 3
    cuts = sorted(draw.byte() for _ in range(draw.below(4)))
    chunk_bytes, slack = 1 + draw.byte(), 1 + draw.below(16)
    lines = [draw.choice((b"", b"", b"", BYTE_ORDER_MARK))]
    if schema.header and draw.below(8) != 7:
        lines.append(header_of(schema, labelled) + draw.choice((b"\n", b"\r\n")))
    if draw.below(4) == 3:
        return Log(schema, labelled, b"".join(lines) + draw.rest(), cuts, chunk_bytes, slack)
    while draw:
        lines.append(draw_line(draw, schema, labelled) + draw.choice((b"\n", b"\n", b"\r\n", b"")))
    return Log(schema, labelled, b"".join(lines), cuts, chunk_bytes, slack)


def draw_wild(draw: Draw, columns: int) -> list[bool]:
    """Which columns of a line may have any text at all: mostly none or one, so that many lines are good but for it."""
    wild = draw.below(columns + 4)
    return [wild in (column, columns) for column in range(columns)]


def draw_text(draw: Draw, kind: str, wild: bool) -> bytes:
    """The text of a field: a good one, or a nasty one, one of the right letters, or any bytes."""
    if not wild:
        return draw.choice(_GOOD[kind])
    form = draw.below(4)
    if form == 0:
        return draw.choice(_NASTY)
    return draw.take(draw.below(16)) if form == 1 else draw.text(_LETTERS.get(kind, b"ab\xc3\xa9"), 24)


def header_of(schema: Schema, labelled: bool) -> bytes:
    """The first line that the schema asks for."""
    return schema.delimiter.join(column.name for column in columns_of(schema, labelled)).encode()


def check(log: Log, parse_chunk: ParseChunk, parse_line: ParseLine) -> None:
    """Raises AssertionError where chunks of the log do not give what its lines give, one by one.

    The log is parsed once as a single chunk, and once in ranges and small chunks.
    """
    with _limits(log.slack):
        found, refused = _lines(log), False
        if log.schema.header and found:
            refused = found.pop(0)[1].removesuffix(b"\r") != header_of(log.schema, log.labelled)
        verdicts = [_verdict(offset, line, log, parse_line) for offset, line in found]
        start = _start(log.data)
        _compare([Chunk(start, log.data[start:])], verdicts, refused, log, parse_chunk)
        bounds = [0, *log.cuts, BEHIND_THE_END]
        ranges = list(zip(bounds, bounds[1:], strict=False))
        reader = LineReader(io.BytesIO(log.data), log.chunk_bytes)
        read = [(index, chunk) for index, bounds in enumerate(ranges) for chunk in reader.chunks(*bounds)]
        assert all(ranges[index][0] <= chunk.offset < ranges[index][1] for index, chunk in read), (ranges, read)
        _compare([chunk for _, chunk in read], [_truncated(each) for each in verdicts], refused, log, parse_chunk)


def _compare(chunks: list[Chunk], verdicts: list[Verdict], refused: bool, log: Log, parse_chunk: ParseChunk) -> None:
    try:
        parsed = [parse_chunk(chunk, log.schema, log.labelled) for chunk in chunks]
    except DataError as error:
        assert refused and "header" in str(error), error
        return
    assert not refused, "a wrong header was not refused"
    received = [verdict for part in parsed for verdict in _verdicts(part, log)]
    assert received == verdicts, f"\nparser: {received}\nstrict: {verdicts}"


@contextmanager
def _limits(slack: int) -> Iterator[None]:
    """Sets the limits in every module that has taken them over by name."""
    wanted = LIMITS | {"_SLACK_BYTES": slack}
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("features.")]
    saved = [(module, name, getattr(module, name)) for module in modules for name in wanted if hasattr(module, name)]
    try:
        for module, name, _ in saved:
            setattr(module, name, wanted[name])
        yield
    finally:
        for module, name, value in saved:
            setattr(module, name, value)


def _start(data: bytes) -> int:
    return len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0


def _lines(log: Log) -> list[tuple[int, bytes]]:
    """Offset and bytes of each line, without its newline."""
    offset, found = _start(log.data), []
    lines = log.data[offset:].split(b"\n")
    for line in lines if lines[-1] else lines[:-1]:
        found.append((offset, line))
        offset += len(line) + 1
    return found


def _verdict(offset: int, line: bytes, log: Log, parse_line: ParseLine) -> Verdict:
    try:
        row = parse_line(line, log.schema, log.labelled)
    except BadLine as bad:
        return offset, Reject(offset, bad.reason, bad.detail, line)
    numbers = [_bits(value) for value in row.numerics]
    return offset, (row.label, row.outcomes, _bits(row.weight), numbers, row.categoricals, row.keys)


def _truncated(verdict: Verdict) -> Verdict:
    """The verdict on a line of which only the beginning is kept."""
    offset, reject = verdict
    most = LIMITS["MAX_KEPT_LINE_BYTES"]
    if not isinstance(reject, Reject) or len(reject.raw) <= most:
        return verdict
    detail = f"expected at most {LIMITS['MAX_LINE_BYTES']} bytes, received {len(reject.raw)}"
    return offset, Reject(offset, reject.reason, detail, reject.raw[:most], len(reject.raw) - most)


def _verdicts(parsed: ParsedRows, log: Log) -> list[Verdict]:
    """Rows and rejects of a chunk in file order."""
    _check_arrays(parsed, log)
    categorical, keys = ([column.to_pylist() for column in part] for part in (parsed.categorical, parsed.keys))
    rows: list[Verdict] = [
        (
            offset,
            (
                None if parsed.labels is None else int(parsed.labels[row]),
                () if parsed.outcomes is None else tuple(parsed.outcomes[row].tolist()),
                _bits(None if parsed.weights is None else float(parsed.weights[row])),
                [_bits(value) for value in numbers],
                [column[row] for column in categorical],
                [column[row] for column in keys],
            ),
        )
        for row, (offset, numbers) in enumerate(zip(parsed.offsets.tolist(), parsed.numbers().tolist(), strict=True))
    ]
    return sorted([*rows, *((reject.offset, reject) for reject in parsed.rejects)], key=lambda verdict: verdict[0])


def _check_arrays(parsed: ParsedRows, log: Log) -> None:
    """Raises AssertionError for arrays that :class:`ParsedRows` does not allow."""
    assert parsed.offsets.dtype == "i8" and np.all(np.diff(parsed.offsets) > 0)
    assert (parsed.labels is not None) == log.labelled
    assert (parsed.outcomes is not None) == (log.labelled and bool(log.schema.outcomes))
    assert (parsed.weights is not None) == (log.labelled and log.schema.weight is not None)
    assert len(parsed.categorical) == len(log.schema.categorical) and len(parsed.keys) == len(log.schema.keys)
    for column in parsed.numeric:
        assert column.type == pa.dictionary(pa.int32(), pa.float32()) and not column.null_count
    for column in parsed.categorical:
        assert column.type == pa.dictionary(pa.int32(), pa.binary()) and not column.null_count
        assert len(set(column.dictionary.to_pylist())) == len(column.dictionary)
    for column in parsed.keys:
        assert column.type == pa.binary() and not column.null_count
    assert all(np.diff([reject.offset for reject in parsed.rejects]) > 0)


def _bits(value: float | None) -> bytes:
    return struct.pack("<f", math.nan if value is None else value)

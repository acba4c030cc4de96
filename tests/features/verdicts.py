"""What a parser of chunks must give: the verdict of a strict parser on each line."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from features.lines import Chunk
from features.rejects import Reject
from features.rows import ParsedRows
from features.schema import Schema
from features.strict import BadLine, Row

Verdict = tuple[object, ...]


def bits(value: float) -> bytes:
    return struct.pack("<f", value)


def by_the_definition(
    chunk: Chunk, schema: Schema, labelled: bool, parse_line: Callable[[bytes, Schema, bool], Row]
) -> list[Verdict]:
    """Rows and rejects in file order, line by line from the strict parser."""
    result: list[Verdict] = []
    offset = chunk.offset
    for line in chunk.data.removesuffix(b"\n").split(b"\n") if chunk.data else []:
        try:
            row = parse_line(line, schema, labelled)
        except BadLine as bad:
            result.append((offset, Reject(offset, bad.reason, bad.detail, line)))
        else:
            numbers = [bits(math.nan if x is None else x) for x in row.numerics]
            result.append((offset, row.label, row.outcomes, row.weight, numbers, row.categoricals, row.keys))
        offset += len(line) + 1
    return result


def as_rows(parsed: ParsedRows, schema: Schema, labelled: bool) -> list[Verdict]:
    """The same from what a parser of chunks gave, whose types and order must be right."""
    check_types(parsed, schema, labelled)
    categorical = [column.to_pylist() for column in parsed.categorical]
    keys = [column.to_pylist() for column in parsed.keys]
    numbers = parsed.numbers()
    rows: list[Verdict] = [
        (
            offset,
            int(parsed.labels[i]) if parsed.labels is not None else None,
            tuple(parsed.outcomes[i].tolist()) if parsed.outcomes is not None else (),
            float(parsed.weights[i]) if parsed.weights is not None else None,
            [bits(x) for x in numbers[i].tolist()],
            [column[i] for column in categorical],
            [column[i] for column in keys],
        )
        for i, offset in enumerate(parsed.offsets.tolist())
    ]
    assert rows == sorted(rows, key=lambda row: row[0])
    assert parsed.rejects == sorted(parsed.rejects, key=lambda reject: reject.offset)
    return sorted([*rows, *((reject.offset, reject) for reject in parsed.rejects)], key=lambda row: row[0])


def check_types(parsed: ParsedRows, schema: Schema, labelled: bool) -> None:
    rows = len(parsed)
    assert parsed.offsets.dtype == np.int64 and parsed.offsets.shape == (rows,)
    assert (parsed.labels is not None) == labelled
    assert parsed.labels is None or (parsed.labels.dtype == np.uint8 and parsed.labels.shape == (rows,))
    outcomes = len(schema.outcomes) if labelled else 0
    assert (parsed.outcomes is not None) == bool(outcomes)
    assert parsed.outcomes is None or (parsed.outcomes.dtype == np.uint8 and parsed.outcomes.shape == (rows, outcomes))
    assert (parsed.weights is not None) == (labelled and schema.weight is not None)
    assert parsed.weights is None or (parsed.weights.dtype == np.float32 and parsed.weights.shape == (rows,))
    assert len(parsed.numeric) == len(schema.numeric)
    assert len(parsed.categorical) == len(schema.categorical) and len(parsed.keys) == len(schema.keys)
    for column in parsed.numeric:
        assert column.type == pa.dictionary(pa.int32(), pa.float32()) and column.null_count == 0
        assert len(column) == rows and column.dictionary.null_count == 0
    for column in parsed.categorical:
        assert column.type == pa.dictionary(pa.int32(), pa.binary()) and column.null_count == 0
        assert len(column) == rows and column.dictionary.null_count == 0
        assert len(set(column.dictionary.to_pylist())) == len(column.dictionary)
    for column in parsed.keys:
        assert column.type == pa.binary() and len(column) == rows and column.null_count == 0

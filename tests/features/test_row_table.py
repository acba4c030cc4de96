"""The rows of a range with one dictionary a column, against what was parsed."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_ranges import read_chunks

from features.numeric import NumericStatistics
from features.parsing import parse_chunk
from features.row_table import RowTable
from features.rows import ParsedRows
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, LABEL, OUTCOME, TIME, TRANSFORMS, WEIGHT, Column, Schema
from features.siphash import siphash
from features.splits import Split

PLAIN = Schema((Column("y", LABEL), Column("x", FLOAT), Column("c", CATEGORICAL)), ",")
FULL = Schema(
    (
        Column("c", CATEGORICAL),
        Column("y", LABEL),
        Column("w", WEIGHT),
        Column("g", GROUP),
        Column("t", TIME),
        Column("x", FLOAT),
        Column("n", INTEGER),
        Column("d", CATEGORICAL),
    ),
    delimiter=",",
)
SHARES, NUMBERS, TIMES = (Split.parse(text) for text in ("70/15/15", "70/15/20", "time:2/3"))
WORDS = st.sampled_from(["", "a", "b", "longer than eight", "longer than eighty", "é"])
ROW = st.tuples(
    WORDS,
    st.sampled_from("01"),
    st.sampled_from(["0", "1", "0.25"]),
    st.sampled_from(["g", "h"]),
    st.sampled_from("1234"),
    st.sampled_from(["", "-0.0", "0", "1.5", "1.50", "3e38"]),
    st.sampled_from(["", "7", "16777217", "16777216"]),
    WORDS,
).map(",".join)
LINES = st.lists(st.one_of(ROW, ROW, ROW, st.sampled_from(["", "bad", "a,1,1,g,1,1e39,,"])), max_size=20)


def parsed(lines: Sequence[str], schema: Schema, chunk_bytes: int = 1 << 20) -> list[ParsedRows]:
    data = "".join(line + "\n" for line in lines).encode()
    return [parse_chunk(chunk, schema) for _, chunk in read_chunks(io.BytesIO(data), [(0, len(data))], chunk_bytes)]


def good_of(lines: Sequence[str]) -> list[tuple[int, int, list[str]]]:
    """(offset, number of the line, fields) of each good line."""
    found, offset = [], 0
    for number, line in enumerate(lines):
        fields = line.split(",")
        if len(fields) == 8 and "1e39" not in fields:
            found.append((offset, number, fields))
        offset += len(line.encode()) + 1
    return found


def bits(texts: Sequence[str]) -> list[int]:
    return np.array([float(text or "nan") for text in texts], np.float32).view(np.uint32).tolist()


def bits_of(column: pa.DictionaryArray) -> list[int]:
    codes = column.indices.to_numpy().astype(np.int64)
    return column.dictionary.to_numpy()[codes].view(np.uint32).tolist()


@settings(deadline=None, max_examples=150)
@given(LINES, st.sampled_from([1, 40, 200, 10_000]))
def test_rows_against_the_lines(lines: list[str], chunk_bytes: int) -> None:
    good = good_of(lines)
    columns = dict(zip(FULL.names, zip(*(fields for *_, fields in good), strict=True), strict=True)) if good else {}
    table = RowTable.of(parsed(lines, FULL, chunk_bytes), FULL, NUMBERS)
    assert len(table) == len(good)
    assert table.offsets.tolist() == [offset for offset, *_ in good]
    assert table.lines is not None and table.lines.tolist() == [number for _, number, _ in good]
    assert table.labels.tolist() == [int(label) for label in columns.get("y", ())]
    assert table.weights is not None and table.weights.tolist() == [float(weight) for weight in columns.get("w", ())]
    groups = siphash(pa.array([group.encode() for group in columns.get("g", ())], pa.binary()))
    assert table.groups is not None and table.groups.tolist() == groups.view(np.int64).tolist()
    for name, column in zip(FULL.numeric, table.numeric, strict=True):
        assert bits_of(column) == bits(columns.get(name, ()))
        assert not np.isinf(column.dictionary.to_numpy()).any()
    for name, column in zip(FULL.categorical, table.categorical, strict=True):
        assert column.to_pylist() == [value.encode() for value in columns.get(name, ())]
        assert len(set(column.dictionary.to_pylist())) == len(column.dictionary)
    dtypes = [array.dtype for array in (table.offsets, table.lines, table.labels, table.weights, table.groups)]
    assert dtypes == [np.int64, np.int64, np.uint8, np.float32, np.int64]


@settings(deadline=None, max_examples=60)
@given(LINES)
def test_a_batch_comes_back_through_a_file(lines: list[str]) -> None:
    table = RowTable.of(parsed(lines, FULL, 100), FULL, TIMES)
    sink = io.BytesIO()
    batch = table.to_batch()
    with pa.ipc.new_file(sink, batch.schema) as file:
        file.write(batch)
    back = RowTable.from_batch(pa.ipc.open_file(pa.py_buffer(sink.getvalue())).get_batch(0))
    for name in ("offsets", "labels", "weights", "groups", "splits"):
        expected, found = getattr(table, name), getattr(back, name)
        assert found.dtype == expected.dtype and found.tolist() == expected.tolist()
    assert back.lines is None
    assert [bits_of(column) for column in back.numeric] == [bits_of(column) for column in table.numeric]
    assert back.categorical == table.categorical


@pytest.mark.parametrize(("split", "held"), [(SHARES, []), (NUMBERS, ["lines"]), (TIMES, ["splits"])])
def test_what_the_split_and_the_schema_do_not_ask_for_is_none(split: Split, held: list[str]) -> None:
    table = RowTable.of(parsed(["a,1,1,g,1,1,1,b", "bad", "a,1,1,g,3,1,1,b"], FULL), FULL, split)
    assert [name for name in ("lines", "splits") if getattr(table, name) is not None] == held
    if table.splits is not None:
        assert table.splits.dtype == np.uint8 and table.splits.tolist() == [0, 2]
    if table.lines is not None:
        assert table.lines.tolist() == [0, 2]
    plain = RowTable.of(parsed(["1,2,a"], PLAIN), PLAIN, SHARES)
    assert plain.weights is None and plain.groups is None and plain.outcomes is None
    back = RowTable.from_batch(plain.to_batch())
    assert (back.weights, back.groups, back.lines, back.splits) == (None, None, None, None)
    assert (back.offsets.tolist(), back.categorical[0].to_pylist()) == ([0], [b"a"])


def test_outcomes_come_back_through_a_batch() -> None:
    schema = Schema((*PLAIN.columns, Column("o", OUTCOME), Column("p", OUTCOME)), ",")
    parts = parsed(["1,2,a,0,1", "0,2,b,2,1", "0,1,c,1,1", "0,1,c,0,0"], schema, 12)
    table = RowTable.of(parts, schema, SHARES)
    for found in (table, RowTable.from_batch(table.to_batch())):
        assert found.outcomes is not None and found.outcomes.dtype == np.uint8
        assert found.outcomes.tolist() == [[0, 1], [1, 1], [0, 0]]
    empty = RowTable.from_batch(RowTable.of([], schema, SHARES).to_batch())
    assert empty.outcomes is not None and empty.outcomes.shape == (0, 2)


def test_lines_count_every_reject() -> None:
    lines = ["bad", "1,1,a", "1,1,b", "", "2,1,c", "1,1,d", "worse"]
    for chunk_bytes in (1, 10, 1000):
        table = RowTable.of(parsed(lines, PLAIN, chunk_bytes), PLAIN, NUMBERS)
        assert table.lines is not None and table.lines.tolist() == [1, 2, 5]


@pytest.mark.parametrize("lines", [[], ["bad"], ["bad"] * 9])
def test_no_rows(lines: list[str]) -> None:
    for split in (NUMBERS, TIMES):
        table = RowTable.of(parsed(lines, FULL, 10), FULL, split)
        back = RowTable.from_batch(table.to_batch())
        assert len(table) == len(back) == 0
        assert [len(column) for column in (*back.numeric, *back.categorical)] == [0] * 4
        assert [column.type.value_type for column in back.numeric] == [pa.float32()] * 2


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_number_that_overflows_in_a_bad_line_does_not_reach_the_statistics(transform: str) -> None:
    table = RowTable.of(parsed(["1,1e39,a", "0,2,b", "1,-1e39,c", "1,,d"], PLAIN), PLAIN, SHARES)
    (column,) = table.numeric
    counts = np.bincount(column.indices.to_numpy(), minlength=len(column.dictionary))
    statistics = NumericStatistics([transform])
    statistics.update(0, column.dictionary.to_numpy(), counts)
    (found,) = statistics.columns(["x"])
    assert found.missing == 1 and found.std == 1 and np.isfinite(found.mean)

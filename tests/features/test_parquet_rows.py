import datetime
import decimal
import io
import json
import math
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import parquet_rows
from features.errors import DataError
from features.parquet_rows import bytes_per_row, check_columns, count_rows, has_label, read_rows
from features.rows import ParsedRows
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, LABEL, PARQUET, TIME, WEIGHT, Column, Schema
from features.strict import BadLine, parse_texts

SCHEMA = Schema(
    (Column("y", LABEL), Column("n", INTEGER), Column("x", FLOAT), Column("c", CATEGORICAL), Column("k", KEY)),
    format=PARQUET,
)
FULL = Schema((*SCHEMA.columns, Column("w", WEIGHT), Column("g", GROUP), Column("t", TIME)), format=PARQUET)
GOOD = {"y": [1], "n": [5], "x": [0.5], "c": ["a"], "k": ["k"], "w": [2.0], "g": ["g"], "t": [17]}


def stream_of(columns: dict[str, object], **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, **options)
    stream.seek(0)
    return stream


def read_all(
    columns: dict[str, object], schema: Schema = SCHEMA, labelled: bool = True, start: int = 0, end: int = 1 << 40
) -> list[ParsedRows]:
    stream = stream_of(columns)
    check_columns(stream, schema, labelled, "log.parquet")
    return list(read_rows(stream, start, end, schema, labelled, "log.parquet"))


def read_one(name: str, values: pa.Array, schema: Schema = FULL) -> ParsedRows:
    """A column of interest beside good ones."""
    columns = {other: pa.array(good * len(values)) for other, good in GOOD.items()}
    (parsed,) = read_all(columns | {name: values}, schema)
    assert len(parsed) + len(parsed.rejects) == len(values)
    return parsed


def texts(parsed: ParsedRows, name: str) -> list[bytes]:
    if name in FULL.categorical:
        return parsed.categorical[FULL.categorical.index(name)].to_pylist()
    return parsed.keys[FULL.keys.index(name)].to_pylist()


def test_a_log():
    (parsed,) = read_all(
        {
            "other": pa.array([[1], [2], []]),
            "k": pa.array(["k1", None, ""]),
            "c": pa.array(["b", "é", None]),
            "x": pa.array([0.1, None, -2.0]),
            "n": pa.array([7, -3, None], pa.int16()),
            "y": pa.array([True, False, True]),
        }
    )
    assert parsed.offsets.tolist() == [0, 1, 2] and parsed.offsets.dtype == np.int64
    assert parsed.labels is not None and parsed.labels.tolist() == [1, 0, 1] and parsed.labels.dtype == np.uint8
    assert parsed.weights is None and parsed.rejects == []
    expected = np.array([[7, 0.1], [-3, math.nan], [math.nan, -2]], np.float32)
    np.testing.assert_array_equal(parsed.numbers(), expected)
    assert parsed.categorical[0].type == pa.dictionary(pa.int32(), pa.binary())
    assert parsed.categorical[0].to_pylist() == [b"b", "é".encode(), b""]
    assert parsed.keys[0].type == pa.binary() and parsed.keys[0].to_pylist() == [b"k1", b"", b""]


def test_without_label():
    columns = {"n": [1], "x": [1.0], "c": ["a"], "k": ["k"]}
    (parsed,) = read_all(columns, labelled=False)
    assert parsed.labels is None and len(parsed) == 1
    assert not has_label(stream_of(columns), SCHEMA) and has_label(stream_of(columns | {"y": [1]}), SCHEMA)


D, T = datetime.date, datetime.datetime
BERLIN = pa.timestamp("us", "Europe/Berlin")
INSTANT = T(2024, 2, 3, 4, 5, 6, 789000)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("c", pa.array(["a", "", None]), [b"a", b"", b""]),
        ("c", pa.array(["a", None], pa.large_string()), [b"a", b""]),
        ("c", pa.array(["a", None], pa.string_view()), [b"a", b""]),
        ("c", pa.array(["é".encode(), None], pa.binary()), ["é".encode(), b""]),
        ("c", pa.array([b"ab", None], pa.binary(2)), [b"ab", b""]),
        ("c", pa.array(["a", None, "b", "a"]).dictionary_encode(), [b"a", b"", b"b", b"a"]),
        ("c", pa.array([3, None, 3]).dictionary_encode(), [b"3", b"", b"3"]),
        ("c", pa.array([-7, None], pa.int8()), [b"-7", b""]),
        ("c", pa.array([1 << 63], pa.uint64()), [b"9223372036854775808"]),
        ("c", pa.array([True, False, None]), [b"true", b"false", b""]),
        ("c", pa.array([decimal.Decimal("12.50")]), [b"12.50"]),
        ("c", pa.array([D(2024, 2, 3), None]), [b"2024-02-03", b""]),
        ("c", pa.array([datetime.time(4, 5, 6)]), [b"04:05:06.000000"]),
        ("c", pa.nulls(2), [b"", b""]),
        ("k", pa.array([1.0, 1e22, math.nan, None]), [b"1.0", b"1e+22", b"", b""]),
        ("k", pa.array([INSTANT], BERLIN), [b"2024-02-03T04:05:06.789000Z"]),
        ("g", pa.array([1.5, 2.0]), [b"1.5", b"2.0"]),
        ("t", pa.array([1700000000]), [b"1700000000"]),
        ("t", pa.array(["2024-02-03 04:05"]), [b"2024-02-03 04:05"]),
        ("t", pa.array([D(2024, 2, 3)]), [b"2024-02-03"]),
        ("t", pa.array([INSTANT], pa.timestamp("ms")), [b"2024-02-03T04:05:06.789Z"]),
        ("t", pa.array([INSTANT.replace(microsecond=0)], pa.timestamp("s", "UTC")), [b"2024-02-03T04:05:06.000Z"]),
        ("t", pa.array([T(1969, 12, 31, 23, 59, 59)], pa.timestamp("ns")), [b"1969-12-31T23:59:59.000000000Z"]),
    ],
)
def test_texts(name, values, expected):
    parsed = read_one(name, values)
    assert parsed.rejects == []
    assert texts(parsed, name) == expected


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("n", pa.array([1, None, -(10**18) + 1]), [1, math.nan, -(10**18) + 1]),
        ("n", pa.array([3.0, math.nan, None, -2.0]), [3, math.nan, math.nan, -2]),
        ("n", pa.array(["12", "", None, "-0"]), [12, math.nan, math.nan, -0.0]),
        ("n", pa.array([decimal.Decimal(7)]), [7]),
        ("x", pa.array([1, None, 16777217]), [1, math.nan, 16777216]),
        ("x", pa.array([0.1, math.nan, None, 1e-50, 3e38]), [0.1, math.nan, math.nan, 0, 3e38]),
        ("x", pa.array([0.1, None], pa.float32()), [0.1, math.nan]),
        ("x", pa.array([0.1], pa.float16()), [float(np.float16(0.1))]),
        ("x", pa.array(["1e3", ".5"]), [1000, 0.5]),
        ("x", pa.array([decimal.Decimal("-1.25")]), [-1.25]),
    ],
)
def test_numbers(name, values, expected):
    parsed = read_one(name, values)
    assert parsed.rejects == []
    np.testing.assert_array_equal(parsed.numbers()[:, "nx".index(name)], np.array(expected, np.float32))


@pytest.mark.parametrize(
    "values",
    [[True, False], ["1", "0"], [b"1", b"0"], [1.0, 0.0], pa.array([1, 0], pa.uint8()), [decimal.Decimal(1), 0]],
)
def test_labels(values):
    parsed = read_one("y", pa.array(values))
    assert parsed.labels is not None and parsed.labels.tolist() == [1, 0] and not parsed.rejects


def test_weights():
    parsed = read_one("w", pa.array([0.1, 0.0, 65536.0]))
    assert parsed.weights is not None and parsed.weights.dtype == np.float32
    np.testing.assert_array_equal(parsed.weights, np.array([0.1, 0, 65536], np.float32))


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("y", pa.array([2]), "label"),
        ("y", pa.array([None, 0.5, math.nan]), "label"),
        ("y", pa.array(["true", "", "01"]), "label"),
        ("y", pa.nulls(2), "label"),
        ("n", pa.array([1.5, 1e16, math.inf]), "integer"),
        ("n", pa.array(["+1", "1.0", "x"]), "integer"),
        ("n", pa.array([10**18]), "integer"),
        ("x", pa.array([math.inf, -math.inf, 1e39]), "float"),
        ("x", pa.array(["nan", "1,5"]), "float"),
        ("w", pa.array([-1.0, None, math.nan, 65537.0, math.inf]), "weight"),
        ("t", pa.array(["yesterday", "", None]), "time"),
        ("g", pa.array(["", None]), "group"),
        ("c", pa.array(["a\0"]), "nul_byte"),
        ("c", pa.array(["a\r", "a\nb", "\r\n"]), "carriage_return"),
        ("c", pa.array([b"\xff", b"a\xed\xa0\x80"], pa.binary()), "invalid_utf8"),
        ("k", pa.array([b"\xff"], pa.binary()), "invalid_utf8"),
        ("c", pa.array(["x" * (1 << 20)]), "too_long"),
    ],
)
def test_rejects(name, values, reason):
    parsed = read_one(name, values)
    assert [reject.reason for reject in parsed.rejects] == [reason] * len(values)
    assert [reject.offset for reject in parsed.rejects] == list(range(len(values)))


def test_a_reject_is_the_row_as_json():
    columns = {
        "y": pa.array(["1", "2", "1"]),
        "n": pa.array([1, None, 3]),
        "x": pa.array([1.0, 0.5, 2.0]),
        "c": pa.array([b"a", b"\xff\xc3\xa9", b"b"]),
        "k": pa.array(["1", "2", "3"]),
    }
    (parsed,) = read_all(columns)
    assert parsed.offsets.tolist() == [0, 2] and parsed.categorical[0].dictionary.to_pylist() == [b"a", b"b"]
    (reject,) = parsed.rejects
    assert (reject.offset, reject.reason, reject.truncated_bytes) == (1, "invalid_utf8", 0)
    assert json.loads(reject.raw) == {"y": "2", "n": None, "x": "0.5", "c": "\\xffé", "k": "2"}


def numbered(rows: int) -> dict[str, object]:
    number = np.arange(rows)
    return {"y": number % 2, "n": number, "x": number / 7, "c": (number % 11).astype(str), "k": number.astype(str)}


@pytest.mark.parametrize(("start", "end"), [(0, 1000), (0, 1), (99, 101), (100, 200), (250, 777), (999, 5000), (5, 5)])
@pytest.mark.parametrize("batch", [7, 64, 1 << 15])
def test_ranges(monkeypatch, start, end, batch):
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", batch)
    stream = stream_of(numbered(1000), row_group_size=100)
    parts = list(read_rows(stream, start, end, SCHEMA, True, "log.parquet"))
    wanted = list(range(start, min(end, 1000)))
    assert [offset for part in parts for offset in part.offsets.tolist()] == wanted
    assert [key for part in parts for key in part.keys[0].to_pylist()] == [str(i).encode() for i in wanted]
    assert all(0 < len(part) <= batch for part in parts)


def test_reads_only_the_row_groups_and_columns_it_needs():
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    noise = np.random.default_rng(0).bytes(2_000_000)
    columns = numbered(2000) | {"z": pa.array([noise[1000 * i : 1000 * (i + 1)] for i in range(2000)])}
    stream = Counting(stream_of(columns, row_group_size=1000).getvalue())
    assert sum(len(part) for part in read_rows(stream, 1200, 1300, SCHEMA, True, "log.parquet")) == 100
    assert stream.taken < 150_000


def test_sizes():
    columns = {"y": pa.array(np.zeros(1000, np.int64)), "x": pa.array(np.arange(1000, dtype=np.float64))}
    stream = stream_of(columns, use_dictionary=False, compression="zstd")
    assert count_rows(stream) == 1000
    assert 16 <= bytes_per_row(stream) <= 17
    empty = stream_of({"y": pa.array([], pa.int64())})
    assert count_rows(empty) == 0 and bytes_per_row(empty) == 0


def test_memory_is_bounded():
    rows = 20_000
    columns = numbered(rows) | {"c": pa.array([f"{i:01000d}" for i in range(rows)])}
    stream = stream_of(columns, use_dictionary=False, compression="zstd")  # 20 MB in one row group
    before, most = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    for part in read_rows(stream, 0, rows, SCHEMA, True, "log.parquet"):
        assert len(part) <= 9000
        most = max(most, pa.total_allocated_bytes() - before)
    tracemalloc.stop()
    assert most < 64 << 20


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("name", ["y", "n", "c", "k"])
def test_a_missing_column(name, labelled):
    stream = stream_of({other: values for other, values in GOOD.items() if other != name})
    if name == "y" and not labelled:
        check_columns(stream, SCHEMA, labelled, "a/log.parquet")
        return
    with pytest.raises(
        DataError, match=rf"must have the column '{name}' .* once\. Received: only .* \(a/log\.parquet\)"
    ):
        check_columns(stream, SCHEMA, labelled, "a/log.parquet")


def test_a_column_twice():
    table = pa.Table.from_arrays([pa.array([1])] * 6, names=["y", "n", "x", "c", "k", "c"])
    stream = io.BytesIO()
    pq.write_table(table, stream)
    with pytest.raises(DataError, match=r"column 'c' of the schema once\. Received: 2 of that name"):
        check_columns(stream, SCHEMA, True, "log.parquet")


@pytest.mark.parametrize("what", ["text", "empty", "cut", "flipped"])
def test_damaged(what):
    data = bytearray(stream_of(numbered(50_000), compression="zstd", write_page_checksum=False).getvalue())
    if what == "flipped":
        data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    stream = io.BytesIO({"text": b"y\tn\n1\t2\n", "empty": b"", "cut": data[:-100], "flipped": data}[what])
    with pytest.raises(DataError, match=r"^A parquet file must be whole\. Received: [^\n]+ \(.+\)\.$"):
        for _ in read_rows(stream, 0, 50_000, SCHEMA, True, "log.parquet"):
            pass


def test_an_error_of_the_file_system_is_passed_on():
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError(104, "reset by peer")

    with pytest.raises(ConnectionResetError):
        count_rows(Failing(stream_of(numbered(10)).getvalue()))


VALUES = ["0", "1", "", "5", "-0", "1.5", "inf", "nan", "a", "é", "a\0", "a\r", "2024-01-02", "1e400", "9" * 19]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(VALUES), min_size=8, max_size=8), min_size=1, max_size=8), st.data())
def test_equals_the_strict_parser_on_texts(rows, data):
    calm = [["1", "5", "1.5", "a", "k", "1", "g", "7"]] * len(rows)
    rows = [
        [data.draw(st.sampled_from(pair)) for pair in zip(*both, strict=True)] for both in zip(calm, rows, strict=True)
    ]
    columns = {name: pa.array([row[i] for row in rows]) for i, name in enumerate(FULL.names)}
    (parsed,) = read_all(columns, FULL)
    expected, reasons = [], []
    for number, row in enumerate(rows):
        marks = {"nul_byte": "\0", "carriage_return": "\r"}
        broken = [reason for reason, mark in marks.items() if any(mark in text for text in row)]
        try:
            verdict = parse_texts(dict(zip(FULL.names, map(str.encode, row), strict=True)), FULL)
        except BadLine as bad:
            broken.append(bad.reason)
        if broken:
            reasons.append((number, broken[0]))
        else:
            expected.append((number, verdict))
    assert [(reject.offset, reject.reason) for reject in parsed.rejects] == reasons
    assert parsed.offsets.tolist() == [number for number, _ in expected]
    assert parsed.labels is not None and parsed.labels.tolist() == [row.label for _, row in expected]
    assert parsed.weights is not None and parsed.weights.tolist() == [row.weight for _, row in expected]
    numbers = [[math.nan if x is None else x for x in row.numerics] for _, row in expected]
    np.testing.assert_array_equal(parsed.numbers(), np.array(numbers, np.float32).reshape(-1, 2))
    assert parsed.categorical[0].to_pylist() == [row.categoricals[0] for _, row in expected]
    assert [list(keys) for keys in zip(*(key.to_pylist() for key in parsed.keys), strict=True)] == [
        row.keys for _, row in expected
    ]

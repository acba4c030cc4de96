from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from verdicts import as_rows, by_the_definition

from features import parsing
from features.errors import DataError
from features.lines import Chunk
from features.parsing import parse_chunk
from features.rejects import Reject
from features.rows import ParsedRows
from features.schema import CATEGORICAL, CRITEO, FLOAT, GROUP, INTEGER, KEY, LABEL, TIME, WEIGHT, Column, Schema
from features.strict import parse_line

SMALL = Schema((Column("y", LABEL), Column("n", INTEGER), Column("x", FLOAT), Column("c", CATEGORICAL)))
COMMAS = Schema(
    (
        Column("id", KEY),
        Column("c1", CATEGORICAL),
        Column("x", FLOAT),
        Column("y", LABEL),
        Column("n", INTEGER),
        Column("c2", CATEGORICAL),
    ),
    delimiter=",",
)
FULL = Schema(
    (
        Column("t", TIME),
        Column("c", CATEGORICAL),
        Column("w", WEIGHT),
        Column("y", LABEL),
        Column("g", GROUP),
        Column("x", FLOAT),
        Column("n", INTEGER),
        Column("id", KEY),
    ),
    delimiter=";",
)
VALUES = """0 1 2 -1 +1 -0 - . .5 1. 1.5 1e5 1e39 1e-50 1e400 1e4000 nan NA NaN null inf 0x1F 16777217 01
    123456789012345678 1234567890123456789 ffffffff '' "" "a 'b \\ é ٣ \ufeff""".split()
NASTY = [*VALUES, "", " 2", "2 ", " ", "\0", "\r", "\r\n", "\n", "\t", ",", "a\tb", "\x0b", "\u2028"]


def check(data: bytes, schema: Schema, labelled: bool = True, offset: int = 1000) -> ParsedRows:
    chunk = Chunk(offset, data)
    parsed = parse_chunk(chunk, schema, labelled)
    assert as_rows(parsed, schema, labelled) == by_the_definition(chunk, schema, labelled, parse_line)
    return parsed


def fields_of(schema: Schema, labelled: bool) -> st.SearchStrategy[bytes]:
    """A line: mostly good values, sometimes nasty ones, sometimes any bytes at all."""
    good = {
        LABEL: st.sampled_from([b"0", b"1"]),
        INTEGER: st.sampled_from([b"", b"5", b"-0", b"16777217"]),
        FLOAT: st.sampled_from([b"", b"1.", b"-.1e2", b"1e-50"]),
        WEIGHT: st.sampled_from([b"1", b"0", b".25", b"65536", b"1e-50"]),
        TIME: st.sampled_from([b"1700000000", b"2024-02-29", b"2024-02-29T23:59:59.123456789Z"]),
        GROUP: st.sampled_from([b"g", b"h i", "é".encode()]),
    }
    free = st.one_of(st.sampled_from(NASTY).map(str.encode), st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xc3"]))
    columns = schema.columns if labelled else schema.without_label()
    nasty_or = [st.one_of(good.get(c.kind, free), good.get(c.kind, free), free) for c in columns]
    calm = [good.get(c.kind, st.sampled_from([b"", b"a", b'"q', "é".encode()])) for c in columns]
    join = schema.delimiter.encode().join
    anything = st.lists(st.sampled_from([*NASTY, "\t", ","]).map(str.encode), max_size=6).map(b"".join)
    return st.one_of(st.tuples(*calm).map(join), st.tuples(*nasty_or).map(join), anything, st.binary(max_size=12))


@st.composite
def chunks(draw: st.DrawFn) -> tuple[bytes, Schema, bool]:
    schema, labelled = draw(st.sampled_from([SMALL, COMMAS, FULL])), draw(st.booleans())
    end = st.sampled_from([b"\n", b"\n", b"\r\n"])
    lines = draw(st.lists(st.tuples(fields_of(schema, labelled), end), max_size=8))
    data = b"".join(line + newline for line, newline in lines)
    return data[: len(data) - draw(st.integers(0, 2))], schema, labelled


@settings(max_examples=200, deadline=None)
@given(chunks())
@example((b"\xef\xbb\xbf,\xef\xbb\xbf,1,1,1,\xef\xbb\xbf\n", COMMAS, True))
@example((b"1\t1\t1\ta\r", SMALL, True))
@example((b"\n\n1\t1\t1\ta\n\n", SMALL, True))
@example((b"\xff\n1\t1\t1\t\xc3\xa9\n", SMALL, True))
def test_equals_the_strict_parser(case):
    check(*case)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([SMALL, COMMAS, FULL]), st.booleans(), st.binary(max_size=60))
def test_equals_the_strict_parser_on_any_bytes(schema, labelled, data):
    check(data, schema, labelled)


def criteo_lines(rows: int) -> list[bytes]:
    random = np.random.default_rng(1)
    integers = random.integers(-2, 3000, (rows, 13)).astype(str)
    integers[random.random((rows, 13)) < 0.2] = ""
    ids = [[f"{value:08x}" for value in row] for row in random.integers(0, 1 << 32, (rows, 26)).tolist()]
    return ["\t".join([str(i % 2), *integers[i], *ids[i]]).encode() for i in range(rows)]


BREAKERS = {
    "field_count": lambda line: line.rpartition(b"\t")[0],
    "field_count ": lambda line: line + b"\tx",
    "integer": lambda line: line[:2] + b"12x" + line[line.index(b"\t", 2) :],
    "label": lambda line: b"2" + line[1:],
    "empty_line": lambda line: b"",
    "invalid_utf8": lambda line: line[:-2] + b"\xff\xfe",
    "nul_byte": lambda line: line[:-2] + b"\0",
    "too_long": lambda line: line + b"x" * 10_000_000,
}


def test_the_eight_kinds_of_broken_lines_and_no_others_are_rejected():
    lines, reasons = criteo_lines(400), {}
    for number, (reason, breaker) in enumerate(BREAKERS.items()):
        for index in {20 * number + 7, 20 * number + 8, 399 - number} if reason != "too_long" else {200}:
            lines[index] = breaker(lines[index])
            reasons[index] = reason.strip()
    starts = np.cumsum([0, *(len(line) + 1 for line in lines)])
    with mock.patch.object(parsing._Parser, "line_by_line", side_effect=AssertionError("slow")):
        parsed = check(b"\n".join(lines), CRITEO)
    assert [(x.offset - 1000, x.reason, x.raw) for x in parsed.rejects] == [
        (starts[index], reasons[index], lines[index]) for index in sorted(reasons)
    ]
    assert len(parsed) + len(parsed.rejects) == 400


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n", b"x", b"1\t1\t1\ta", b"1\t1\t1\ta\n", b"2\t1\t1\ta\n"])
def test_small_chunks(data):
    check(data, SMALL)


def test_windows_line_ends_do_not_change_values():
    lines = criteo_lines(50)
    plain, windows = (parse_chunk(Chunk(0, end.join(lines) + end), CRITEO) for end in (b"\n", b"\r\n"))
    assert plain.categorical == windows.categorical and not windows.rejects
    np.testing.assert_array_equal(plain.numbers(), windows.numbers())
    assert windows.offsets.tolist() == (plain.offsets + np.arange(50)).tolist()


def test_integers_above_what_float32_holds_are_rounded_once_and_ids_stay_apart():
    data = b"1\t16777217\t0.1\tffffffff\n0\t999999999999999999\t1e-46\tfffffffe\n"
    parsed = check(data, SMALL)
    np.testing.assert_array_equal(
        parsed.numbers(),
        np.array([[16777217, 0.1], [999999999999999999, 1e-46]], np.float64).astype(np.float32),
    )
    assert parsed.categorical[0].dictionary.to_pylist() == [b"ffffffff", b"fffffffe"]


def test_floats_are_rounded_to_float64_and_then_to_float32():
    # A hair above the middle of 1 and the next float32: rounding at once would go up.
    parsed = check(b"1\t\t1.0000000596046447753906250001\ta\n", SMALL)
    assert parsed.numbers()[0, 1] == 1.0


def test_a_cut_line_is_one_reject():
    parsed = parse_chunk(Chunk(50, b"x" * (1 << 20), 77), SMALL)
    assert as_rows(parsed, SMALL, True) == [
        (
            50,
            Reject(
                50,
                "too_long",
                f"expected at most 1048576 bytes, received {(1 << 20) + 77}",
                b"x" * (1 << 20),
                77,
            ),
        )
    ]


def test_where_the_fast_way_finds_a_good_row_bad_the_definition_decides():
    def cast(*args: object) -> object:
        values = real(*args)
        values.bad[:] = True
        return values

    real = parsing.cast_columns
    with mock.patch.object(parsing, "cast_columns", cast):
        assert len(check(b"1\t1\t1\ta\n0\t\t\t\n2\t\t\t\n", SMALL)) == 2


def test_weight_group_and_time():
    data = b"17;a;0.5;1;g;;5;k\n2024-02-03;;2;0;h;1.5;;\n17;a;-1;1;g;;5;k\n17;a;1;1;;;5;k\nnow;a;1;1;g;;5;k\n"
    parsed = check(data, FULL)
    assert parsed.weights is not None and parsed.weights.tolist() == [0.5, 2]
    assert [column.to_pylist() for column in parsed.keys] == [[b"17", b"2024-02-03"], [b"g", b"h"], [b"k", b""]]
    assert [reject.reason for reject in parsed.rejects] == ["weight", "group", "time"]


def test_a_log_without_labels_has_no_weights():
    parsed = check(b"17;a;g;1.5;5;k\n", FULL, labelled=False)
    assert parsed.labels is None and parsed.weights is None and len(parsed) == 1


def test_many_more_short_rows_than_usual():
    parsed = parse_chunk(Chunk(0, b"1\t2\t3\ta\n" * 300_000), SMALL)
    assert len(parsed) == 300_000 and not parsed.rejects and parsed.numbers().sum() == 1_500_000


class TestHeader:
    schema = Schema(COMMAS.columns, delimiter=",", header=True)

    @pytest.mark.parametrize("offset", [0, 3])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_is_no_row(self, offset, end):
        header = b"id,c1,x,y,n,c2" + end
        parsed = parse_chunk(Chunk(offset, header + b"k,a,1,1,2,b\nk,a,1,2,2,b\n"), self.schema)
        assert parsed.offsets.tolist() == [offset + len(header)]
        assert [reject.offset for reject in parsed.rejects] == [offset + len(header) + 12]

    def test_has_no_label_in_an_unlabelled_log(self):
        assert len(parse_chunk(Chunk(0, b"id,c1,x,n,c2\nk,a,1,2,b"), self.schema, labelled=False)) == 1

    def test_alone_gives_nothing(self):
        parsed = parse_chunk(Chunk(0, b"id,c1,x,y,n,c2"), self.schema)
        assert len(parsed) == len(parsed.rejects) == 0

    def test_is_only_at_the_beginning_of_a_file(self):
        parsed = parse_chunk(Chunk(14, b"id,c1,x,y,n,c2\n"), self.schema)
        assert [reject.reason for reject in parsed.rejects] == ["label"]

    @pytest.mark.parametrize("line", [b"k,a,1,1,2,b\n", b"id,x,c1,y,n,c2\n", b"\n", b"id,c1,x,n,c2\n", b"\xff\0"])
    def test_must_name_the_columns(self, line):
        with pytest.raises(DataError, match="header of the log must name the columns of the schema. Received: "):
            parse_chunk(Chunk(0, line), self.schema)

import datetime

import pyarrow as pa
import pytest

from features.errors import DataError
from features.samples import SEVERAL, SampleColumn, sample_lines, sample_parquet


def columns_of(data: bytes) -> dict[str, tuple[str, ...]]:
    return {column.name: column.texts for column in sample_lines(data, "log").columns}


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|", " ", "\x01"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimited_lines(delimiter, end):
    rows = [["1", "", "é"], ["0", "3", "b"], ["0", "", ""]]
    data = end.join(delimiter.join(row) for row in rows).encode()
    for line_end in (b"", end.encode()):
        sample = sample_lines(b"\xef\xbb\xbf" + data + line_end, "log")
        assert (sample.format, sample.delimiter, sample.header) == ("text", delimiter, False)
        assert [(column.name, column.texts, column.type) for column in sample.columns] == [
            ("f1", ("1", "0", "0"), None),
            ("f2", ("", "3", ""), None),
            ("f3", ("é", "b", ""), None),
        ]


def test_the_delimiter_that_gives_most_fields_alike_wins():
    lines = ["1\ta,b\t2024-01-02 03:04\tx|y|z", "0\tc,d\t2024-01-02 03:05\tx|y", "0\te,f\t2024-01-02 03:06\tx"]
    assert sample_lines("\n".join(lines).encode(), "log").delimiter == "\t"


def test_lines_with_another_number_of_fields_are_left_out():
    data = b"1,a\n" * 8 + b"1,a,b\n" + b"\n" + b"x\n"
    assert columns_of(data) == {"f1": ("1",) * 8, "f2": ("a",) * 8}


@pytest.mark.parametrize(
    ("first", "header"),
    [
        (b"id,click,price", True),
        (b"id,click,id", False),
        (b"id,,price", False),
        (b"id,1,price", False),
        (b"id,1e5,price", False),
    ],
)
def test_header(first, header):
    sample = sample_lines(first + b"\nk,1,2.5\nk,0,0.5\n", "log")
    assert sample.header is header
    assert len(sample.columns[0].texts) == 3 - header
    assert [column.name for column in sample.columns] == (["id", "click", "price"] if header else ["f1", "f2", "f3"])


def test_a_header_alone_gives_columns_without_rows():
    assert columns_of(b"a,b\n") == {"a": (), "b": ()}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must hold rows. Received: no line"),
        (b"\n\r\n", "must hold rows"),
        (b"\x1f\x8b\x08\0", "must be named .gz or .zst"),
        (b"\x28\xb5\x2f\xfd", "must be named .gz or .zst"),
        (b"abc\ndef\n", r"same number of fields, .* Received: abc \(day/log, first line\)"),
        (b"a,b\na,b,c\na,b,c,d\n", "same number of fields"),
        (b'"1","a,b"\n"0","c,d"\n', "must not be quoted"),
    ],
)
def test_what_is_no_log(data, message):
    with pytest.raises(DataError, match=message):
        sample_lines(data, "day/log")


def test_json_lines():
    data = b"""{"y": true, "n": 1, "x": 1.0, "t": "a", "m": 1}
        {"y": false, "n": -0, "x": null, "z": {"a": 1}, "m": "b"}
        {broken
        {"t": "", "l": []}"""
    sample = sample_lines(data, "log")
    assert (sample.format, sample.header) == ("json", False)
    assert {column.name: (column.texts, column.type) for column in sample.columns} == {
        "y": (("true", "false", ""), "true or false"),
        "n": (("1", "0", ""), "integer"),
        "x": (("1.0", "", ""), "float"),
        "t": (("a", "", ""), "text"),
        "m": (("1", "b", ""), None),
        "z": ((), SEVERAL),
        "l": ((), SEVERAL),
    }


def test_where_all_values_are_texts_the_types_say_nothing():
    sample = sample_lines(b'{"y": "1", "n": "5"}\n{"y": "0", "n": null}', "log")
    assert [column.type for column in sample.columns] == [None, None]


def test_parquet():
    rows = pa.table(
        {
            "y": pa.array([True, None]),
            "n": pa.array([1, 2], pa.uint8()),
            "x": pa.array([1.0, 2.5]),
            "c": pa.array(["a", None]).dictionary_encode(),
            "b": pa.array([b"\xff", b"b"]),
            "t": pa.array([datetime.datetime(2024, 1, 2), None], pa.timestamp("s")),
            "z": pa.nulls(2),
            "l": pa.array([[1], [2]]),
            "d": pa.array([datetime.timedelta(1), None]),
        }
    )
    sample = sample_parquet(rows)
    assert sample.format == "parquet"
    assert {column.name: (column.texts, column.type) for column in sample.columns} == {
        "y": (("true", ""), "true or false"),
        "n": (("1", "2"), "integer"),
        "x": (("1", "2.5"), "float"),
        "c": (("a", ""), "text"),
        "b": (("\ufffd", "b"), "text"),
        "t": (("2024-01-02T00:00:00Z", ""), "timestamp"),
        "z": (("", ""), None),
        "l": ((), SEVERAL),
        "d": ((), "duration[us]"),
    }


def test_facts_of_a_column():
    column = SampleColumn("c", ("12", "", "a", "12", "3"))
    assert column.present == ("12", "a", "12", "3") and column.distinct == {"12", "a", "3"}
    assert column.share("[0-9]+") == 0.75 and column.share("[0-9]") == 0.25
    assert SampleColumn("c", ("",)).share(".*") == 0

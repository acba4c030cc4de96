"""Splits: what ``--split`` may be, and which split a row's own values put it in."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_ranges import read_chunks

from features.errors import ConfigError, DataError
from features.parsing import parse_chunk
from features.rows import ParsedRows
from features.schema import CATEGORICAL, FLOAT, GROUP, KEY, LABEL, TIME, Column, Schema
from features.splits import BYTES, FILES, HASH, LINES, METHODS, Split

SCHEMA = Schema(
    (
        Column("request", KEY),
        Column("site", CATEGORICAL),
        Column("y", LABEL),
        Column("when", TIME),
        Column("x", FLOAT),
        Column("user", GROUP),
        Column("town", CATEGORICAL),
    ),
    delimiter=",",
)
BARE = Schema((Column("y", LABEL), Column("x", FLOAT), Column("c", CATEGORICAL)))


def parts_of(rows: Sequence[dict[str, str]], chunk_bytes: int = 1 << 20) -> list[ParsedRows]:
    """Rows with the given values, parsed in chunks."""
    plain = {"request": "r", "site": "s", "y": "1", "when": "0", "x": "1", "user": "u", "town": "t"}
    data = "".join(",".join((plain | row).values()) + "\n" for row in rows).encode()
    return [parse_chunk(chunk, SCHEMA) for _, chunk in read_chunks(io.BytesIO(data), [(0, len(data))], chunk_bytes)]


def found(text: str, rows: Sequence[dict[str, str]], chunk_bytes: int = 1 << 20) -> list[int]:
    split = Split.parse(text)
    split.check(SCHEMA)
    splits = [split.of_rows(part, SCHEMA) for part in parts_of(rows, chunk_bytes)]
    assert split.by_row and all(part.dtype == np.uint8 for part in splits)
    return [number for part in splits for number in part.tolist()]


def at(text: str, times: Sequence[str]) -> list[int]:
    return found(f"time:{text}", [{"when": time} for time in times])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("70/15/15", Split(BYTES, (0.7, 0.15, 0.15))),
        ("0.5/0.25/0.25", Split(BYTES, (0.5, 0.25, 0.25))),
        ("90/10/0", Split(BYTES, (0.9, 0.1, 0.0))),
        ("800000/100000/100000", Split(LINES, (800000, 100000, 100000))),
        ("5/2/0", Split(LINES, (5, 2, 0))),
        ("files:22/1/1", Split(FILES, (22, 1, 1))),
        ("files:70/15/15", Split(FILES, (70, 15, 15))),
        ("hash:user:50/25/25", Split(HASH, (0.5, 0.25, 0.25), "user")),
        ("hash:a:b:0.5/0.5/0", Split(HASH, (0.5, 0.5, 0.0), "a:b")),
        ("time:100/200", Split("time", times=("100", "200"))),
        ("time:-5/007", Split("time", times=("-5", "007"))),
        ("without-validation:70/15/15", Split(BYTES, (0.7, 0.15, 0.15), validates=False)),
        ("without-validation:hash:a:50/25/25", Split(HASH, (0.5, 0.25, 0.25), "a", validates=False)),
        ("time:2024-01-01/2024-01-01T12:00Z", Split("time", times=("2024-01-01", "2024-01-01T12:00Z"))),
    ],
)
def test_forms(text: str, expected: Split) -> None:
    split = Split.parse(text)
    assert split == expected
    assert split.by_row == (split.method in ("time", "hash")) and split.method in METHODS


@pytest.mark.parametrize(
    "text",
    """70/15 70/15/15/0 70/15/x 0/50/50 100/0/0 -70/155/15 nan/15/15 inf/1/1 1.5/2/3 0.7/0.2/0.2 70,15,15 time time:
    time:1 time:1/2/3 time:1/x time:2024-01-01/5 time:2024-13-01/2024-14-01 time:2024-01-01T10:00+01:00/2025 hash hash:
    hash:user hash:70/15/15 hash:user:5/2/1 hash:user:100/0/0 files files:1 files:1/0/1 files:0.5/0.25/0.25 files:x/1/1
    days:1/2/3 1e400/1/1""".split()
    + ["", "/", "//", "70/15/15/"],
)
def test_other_forms_are_an_error_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="^--split must be train/valid/test as shares") as error:
        Split.parse(text)
    assert str(error.value).endswith(f"Received: {text}.") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["time:2/1", "time:10/9", "time:5/5", "time:2024-02-01/2024-01-31T23:59", "time:2024-01-01/2024-01-01T00:00"],
)
def test_validation_comes_before_test(text: str) -> None:
    with pytest.raises(ConfigError, match="must have validation before test. Received: time:"):
        Split.parse(text)


@pytest.mark.parametrize("text", ["hash:request:60/20/20", "hash:user:60/20/20", "hash:town:60/20/20", "time:1/2"])
def test_columns_that_decide(text: str) -> None:
    Split.parse(text).check(SCHEMA)


@pytest.mark.parametrize("text", ["70/15/15", "5/2/1", "files:1/1/1", "hash:c:60/20/20"])
def test_position_needs_no_column(text: str) -> None:
    Split.parse(text).check(BARE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time:1/2", "--split time: must have a schema with a time column. Received: none"),
        ("hash:x:60/20/20", "must name a key, group, time or categorical column of the schema. Received: x."),
        ("hash:y:60/20/20", "Received: y."),
        ("hash:user:60/20/20", "Received: user."),
    ],
)
def test_a_column_that_is_not_there_is_an_error_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Split.parse(text).check(BARE)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_whole_times() -> None:
    times = ["99", "100", "101", "0100", "-100", "199", "200", "999999999999999999", "-0"]
    assert at("100/200", times) == [0, 1, 1, 1, 0, 1, 2, 2, 0]
    assert at("-5/-0", ["-6", "-5", "-1", "0", "00"]) == [0, 1, 1, 2, 2]


@settings(deadline=None)
@given(st.lists(st.integers(-(10**18) + 1, 10**18 - 1), min_size=1), st.integers(-99, 99), st.integers(1, 99))
def test_any_whole_times(times: list[int], first: int, after: int) -> None:
    expected = [int(time >= first) + int(time >= first + after) for time in times]
    assert at(f"{first}/{first + after}", list(map(str, times))) == expected


TIMES = [
    ("2023-12-31", 0),
    ("2023-12-31T23:59:59.999999999Z", 0),
    ("2024-01-01", 1),
    ("2024-01-01 00:00", 1),
    ("2024-01-01T00:00:00", 1),
    ("2024-01-01T00:00:00.0Z", 1),
    ("2024-01-31 23:59", 1),
    ("2024-02-01T09:29", 1),
    ("2024-02-01 09:29:59.5", 1),
    ("2024-02-01T09:30", 2),
    ("2024-02-01 09:30:00.000", 2),
    ("2024-02-01 09:30:00.000000001", 2),
    ("2024-02-02", 2),
    ("9999-12-31", 2),
]


@pytest.mark.parametrize("first", ["2024-01-01", "2024-01-01T00:00", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00.000"])
@pytest.mark.parametrize("second", ["2024-02-01T09:30", "2024-02-01 09:30:00", "2024-02-01T09:30:00.000000000Z"])
def test_a_moment_is_the_same_however_it_is_written(first: str, second: str) -> None:
    assert at(f"{first}/{second}", [time for time, _ in TIMES]) == [number for _, number in TIMES]


@pytest.mark.parametrize(
    ("text", "times", "other"),
    [
        ("2024-01-01/2024-02-01", ["2024-01-01", "1700000000"], "1700000000"),
        ("1700000000/1800000000", ["5", "2024-01-01T00:00"], "2024-01-01T00:00"),
    ],
)
def test_times_of_the_other_form_are_an_error_in_one_line(text: str, times: list[str], other: str) -> None:
    with pytest.raises(DataError) as error:
        at(text, times)
    assert str(error.value) == (f"--split time: must be in the form of the log's times. Received: {text} for {other}.")


@pytest.mark.parametrize("column", ["request", "user", "town", "site"])
@pytest.mark.parametrize(("shares", "expected"), [("70/20/10", (0.7, 0.2, 0.1)), ("50/50/0", (0.5, 0.5, 0.0))])
def test_shares_of_a_hash(column: str, shares: str, expected: tuple[float, ...]) -> None:
    number = 20_000
    numbers = found(f"hash:{column}:{shares}", [{column: f"value {value}"} for value in range(number)])
    for split, share in enumerate(expected):
        # Five standard deviations of a binomial distribution.
        bound = 5 * (share * (1 - share) / number) ** 0.5
        assert abs(numbers.count(split) / number - share) <= bound


@pytest.mark.parametrize("column", ["request", "user", "town"])
def test_a_value_is_in_the_same_split_wherever_it_stands(column: str) -> None:
    rng = np.random.default_rng(0)
    values = [f"é{value}" * (1 + value % 4) for value in rng.zipf(1.3, 3000) % 300]
    rows = [{column: value} for value in values]
    numbers = found(f"hash:{column}:60/20/20", rows)
    assert set(numbers) == {0, 1, 2}
    split_of = dict(zip(values, numbers, strict=True))
    assert numbers == [split_of[value] for value in values]
    # Neither the chunks nor the rows before matter, nor which column has the value.
    assert found(f"hash:{column}:60/20/20", rows, chunk_bytes=500) == numbers
    assert found(f"hash:{column}:60/20/20", rows[::-1]) == numbers[::-1]
    assert found("hash:site:60/20/20", [{"site": value} for value in values]) == numbers


def test_bounds_of_a_hash_are_nested() -> None:
    """A larger share of training only moves rows towards training."""
    rows = [{"user": f"u{number}"} for number in range(2000)]
    small, large = found("hash:user:50/30/20", rows), found("hash:user:60/30/10", rows)
    assert all(after <= before for before, after in zip(small, large, strict=True)) and small != large


@pytest.mark.parametrize("text", ["hash:user:60/20/20", "hash:site:60/20/20", "time:1/2", "time:2024-01-01/2025-01-01"])
def test_no_rows(text: str) -> None:
    nothing = parts_of([{"y": "bad"}])[0]
    assert len(nothing) == 0
    numbers = Split.parse(text).of_rows(nothing, SCHEMA)
    assert numbers.shape == (0,) and numbers.dtype == np.uint8

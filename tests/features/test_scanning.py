import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.scanning import Lines
from features.strict import EMPTY_LINE, BadLine, check_bytes

pieces = st.lists(st.sampled_from([b"a", b"\t", b"\n", b"\n", b"\r", b"\0", b"\xc3\xa9", b"\xff"])).map(b"".join)


def split(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n") if data else []


@settings(deadline=None)
@given(pieces)
def test_lines_are_those_between_newlines(data):
    lines = Lines(data)
    assert [lines[i] for i in range(len(lines))] == split(data)
    assert lines.starts.dtype == lines.ends.dtype == np.int64


@settings(deadline=None)
@given(pieces, st.randoms(use_true_random=False))
def test_select_keeps_lines_whole(data, random):
    lines = Lines(data)
    keep = np.array([random.random() < 0.5 for _ in range(len(lines))], bool)
    whole = data.splitlines(keepends=True) if b"\r" not in data else None
    selected = lines.select(keep)
    assert split(selected) == [line for line, kept in zip(split(data), keep, strict=True) if kept]
    if whole is not None:
        assert selected == b"".join(line for line, kept in zip(whole, keep, strict=True) if kept)


@pytest.mark.parametrize(
    ("line", "suspect"),
    [
        (b"a\tb", False),
        (b"\t", False),
        (b"a\tb\r", False),
        ("é\t😀".encode(), False),
        (b"", True),
        (b"\r", True),
        (b"a", True),
        (b"a\tb\tc", True),
        (b"a\t\0", True),
        (b"a\r\tb", True),
        (b"a\tb\r\r", True),
        (b"a\t\xff", True),
        (b"a\t" + b"x" * (1 << 20), True),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\nc\td\n", b"\nc\t\xff\n"])
def test_suspects(line, suspect, end):
    lines = Lines("é\t1\n".encode() + line + end)
    assert lines.suspects("\t", 2).tolist()[:2] == [False, suspect]


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (b"", True),
        (b"\n\n", True),
        (b"a\tb\n", True),
        ("é\t😀".encode(), True),
        (b"a\r\nb\r\n", True),
        (b"a\r\nb\r", True),
        (b"\r\n\r", True),
        (b"a\rb\n", False),
        (b"\ra\r\n", False),
        (b"a\r\r\n", False),
        (b"a\r\r", False),
        (b"a\r\n\r\r", False),
        (b"a\0\n", False),
        (b"\xff\n", False),
        (b"\xc3\n\xa9\n", False),
        (b"\xed\xa0\x80\n", False),
    ],
)
def test_good_bytes(data, good):
    assert Lines(data).good_bytes is good


@settings(deadline=None, max_examples=300)
@given(pieces)
def test_good_bytes_are_those_that_the_strict_parser_takes(data):
    reasons = set()
    for line in split(data):
        try:
            check_bytes(line.removesuffix(b"\r"))
        except BadLine as bad:
            reasons.add(bad.reason)
    assert Lines(data).good_bytes is not bool(reasons - {EMPTY_LINE})

import base64
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.rejects import Reject, printable, write_rejects


def written(*rejects: Reject) -> list[dict[str, object]]:
    stream = io.BytesIO()
    write_rejects(stream, "logs/day é.tsv", rejects)
    data = stream.getvalue()
    assert data.isascii() and data.endswith(b"\n") == bool(rejects)
    return [json.loads(line) for line in data.splitlines()]


def test_one_json_object_a_reject():
    first, second = written(
        Reject(7, "label", "expected 0 or 1, received '2'", b"2\t\xff\n\xc3\xa9"),
        Reject(90, "too_long", "expected ...", b"xyz", truncated_bytes=5),
    )
    assert first == {
        "source": "logs/day é.tsv",
        "offset": 7,
        "reason": "label",
        "detail": "expected 0 or 1, received '2'",
        "raw_base64": base64.b64encode(b"2\t\xff\n\xc3\xa9").decode(),
        "text": "2\\t\\xff\\né",
    }
    assert second["truncated_bytes"] == 5 and second["offset"] == 90
    assert written() == []


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a b", "a b"),
        (b"\0\x1b\r\x7f", "\\x00\\x1b\\r\\x7f"),
        ("\u2028\u200b".encode(), "\\u2028\\u200b"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ("é😀".encode(), "é😀"),
        (b"x" * 10_000, "x" * 200),
        ("😀".encode() * 500, "😀" * 200),
        (b"\0" * 500, "\\x00" * 50),
    ],
)
def test_printable(raw, text):
    assert printable(raw) == text


@settings(deadline=None)
@given(st.binary(max_size=1200))
def test_printable_is_the_beginning_of_the_whole_rendering(raw):
    whole = raw.decode("utf-8", "backslashreplace")
    rendered = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)
    assert printable(raw) == rendered[:200]
    assert printable(raw).isprintable()

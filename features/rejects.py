"""Bad lines of a log, with where they stood and why they are bad."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass

from features.tfrecord import Writable

MAX_TEXT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Reject:
    r"""A line that is no row.

    Args:
        offset: offset of the first byte of the line in its file.
        reason: one of :data:`features.strict.REASONS`.
        detail: what was expected and what was received.
        raw: the bytes of the line without its newline (a ``\r`` before it is kept).
        truncated_bytes: how many further bytes the line had that are not in ``raw``.
    """

    offset: int
    reason: str
    detail: str
    raw: bytes
    truncated_bytes: int = 0


def write_rejects(stream: Writable, source: str, rejects: Iterable[Reject]) -> None:
    """Writes rejects as JSON lines, one an object with the raw bytes in base64 and as printable text.

    Args:
        stream: where to write; left open.
        source: the file that the lines came from.
        rejects: the lines.
    """
    for reject in rejects:
        record = {
            "source": source,
            "offset": reject.offset,
            "reason": reject.reason,
            "detail": reject.detail,
            "raw_base64": base64.b64encode(reject.raw).decode("ascii"),
            "text": printable(reject.raw),
        }
        if reject.truncated_bytes:
            record["truncated_bytes"] = reject.truncated_bytes
        stream.write(json.dumps(record).encode("ascii") + b"\n")


def printable(raw: bytes) -> str:
    """Text of at most 200 characters, with backslash escapes for undecodable bytes and control characters."""
    # 200 characters have at most 800 bytes, and a character that the cut breaks has at most 3 bytes left.
    text = raw[: 4 * MAX_TEXT_CHARACTERS + 3].decode("utf-8", "backslashreplace")
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return "".join(escaped)[:MAX_TEXT_CHARACTERS]

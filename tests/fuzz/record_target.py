"""Records: whatever the bytes are, they decode to something that encodes again, or to an ArtifactError."""

from __future__ import annotations

import io
from dataclasses import fields

import numpy as np
from drawing import Draw

from features.blocks import Block, read_blocks
from features.errors import ArtifactError
from features.example import decode_example, encode_example
from features.targets import TargetBlock
from features.tfrecord import read_records, write_record

_WIDTHS = {
    "label": 1,
    "weight": 4,
    "dense": 8,
    "ids": 12,
    "fold": 1,
    "group": 8,
    "offset": 8,
    "logits": 8,
    "outcome": 2,
}
_NAMES = ("offset", "label", "dense", "ids", "fold", "weight", "group", "logits", "teacher", "", "\xe9", "outcome")
_KINDS = (set(_NAMES[:5]), set(_NAMES[:7]), {"offset", "logits", "teacher"})


def input_of(data: bytes) -> tuple[bool, bytes]:
    """Whether an input means a file, and the bytes of the file or record."""
    draw = Draw(data)
    if draw.below(2):
        return True, _draw_file(draw)
    return False, _draw_record(draw) if draw.below(4) else draw.rest()


def check(data: bytes) -> None:
    """Raises what is no ArtifactError, and AssertionError where a round trip changes something."""
    is_file, held = input_of(data)
    if is_file:
        _check_file(held)
    else:
        _check_record(held)


def _draw_record(draw: Draw) -> bytes:
    """A block of examples or targets, perhaps with wrong features, perhaps with changed bytes."""
    rows, names = draw.below(4), set(draw.choice(_KINDS))
    for _ in range(max(draw.below(6) - 3, 0)):
        names ^= {draw.choice(_NAMES)}
    features = {name: _draw_array(draw, rows * _WIDTHS.get(name, 1)) for name in sorted(names)}
    record = bytearray(encode_example(features))
    for _ in range(max(draw.below(6) - 3, 0)):
        start, removed = draw.byte() % (len(record) + 1), draw.below(4)
        record[start : start + removed] = draw.take(draw.below(4))
    return bytes(record)


def _draw_array(draw: Draw, size: int) -> bytes:
    size = max(size + draw.choice((0, 0, 0, 0, 0, 0, 0, 1, 4, -1, -4)), 0)
    return draw.take(size).ljust(size, b"\0")


def _draw_file(draw: Draw) -> bytes:
    """Records with right checksums, perhaps with changed bytes; or any bytes."""
    if draw.below(4) == 3:
        return draw.rest()
    stream = io.BytesIO()
    damage = [(draw.byte(), draw.byte()) for _ in range(max(draw.below(6) - 3, 0))]
    for _ in range(draw.below(4)):
        write_record(stream, _draw_record(draw) if draw.below(2) else draw.take(draw.below(32)))
    data = bytearray(stream.getvalue())
    for position, value in damage:
        data[position : position + 1] = bytes([value]) * (value % 3)
    return bytes(data)


def _check_file(data: bytes) -> None:
    records = []
    try:
        for record in read_records(io.BytesIO(data), "fuzz"):
            records.append(record)
        whole = True
    except ArtifactError:
        whole = False
    again = io.BytesIO()
    for record in records:
        _check_record(record)
        write_record(again, record)
    assert data.startswith(again.getvalue()) and whole == (data == again.getvalue()), "other records than the file's"
    try:
        assert len(list(read_blocks(io.BytesIO(data), "fuzz"))) == len(records)
    except ArtifactError:
        pass


def _check_record(data: bytes) -> None:
    try:
        features = decode_example(data)
        assert decode_example(encode_example(features)) == features
    except ArtifactError:
        features = {}
    for kind in (Block, TargetBlock):
        try:
            block = kind.decode(data, "fuzz")
        except ArtifactError:
            continue
        again = kind.decode(block.encode(), "fuzz")
        for field in fields(kind):
            value = getattr(block, field.name)
            assert not isinstance(value, np.ndarray) or len(value) == len(block.offsets), field.name
            assert _content(value) == _content(getattr(again, field.name)), field.name
        assert again.encode() == block.encode()
        assert decode_example(block.encode()).items() <= features.items(), "an array that the record does not hold"


def _content(value: np.ndarray | str | None) -> object:
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

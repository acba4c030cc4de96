"""The wire format of a ``tf.train.Example`` whose features are one byte string each.

Protocol buffers do not promise the same bytes twice for a map, so the few fields are written here, keys sorted.
Encoding: https://protobuf.dev/programming-guides/encoding/; messages: tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

from features.errors import ArtifactError

# Field numbers and wire types: every field on the path is "field 1 or 2, length-delimited".
_FIELD_1 = 0x0A
_FIELD_2 = 0x12
# A message has less than 2 GiB, so a length has at most five bytes of seven bits.
_MAX_SHIFT = 28


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _header(tag: int, length: int) -> bytes:
    return bytes((tag,)) + _varint(length)


def encode_example(features: Mapping[str, bytes]) -> bytes:
    """Serialises byte features as a ``tf.train.Example``; the same features give the same bytes."""
    pieces: list[bytes] = []
    for name in sorted(features):
        pieces += _entry(name.encode(), features[name])
    # The features are joined once: copies of them would hold up other threads.
    return b"".join([_header(_FIELD_1, sum(map(len, pieces))), *pieces])


def _entry(name: bytes, value: bytes) -> list[bytes]:
    """The pieces of a map entry: name, and a feature that is a list of one byte string."""
    pieces = [value]
    for tag in (_FIELD_1, _FIELD_1, _FIELD_2):
        pieces.insert(0, _header(tag, sum(map(len, pieces))))
    pieces = [_header(_FIELD_1, len(name)), name, *pieces]
    return [_header(_FIELD_1, sum(map(len, pieces))), *pieces]


def decode_example(data: bytes, where: str = "record") -> dict[str, bytes]:
    """Reads what :func:`encode_example` wrote, the features in any order.

    Raises:
        ArtifactError: the bytes are not such a message.
    """
    try:
        found: dict[str, bytes] = {}
        (features,) = _fields(memoryview(data), _FIELD_1)
        position = 0
        while position < len(features):
            entry, position = _read_field(features, position, _FIELD_1)
            name, feature = _fields(entry, _FIELD_1, _FIELD_2)
            (bytes_list,) = _fields(feature, _FIELD_1)
            (value,) = _fields(bytes_list, _FIELD_1)
            key = bytes(name).decode()
            if key in found:
                raise ValueError(f"feature {key!r} twice")
            found[key] = bytes(value)
        return found
    except ValueError as error:
        raise ArtifactError(
            f"A record must be a tf.train.Example of byte features. Received: {error} ({where})."
        ) from error


def _fields(message: memoryview, *tags: int) -> list[memoryview]:
    """The values of a message that has these fields and no others, in this order."""
    values, position = [], 0
    for tag in tags:
        value, position = _read_field(message, position, tag)
        values.append(value)
    if position != len(message):
        raise ValueError("bytes after the last field of a message")
    return values


def _read_field(data: memoryview, position: int, tag: int) -> tuple[memoryview, int]:
    """The value of the field that begins at ``position``, and where the next one begins."""
    found = _byte(data, position)
    if found != tag:
        raise ValueError(f"tag {found} where {tag} is due")
    length = 0
    for shift in range(0, _MAX_SHIFT + 1, 7):
        position += 1
        byte = _byte(data, position)
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise ValueError("a length of more than five bytes")
    position += 1
    if position + length > len(data):
        raise ValueError("a field is longer than its message")
    return data[position : position + length], position + length


def _byte(data: memoryview, position: int) -> int:
    if position >= len(data):
        raise ValueError("a message that ends within a field")
    return data[position]

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


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(tag: int, *parts: bytes) -> bytes:
    return b"".join((bytes((tag,)), _varint(sum(map(len, parts))), *parts))


def encode_example(features: Mapping[str, bytes]) -> bytes:
    """Serialises byte features as a ``tf.train.Example``; the same features give the same bytes."""
    entries = []
    for name in sorted(features):
        bytes_list = _field(_FIELD_1, _field(_FIELD_1, features[name]))
        entries.append(_field(_FIELD_1, _field(_FIELD_1, name.encode()), _field(_FIELD_2, bytes_list)))
    return _field(_FIELD_1, *entries)


def decode_example(data: bytes, where: str = "record") -> dict[str, bytes]:
    """Reads what :func:`encode_example` wrote.

    Raises:
        ArtifactError: the bytes are not such a message.
    """
    try:
        features, end = _read_field(data, 0, _FIELD_1)
        if end != len(data):
            raise ValueError("bytes after the message")
        found: dict[str, bytes] = {}
        position = 0
        while position < len(features):
            entry, position = _read_field(features, position, _FIELD_1)
            name, after_name = _read_field(entry, 0, _FIELD_1)
            feature, _ = _read_field(entry, after_name, _FIELD_2)
            bytes_list, _ = _read_field(feature, 0, _FIELD_1)
            value, _ = _read_field(bytes_list, 0, _FIELD_1)
            found[name.decode()] = value
        return found
    except (ValueError, IndexError) as error:
        raise ArtifactError(
            f"A record must be a tf.train.Example of byte features. Received: {error} ({where})."
        ) from error


def _read_field(data: bytes, position: int, tag: int) -> tuple[bytes, int]:
    if data[position] != tag:
        raise ValueError(f"tag {data[position]} where {tag} is due")
    length = shift = 0
    position += 1
    while True:
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if position + length > len(data):
        raise ValueError("a field is longer than its message")
    return data[position : position + length], position + length

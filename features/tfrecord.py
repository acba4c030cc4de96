"""The TFRecord container: length, masked CRC32C of the length, data, masked CRC32C of the data.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import google_crc32c

from features.errors import ArtifactError

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
# No serialised proto is longer; a longer record must not be asked for as one piece of memory.
_MAX_LENGTH = (1 << 31) - 1


class Writable(Protocol):
    """Whatever bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Writes all of the data."""


def masked_crc(data: bytes) -> int:
    """CRC32C of the data, rotated and shifted as TFRecord wants it."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def write_record(stream: Writable, data: bytes) -> None:
    """Appends one record."""
    length = struct.pack("<Q", len(data))
    stream.write(length + _CRC.pack(masked_crc(length)))
    stream.write(data)
    stream.write(_CRC.pack(masked_crc(data)))


def read_records(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yields the records of a file.

    Args:
        stream: opened at the start of the file.
        name: the file's name, for errors.

    Raises:
        ArtifactError: a checksum is wrong or the file ends within a record.
    """
    while header := stream.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise _damaged(name, "it ends within a record")
        length, length_crc = _HEADER.unpack(header)
        if masked_crc(header[:8]) != length_crc:
            raise _damaged(name, "the checksum of a length is wrong")
        if length > _MAX_LENGTH:
            raise _damaged(name, f"a record of {length} bytes")
        data, data_crc = stream.read(length), stream.read(_CRC.size)
        if len(data) < length or len(data_crc) < _CRC.size:
            raise _damaged(name, "it ends within a record")
        if masked_crc(data) != _CRC.unpack(data_crc)[0]:
            raise _damaged(name, "the checksum of a record is wrong")
        yield data


def _damaged(name: str, what: str) -> ArtifactError:
    return ArtifactError(
        f"A TFRecord file must be whole. Received: {what} ({name}); remove the folder of its stage and run again."
    )

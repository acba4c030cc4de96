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
        data = stream.read(length + _CRC.size)
        if len(data) < length + _CRC.size:
            raise _damaged(name, "it ends within a record")
        if masked_crc(data[:-4]) != _CRC.unpack(data[-4:])[0]:
            raise _damaged(name, "the checksum of a record is wrong")
        yield data[:-4]


def _damaged(name: str, what: str) -> ArtifactError:
    return ArtifactError(f"A TFRecord file must be whole. Received: {what} ({name}); delete it and run again.")

"""TFRecord files against TensorFlow's reader and writer, and against every kind of damage."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ArtifactError
from features.tfrecord import masked_crc, read_records, write_record

RECORDS = [b"", b"a", bytes(range(256)), b"x" * 70_000]


def written(records: list[bytes]) -> bytes:
    stream = io.BytesIO()
    for record in records:
        write_record(stream, record)
    return stream.getvalue()


def read(data: bytes) -> list[bytes]:
    return list(read_records(io.BytesIO(data), "shard-00007"))


def test_the_checksum_is_the_fast_one() -> None:
    assert google_crc32c.implementation == "c"


@pytest.mark.parametrize(
    ("data", "crc"),
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],
)
def test_masked_crc_of_the_check_values_of_crc32c(data: bytes, crc: int) -> None:
    """Check values: RFC 3720, appendix B.4; the mask turns the checksum 15 bits to the right and adds a constant."""
    bits = f"{crc:032b}"
    turned = int(bits[-15:] + bits[:-15], 2)
    assert masked_crc(data) == (turned + 0xA282EAD8) % 2**32


def test_bytes_by_hand() -> None:
    data = written([b"123456789"])
    assert len(data) == 8 + 4 + 9 + 4
    assert data[:8] == b"\x09" + bytes(7)
    assert data[12:21] == b"123456789"
    assert data[21:] == struct.pack("<I", 0xC78AB0E5)


def test_tensorflow_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path) -> None:
    from models.backend import tf

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(written(RECORDS))
    assert list(tf.data.TFRecordDataset(str(ours)).as_numpy_iterator()) == RECORDS
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for record in RECORDS:
            writer.write(record)
    with open(theirs, "rb") as file:
        assert list(read_records(file, "theirs")) == RECORDS
    assert theirs.read_bytes() == ours.read_bytes()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_round_trip(records: list[bytes]) -> None:
    assert read(written(records)) == records


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.data())
def test_a_file_cut_within_a_record_is_an_error(records: list[bytes], data: st.DataObject) -> None:
    whole = written(records)
    ends = [len(written(records[:number])) for number in range(len(records) + 1)]
    cut = data.draw(st.integers(0, len(whole)))
    stream = read_records(io.BytesIO(whole[:cut]), "shard-00007")
    complete = [end for end in ends if end <= cut]
    assert [next(stream) for _ in complete[1:]] == records[: len(complete) - 1]
    if cut in ends:
        assert list(stream) == []
    else:
        with pytest.raises(ArtifactError, match=r"whole.*ends within a record \(shard-00007\)"):
            next(stream)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=3), st.lists(st.binary(max_size=40), max_size=3))
def test_files_one_after_another_are_one_file(first: list[bytes], second: list[bytes]) -> None:
    assert read(written(first) + written(second)) == first + second


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.data())
def test_whatever_happens_to_a_file_no_other_record_comes_out(records: list[bytes], data: st.DataObject) -> None:
    whole = written(records)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    found = []
    try:
        for record in read_records(io.BytesIO(damaged), "shard-00007"):
            found.append(record)
    except ArtifactError as error:
        assert "(shard-00007)" in str(error)
    else:
        assert written(found) == damaged
    assert set(found) <= set(records)


def test_every_single_changed_byte_is_an_error() -> None:
    whole = written([b"abc", b"defg"])
    for position in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= change
            with pytest.raises(ArtifactError, match="shard-00007"):
                read(bytes(damaged))


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_garbage_is_an_error(garbage: bytes) -> None:
    with pytest.raises(ArtifactError, match="shard-00007"):
        read(garbage)


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63, 2**64 - 1])
def test_a_length_that_no_memory_holds_is_an_error_even_with_its_checksum(length: int) -> None:
    header = struct.pack("<Q", length)
    with pytest.raises(ArtifactError, match="shard-00007"):
        read(header + struct.pack("<I", masked_crc(header)) + b"data")


def test_which_checksum_is_wrong_is_said() -> None:
    whole = bytearray(written([b"abc"]))
    whole[-1] ^= 1
    with pytest.raises(ArtifactError, match="checksum of a record"):
        read(bytes(whole))
    whole = bytearray(written([b"abc"]))
    whole[0] ^= 1
    with pytest.raises(ArtifactError, match="checksum of a length"):
        read(bytes(whole))

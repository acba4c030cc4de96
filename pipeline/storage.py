"""Files, local or remote: listing inputs, reading them, and publishing outputs whole or not at all.

Remote paths (``gs://`` and whatever else Beam's file systems know) go through Beam; local ones do not need to.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import gzip
import hashlib
import io
import json
import os
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from features.errors import ArtifactError, ConfigError, DataError

WORK = ".work"
"""Folder inside a stage's for what only the unfinished stage needs."""

# A full disk, a quota, a folder that must not be written to, a disk that is read-only or broken.
_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO})

TEMPORARY = ".tmp"
"""How the names of unfinished local files end."""

GZIP, ZSTD = ".gz", (".zst", ".zstd")
"""How the names of compressed logs end."""

_BUFFER_BYTES = 1 << 20
# So much of a compressed file says how long it is decompressed.
_SAMPLE_BYTES = 16 << 20


@dataclass(frozen=True)
class InputFile:
    """A file of the log.

    Args:
        path: as it was found.
        size: bytes on disk.
        version: changes when the file does: mtime in ms, or what the remote file system gives.
    """

    path: str
    size: int
    version: int

    @property
    def compressed(self) -> bool:
        """Whether the file is gzip or zstd, by its name."""
        return self.path.endswith((GZIP, *ZSTD))


def is_remote(path: str) -> bool:
    """Whether Beam's file systems are needed for the path.

    Raises:
        ConfigError: they are, but Beam has none for it here.
    """
    if "://" not in path:
        return False
    try:
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise ConfigError(f"A path must be local or known to Beam. Received: {path} ({error}).") from error
    return True


def find_inputs(patterns: Sequence[str]) -> list[InputFile]:
    """Lists the files of the given paths and globs: patterns in the given order, each one's files by name.

    Raises:
        DataError: a pattern matches no file, or a directory.
    """
    found: dict[str, InputFile] = {}
    for pattern in patterns:
        matches = _match_remote(pattern) if is_remote(pattern) else _match_local(pattern)
        if not matches:
            raise DataError(f"--input must match at least one file. Received: {pattern} (no such file).")
        found |= {match.path: match for match in matches if match.path not in found}
    return list(found.values())


def _match_local(pattern: str) -> list[InputFile]:
    # Absolute, so that a file is the same whatever folder a command is called from.
    pattern = os.path.abspath(pattern)
    paths = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    files = []
    for path in paths:
        if os.path.isdir(path):
            raise DataError(f"--input must name files. Received: {path} (a directory; try {path.rstrip('/')}/*).")
        try:
            status = os.stat(path)
        except OSError as error:
            raise DataError(f"--input must name readable files. Received: {path} ({error.strerror}).") from error
        files.append(InputFile(path, status.st_size, status.st_mtime_ns // 1_000_000))
    return files


def _match_remote(pattern: str) -> list[InputFile]:
    result = FileSystems.match([pattern])[0]
    files = [
        InputFile(item.path, item.size_in_bytes, int((item.last_updated_in_seconds or 0) * 1000))
        for item in result.metadata_list
    ]
    return sorted(files, key=lambda file: file.path)


def version(path: str) -> list[int] | None:
    """Size and version of a file; None where there is none."""
    matches = _match_remote(path) if is_remote(path) else _match_local(path)
    return [matches[0].size, matches[0].version] if matches else None


def require_unchanged(files: Sequence[InputFile], advice: str) -> None:
    """Raises a DataError, with advice, for an input that is no longer what it was when it was listed."""
    for file in files:
        if version(file.path) != [file.size, file.version]:
            raise DataError(f"An input must not change while it is read. Received: {file.path} has changed; {advice}.")


def open_read(path: str) -> BinaryIO:
    """Opens a file for reading its bytes as they are.

    Raises:
        ArtifactError: it cannot be opened.
    """
    try:
        if is_remote(path):
            return cast(BinaryIO, FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))
        return open(path, "rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(f"A file must exist and be readable. Received: {path} ({reason}).") from error


@contextlib.contextmanager
def open_log(file: InputFile) -> Iterator[BinaryIO]:
    """Opens a file of the log, decompressed.

    Raises:
        DataError: a gzip or zstd file is damaged or ends early.
    """
    with open_read(file.path) as raw:
        if not file.compressed:
            yield raw
            return
        with _decompressed(raw, file.path) as stream:
            yield stream


@contextlib.contextmanager
def _decompressed(raw: BinaryIO, path: str) -> Iterator[BinaryIO]:
    if path.endswith(ZSTD):
        yield cast(BinaryIO, io.BufferedReader(_ZstdFile(raw, path), _BUFFER_BYTES))
        return
    try:
        with gzip.GzipFile(fileobj=raw) as stream:
            yield cast(BinaryIO, stream)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"A gzip file must be whole. Received: {error} ({path}).") from error


def stream_size(file: InputFile) -> int:
    """Bytes of a file of the log, decompressed: of a large compressed one as many as its beginning suggests.

    Raises:
        DataError: the beginning is damaged.
    """
    if not file.compressed:
        return file.size
    with open_read(file.path) as raw:
        counting = _CountingReader(raw)
        with _decompressed(cast(BinaryIO, counting), file.path) as stream:
            found = len(stream.read(_SAMPLE_BYTES))
    return found if found < _SAMPLE_BYTES else max(found, round(found * file.size / counting.bytes))


class _CountingReader(io.RawIOBase):
    """Counts what is read from a stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.bytes = stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self.bytes += len(data)
        return len(data)


class _ZstdFile(io.RawIOBase):
    """Decompresses a zstd file, of one frame or several, forward only."""

    def __init__(self, raw: BinaryIO, path: str) -> None:
        self._stream = pa.CompressedInputStream(raw, "zstd")
        self._path = path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            if error.errno is not None:  # of the file below, not of what is in it
                raise
            raise DataError(f"A zstd file must be whole. Received: {error} ({self._path}).") from error
        buffer[: len(data)] = data
        return len(data)


class HashingWriter:
    """Counts and (unless told otherwise) hashes what is written to a stream."""

    def __init__(self, stream: BinaryIO, hashed: bool = True) -> None:
        self._stream, self._hashed = stream, hashed
        self._digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Writes all of the data."""
        if self._hashed:
            self._digest.update(data)
        self.bytes += len(data)
        return self._stream.write(data)

    def flush(self) -> None:
        """Flushes the stream below."""
        self._stream.flush()

    @property
    def closed(self) -> bool:
        """Whether the stream below is closed."""
        return self._stream.closed

    @property
    def checksum(self) -> str:
        """SHA-256 of everything written so far."""
        return f"sha256:{self._digest.hexdigest()}"


@contextlib.contextmanager
def publish(path: str, hashed: bool = True) -> Iterator[HashingWriter]:
    """Writes a file that appears under its name whole or not at all."""
    if is_remote(path):
        # An object appears when its stream is closed, which also happens to one that is given up.
        with tempfile.TemporaryFile() as file:
            yield HashingWriter(cast(BinaryIO, file), hashed)
            file.seek(0)
            stream = FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
            shutil.copyfileobj(file, stream)
            stream.close()
        return
    temporary = f"{path}.{uuid.uuid4().hex}{TEMPORARY}"
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(temporary, "wb") as file:
            yield HashingWriter(file, hashed)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.errno in _WRITING:
            raise ArtifactError(f"A file must be writable. Received: {path} ({error.strerror}).") from error
        raise


@contextlib.contextmanager
def publish_folder(path: str) -> Iterator[str]:
    """Gives a new local folder to fill, which then appears under its name whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}{TEMPORARY}"
    try:
        yield temporary
        remove(path)
        os.rename(temporary, path)
    finally:
        remove(temporary)


def write_bytes(path: str, data: bytes) -> None:
    """Publishes a small file."""
    with publish(path) as writer:
        writer.write(data)


def write_json(path: str, value: Any) -> None:
    """Publishes a JSON file, indented for people."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def link(source: str, path: str) -> bool:
    """Gives a local file a second name; whether the file now has it: not every file system can.

    Files are published or removed, never written to where they lie: what becomes of one name is nothing to the other.
    """
    if is_remote(source) or is_remote(path):
        return False
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        os.link(source, path)
    except OSError:
        return os.path.exists(path) and os.path.samefile(source, path)
    return True


def read_json(path: str) -> Any:
    """Reads a JSON file.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    with open_read(path) as file:
        data = file.read()
    try:
        return json.loads(data)
    except ValueError as error:
        raise ArtifactError(f"A JSON file must be whole. Received: {path} ({error}).") from error


def read_text(path: str) -> str:
    """Reads a UTF-8 text file."""
    with open_read(path) as file:
        return file.read().decode()


def exists(path: str) -> bool:
    """Whether a file, or a local folder, exists; a remote folder is no more than the beginning of names."""
    return bool(FileSystems.exists(path)) if is_remote(path) else os.path.exists(path)


def remove(path: str) -> None:
    """Removes a file or a folder with all it holds, if it exists."""
    if is_remote(path):
        # Object stores have no folders: deleting one's name would leave what it holds.
        found = [item.path for item in FileSystems.match([path.rstrip("/") + "/**"])[0].metadata_list]
        found += [path] if FileSystems.exists(path) else []
        if found:
            FileSystems.delete(found)
    elif os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


def size_of(folder: str) -> int:
    """Bytes of all files below a local folder."""
    return sum(os.path.getsize(os.path.join(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def count_files(folder: str, suffix: str) -> int:
    """Number of local files in a folder whose names end so; 0 for a remote or missing folder."""
    if is_remote(folder) or not os.path.isdir(folder):
        return 0
    return sum(name.endswith(suffix) for name in os.listdir(folder))


def remove_temporaries(folder: str) -> None:
    """Removes the unfinished files and folders below a local folder that killed processes left behind."""
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            if name.endswith(TEMPORARY):
                remove(os.path.join(parent, name))


def join(*parts: str) -> str:
    """Joins path parts with a slash, local or remote."""
    return "/".join([parts[0].rstrip("/"), *parts[1:]])

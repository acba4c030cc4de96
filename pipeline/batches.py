"""Record batches in files of their own, in Arrow's format: what the steps of a job leave to the next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from pipeline import storage


def write_batch(path: str, batch: pa.RecordBatch) -> None:
    """Publishes a record batch."""
    with (
        storage.publish(path, hashed=False) as writer,
        pa.ipc.new_file(pa.PythonFile(writer, "w"), batch.schema) as file,
    ):
        file.write(batch)


@contextlib.contextmanager
def open_arrow(path: str) -> Iterator[pa.NativeFile]:
    """Opens a file for reading pieces of it into memory."""
    if storage.is_remote(path):
        with storage.open_read(path) as file:
            yield pa.PythonFile(file, "r")
    else:
        with pa.OSFile(path) as file:
            yield file


def read_batch(path: str) -> pa.RecordBatch:
    """Reads a record batch; of a local file without copying it."""
    if storage.is_remote(path):
        with storage.open_read(path) as file:
            return pa.ipc.open_file(pa.py_buffer(file.read())).get_batch(0)
    return pa.ipc.open_file(pa.memory_map(path)).get_batch(0)

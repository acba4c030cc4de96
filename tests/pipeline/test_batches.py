"""Record batches as files: what is written is read, and a file of another run may take its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.errors import ArtifactError
from pipeline import storage
from pipeline.batches import open_arrow, read_batch, write_batch


def batch(rows: int) -> pa.RecordBatch:
    words = pa.array([f"w{i % 5}".encode() for i in range(rows)], pa.binary()).dictionary_encode()
    return pa.record_batch({"n": pa.array(np.arange(rows)), "w": words, "x": pa.array([0.5] * rows, pa.float32())})


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_what_is_written_is_read(tmp_path: Path, rows: int) -> None:
    path = str(tmp_path / "new" / "batch.arrow")
    write_batch(path, batch(rows))
    found = read_batch(path)
    assert found.equals(batch(rows)) and found.schema == batch(0).schema
    assert [item.name for item in Path(path).parent.iterdir()] == ["batch.arrow"]


def test_rows_stay_when_the_file_goes(tmp_path: Path) -> None:
    """They are not copied, so the last step removes a file that is still in use."""
    path = str(tmp_path / "batch.arrow")
    write_batch(path, batch(5000))
    found = read_batch(path)
    write_batch(path, batch(3))
    assert found.equals(batch(5000)) and read_batch(path).equals(batch(3))
    storage.remove(path)
    assert found.equals(batch(5000))


def test_pieces(tmp_path: Path) -> None:
    path = str(tmp_path / "pieces.arrow")
    batches = [batch(rows).select(["n", "x"]) for rows in (2, 0, 7)]
    with storage.publish(path) as writer, pa.ipc.new_file(pa.PythonFile(writer, "w"), batches[0].schema) as file:
        for piece in batches:
            file.write(piece)
    with open_arrow(path) as stream:
        reader = pa.ipc.open_file(stream)
        assert [reader.get_batch(number).num_rows for number in (2, 1, 0)] == [7, 0, 2]


def test_a_batch_that_cannot_be_written(tmp_path: Path) -> None:
    """Never a part of it."""
    (tmp_path / "file").touch()
    with pytest.raises((ArtifactError, OSError)):
        write_batch(str(tmp_path / "file" / "batch.arrow"), batch(3))
    with pytest.raises(FileNotFoundError):
        read_batch(str(tmp_path / "none.arrow"))

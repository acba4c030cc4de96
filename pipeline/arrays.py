"""Arrays by name in one file."""

from __future__ import annotations

import io

import numpy as np

from features.errors import ArtifactError
from pipeline import storage


def write_arrays(path: str, **arrays: np.ndarray | float) -> None:
    """Publishes arrays as a file of NumPy's; the same arrays give the same bytes."""
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    storage.write_bytes(path, out.getvalue())


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """What :func:`write_arrays` wrote.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    with storage.open_read(path) as file:
        data = file.read()
    try:
        with np.load(io.BytesIO(data)) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:  # zipfile and NumPy raise many kinds
        raise ArtifactError(f"A file of arrays must be whole. Received: {path} ({error}).") from error

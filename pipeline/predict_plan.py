"""The plan of ``predict``: which ranges of which logs are scored, and with which student."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from features.errors import ArtifactError, DataError
from features.json_objects import has_label
from features.lines import CHUNK_BYTES
from features.parquet_rows import has_label as parquet_has_label
from features.schema import JSON, PARQUET, Schema
from features.strict import MAX_LINE_BYTES, detect_label
from pipeline import storage
from pipeline.plan import Task, check_compression, count_parquet_rows, divide
from pipeline.workspace import digest

# Of a log that is not large, all workers should have something to do.
_RANGE_BYTES, _LEAST_BYTES, _RANGES = 64 << 20, CHUNK_BYTES, 16
# So many lines of a file say whether it has the label column.
_FIRST_LINES = 100
# As in models.serving_features, which imports TensorFlow.
_FEATURES = "assets.extra/features.json"


@dataclass(frozen=True)
class PredictPlan:
    """A student and the logs that it scores.

    Args:
        model: folder of the SavedModel.
        schema: of the logs.
        files: the logs.
        key: a hash of model, logs and ranges.
    """

    model: str
    schema: Schema
    files: tuple[storage.InputFile, ...]
    key: str

    @classmethod
    def of(cls, model: str, inputs: Sequence[str]) -> PredictPlan:
        """Finds model and logs.

        Args:
            model: folder of a SavedModel, or the folder above its version ``1``.
            inputs: paths and globs of the logs.

        Raises:
            ArtifactError: there is no exported student.
            DataError: there is no log.
        """
        folder, files = find_model(model), tuple(storage.find_inputs(inputs))
        features = storage.read_json(storage.join(folder, _FEATURES))
        if not isinstance(features, dict) or not isinstance(features.get("schema"), dict):
            raise ArtifactError(
                f"The features of a student must be what distill wrote. Received: no schema ({folder}/{_FEATURES})."
            )
        versions = [[file.path, file.size, file.version] for file in files]
        contents = {"model": _fingerprint(folder), "features": features, "inputs": versions, "step": _step(files)}
        return cls(folder, Schema.from_json(features["schema"], folder), files, digest(contents))


def find_model(path: str, flag: str = "--model") -> str:
    """The folder of the SavedModel: the given one, or its version ``1``.

    Raises:
        ArtifactError: there is none.
    """
    candidates = (path.rstrip("/"), storage.join(path, "1"))
    found = [folder for folder in candidates if storage.exists(storage.join(folder, "saved_model.pb"))]
    if found and storage.exists(storage.join(found[0], _FEATURES)):
        return found[0]
    missing = _FEATURES if found else "saved_model.pb"
    raise ArtifactError(f"{flag} must be the folder of an exported student. Received: {path} (no {missing}).")


def _fingerprint(model: str) -> str:
    """A hash of the model's graph and, through their checksums, of its variables."""
    whole = hashlib.sha256()
    for name in ("saved_model.pb", "variables/variables.index"):
        with storage.open_read(storage.join(model, name)) as file:
            whole.update(file.read())
    return whole.hexdigest()[:16]


def _first_lines(stream: BinaryIO) -> list[bytes]:
    lines = (stream.readline(MAX_LINE_BYTES) for _ in range(_FIRST_LINES))
    return [line.rstrip(b"\r\n") for line in lines if line]


def find_tasks(files: Sequence[storage.InputFile], schema: Schema) -> list[tuple[Task, bool]]:
    """What is to be scored: a range of a plain file, a compressed file as a whole; and whether it has labels."""
    elements: list[tuple[Task, bool]] = []
    check_compression(files, schema)
    step = _step(files)
    for index, file in enumerate(files):
        size = count_parquet_rows(file) if schema.format == PARQUET and file.size else file.size
        if not size:
            continue
        labelled = _has_label(file, schema)
        if file.compressed:
            elements.append((Task(file, index, (), _RANGE_BYTES), labelled))
        else:
            ranges = divide(index, size, math.ceil(file.size / step))
            elements += [(Task(file, index, (part,)), labelled) for part in ranges]
    if not elements:
        raise DataError(f"The input must hold rows. Received: only empty files ({files[0].path}, ...).")
    return elements


def _step(files: Sequence[storage.InputFile]) -> int:
    """Bytes of a range of a plain file."""
    return min(_RANGE_BYTES, max(_LEAST_BYTES, math.ceil(sum(file.size for file in files) / _RANGES)))


def _has_label(file: storage.InputFile, schema: Schema) -> bool:
    if schema.format == PARQUET:
        with storage.open_read(file.path) as stream:
            return parquet_has_label(stream, schema)
    with storage.open_log(file) as stream:
        lines = _first_lines(stream)
    return (has_label if schema.format == JSON else detect_label)(lines, schema, file.path)

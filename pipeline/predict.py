"""``predict``: scores raw logs with an exported student, to parquet."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from features.blocks import BLOCK_ROWS
from features.errors import ArtifactError, ConfigError, DataError
from features.json_objects import has_label
from features.parquet_rows import has_label as parquet_has_label
from features.rejects import write_rejects
from features.rows import ParsedRows
from features.schema import JSON, PARQUET, Schema
from features.strict import MAX_LINE_BYTES, detect_label
from pipeline import storage
from pipeline.beam import run_pipeline
from pipeline.plan import Range, Task, check_compression, count_parquet_rows, divide
from pipeline.progress import Progress, amount, watched
from pipeline.reading import RangeRows, check_rejects, finished, read_ranges
from pipeline.settings import share
from pipeline.workspace import digest

_RANGE_BYTES = 64 << 20
# So many lines of a file say whether it has the label column.
_FIRST_LINES = 100
# The underscore keeps readers of the folder from taking it for data.
_MANIFEST = "_manifest.json"
_STARTED = ".started.json"


class LoadedStudent:
    """An exported student in memory, with the features it was trained on.

    Args:
        model: folder of the SavedModel.
    """

    def __init__(self, model: str) -> None:
        # Imported here, so that the launcher needs no TensorFlow.
        from models.backend import tf
        from models.serving_features import FEATURES_FILE, VOCABULARY_FILE, read_features

        files = [storage.join(model, name) for name in (FEATURES_FILE, VOCABULARY_FILE)]
        contents = []
        for name in files:
            with storage.open_read(name) as file:
                contents.append(file.read())
        features = read_features(*contents)
        self.schema = features.schema
        self._transform = features.transform()
        self._tf = tf
        self._model = tf.saved_model.load(model)
        self._score = self._model.signatures["features"]

    def score(self, parts: Sequence[ParsedRows]) -> np.ndarray:
        """Click probabilities of parsed rows: float32 [n]."""
        ids, dense = self._transform.ids(parts), self._transform.dense(parts)
        scores = [np.empty(0, np.float32)]
        for start in range(0, len(ids), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            outputs = self._score(ids=self._tf.constant(ids[rows]), dense=self._tf.constant(dense[rows]))
            scores.append(outputs["p_click"].numpy())
        return np.concatenate(scores)


class PredictTask(beam.DoFn):
    """Scores the shards of a task; yields an entry for each.

    Args:
        model: folder of the SavedModel.
        output: folder of the results.
    """

    def __init__(self, *, model: str, output: str) -> None:
        self._model, self._output = model, output
        self._shared = Shared()

    def setup(self) -> None:
        """Loads the student, once a process."""
        self._student = self._shared.acquire(partial(LoadedStudent, self._model), self._model)

    def process(self, element: tuple[Task, bool]) -> Iterator[dict[str, Any]]:
        """Scores one task, given with whether its file has a label column; finished ranges are left as they are."""
        task, labelled = element
        records, whole = finished(task, partial(record_path, self._output))
        yield from records
        if not whole:
            for rows in read_ranges(task, self._student.schema, labelled, first=len(records)):
                yield self._write(rows)

    def _write(self, rows: RangeRows) -> dict[str, Any]:
        rejects = rows.rejects
        table = _table(rows.source, self._student.schema, rows.parts, self._student.score(rows.parts))
        name = f"part-{rows.range.name}"
        record = {**rows.record(), "path": f"{name}.parquet", "source": rows.source}
        with storage.publish(storage.join(self._output, f"{name}.parquet")) as writer:
            pq.write_table(table, pa.PythonFile(writer, "w"))
        if rejects:
            with storage.publish(storage.join(self._output, "rejected", f"{name}.jsonl")) as writer:
                write_rejects(writer, rows.source, rejects)
        storage.write_json(record_path(self._output, rows.range), record)
        return record


def _table(source: str, schema: Schema, parts: list[ParsedRows], p_click: np.ndarray) -> pa.Table:
    """A row a scored line: source, offset, label (null without a label column), keys, p_click."""
    offsets = np.concatenate([part.offsets for part in parts] or [np.empty(0, np.int64)])
    labels = [part.labels for part in parts if part.labels is not None]
    rows = len(offsets)
    one_source = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([source]))
    columns = {
        "source": one_source,
        "offset": pa.array(offsets),
        "label": pa.array(np.concatenate(labels)) if labels else pa.nulls(rows, pa.uint8()),
    }
    for index, name in enumerate(schema.keys):
        keys = pa.chunked_array([part.keys[index] for part in parts], pa.binary())
        columns[name] = keys.cast(pa.string())
    return pa.table({**columns, "p_click": pa.array(p_click)})


def record_path(output: str, part: Range) -> str:
    """File that says that a range is finished."""
    return storage.join(output, storage.WORK, f"{part.name}.json")


def predict(model: str, inputs: Sequence[str], output: str, options: PipelineOptions, max_rejects: str = "1%") -> bool:
    """Scores logs; returns whether there was anything to do.

    Args:
        model: folder of a SavedModel, or the folder above its version ``1``.
        inputs: paths and globs of the logs, with or without the label column.
        output: a new or empty folder, or that of an unfinished call with the same arguments.
        options: of Beam.
        max_rejects: share of bad lines above which the job fails.

    Raises:
        ArtifactError: there is no exported student.
        ConfigError: the output holds something else.
        DataError: no input, a log whose first lines all have a wrong number of fields, or too many rejects.
    """
    limit = share(max_rejects, "--max-rejects")
    model = _find_model(model)
    files = storage.find_inputs(inputs)
    versions = [[file.path, file.size, file.version] for file in files]
    features = storage.read_json(storage.join(model, "assets.extra/features.json"))
    key = digest({"model": _fingerprint(model), "features": features, "inputs": versions})
    if not _begin(output, key):
        return False
    schema = Schema.from_json(features["schema"], model)
    elements = _tasks(files, schema)
    total = sum(file.size for file in files) / 1e6
    pipeline = beam.Pipeline(options=options)
    score = PredictTask(model=model, output=output)
    _ = pipeline | "Tasks" >> beam.Create(elements) | "Spread" >> beam.Reshuffle() | "Score" >> beam.ParDo(score)
    progress = Progress("predict", total, "MB")
    done = storage.join(output, storage.WORK)
    with watched(progress, lambda: min(total, total * storage.count_files(done, ".json") / len(elements))):
        run_pipeline(pipeline)
    storage.require_unchanged(files, "score it again into another folder when it is whole")
    parts = _records(elements, output)
    rows, rejects = (sum(part[name] for part in parts) for name in ("rows", "rejects"))
    progress.close(f"{amount(rows)} rows, {rejects} rejects")
    check_rejects(rejects, rows + rejects, limit, max_rejects, f"{output}/rejected")
    storage.remove(done)
    storage.write_json(storage.join(output, _MANIFEST), {"key": key, "rows": rows, "rejects": rejects, "parts": parts})
    storage.remove(storage.join(output, _STARTED))
    return True


def _find_model(path: str) -> str:
    for candidate in (path.rstrip("/"), storage.join(path, "1")):
        if storage.exists(storage.join(candidate, "saved_model.pb")):
            return candidate
    raise ArtifactError(f"--model must be the folder of an exported student. Received: {path} (no saved_model.pb).")


def _fingerprint(model: str) -> str:
    """A hash of the model's graph and, through their checksums, of its variables."""
    whole = hashlib.sha256()
    for name in ("saved_model.pb", "variables/variables.index"):
        with storage.open_read(storage.join(model, name)) as file:
            whole.update(file.read())
    return whole.hexdigest()[:16]


def _begin(output: str, key: str) -> bool:
    """Makes the output folder ready; False if the same call has finished."""
    for name, whole in ((_MANIFEST, True), (_STARTED, False)):
        path = storage.join(output, name)
        if storage.exists(path):
            found = storage.read_json(path)
            if not isinstance(found, dict) or found.get("key") != key:
                raise ConfigError(
                    f"--output must be new or empty. Received: {output} (holds other predictions; use another folder)."
                )
            # What a killed call left: its unfinished files, or all but this.
            storage.remove_temporaries(output)
            if whole:
                storage.remove(storage.join(output, _STARTED))
            return not whole
    if os.path.isfile(output):
        raise ConfigError(f"--output must be a folder. Received: {output} (a file).")
    if os.path.isdir(output) and os.listdir(output):
        raise ConfigError(f"--output must be new or empty. Received: {output} (holds other files).")
    storage.write_json(storage.join(output, _STARTED), {"key": key})
    return True


def _first_lines(stream: BinaryIO) -> list[bytes]:
    lines = (stream.readline(MAX_LINE_BYTES) for _ in range(_FIRST_LINES))
    return [line.rstrip(b"\r\n") for line in lines if line]


def _tasks(files: Sequence[storage.InputFile], schema: Schema) -> list[tuple[Task, bool]]:
    """What is to be scored: a range of a plain file, a compressed file as a whole; and whether it has labels."""
    elements: list[tuple[Task, bool]] = []
    check_compression(files, schema)
    for index, file in enumerate(files):
        size = count_parquet_rows(file) if schema.format == PARQUET and file.size else file.size
        if not size:
            continue
        labelled = _has_label(file, schema)
        if file.compressed:
            elements.append((Task(file, index, (), _RANGE_BYTES), labelled))
        else:
            ranges = divide(index, size, math.ceil(file.size / _RANGE_BYTES))
            elements += [(Task(file, index, (part,)), labelled) for part in ranges]
    if not elements:
        raise DataError(f"The input must hold rows. Received: only empty files ({files[0].path}, ...).")
    return elements


def _has_label(file: storage.InputFile, schema: Schema) -> bool:
    if schema.format == PARQUET:
        with storage.open_read(file.path) as stream:
            return parquet_has_label(stream, schema)
    with storage.open_log(file) as stream:
        lines = _first_lines(stream)
    return (has_label if schema.format == JSON else detect_label)(lines, schema, file.path)


def _records(elements: Sequence[tuple[Task, bool]], output: str) -> list[dict[str, Any]]:
    """What is known of every range, in the order of the log.

    Raises:
        DataError: the runner has not scored all of them.
    """
    records = []
    for task, _ in elements:
        found, whole = finished(task, partial(record_path, output))
        if not whole:
            raise DataError(
                f"Every range of the log must be scored. Received: not all of {task.file.path}; call it again."
            )
        records += found
    return records

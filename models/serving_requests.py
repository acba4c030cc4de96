"""Requests that go with an exported student: warm-up of TensorFlow Serving, and a sample with its answer as JSON.

No row of the log is in them: the values are the vocabulary's most frequent ones, and made up.

The warm-up file is a TFRecord of ``tensorflow.serving.PredictionLog`` messages, written here in protobuf's wire
format, because TensorFlow itself does not have these messages. Field numbers are those of ``prediction_log.proto``,
``predict.proto`` and ``model.proto`` in ``tensorflow_serving/apis``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import ArtifactError
from features.schema import GROUP, LABEL, OUTCOME, TIME, WEIGHT, Schema
from features.strict import columns_of
from features.tfrecord import write_record
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN
from models.backend import tf
from models.input_names import input_names
from models.serving_features import FEATURES_FILE, VOCABULARY_FILE, ServingFeatures, read_features

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
REQUEST_FILE = "assets.extra/sample_request.json"
RESPONSE_FILE = "assets.extra/sample_response.json"
MODEL_NAME = "clicks"
BATCH_SIZES = (1, 64)

_UNSEEN = "ünseen"
# What a line must have in columns that no model sees.
_NEEDED = {LABEL: "0", OUTCOME: "0", WEIGHT: "1", TIME: "0", GROUP: "g"}
_LENGTH_DELIMITED = 2

Row = Mapping[str, str]
Array = npt.NDArray[Any]


def write_requests(folder: str) -> None:
    """Writes :data:`WARMUP_FILE`, :data:`REQUEST_FILE` and :data:`RESPONSE_FILE` of an exported student.

    The warm-up has a request of each size of :data:`BATCH_SIZES` for each signature. The sample request is a body for
    TensorFlow Serving's REST interface, the response what the signature ``strings`` answers to it in this process:
    ``{"predictions": [{"p_click": ..., "logit": ...}, ...]}``.

    Args:
        folder: of the SavedModel, with its :data:`models.serving_features.FEATURES_FILE`.

    Raises:
        ArtifactError: there is no exported student in the folder.
    """
    features = _read_features(folder)
    schema, rows = features.schema, sample_rows(features)
    model = tf.saved_model.load(folder)
    with open(os.path.join(folder, WARMUP_FILE), "wb") as file:
        for signature in sorted(model.signatures):
            inputs = _inputs(signature, schema, rows)
            for size in BATCH_SIZES:
                write_record(file, prediction_log(signature, inputs, size))
    texts = _inputs("strings", schema, rows)
    outputs = model.signatures["strings"](**{name: tf.constant(values) for name, values in texts.items()})
    _write_json(folder, REQUEST_FILE, {"signature_name": "strings", "instances": _instances(texts)})
    answers = {name: value.numpy() for name, value in sorted(outputs.items())}
    _write_json(folder, RESPONSE_FILE, {"predictions": _instances(answers)})


def sample_rows(features: ServingFeatures) -> list[Row]:
    """Three made-up rows, a text for each column of the schema: frequent values, nothing at all, unseen values."""
    schema = features.schema
    frequent = {name: str(place) for place, name in enumerate(schema.numeric, start=1)}
    for name, values in zip(schema.categorical, features.values, strict=True):
        frequent[name] = values[0].as_py().decode() if len(values) else ""
    unseen = {name: f"-{place}000" for place, name in enumerate(schema.numeric, start=1)}
    unseen |= dict.fromkeys(schema.categorical, _UNSEEN)
    needed = {column.name: _NEEDED.get(column.kind, "") for column in schema.columns}
    missing = dict.fromkeys((*schema.numeric, *schema.categorical), "")
    return [{**needed, **fields} for fields in (frequent, missing, unseen)]


def prediction_log(signature: str, inputs: Mapping[str, Array], size: int) -> bytes:
    """A ``PredictionLog`` with a ``PredictRequest`` for the model :data:`MODEL_NAME`.

    Args:
        signature: the signature's name.
        inputs: arrays [rows] or [rows, columns] by name; texts have dtype object.
        size: rows of the batch. A batch longer than the arrays ends with copies of the last row.
    """
    entries = [_field(1, name.encode()) + _field(2, _tensor(values, size)) for name, values in sorted(inputs.items())]
    spec = _field(1, MODEL_NAME.encode()) + _field(3, signature.encode())
    request = _field(1, spec) + b"".join(_field(2, entry) for entry in entries)
    return _field(6, _field(1, request))


def _tensor(values: Array, size: int) -> bytes:
    if values.dtype == object:
        tensor = tf.make_tensor_proto(values[:size])
        # A TensorProto with fewer texts than its shape says repeats the last one.
        tensor.tensor_shape.dim[0].size = size
    else:
        tensor = tf.make_tensor_proto(values[np.minimum(np.arange(size), len(values) - 1)])
    encoded: bytes = tensor.SerializeToString(deterministic=True)
    return encoded


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def _inputs(signature: str, schema: Schema, rows: Sequence[Row]) -> dict[str, Array]:
    """The rows as inputs of a signature."""
    if signature in ("tsv", "tsv_unlabelled"):
        return {"lines": _texts(_line(schema, row, signature == "tsv") for row in rows)}
    if signature == "examples":
        return {"examples": _texts(_example(schema, row) for row in rows)}
    if signature == "features":
        return _ids_and_dense(schema)
    names = input_names((*schema.numeric, *schema.categorical))
    inputs = {key: _texts(row[name].encode() for row in rows) for name, key in names.items()}
    if signature == "serving_default":
        inputs |= {names[name]: _numbers(name, rows) for name in schema.numeric}
    return inputs


def _texts(values: Iterable[bytes]) -> Array:
    return np.array(list(values), object)


def _numbers(name: str, rows: Sequence[Row]) -> Array:
    return np.array([row[name] or "nan" for row in rows]).astype(np.float32)


def _line(schema: Schema, row: Row, labelled: bool) -> bytes:
    return schema.delimiter.join(row[column.name] for column in columns_of(schema, labelled)).encode()


def _example(schema: Schema, row: Row) -> bytes:
    fields = {}
    for name in schema.numeric:
        if row[name]:
            fields[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[float(row[name])]))
    for name in schema.categorical:
        if row[name]:
            fields[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[row[name].encode()]))
    encoded: bytes = tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString(deterministic=True)
    return encoded


def _ids_and_dense(schema: Schema) -> dict[str, Array]:
    """Any rows will do: the ids of missing, unseen and most frequent values, and the numeric columns' means."""
    ids = np.array([[FIRST_VALUE], [MISSING], [UNSEEN]], np.int32).repeat(len(schema.categorical), axis=1)
    return {"ids": ids, "dense": np.zeros((len(ids), len(schema.numeric)), np.float32)}


def _instances(columns: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Rows of columns as JSON values."""
    rows = zip(*columns.values(), strict=True)
    return [{name: _plain(value) for name, value in zip(columns, row, strict=True)} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    # The shortest decimal that is this float32, not this float64.
    return [_plain(item) for item in value] if np.ndim(value) else float(str(value))


def _read_features(folder: str) -> ServingFeatures:
    try:
        contents = [_read(os.path.join(folder, name)) for name in (FEATURES_FILE, VOCABULARY_FILE)]
    except OSError as error:
        raise ArtifactError(f"The folder must hold an exported student. Received: {folder} ({error}).") from error
    return read_features(*contents)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write_json(folder: str, name: str, value: Any) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")

"""Warm-up and sample requests: messages that protobuf's own code reads, and answers that the model gives again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import TOLERANCE, Export
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

from features.errors import ArtifactError
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN
from models.backend import tf
from models.input_names import input_names
from models.serving_requests import (
    REQUEST_FILE,
    RESPONSE_FILE,
    WARMUP_FILE,
    sample_rows,
    write_requests,
)

STRING, MESSAGE, OPTIONAL, REPEATED = 9, 11, 1, 3
TENSOR = "tensorflow.TensorProto"
# Fields of messages as (name, number, label, message type), after tensorflow_serving/apis/*.proto. A map is a repeated
# message of key and value.
MESSAGES = {
    "ModelSpec": [("name", 1, OPTIONAL, None), ("signature_name", 3, OPTIONAL, None)],
    "Input": [("key", 1, OPTIONAL, None), ("value", 2, OPTIONAL, TENSOR)],
    "PredictRequest": [
        ("model_spec", 1, OPTIONAL, "serving.ModelSpec"),
        ("inputs", 2, REPEATED, "serving.Input"),
        ("output_filter", 3, REPEATED, None),
    ],
    "PredictLog": [("request", 1, OPTIONAL, "serving.PredictRequest")],
    "PredictionLog": [("predict_log", 6, OPTIONAL, "serving.PredictLog")],
}


def prediction_log() -> Any:
    """The class of TensorFlow Serving's message."""
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="serving", syntax="proto3")
    file.dependency.append(tensor_pb2.DESCRIPTOR.name)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, held in fields:
            kind = {"type": MESSAGE, "type_name": f".{held}"} if held else {"type": STRING}
            message.field.add(name=field, number=number, label=label, **kind)
    # A pool of its own: nobody else in the process is to know these messages.
    pool = descriptor_pool.DescriptorPool()
    pending = [tensor_pb2.DESCRIPTOR]
    for known in pending:
        pending += known.dependencies
    for known in reversed(pending):
        pool.AddSerializedFile(known.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("serving.PredictionLog"))


@dataclass(frozen=True)
class Written:
    """An export with its requests: the fields of the warm-up file, and what the JSON files hold."""

    exported: Export
    warmup: list[Any]
    request: dict[str, Any]
    response: dict[str, Any]


@pytest.fixture(scope="module", params=["criteo", "visits"])
def written(request: pytest.FixtureRequest) -> Written:
    exported: Export = request.getfixturevalue(request.param)
    write_requests(str(exported.path))
    records = tf.data.TFRecordDataset(str(exported.path / WARMUP_FILE)).as_numpy_iterator()
    kind = prediction_log()
    warmup = [kind.FromString(record).predict_log.request for record in records]
    bodies = [json.loads((exported.path / name).read_text(encoding="utf-8")) for name in (REQUEST_FILE, RESPONSE_FILE)]
    return Written(exported, warmup, *bodies)


def array_of(tensor: Any) -> np.ndarray:
    """What a TensorProto of another pool holds."""
    found: np.ndarray = tf.make_ndarray(tensor_pb2.TensorProto.FromString(tensor.SerializeToString()))
    return found


def test_every_signature_is_warmed_up(written: Written) -> None:
    answers, seen = [row["p_click"] for row in written.response["predictions"]], []
    for request in written.warmup:
        assert request.model_spec.name == "clicks" and not request.output_filter
        signature = request.model_spec.signature_name
        outputs = written.exported.call(signature, **{entry.key: array_of(entry.value) for entry in request.inputs})
        size = len(outputs["p_click"])
        seen.append((signature, size))
        assert np.isfinite(outputs["p_click"]).all()
        if signature != "features":
            expected = [*answers, *answers[-1:] * size][:size]
            np.testing.assert_allclose(outputs["p_click"], expected, rtol=0, atol=TOLERANCE, err_msg=signature)
    assert sorted(seen) == sorted((name, size) for name in written.exported.model.signatures for size in (1, 64))


def test_the_sample_request_has_the_sample_response(written: Written) -> None:
    exported, schema = written.exported, written.exported.schema
    assert set(written.request) == {"signature_name", "instances"} and written.request["signature_name"] == "strings"
    instances, predictions = written.request["instances"], written.response["predictions"]
    assert [set(row) for row in instances] == [set(input_names((*schema.numeric, *schema.categorical)).values())] * 3
    columns = {name: np.array([row[name] for row in instances], object) for name in instances[0]}
    outputs = exported.call("strings", **columns)
    assert [set(row) for row in predictions] == [set(outputs)] * 3
    for name, found in outputs.items():
        np.testing.assert_allclose([row[name] for row in predictions], found, rtol=1e-6, atol=TOLERANCE)
    assert len({row["p_click"] for row in predictions}) == 3


def test_sample_rows_have_frequent_missing_and_unseen_values(exported: Export) -> None:
    rows, schema, features = sample_rows(exported.features), exported.schema, exported.features
    assert set(rows[0]) == set(schema.names)
    values = tf.constant([[row[name] for name in schema.categorical] for row in rows])
    frequent, missing, unseen = exported.module._ids(values).numpy()
    assert (frequent == FIRST_VALUE).all() and (missing == MISSING).all()
    first_bucket = [FIRST_VALUE + len(column) for column in features.values]
    assert (unseen >= first_bucket).all() if features.buckets else (unseen == UNSEEN).all()


def test_a_folder_without_a_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^The folder must hold an exported student. Received: "):
        write_requests(str(tmp_path))

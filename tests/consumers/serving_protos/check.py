"""Checks what an exported model holds for TensorFlow Serving with the server's own protos.

- Each record of the warm-up file is a PredictionLog whose request fits its signature and gets probabilities.
- The sample request, through gRPC and the service's own stubs, gets the sample response. The server is one of a few
  lines around the SavedModel: no TensorFlow Serving binary is needed, and none is tested.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from client import predict, request_of
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from features.errors import ArtifactError

WARM_UP = "assets.extra/tf_serving_warmup_requests"
MOST_RECORDS = 1000
"""TensorFlow Serving does not load a model with more (its guide, "SavedModel Warmup")."""
TOLERANCE = 1e-6


def require(holds: bool, rule: str, received: object, where: object) -> None:
    """Raises an ArtifactError where a rule does not hold."""
    if not holds:
        raise ArtifactError(f"{rule}. Received: {received} ({where}).")


def run(model: Any, request: PredictRequest, where: str) -> dict[str, np.ndarray]:
    """The outputs of a request, which must have the names, dtypes and shapes of its signature's inputs."""
    name = request.model_spec.signature_name
    require(name in model.signatures, "A request must name a signature of the model", repr(name), where)
    signature = model.signatures[name]
    specs = signature.structured_input_signature[1]
    found = sorted(request.inputs)
    require(found == sorted(specs), f"A request must have the inputs of {name}", found, where)
    inputs = {}
    for key, tensor in request.inputs.items():
        value = tf.constant(tf.make_ndarray(tensor))
        fits = specs[key].is_compatible_with(value)
        require(fits, f"{key} must be {specs[key]}", f"{value.dtype.name} {value.shape}", where)
        inputs[key] = value
    return {key: value.numpy() for key, value in signature(**inputs).items()}


def check_warm_up(model: Any, path: Path) -> None:
    """Runs every record as TensorFlow Serving does when it loads the model."""
    rows: dict[str, list[int]] = {}
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    require(
        1 <= len(records) <= MOST_RECORDS, f"A warm-up file must have 1 to {MOST_RECORDS} records", len(records), path
    )
    for number, record in enumerate(records):
        log = PredictionLog.FromString(record)
        where = f"{path}, record {number}"
        kind = log.WhichOneof("log_type")
        require(kind == "predict_log", "A record must hold a predict_log", kind, where)
        clicks = run(model, log.predict_log.request, where)["p_click"]
        require(bool(np.all((clicks >= 0) & (clicks <= 1))), "p_click must be in [0, 1]", clicks, where)
        rows.setdefault(log.predict_log.request.model_spec.signature_name, []).append(len(clicks))
    for name, sizes in rows.items():
        print(f"warm-up file: {len(sizes)} requests of {min(sizes)} to {max(sizes)} rows to {name}")


class Servicer(PredictionServiceServicer):
    """Answers Predict with a SavedModel."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def Predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        response = PredictResponse()
        for name, values in run(self._model, request, "gRPC").items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        return response


@contextmanager
def served(model: Any) -> Iterator[str]:
    """The address at which a model is served."""
    server = grpc.server(ThreadPoolExecutor(1))
    add_PredictionServiceServicer_to_server(Servicer(model), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


def check_sample(model: Any, folder: Path) -> None:
    """Sends the sample request and compares with the sample response."""
    extra = folder / "assets.extra"
    body = json.loads((extra / "sample_request.json").read_text())
    predictions = json.loads((extra / "sample_response.json").read_text())["predictions"]
    with served(model) as address:
        outputs = predict(address, request_of(body, "clicks"))
    expected = np.array([prediction["p_click"] for prediction in predictions])
    same = outputs["p_click"].shape == expected.shape
    require(same, f"The answer must have {len(expected)} rows", outputs["p_click"].shape, folder)
    worst = float(np.abs(outputs["p_click"] - expected).max())
    require(worst <= TOLERANCE, f"p_click must be that of the sample response within {TOLERANCE}", worst, folder)
    print(f"sample request: {len(expected)} rows to {body['signature_name']}, largest difference {worst:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks a model's files for TensorFlow Serving.")
    parser.add_argument("model", type=Path, help="folder of a SavedModel, such as RUN/students/METHOD/model/1")
    folder = parser.parse_args().model
    model = tf.saved_model.load(str(folder))
    check_warm_up(model, folder / WARM_UP)
    check_sample(model, folder)


if __name__ == "__main__":
    main()

"""A gRPC client of TensorFlow Serving: sends a request as JSON, such as the sample request of a model.

python client.py --server localhost:8500 --model clicks sample_request.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

TIMEOUT = 30.0
"""Seconds."""


def request_of(body: dict[str, Any], model: str) -> PredictRequest:
    """The request of a REST body whose instances hold texts alone, such as those for ``strings``."""
    request = PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = body["signature_name"]
    for name in body["instances"][0]:
        texts = [instance[name] for instance in body["instances"]]
        request.inputs[name].CopyFrom(tf.make_tensor_proto(texts, tf.string))
    return request


def predict(server: str, request: PredictRequest) -> dict[str, np.ndarray]:
    """The outputs of a model on a server, ``HOST:PORT``, by name."""
    with grpc.insecure_channel(server) as channel:
        response = PredictionServiceStub(channel).Predict(request, timeout=TIMEOUT)
    return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="localhost:8500", help="HOST:PORT (default: %(default)s)")
    parser.add_argument("--model", required=True, help="its name on the server")
    parser.add_argument("request", type=Path, help="file with the body of a REST request")
    arguments = parser.parse_args()
    request = request_of(json.loads(arguments.request.read_text()), arguments.model)
    for name, values in predict(arguments.server, request).items():
        print(name, *values)


if __name__ == "__main__":
    main()

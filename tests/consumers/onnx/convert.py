"""Writes an exported student as an ONNX file that takes raw fields: its signature ``serving_default``.

    python convert.py RUN/students/METHOD/model/1 student.onnx

Operators that tf2onnx does not know, or not exactly, are written here in those of ONNX. A student with hash buckets
cannot be converted: ONNX has no SipHash.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto
from tf2onnx import tf_loader
from tf2onnx.optimizer import optimize_graph
from tf2onnx.tfonnx import process_tf_graph

from features.errors import ArtifactError

SIGNATURE = "serving_default"
WRITTEN_OPSET = 18
"""The newest that tf2onnx writes."""
OPSET = 20
"""The first with StringConcat."""
DTYPES = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64}

Handler = tuple[Callable[..., None], list[Any]]


def upper_bound(graph: Any, node: Any, name: str, args: object) -> None:
    """Places of values float [columns, n] in rising edges float [columns, edges]: how many edges are not above."""
    edges, values = node.input
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(name)
    first, last = (graph.make_const(f"{name}_axis_{axis}", np.array([axis])).output[0] for axis in (1, 2))
    row = graph.make_node("Unsqueeze", [edges, first]).output[0]
    column = graph.make_node("Unsqueeze", [values, last]).output[0]
    # Not "value >= edge": as in TensorFlow, NaN is behind all edges.
    above = graph.make_node("Less", [column, row]).output[0]
    passed = graph.make_node("Cast", [graph.make_node("Not", [above]).output[0]], attr={"to": dtypes[0]}).output[0]
    places = {"name": name, "outputs": node.output, "shapes": shapes, "dtypes": dtypes}
    graph.make_node("ReduceSum", [passed, last], attr={"keepdims": 0}, **places)


def string_join(graph: Any, node: Any, name: str, args: object) -> None:
    """Two texts of one shape, one behind the other."""
    node.type = "StringConcat"
    for attribute in list(node.attr):
        del node.attr[attribute]


def log1p(graph: Any, node: Any, name: str, args: object) -> None:
    """log(1 + x); in float64 the sum loses nothing that float32 features show."""
    dtype = DTYPES[graph.get_dtype(node.input[0])]
    one = graph.make_const(f"{name}_one", np.array(1, dtype)).output[0]
    graph.replace_inputs(node, [graph.make_node("Add", [node.input[0], one]).output[0]])
    node.type = "Log"


def equal(graph: Any, node: Any, name: str, args: object) -> None:
    """Equal as it is: ONNX compares texts from opset 19 on, and tf2onnx would take them for numbers."""


def sigmoid(graph: Any, node: Any, name: str, args: object) -> None:
    """1 / (1 + exp(-x)): onnxruntime's own Sigmoid is wrong by 1e-7, which is much for a rare click."""
    dtype = DTYPES[graph.get_dtype(node.input[0])]
    one = graph.make_const(f"{name}_one", np.array(1, dtype)).output[0]
    odds = graph.make_node("Exp", [graph.make_node("Neg", [node.input[0]]).output[0]]).output[0]
    graph.replace_inputs(node, [graph.make_node("Add", [odds, one]).output[0]])
    node.type = "Reciprocal"


HANDLERS: dict[str, Handler] = {
    "Sigmoid": (sigmoid, []),
    "Equal": (equal, []),
    "UpperBound": (upper_bound, []),
    "StringJoin": (string_join, []),
    "Log1p": (log1p, []),
}


def convert(model: str) -> onnx.ModelProto:
    """The ONNX model of a SavedModel folder; inputs and outputs have the names of the signature's.

    Raises:
        ArtifactError: the model has operators that ONNX has not.
    """
    signature = tf.saved_model.load(model).signatures[SIGNATURE]
    # tf2onnx knows inputs by names in small letters; no two inputs differ in nothing but these.
    names = {name.lower(): name for name in signature.structured_input_signature[1]}
    frozen, inputs, outputs, tables, tensors = tf_loader.from_saved_model(
        model, None, None, "serve", [SIGNATURE], return_initialized_tables=True, return_tensors_to_rename=True
    )
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        converted = process_tf_graph(
            graph,
            opset=WRITTEN_OPSET,
            custom_op_handlers=HANDLERS,
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename={tensor: names.get(name, name) for tensor, name in tensors.items()},
            initialized_tables=tables,
        )
    found = optimize_graph(converted).make_model("click probability")
    foreign = sorted({node.op_type for node in found.graph.node if not onnx.defs.has(node.op_type, node.domain)})
    if foreign:
        raise ArtifactError(
            f"A student's operators must be among those of ONNX. Received: {', '.join(foreign)} ({model})."
        )
    next(opset for opset in found.opset_import if not opset.domain).version = OPSET
    onnx.checker.check_model(found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes an exported student as an ONNX file.")
    parser.add_argument("model", help="folder of a SavedModel, such as RUN/students/METHOD/model/1")
    parser.add_argument("output", help="the ONNX file")
    arguments = parser.parse_args()
    try:
        onnx.save(convert(arguments.model), arguments.output)
    except ArtifactError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

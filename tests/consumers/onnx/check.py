"""Converts an exported student to ONNX and compares what onnxruntime and TensorFlow make of the same raw fields.

The rows are the first ones of a log and made-up ones that are as odd as a caller can be. All click probabilities must
agree within 1e-6, and within a ten-thousandth of themselves. Prints the size of the file and the time of a call of
both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import tensorflow as tf
from convert import SIGNATURE, convert

from features.errors import ArtifactError
from features.schema import Schema
from models.input_names import input_names
from models.serving_features import FEATURES_FILE

ROWS = 10_000
TOLERANCE = 1e-6
RELATIVE = 1e-4
TINY = 1e-37
"""About the smallest normal float32: below it some processors write 0."""
NUMBERS = (np.nan, 0.0, -0.5, -3.0, 1e-30, 0.1, 7.0, 1e9, 3.4e38)
TEXTS = ("", " ", "0", "nan", "a\tb", "ünseen", "日本", "x" * 300)
CALLS = {1: 2000, 4096: 20}
"""Timed calls, of batches of some rows."""

Columns = dict[str, np.ndarray]
Score = Callable[[Columns], np.ndarray]


def log_rows(log: Path, schema: Schema) -> Columns:
    """The first rows of a log of good lines: float32 and texts by column."""
    with log.open(encoding="utf-8", newline="\n") as file:
        rows = [line.rstrip("\r\n").split(schema.delimiter) for line in itertools.islice(file, schema.header, ROWS)]
    columns = dict(zip(schema.names, zip(*rows, strict=True), strict=True))
    numbers = {name: np.array([text or "nan" for text in columns[name]], np.float32) for name in schema.numeric}
    return numbers | {name: np.array(columns[name], object) for name in schema.categorical}


def odd_rows(schema: Schema) -> Columns:
    """Every odd number with every odd text."""
    pairs = list(itertools.product(NUMBERS, TEXTS))
    numbers, texts = np.array([pair[0] for pair in pairs], np.float32), np.array([pair[1] for pair in pairs], object)
    return dict.fromkeys(schema.numeric, numbers) | dict.fromkeys(schema.categorical, texts)


def agree(ways: Mapping[str, Score], columns: Columns, what: str) -> None:
    """Raises an ArtifactError unless all ways give the same click probabilities."""
    first, *others = (way(columns).astype(np.float64) for way in ways.values())
    for found in others:
        difference = np.abs(found - first)
        worst = float(difference.max())
        # Written so that a NaN does not pass.
        if not (worst <= TOLERANCE and np.all(difference <= RELATIVE * first + TINY)):
            raise ArtifactError(
                f"p_click of {what} must be that of TensorFlow within {TOLERANCE}, and {RELATIVE} of it. "
                f"Received: a difference of {worst}."
            )
        print(f"{len(first)} {what}: largest difference of p_click {worst:.1e}")


def print_times(ways: Mapping[str, Score], columns: Columns) -> None:
    """Median time of a call; the ways take turns."""
    for most, calls in CALLS.items():
        batch = {name: values[:most] for name, values in columns.items()}
        rows = len(next(iter(batch.values())))
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(calls):
            for name, way in ways.items():
                start = time.perf_counter()
                way(batch)
                times[name].append(time.perf_counter() - start)
        print(f"{rows} rows a call:", ", ".join(f"{name} {np.median(times[name]) * 1e3:.3f} ms" for name in ways))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares a student as ONNX with itself in TensorFlow.")
    parser.add_argument("model", type=Path, help="folder of a SavedModel, such as RUN/students/METHOD/model/1")
    parser.add_argument("log", type=Path, help="log of delimited lines whose first 10,000 rows are scored")
    arguments = parser.parse_args()
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    model = arguments.model
    schema = Schema.from_json(json.loads((model / FEATURES_FILE).read_bytes())["schema"], FEATURES_FILE)
    encoded = convert(str(model)).SerializeToString()
    session = onnxruntime.InferenceSession(encoded, providers=["CPUExecutionProvider"])
    signature = tf.saved_model.load(str(model)).signatures[SIGNATURE]
    inputs = input_names((*schema.numeric, *schema.categorical))

    def tensorflow(columns: Columns) -> np.ndarray:
        tensors = {inputs[name]: tf.constant(values) for name, values in columns.items()}
        return signature(**tensors)["p_click"].numpy()

    def onnx(columns: Columns) -> np.ndarray:
        return session.run(["p_click"], {inputs[name]: values for name, values in columns.items()})[0]

    ways = {"TensorFlow": tensorflow, "onnxruntime": onnx}
    rows = log_rows(arguments.log, schema)
    print(f"ONNX file: {len(encoded)} bytes")
    agree(ways, rows, "rows of the log")
    agree(ways, odd_rows(schema), "odd rows")
    print_times(ways, rows)


if __name__ == "__main__":
    main()

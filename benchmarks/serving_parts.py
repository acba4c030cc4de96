"""What an exported student consists of, in bytes, and how well it is calibrated."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from serving_ways import model_folder, read_split

from models.backend import tf
from models.metrics import ClickMetrics
from models.serving_features import FEATURES_FILE, VOCABULARY_FILE, ServingFeatures, read_features
from pipeline import storage
from pipeline.workspace import Run

SPLITS = ("valid", "test")


def parts(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes by part, and of a kept value beyond its key."""
    folder = Path(model_folder(Run(str(options.run)), options.method))
    features = read_features((folder / FEATURES_FILE).read_bytes(), (folder / VOCABULARY_FILE).read_bytes())
    keys = (folder / VOCABULARY_FILE).stat().st_size
    texts = sum(len(value) for column in features.values for value in column.to_pylist())
    row_bytes, tables = table_bytes(str(folder), features)
    graph, everything = (folder / "saved_model.pb").stat().st_size, storage.size_of(str(folder))
    kept, values = sum(features.kept), sum(map(len, features.values))
    beyond = (keys - texts) / max(values, 1) + row_bytes
    found = {"keys": keys, "rows": tables, "graph": graph, "rest": everything - keys - tables - graph}
    return {
        "rows": kept,
        "seconds": 1,
        "parts": {**found, "all": everything},
        "texts": texts,
        "beyond_key": beyond,
    }


def table_bytes(folder: str, features: ServingFeatures) -> tuple[float, int]:
    """Bytes that the variables have for an embedding row of a value, and for all rows.

    Those variables count whose first axis is that of the embedding table or of its categorical part.
    """
    layout = features.layout()
    categorical = int(layout.starts[len(layout.kept)]) if layout.edges else layout.rows
    reader = tf.train.load_checkpoint(f"{folder}/variables/variables")
    types, one_row, total = reader.get_variable_to_dtype_map(), 0.0, 0
    for name, shape in reader.get_variable_to_shape_map().items():
        if shape and shape[0] in (layout.rows, categorical):
            size = int(np.prod(shape)) * types[name].size
            one_row, total = one_row + size / shape[0], total + size
    return one_row, total


def calibration(options: argparse.Namespace) -> dict[str, Any]:
    """PCOC and ECE of the student and of the training base rate, on validation and test."""
    run = Run(str(options.run))
    model = tf.saved_model.load(model_folder(run, options.method))
    rate = run.spec().base_rate
    found: dict[str, Any] = {"rows": 0, "seconds": 1}
    for split in SPLITS:
        block = read_split(run, split)
        outputs = model.signatures["features"](ids=tf.constant(block.ids), dense=tf.constant(block.dense))
        logits = {"student": outputs["logit"].numpy(), "base rate": np.full(len(block), np.log(rate / (1 - rate)))}
        groups = np.zeros(len(block), np.int64)
        for name, z in logits.items():
            metrics = ClickMetrics.empty(1).update(block.labels, z, groups).compute()
            found[f"{name}, {split}"] = {key: metrics[key] for key in ("logloss", "pcoc", "ece")}
        found["rows"] += len(block)
    return found

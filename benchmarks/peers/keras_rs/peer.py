"""Keras 3 with keras-rs as a peer: steps of ``model.fit`` with its ``DistributedEmbedding``, on TensorFlow.

A 400-400-400 network over 26 embeddings and 13 numbers, on the batches of the training benchmark.

Less than our teacher: one logit with the binary cross-entropy (no subclasses, no auxiliary loss), no linear part, and
the 13 numbers only as numbers (ours looks up their buckets too, 39 columns in all, and is measured without that as
well).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

# Keras and TensorFlow read them when they are imported.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras  # noqa: E402
import keras_rs  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

DIM, HIDDEN, RATE = 16, (400, 400, 400), 1e-3


class StepClock(keras.callbacks.Callback):
    """Seconds from the end of the warm-up to the end of the last step.

    The end of ``fit`` waits for threads of its input, up to seconds, which are no part of a step.

    Args:
        warm_up: steps that are not counted.
    """

    def __init__(self, warm_up: int) -> None:
        super().__init__()
        self._warm_up = warm_up
        self._times: list[tuple[float, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the time of each step."""
        self._times.append((time.perf_counter(), time.process_time()))

    def figures(self) -> dict[str, float]:
        """Wall seconds, and those of all cores together."""
        (begun, begun_cpu), (ended, ended_cpu) = self._times[self._warm_up - 1], self._times[-1]
        return {"seconds": ended - begun, "cpu_seconds": ended_cpu - begun_cpu}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=Path, required=True, help="folder of ids.npy, dense.npy, label.npy")
    parser.add_argument("--table", type=int, required=True, help="rows of all tables together")
    parser.add_argument("--optimizer", choices=("adam", "adagrad"), required=True)
    parser.add_argument("--steps", type=int, required=True, help="counted steps")
    parser.add_argument("--warm-up", type=int, required=True, help="steps before them")
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


def build(size: int, columns: int, numbers: int, batch: int) -> keras.Model:
    """The model for columns of that many values."""
    features, ids = {}, {}
    for name in (f"C{i + 1}" for i in range(columns)):
        table = keras_rs.layers.TableConfig(name=f"table_{name}", vocabulary_size=size, embedding_dim=DIM)
        features[name] = keras_rs.layers.FeatureConfig(name, table, (batch,), (batch, DIM))
        ids[name] = keras.Input((), batch, dtype="int32", name=name)
    dense = keras.Input((numbers,), batch, name="numbers")
    embedded = keras_rs.layers.DistributedEmbedding(features)(ids)
    x = keras.layers.concatenate([*embedded.values(), dense])
    for width in HIDDEN:
        x = keras.layers.Dense(width, activation="relu")(x)
    return keras.Model({**ids, "numbers": dense}, keras.layers.Dense(1)(x))


def endless(folder: Path) -> tuple[tf.data.Dataset, tuple[int, ...]]:
    """The batches again and again, a tensor a categorical column; and the shape of the ids."""
    ids, dense, label = (np.load(folder / f"{name}.npy") for name in ("ids", "dense", "label"))
    features = {f"C{i + 1}": np.ascontiguousarray(ids[:, :, i]) for i in range(ids.shape[2])} | {"numbers": dense}
    batches = tf.data.Dataset.from_tensor_slices((features, label[:, :, np.newaxis]))
    return batches.repeat().prefetch(1), ids.shape


def fit(options: argparse.Namespace) -> dict[str, Any]:
    """Takes the steps and returns the figures."""
    batches, (_, batch, columns) = endless(options.batches)
    numbers = batches.element_spec[0]["numbers"].shape[1]
    model = build(options.table // columns, columns, numbers, batch)
    optimizers = {"adam": keras.optimizers.Adam, "adagrad": keras.optimizers.Adagrad}
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer=optimizers[options.optimizer](RATE), loss=loss)
    clock = StepClock(options.warm_up)
    model.fit(batches, steps_per_epoch=options.warm_up + options.steps, verbose=0, callbacks=[clock])
    return {"rows": options.steps * batch, **clock.figures()}


def main() -> None:
    """Measures once and prints the figures."""
    options = parse_arguments()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    print(json.dumps(fit(options)))


if __name__ == "__main__":
    main()

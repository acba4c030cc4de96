"""The teacher's 400-400-400 written the usual way: tf-keras, an Embedding a column, ``model.fit``.

Less than ours: one logit with the binary cross-entropy (no subclasses, no auxiliary loss), no linear part, and the 13
numbers only as numbers (ours looks up their buckets too, 39 columns in all, and is measured without that as well).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from training_batches import (
    BATCH,
    CATEGORICAL,
    NUMERIC,
    by_column,
    column_size,
    parsed_rows,
    read_batches,
)

from models.backend import keras, tf

DIM, HIDDEN, RATE = 16, (400, 400, 400), 1e-3
EXAMPLES = "examples.tfrecord"


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


def build(size: int) -> Any:
    """The model for columns of that many values."""
    numbers = [keras.Input((1,), name=f"I{i + 1}") for i in range(NUMERIC)]
    ids = [keras.Input((), name=f"C{i + 1}", dtype="int32") for i in range(CATEGORICAL)]
    x = keras.layers.concatenate([*(keras.layers.Embedding(size, DIM)(column) for column in ids), *numbers])
    for width in HIDDEN:
        x = keras.layers.Dense(width, activation="relu")(x)
    return keras.Model([*numbers, *ids], keras.layers.Dense(1)(x))


def optimizer(name: str) -> Any:
    """Adam of tf-keras, or its legacy Adagrad."""
    return keras.optimizers.Adam(RATE) if name == "adam" else keras.optimizers.legacy.Adagrad(RATE)


def in_memory(folder: Path) -> tf.data.Dataset:
    """Endless batches, a tensor a column."""
    arrays = read_batches(folder)
    return tf.data.Dataset.from_tensor_slices((by_column(arrays), arrays["label"])).repeat().prefetch(1)


def write_examples(folder: Path) -> None:
    """Writes the first batches as an Example a row, unless they are there."""
    if (folder / EXAMPLES).exists():
        return
    part = folder / f"{EXAMPLES}.part"
    with tf.io.TFRecordWriter(str(part)) as writer:
        for label, dense, ids in parsed_rows(read_batches(folder)):
            features = {"label": tf.train.Feature(float_list=tf.train.FloatList(value=[label]))}
            for i, number in enumerate(dense):
                features[f"I{i + 1}"] = tf.train.Feature(float_list=tf.train.FloatList(value=[number]))
            for i, value in enumerate(ids):
                features[f"C{i + 1}"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    part.rename(folder / EXAMPLES)


def parsed(folder: Path) -> tf.data.Dataset:
    """Endless batches, parsed from 40-feature Examples as TensorFlow's guides have it."""
    features = {"label": tf.io.FixedLenFeature([], tf.float32)}
    features |= {f"I{i + 1}": tf.io.FixedLenFeature([1], tf.float32) for i in range(NUMERIC)}
    features |= {f"C{i + 1}": tf.io.FixedLenFeature([], tf.int64) for i in range(CATEGORICAL)}

    def parse(records: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        columns = tf.io.parse_example(records, features)
        return columns, columns.pop("label")

    records = tf.data.TFRecordDataset(str(folder / EXAMPLES)).repeat().batch(BATCH)
    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def usual(options: argparse.Namespace) -> dict[str, Any]:
    """Steps of ``model.fit``, after some that are not counted."""
    model = build(column_size(options.table))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer(options.optimizer), loss=loss)
    batches = parsed(options.batches) if options.parsed else in_memory(options.batches)
    clock = StepClock(options.warm_up)
    model.fit(batches, steps_per_epoch=options.warm_up + options.steps, verbose=0, callbacks=[clock])
    return {"rows": options.steps * BATCH, **clock.figures()}

"""A peer in serving: a click model as Keras' own preprocessing layers make it, of the student's shape.

StringLookup and an Embedding a categorical column, Normalization of the logarithms of the numbers, one hidden layer and
a linear part of one float a value. Trained on the labels with Adam; of the epochs the one with the best validation
logloss counts. It has no bucket embeddings of the numbers, no dropout, no teacher, no calibration, and takes no lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from serving_rows import CATEGORICAL, NUMERIC, LogRows

from models.backend import keras, tf

BATCH, RATE = 1024, 1e-3
MIN_COUNT, DIM, HIDDEN = 4, 4, 32
"""Of the student's default settings."""


def train(train_rows: LogRows, valid_rows: LogRows, folder: Path, epochs: int) -> None:
    """Trains on rows and saves the model as a SavedModel whose signature takes a tensor a column."""
    keras.utils.set_random_seed(0)
    model = build(train_rows)
    model.compile(optimizer=keras.optimizers.Adam(RATE), loss="binary_crossentropy")
    best = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    parts = [batches(part) for part in (train_rows, valid_rows)]
    model.fit(parts[0].shuffle(200), validation_data=parts[1], epochs=epochs, verbose=0, callbacks=[best])
    tf.saved_model.save(model, str(folder))


def build(rows: LogRows) -> Any:
    """The model with the vocabularies and statistics of some rows."""
    numbers, values = rows.columns
    inputs = {name: keras.Input((), dtype=tf.float32, name=name) for name in NUMERIC}
    inputs |= {name: keras.Input((), dtype=tf.string, name=name) for name in CATEGORICAL}
    logs = signed_log(numbers)
    scale = keras.layers.Normalization(mean=np.nanmean(logs, axis=0), variance=np.nanvar(logs, axis=0))
    raw = tf.stack([inputs[name] for name in NUMERIC], axis=1)
    scaled = scale(tf.sign(raw) * tf.math.log1p(tf.abs(raw)))
    scaled = tf.where(tf.math.is_nan(scaled), 0.0, scaled)
    rows_of = [embed(inputs[name], kept(column)) for name, column in zip(CATEGORICAL, values, strict=True)]
    deep = tf.concat([*(found[:, :DIM] for found in rows_of), scaled], axis=1)
    logit = keras.layers.Dense(1)(keras.layers.Dense(HIDDEN, "relu")(deep)) + keras.layers.Dense(1)(scaled)
    logit += tf.add_n([found[:, DIM:] for found in rows_of])
    return keras.Model(inputs, tf.sigmoid(logit[:, 0]))


def signed_log(numbers: np.ndarray) -> np.ndarray:
    """sign(x) ln(1 + |x|)."""
    return np.sign(numbers) * np.log1p(np.abs(numbers))


def kept(values: Sequence[bytes]) -> list[str]:
    """The values that are frequent enough, missing ones among them."""
    return [value.decode() for value, count in Counter(values).most_common() if count >= MIN_COUNT]


def embed(column: Any, vocabulary: list[str]) -> Any:
    """An embedding of a column and its linear float: [batch, DIM + 1]."""
    lookup = keras.layers.StringLookup(vocabulary=vocabulary or ["-"], num_oov_indices=1)
    return keras.layers.Embedding(lookup.vocabulary_size(), DIM + 1)(lookup(column))


def batches(rows: LogRows) -> tf.data.Dataset:
    """Batches of columns by name, and labels."""
    numbers, values = rows.columns
    columns = dict(zip(NUMERIC, numbers.T, strict=True))
    columns |= {name: tf.constant(column) for name, column in zip(CATEGORICAL, values, strict=True)}
    return tf.data.Dataset.from_tensor_slices((columns, rows.labels.astype(np.float32))).batch(BATCH)

"""The exported student: one tf.Module that owns lookup tables, numeric transforms, student and calibration.

It loads with TensorFlow alone. Signatures, all for batches of any size:

===============  =====================================================================================
serving_default  each numeric column float32 [batch], NaN = missing; each categorical one string, '' = missing
strings          the same columns, all string [batch], '' = missing, for JSON
tsv              ``lines`` string [batch], raw log lines as ``preprocess`` takes them
tsv_unlabelled   the same without the columns label, outcome and weight
examples         ``examples`` string [batch], serialized tf.train.Example of raw fields (numerics as floats)
features         ``ids`` int32 and ``dense`` float32, as :class:`features.transform.Transform` makes them
===============  =====================================================================================

Only the student of a log of delimited lines has both ``tsv``. Columns keep their names as inputs where TensorFlow
allows it; else other characters than letters, digits and _ become _ (``examples`` has all names as they are).

Outputs: ``p_click`` and ``logit``, float32 [batch], calibrated, and right for all rows of a log that has lost a share
of those without click; both ``tsv`` also ``reason``, '' for a good line. A line that preprocessing would reject has NaN
and the reason of :mod:`features.strict`. On request also ``subclass_probabilities``, float32 [batch, 2 S], class-major:
``P(subclass j | class c)`` of the student times the calibrated probability of the class, so that those of the class
with click sum to ``p_click``.

The graph is small: what all signatures share is one function, and Keras layers leave nothing but their variables.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from features.errors import ConfigError
from features.schema import FLOAT, INTEGER, TEXT
from features.siphash import KEY
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN
from models.backend import tf
from models.calibration import Calibration
from models.heads import calibrated
from models.input_names import input_names
from models.numeric import NumericTransform
from models.serving_features import ServingFeatures, column_marks, vocabulary_lines
from models.serving_lines import LineParser, require_numbers
from models.student import StudentTrunk, mean_click_logit
from models.tables import RowLookup

Outputs = dict[str, tf.Tensor]
Signature = tuple[Callable[..., Outputs], dict[str, Any]]


class ServingModule(tf.Module):
    """Raw fields to a calibrated click probability.

    Args:
        trunks: of the student; of several generations, whose mean click logit it is.
        features: what it was trained on.
        calibration: of its click logit, on rows like those it was trained on.
        statistics: log-odds and log-count of each embedding row of a categorical column, float32 [rows, 2], for a
            student that takes them.
        subclass_probabilities: whether every signature has this output.

    Raises:
        ConfigError: subclass probabilities of several trunks: a subclass of one is not that of another.
    """

    def __init__(
        self,
        trunks: Sequence[StudentTrunk],
        features: ServingFeatures,
        calibration: Calibration,
        statistics: np.ndarray | None = None,
        subclass_probabilities: bool = False,
    ) -> None:
        super().__init__(name="serving")
        if subclass_probabilities and len(trunks) > 1:
            raise ConfigError(
                "Subclass probabilities must be those of a single student. "
                f"Received: the mean of {len(trunks)} generations (export)."
            )
        self._features, self._schema = features, features.schema
        # The layers themselves would put functions of their own into the SavedModel.
        self._call_trunks = partial(_call_trunks, list(trunks), subclass_probabilities)
        self._weights = [variable for trunk in trunks for variable in trunk.variables]
        self._numeric = NumericTransform(features.numeric)
        self._lookup = RowLookup(features.layout())
        self._parse = LineParser(self._schema)
        # With the share r of the rows without click, the odds of a click are those of the whole log over r.
        shift = calibration.shift + math.log(features.negative_rate)
        self._calibration = tf.Variable([calibration.scale, shift], trainable=False, dtype=tf.float32)
        self._statistics = None if statistics is None else tf.Variable(statistics, trainable=False)
        self._inputs = input_names((*self._schema.numeric, *self._schema.categorical))
        # What signatures share. Behind a partial these are not tracked, which would write them a second time.
        self._from_features = partial(tf.function(self._score_features, autograph=False))
        self._from_values = partial(tf.function(self._score_values, autograph=False))

    def save(self, path: str) -> None:
        """Writes the SavedModel, with the vocabulary as an asset."""
        with tempfile.TemporaryDirectory() as folder:
            vocabulary = os.path.join(folder, "vocabulary.txt")
            with open(vocabulary, "wb") as file:
                file.writelines(vocabulary_lines(self._features))
                if not file.tell():
                    # TensorFlow refuses an empty file. A mark alone is the key of no value.
                    file.write(column_marks(1)[0] + b"\n")
            initializer = tf.lookup.TextFileInitializer(
                vocabulary,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self._keys = tf.lookup.StaticHashTable(initializer, -1)
            signatures = {
                name: tf.function(call, autograph=False).get_concrete_function(**inputs)
                for name, (call, inputs) in self._signatures().items()
            }
            tf.saved_model.save(self, path, signatures=signatures)

    def _signatures(self) -> dict[str, Signature]:
        schema = self._schema
        text = {name: tf.TensorSpec([None], tf.string, name) for name in self._inputs.values()}
        numbers = [self._inputs[name] for name in schema.numeric]
        fields = {**text, **{name: tf.TensorSpec([None], tf.float32, name) for name in numbers}}
        ids = tf.TensorSpec([None, len(schema.categorical)], tf.int32, "ids")
        dense = tf.TensorSpec([None, len(schema.numeric)], tf.float32, "dense")
        lines = {"lines": tf.TensorSpec([None], tf.string, "lines")}
        delimited: dict[str, Signature] = {
            "tsv": (partial(self._from_lines, True), lines),
            "tsv_unlabelled": (partial(self._from_lines, False), lines),
        }
        return {
            "serving_default": (self._from_fields, fields),
            "strings": (self._from_strings, text),
            **(delimited if schema.format == TEXT else {}),
            "examples": (self._from_examples, {"examples": tf.TensorSpec([None], tf.string, "examples")}),
            "features": (self._from_features, {"ids": ids, "dense": dense}),
        }

    def _score_features(self, ids: tf.Tensor, dense: tf.Tensor) -> Outputs:
        # Far beyond any number of a log. Larger ones would overflow in the layers, and infinity less infinity is NaN.
        dense = tf.clip_by_value(dense, -1e9, 1e9)
        rows = self._lookup.categorical(ids)
        statistics = None
        if self._statistics is not None:
            odds, count = tf.unstack(tf.gather(self._statistics, rows), axis=2)
            statistics = tf.concat([odds, count], axis=1)
        rows = tf.concat([rows, self._lookup.numeric(dense)], axis=1)
        return self._call_trunks(self._calibration, rows, dense, statistics)

    def _score_values(self, raw: tf.Tensor, values: tf.Tensor) -> Outputs:
        """Scores raw numerics float32 [batch, numeric columns] and values string [batch, categorical columns]."""
        return self._from_features(self._ids(values), self._numeric(raw))

    def _from_fields(self, **inputs: tf.Tensor) -> Outputs:
        return self._from_columns({name: inputs[key] for name, key in self._inputs.items()})

    def _from_columns(self, columns: dict[str, tf.Tensor]) -> Outputs:
        """Scores columns by name: numeric ones float32 [batch], categorical ones string [batch]."""
        raw = tf.stack([columns[name] for name in self._schema.numeric], axis=1)
        # No line holds an infinite number. One that is given is as large as a number of a line may be.
        finite = tf.clip_by_value(raw, tf.float32.min, tf.float32.max)
        return self._from_values(finite, self._values(columns))

    def _values(self, columns: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.stack([columns[name] for name in self._schema.categorical], axis=1)

    def _ids(self, values: tf.Tensor) -> tf.Tensor:
        """Vocabulary ids of values: string [batch, categorical columns] to int32."""
        sizes = np.array([len(column) for column in self._features.values])
        # The table of keys numbers the values of all columns in one row; ids start anew in each column.
        shift = FIRST_VALUE - (np.cumsum(sizes) - sizes)
        marks = tf.broadcast_to(column_marks(len(sizes)), tf.shape(values))
        line = self._keys.lookup(tf.strings.join([marks, values]))
        ids = tf.where(line < 0, self._unknown(values, sizes), line + shift)
        return tf.cast(tf.where(values == "", tf.constant(MISSING, tf.int64), ids), tf.int32)

    def _unknown(self, values: tf.Tensor, sizes: np.ndarray) -> tf.Tensor:
        """Ids of values outside the vocabulary, int64."""
        if not self._features.buckets:
            return tf.constant(UNSEEN, tf.int64)
        bucket = tf.strings.to_hash_bucket_strong(values, self._features.buckets, list(KEY))
        return sizes + FIRST_VALUE + bucket

    def _from_strings(self, **inputs: tf.Tensor) -> Outputs:
        columns = {name: inputs[key] for name, key in self._inputs.items()}
        return self._from_values(self._raw(columns), self._values(columns))

    def _raw(self, columns: dict[str, tf.Tensor]) -> tf.Tensor:
        """Raw numerics of columns of text: float32 [batch, numeric columns].

        Raises:
            InvalidArgumentError: when it runs, for a text that is no number.
        """
        names: list[str] = []
        blocks = []
        for kind in (INTEGER, FLOAT):
            own = [column.name for column in self._schema.columns if column.kind == kind]
            if own:
                blocks.append(require_numbers([columns[name] for name in own], own, kind))
            names += own
        order = [names.index(name) for name in self._schema.numeric]
        return tf.transpose(tf.gather(tf.concat(blocks, axis=0), order))

    def _from_examples(self, examples: tf.Tensor) -> Outputs:
        names = (*self._schema.numeric, *self._schema.categorical)
        # tf.io.parse_example would make a default of its own for each column.
        absent = [tf.constant(np.nan, tf.float32)] * len(self._schema.numeric)
        absent += [tf.constant("")] * len(self._schema.categorical)
        columns = tf.raw_ops.ParseExampleV2(
            serialized=examples,
            names=[],
            sparse_keys=[],
            dense_keys=names,
            ragged_keys=[],
            dense_defaults=absent,
            num_sparse=0,
            sparse_types=[],
            ragged_value_types=[],
            ragged_split_types=[],
            dense_shapes=[[]] * len(names),
        ).dense_values
        return self._from_columns(dict(zip(names, columns, strict=True)))

    def _from_lines(self, labelled: bool, lines: tf.Tensor) -> Outputs:
        raw, values, reason = self._parse(lines, labelled)
        good = reason == ""
        outputs = self._from_values(raw, values)
        return {name: _masked(good, value) for name, value in outputs.items()} | {"reason": reason}


def _call_trunks(
    trunks: Sequence[StudentTrunk],
    subclass_probabilities: bool,
    calibration: tf.Variable,
    rows: tf.Tensor,
    dense: tf.Tensor,
    statistics: tf.Tensor | None,
) -> Outputs:
    """Outputs of a batch; the arguments after the calibration as in :meth:`StudentTrunk.call`."""
    scale, shift = tf.unstack(calibration)
    logit = mean_click_logit(trunks, rows, dense, statistics) * scale + shift
    outputs = {"p_click": tf.sigmoid(logit), "logit": logit}
    if subclass_probabilities:
        (trunk,) = trunks
        outputs["subclass_probabilities"] = tf.nn.softmax(calibrated(trunk(rows, dense, statistics), scale, shift))
    return outputs


def _masked(good: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """NaN for the rows, bool [batch], that are not good."""
    return tf.where(good if values.shape.rank == 1 else good[:, tf.newaxis], values, np.nan)

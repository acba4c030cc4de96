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
and the reason of :mod:`features.strict`.
"""

from __future__ import annotations

import keyword
import math
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from features.schema import TEXT
from features.siphash import KEY
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN
from models.backend import tf
from models.calibration import Calibration
from models.numeric import NumericTransform
from models.serving_features import ServingFeatures, vocabulary_lines
from models.serving_lines import LineParser, is_number, to_number
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
    """

    def __init__(
        self,
        trunks: Sequence[StudentTrunk],
        features: ServingFeatures,
        calibration: Calibration,
        statistics: np.ndarray | None = None,
    ) -> None:
        super().__init__(name="serving")
        self._trunks = list(trunks)
        self._features, self._schema = features, features.schema
        self._numeric = NumericTransform(features.numeric)
        self._lookup = RowLookup(features.layout())
        self._parse = LineParser(self._schema)
        # With the share r of the rows without click, the odds of a click are those of the whole log over r.
        shift = calibration.shift + math.log(features.negative_rate)
        self._calibration = tf.Variable([calibration.scale, shift], trainable=False, dtype=tf.float32)
        self._statistics = None if statistics is None else tf.Variable(statistics, trainable=False)
        self._inputs = input_names((*self._schema.numeric, *self._schema.categorical))
        self._kinds = {column.name: column.kind for column in self._schema.columns}
        sizes = [len(values) for values in features.values]
        # The table of keys numbers the values of all columns in one row; ids start anew in each column.
        self._first_line = tf.constant(np.concatenate([[0], np.cumsum(sizes)[:-1]]), tf.int64)
        self._first_bucket = tf.constant(np.array(sizes) + FIRST_VALUE, tf.int64)
        self._prefixes = tf.constant([f"{index}\t" for index in range(len(sizes))])

    def save(self, path: str) -> None:
        """Writes the SavedModel, with the vocabulary as an asset."""
        with tempfile.TemporaryDirectory() as folder:
            vocabulary = os.path.join(folder, "vocabulary.txt")
            with open(vocabulary, "wb") as file:
                file.writelines(vocabulary_lines(self._features))
                if not file.tell():
                    # TensorFlow refuses an empty file. A line without a tab is no key.
                    file.write(b"-\n")
            initializer = tf.lookup.TextFileInitializer(
                vocabulary,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self._keys = tf.lookup.StaticHashTable(initializer, -1)
            signatures = {
                name: tf.function(call).get_concrete_function(**inputs)
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
            "tsv": (self._from_lines, lines),
            "tsv_unlabelled": (self._from_unlabelled_lines, lines),
        }
        return {
            "serving_default": (self._from_fields, fields),
            "strings": (self._from_strings, text),
            **(delimited if schema.format == TEXT else {}),
            "examples": (self._from_examples, {"examples": tf.TensorSpec([None], tf.string, "examples")}),
            "features": (self._from_features, {"ids": ids, "dense": dense}),
        }

    def _from_features(self, ids: tf.Tensor, dense: tf.Tensor) -> Outputs:
        rows = self._lookup.categorical(ids)
        statistics = None
        if self._statistics is not None:
            odds, count = tf.unstack(tf.gather(self._statistics, rows), axis=2)
            statistics = tf.concat([odds, count], axis=1)
        rows = tf.concat([rows, self._lookup.numeric(dense)], axis=1)
        click = mean_click_logit(self._trunks, rows, dense, statistics)
        logit = click * self._calibration[0] + self._calibration[1]
        return {"p_click": tf.sigmoid(logit), "logit": logit}

    def _from_fields(self, **inputs: tf.Tensor) -> Outputs:
        return self._from_columns({name: inputs[key] for name, key in self._inputs.items()})

    def _from_columns(self, columns: dict[str, tf.Tensor]) -> Outputs:
        """Scores columns by name: numeric ones float32 [batch], categorical ones string [batch]."""
        raw = tf.stack([columns[name] for name in self._schema.numeric], axis=1)
        values = tf.stack([columns[name] for name in self._schema.categorical], axis=1)
        return self._from_features(self._ids(values), self._numeric(raw))

    def _ids(self, values: tf.Tensor) -> tf.Tensor:
        """Vocabulary ids of values: string [batch, categorical columns] to int32."""
        prefixes = tf.broadcast_to(self._prefixes, tf.shape(values))
        line = self._keys.lookup(tf.strings.join([prefixes, values]))
        ids = tf.where(line < 0, self._unknown(values), line - self._first_line + FIRST_VALUE)
        return tf.cast(tf.where(values == "", tf.constant(MISSING, tf.int64), ids), tf.int32)

    def _unknown(self, values: tf.Tensor) -> tf.Tensor:
        """Ids of values outside the vocabulary, int64."""
        if not self._features.buckets:
            return tf.constant(UNSEEN, tf.int64)
        return self._first_bucket + tf.strings.to_hash_bucket_strong(values, self._features.buckets, list(KEY))

    def _from_strings(self, **inputs: tf.Tensor) -> Outputs:
        columns = {name: inputs[key] for name, key in self._inputs.items()}
        numeric = {name: columns[name] for name in self._schema.numeric}
        bad = [
            tf.debugging.Assert(
                tf.reduce_all(is_number(value, self._kinds[name])),
                [f"{name} must be a number of kind {self._kinds[name]} or ''. Received:", value],
            )
            for name, value in numeric.items()
        ]
        with tf.control_dependencies(bad):
            return self._from_columns({**columns, **{name: to_number(v) for name, v in numeric.items()}})

    def _from_examples(self, examples: tf.Tensor) -> Outputs:
        absent = {
            **{name: tf.io.FixedLenFeature([], tf.float32, np.nan) for name in self._schema.numeric},
            **{name: tf.io.FixedLenFeature([], tf.string, "") for name in self._schema.categorical},
        }
        return self._from_columns(tf.io.parse_example(examples, absent))

    def _from_lines(self, lines: tf.Tensor) -> Outputs:
        return self._from_text(lines, True)

    def _from_unlabelled_lines(self, lines: tf.Tensor) -> Outputs:
        return self._from_text(lines, False)

    def _from_text(self, lines: tf.Tensor, labelled: bool) -> Outputs:
        columns, reason = self._parse(lines, labelled)
        good = reason == ""
        # A bad line is scored as if all numbers were missing, then masked.
        numbers = {name: to_number(tf.where(good, columns[name], "")) for name in self._schema.numeric}
        outputs = self._from_columns({**columns, **numbers})
        return {name: tf.where(good, value, np.nan) for name, value in outputs.items()} | {"reason": reason}


def input_names(columns: Sequence[str]) -> dict[str, str]:
    """The name of each column as an input of a signature.

    TensorFlow wants ASCII letters, digits and _, a letter first, no keyword of Python, and names that differ in more
    than case. Columns whose names are so already come first, so that they keep them.
    """
    plain = {name: re.sub(r"[^A-Za-z0-9_]", "_", name) for name in columns}
    plain = {name: text if text[0].isalpha() else f"column_{text}" for name, text in plain.items()}
    taken = {"self", *map(str.lower, keyword.kwlist)}
    found = {}
    for name in sorted(columns, key=lambda name: plain[name] != name):
        text = plain[name]
        while text.lower() in taken:
            text += "_"
        taken.add(text.lower())
        found[name] = text
    return found

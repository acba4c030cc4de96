"""The exported student: one tf.Module that owns lookup tables, numeric transforms, student and calibration.

It loads with TensorFlow alone. Signatures, all for batches of any size:

===============  =====================================================================================
serving_default  each numeric column float32 [batch], NaN = missing; each categorical one string, '' = missing
strings          all columns string [batch], '' = missing, for JSON
tsv              ``lines`` string [batch], raw log lines as ``preprocess`` takes them
tsv_unlabelled   the same without the label column
examples         ``examples`` string [batch], serialized tf.train.Example of raw fields (numerics as floats)
features         ``ids`` int32 and ``dense`` float32, as :class:`features.transform.Transform` makes them
===============  =====================================================================================

Columns keep their names as inputs where TensorFlow allows it; else other characters than letters, digits and _ become _
(``examples`` has all names as they are).

Outputs: ``p_click`` and ``logit``, float32 [batch], calibrated; both ``tsv`` also ``reason``, '' for a good line. A
line that preprocessing would reject has NaN and the reason of :mod:`features.strict`.
"""

from __future__ import annotations

import json
import keyword
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features.numeric import NumericColumn
from features.schema import FLOAT, Column, Schema
from features.strict import (
    BAD_FLOAT,
    BAD_INTEGER,
    BAD_LABEL,
    CARRIAGE_RETURN,
    EMPTY_LINE,
    FIELD_COUNT,
    FLOAT_PATTERN,
    INTEGER_PATTERN,
    INVALID_UTF8,
    LABEL_PATTERN,
    MAX_LINE_BYTES,
    NUL_BYTE,
    TOO_LONG,
)
from features.transform import Transform
from features.vocabulary import FIRST_VALUE
from models.backend import tf
from models.calibration import Calibration
from models.heads import click_logit
from models.student import StudentTrunk
from models.tables import FIRST_ROW, MISSING_ROW, RowLookup, TableLayout

Outputs = dict[str, tf.Tensor]


@dataclass(frozen=True)
class ServingFeatures:
    """Everything between raw fields and the student's trunk.

    Args:
        schema: of the log.
        numeric: statistics of each numeric column.
        values: the values with embedding rows of their own, of each categorical column: binary arrays.
    """

    schema: Schema
    numeric: tuple[NumericColumn, ...]
    values: tuple[pa.BinaryArray, ...]

    def transform(self) -> Transform:
        """The same features from parsed rows."""
        return Transform(self.numeric, self.values)

    def layout(self) -> TableLayout:
        """The embedding table that belongs to the features."""
        return TableLayout.of([len(values) for values in self.values], self.numeric)


class ServingModule(tf.Module):
    """Raw fields to a calibrated click probability.

    Args:
        trunk: of the student.
        features: what it was trained on.
        calibration: of its click logit.
        statistics: log-odds and log-count of each embedding row of a categorical column, float32 [rows, 2], for a
            student that takes them.
    """

    def __init__(
        self,
        trunk: StudentTrunk,
        features: ServingFeatures,
        calibration: Calibration,
        statistics: np.ndarray | None = None,
    ) -> None:
        super().__init__(name="serving")
        self._trunk = trunk
        self._schema = features.schema
        self._lookup = RowLookup(features.layout())
        self._values = features.values
        self._mean = tf.constant([column.mean for column in features.numeric], tf.float64)
        self._std = tf.constant([column.std for column in features.numeric], tf.float64)
        self._calibration = tf.Variable([calibration.scale, calibration.shift], trainable=False, dtype=tf.float32)
        self._statistics = None if statistics is None else tf.Variable(statistics, trainable=False)
        self._inputs = input_names((*self._schema.numeric, *self._schema.categorical))
        self._kinds = {column.name: column.kind for column in self._schema.columns}
        sizes = [len(values) for values in features.values]
        # The table of keys numbers the values of all columns in one row; ids start anew in each column.
        self._first_line = tf.constant(np.concatenate([[0], np.cumsum(sizes)[:-1]]), tf.int64)
        self._prefixes = tf.constant([f"{index}\t" for index in range(len(sizes))])

    def save(self, path: str) -> None:
        """Writes the SavedModel, with the vocabulary as an asset."""
        with tempfile.TemporaryDirectory() as folder:
            vocabulary = os.path.join(folder, "vocabulary.txt")
            with open(vocabulary, "wb") as file:
                for index, values in enumerate(self._values):
                    file.writelines(b"%d\t%s\n" % (index, value.as_py()) for value in values)
                if not any(map(len, self._values)):
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
            tf.saved_model.save(self, path, signatures=self._signatures())

    def _signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        schema = self._schema
        text = {name: tf.TensorSpec([None], tf.string, name) for name in self._inputs.values()}
        numbers = [self._inputs[name] for name in schema.numeric]
        fields = {**text, **{name: tf.TensorSpec([None], tf.float32, name) for name in numbers}}
        ids = tf.TensorSpec([None, len(schema.categorical)], tf.int32, "ids")
        dense = tf.TensorSpec([None, len(schema.numeric)], tf.float32, "dense")
        lines = tf.TensorSpec([None], tf.string, "lines")
        examples = tf.TensorSpec([None], tf.string, "examples")
        return {
            "serving_default": tf.function(self._from_fields).get_concrete_function(**fields),
            "strings": tf.function(self._from_strings).get_concrete_function(**text),
            "tsv": tf.function(self._from_lines).get_concrete_function(lines=lines),
            "tsv_unlabelled": tf.function(self._from_unlabelled_lines).get_concrete_function(lines=lines),
            "examples": tf.function(self._from_examples).get_concrete_function(examples=examples),
            "features": tf.function(self._from_features).get_concrete_function(ids=ids, dense=dense),
        }

    def _from_features(self, ids: tf.Tensor, dense: tf.Tensor) -> Outputs:
        rows = self._lookup.categorical(ids)
        statistics = None
        if self._statistics is not None:
            odds, count = tf.unstack(tf.gather(self._statistics, rows), axis=2)
            statistics = tf.concat([odds, count], axis=1)
        z = self._trunk(tf.concat([rows, self._lookup.numeric(dense)], axis=1), dense, statistics)
        logit = click_logit(z) * self._calibration[0] + self._calibration[1]
        return {"p_click": tf.sigmoid(logit), "logit": logit}

    def _from_fields(self, **inputs: tf.Tensor) -> Outputs:
        return self._from_columns({name: inputs[key] for name, key in self._inputs.items()})

    def _from_columns(self, columns: dict[str, tf.Tensor]) -> Outputs:
        """Scores columns by name: numeric ones float32 [batch], categorical ones string [batch]."""
        raw = tf.stack([columns[name] for name in self._schema.numeric], axis=1)
        values = tf.stack([columns[name] for name in self._schema.categorical], axis=1)
        return self._from_raw(raw, values)

    def _from_raw(self, raw: tf.Tensor, values: tf.Tensor) -> Outputs:
        """Scores float32 [batch, numeric columns] and string [batch, categorical columns]."""
        wide = tf.cast(raw, tf.float64)
        logs = tf.sign(wide) * tf.math.log1p(tf.abs(wide))
        dense = tf.cast((logs - self._mean) / self._std, tf.float32)
        prefixes = tf.broadcast_to(self._prefixes, tf.shape(values))
        line = self._keys.lookup(tf.strings.join([prefixes, values]))
        known = tf.cast(line - self._first_line, tf.int32) + FIRST_VALUE
        ids = tf.where(line < 0, FIRST_VALUE - 1, known)
        return self._from_features(tf.where(values == "", 0, ids), dense)

    def _from_strings(self, **inputs: tf.Tensor) -> Outputs:
        columns = {name: inputs[key] for name, key in self._inputs.items()}
        numeric = {name: columns[name] for name in self._schema.numeric}
        bad = [
            tf.debugging.Assert(
                tf.reduce_all(self._is_number(name, value)),
                [f"{name} must be a number of kind {self._kinds[name]} or ''. Received:", value],
            )
            for name, value in numeric.items()
        ]
        with tf.control_dependencies(bad):
            return self._from_columns({**columns, **{name: _to_number(v) for name, v in numeric.items()}})

    def _is_number(self, name: str, value: tf.Tensor) -> tf.Tensor:
        pattern = FLOAT_PATTERN if self._kinds[name] == FLOAT else INTEGER_PATTERN
        matches = tf.strings.regex_full_match(value, pattern)
        if self._kinds[name] == FLOAT:
            matches &= tf.math.is_finite(_to_number(tf.where(matches, value, "")))
        return matches | (value == "")

    def _from_examples(self, examples: tf.Tensor) -> Outputs:
        absent = {
            **{name: tf.io.FixedLenFeature([], tf.float32, np.nan) for name in self._schema.numeric},
            **{name: tf.io.FixedLenFeature([], tf.string, "") for name in self._schema.categorical},
        }
        return self._from_columns(tf.io.parse_example(examples, absent))

    def _from_lines(self, lines: tf.Tensor) -> Outputs:
        return self._from_text(lines, self._schema.columns)

    def _from_unlabelled_lines(self, lines: tf.Tensor) -> Outputs:
        return self._from_text(lines, self._schema.without_label())

    def _from_text(self, lines: tf.Tensor, expected: Sequence[Column]) -> Outputs:
        lines = tf.strings.regex_replace(lines, r"\r?\n?\z", "", replace_global=False)
        good_bytes, reason = _check_bytes(lines)
        fields = tf.strings.split(tf.where(good_bytes, lines, ""), self._schema.delimiter)
        reason = tf.where((reason == "") & (fields.row_lengths() != len(expected)), FIELD_COUNT, reason)
        table = tf.unstack(fields.to_tensor("", shape=[None, len(expected)]), axis=1)
        columns = {column.name: values for column, values in zip(expected, table, strict=True)}
        reason = self._check_values(columns, reason)
        good = reason == ""
        # A bad line is scored as if all were missing, then masked.
        raw = tf.stack([_to_number(tf.where(good, columns[name], "")) for name in self._schema.numeric], axis=1)
        values = tf.stack([columns[name] for name in self._schema.categorical], axis=1)
        outputs = self._from_raw(raw, values)
        return {name: tf.where(good, value, np.nan) for name, value in outputs.items()} | {"reason": reason}

    def _check_values(self, columns: dict[str, tf.Tensor], reason: tf.Tensor) -> tf.Tensor:
        if self._schema.label in columns:
            label = tf.strings.regex_full_match(columns[self._schema.label], LABEL_PATTERN)
            reason = tf.where((reason == "") & ~label, BAD_LABEL, reason)
        for kind, code in ((False, BAD_INTEGER), (True, BAD_FLOAT)):
            names = [name for name in self._schema.numeric if (self._kinds[name] == FLOAT) == kind]
            for name in names:
                reason = tf.where((reason == "") & ~self._is_number(name, columns[name]), code, reason)
        return reason


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


def _to_number(text: tf.Tensor) -> tf.Tensor:
    """float32 of decimal text, rounded once from float64; '' and what is no number give NaN."""
    number = tf.strings.regex_full_match(text, FLOAT_PATTERN)
    return tf.cast(tf.strings.to_number(tf.where(number, text, "nan"), tf.float64), tf.float32)


def _check_bytes(lines: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether the bytes of lines are good, and the reason why not, in the order of the strict parser."""
    valid = tf.strings.unicode_transcode(lines, "UTF-8", "UTF-8", errors="replace") == lines
    reason = tf.where(valid, "", INVALID_UTF8)
    # \C is any byte: a character class would not match the bytes of a line that is not UTF-8.
    reason = tf.where(tf.strings.regex_full_match(lines, r"\C*\r\C*"), CARRIAGE_RETURN, reason)
    reason = tf.where(tf.strings.regex_full_match(lines, r"\C*\x00\C*"), NUL_BYTE, reason)
    reason = tf.where(tf.strings.length(lines) > MAX_LINE_BYTES, TOO_LONG, reason)
    reason = tf.where(lines == "", EMPTY_LINE, reason)
    return reason == "", reason


def serving_statistics(layout: TableLayout, odds: np.ndarray, count: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Click statistics of the embedding rows of the categorical columns, from those of all vocabulary ids.

    Args:
        layout: of the embedding table.
        odds: float32 [all ids], log-odds with no fold left out.
        count: float32 [all ids], log-count.
        starts: where each column's vocabulary id 0 lies.

    Returns:
        float32 [rows, 2].
    """
    # Rows and ids agree up to the last kept value: missing, unseen (other), values.
    assert FIRST_ROW == FIRST_VALUE and MISSING_ROW == 0
    wanted = np.concatenate(
        [np.arange(start, start + kept + FIRST_ROW) for start, kept in zip(starts, layout.kept, strict=True)]
    )
    return np.stack([odds[wanted], count[wanted]], axis=1)


FEATURES_FILE = "assets.extra/features.json"
VOCABULARY_FILE = "assets/vocabulary.txt"


def features_json(features: ServingFeatures) -> bytes:
    """What ``predict`` needs beside the vocabulary, as bytes of :data:`FEATURES_FILE`."""
    value = {
        "schema": features.schema.to_json(),
        "numeric": [column.to_json() for column in features.numeric],
    }
    return (json.dumps(value, indent=1) + "\n").encode()


def read_features(features: bytes, vocabulary: bytes) -> ServingFeatures:
    """Reads the features of an exported model.

    Args:
        features: content of :data:`FEATURES_FILE`.
        vocabulary: content of :data:`VOCABULARY_FILE`.
    """
    value = json.loads(features)
    schema = Schema.from_json(value["schema"], FEATURES_FILE)
    values: list[list[bytes]] = [[] for _ in schema.categorical]
    for line in vocabulary.split(b"\n"):
        index, tab, text = line.partition(b"\t")
        if tab:
            values[int(index)].append(text)
    return ServingFeatures(
        schema,
        tuple(NumericColumn.from_json(column) for column in value["numeric"]),
        tuple(pa.array(column, pa.binary()) for column in values),
    )

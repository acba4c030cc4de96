"""Raw log lines inside the graph: their fields, or why they are no rows, as :mod:`features.strict` says it."""

from __future__ import annotations

from collections.abc import Iterator

from features.schema import FLOAT, INTEGER, Schema
from features.strict import (
    BAD_FLOAT,
    BAD_INTEGER,
    BAD_LABEL,
    BAD_OUTCOME,
    BAD_TIME,
    BAD_WEIGHT,
    CARRIAGE_RETURN,
    EMPTY_LINE,
    FIELD_COUNT,
    FLOAT_PATTERN,
    INTEGER_PATTERN,
    INVALID_UTF8,
    LABEL_PATTERN,
    MAX_LINE_BYTES,
    MAX_WEIGHT,
    NO_GROUP,
    NUL_BYTE,
    TIME_PATTERN,
    TOO_LONG,
    WEIGHT_PATTERN,
    columns_of,
)
from models.backend import tf

Columns = dict[str, tf.Tensor]


class LineParser(tf.Module):
    """Takes delimited lines apart.

    Args:
        schema: of the log.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__(name="line_parser")
        self._schema = schema
        self._labelled, self._unlabelled = columns_of(schema, True), columns_of(schema, False)

    def __call__(self, lines: tf.Tensor, labelled: bool) -> tuple[Columns, tf.Tensor]:
        """Fields and reasons.

        Args:
            lines: string [batch], with or without their line ends.
            labelled: whether they have the columns label, outcome and weight.

        Returns:
            The fields by column name, string [batch] each; the reason why a line is no row, string [batch], '' for a
            good line. The fields of the others may be anything.
        """
        lines = tf.strings.regex_replace(lines, r"\r?\n?\z", "", replace_global=False)
        good_bytes, reason = _check_bytes(lines)
        expected = self._labelled if labelled else self._unlabelled
        fields = tf.strings.split(tf.where(good_bytes, lines, ""), self._schema.delimiter)
        reason = tf.where((reason == "") & (fields.row_lengths() != len(expected)), FIELD_COUNT, reason)
        table = tf.unstack(fields.to_tensor("", shape=[None, len(expected)]), axis=1)
        columns = {column.name: values for column, values in zip(expected, table, strict=True)}
        for code, good in self._checks(columns):
            reason = tf.where((reason == "") & ~good, code, reason)
        return columns, reason

    def _checks(self, columns: Columns) -> Iterator[tuple[str, tf.Tensor]]:
        """Each reason with the lines that it does not hold for, in the order of the strict parser."""
        schema = self._schema
        if schema.label in columns:
            yield BAD_LABEL, tf.strings.regex_full_match(columns[schema.label], LABEL_PATTERN)
        for name in schema.outcomes:
            if name in columns:
                yield BAD_OUTCOME, tf.strings.regex_full_match(columns[name], LABEL_PATTERN)
        if schema.weight in columns:
            yield BAD_WEIGHT, _is_weight(columns[schema.weight])
        for kind, reason in ((INTEGER, BAD_INTEGER), (FLOAT, BAD_FLOAT)):
            for column in schema.columns:
                if column.kind == kind:
                    yield reason, is_number(columns[column.name], kind)
        if schema.time:
            yield BAD_TIME, tf.strings.regex_full_match(columns[schema.time], TIME_PATTERN)
        if schema.group:
            yield NO_GROUP, columns[schema.group] != ""


def is_number(text: tf.Tensor, kind: str) -> tf.Tensor:
    """Whether each text is '' or a number of the kind ``integer`` or ``float``: bool, of the same shape."""
    matches = tf.strings.regex_full_match(text, FLOAT_PATTERN if kind == FLOAT else INTEGER_PATTERN)
    if kind == FLOAT:
        matches &= tf.math.is_finite(to_number(text))
    return matches | (text == "")


def to_number(text: tf.Tensor) -> tf.Tensor:
    """float32 of decimal text, rounded once from float64; '' and what is no number give NaN."""
    number = tf.strings.regex_full_match(text, FLOAT_PATTERN)
    return tf.cast(tf.strings.to_number(tf.where(number, text, "nan"), tf.float64), tf.float32)


def _is_weight(text: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_full_match(text, WEIGHT_PATTERN) & (to_number(text) <= MAX_WEIGHT)


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

"""Raw log lines inside the graph: their fields, or why they are no rows, as :mod:`features.strict` says it.

One regular expression says of a whole line whether it is good. Only the others, mostly none, are taken apart by what
may be wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from features.schema import FLOAT, GROUP, INTEGER, LABEL, OUTCOME, TIME, WEIGHT, Column, Schema
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

# Characters of numbers and times. A delimiter among them could stand inside of a field that a pattern matches.
_IN_PATTERNS = frozenset("0123456789+-.eETZ: ")
_PATTERNS = {
    LABEL: LABEL_PATTERN,
    OUTCOME: LABEL_PATTERN,
    WEIGHT: WEIGHT_PATTERN,
    INTEGER: f"(?:{INTEGER_PATTERN})?",
    FLOAT: f"(?:{FLOAT_PATTERN})?",
    TIME: f"(?:{TIME_PATTERN})",
}


class LineParser:
    """Takes delimited lines apart.

    Args:
        schema: of the log.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def __call__(self, lines: tf.Tensor, labelled: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Fields and reasons.

        Args:
            lines: string [batch], with or without their line ends.
            labelled: whether they have the columns label, outcome and weight.

        Returns:
            Raw numerics float32 [batch, numeric columns], NaN = missing; values string [batch, categorical columns];
            the reason why a line is no row, string [batch], '' for a good line. The fields of the others may be
            anything.
        """
        schema, columns = self._schema, columns_of(self._schema, labelled)
        lines = tf.strings.regex_replace(lines, r"\r?\n?\z", "", replace_global=False)
        good = self._match(lines, columns) & (tf.strings.length(lines) <= MAX_LINE_BYTES)
        table = self._split(lines, good, columns)
        numbers = to_number(table[schema.numeric])
        if any(column.kind == FLOAT for column in columns):
            good &= ~tf.reduce_any(tf.math.is_inf(numbers), axis=1)
        if schema.weight and labelled:
            good &= _is_weight(table[schema.weight])
        return numbers, table[schema.categorical], self._reasons(lines, good, columns)

    def _match(self, lines: tf.Tensor, columns: Sequence[Column]) -> tf.Tensor:
        """Whether lines are good, bool [batch], but for their length and for numbers that are too large."""
        delimiter = _escaped(self._schema.delimiter)
        # Classes of characters match no bytes that are not UTF-8, except for surrogates.
        no_field = rf"{delimiter}\x00\r\x{{D800}}-\x{{DFFF}}"
        other = {GROUP: f"[^{no_field}]+"}
        fields = [_PATTERNS.get(column.kind) or other.get(column.kind, f"[^{no_field}]*") for column in columns]
        good = tf.strings.regex_full_match(lines, delimiter.join(fields))
        if self._schema.delimiter in _IN_PATTERNS:
            one = f"[^{delimiter}]*"
            good &= tf.strings.regex_full_match(lines, delimiter.join([one] * len(columns)))
        return good

    def _reasons(self, lines: tf.Tensor, good: tf.Tensor, columns: Sequence[Column]) -> tf.Tensor:
        def none() -> tf.Tensor:
            return tf.fill(tf.shape(lines), "")

        def some() -> tf.Tensor:
            places = tf.where(~good)
            return tf.tensor_scatter_nd_update(none(), places, self._judge(tf.gather_nd(lines, places), columns))

        return tf.cond(tf.reduce_all(good), none, some)

    def _judge(self, lines: tf.Tensor, columns: Sequence[Column]) -> tf.Tensor:
        """Reasons of lines without line ends, in the order of the strict parser."""
        reason = _check_bytes(lines)
        delimiters = tf.strings.length(tf.strings.regex_replace(lines, f"[^{_escaped(self._schema.delimiter)}]+", ""))
        reason = tf.where((reason == "") & (delimiters != len(columns) - 1), FIELD_COUNT, reason)
        table = self._split(lines, reason == "", columns)
        for code, good in self._checks(table, columns):
            reason = tf.where((reason == "") & ~good, code, reason)
        return reason

    def _split(self, lines: tf.Tensor, good: tf.Tensor, columns: Sequence[Column]) -> _Table:
        """The fields of good lines; those of other lines are empty."""
        blank = self._schema.delimiter * (len(columns) - 1)
        # All lines have the same number of fields now, so the places that a ragged split would count are known.
        fields = tf.raw_ops.StringSplitV2(input=tf.where(good, lines, blank), sep=self._schema.delimiter).values
        return _Table(tf.reshape(fields, [-1, len(columns)]), [column.name for column in columns])

    def _checks(self, table: _Table, columns: Sequence[Column]) -> Iterator[tuple[str, tf.Tensor]]:
        """Each reason with the lines that it does not hold for, in the order of the strict parser."""
        schema = self._schema
        names: dict[str, list[str]] = {}
        for column in columns:
            names.setdefault(column.kind, []).append(column.name)
        for kind, code in ((LABEL, BAD_LABEL), (OUTCOME, BAD_OUTCOME)):
            if kind in names:
                yield code, _all(tf.strings.regex_full_match(table[names[kind]], LABEL_PATTERN))
        if schema.weight in names.get(WEIGHT, []):
            yield BAD_WEIGHT, _is_weight(table[schema.weight])
        for kind, code in ((INTEGER, BAD_INTEGER), (FLOAT, BAD_FLOAT)):
            if kind in names:
                yield code, _all(parse_numbers(table[names[kind]], kind)[1])
        if schema.time:
            yield BAD_TIME, tf.strings.regex_full_match(table[schema.time], TIME_PATTERN)
        if schema.group:
            yield NO_GROUP, table[schema.group] != ""


class _Table:
    """Fields, string [lines, columns], by column name: a column, or several side by side."""

    def __init__(self, fields: tf.Tensor, names: Sequence[str]) -> None:
        self._fields = fields
        self._places = {name: place for place, name in enumerate(names)}

    def __getitem__(self, names: str | Sequence[str]) -> tf.Tensor:
        if isinstance(names, str):
            return self._fields[:, self._places[names]]
        places = [self._places[name] for name in names]
        first, last = places[0], places[-1]
        if places == list(range(first, last + 1)):
            return self._fields[:, first : last + 1]
        return tf.gather(self._fields, places, axis=1)


def parse_numbers(text: tf.Tensor, kind: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Numbers of any text.

    Args:
        text: string, of any shape.
        kind: ``integer`` or ``float``.

    Returns:
        The numbers, float32; whether the text is '' or a number of the kind, bool. What is not may be any number.
    """
    matches = tf.strings.regex_full_match(text, _PATTERNS[kind])
    number = to_number(tf.where(matches, text, ""))
    return number, matches & ~tf.math.is_inf(number)


def require_numbers(columns: Sequence[tf.Tensor], names: Sequence[str], kind: str) -> tf.Tensor:
    """Numbers of columns of one kind.

    Args:
        columns: string [batch] each; '' = missing.
        names: of the columns, for the error.
        kind: ``integer`` or ``float``.

    Returns:
        float32 [columns, batch], NaN = missing.

    Raises:
        InvalidArgumentError: when the graph runs, for a text that is no number of the kind.
    """
    texts = tf.stack(columns)
    numbers, good = parse_numbers(texts, kind)
    whole = tf.reduce_all(good, axis=1)
    worst = tf.argmin(tf.cast(whole, tf.int32))
    rule = tf.strings.join([tf.gather(names, worst), f" must be a number of kind {kind} or ''. Received:"])
    # A message with other bytes than UTF-8 never reaches Python.
    shown = tf.strings.unicode_transcode(texts[worst], "UTF-8", "UTF-8")
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(whole), [rule, shown])]):
        return tf.identity(numbers)


def to_number(text: tf.Tensor) -> tf.Tensor:
    """float32 of decimal text, rounded once from float64; '' gives NaN. Any shape."""
    return tf.cast(tf.strings.to_number(tf.where(text == "", "nan", text), tf.float64), tf.float32)


def _all(good: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(good, axis=1)


def _is_weight(text: tf.Tensor) -> tf.Tensor:
    matches = tf.strings.regex_full_match(text, WEIGHT_PATTERN)
    return matches & (to_number(tf.where(matches, text, "")) <= MAX_WEIGHT)


def _escaped(character: str) -> str:
    """An ASCII character in a regular expression."""
    return f"\\x{ord(character):02x}"


def _check_bytes(lines: tf.Tensor) -> tf.Tensor:
    """Why the bytes of lines are bad, '' for good ones, in the order of the strict parser."""
    valid = tf.strings.unicode_transcode(lines, "UTF-8", "UTF-8", errors="replace") == lines
    reason = tf.where(valid, "", INVALID_UTF8)
    # \C is any byte: a character class would not match the bytes of a line that is not UTF-8.
    reason = tf.where(tf.strings.regex_full_match(lines, r"\C*\r\C*"), CARRIAGE_RETURN, reason)
    reason = tf.where(tf.strings.regex_full_match(lines, r"\C*\x00\C*"), NUL_BYTE, reason)
    reason = tf.where(tf.strings.length(lines) > MAX_LINE_BYTES, TOO_LONG, reason)
    return tf.where(lines == "", EMPTY_LINE, reason)

"""Columns of texts to columns of values, by Arrow: the fast counterpart of :func:`features.strict.parse_texts`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.rejects import Reject
from features.rows import ParsedRows
from features.schema import FLOAT, INTEGER, LABEL, OUTCOME, TIME, WEIGHT, Schema
from features.strict import (
    FLOAT_PATTERN,
    INTEGER_PATTERN,
    LABEL_PATTERN,
    MAX_WEIGHT,
    TIME_PATTERN,
    WEIGHT_PATTERN,
)

_PATTERNS = {
    LABEL: LABEL_PATTERN,
    OUTCOME: LABEL_PATTERN,
    WEIGHT: WEIGHT_PATTERN,
    INTEGER: INTEGER_PATTERN,
    FLOAT: FLOAT_PATTERN,
    TIME: TIME_PATTERN,
}


@dataclass(frozen=True)
class ValueColumns:
    """Values of n rows; see :class:`features.rows.ParsedRows`.

    Args:
        labels: as there; 0 where bad.
        weights: as there; NaN where bad.
        numeric: as there; NaN where bad.
        categorical: as there.
        keys: as there.
        outcomes: as there; 0 where bad.
        bad: bool [n], the rows that the strict parser rejects.
    """

    labels: NDArray[np.uint8] | None
    weights: NDArray[np.float32] | None
    numeric: list[pa.DictionaryArray]
    categorical: list[pa.DictionaryArray]
    keys: list[pa.BinaryArray]
    outcomes: NDArray[np.uint8] | None
    bad: NDArray[np.bool_]

    def rows(self, offsets: NDArray[np.int64], rejects: list[Reject]) -> ParsedRows:
        """The rows, of which none is bad, with their offsets (int64 [n]) and the rejects among them."""
        return ParsedRows(
            offsets, self.labels, self.weights, self.numeric, self.categorical, self.keys, rejects, self.outcomes
        )


def cast_columns(table: pa.Table, schema: Schema, labelled: bool) -> ValueColumns:
    """Casts columns of texts.

    Args:
        table: a binary column (dictionary-encoded or not, without nulls) for each column of the schema, by name:
            UTF-8 without NUL and carriage return, b"" = missing.
        schema: of the log.
        labelled: whether there is the label column.
    """
    texts = {name: single(table[name]) for name in table.column_names}
    kinds = {column.name: column.kind for column in schema.columns}
    bad = np.zeros(table.num_rows, bool)
    decoded = {}
    weighted = labelled and schema.weight is not None
    outcomes = schema.outcomes if labelled else ()
    labels = [name for name in (schema.label, *outcomes, schema.weight) if labelled and name]
    for name in [*labels, *schema.numeric]:
        encoded = encode(texts[name])
        values, wrong = _cast(encoded.dictionary, kinds[name])
        decoded[name] = pa.DictionaryArray.from_arrays(encoded.indices, pa.array(values))
        if wrong.any():
            bad |= wrong[encoded.indices.to_numpy()]
    if schema.time:
        bad |= ~_matches(encode(texts[schema.time]), TIME)
    if schema.group:
        bad |= pc.equal(pc.binary_length(plain(texts[schema.group])), 0).to_numpy(zero_copy_only=False)
    return ValueColumns(
        _digits(decoded[schema.label]) if labelled else None,
        _gather(decoded[str(schema.weight)]) if weighted else None,
        [decoded[name] for name in schema.numeric],
        [encode(texts[name]) for name in schema.categorical],
        [plain(texts[name]) for name in schema.keys],
        np.stack([_digits(decoded[name]) for name in outcomes], axis=1) if outcomes else None,
        bad,
    )


def encode(column: pa.Array) -> pa.DictionaryArray:
    """The column with a dictionary of distinct values."""
    return column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()


def plain(column: pa.Array) -> pa.BinaryArray:
    """The column without a dictionary."""
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _gather(column: pa.DictionaryArray) -> NDArray[np.float32]:
    values: NDArray[np.float32] = column.dictionary.to_numpy()[column.indices.to_numpy()]
    return values


def _digits(column: pa.DictionaryArray) -> NDArray[np.uint8]:
    return np.nan_to_num(_gather(column)).astype(np.uint8)


def _matches(column: pa.DictionaryArray, kind: str) -> NDArray[np.bool_]:
    good = pc.match_substring_regex(column.dictionary, f"^(?:{_PATTERNS[kind]})$")
    matches: NDArray[np.bool_] = good.to_numpy(zero_copy_only=False)[column.indices.to_numpy()]
    return matches


def _cast(values: pa.BinaryArray, kind: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Distinct values as float32, with NaN for missing and bad ones, and which of them are bad."""
    matches = pc.match_substring_regex(values, f"^(?:{_PATTERNS[kind]})$")
    texts = pc.if_else(matches, values, pa.scalar(None, pa.binary())).cast(pa.string())
    with np.errstate(over="ignore"):
        numbers = texts.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float32)
    good = np.isfinite(numbers)
    if kind == WEIGHT:
        good &= numbers <= MAX_WEIGHT
    elif kind not in (LABEL, OUTCOME):
        good |= pc.binary_length(values).to_numpy() == 0
    # What overflows must not stay: unused values of a dictionary are still seen by statistics.
    return np.where(good, numbers, np.float32(np.nan)), ~good


def single(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

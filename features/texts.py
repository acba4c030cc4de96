"""Typed columns as columns of texts: what JSON lines and parquet files have in place of fields.

A text is what :func:`features.strict.parse_texts` reads: UTF-8 in one line, b"" = missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.columns import plain
from features.scanning import is_utf8
from features.schema import FLOAT, INTEGER, LABEL, OUTCOME, WEIGHT
from features.strict import CARRIAGE_RETURN, INVALID_UTF8, NUL_BYTE, BadLine

NUMBERS = frozenset({LABEL, OUTCOME, WEIGHT, INTEGER, FLOAT})
"""Kinds whose texts are kept by dictionary: their distinct values are cast once."""
_ENCODED = pa.dictionary(pa.int32(), pa.binary())


def text_type(kind: str) -> pa.DataType:
    """Type of a column of texts: a dictionary for numbers, otherwise binary."""
    return _ENCODED if kind in NUMBERS else pa.binary()


def texts_of(values: pa.Array, kind: str, show: Callable[[float], str] = repr) -> pa.Array:
    """The texts of a column of scalars.

    Args:
        values: strings, bytes, numbers, truth values, dates, times of day or timestamps; null and NaN = missing.
        kind: of the column, one of :data:`features.schema.KINDS`.
        show: text of a floating-point number. Not called for a float or weight column, where only the value counts.

    Returns:
        :func:`text_type` [n] without nulls. A truth value is "1" or "0" as a label or outcome and "true" or "false"
        elsewhere; a date or timestamp is ISO 8601, a timestamp in UTC (one without time zone is taken as UTC).
    """
    values = plain(values)
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())
    if kind in NUMBERS or pa.types.is_floating(values.type):
        encoded = values.dictionary_encode("encode")
        texts = _filled(_format(encoded.dictionary, kind, show))
        encoded = pa.DictionaryArray.from_arrays(encoded.indices, texts)
        return encoded if kind in NUMBERS else encoded.dictionary_decode()
    return _filled(_format(values, kind, show))


def show_whole(value: float) -> str:
    """Text of a floating-point number, a whole one without its ".0"."""
    return repr(value).removesuffix(".0")


def check_texts(texts: Mapping[str, bytes]) -> None:
    """Raises BadLine for a text (by column name) with NUL, a line end or bytes that are no UTF-8."""
    for reason, marks, what in ((NUL_BYTE, b"\0", "NUL"), (CARRIAGE_RETURN, b"\r\n", "line ends")):
        for name, text in texts.items():
            if any(mark in text for mark in marks):
                raise BadLine(reason, f"{name}: expected text without {what}, received {text[:40]!r}")
    for name, text in texts.items():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise BadLine(INVALID_UTF8, f"{name}: at byte {error.start} of the text: {error.reason}") from error


def unclean(texts: pa.Array) -> NDArray[np.bool_]:
    """Which texts :func:`check_texts` refuses: bool [n]."""
    if isinstance(texts, pa.DictionaryArray):
        found: NDArray[np.bool_] = unclean(texts.dictionary)[texts.indices.to_numpy()]
        return found
    data = texts.buffers()[2]
    held = data.to_pybytes() if data is not None else b""
    bad = np.zeros(len(texts), bool)
    if any(mark in held for mark in (b"\0", b"\r", b"\n")):
        bad |= pc.match_substring_regex(texts, r"[\x00\r\n]").to_numpy(zero_copy_only=False)
    if not held.isascii():
        bad |= _invalid_utf8(texts)
    return bad


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values of the type are bytes of any layout."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _filled(texts: pa.Array) -> pa.BinaryArray:
    texts = texts.cast(pa.binary())
    return texts.fill_null(b"") if texts.null_count else texts


def _format(values: pa.Array, kind: str, show: Callable[[float], str]) -> pa.Array:
    if pa.types.is_boolean(values.type) and kind in (LABEL, OUTCOME):
        return values.cast(pa.int8()).cast(pa.string())
    if pa.types.is_timestamp(values.type):
        instants = values.cast(pa.timestamp(values.type.unit))
        return pc.strftime(instants, format="%Y-%m-%dT%H:%M:%SZ")
    if pa.types.is_floating(values.type):
        doubles = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        if kind in (FLOAT, WEIGHT):
            return doubles.cast(pa.string())
        return pa.array([None if value is None else show(value) for value in doubles.to_pylist()], pa.string())
    # A cast from bytes to text would stop at the first one that is no UTF-8.
    return values.cast(pa.binary()) if is_bytes(values.type) else values.cast(pa.string())


def _invalid_utf8(texts: pa.BinaryArray) -> NDArray[np.bool_]:
    try:
        texts.cast(pa.string())
    except pa.ArrowInvalid:
        return np.array([not is_utf8(text) for text in texts.to_pylist()], bool)
    return np.zeros(len(texts), bool)

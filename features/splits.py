"""Which split a row belongs to: by its position in the log, its time, the hash of a column, or its file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.errors import ConfigError, DataError
from features.rows import ParsedRows
from features.schema import Schema
from features.siphash import siphash
from features.strict import INTEGER_PATTERN, TIME_PATTERN

BYTES, LINES, TIME, HASH, FILES = METHODS = ("bytes", "lines", "time", "hash", "files")
WITHOUT_VALIDATION = "without-validation:"
"""What stands before a split whose validation rows are training rows."""
_RULE = (
    "--split must be train/valid/test as shares of the bytes that add up to 100 or 1 (70/15/15), numbers of lines "
    "(800000/100000/100000), files:TRAIN/VALID/TEST, hash:COLUMN:TRAIN/VALID/TEST or time:VALID_FROM/TEST_FROM, with "
    "rows to train on and to validate on"
)
_MIDNIGHT = "0000-00-00 00:00:00.000000000"


@dataclass(frozen=True)
class Split:
    """How the rows are divided.

    Args:
        method: one of :data:`METHODS`.
        parts: of training, validation and test: shares that add up to 1 (bytes, hash), or numbers of lines or files.
            Empty for ``time``.
        column: whose hash decides.
        times: where validation and test begin, as texts.
        validates: whether the rows between training and test are for validation; if not, they are training rows too,
            and the test rows are the same.
    """

    method: str
    parts: tuple[float, ...] = ()
    column: str = ""
    times: tuple[str, ...] = ()
    validates: bool = True

    @classmethod
    def parse(cls, text: str) -> Split:
        """Reads ``--split``; the error of a wrong one says what it may be.

        Raises:
            ConfigError: it is none of these, or leaves nothing for training or validation.
        """
        if text.startswith(WITHOUT_VALIDATION):
            return replace(cls.parse(text.removeprefix(WITHOUT_VALIDATION)), validates=False)
        method, _, rest = text.partition(":")
        if method == "time":
            return _by_time(rest, text)
        if method == "hash" and ":" in rest:
            column, _, parts = rest.rpartition(":")
            return cls(HASH, _shares(parts, text), column)
        if method == "files":
            return cls(FILES, _numbers(rest, text))
        try:
            return cls(BYTES, _shares(text, text))
        except ConfigError:
            return cls(LINES, _numbers(text, text))

    def check(self, schema: Schema) -> None:
        """Raises a ConfigError where the schema lacks the column that decides."""
        if self.method == TIME and not schema.time:
            raise ConfigError(
                "--split time: must have a schema with a time column. Received: none (give a column the kind time)."
            )
        if self.method == HASH and self.column not in (*schema.keys, *schema.categorical):
            raise ConfigError(
                "--split hash: must name a key, group, time or categorical column of the schema. "
                f"Received: {self.column}."
            )

    @property
    def by_row(self) -> bool:
        """Whether a row's own values decide, so that every range may hold rows of every split."""
        return self.method in (TIME, HASH)

    def of_rows(self, rows: ParsedRows, schema: Schema) -> NDArray[np.uint8]:
        """The number of each row's split (0 training, 1 validation, 2 test), where its own values decide: uint8 [n].

        Raises:
            DataError: times of the log are numbers and those of the split texts, or the other way round.
        """
        found = self._of_values(rows, schema)
        if not self.validates:
            found[found == 1] = 0
        return found

    def _of_values(self, rows: ParsedRows, schema: Schema) -> NDArray[np.uint8]:
        if self.method == TIME:
            assert schema.time
            return self._of_times(rows.keys[schema.keys.index(schema.time)])
        if self.column in schema.keys:
            hashes = siphash(rows.keys[schema.keys.index(self.column)])
        else:
            column = rows.categorical[schema.categorical.index(self.column)]
            hashes = siphash(column.dictionary)[column.indices.to_numpy()]
        place = (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53
        return _place(place, np.cumsum(self.parts[:2]))

    def _of_times(self, times: pa.BinaryArray) -> NDArray[np.uint8]:
        encoded = times.dictionary_encode()
        numbers = pc.match_substring_regex(encoded.dictionary, f"^(?:{INTEGER_PATTERN})$")
        if len(encoded.dictionary) and pc.any(pc.xor(numbers, _is_number(self.times[0]))).as_py():
            other = encoded.dictionary.filter(pc.xor(numbers, _is_number(self.times[0])))[0].as_py().decode()
            raise DataError(
                f"--split time: must be in the form of the log's times. Received: {'/'.join(self.times)} for {other}."
            )
        if _is_number(self.times[0]):
            values = encoded.dictionary.cast(pa.string()).cast(pa.int64()).to_numpy()
            bounds = np.array([int(time) for time in self.times], np.int64)
        else:
            values = np.array([_plain_time(text.decode()) for text in encoded.dictionary.to_pylist()], str)
            bounds = np.array([_plain_time(time) for time in self.times], str)
        return _place(values, bounds)[encoded.indices.to_numpy()]


def _place(values: NDArray[np.generic], bounds: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.searchsorted(bounds, values, side="right").astype(np.uint8)


def _is_number(time: str) -> bool:
    return re.fullmatch(INTEGER_PATTERN, time) is not None


def _plain_time(time: str) -> str:
    """ISO 8601 in one form, whose order is that of time."""
    plain = time.replace("T", " ").removesuffix("Z")
    return plain + _MIDNIGHT[len(plain) :]


def _by_time(rest: str, text: str) -> Split:
    times = tuple(rest.split("/"))
    good = len(times) == 2 and all(re.fullmatch(TIME_PATTERN, time) for time in times)
    if not good or _is_number(times[0]) != _is_number(times[1]):
        raise _wrong(text)
    ordered = [int(time) for time in times] if _is_number(times[0]) else [_plain_time(time) for time in times]
    if ordered[0] >= ordered[1]:  # type: ignore[operator]
        raise ConfigError(f"--split time: must have validation before test. Received: {text}.")
    return Split(TIME, times=times)


def _parts(text: str, whole: str) -> tuple[float, ...]:
    try:
        parts = tuple(float(part) for part in text.split("/"))
    except ValueError:
        parts = ()
    if len(parts) != 3 or not all(map(math.isfinite, parts)) or min(parts) < 0 or min(parts[:2]) <= 0:
        raise _wrong(whole)
    return parts


def _shares(text: str, whole: str) -> tuple[float, ...]:
    parts = _parts(text, whole)
    total = sum(parts)
    if not (math.isclose(total, 1) or math.isclose(total, 100)):
        raise _wrong(whole)
    return tuple(part / total for part in parts)


def _numbers(text: str, whole: str) -> tuple[float, ...]:
    parts = _parts(text, whole)
    if any(part != int(part) for part in parts):
        raise _wrong(whole)
    return parts


def _wrong(text: str) -> ConfigError:
    return ConfigError(f"{_RULE}. Received: {text}.")

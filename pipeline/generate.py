"""Writes a Criteo-format log whose true click probability is known, and that truth beside it."""

from __future__ import annotations

import gzip
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.errors import ConfigError
from features.synthetic import (
    MISSING_NUMBER,
    Fields,
    HiddenModel,
    build_model,
    kind_probabilities,
    sample_fields,
    sample_kinds,
)
from features.synthetic_spec import CATEGORICAL, NUMERIC, PRESETS, value_codes

CHUNK_ROWS = 16_384
TRUTH_SCHEMA = pa.schema([("offset", pa.int64()), ("p_star", pa.float64()), ("kind", pa.int16()), ("label", pa.int8())])
_LOWEST = min(column.low for column in NUMERIC)
_AUC_BINS = 1 << 16
# Keep the random streams of rows apart from that of the hidden tables, and from each other, whatever the seed.
_ROWS_STREAM = 1
_THINNING_STREAM = 2


@dataclass(frozen=True)
class GenerateSummary:
    """What was written.

    The rates and the metrics are those of all drawn rows, also where some of them were not written.

    Args:
        rows: number of lines.
        click_rate: share of the rows that click.
        bayes_auc: AUC of p* on the labels; ties within 2^-16 of probability count as a half.
        bayes_logloss: mean logloss of p* on the labels, in nats: the least that a model can expect.
        paths: the log and its truth.
    """

    rows: int
    click_rate: float
    bayes_auc: float
    bayes_logloss: float
    paths: tuple[str, str]


def generate(
    rows: int,
    output: str,
    *,
    seed: int = 0,
    preset: str = "kinds",
    negative_rate: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> GenerateSummary:
    """Writes a log of ``rows`` lines and a parquet file with the truth about each.

    With a negative rate of r the log has all rows that click and a share r of the others, each kept by chance;
    its lines are among those of the log with r = 1, and so is its truth.

    The log is label, 13 integers and 26 categoricals of 8 hexadecimal digits, tab separated, without header;
    an empty field is missing. The truth holds ``offset`` (int64, of the line in the decompressed log),
    ``p_star`` (float64, click probability given the visible fields), ``kind`` (int16: 0 to S-1 do not
    click, S to 2·S-1 do) and ``label`` (int8). The same arguments give the same bytes on the same NumPy,
    zlib and CPU. The time of a row is its index over ``rows``, so a longer log does not begin with a
    shorter one. Both files appear whole or not at all, the truth first.

    Args:
        rows: number of rows that are drawn, positive; all become lines unless there is a negative rate.
        output: path of the log, in an existing folder; gzip if it ends with ``.gz``. The truth goes to
            ``truth_path(output)``.
        seed: draws the rows, 0 or more; the hidden model behind them depends on the preset alone.
        preset: a key of ``features.synthetic_spec.PRESETS``.
        negative_rate: share of the rows without click that are written, in (0, 1].
        progress: called after each chunk with the number of rows drawn so far.

    Raises:
        ConfigError: an argument breaks a rule above.
    """
    check_arguments(rows, output, seed, preset, negative_rate)
    paths = (output, truth_path(output))
    model, formatter, tally = build_model(preset), _Formatter(), _Tally()
    with _published(*paths) as (log_path, truth), _open_log(log_path, output.endswith(".gz")) as log:
        with pq.ParquetWriter(truth, TRUTH_SCHEMA) as writer:
            written = offset = 0
            for start in range(0, rows, CHUNK_ROWS):
                drawn = _draw(model, seed, start, rows)
                tally.add(drawn.p_star, drawn.label)
                kept = drawn.thinned(negative_rate, seed, start)
                text, ends = formatter.format(kept.label, kept.fields)
                log.write(text)
                offsets = np.concatenate([[0], ends]) + offset
                truths = [offsets[:-1], kept.p_star, kept.kind, kept.label]
                writer.write_table(pa.table(truths, schema=TRUTH_SCHEMA))
                written, offset = written + len(ends), int(offsets[-1])
                if progress:
                    progress(start + len(drawn.label))
    return GenerateSummary(written, *tally.compute(), paths)


def truth_path(output: str) -> str:
    """The path of the truth of a log: ``.truth.parquet`` for its ``.tsv``, ``.tsv.gz`` or ``.gz``."""
    return output.removesuffix(".gz").removesuffix(".tsv") + ".truth.parquet"


def check_arguments(rows: int, output: str, seed: int, preset: str, negative_rate: float = 1.0) -> None:
    """Raises a ConfigError for arguments that :func:`generate` does not take."""
    if rows < 1:
        raise ConfigError(f"The number of rows must be positive. Received: {rows} (--rows).")
    if seed < 0:
        raise ConfigError(f"The seed must be 0 or more. Received: {seed} (--seed).")
    if preset not in PRESETS:
        raise ConfigError(f"The preset must be one of {', '.join(PRESETS)}. Received: {preset!r} (--preset).")
    if not 0 < negative_rate <= 1:
        raise ConfigError(
            f"The negative rate must be above 0 and at most 1. Received: {negative_rate} (--negative-rate)."
        )
    folder = os.path.dirname(output) or "."
    if not os.path.isdir(folder):
        raise ConfigError(f"The folder of the output must exist. Received: {output!r} (--output).")
    if not os.path.basename(output) or os.path.isdir(output):
        raise ConfigError(f"The output must be a file, not a folder. Received: {output!r} (--output).")


@contextmanager
def _published(log: str, truth: str) -> Iterator[tuple[str, str]]:
    """Yields temporary names beside both files and publishes them on success, removes them on failure."""
    tag = f".{uuid.uuid4().hex}.tmp"
    try:
        yield log + tag, truth + tag
        # An old log goes first and the new one comes last, so a log never stands beside the truth of another.
        Path(log).unlink(missing_ok=True)
        os.replace(truth + tag, truth)
        os.replace(log + tag, log)
    finally:
        for path in (log + tag, truth + tag):
            Path(path).unlink(missing_ok=True)


@contextmanager
def _open_log(path: str, compressed: bool) -> Iterator[IO[bytes]]:
    with open(path, "wb") as file:
        if not compressed:
            yield file
            return
        # No name and no time in the header: stable bytes. Hex digits gain little from higher levels.
        with gzip.GzipFile("", "wb", compresslevel=3, fileobj=file, mtime=0) as archive:
            yield cast(IO[bytes], archive)


@dataclass(frozen=True)
class _Rows:
    """Rows of a chunk: fields, p* (float64 [n]), kind (int16 [n]) and label (int8 [n])."""

    fields: Fields
    p_star: NDArray[np.float64]
    kind: NDArray[np.int16]
    label: NDArray[np.int8]

    def thinned(self, negative_rate: float, seed: int, start: int) -> _Rows:
        """All rows that click and by chance a share of the others."""
        chance = np.random.default_rng([seed, start // CHUNK_ROWS, _THINNING_STREAM]).random(len(self.label))
        kept = (self.label == 1) | (chance < negative_rate)
        fields = Fields(self.fields.numeric[:, kept], self.fields.categorical[:, kept])
        return _Rows(fields, self.p_star[kept], self.kind[kept], self.label[kept])


def _draw(model: HiddenModel, seed: int, start: int, rows: int) -> _Rows:
    """Draws the chunk of rows from ``start``; it has a generator of its own."""
    size = min(CHUNK_ROWS, rows - start)
    rng = np.random.default_rng([seed, start // CHUNK_ROWS, _ROWS_STREAM])
    time = ((start + np.arange(size)) / rows).astype(np.float32)
    fields = sample_fields(model, rng, time)
    probabilities = kind_probabilities(model, fields)
    p_star = probabilities[:, model.preset.segments :].sum(axis=1, dtype=np.float64)
    kind = sample_kinds(probabilities, rng)
    return _Rows(fields, p_star, kind, (kind >= model.preset.segments).astype(np.int8))


@dataclass
class _Tally:
    """Sums that give click rate, Bayes AUC and Bayes logloss in bounded memory."""

    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, _AUC_BINS), np.int64))
    loss: float = 0.0

    def add(self, p_star: NDArray[np.float64], label: NDArray[np.int8]) -> None:
        bins = np.minimum((p_star * _AUC_BINS).astype(np.int64), _AUC_BINS - 1)
        self.histogram += np.bincount(bins + _AUC_BINS * label.astype(np.int64), minlength=2 * _AUC_BINS).reshape(2, -1)
        self.loss -= float(np.log(np.where(label, p_star, 1 - p_star)).sum())

    def compute(self) -> tuple[float, float, float]:
        """Click rate, AUC (NaN if the log has one class only) and logloss."""
        others, clicks = self.histogram
        pairs = int(others.sum()) * int(clicks.sum())
        wins = float((clicks * (np.cumsum(others) - others / 2)).sum())
        rows = int(self.histogram.sum())
        return float(clicks.sum() / rows), wins / pairs if pairs else float("nan"), self.loss / rows


def _padded(texts: list[str], width: int) -> NDArray[np.void]:
    """ASCII texts as an array of ``width`` byte integers, filled up with NUL bytes."""
    return np.array(texts, f"S{width}").view(f"u{width}")


class _Formatter:
    """Turns rows into text: each row is laid out at full width, then all NUL bytes are dropped.

    An integer is two groups of four digits, each looked up in a table. The last entry of a table is empty, so
    index -1 stands for a missing field.
    """

    def __init__(self) -> None:
        small = [str(number) for number in range(_LOWEST, 10_000)]
        self._high = _padded(["", *map(str, range(1, 10_000))], 4)
        self._low = _padded([f"{number:04d}" for number in range(10_000)] + small + [""], 4)
        self._values = [_hex_table(i, column.cardinality) for i, column in enumerate(CATEGORICAL)]
        layout: list[tuple[str, str]] = [("label", "u1")]
        for i in range(len(NUMERIC)):
            layout += [(f"I{i}_tab", "u1"), (f"I{i}_high", "u4"), (f"I{i}_low", "u4")]
        for i in range(len(CATEGORICAL)):
            layout += [(f"C{i}_tab", "u1"), (f"C{i}", "u8")]
        self._blank = np.zeros((), np.dtype([*layout, ("end", "u1")]))
        for name, _ in layout:
            if name.endswith("tab"):
                self._blank[name] = ord("\t")
        self._blank["end"] = ord("\n")

    def format(self, label: NDArray[np.int8], fields: Fields) -> tuple[bytes, NDArray[np.int64]]:
        """Writes n rows; returns the text and the end of each line in it, int64 [n]."""
        block = np.full(len(label), self._blank)
        block["label"] = label + np.uint8(ord("0"))
        for i, numbers in enumerate(fields.numeric):
            missing = numbers == MISSING_NUMBER
            block[f"I{i}_high"] = self._high[np.maximum(numbers, 0) // 10_000]
            low = np.where(numbers < 10_000, numbers + (10_000 - _LOWEST), numbers % 10_000)
            block[f"I{i}_low"] = self._low[np.where(missing, -1, low)]
        for i, values in enumerate(fields.categorical):
            block[f"C{i}"] = self._values[i][values]
        padded = block.view(np.uint8)
        text = padded[padded != 0]
        return text.tobytes(), np.flatnonzero(text == ord("\n")) + 1


def _hex_table(column: int, cardinality: int) -> NDArray[np.uint64]:
    """The 8 hexadecimal digits of each value of a column as 8 ASCII bytes; the last entry is empty."""
    codes = value_codes(column, np.arange(cardinality, dtype=np.int32))
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    nibbles = (codes[:, None] >> np.arange(28, -4, -4, dtype=np.uint32)) & np.uint32(15)
    table = np.zeros(cardinality + 1, np.uint64)
    table[:-1] = digits[nibbles].view(np.uint64)[:, 0]
    return table

"""The whole way of a log to a block against a plain pandas implementation, whatever the chunks are."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from features.blocks import Block
from features.hashing import folds, row_order
from features.lines import CHUNK_BYTES, read_chunks
from features.numeric import NumericColumn, NumericStatistics
from features.parsing import ParsedRows, parse_chunk
from features.schema import CATEGORICAL, CRITEO, FLOAT, INTEGER, KEY, LABEL, Column, Schema
from features.transform import Transform
from features.vocabulary import Vocabulary, count_values

SHOP = Schema(
    (
        Column("id", KEY),
        Column("site", CATEGORICAL),
        Column("price", FLOAT),
        Column("click", LABEL),
        Column("age", INTEGER),
        Column("town", CATEGORICAL),
    ),
    delimiter=",",
    header=True,
)
SOURCE = "logs/day_0.tsv"
SEED = 5


def random_value(kind: str, number: int, rng: np.random.Generator) -> str:
    if kind == LABEL:
        return str(int(rng.random() < 0.3))
    if kind != KEY and rng.random() < 0.2:
        return ""
    if kind == KEY:
        return f"row {number}"
    if kind == INTEGER:
        return str(rng.choice([-2, 0, 1, 2, 7, int(rng.pareto(0.5)), 16777217]))
    if kind == FLOAT:
        return str(rng.choice(["0.5", "-3.25e2", ".1", "7.", "3e38", f"{rng.normal(0, 9):.4f}"]))
    return str(
        rng.choice(["ffffffff", "Zürich", "a b", '"q', f"{rng.zipf(1.6) % 50:08x}", f"{rng.integers(2**32):08x}"])
    )


def random_log(schema: Schema, rows: int, seed: int) -> bytes:
    """A log with, here and there, a line that is no row and a carriage return."""
    rng = np.random.default_rng(seed)
    lines = [schema.delimiter.join(schema.names)] if schema.header else []
    for number in range(rows):
        lines.append(schema.delimiter.join(random_value(column.kind, number, rng) for column in schema.columns))
        if rng.random() < 0.05:
            lines.append(str(rng.choice(["", "broken", lines[-1] + schema.delimiter, "\ufeff"])))
        if rng.random() < 0.05:
            lines[-1] += "\r"
    return ("\n".join(lines) + "\n" * (seed % 2)).encode()


def parsed(data: bytes, schema: Schema, chunk_bytes: int) -> list[ParsedRows]:
    chunks = read_chunks(io.BytesIO(data), [(0, len(data))], chunk_bytes)
    return [parse_chunk(chunk, schema) for _, chunk in chunks]


@dataclass(frozen=True)
class Fitted:
    transform: Transform
    numeric: tuple[NumericColumn, ...]
    vocabularies: list[Vocabulary]


def fit(parts: list[ParsedRows], schema: Schema, min_count: int = 1, max_size: int = 10**6) -> Fitted:
    statistics = NumericStatistics(len(schema.numeric))
    for part in parts:
        statistics.update(part.numeric)
    offsets = np.concatenate([part.offsets for part in parts])
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    fold = folds(offsets, SOURCE, SEED)
    vocabularies = [
        Vocabulary.merge([count_values([part.categorical[i] for part in parts], fold, labels)], min_count, max_size)
        for i in range(len(schema.categorical))
    ]
    numeric = statistics.columns(schema.numeric)
    return Fitted(Transform(numeric, tuple(v.values for v in vocabularies)), numeric, vocabularies)


def frame_of(data: bytes, schema: Schema) -> pd.DataFrame:
    """The good rows of a log as text, with their offsets; lines are told apart by their number of fields only."""
    rows, offset = [], 0
    for line in data.split(b"\n"):
        fields = line.removesuffix(b"\r").decode().split(schema.delimiter)
        if len(fields) == len(schema.columns) and fields != list(schema.names):
            rows.append([offset, *fields])
        offset += len(line) + 1
    return pd.DataFrame(rows, columns=["offset", *schema.names]).set_index("offset")


def dense_by_pandas(training: pd.DataFrame, rows: pd.DataFrame, schema: Schema) -> np.ndarray:
    def logs(frame: pd.DataFrame) -> pd.DataFrame:
        raw = frame[list(schema.numeric)].replace("", "nan").astype(np.float64).astype(np.float32).astype(np.float64)
        return raw.map(lambda x: math.copysign(math.log1p(abs(x)), x))

    fitted = logs(training)
    return ((logs(rows) - fitted.mean()) / fitted.std(ddof=0)).to_numpy()


def ids_by_pandas(
    training: pd.DataFrame, rows: pd.DataFrame, schema: Schema, min_count: int, max_size: int
) -> np.ndarray:
    columns = []
    for name in schema.categorical:
        counts = training[training[name] != ""][name].value_counts()
        ranked = sorted(counts[counts >= min_count].items(), key=lambda item: (-item[1], item[0].encode()))
        ids = {value: number for number, (value, _) in enumerate(ranked[:max_size], 2)} | {"": 0}
        columns.append(rows[name].map(lambda value, ids=ids: ids.get(value, 1)))
    return np.stack(columns, axis=1)


LOGS = pytest.mark.parametrize(
    ("schema", "rows"), [(CRITEO, 200), (SHOP, 400)], ids=["criteo", "commas, header, float and key columns"]
)


@LOGS
@pytest.mark.parametrize(("min_count", "max_size"), [(1, 10**6), (2, 10**6), (1, 7)])
def test_rows_against_pandas(schema: Schema, rows: int, min_count: int, max_size: int) -> None:
    training, other = random_log(schema, rows, 0), random_log(schema, rows, 1)
    fitted = fit(parsed(training, schema, CHUNK_BYTES), schema, min_count, max_size)
    for data in (training, other):
        parts = parsed(data, schema, 2000)
        assert len(parts) > 5
        frame = frame_of(data, schema)
        assert np.concatenate([part.offsets for part in parts]).tolist() == frame.index.tolist()

        dense = fitted.transform.dense(parts)
        assert dense.dtype == np.float32 and dense.shape == (len(frame), len(schema.numeric))
        expected = dense_by_pandas(frame_of(training, schema), frame, schema)
        np.testing.assert_allclose(dense, expected, rtol=1e-5, atol=1e-6)

        ids = fitted.transform.ids(parts)
        assert ids.dtype == np.int32 and ids.shape == (len(frame), len(schema.categorical))
        expected = ids_by_pandas(frame_of(training, schema), frame, schema, min_count, max_size)
        np.testing.assert_array_equal(ids, expected)
    assert (ids == 0).any() and (ids == 1).any() and (ids > 1).any()


@LOGS
def test_a_block_holds_the_rows_with_label_fold_and_offset_in_the_order_of_the_seed(schema: Schema, rows: int) -> None:
    data = random_log(schema, rows, 0)
    parts = parsed(data, schema, 3000)
    fitted = fit(parts, schema)
    block = fitted.transform.block(parts, SOURCE, SEED)
    frame = frame_of(data, schema)
    offsets = frame.index.to_numpy(np.int64)
    assert block.offsets.tolist() == offsets[row_order(offsets, SOURCE, SEED)].tolist() != offsets.tolist()
    assert block.labels.tolist() == frame.loc[block.offsets, schema.label].astype(int).tolist()
    assert block.folds.tolist() == folds(block.offsets, SOURCE, SEED).tolist()
    back = np.argsort(block.offsets)
    np.testing.assert_array_equal(block.ids[back], fitted.transform.ids(parts))
    np.testing.assert_array_equal(block.dense[back], fitted.transform.dense(parts))
    assert [array.dtype for array in (block.labels, block.dense, block.ids, block.folds, block.offsets)] == [
        np.dtype(name) for name in ("u1", "f4", "i4", "u1", "i8")
    ]
    # What the block says adds up to what the vocabulary says.
    for index, vocabulary in enumerate(fitted.vocabularies):
        cells = np.zeros_like(vocabulary.counts)
        np.add.at(cells, (block.ids[:, index], block.folds), 1)
        np.testing.assert_array_equal(cells, vocabulary.counts)
        np.add.at(cells, (block.ids[:, index], block.folds), -1 + block.labels.astype(np.int64))
        np.testing.assert_array_equal(cells, vocabulary.clicks)


@LOGS
@pytest.mark.parametrize("chunk_bytes", [1, 500, 10_000])
def test_boundaries_of_chunks_do_not_matter(schema: Schema, rows: int, chunk_bytes: int) -> None:
    data = random_log(schema, rows, 0)
    whole, parts = parsed(data, schema, CHUNK_BYTES), parsed(data, schema, chunk_bytes)
    assert len(whole) == 1 < len(parts)
    expected, found = fit(whole, schema), fit(parts, schema)
    assert found.numeric == expected.numeric
    for one, other in zip(found.vocabularies, expected.vocabularies, strict=True):
        assert one.to_table().equals(other.to_table())
    assert found.transform.block(parts, SOURCE, SEED).encode() == expected.transform.block(whole, SOURCE, SEED).encode()


def test_a_row_is_the_same_in_any_company() -> None:
    data = random_log(CRITEO, 100, 0)
    parts = parsed(data, CRITEO, 2000)
    fitted = fit(parts, CRITEO)
    whole = fitted.transform.block(parts, SOURCE, SEED)
    alone = Block.concatenate([fitted.transform.block([part], SOURCE, SEED) for part in parts])
    assert len(alone) == len(whole)
    first, second = whole.take(np.argsort(whole.offsets)), alone.take(np.argsort(alone.offsets))
    assert first.encode() == second.encode()


def test_no_rows() -> None:
    fitted = fit(parsed(random_log(CRITEO, 20, 0), CRITEO, CHUNK_BYTES), CRITEO)
    nothing_good = parsed(b"bad\nworse\n", CRITEO, 4)
    assert [len(part) for part in nothing_good] == [0, 0]
    for parts in ([], nothing_good):
        block = fitted.transform.block(parts, SOURCE, SEED)
        assert len(block) == 0 and block.dense.shape == (0, 13) and block.ids.shape == (0, 26)
        assert (block.labels.dtype, block.folds.dtype) == (np.uint8, np.uint8)
        assert list(block.split()) == []


def test_rows_without_a_label_have_dense_and_ids_too() -> None:
    """As predict sees them: the log without its label column."""
    data = random_log(SHOP, 50, 1)
    labelled = parsed(data, SHOP, CHUNK_BYTES)
    fitted = fit(labelled, SHOP)
    frame = frame_of(data, SHOP).drop(columns="click")
    text = "\n".join([",".join(frame.columns), *(",".join(row) for row in frame.to_numpy())]).encode()
    ((_, chunk),) = read_chunks(io.BytesIO(text), [(0, len(text))])
    parts = [parse_chunk(chunk, SHOP, labelled=False)]
    np.testing.assert_array_equal(fitted.transform.ids(parts), fitted.transform.ids(labelled))
    np.testing.assert_array_equal(fitted.transform.dense(parts), fitted.transform.dense(labelled))


def test_values_in_a_vocabulary_that_came_from_a_file() -> None:
    """A stored vocabulary is a slice with an offset; that must not move any id."""
    parts = parsed(random_log(CRITEO, 100, 0), CRITEO, 5000)
    fitted = fit(parts, CRITEO)
    stored = [Vocabulary.from_table(vocabulary.to_table()).values for vocabulary in fitted.vocabularies]
    assert all(isinstance(values, pa.BinaryArray) for values in stored)
    np.testing.assert_array_equal(Transform(fitted.numeric, tuple(stored)).ids(parts), fitted.transform.ids(parts))

"""The whole way of a log to a block against a plain pandas implementation, whatever the chunks are."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_ranges import read_chunks

from features.blocks import Block
from features.counts import CellCounts, count_values
from features.hashing import folds, row_order
from features.lines import CHUNK_BYTES
from features.numeric import NumericColumn, NumericStatistics
from features.parsing import parse_chunk
from features.row_table import RowTable
from features.rows import ParsedRows
from features.schema import (
    CATEGORICAL,
    CRITEO,
    FLOAT,
    GROUP,
    INTEGER,
    KEY,
    LABEL,
    LINEAR,
    OUTCOME,
    WEIGHT,
    Column,
    Schema,
)
from features.siphash import siphash
from features.splits import Split
from features.transform import Transform
from features.vocabulary import Vocabulary, VocabularyBuilder

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
VISITS = Schema(
    (
        Column("importance", WEIGHT),
        Column("town", CATEGORICAL),
        Column("seconds", INTEGER, LINEAR),
        Column("user", GROUP),
        Column("click", LABEL),
        Column("price", FLOAT),
        Column("bought", OUTCOME),
        Column("returned", OUTCOME),
    ),
    delimiter=";",
)
SHARES = Split.parse("70/15/15")
SOURCE = "logs/day_0.tsv"
SEED = 5


def random_value(kind: str, number: int, rng: np.random.Generator) -> str:
    if kind in (LABEL, OUTCOME):
        return str(int(rng.random() < 0.3))
    if kind in (INTEGER, FLOAT, CATEGORICAL) and rng.random() < 0.2:
        return ""
    if kind == KEY:
        return f"row {number}"
    if kind == WEIGHT:
        return str(rng.choice(["0", "0.5", "1", "2.25"]))
    if kind == GROUP:
        return f"user {rng.integers(30)}"
    if kind == INTEGER:
        return str(rng.choice([-2, 0, 1, 2, 7, int(rng.pareto(0.5)), 16777217]))
    if kind == FLOAT:
        return str(rng.choice(["0.5", "-3.25e2", ".1", "7.", "3e38", f"{rng.normal(0, 9):.4f}"]))
    hexadecimal = [f"{rng.zipf(1.6) % 50:08x}", f"{rng.integers(2**32):08x}"]
    return str(rng.choice(["ffffffff", "Zürich", "a b", '"q', "a longer value", *hexadecimal]))


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


def parsed(data: bytes, schema: Schema, chunk_bytes: int = CHUNK_BYTES) -> list[ParsedRows]:
    chunks = read_chunks(io.BytesIO(data), [(0, len(data))], chunk_bytes)
    return [parse_chunk(chunk, schema) for _, chunk in chunks]


def table_of(parts: Sequence[ParsedRows], schema: Schema) -> RowTable:
    return RowTable.of(parts, schema, SHARES)


@dataclass(frozen=True)
class Fitted:
    transform: Transform
    stored: list[pa.Table]

    @property
    def vocabularies(self) -> list[Vocabulary]:
        return [Vocabulary.from_table(table) for table in self.stored]


def fit(
    parts: Sequence[ParsedRows], schema: Schema, min_count: int = 1, max_size: int = 10**6, buckets: int = 0
) -> Fitted:
    table, statistics, stored = table_of(parts, schema), NumericStatistics(schema.transforms), []
    for index, column in enumerate(table.numeric):
        counts = np.bincount(column.indices.to_numpy(), minlength=len(column.dictionary))
        statistics.update(index, column.dictionary.to_numpy(), counts)
    fold = folds(table.offsets, SOURCE, SEED)
    for column in table.categorical:
        builder = VocabularyBuilder(min_count, max_size, buckets, table.weights is not None)
        counted = count_values(column, fold, table.labels, table.weights)
        builder.add(CellCounts.of([counted], table.weights is not None))
        stored.append(pa.concat_tables(builder.tables()))
    values = tuple(Vocabulary.from_table(table).values for table in stored)
    return Fitted(Transform(statistics.columns(schema.numeric), values, buckets), stored)


def block_of(fitted: Fitted, parts: Sequence[ParsedRows], schema: Schema, size: int = 1 << 20) -> Block:
    """All rows in one block."""
    table = table_of(parts, schema)
    return Block.concatenate(list(fitted.transform.blocks(table, np.arange(len(table)), SOURCE, SEED, size)))


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
    linear = [name for name, transform in zip(schema.numeric, schema.transforms, strict=True) if transform == LINEAR]

    def transformed(frame: pd.DataFrame) -> pd.DataFrame:
        raw = frame[list(schema.numeric)].replace("", "nan").astype(np.float64).astype(np.float32).astype(np.float64)
        logs = raw.map(lambda x: math.copysign(math.log1p(abs(x)), x))
        logs[linear] = raw[linear]
        return logs

    fitted = transformed(training)
    return ((transformed(rows) - fitted.mean()) / fitted.std(ddof=0)).to_numpy()


def ids_by_pandas(
    training: pd.DataFrame, rows: pd.DataFrame, schema: Schema, min_count: int, max_size: int, buckets: int
) -> np.ndarray:
    columns = []
    for name in schema.categorical:
        counts = training[training[name] != ""][name].value_counts()
        ranked = sorted(counts[counts >= min_count].items(), key=lambda item: (-item[1], item[0].encode()))
        ids = {value: number for number, (value, _) in enumerate(ranked[:max_size], 2)} | {"": 0}
        for value in set(rows[name]) - set(ids):
            bucket = int(siphash(pa.array([value.encode()]))[0]) % buckets if buckets else 0
            ids[value] = min(len(ranked), max_size) + 2 + bucket if buckets else 1
        columns.append(rows[name].map(ids))
    return np.stack(columns, axis=1)


LOGS = pytest.mark.parametrize(
    ("schema", "rows"),
    [(CRITEO, 200), (SHOP, 400), (VISITS, 500)],
    ids=["criteo", "commas, header, float and key columns", "weights and groups"],
)


@LOGS
@pytest.mark.parametrize(
    ("min_count", "max_size", "buckets"), [(1, 10**6, 0), (2, 10**6, 0), (1, 7, 0), (2, 10**6, 5), (1, 7, 1000)]
)
def test_rows_against_pandas(schema: Schema, rows: int, min_count: int, max_size: int, buckets: int) -> None:
    training, other = random_log(schema, rows, 0), random_log(schema, rows, 1)
    fitted = fit(parsed(training, schema), schema, min_count, max_size, buckets)
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
        expected = ids_by_pandas(frame_of(training, schema), frame, schema, min_count, max_size, buckets)
        np.testing.assert_array_equal(ids, expected)
    assert (ids == 0).any() and (ids == 1).any() == (buckets == 0) and (ids > 1).any()


@LOGS
@pytest.mark.parametrize("buckets", [0, 5])
def test_a_block_holds_the_rows_in_the_order_of_the_seed(schema: Schema, rows: int, buckets: int) -> None:
    data = random_log(schema, rows, 0)
    parts = parsed(data, schema, 3000)
    fitted = fit(parts, schema, min_count=2, buckets=buckets)
    block = block_of(fitted, parts, schema)
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
    assert (block.weights is None) == (schema.weight is None) and (block.groups is None) == (schema.group is None)


@LOGS
@pytest.mark.parametrize("buckets", [0, 5])
def test_blocks_add_up_to_what_the_vocabularies_say(schema: Schema, rows: int, buckets: int) -> None:
    parts = parsed(random_log(schema, rows, 0), schema)
    fitted = fit(parts, schema, min_count=2 if buckets else 1, buckets=buckets)
    block = block_of(fitted, parts, schema)
    labels, weights = block.labels.astype(float), np.ones(len(block)) if block.weights is None else block.weights
    for index, vocabulary in enumerate(fitted.vocabularies):
        sums = [
            (vocabulary.counts, np.ones(len(block))),
            (vocabulary.clicks, labels),
            (vocabulary.weights, weights),
            (vocabulary.click_weights, weights * labels),
        ]
        for expected, addends in sums[: 4 if schema.weight else 2]:
            cells = np.zeros((vocabulary.ids, 10))
            np.add.at(cells, (block.ids[:, index], block.folds), addends)
            np.testing.assert_array_equal(cells, expected)


def test_weights_and_groups_go_with_their_rows() -> None:
    data = random_log(VISITS, 300, 0)
    parts = parsed(data, VISITS, 700)
    block, frame = block_of(fit(parts, VISITS), parts, VISITS), frame_of(data, VISITS)
    assert block.weights is not None and block.weights.dtype == np.float32
    assert block.weights.tolist() == frame.loc[block.offsets, "importance"].astype(float).tolist()
    assert block.groups is not None and block.groups.dtype == np.int64
    assert block.outcomes is not None and block.outcomes.dtype == np.uint8
    assert block.outcomes.tolist() == frame.loc[block.offsets, ["bought", "returned"]].astype(int).to_numpy().tolist()
    users = frame.loc[block.offsets, "user"].tolist()
    assert len(set(zip(users, block.groups.tolist(), strict=True))) == len(set(users)) == len(set(block.groups))


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 90), st.sampled_from([0, 3]))
def test_any_size_of_blocks_and_any_choice_of_rows(data: st.DataObject, size: int, buckets: int) -> None:
    table, transform = TABLE, replace(FITTED.transform, buckets=buckets)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(table) - 1)))), np.int64)
    blocks = list(transform.blocks(table, rows, SOURCE, SEED, size))
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert sum(map(len, blocks)) == len(rows)
    if blocks:
        (whole,) = transform.blocks(table, rows, SOURCE, SEED)
        assert Block.concatenate(blocks).encode() == whole.encode()
        assert whole.offsets.tolist() == table.offsets[rows][row_order(table.offsets[rows], SOURCE, SEED)].tolist()


PARTS = parsed(random_log(VISITS, 80, 3), VISITS)
TABLE, FITTED = table_of(PARTS, VISITS), fit(PARTS, VISITS, min_count=2)


@LOGS
@pytest.mark.parametrize("chunk_bytes", [1, 500, 10_000])
def test_boundaries_of_chunks_do_not_matter(schema: Schema, rows: int, chunk_bytes: int) -> None:
    data = random_log(schema, rows, 0)
    whole, parts = parsed(data, schema), parsed(data, schema, chunk_bytes)
    assert len(whole) == 1 < len(parts)
    expected, found = fit(whole, schema, buckets=3), fit(parts, schema, buckets=3)
    assert found.transform.numeric == expected.transform.numeric
    for one, other in zip(found.stored, expected.stored, strict=True):
        assert one.equals(other)
    assert block_of(found, parts, schema).encode() == block_of(expected, whole, schema).encode()


def test_a_row_is_the_same_in_any_company() -> None:
    parts = parsed(random_log(CRITEO, 100, 0), CRITEO, 2000)
    fitted = fit(parts, CRITEO)
    whole = block_of(fitted, parts, CRITEO)
    alone = Block.concatenate([block_of(fitted, [part], CRITEO) for part in parts if len(part)])
    assert len(alone) == len(whole)
    first, second = whole.take(np.argsort(whole.offsets)), alone.take(np.argsort(alone.offsets))
    assert first.encode() == second.encode()


def test_no_rows() -> None:
    fitted = fit(parsed(random_log(CRITEO, 20, 0), CRITEO), CRITEO)
    nothing_good = parsed(b"bad\nworse\n", CRITEO, 4)
    assert [len(part) for part in nothing_good] == [0, 0]
    for parts in ([], nothing_good):
        dense, ids = fitted.transform.dense(parts), fitted.transform.ids(parts)
        assert dense.shape == (0, 13) and ids.shape == (0, 26)
        assert (dense.dtype, ids.dtype) == (np.float32, np.int32)
        table = table_of(parts, CRITEO)
        assert list(fitted.transform.blocks(table, np.arange(len(table)), SOURCE, SEED)) == []


def test_rows_without_a_label_have_dense_and_ids_too() -> None:
    """As predict sees them: the log without its label column."""
    data = random_log(SHOP, 50, 1)
    labelled = parsed(data, SHOP)
    fitted = fit(labelled, SHOP)
    frame = frame_of(data, SHOP).drop(columns="click")
    text = "\n".join([",".join(frame.columns), *(",".join(row) for row in frame.to_numpy())]).encode()
    ((_, chunk),) = read_chunks(io.BytesIO(text), [(0, len(text))])
    parts = [parse_chunk(chunk, SHOP, labelled=False)]
    np.testing.assert_array_equal(fitted.transform.ids(parts), fitted.transform.ids(labelled))
    np.testing.assert_array_equal(fitted.transform.dense(parts), fitted.transform.dense(labelled))


@pytest.mark.parametrize(("buckets", "unseen"), [(0, 1), (1, 5)])
def test_ids_by_hand(buckets: int, unseen: int) -> None:
    schema = Schema((Column("y", LABEL), Column("x", FLOAT), Column("c", CATEGORICAL)))
    vocabulary = pa.array([None, b"b", "é".encode(), b"a longer value"], pa.binary()).slice(1)
    numeric = (NumericColumn("x", LINEAR, 1.0, 2.0, 0, ()),)
    texts = ["b", "é", "a longer value", "a longer valu", "", "B", "b"]
    parts = parsed("".join(f"1\t{place}\t{text}\n" for place, text in enumerate(texts)).encode(), schema)
    transform = Transform(numeric, (vocabulary,), buckets)
    assert transform.ids(parts)[:, 0].tolist() == [2, 3, 4, unseen, 0, unseen, 2]
    assert transform.dense(parts)[:, 0].tolist() == [-0.5, 0, 0.5, 1, 1.5, 2, 2.5]

"""Scoring of parsed rows, and the parquet file of the scores, read by pyarrow."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import Made

from features.errors import ArtifactError
from features.lines import Chunk
from features.parsing import parse_chunk
from features.schema import CATEGORICAL, CRITEO, FLOAT, GROUP, KEY, LABEL, Column, Schema
from models.backend import tf
from pipeline.scoring import LoadedStudent, ScoredChunk, write_scores
from pipeline.storage import HashingWriter

BARE = (Column("y", LABEL), Column("x", FLOAT), Column("c", CATEGORICAL))
KEYS = Schema((Column("visit", KEY), *BARE, Column("user", GROUP)))


@pytest.fixture(scope="module")
def model(made: Made) -> Path:
    return Path(made.run.file("students/subclass/model/1"))


@pytest.fixture(scope="module")
def student(model: Path) -> LoadedStudent:
    return LoadedStudent(str(model))


def part(offsets: list[int], labels: list[int] | None, p_click: list[float], keys: list[list[bytes]]) -> ScoredChunk:
    return ScoredChunk(
        np.array(offsets, np.int64),
        None if labels is None else np.array(labels, np.uint8),
        [pa.array(values, pa.binary()) for values in keys],
        np.array(p_click, np.float32),
        [],
    )


def written(schema: Schema, parts: list[ScoredChunk]) -> io.BytesIO:
    buffer = io.BytesIO()
    write_scores(HashingWriter(buffer), "a log", schema, parts)
    return buffer


def test_a_block_at_a_time_gives_the_same(
    made: Made, model: Path, student: LoadedStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = made.log.read_bytes().splitlines(keepends=True)[:100]
    rows = parse_chunk(Chunk(0, b"".join(lines)), CRITEO)
    whole = student.score(rows)
    monkeypatch.setattr("pipeline.scoring._SCORE_ROWS", 7)
    blocks = student.score(rows)
    served = tf.saved_model.load(str(model)).signatures["tsv"](lines=tf.constant(lines))
    for found in (whole, blocks):
        assert len(found) == 100 and found.p_click.dtype == np.float32
        np.testing.assert_allclose(found.p_click, served["p_click"].numpy(), atol=1e-6, rtol=0)
        np.testing.assert_array_equal(found.offsets, np.cumsum([0, *map(len, lines[:-1])]))
        np.testing.assert_array_equal(found.labels, [int(line[:1]) for line in lines])


def test_no_row_has_no_score(student: LoadedStudent) -> None:
    found = student.score(parse_chunk(Chunk(0, b"no row\n"), CRITEO))
    assert len(found) == len(found.p_click) == 0
    assert [reject.reason for reject in found.rejects] == ["field_count"]


def _without_signatures(model: Path) -> None:
    tf.saved_model.save(tf.Module(), str(model))


def _cut(name: str) -> Callable[[Path], None]:
    return lambda model: (model / name).write_bytes((model / name).read_bytes()[:1000]) and None


@pytest.mark.parametrize(
    "damage",
    [
        _cut("saved_model.pb"),
        _cut("variables/variables.data-00000-of-00001"),
        lambda model: (model / "variables/variables.data-00000-of-00001").unlink(),
        _without_signatures,
        lambda model: (model / "assets/vocabulary.txt").unlink(),
        lambda model: (model / "assets.extra/features.json").write_text("{}"),
    ],
    ids=["graph", "cut variables", "no variables", "no signature", "no vocabulary", "no features"],
)
def test_a_damaged_model_is_one_line(model: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    damage(copy)
    with pytest.raises(ArtifactError, match=r" must .*\. Received: .*\.$") as raised:
        LoadedStudent(str(copy))
    assert "\n" not in str(raised.value)


def test_a_model_of_other_columns(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    features = copy / "assets.extra/features.json"
    features.write_text(features.read_text().replace('"kind": "integer"', '"kind": "key"', 1))
    with pytest.raises(ArtifactError, match="^--model must be the folder of an exported student"):
        LoadedStudent(str(copy))


class TestFile:
    def test_columns_and_values(self) -> None:
        parts = [
            part([3, 40], [1, 0], [0.25, 0.5], [[b"v1", b""], ["é".encode(), b"u"]]),
            part([90], [1], [0.75], [[b"v2"], [b"u"]]),
        ]
        table = pq.read_table(written(KEYS, parts))
        assert table.to_pydict() == {
            "source": ["a log"] * 3,
            "offset": [3, 40, 90],
            "label": [1, 0, 1],
            "visit": ["v1", "", "v2"],
            "user": ["é", "u", "u"],
            "p_click": [0.25, 0.5, 0.75],
        }
        assert [str(kind) for kind in table.schema.types] == [
            "dictionary<values=string, indices=int32, ordered=0>",
            "int64",
            "uint8",
            "string",
            "string",
            "float",
        ]

    def test_without_labels_and_without_rows(self) -> None:
        unlabelled = pq.read_table(written(KEYS, [part([1], None, [0.5], [[b"v"], [b"u"]])]))
        assert unlabelled["label"].to_pylist() == [None]
        assert len(pq.read_table(written(KEYS, []))) == 0
        assert pq.read_table(written(KEYS, [])).schema == unlabelled.schema

    def test_a_row_of_a_long_log_takes_few_bytes(self) -> None:
        rng, rows = np.random.default_rng(0), 50_000
        offsets = np.cumsum(rng.integers(150, 350, rows))
        scores = part(offsets.tolist(), rng.integers(0, 2, rows).tolist(), rng.random(rows).tolist(), [])
        buffer = written(Schema(BARE), [scores])
        # 4 bytes of a probability, about 8 bits of an offset's step, 1 bit of a label.
        assert buffer.tell() < 6 * rows
        group = pq.ParquetFile(buffer).metadata.row_group(0)
        encodings = {group.column(index).path_in_schema: group.column(index).encodings for index in range(4)}
        assert "DELTA_BINARY_PACKED" in encodings["offset"]
        assert not any("DICTIONARY" in name for name in (*encodings["offset"], *encodings["p_click"]))

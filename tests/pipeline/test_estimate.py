"""``--dry-run`` against what the job then writes."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import ctr_distill, files_of

from features.errors import ConfigError, DataError
from features.schema import CRITEO, PARQUET, Schema
from pipeline import preprocess_steps, storage
from pipeline.beam import make_options
from pipeline.estimate import Growth, as_text, estimate
from pipeline.generate import generate
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig
from pipeline.workspace import EXAMPLES, Run

ROWS = 30_000


@pytest.fixture(scope="module")
def big_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimate") / "log.tsv"
    generate(ROWS, str(path), seed=3)
    return path


def made(
    log: Path, folder: Path, config: PreprocessConfig, monkeypatch: pytest.MonkeyPatch, schema: Schema = CRITEO
) -> tuple[Run, float]:
    """A run, and the bytes of all scratch files that it had at one time."""
    written = 0.0
    remove = storage.remove

    def count_and_remove(path: str) -> None:
        nonlocal written
        if path.endswith(".arrow") and storage.exists(path):
            written += Path(path).stat().st_size
        remove(path)

    monkeypatch.setattr(preprocess_steps.storage, "remove", count_and_remove)
    run = Run(str(folder))
    with run.lock():
        preprocess(run, [str(log)], schema, config, make_options((), 1))
    return run, written


def size(run: Run, ending: str) -> int:
    return sum(len(data) for name, data in files_of(run.file(EXAMPLES)).items() if name.endswith(ending))


@pytest.mark.parametrize("settings", [{}, {"layout": "rows"}, {"min_count": 2, "max_vocabulary": 300}])
def test_disk_is_right_within_a_fifth(
    big_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    config = PreprocessConfig(**settings)  # type: ignore[arg-type]
    found = estimate([str(big_log)], CRITEO, config, 2)
    run, scratch = made(big_log, tmp_path / "run", config, monkeypatch)
    assert found.files == 1
    assert found.bytes == big_log.stat().st_size
    assert found.rows == pytest.approx(ROWS, rel=0.02)
    assert found.examples == pytest.approx(size(run, ".tfrecord"), rel=0.2)
    assert found.scratch == pytest.approx(scratch, rel=0.2)
    assert found.peak_disk == pytest.approx(max(scratch, size(run, ".tfrecord")) + size(run, ".parquet"), rel=0.2)


def test_a_compressed_log_is_estimated_like_the_plain_one(big_log: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.tsv.gz"
    path.write_bytes(gzip.compress(big_log.read_bytes(), 1))
    plain, compressed = (estimate([str(log)], CRITEO, PreprocessConfig(), 2) for log in (big_log, path))
    assert compressed.rows == pytest.approx(plain.rows, rel=0.02)
    assert compressed.peak_disk == pytest.approx(plain.peak_disk, rel=0.05)


def test_a_parquet_log(big_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.read_csv(big_log, sep="\t", header=None, names=list(CRITEO.names), dtype=str, keep_default_na=False)
    path = tmp_path / "log.parquet"
    frame.to_parquet(path, row_group_size=5000)
    schema = Schema(CRITEO.columns, format=PARQUET)
    found = estimate([str(path)], schema, PreprocessConfig(), 2)
    run, scratch = made(path, tmp_path / "run", PreprocessConfig(), monkeypatch, schema)
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    assert found.rows == pytest.approx(ROWS)
    assert found.bytes == pytest.approx(sum(groups), rel=0.01)
    assert found.ranges == len(run.manifest(EXAMPLES)["entries"])
    assert found.examples == pytest.approx(size(run, ".tfrecord"), rel=0.2)
    assert found.scratch == pytest.approx(scratch, rel=0.2)


def test_memory_grows_with_workers_and_with_the_log(big_log: Path) -> None:
    one, two = (estimate([str(big_log)], CRITEO, PreprocessConfig(), workers) for workers in (1, 2))
    assert 200e6 < one.memory < two.memory < 1e9
    many = estimate([str(big_log)] * 1, CRITEO, PreprocessConfig(max_vocabulary=10), 2)
    assert many.memory <= two.memory


class TestGrowth:
    @pytest.fixture
    def columns(self) -> Iterator[list[pa.DictionaryArray]]:
        values = np.array([b"a", b"b", b"a", b"c", b"a", b"d", b"b", b"e"], object)
        yield [pa.array(values[:3]).dictionary_encode(), pa.array(values[3:]).dictionary_encode()]

    def test_within_the_sample_it_is_what_was_counted(self, columns: list[pa.DictionaryArray]) -> None:
        growth = Growth.of(columns)
        assert [growth.values(rows) for rows in (0, 1, 2, 3, 4, 5, 6, 7, 8)] == [0, 1, 2, 2, 3, 3, 4, 4, 5]
        assert growth.length == 1

    def test_beyond_it_the_second_half_goes_on(self, columns: list[pa.DictionaryArray]) -> None:
        # From 4 to 8 rows the values grew from 3 to 5.
        growth = Growth.of(columns)
        assert growth.values(16) == pytest.approx(5 * 5 / 3)
        assert growth.values(32) == pytest.approx(5 * (5 / 3) ** 2)

    def test_a_new_value_in_every_row(self) -> None:
        growth = Growth.of([pa.array([b"%d" % number for number in range(64)]).dictionary_encode()])
        assert growth.values(6400) == 6400

    def test_one_value(self) -> None:
        assert Growth.of([pa.array([b"x"] * 9).dictionary_encode()]).values(1e9) == 1


def test_mistakes_are_those_of_the_job(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--input must match at least one file"):
        estimate([str(tmp_path / "none.tsv")], CRITEO, PreprocessConfig(), 1)
    path = tmp_path / "bad.tsv"
    path.write_text("what is this\n" * 100)
    with pytest.raises(DataError, match=r"The sample of the log must hold rows. Received: 100 bad lines."):
        estimate([str(path)], CRITEO, PreprocessConfig(), 1)
    with pytest.raises(ConfigError, match="--split time: must have a schema with a time column"):
        estimate([str(path)], CRITEO, PreprocessConfig(split="time:1/2"), 1)


def test_the_command_prints_a_table_and_makes_nothing(big_log: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = ctr_distill(["preprocess", "--dry-run", "--input", str(big_log), "--run", str(run), "--workers", "2"])
    assert done.stdout.strip() == as_text(estimate([str(big_log)], CRITEO, PreprocessConfig(), 2))
    assert not run.exists()
    assert "peak memory" in done.stdout

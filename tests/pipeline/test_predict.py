"""``predict``: a row of parquet for each good line, scored as the exported model scores it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import BROKEN, ROWS, STUDENT, Made, ctr_distill, files_of

from features.errors import ArtifactError, ConfigError, DataError
from features.schema import CATEGORICAL, CRITEO, FLOAT, GROUP, INTEGER, KEY, LABEL, TIME, WEIGHT, Column, Schema
from models.backend import tf
from pipeline import storage
from pipeline.beam import make_options
from pipeline.config import build
from pipeline.distill import distill
from pipeline.predict import PredictTask, predict
from pipeline.preprocess import preprocess
from pipeline.reading import RangeParts
from pipeline.scoring import ScoredChunk
from pipeline.settings import PreprocessConfig, StudentConfig
from pipeline.workspace import Run

STAGE = "students/subclass"


def predicted(model: str, inputs: list[Path], output: Path, workers: int = 1) -> pd.DataFrame:
    """All rows, in the order of the parts."""
    assert predict(model, [str(path) for path in inputs], str(output), make_options((), workers)) is True
    return table_of(output)


def table_of(output: Path) -> pd.DataFrame:
    parts = sorted(output.glob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(part) for part in parts]).to_pandas()


@pytest.fixture(scope="module")
def model(made: Made) -> str:
    return made.run.file(STAGE, "model")


@pytest.fixture(scope="module")
def few(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last 300 lines of the log, the broken ones among them."""
    path = tmp_path_factory.mktemp("few") / "few.tsv"
    path.write_bytes(b"".join(made.log.read_bytes().splitlines(keepends=True)[-303:]))
    return path


@pytest.fixture(scope="module")
def scored(model: str, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scored") / "output"
    predicted(model, [few], output)
    return output


def good_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines() if line.count(b"\t") == 39 and line[:1] in b"01"]


def test_rows_are_lines_minus_rejects(few: Path, scored: Path) -> None:
    table, data = table_of(scored), few.read_bytes()
    lines = data.splitlines(keepends=True)
    starts = np.cumsum([0, *map(len, lines[:-1])])
    rejects = [json.loads(line) for path in scored.glob("rejected/*.jsonl") for line in path.read_text().splitlines()]
    assert len(table) + len(rejects) == len(lines) == 303 and len(rejects) == 3
    assert table["offset"].tolist() == starts[:-3].tolist()
    assert [reject["offset"] for reject in rejects] == starts[-3:].tolist()
    assert set(table["source"]) == {str(few)} and {reject["source"] for reject in rejects} == {str(few)}
    assert [reject["reason"] for reject in rejects] == ["field_count", "empty_line", "label"]
    assert table["label"].tolist() == [int(line[:1]) for line in lines[:-3]]
    assert list(table.columns) == ["source", "offset", "label", "p_click"]
    assert table["p_click"].between(0, 1, inclusive="neither").all()
    assert sorted(files_of(scored)) == [
        "_manifest.json",
        "part-00000-000000.parquet",
        "rejected/part-00000-000000.jsonl",
    ]
    manifest = json.loads((scored / "_manifest.json").read_text())
    assert (manifest["rows"], manifest["rejects"]) == (300, 3)


def test_probabilities_are_those_of_the_serving_signatures(made: Made, few: Path, scored: Path, model: str) -> None:
    table, lines = table_of(scored), good_lines(few)
    loaded = tf.saved_model.load(f"{model}/1")
    raw = loaded.signatures["tsv"](lines=tf.constant(lines))
    assert not np.char.str_len(raw["reason"].numpy().astype(str)).any()
    np.testing.assert_allclose(table["p_click"], raw["p_click"].numpy(), atol=1e-6, rtol=0)
    fields = np.array([line.decode().split("\t") for line in lines])
    columns = dict(zip(CRITEO.names, fields.T, strict=True))
    numeric = {name: np.array([float(v or "nan") for v in columns[name]], np.float32) for name in CRITEO.numeric}
    text = {name: columns[name].astype(object) for name in CRITEO.categorical}
    served = loaded.signatures["serving_default"](**{k: tf.constant(v) for k, v in {**numeric, **text}.items()})
    np.testing.assert_allclose(table["p_click"], served["p_click"].numpy(), atol=1e-6, rtol=0)


def test_without_labels_and_compressed(few: Path, scored: Path, model: str, tmp_path: Path) -> None:
    """The same probabilities come from lines without a label, from gzip, and from several files at once."""
    expected, lines = table_of(scored), good_lines(few)
    bare, packed = tmp_path / "bare.tsv", tmp_path / "packed.tsv.gz"
    bare.write_bytes(b"\n".join(line.split(b"\t", 1)[1] for line in lines) + b"\n")
    packed.write_bytes(gzip.compress(few.read_bytes()))
    empty = tmp_path / "empty.tsv"
    empty.touch()
    table = predicted(model, [bare, empty, packed], tmp_path / "output", workers=2)
    first, second = table[table["source"] == str(bare)], table[table["source"] == str(packed)]
    assert first["label"].isna().all()
    assert first["offset"].tolist() == np.cumsum([0, *(len(line) - 1 for line in lines[:-1])]).tolist()
    np.testing.assert_array_equal(first["p_click"], expected["p_click"])
    columns = ["offset", "label", "p_click"]
    pd.testing.assert_frame_equal(second[columns].reset_index(drop=True), expected[columns], check_dtype=False)
    manifest = json.loads((tmp_path / "output" / "_manifest.json").read_text())
    assert (manifest["rows"], manifest["rejects"]) == (600, 3)


def test_shards_of_a_large_file_together_are_its_rows(
    made: Made, scored: Path, few: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.predict_plan._RANGE_BYTES", 10_000)
    table = predicted(model, [few], tmp_path / "output", workers=2)
    pd.testing.assert_frame_equal(table, table_of(scored), check_categorical=False)
    assert len(list((tmp_path / "output").glob("part-*.parquet"))) == -(-few.stat().st_size // 10_000)


def test_model_with_or_without_its_version(few: Path, scored: Path, model: str, tmp_path: Path) -> None:
    for number, path in enumerate((f"{model}/1", f"{model}/1/", f"{model}/")):
        predicted(path, [few], tmp_path / str(number))
        assert (tmp_path / str(number) / "part-00000-000000.parquet").read_bytes() == (
            scored / "part-00000-000000.parquet"
        ).read_bytes()


def test_again_there_is_nothing_to_do(few: Path, scored: Path, model: str) -> None:
    before = files_of(scored)
    storage.write_json(str(scored / ".started.json"), {"key": json.loads(before["_manifest.json"])["key"]})
    storage.write_json(str(scored / ".work" / "00000-000000.json"), {})
    assert predict(model, [str(few)], str(scored), make_options((), 1)) is False
    assert files_of(scored) == before, "a call that was killed as it ended leaves the manifest, and more"


def test_a_killed_call_goes_on(few: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.predict_plan._RANGE_BYTES", 20_000)
    output = tmp_path / "output"
    predicted(model, [few], output)
    before = files_of(output)
    manifest = json.loads(before["_manifest.json"])
    (output / "_manifest.json").unlink()
    storage.write_json(str(output / ".started.json"), {"key": manifest["key"]})
    for number, part in enumerate(manifest["parts"]):
        if number % 2:
            (output / part["path"]).rename(output / f"{part['path']}.0123.tmp")
        else:
            storage.write_json(str(output / ".work" / f"00000-{number:06d}.json"), part)
    untouched = (output / manifest["parts"][0]["path"]).stat().st_ino
    assert predict(model, [str(few)], str(output), make_options((), 1)) is True
    assert files_of(output) == before
    assert (output / manifest["parts"][0]["path"]).stat().st_ino == untouched


@pytest.mark.parametrize("found", ["notes.txt", "_manifest.json", ".started.json"])
def test_another_folder_is_not_written_to(few: Path, model: str, tmp_path: Path, found: str) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / found).write_text('["of another program"]')
    before = files_of(output)
    with pytest.raises(ConfigError, match=r"^--output must be new or empty. Received: .*output \(holds other "):
        predict(model, [str(few)], str(output), make_options((), 1))
    assert files_of(output) == before


def test_a_call_that_scored_nothing_leaves_the_folder_to_others(few: Path, model: str, tmp_path: Path) -> None:
    """A log is cut off, another model is meant: what the failed call wrote is in nobody's way."""
    packed, output = tmp_path / "few.tsv.gz", tmp_path / "output"
    packed.write_bytes(gzip.compress(few.read_bytes())[:-500])
    with pytest.raises(DataError, match=r"^A gzip file must be whole\. Received: .*few\.tsv\.gz\)\.$"):
        predict(model, [str(packed)], str(output), make_options((), 1))
    assert list(files_of(output)) == [".started.json"]
    (output / ".started.json.0123.tmp").touch()
    assert len(predicted(model, [few], output)) == 300
    assert sorted(path.name for path in output.iterdir()) == ["_manifest.json", "part-00000-000000.parquet", "rejected"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (Path.unlink, "A file must exist and be readable. Received: .*log.tsv"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "An input must not change while it is read"),
    ],
)
def test_a_log_that_changes_meanwhile(
    few: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], error: str
) -> None:
    monkeypatch.setattr("pipeline.predict_plan._RANGE_BYTES", 20_000)
    log, write, changed = tmp_path / "log.tsv", PredictTask._write, []
    log.write_bytes(few.read_bytes())

    def write_and_change(task: PredictTask, found: RangeParts[ScoredChunk]) -> dict[str, Any]:
        if not changed:
            changed.append(change(log))
        return write(task, found)

    monkeypatch.setattr(PredictTask, "_write", write_and_change)
    with pytest.raises((ArtifactError, DataError), match=error):
        predict(model, [str(log)], str(tmp_path / "output"), make_options((), 1))
    assert not (tmp_path / "output" / "_manifest.json").exists()


def test_other_predictions_are_not_mixed(made: Made, few: Path, scored: Path, model: str) -> None:
    before = files_of(scored)
    for other, log in ((made.run.file("students/kd/model"), few), (model, made.log)):
        with pytest.raises(ConfigError, match="holds other predictions; use another folder"):
            predict(other, [str(log)], str(scored), make_options((), 1))
    assert files_of(scored) == before


def test_mistakes(made: Made, few: Path, model: str, tmp_path: Path) -> None:
    options = make_options((), 1)
    output, file = str(tmp_path / "output"), tmp_path / "file"
    file.write_text("text")
    with pytest.raises(ConfigError, match=r"^--output must be a folder. Received: .*file \(a file\)"):
        predict(model, [str(few)], str(file), options)
    with pytest.raises(ArtifactError, match=r"^--model must be the folder of an exported student. Received: /none"):
        predict("/none", [str(few)], output, options)
    with pytest.raises(ArtifactError, match="features.json"):
        predict(made.run.file("teacher/model"), [str(few)], output, options)
    with pytest.raises(DataError, match="^--input must match at least one file"):
        predict(model, [str(tmp_path / "none*")], output, options)
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="^The input must hold rows. Received: only empty files"):
        predict(model, [str(tmp_path / "empty")], str(tmp_path / "new"), options)
    (tmp_path / "wide").write_text("\t".join("1" * 50) + "\n")
    with pytest.raises(DataError, match="50"):
        predict(model, [str(tmp_path / "wide")], str(tmp_path / "newer"), options)


def test_on_the_command_line(few: Path, scored: Path, model: str, tmp_path: Path) -> None:
    call = ["predict", "--model", model, "--input", str(few), "--output", str(tmp_path / "output")]
    done = ctr_distill(call, call, [*call[:2], str(tmp_path / "none"), *call[3:]], code=2)
    assert done.stdout.splitlines() == [
        f"predictions: {tmp_path}/output",
        f"predictions: nothing to do, {tmp_path}/output is finished",
    ]
    first, second, error = done.stderr.splitlines()
    assert first == "predict ..." and re.match(r"predict: 300 rows, 3 rejects, [\d.]+ rows/s \([\d.]+ s\)$", second)
    np.testing.assert_allclose(table_of(tmp_path / "output")["p_click"], table_of(scored)["p_click"], atol=1e-6)
    assert (
        error
        == f"error: --model must be the folder of an exported student. Received: {tmp_path}/none (no saved_model.pb)."
    )


SHOP = Schema(
    (
        Column("visit", KEY),
        Column("price", FLOAT),
        Column("clicked", LABEL),
        Column("brand", CATEGORICAL),
        Column("country", KEY),
        Column("stock", INTEGER),
        Column("käufer", CATEGORICAL),
    ),
    delimiter=",",
    header=True,
)


def test_keys_of_a_custom_schema_pass_through(tmp_path: Path) -> None:
    """Other columns in another order, commas, a header, two keys; `hard` needs no teacher."""
    rng = np.random.default_rng(0)
    brands, buyers = rng.integers(9, size=900), rng.integers(4, size=900)
    clicked = rng.random(900) < 0.15 + 0.06 * brands * (buyers > 1)
    rows = [
        f"v{i},{'' if i % 7 == 0 else round(float(price), 2)},{int(y)},b{b},{'é' if i % 2 else ''},{b * 3},k{k}"
        for i, (price, y, b, k) in enumerate(zip(rng.normal(size=900), clicked, brands, buyers, strict=True))
    ]
    header = ",".join(SHOP.names)
    log, output = tmp_path / "shop.csv", tmp_path / "output"
    log.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    run = Run(str(tmp_path / "run"))
    preprocess(run, [str(log)], SHOP, PreprocessConfig(), make_options((), 1))
    small = {name.replace("-", "_"): value for name, value in STUDENT.items()}
    distill(run, "hard", build(StudentConfig, small, "student"))
    bare = tmp_path / "bare.csv"
    names = [column.name for column in SHOP.without_label()]
    drop = [line.split(",") for line in [header, *rows]]
    bare.write_text("\n".join(",".join(line[:2] + line[3:]) for line in drop) + "\nv,x,b1,,3,k1\n", encoding="utf-8")
    assert bare.read_text(encoding="utf-8").startswith(",".join(names))
    table = predicted(run.file("students/hard/model"), [log, bare], output)
    assert list(table.columns) == ["source", "offset", "label", "visit", "country", "p_click"]
    first, second = table[table["source"] == str(log)], table[table["source"] == str(bare)]
    assert first["visit"].tolist() == second["visit"].tolist() == [f"v{i}" for i in range(900)]
    assert first["country"].tolist() == ["", "é"] * 450
    assert first["label"].astype(int).tolist() == clicked.astype(int).tolist() and second["label"].isna().all()
    np.testing.assert_array_equal(first["p_click"], second["p_click"])
    assert first["offset"].iloc[0] == len(header.encode()) + 1
    (reject,) = [json.loads(line) for path in output.glob("rejected/*") for line in path.read_text().splitlines()]
    assert reject["reason"] == "float" and reject["source"] == str(bare)
    served = tf.saved_model.load(run.file("students/hard/model/1")).signatures["tsv"](lines=tf.constant(rows))
    np.testing.assert_allclose(first["p_click"], served["p_click"].numpy(), atol=1e-6, rtol=0)


VISITS = (
    Column("visitor", GROUP),
    Column("price", FLOAT, "linear"),
    Column("clicked", LABEL),
    Column("stock", INTEGER, "squared_log"),
    Column("brand", CATEGORICAL),
    Column("rank", INTEGER, "quantile"),
    Column("share", WEIGHT),
    Column("when", TIME),
)


@pytest.mark.parametrize("file_format", ["text", "json"])
def test_every_kind_of_column_hash_buckets_and_a_share_of_the_rows(file_format: str, tmp_path: Path) -> None:
    """The same probabilities as those of the serving module, which has its own parser, transforms and hash."""
    rng, rows = np.random.default_rng(1), []
    for i in range(900):
        numbers = [round(float(rng.normal(0, 9)), 2), int(rng.integers(-2, 4000)), int(rng.integers(50))]
        brand = f"b{rng.geometric(0.1)}" if i % 9 else f"once {i}"
        rows.append([f"v{i % 200}", numbers[0], int(rng.random() < 0.3), numbers[1], brand, numbers[2], i % 3 / 2, i])
    names = [column.name for column in VISITS]
    if file_format == "json":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    else:
        lines = ["|".join(map(str, row)) for row in rows]
    log = tmp_path / "log"
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run, schema = Run(str(tmp_path / "run")), Schema(VISITS, delimiter="|", format=file_format)
    config = PreprocessConfig(min_count=2, oov_buckets=8, negative_rate=0.25)
    preprocess(run, [str(log)], schema, config, make_options((), 1))
    small = {name.replace("-", "_"): value for name, value in STUDENT.items()}
    distill(run, "hard", build(StudentConfig, small, "student"))
    table = predicted(run.file("students/hard/model"), [log], tmp_path / "output")
    assert list(table.columns) == ["source", "offset", "label", "visitor", "when", "p_click"]
    assert table["when"].tolist() == [str(i) for i in range(900)]
    signatures = tf.saved_model.load(run.file("students/hard/model/1")).signatures
    texts = {name: tf.constant([str(row[place]) for row in rows]) for place, name in enumerate(names)}
    fields = {name: texts[name] for name in (*schema.numeric, *schema.categorical)}
    served = signatures["strings"](**fields)["p_click"].numpy()
    np.testing.assert_allclose(table["p_click"], served, atol=1e-6, rtol=0)
    assert len(np.unique(served)) > 800
    assert ("tsv" in signatures) == (file_format == "text")


def test_the_whole_log(made: Made, model: str, tmp_path: Path) -> None:
    assert made.log.read_bytes().endswith(BROKEN)
    table = predicted(model, [made.log], tmp_path / "output", workers=2)
    assert len(table) == ROWS
    shutil.rmtree(tmp_path / "output")

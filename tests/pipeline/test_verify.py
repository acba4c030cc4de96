"""``verify``: a good run of every kind of log is proved, and each kind of damage is found."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_run import (
    COLUMNS,
    REJECTS,
    ROWS,
    SCHEMA,
    add_targets,
    change_json,
    make_run,
    rewrite,
    rewrite_targets,
    use_rows_layout,
    write_json,
    write_log,
    write_parquet,
)

from features.blocks import Block
from features.errors import ArtifactError
from features.schema import Column, Schema
from features.targets import TargetBlock
from pipeline.inspect_run import inspect
from pipeline.verify import verify
from pipeline.workspace import EXAMPLES, TARGETS, Run

FIRST = "train/shard-00000.tfrecord"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("good")
    run = make_run(folder, write_log(folder / "log.csv"), split="hash:user:70/15/15", oov_buckets=5, min_count=3)
    add_targets(run)
    return run


@pytest.fixture
def run(good: Run, tmp_path: Path) -> Run:
    """A copy that may be damaged."""
    shutil.copytree(good.path, tmp_path / "run")
    return Run(str(tmp_path / "run"))


def test_a_good_run(good: Run) -> None:
    rows: list[int] = []
    findings = verify(good, rows.append)
    assert findings.wrong == []
    findings.raise_if_any()
    assert rows == sorted(rows) and rows[-1] == ROWS
    files = sum(
        path.is_file() for name in ("examples", "rejected", "targets") for path in Path(good.file(name)).rglob("*")
    )
    shards = len(good.manifest(EXAMPLES)["shards"])
    vocabularies = [pq.read_table(good.file(f"examples/vocabulary/{name}.parquet")) for name in ("ad", "site%2Fpage")]
    values = sum(len(table["value"].drop_null()) for table in vocabularies)
    assert dict(findings.proved) == {
        "files": f"{files}, each named by a manifest",
        "shards": f"{shards} with their checksums and {ROWS} rows",
        "lines": f"{ROWS + REJECTS} counted in the log again, each one a row or one of {REJECTS} rejects",
        "vocabularies": f"2 with {values} values, counted again from the training rows",
        "targets": f"{ROWS} rows of teacher teacher-1",
    }


@pytest.mark.parametrize(
    ("write", "name", "settings"),
    [
        (write_log, "log.csv", {"split": "400/100/103"}),
        (write_log, "log.csv.gz", {"split": "time:1700000400/1700000500", "max_vocabulary": 5}),
        (write_json, "log.jsonl", {"negative_rate": 0.5}),
        (write_parquet, "log.parquet", {"oov_buckets": 3, "max_vocabulary": 10}),
    ],
)
def test_logs_of_every_kind(write: Callable[[Path], Path], name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    schema = {".jsonl": Schema(COLUMNS, format="json"), ".parquet": Schema(COLUMNS, format="parquet")}
    run = make_run(tmp_path, write(tmp_path / name), schema=schema.get(Path(name).suffix, SCHEMA), **settings)
    findings = verify(run)
    assert findings.wrong == []
    lines, rejects = run.spec().lines, run.spec().rejects
    assert lines >= ROWS and rejects > 0
    proved = f"{lines} counted in the log again, each one a row or one of {rejects} rejects"
    assert dict(findings.proved)["lines"] == proved and dict(findings.proved)["targets"] == "none yet"


def test_several_files_and_a_log_without_optional_columns(tmp_path: Path) -> None:
    schema = Schema(tuple(column for column in COLUMNS if column.kind in ("label", "float", "categorical")))
    logs = []
    for name in ("a.tsv", "b.tsv"):
        logs.append(tmp_path / name)
        logs[-1].write_text("".join(f"{i % 3 // 2}\t{i}\tv{i % 7}\t{name}\n" for i in range(300)))
    assert verify(make_run(tmp_path, *logs, schema=schema)).wrong == []


def test_the_layout_of_single_rows(run: Run) -> None:
    shutil.rmtree(run.file(TARGETS))
    use_rows_layout(run)
    assert verify(run).wrong == []
    rewrite(run, FIRST, lambda block: replace(block, labels=1 - block.labels), "rows")
    assert any(re.search("The number of clicks of a shard must be", text) for text in verify(run).wrong)


def test_a_source_that_is_gone_or_changed(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv")
    run = make_run(tmp_path, log)
    log.write_bytes(log.read_bytes() + b"\n")
    for _ in range(2):
        findings = verify(run)
        assert findings.wrong == []
        assert dict(findings.proved)["lines"].endswith("; sources gone: 1, lines not re-counted")
        log.unlink(missing_ok=True)


def same_version(run: Run, log: Path) -> None:
    """Lets the manifest know a log's present size and time, as if it had always had this content."""
    status = log.stat()
    source = run.manifest(EXAMPLES)["inputs"][0]
    new = {**source, "size": status.st_size, "version": status.st_mtime_ns // 1_000_000}
    change_json(run.file(EXAMPLES, "manifest.json"), lambda manifest: manifest.update(inputs=[new]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data.replace(b"\n", b" ", 50).replace(b" ", b"\n", 1), "Every row and reject must be a line"),
        (lambda data: data.replace(b"\r\n", b"\n\n"), "Every line of a range must be a row or a reject"),
        (lambda data: data + b"\nanother,line\n", "Every line of a source must lie in a range"),
        (
            lambda data: data.replace(b"no row either", b"no row neither"),
            "The bytes of a reject must be those of its line",
        ),
        (
            lambda data: data.replace(b"no row either", b"no row eithe\n"),
            "Every line of a range must be a row or a reject",
        ),
    ],
)
def test_lines_that_were_never_read(change: Callable[[bytes], bytes], expected: str, tmp_path: Path) -> None:
    """As if the parser had seen another log than the one that is there."""
    log = write_log(tmp_path / "log.csv")
    run = make_run(tmp_path, log)
    log.write_bytes(change(log.read_bytes()))
    same_version(run, log)
    assert any(text.startswith(expected) for text in verify(run).wrong)


def changed(field: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Block], Block]:
    """A change of one array of a block."""
    return lambda block: replace(block, **{field: change(getattr(block, field).copy())})


def put(value: float, *place: int) -> Callable[[np.ndarray], np.ndarray]:
    """A change of one number of an array."""

    def change(array: np.ndarray) -> np.ndarray:
        array[place or 0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed("labels", put(2)), "A label must be 0 or 1. Received: 2 at [0]"),
        (changed("dense", put(np.inf, 3, 1)), "A numeric value must be finite or missing. Received: inf at [3, 1]"),
        (changed("ids", put(-1, 0, 0)), "A vocabulary id must be one of its column. Received: -1 at [0, 0]"),
        (changed("ids", put(10**6, 0, 1)), "A vocabulary id must be one of its column. Received: 1000000 at [0, 1]"),
        (changed("ids", put(1, 2, 0)), "With hash buckets a vocabulary id must not be that of unseen values"),
        (changed("folds", lambda folds: (folds + 1) % 10), "A fold must be the hash of its row"),
        (changed("offsets", put(10**9)), "An offset must be in [0, "),
        (changed("offsets", lambda offsets: np.full_like(offsets, offsets[0])), "A line must be one row or one reject"),
        (changed("weights", put(-1)), "A weight must be finite and not negative. Received: -1.0 at [0]"),
        (changed("weights", lambda weights: weights + 1), "The sums of weight in a vocabulary must be those of the tr"),
        (changed("labels", lambda labels: 1 - labels), "The sums of clicks in a vocabulary must be those of the trai"),
        (changed("labels", lambda labels: 1 - labels), "The clicks of the training rows by fold must be ("),
        (changed("ids", put(2, 0, 1)), "The sums of count in a vocabulary must be those of the training rows"),
        (changed("dense", lambda dense: dense * np.nan), "The missing values of the numeric columns must be ("),
        (lambda block: block.take(slice(1, None)), "The number of rows of a shard must be"),
        (lambda block: block.take(slice(1, None)), "Every line of a range must be a row or a reject. Received: 1 lin"),
        (lambda block: block.take(slice(None, None, -1)), "Targets must belong to the rows of their examples"),
        (lambda block: replace(block, weights=None), "Numeric columns, categorical columns, weights, groups and outc"),
        (lambda block: replace(block, dense=block.dense[:, :1]), "Numeric columns, categorical columns, weights, gr"),
    ],
)
def test_rows_that_are_wrong(run: Run, change: Callable[[Block], Block], expected: str) -> None:
    """The file has its checksum; what is in it breaks a rule."""
    rewrite(run, FIRST, change)
    # The targets' own check is not to stop at the identity of the examples.
    identity = run.identity(EXAMPLES)
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest["sources"].update(examples=identity))
    wrong = verify(run).wrong
    assert any(text.startswith(expected) for text in wrong), wrong


@pytest.mark.parametrize(
    ("folder", "pattern"), [("examples", FIRST), ("targets", FIRST), ("rejected", "*.jsonl")], ids=lambda value: value
)
@pytest.mark.parametrize("damage", ["cut off", "a bit", "gone"])
def test_files_that_are_damaged(run: Run, folder: str, pattern: str, damage: str) -> None:
    path = next(Path(run.file(folder)).glob(pattern))
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
        expected = f"A file must exist and be readable. Received: {path}"
    else:
        path.write_bytes(data[:-1] if damage == "cut off" else data[:20] + bytes([data[20] ^ 1]) + data[21:])
        received = f"{len(data) - 1} bytes for {len(data)}" if damage == "cut off" else "another checksum, sha256:"
        expected = f"A file must have the bytes and the checksum of its manifest. Received: {received}"
    wrong = verify(run).wrong
    assert wrong[0].startswith(expected) and str(path) in wrong[0]


@pytest.mark.parametrize("name", ["examples/train/shard-99999.tfrecord", "examples/x", "rejected/x", "targets/test/x"])
def test_files_that_no_manifest_names(run: Run, name: str) -> None:
    Path(run.file(name)).write_bytes(b"")
    folder, _, rest = name.partition("/")
    expected = f"The folder {folder} must hold what its manifest names. Received: {rest} ({run.file(folder)})."
    assert verify(run).wrong == [expected]


def test_a_shard_of_another_layout(run: Run) -> None:
    rewrite(run, FIRST, lambda block: block, "rows")
    assert verify(run).wrong[0].startswith("A record must be a tf.train.Example of byte features. Received: ")


def edit_rejects(run: Run, change: Callable[[dict[str, Any]], object]) -> Path:
    """Changes the first reject, and lets the manifest know."""
    manifest = run.manifest(EXAMPLES)
    entry = next(entry for entry in manifest["entries"] if entry["rejected"])
    path = Path(run.file("rejected", entry["rejected"]["path"]))
    first, *others = path.read_text().splitlines()
    reject = json.loads(first)
    change(reject)
    data = "\n".join([json.dumps(reject), *others, ""]).encode()
    path.write_bytes(data)
    entry["rejected"] |= {"bytes": len(data), "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}"}
    Path(run.file(EXAMPLES, "manifest.json")).write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"reason": "ugly"}, "The reason of a reject must be a known one. Received: ugly"),
        ({"source": "other"}, "The source of a reject must be "),
        ({"offset": 10**9}, "An offset must be in ["),
        ({"offset": 1}, "Every line of a range must be a row or a reject"),
        ({"raw_base64": "!"}, "A line of a file of rejects must be a reject. Received: "),
        ({"raw_base64": base64.b64encode(b"no ro").decode()}, "The bytes of a reject must be those of its line"),
        ({"raw_base64": base64.b64encode(b"no raw").decode()}, "The bytes of a reject must be those of its line"),
    ],
)
def test_rejects_that_are_wrong(run: Run, change: dict[str, Any], expected: str) -> None:
    edit_rejects(run, lambda reject: reject.update(change))
    wrong = verify(run).wrong
    assert any(text.startswith(expected) for text in wrong), wrong


def test_a_truncated_reject_is_compared_as_far_as_it_goes(run: Run) -> None:
    start = base64.b64encode(b"no ro").decode()
    edit_rejects(run, lambda reject: reject.update(raw_base64=start, truncated_bytes=1))
    assert not any("The bytes of a reject" in text for text in verify(run).wrong)


def edit_vocabulary(run: Run, change: Callable[[Any], Any]) -> None:
    path = run.file(EXAMPLES, "vocabulary/ad.parquet")
    frame = pq.read_table(path).to_pandas()
    schema = pq.read_schema(path)
    pq.write_table(pa.Table.from_pandas(change(frame), schema, preserve_index=False), path)


def swap(frame: Any) -> Any:
    return frame.take([0, 2, 1, *range(3, len(frame))])


def same_values(frame: Any) -> Any:
    frame.loc[2, "value"] = frame.loc[1, "value"]
    return frame


def add(column: str, place: int) -> Callable[[Any], Any]:
    def change(frame: Any) -> Any:
        frame.loc[place, column] += 1
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (swap, "The values of a vocabulary must stand by falling count, then by bytes. Received: another order from"),
        (same_values, "The number of distinct values of a vocabulary must be"),
        (add("count_3", 0), "The sums of count in a vocabulary must be those of the training rows. Received: "),
        (add("clicks_0", 4), "The sums of clicks in a vocabulary must be those of the training rows. Received: "),
        (add("click_weight_9", 5), "The sums of click_weight in a vocabulary must be those of the training rows"),
        (lambda frame: frame.iloc[:-1], "The number of ids of a vocabulary must be"),
    ],
)
def test_vocabularies_that_are_wrong(run: Run, change: Callable[[Any], Any], expected: str) -> None:
    edit_vocabulary(run, change)
    wrong = verify(run).wrong
    assert any(text.startswith(expected) for text in wrong), wrong


def test_a_vocabulary_that_cannot_be_read(run: Run) -> None:
    Path(run.file(EXAMPLES, "vocabulary/ad.parquet")).write_bytes(b"PAR1")
    assert verify(run).wrong[0].startswith("A vocabulary must be readable. Received: ")


@pytest.mark.parametrize("field", ["rows", "clicks", "lines", "rejects", "fold_rows", "fold_clicks", "fold_weights"])
def test_totals_that_are_wrong(run: Run, field: str) -> None:
    def change(spec: dict[str, Any]) -> None:
        value = spec[field]
        spec[field] = (
            {**value, "train": value["train"] + 1}
            if isinstance(value, dict)
            else [value[0] + 1, *value[1:]]
            if isinstance(value, list)
            else value + 1
        )

    change_json(run.file(EXAMPLES, "spec.json"), change)
    wrong = verify(run).wrong
    assert wrong and all("(" + run.file(EXAMPLES, "spec.json") in text for text in wrong)


def test_a_shard_of_no_range(run: Run) -> None:
    change_json(run.file(EXAMPLES, "manifest.json"), lambda manifest: manifest["shards"][0].update(end=7))
    expected = f"Every shard must belong to one range of one input. Received: others, ['{FIRST}'] among them"
    assert any(text.startswith(expected) for text in verify(run).wrong)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"teacher": "teacher-2"}, "The teacher of a block of targets must be teacher-1. Received: teacher-2"),
        ({"logits": np.zeros((1, 4), np.float32)}, "A record of targets must be a block of logits"),
        ({"logits": 6}, "The logits of a row must be 4. Received: 6"),
        ({"logits": np.nan}, "Logits must be finite"),
    ],
)
def test_targets_that_are_wrong(run: Run, change: dict[str, Any], expected: str) -> None:
    def damage(block: TargetBlock) -> TargetBlock:
        value = change.get("logits")
        if isinstance(value, int):
            return replace(block, logits=np.zeros((len(block.offsets), value), np.float32))
        return replace(block, logits=block.logits * value) if isinstance(value, float) else replace(block, **change)

    rewrite_targets(run, FIRST, damage)
    wrong = verify(run).wrong
    assert any(text.startswith(expected) for text in wrong), wrong


def test_targets_of_other_examples_are_only_said(run: Run) -> None:
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest["sources"].update(examples="other"))
    findings = verify(run)
    assert findings.wrong == [] and dict(findings.proved)["targets"].startswith("not checked")


def test_targets_of_fewer_shards(run: Run) -> None:
    change_json(run.file(TARGETS, "manifest.json"), lambda manifest: manifest["shards"].pop())
    assert any(text.startswith("The shards of the targets must be [") for text in verify(run).wrong)


def test_a_run_without_examples(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="The run must hold finished examples"):
        verify(Run(str(tmp_path)))


@pytest.mark.parametrize("layout", ["blocks", "rows"])
def test_outcomes(tmp_path: Path, layout: str) -> None:
    columns = [("clicked", "label"), ("price", "float"), ("ad", "categorical"), ("bought", "outcome")]
    log = tmp_path / "log.csv"
    log.write_text("".join(f"{i % 3 // 2},{i},a{i % 5},{i % 6 // 5}\n" for i in range(300)))
    run = make_run(tmp_path, log, schema=Schema(tuple(Column(*column) for column in columns), ","), layout=layout)
    assert verify(run).wrong == []
    assert set(inspect(run)) == {"splits", "numeric", "categorical", "values"}
    text = log.read_text()

    def damaged(block: Block) -> Block:
        lines = [text[offset:].split("\n")[0] for offset in block.offsets]
        assert block.outcomes is not None and block.outcomes.tolist() == [[int(line[-1])] for line in lines]
        return replace(block, outcomes=block.outcomes + np.uint8(2))

    rewrite(run, FIRST, damaged, layout)
    assert any("An outcome must be 0 or 1. Received: 2 at" in sentence for sentence in verify(run).wrong)

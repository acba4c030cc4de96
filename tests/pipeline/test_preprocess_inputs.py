"""What ``preprocess`` is given: several files, headers, line ends, bad lines, and a user's mistakes."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zstandard
from example_runs import is_finished, outputs_of, rejects_of, run_of, table_of
from support import files_of

from features.errors import ConfigError, DataError
from features.schema import CATEGORICAL, CRITEO, FLOAT, INTEGER, KEY, LABEL, Column, Schema
from pipeline.generate import generate
from pipeline.workspace import EXAMPLES, Run

ROWS = 1500
VALUES = ["split", "label", *CRITEO.numeric, *CRITEO.categorical]
"""What does not depend on the names of files."""
SHOP = (
    Column("id", KEY),
    Column("x", FLOAT),
    Column("n", INTEGER),
    Column("word", CATEGORICAL),
    Column("y", LABEL),
)
HEADER = "id,x,n,word,y"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "log.tsv"
    generate(ROWS, str(path), seed=1)
    return path


@pytest.fixture(scope="module")
def run(log: Path) -> Run:
    return run_of(log.parent / "run", log)


def shop_lines(first: int, last: int) -> list[str]:
    return [f"{i},{i / 7},{i if i % 3 else ''},{'é' * (i % 12)},{i % 2}" for i in range(first, last)]


class TestFiles:
    def test_many_of_them_and_globs(
        self, tmp_path: Path, log: Path, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data, bounds = log.read_bytes().splitlines(keepends=True), [0, 500, 501, 900, ROWS]
        names = ["day-0.tsv", "day-1.tsv", "day-2.tsv.gz", "day-3.tsv.zst"]
        packs: list[Callable[[bytes], bytes]] = [bytes, bytes, gzip.compress, zstandard.compress]
        for name, pack, start, end in zip(names, packs, bounds[:-1], bounds[1:], strict=True):
            (tmp_path / name).write_bytes(pack(b"".join(data[start:end])))
        (tmp_path / "day-1a.tsv").write_bytes(b"")
        (tmp_path / "day-2a.tsv.gz").write_bytes(gzip.compress(b""))
        patterns = [tmp_path / name for name in ("day-[01]*", "day-1.tsv", "day-2*.gz", "*.zst")]
        found, expected = table_of(run_of(tmp_path / "run", patterns)), table_of(run)
        assert found["source"].value_counts(sort=False).to_dict() == dict(
            zip(names, np.diff(bounds).tolist(), strict=True)
        )
        pd.testing.assert_frame_equal(found[VALUES], expected[VALUES])
        warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert warnings == [f"warning: {tmp_path / name} is empty" for name in ("day-1a.tsv", "day-2a.tsv.gz")]

    def test_plain_ones_are_one_log(self, tmp_path: Path, log: Path, run: Run) -> None:
        data, bounds = log.read_bytes().splitlines(keepends=True), [0, 700, 701, ROWS]
        for index, (start, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            (tmp_path / f"{index}.tsv").write_bytes(b"".join(data[start:end]))
        other = run_of(tmp_path / "run", tmp_path / "*.tsv")
        pd.testing.assert_frame_equal(table_of(other)[VALUES], table_of(run)[VALUES])
        assert other.spec().numeric == run.spec().numeric

    def test_no_last_newline(self, tmp_path: Path, log: Path, run: Run) -> None:
        path = tmp_path / "log.tsv"
        path.write_bytes(log.read_bytes()[:-1])
        pd.testing.assert_frame_equal(table_of(run_of(tmp_path / "run", path)), table_of(run))

    def test_windows_line_ends(self, tmp_path: Path, log: Path, run: Run) -> None:
        path = tmp_path / "log.tsv"
        path.write_bytes(log.read_bytes().replace(b"\n", b"\r\n"))
        rows = run.spec().rows
        split = f"{rows['train']}/{rows['valid']}/{rows['test']}"
        other, expected = table_of(run_of(tmp_path / "run", path, split=split)), table_of(run)
        assert other["offset"].tolist() == (expected["offset"] + np.arange(ROWS)).tolist()
        pd.testing.assert_frame_equal(other[VALUES], expected[VALUES])

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_headers_and_byte_order_marks(self, tmp_path: Path, mark: bytes) -> None:
        """Each file has its own; the third has nothing else, the fourth is compressed."""
        schema = Schema(SHOP, ",", header=True)
        contents = [shop_lines(0, 300), shop_lines(300, 301), [], shop_lines(301, 600)]
        for day, lines in enumerate(contents):
            data = mark + "\n".join([HEADER, *lines]).encode()
            name, packed = (f"{day}.csv.gz", gzip.compress(data)) if day == 3 else (f"{day}.csv", data)
            (tmp_path / name).write_bytes(packed)
        run = run_of(tmp_path / "run", [tmp_path / "*.csv", tmp_path / "*.gz"], schema, split="files:1/2/1")
        spec, table = run.spec(), table_of(run)
        assert (spec.lines, spec.rejects, spec.vocabulary_ids) == (600, 0, (13,))
        assert spec.rows == {"train": 300, "valid": 1, "test": 299}
        first = len(mark) + len(HEADER) + 1
        assert table["offset"].iloc[[0, 300, 301]].tolist() == [first] * 3
        assert table["label"].tolist() == [i % 2 for i in range(600)]
        assert Schema.from_json(json.loads(Path(run.file(EXAMPLES, "spec.json")).read_text())["schema"]) == schema


LONG = 1_100_000
KINDS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("field_count", lambda line: line.rsplit(b"\t", 1)[0]),
    ("field_count", lambda line: line + b"\textra"),
    ("integer", lambda line: line.split(b"\t", 1)[0] + b"\t12a\t" + line.split(b"\t", 2)[2]),
    ("label", lambda line: b"2" + line[1:]),
    ("empty_line", lambda line: b""),
    ("invalid_utf8", lambda line: line[:-1] + b"\xff"),
    ("nul_byte", lambda line: line[:-1] + b"\0"),
    ("carriage_return", lambda line: line[:-1] + b"\ra"),
]

Faults = tuple[Path, dict[int, tuple[str, bytes]], list[int]]
"""A log, its bad lines (reason and bytes by offset), and the offsets of the good ones."""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """161 broken lines of nine kinds among 6,000."""
    path = tmp_path_factory.mktemp("rejects") / "log.tsv"
    generate(6000, str(path), seed=2)
    data, reasons = path.read_bytes().split(b"\n")[:-1], {}
    chosen = np.random.default_rng(0).choice(np.arange(500, 6000), 160, replace=False).tolist()
    for number, index in enumerate(chosen):
        reasons[index], damage = KINDS[number % len(KINDS)]
        data[index] = damage(data[index])
    # The long line stands early, because one behind 70 % of the bytes may leave no other line to validate on.
    data[100], reasons[100] = data[100] + b"x" * LONG, "too_long"
    offsets = np.cumsum([0, *(len(line) + 1 for line in data)]).tolist()
    path.write_bytes(b"\n".join(data) + b"\n")
    broken = {offsets[index]: (reason, data[index]) for index, reason in reasons.items()}
    return path, broken, [offset for offset in offsets[:-1] if offset not in broken]


@pytest.fixture(scope="module")
def faulty(faults: Faults) -> Run:
    return run_of(faults[0].parent / "faulty", faults[0], workers=2, max_rejects="5%")


class TestRejects:
    def test_exactly_the_broken_lines(self, faults: Faults, faulty: Run) -> None:
        path, broken, good = faults
        found = rejects_of(faulty)
        assert [record["offset"] for record in found] == sorted(broken)
        for record in found:
            reason, raw = broken[record["offset"]]
            assert (record["source"], record["reason"]) == (str(path), reason)
            assert base64.b64decode(record["raw_base64"]) == raw
            assert "truncated_bytes" not in record
            assert record["detail"] and len(record["text"]) <= 200
        spec, entries = faulty.spec(), faulty.manifest(EXAMPLES)["entries"]
        assert (spec.lines, spec.rejects, sum(spec.rows.values())) == (6000, 161, 5839)
        assert sum(entry["rejects"] for entry in entries) == 161
        assert table_of(faulty)["offset"].tolist() == good

    def test_files_of_the_manifest(self, faulty: Run) -> None:
        files = files_of(faulty.file("rejected"))
        entries = [entry for entry in faulty.manifest(EXAMPLES)["entries"] if entry["rejects"]]
        assert {entry["rejected"]["path"]: entry["rejected"]["bytes"] for entry in entries} == {
            name: len(data) for name, data in files.items()
        }
        for entry in entries:
            assert len(files[entry["rejected"]["path"]].splitlines()) == entry["rejects"]

    def test_other_shards(self, tmp_path: Path, faults: Faults, faulty: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """The long line covers whole ranges."""
        monkeypatch.setattr("pipeline.plan.MIN_TRAIN_SHARDS", 40)
        run = run_of(tmp_path, faults[0], max_rejects="5%")
        entries = run.manifest(EXAMPLES)["entries"]
        assert len(entries) > len(faulty.manifest(EXAMPLES)["entries"])
        assert sum(entry["lines"] == 0 for entry in entries) > 10
        pd.testing.assert_frame_equal(table_of(run).drop(columns="shard"), table_of(faulty).drop(columns="shard"))
        assert files_of(run.file("examples/vocabulary")) == files_of(faulty.file("examples/vocabulary"))
        assert rejects_of(run) == rejects_of(faulty)

    def test_more_than_the_limit(self, tmp_path: Path, faults: Faults, faulty: Run) -> None:
        """It is found before anything is counted; with a higher limit nothing is parsed again."""
        path, run = tmp_path / "log.tsv", Run(str(tmp_path / "run"))
        path.write_bytes(data := faults[0].read_bytes())
        message = r"^At most 2% of the lines must be bad\. Received: 161 of 6000 \(.*/rejected says which and why; "
        with pytest.raises(DataError, match=message):
            run_of(tmp_path / "run", path, max_rejects="2%")
        before = {(record["offset"], record["reason"]) for record in rejects_of(run)}
        assert before == {(offset, reason) for offset, (reason, _) in faults[1].items()}
        kinds = {name.split("-")[0] for name in files_of(run.file(EXAMPLES, ".work"))}
        assert kinds == {"parsed", "rows"} and not is_finished(run)
        inodes = {name: Path(run.file("rejected", name)).stat().st_ino for name in files_of(run.file("rejected"))}
        # Who read the log again would find nothing but zeros in it.
        changed = path.stat().st_mtime_ns
        path.write_bytes(bytes(len(data)))
        os.utime(path, ns=(changed, changed))
        run_of(tmp_path / "run", path, max_rejects="3%")
        assert inodes == {name: Path(run.file("rejected", name)).stat().st_ino for name in inodes}
        assert table_of(run).drop(columns="shard").equals(table_of(faulty).drop(columns="shard"))

    @pytest.mark.parametrize(("limit", "accepted"), [("0%", False), ("1%", True), ("0.99%", False), ("0.01", True)])
    def test_the_limit_itself_is_allowed(self, tmp_path: Path, log: Path, limit: str, accepted: bool) -> None:
        data = log.read_bytes().splitlines(keepends=True)[:200]
        data[50:52] = [b"bad\n", b"worse\n"]
        (tmp_path / "log.tsv").write_bytes(b"".join(data))
        if accepted:
            assert run_of(tmp_path / "run", tmp_path / "log.tsv", max_rejects=limit).spec().rejects == 2
        else:
            with pytest.raises(DataError, match=rf"^At most {limit} of the lines must be bad\. Received: 2 of 200 "):
                run_of(tmp_path / "run", tmp_path / "log.tsv", max_rejects=limit)


class TestMistakes:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (["none-*.tsv"], r"--input must match at least one file\. Received: .*none-\*\.tsv \(no such file\)"),
            (["full.tsv", "none.tsv"], r"--input must match at least one file\. Received: .*none\.tsv"),
            (["folder"], r"--input must name files\. Received: .*folder \(a directory; try .*folder/\*\)"),
            (["empty.tsv", "empty.tsv.gz"], r"The input must hold rows\. Received: only empty files"),
            (["no-clicks.tsv"], r"The training rows must have clicks and rows without\. Received: 0 clicks in "),
            (["clicks.tsv"], r"The training rows must have clicks and rows without"),
            (["text.tsv"], r"At most 1% of the lines must be bad\. Received: 40 of 40 \(.*rejected says which"),
        ],
    )
    def test_one_line_that_says_what_to_do(self, tmp_path: Path, log: Path, inputs: list[str], message: str) -> None:
        data = log.read_bytes().splitlines(keepends=True)[:200]
        (tmp_path / "folder").mkdir()
        for name, content in {
            "full.tsv": b"".join(data),
            "empty.tsv": b"",
            "empty.tsv.gz": gzip.compress(b""),
            "no-clicks.tsv": b"".join(line for line in data if line.startswith(b"0")),
            "clicks.tsv": b"".join(line for line in data if line.startswith(b"1")),
            "text.tsv": b"This is no log.\n" * 40,
        }.items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            run_of(tmp_path / "run", [tmp_path / name for name in inputs])
        assert "\n" not in str(error.value)
        assert not is_finished(Run(str(tmp_path / "run")))

    @pytest.mark.parametrize(
        ("header", "lines"), [(f"{HEADER},more", 300), ("id,n,x,word,y", 300), (None, 300), (HEADER, 0)]
    )
    def test_headers(self, tmp_path: Path, header: str | None, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
        """Too many names, another order, none at all; and a header without rows."""
        path = tmp_path / "log.csv"
        path.write_text("\n".join([*([header] if header else []), *shop_lines(0, lines)]) + "\n")
        expected = r"^The header of the log must name .* File: .*log\.csv\.$" if lines else r"^The training rows must "
        with pytest.raises(DataError, match=expected) as error:
            run_of(tmp_path / "run", path, Schema(SHOP, ",", header=True))
        assert "\n" not in str(error.value)
        assert "Traceback" not in capsys.readouterr().err

    def test_a_header_where_none_is_expected_is_a_reject(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("\n".join([HEADER, *shop_lines(0, 300)]) + "\n")
        run = run_of(tmp_path / "run", tmp_path / "log.csv", Schema(SHOP, ","))
        assert [(record["offset"], record["reason"]) for record in rejects_of(run)] == [(0, "label")]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"split": "hash:nobody:70/15/15"}, r"^--split hash: must name .* Received: nobody\.$"),
            ({"split": "hash:x:70/15/15"}, r"^--split hash: must name .* Received: x\.$"),
            ({"split": "time:10/20"}, r"^--split time: must have a schema with a time column\. Received: none"),
            ({"split": "70/30"}, r"^--split must be .* Received: 70/30\.$"),
            (
                {"layout": "rows"},
                r"^With --layout rows a column must not be called _fold or _offset\. Received: _fold ",
            ),
        ],
    )
    def test_settings_that_the_schema_does_not_allow(
        self, tmp_path: Path, settings: dict[str, Any], message: str
    ) -> None:
        columns = (Column("_fold", KEY), *SHOP[1:])
        (tmp_path / "log.csv").write_text("\n".join(shop_lines(0, 300)) + "\n")
        with pytest.raises(ConfigError, match=message):
            run_of(tmp_path / "run", tmp_path / "log.csv", Schema(columns, ","), **settings)
        assert not outputs_of(Run(str(tmp_path / "run")))

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from features.errors import ArtifactError, DataError
from features.schema import CRITEO, Column, Schema
from pipeline import propose as module
from pipeline.generate import generate
from pipeline.propose import propose

COLUMNS = (
    Column("request_id", "key"),
    Column("ts", "time"),
    Column("clicked", "label"),
    Column("price", "float"),
    Column("position", "integer"),
    Column("site", "categorical"),
)


def rows(number: int) -> list[dict[str, object]]:
    chance = random.Random(5)
    return [
        {
            "request_id": f"{chance.getrandbits(64):016x}",
            "ts": 1_700_000_000 + i,
            "clicked": int(chance.random() < 0.3),
            "price": round(chance.random() * 9, 2) + 0.001,
            "position": chance.randrange(10),
            "site": chance.choice(["a.example", "b.example", "ü"]),
        }
        for i in range(number)
    ]


def as_csv(values: list[dict[str, object]]) -> bytes:
    lines = [",".join(values[0]), *(",".join(map(str, row.values())) for row in values)]
    return "".join(f"{line}\n" for line in lines).encode()


def as_json(values: list[dict[str, object]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in values).encode()


def write_parquet(path: Path, values: list[dict[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist(values), path)


def loaded(path: Path) -> Schema:
    return Schema.load(str(path))


@pytest.fixture
def shown_by(capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], str]:
    """Makes a proposal; gives what people see of it, all of which is on standard error."""

    def shown(path: str, output: str) -> str:
        capsys.readouterr()
        text = propose(path, output)
        assert Path(output).read_text(encoding="utf-8") == f"{text}\n"
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return shown


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.csv.zst", "log.jsonl", "log.jsonl.zst"])
def test_lines(tmp_path: Path, name: str, shown_by: Callable[[str, str], str]) -> None:
    data = as_csv(rows(300)) if "csv" in name else as_json(rows(300))
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix, bytes)(data)
    (tmp_path / name).write_bytes(packed)
    shown = shown_by(str(tmp_path / name), str(tmp_path / "schema.json"))
    expected = Schema(COLUMNS, ",", True) if "csv" in name else Schema(COLUMNS, format="json")
    assert loaded(tmp_path / "schema.json") == expected
    assert shown.endswith("Tried on the first 300 rows: 0 rejected.\n")
    assert "request_id key " in shown and "times or dates" in shown


def test_parquet(tmp_path: Path, shown_by: Callable[[str, str], str]) -> None:
    write_parquet(tmp_path / "part-0", rows(300))
    shown = shown_by(str(tmp_path / "part-0"), str(tmp_path / "schema.json"))
    assert loaded(tmp_path / "schema.json") == Schema(COLUMNS, format="parquet")
    assert "first 300 rows: 0 rejected" in shown


def test_parquet_of_other_types(tmp_path: Path, shown_by: Callable[[str, str], str]) -> None:
    table = pa.table(
        {
            "click": pa.array([True, False] * 100),
            "day": pa.array([19_700] * 200, pa.int32()).cast(pa.date32()),
            "ad_id": pa.array([1.0, None] * 100),
            "wait": pa.array([5] * 200, pa.duration("s")),
            "tags": pa.array([["a"], []] * 100),
            "nothing": pa.nulls(200),
            "site": pa.array(["a", "b"] * 100).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    shown = shown_by(str(tmp_path / "log.parquet"), str(tmp_path / "schema.json"))
    found = {column.name: column.kind for column in loaded(tmp_path / "schema.json").columns}
    expected = {"click": "label", "day": "time", "ad_id": "integer", "nothing": "categorical", "site": "categorical"}
    assert found == expected and "first 200 rows: 0 rejected" in shown


def test_criteo(tmp_path: Path) -> None:
    generate(500, str(tmp_path / "log.tsv"))
    propose(str(tmp_path / "log.tsv"), str(tmp_path / "schema.json"))
    assert loaded(tmp_path / "schema.json") == CRITEO


def test_without_output_the_schema_is_returned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_bytes(as_csv(rows(100)))
    text = propose(str(tmp_path / "log.csv"), None)
    assert Schema.from_json(json.loads(text)) == Schema(COLUMNS, ",", True)
    assert text.count("\n") == len(COLUMNS) + 6
    printed = capsys.readouterr()
    assert printed.out == "" and "Tried on the first 100 rows" in printed.err


def test_rejects_are_counted(tmp_path: Path, shown_by: Callable[[str, str], str]) -> None:
    data = as_csv(rows(500)).replace(b",a.example\n", b",a.example,x\n", 3) + b"\n"
    (tmp_path / "log.csv").write_bytes(data)
    shown = shown_by(str(tmp_path / "log.csv"), str(tmp_path / "schema.json"))
    assert (
        "Tried on the first 501 rows: 4 rejected (field_count 3, empty_line 1; first: expected 6, received 7" in shown
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_only_whole_lines_of_the_sample_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown_by: Callable[[str, str], str], end: str, mark: str
) -> None:
    data = (mark + as_csv(rows(100)).decode().replace("\n", end)).encode()
    (tmp_path / "log.csv").write_bytes(data)
    path, output = str(tmp_path / "log.csv"), str(tmp_path / "schema.json")
    monkeypatch.setattr(module, "SAMPLE_ROWS", 51)
    assert "first 50 rows: 0 rejected" in shown_by(path, output)
    monkeypatch.setattr(module, "SAMPLE_ROWS", 1000)
    monkeypatch.setattr(module, "SAMPLE_BYTES", 3000)
    kept = data[:3000].count(b"\n") - 1
    assert 30 < kept < 90 and f"first {kept} rows: 0 rejected" in shown_by(path, output)
    (tmp_path / "log.csv").write_bytes(data.removesuffix(end.encode())[: 3000 - 1].rpartition(b"\n")[0])
    assert f"first {kept} rows: 0 rejected" in shown_by(path, output)


def test_a_sample_of_a_large_parquet_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown_by: Callable[[str, str], str]
) -> None:
    write_parquet(tmp_path / "log.parquet", rows(300))
    monkeypatch.setattr(module, "SAMPLE_ROWS", 100)
    assert "first 100 rows: 0 rejected" in shown_by(str(tmp_path / "log.parquet"), str(tmp_path / "schema.json"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.csv", b"", "must hold rows"),
        ("log.csv", b"\n\n", "must hold rows"),
        ("log", gzip.compress(as_csv(rows(10))), "must be named .gz or .zst"),
        ("log.csv.gz", gzip.compress(as_csv(rows(10)))[:-20], "A gzip file must be whole"),
        ("log.parquet", b"PAR1 and no more", "A parquet file must be whole"),
        ("log.csv", b"2,a\n3,b\n", "must be the label"),
    ],
)
def test_what_is_no_log(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        propose(str(tmp_path / name), str(tmp_path / "schema.json"))
    assert not (tmp_path / "schema.json").exists()


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises((DataError, ArtifactError), match="must match at least one file"):
        propose(str(tmp_path / "none.csv"), None)

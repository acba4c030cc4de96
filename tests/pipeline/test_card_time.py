"""The time of a log: of its first and last good row, where they can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_run import ROWS, SCHEMA, write_json, write_log, write_parquet

from features.schema import CRITEO, JSON, PARQUET, Schema
from pipeline import card_time, storage
from pipeline.card_time import time_span

FIRST, LAST = 1_700_000_000, 1_700_000_000 + ROWS - 1
FORMS = {
    "log.csv": (write_log, SCHEMA),
    "log.json": (write_json, Schema(SCHEMA.columns, format=JSON)),
    "log.parquet": (write_parquet, Schema(SCHEMA.columns, format=PARQUET)),
}


def inputs(*paths: Path) -> list[dict[str, Any]]:
    files = storage.find_inputs([str(path) for path in paths])
    return [{"path": file.path, "size": file.size, "version": file.version} for file in files]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("step", [1, 4])
def test_both_ends(name: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a log that is longer than what is read of it."""
    write, schema = FORMS[name]
    path = write(tmp_path / name)
    if step > 1:
        monkeypatch.setattr(card_time, "_END", {True: ROWS // step, False: path.stat().st_size // step})
    assert time_span(inputs(path), schema) == f"{FIRST} to {LAST}"


def test_several_files(tmp_path: Path) -> None:
    first, last, empty = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    lines = write_log(tmp_path / "log.csv").read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join(lines[:50]))
    last.write_bytes(lines[0] + b"".join(lines[50:]))
    empty.write_bytes(b"")
    assert time_span(inputs(first, last, empty), SCHEMA) == f"{FIRST} to {LAST}"
    assert time_span(inputs(first, empty), SCHEMA) == f"{FIRST} to {FIRST + 48}"


def gone(path: Path) -> None:
    path.unlink()


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more\n")


@pytest.mark.parametrize("change", [gone, changed])
def test_a_log_that_is_no_longer_there(change: Callable[[Path], None], tmp_path: Path) -> None:
    found = inputs(path := write_log(tmp_path / "log.csv"))
    change(path)
    assert time_span(found, SCHEMA) == ""


def test_no_time_and_compressed(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    path.write_text("0" + "\t" * 39 + "\n")
    assert time_span(inputs(path), CRITEO) == ""
    assert time_span(inputs(write_log(tmp_path / "log.csv.gz")), SCHEMA) == ""

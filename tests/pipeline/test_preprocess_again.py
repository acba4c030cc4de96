"""``preprocess`` called again: a finished stage is skipped, and other inputs are not mixed in."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_runs import outputs_of, run_of
from support import files_of

from features.errors import ConfigError, DataError
from features.schema import CRITEO, Column, Schema
from pipeline.beam import make_options
from pipeline.generate import generate
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig
from pipeline.workspace import EXAMPLES, Run

REJECTED = "rejected/00000-000022.jsonl"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A finished run with a log of its own, whose last three lines are bad."""
    path = tmp_path_factory.mktemp("finished") / "log.tsv"
    generate(1500, str(path), seed=1)
    with path.open("ab") as file:
        file.write(b"bad\n" * 3)
    return run_of(path.parent / "run", path), path


@pytest.fixture
def mine(tmp_path: Path, finished: tuple[Run, Path]) -> Iterator[tuple[Run, Path]]:
    """A copy of the finished run; the log is the same, and put back as it was."""
    run, path = finished
    data, changed = path.read_bytes(), path.stat().st_mtime_ns
    yield Run(str(shutil.copytree(run.path, tmp_path / "run"))), path
    path.write_bytes(data)
    os.utime(path, ns=(changed, changed))


def call(run: Run, path: Path, schema: Schema = CRITEO, force: bool = False, **settings: Any) -> bool:
    config = PreprocessConfig(**settings)
    with run.lock():
        return preprocess(run, [str(path)], schema, config, make_options((), 1), force)


def test_a_finished_stage_is_skipped(mine: tuple[Run, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, path = mine
    before = {name: os.stat(run.file(name)).st_mtime_ns for name in outputs_of(run)}
    capsys.readouterr()
    assert not call(run, path)
    assert not call(run, path, max_rejects="50%")
    assert before == {name: os.stat(run.file(name)).st_mtime_ns for name in outputs_of(run)}
    assert capsys.readouterr() == ("", "")


def test_another_licence_is_written_down_and_nothing_is_made_anew(mine: tuple[Run, Path]) -> None:
    run, path = mine
    identity = run.identity("examples")
    for licence in ("CC BY 4.0", "", "CC0 1.0"):
        assert not call(run, path, replace(CRITEO, licence=licence))
        assert run.spec().schema.licence == licence and run.identity("examples") == identity


def test_changed_settings_make_it_anew(mine: tuple[Run, Path]) -> None:
    run, path = mine
    first, identity = outputs_of(run), run.identity(EXAMPLES)
    vocabularies = files_of(run.file("examples/vocabulary"))
    assert call(run, path, min_count=3)
    assert run.identity(EXAMPLES) != identity
    assert files_of(run.file("examples/vocabulary")) != vocabularies
    assert call(run, path, seed=4)
    assert [name for name, data in outputs_of(run).items() if data == first[name]] == [REJECTED]
    assert call(run, path)
    assert outputs_of(run) == first


def test_rejects_of_other_settings_do_not_stay(mine: tuple[Run, Path]) -> None:
    run, path = mine
    assert [f"rejected/{name}" for name in files_of(run.file("rejected"))] == [REJECTED]
    assert call(run, path, split="60/20/20")
    assert list(files_of(run.file("rejected"))) == ["00000-000026.jsonl"]


@pytest.mark.parametrize("change", ["appended", "touched", "schema"])
def test_other_inputs_need_force(mine: tuple[Run, Path], change: str) -> None:
    run, path = mine
    schema, before = CRITEO, outputs_of(run)
    if change == "appended":
        with path.open("ab") as file:
            file.write(path.read_bytes().splitlines(keepends=True)[0])
    elif change == "touched":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 5_000_000))
    else:
        names = ["clicked", *CRITEO.names[1:]]
        schema = Schema(tuple(Column(n, c.kind) for n, c in zip(names, CRITEO.columns, strict=True)))
    what = "schema" if change == "schema" else "inputs"
    which = "" if change == "schema" else f" ({path} has changed)"
    with pytest.raises(ConfigError) as error:
        call(run, path, schema)
    assert str(error.value) == (
        f"A run must keep its {what}. Received: other {what} than {run.path} was made with{which}; use another "
        "--run, or --force to make this one anew."
    )
    assert outputs_of(run) == before
    assert call(run, path, schema, force=True)
    assert run.spec().lines == 1503 + (change == "appended")
    assert not call(run, path, schema)


def test_a_new_file_is_named(tmp_path: Path, mine: tuple[Run, Path]) -> None:
    """Also beside one that is the same as before."""
    (run, path), config, new = mine, PreprocessConfig(), tmp_path / "new.tsv"
    shutil.copyfile(path, new)
    for inputs in ([str(path), str(new)], [str(new)]):
        with pytest.raises(ConfigError, match=rf"was made with \({re.escape(str(new))} is new\); use another --run"):
            preprocess(run, inputs, CRITEO, config, make_options((), 1))


def test_the_same_file_from_another_folder(mine: tuple[Run, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = mine
    assert [item["path"] for item in run.manifest(EXAMPLES)["inputs"]] == [str(path)]
    for folder in (path.parent, path.parent.parent):
        monkeypatch.chdir(folder)
        assert not call(run, path.relative_to(folder))
    assert call(run, path.relative_to(folder), seed=1)
    manifest = run.manifest(EXAMPLES)
    assert [item["path"] for item in manifest["inputs"]] == [str(path)]
    assert {shard["source"] for shard in manifest["shards"]} == {str(path)}


def test_an_unfinished_run_keeps_its_inputs_too(mine: tuple[Run, Path]) -> None:
    run, path = mine
    with pytest.raises(DataError, match=r"At most 0% of the lines must be bad"):
        call(run, path, max_rejects="0%", seed=1)
    os.utime(path, ns=(0, 0))
    with pytest.raises(ConfigError, match="A run must keep its inputs"):
        call(run, path, seed=1)

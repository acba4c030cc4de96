"""What the serving benchmark measures is made here: a run, the rows for training and judging, and the models."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import timed
from serving_rows import LogRows
from serving_ways import read_split

from features.errors import DataError
from features.schema import CRITEO
from features.spec import SPLITS
from pipeline import storage
from pipeline.presets import PRESETS
from pipeline.settings import TeacherConfig
from pipeline.workspace import EXAMPLES, Run

ROWS, TEST = "rows.tsv", "test.tsv"
BIG_TEACHER = "teacher-400"


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """The run, if there is none, and the logs; nothing to do the second time."""
    return {"rows": 0, **timed(lambda: _prepare(options))}


def _prepare(options: argparse.Namespace) -> None:
    if options.log:
        command = [sys.executable, "-m", "pipeline.cli", "run", "--input", str(options.log), "--run", str(options.run)]
        subprocess.run([*command, "--methods", options.method], check=True, stdout=subprocess.DEVNULL)
    run, done = Run(str(options.run)), options.folder / "prepared.json"
    options.folder.mkdir(parents=True, exist_ok=True)
    state = {"examples": run.identity(EXAMPLES), "predict_rows": options.predict_rows}
    if done.exists() and json.loads(done.read_text()) == state:
        return
    if done.exists():
        raise DataError(f"{options.folder} must be of the same run. Received: another one (remove the folder).")
    if run.spec().schema != CRITEO:
        raise DataError(f"The run must be of a Criteo-format log. Received: another schema ({run.path}).")
    write_rows(run, options.folder)
    write_repeated(options.folder / ROWS, options.folder / "predict.tsv", options.predict_rows)
    done.write_text(json.dumps(state))


def write_rows(run: Run, folder: Path) -> None:
    """Writes the good lines of all splits, in the order of the log, and those of the test split."""
    (source,) = {item["path"] for item in run.manifest(EXAMPLES)["inputs"]}
    (file,) = storage.find_inputs([source])
    with storage.open_log(file) as stream:
        log = stream.read()
    parts = {split: b"".join(_lines(log, np.sort(read_split(run, split).offsets))) for split in SPLITS}
    (folder / ROWS).write_bytes(b"".join(parts.values()))
    (folder / TEST).write_bytes(parts["test"])


def _lines(log: bytes, offsets: np.ndarray) -> list[bytes]:
    ends = (log.find(b"\n", offset) for offset in offsets)
    return [log[offset : end if end >= 0 else None] + b"\n" for offset, end in zip(offsets, ends, strict=True)]


def write_repeated(source: Path, target: Path, rows: int) -> None:
    """Writes a log again and again until it has so many rows."""
    lines = source.read_bytes().splitlines(keepends=True)
    with open(target, "wb") as file:
        for start in range(0, rows, len(lines)):
            file.writelines(lines[: rows - start])


def train_teacher_400(options: argparse.Namespace) -> dict[str, Any]:
    """A 400-400-400 teacher for the run's examples, with the settings of the largest preset; kept once trained."""
    from pipeline.train_teacher import train_teacher

    run = Run(str(options.folder / BIG_TEACHER), examples_of=str(options.run))
    values = {**PRESETS["40m"].teacher, "epochs": options.teacher_epochs}

    def work() -> None:
        with run.lock():
            train_teacher(run, dataclasses.replace(TeacherConfig(), **values))

    Path(run.path).mkdir(parents=True, exist_ok=True)
    return {"rows": run.spec().rows["train"], **timed(work)}


def train_keras(options: argparse.Namespace) -> dict[str, Any]:
    """The plain Keras model; kept once trained."""
    import serving_keras

    folder = options.folder / "keras"
    counts = Run(str(options.run)).spec().rows
    rows = LogRows.read(options.folder / ROWS)
    ends = np.cumsum([counts["train"], counts["valid"]])

    def work() -> None:
        if not folder.exists():
            train, valid = rows.part(0, ends[0]), rows.part(ends[0], ends[1])
            serving_keras.train(train, valid, folder, options.keras_epochs)

    return {"rows": counts["train"], **timed(work)}

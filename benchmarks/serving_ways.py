"""Our side of the serving benchmark: student, teacher and `predict`, each asked in all its ways, in one process."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from common import timed
from serving_clock import Way, logloss, time_ways
from serving_rows import CATEGORICAL, NUMERIC, Columns, LogRows, split_lines

from features.blocks import Block, read_blocks
from features.errors import ArtifactError
from features.lines import Chunk, LineReader
from features.parsing import parse_chunk
from features.schema import CRITEO
from models.backend import tf
from pipeline import storage
from pipeline.beam import make_options
from pipeline.loaded_teacher import LoadedTeacher, TeacherFiles
from pipeline.predict import predict
from pipeline.scoring import LoadedStudent
from pipeline.workspace import EXAMPLES, TEACHER, Run, student_stage

Figures = dict[str, Any]


def with_threads(options: argparse.Namespace) -> None:
    """Gives TensorFlow the threads that a contestant may have."""
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)


def model_folder(run: Run, method: str) -> str:
    """Folder of a student's SavedModel."""
    stage = student_stage(method)
    return run.file(stage, run.manifest(stage)["model"])


def read_split(run: Run, split: str) -> Block:
    """All rows of a split."""
    blocks: list[Block] = []
    for shard in run.filled_shards(split):
        path = run.file(EXAMPLES, shard["path"])
        with storage.open_read(path) as file:
            blocks += read_blocks(file, path)
    if not blocks:
        raise ArtifactError(f"The run must have {split} rows. Received: none ({run.path}).")
    return Block.concatenate(blocks)


def student(options: argparse.Namespace) -> Figures:
    """The exported student through its signatures, from values of Python and NumPy to NumPy."""
    with_threads(options)
    run, rows = Run(str(options.run)), LogRows.read(options.test)
    folder = model_folder(run, options.method)
    model = tf.saved_model.load(folder)
    block = read_split(run, "test")
    ways = [
        Way("lines", rows.slice_lines, lambda lines: ask(model, "tsv_unlabelled", lines=lines)),
        Way("columns", rows.slice_columns, lambda columns: ask(model, "serving_default", **named(columns))),
        Way("strings", lambda *part: _texts(rows, *part), lambda texts: ask(model, "strings", **texts)),
        Way("ids", lambda *part: _inputs(block, *part), lambda inputs: ask(model, "features", **inputs)),
        Way(
            "lines as tensors",
            lambda *part: tf.constant(rows.slice_lines(*part)),
            lambda lines: model.signatures["tsv_unlabelled"](lines=lines)["p_click"].numpy(),
        ),
        Way(
            "columns as tensors",
            lambda *part: _tensors(named(rows.slice_columns(*part))),
            lambda columns: model.signatures["serving_default"](**columns)["p_click"].numpy(),
        ),
    ]
    figures = time_ways(ways, len(rows), options.seconds)
    return figures | {"logloss": logloss(ways[0], rows.labels), "bytes": storage.size_of(folder)}


def ask(model: Any, signature: str, **inputs: Any) -> np.ndarray:
    """Click probabilities of a loaded student, from values of Python or NumPy."""
    found: np.ndarray = model.signatures[signature](**_tensors(inputs))["p_click"].numpy()
    return found


def _tensors(inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in inputs.items()}


def named(columns: Columns) -> dict[str, Any]:
    """Columns by the names of their inputs."""
    numbers, values = columns
    return dict(zip(NUMERIC, numbers.T, strict=True)) | dict(zip(CATEGORICAL, values, strict=True))


def _texts(rows: LogRows, start: int, stop: int) -> dict[str, Any]:
    columns = zip(*(line.split(b"\t") for line in rows.slice_lines(start, stop)), strict=True)
    return dict(zip([*NUMERIC, *CATEGORICAL], columns, strict=True))


def _inputs(block: Block, start: int, stop: int) -> dict[str, Any]:
    return {"ids": block.ids[start:stop], "dense": block.dense[start:stop]}


def predict_path(options: argparse.Namespace) -> Figures:
    """What `predict` does with the lines of a chunk, without reading and writing files, on one thread of Python."""
    with_threads(options)
    rows, folder = LogRows.read(options.test), model_folder(Run(str(options.run)), options.method)
    loaded = LoadedStudent(folder)
    way = Way("lines", lambda *part: _chunk(rows, *part), lambda chunk: loaded.score(_parse(chunk)).p_click)
    figures = time_ways([way], len(rows), options.seconds)
    return figures | {"logloss": logloss(way, rows.labels), "bytes": storage.size_of(folder)}


def _chunk(rows: LogRows, start: int, stop: int) -> Chunk:
    return Chunk(1, b"\n".join([*rows.slice_lines(start, stop), b""]))


def _parse(chunk: Chunk, labelled: bool = False) -> Any:
    return parse_chunk(chunk, CRITEO, labelled)


def predict_log(options: argparse.Namespace) -> Figures:
    """A whole log read, parsed and scored by threads that share one student; nothing is written."""
    with_threads(options)
    loaded = LoadedStudent(model_folder(Run(str(options.run)), options.method))
    size = options.log.stat().st_size
    bounds = [size * part // options.threads for part in range(options.threads + 1)]

    def score(part: int) -> int:
        with open(options.log, "rb") as stream:
            chunks = LineReader(stream).chunks(bounds[part], bounds[part + 1])
            return sum(len(loaded.score(_parse(chunk, labelled=True))) for chunk in chunks)

    scored: list[int] = []
    with ThreadPoolExecutor(options.threads) as pool:
        times = timed(lambda: scored.extend(pool.map(score, range(options.threads))))
    return {"rows": sum(scored), **times}


def predict_job(options: argparse.Namespace) -> Figures:
    """The command `predict` on a whole log: starting Beam, loading the student, reading, scoring, writing parquet."""
    output = options.folder / "predicted"
    shutil.rmtree(output, ignore_errors=True)
    folder = model_folder(Run(str(options.run)), options.method)
    times = timed(lambda: predict(folder, [str(options.log)], str(output), make_options([], options.threads)))
    rows = storage.read_json(str(output / "_manifest.json"))["rows"]
    shutil.rmtree(output)
    return {"rows": rows, **times}


def teacher(options: argparse.Namespace) -> Figures:
    """A teacher on ids and numerics as the examples hold them: it cannot read a log."""
    from models.estimates import subclass_click_logits

    with_threads(options)
    run = Run(str(options.teacher), examples_of=str(options.run))
    block = read_split(run, "test")
    loaded = LoadedTeacher(TeacherFiles.of(run.file(TEACHER), run.manifest(TEACHER)))

    def answer(part: Block) -> np.ndarray:
        return 1 / (1 + np.exp(-subclass_click_logits(loaded.score(part, training=False))))

    way = Way("ids", _slicer(block), answer)
    figures = time_ways([way], len(block), options.seconds)
    # Without vocabularies and numeric statistics nobody can make its inputs.
    files = [run.file(TEACHER, "model"), run.file(EXAMPLES, "vocabulary"), run.file(EXAMPLES, "spec.json")]
    return figures | {"logloss": logloss(way, block.labels), "bytes": sum(map(storage.size_of, files))}


def _slicer(block: Block) -> Callable[[int, int], Block]:
    return lambda start, stop: block.take(slice(start, stop))


def plain_keras(options: argparse.Namespace) -> Figures:
    """The plain Keras model through its signature; of a line, Python makes its columns."""
    with_threads(options)
    rows, folder = LogRows.read(options.test), options.folder / "keras"
    call = tf.saved_model.load(str(folder)).signatures["serving_default"]

    def answer(columns: Any) -> np.ndarray:
        (found,) = call(**_tensors(named(columns))).values()
        return found.numpy()

    ways = [
        Way("lines", rows.slice_lines, lambda lines: answer(split_lines(lines))),
        Way("columns", rows.slice_columns, answer),
    ]
    figures = time_ways(ways, len(rows), options.seconds)
    return figures | {"logloss": logloss(ways[0], rows.labels), "bytes": storage.size_of(str(folder))}

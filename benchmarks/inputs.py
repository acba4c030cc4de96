"""Inputs: rows/s of our batches against plain Examples read by tf.data in the usual way.

A generated log is preprocessed twice, in blocks and with an Example a row. All that is measured are its training rows,
in batches of 4096 and in the page cache. Each measurement runs in a fresh process and reads once before it counts; a
graph takes the batches, as in training.

- training batches: shuffled across shards and within; a stream that does not end, so that its start is not counted.
- with targets: the same, joined with ten logits a row (random numbers) that lie beside the examples.
- evaluation batches: all rows in order, in passes that each begin anew.
- passed over: a stream that begins at the last batch of an epoch; counted from its start until that batch is there.
- Examples a row: `TFRecordDataset`, `shuffle`, `batch` and `parse_example` of label, 13 numbers and 26 ids, with
  tf.data's own tuning; a record holds two features more, which it does not read.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import Measurement, base_parser, generated_log, measure, print_result, ratios, run_child, timed, write_json

BATCH = 4096
POOL = 1 << 16
"""Rows that the peer shuffles among each other: as many as are in our pools."""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__ or "", rows=1_000_000)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--epochs", type=int, default=10, help="passes over the rows that are counted (%(default)s)")
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--layout", default="blocks", help=argparse.SUPPRESS)
    parser.add_argument("--targets", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """Examples in a layout, and targets beside the blocks; nothing to do the second time."""
    from features.schema import CRITEO
    from pipeline.beam import make_options
    from pipeline.preprocess import preprocess
    from pipeline.settings import PreprocessConfig
    from pipeline.workspace import Run

    run, config = Run(str(options.run)), PreprocessConfig(layout=options.layout)

    def work() -> None:
        changed = preprocess(run, [str(options.log)], CRITEO, config, make_options([], options.workers), force=True)
        if changed and options.layout == "blocks":
            write_targets(training_files(run))

    logging.basicConfig(level=logging.ERROR)
    with run.lock():
        return {"rows": options.rows, **timed(work)}


def training_files(run: Any) -> list[str]:
    """The shards of the training rows."""
    from pipeline.workspace import EXAMPLES

    return [run.file(EXAMPLES, shard["path"]) for shard in run.shards("train") if shard["rows"]]


def target_path(examples: str) -> str:
    """Where the targets of a shard lie."""
    return f"{examples}.targets"


def write_targets(paths: list[str]) -> None:
    """Writes random logits for all rows of the shards."""
    import numpy as np

    from features.blocks import read_blocks
    from features.targets import TargetBlock
    from features.tfrecord import write_record
    from pipeline.settings import TeacherConfig

    random, outputs = np.random.default_rng(0), 2 * TeacherConfig().subclasses
    for path in paths:
        with open(path, "rb") as examples, open(target_path(path), "wb") as targets:
            for block in read_blocks(examples, path):
                logits = random.normal(size=(len(block), outputs)).astype(np.float32)
                write_record(targets, TargetBlock(logits, block.offsets, "benchmark").encode())


def shard_files(options: argparse.Namespace) -> tuple[Any, int]:
    """The training split of the run and its number of rows."""
    from models.inputs import ShardFiles
    from pipeline.settings import TeacherConfig
    from pipeline.workspace import Run

    run = Run(str(options.run))
    paths, spec = training_files(run), run.spec()
    files = ShardFiles(paths, (len(spec.schema.numeric), len(spec.schema.categorical)))
    if options.targets:
        outputs = 2 * TeacherConfig().subclasses
        files = replace(files, targets=[target_path(path) for path in paths], teacher="benchmark", outputs=outputs)
    return files, spec.rows["train"]


def taker(batches: Any, label: str = "label") -> Callable[[int], int]:
    """A function that takes so many batches and returns the number of their rows."""
    from models.backend import tf

    stream = iter(batches)

    @tf.function
    def take(number: Any) -> Any:
        rows = 0
        for _ in tf.range(number):
            rows += tf.shape(next(stream)[label])[0]
        return rows

    return lambda number: int(take(tf.constant(number)))


def measure_batches(batches: Any, rows: int, epochs: int, label: str = "label") -> dict[str, Any]:
    """Takes an epoch of an endless stream, then measures some more."""
    per_epoch = -(-rows // BATCH)
    take = taker(batches, label)
    take(per_epoch)
    taken: list[int] = []
    times = timed(lambda: taken.append(take(per_epoch * epochs)))
    if taken != [rows * epochs]:
        raise ValueError(f"An epoch must have all rows. Received: {taken[0]} of {rows * epochs} in {epochs} epochs.")
    return {"rows": taken[0], **times}


def training(options: argparse.Namespace) -> dict[str, Any]:
    """Shuffled batches of ours."""
    from models.inputs import training_batches

    files, rows = shard_files(options)
    return measure_batches(training_batches(files, BATCH, seed=0), rows, options.epochs)


def evaluation(options: argparse.Namespace) -> dict[str, Any]:
    """Batches of ours in order."""
    from models.inputs import evaluation_batches

    files, rows = shard_files(options)
    batches = evaluation_batches(files)

    def read() -> int:
        return sum(int(batch["label"].shape[0]) for batch in batches)

    if read() != rows:
        raise ValueError(f"A pass must have all rows. Received: {read()} of {rows}.")
    return {"rows": rows * options.epochs, **timed(lambda: [read() for _ in range(options.epochs)])}


def passed_over(options: argparse.Namespace) -> dict[str, Any]:
    """The way to the last batch of an epoch."""
    from models.inputs import training_batches

    files, rows = shard_files(options)
    last = (rows - 1) // BATCH
    batches = training_batches(files, BATCH, seed=0, start=(0, last))

    def first() -> int:
        return int(next(iter(batches))["label"].shape[0])

    if first() != rows - last * BATCH:
        raise ValueError(f"The last batch must have the other rows. Received: {first()} of {rows - last * BATCH}.")
    return {"rows": last * BATCH, **timed(first)}


def examples(options: argparse.Namespace) -> dict[str, Any]:
    """Plain Examples, read as tutorials do."""
    from models.backend import tf
    from pipeline.workspace import Run

    run = Run(str(options.run))
    spec = run.spec()
    schema, rows = spec.schema, spec.rows["train"]
    features = {schema.label: tf.io.FixedLenFeature([], tf.int64)}
    features |= {name: tf.io.FixedLenFeature([], tf.float32) for name in schema.numeric}
    features |= {name: tf.io.FixedLenFeature([], tf.int64) for name in schema.categorical}
    paths = training_files(run)
    records = tf.data.TFRecordDataset(paths, num_parallel_reads=min(16, len(paths))).shuffle(POOL, seed=0)
    batches = records.batch(BATCH).map(lambda found: tf.io.parse_example(found, features), tf.data.AUTOTUNE)
    # An epoch of it takes as long as many of ours.
    return measure_batches(batches.repeat().prefetch(tf.data.AUTOTUNE), rows, 1, schema.label)


CHILDREN = {
    "prepare": prepare,
    "training": training,
    "evaluation": evaluation,
    "passed_over": passed_over,
    "examples": examples,
}


def make_runs(options: argparse.Namespace) -> dict[str, Path]:
    """A run a layout."""
    log = generated_log(options.work, options.rows)
    runs = {layout: options.work / f"inputs-{options.rows}-{layout}" for layout in ("blocks", "rows")}
    common = {"work": options.work, "log": log, "rows": options.rows}
    setups = [
        Measurement(f"preprocess, {layout}", "prepare", {**common, "run": run, "layout": layout})
        for layout, run in runs.items()
    ]
    for prepared in measure(__file__, setups, 1):
        if prepared.reason:
            raise SystemExit(f"There must be examples to read. Received: {prepared.reason}")
    return runs


def main() -> None:
    """Measures everything, prints the table and the ratios."""
    options = make_parser().parse_args()
    if options.child:
        run_child(CHILDREN, options)
        return
    runs = make_runs(options)
    ours = {"work": options.work, "run": runs["blocks"], "rows": options.rows, "epochs": options.epochs}
    measurements = [
        Measurement("training batches", "training", ours),
        Measurement("training batches with targets", "training", {**ours, "targets": 1}),
        Measurement("evaluation batches", "evaluation", ours),
        Measurement("evaluation batches with targets", "evaluation", {**ours, "targets": 1}),
        Measurement("passed over", "passed_over", ours),
        Measurement("Examples a row", "examples", {**ours, "run": runs["rows"]}),
    ]
    *mine, peer = measure(__file__, measurements, options.repeats)
    found = dict(itertools.chain.from_iterable(ratios(outcome, [peer]).items() for outcome in mine))
    print_result([*mine, peer], found)
    write_json(options.json, [*mine, peer], found)


if __name__ == "__main__":
    main()

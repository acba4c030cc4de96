"""Precompute: rows/s of the job against the bare SavedModel called in a loop on blocks that are already in memory.

Each measurement runs in a fresh process in which TensorFlow has been imported, as it is in `ctr-distill run`.

- precompute: from the call of the job to its return: building the Beam pipeline, loading the SavedModel, its first
  call (in which TensorFlow optimises the graph), reading and decoding blocks, scoring, encoding, checksums, writing,
  manifest. Not counted: importing packages.
- bare SavedModel: its calls alone, on tensors made beforehand, one block after another; the model has been loaded and
  called once before. In threads: the same calls from as many Python threads as the job has.

Reading and writing are timed apart, in the process of the bare model, one block after another.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common import Measurement, base_parser, generated_log, measure, print_result, ratios, run_child, timed, write_json


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__ or "", rows=1_000_000)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--teacher-epochs", type=float, default=0.2, help="how long the teacher is trained")
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    return parser


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """Examples and a teacher with the default settings, trained briefly; nothing to do the second time."""
    from features.schema import CRITEO
    from pipeline.beam import make_options
    from pipeline.preprocess import preprocess
    from pipeline.settings import PreprocessConfig, TeacherConfig
    from pipeline.train_teacher import train_teacher
    from pipeline.workspace import Run

    def work() -> None:
        beam_options = make_options([], options.workers)
        preprocess(run, [str(options.log)], CRITEO, PreprocessConfig(), beam_options, force=True)
        train_teacher(run, TeacherConfig(epochs=options.teacher_epochs))

    run = Run(str(options.run))
    with run.lock():
        return {"rows": options.rows, **timed(work)}


def job(options: argparse.Namespace) -> dict[str, Any]:
    """The stage of the pipeline."""
    from models.backend import tf  # noqa: F401
    from pipeline import storage
    from pipeline.beam import make_options
    from pipeline.precompute import LoadedTeacher, precompute
    from pipeline.workspace import TARGETS, Run

    logging.basicConfig(level=logging.ERROR)
    run, beam_options = Run(str(options.run)), make_options([], options.workers)
    scored: list[float] = []
    score = LoadedTeacher.score

    def noted(self: LoadedTeacher, *block: Any) -> Any:
        logits = score(self, *block)
        scored.append(time.perf_counter())
        return logits

    with run.lock(), patch.object(LoadedTeacher, "score", noted):
        storage.remove(run.file(TARGETS))
        begun = time.perf_counter()
        times = timed(lambda: precompute(run, beam_options))
    rows = sum(shard["rows"] for shard in run.manifest(TARGETS)["shards"])
    return {"rows": rows, **times, "first_block_seconds": scored[0] - begun}


def bare(options: argparse.Namespace) -> dict[str, Any]:
    """The model's calls alone; and reading and writing alone."""
    import numpy as np

    from features.statistics import NO_FOLD
    from models.backend import tf
    from pipeline.workspace import TEACHER, Run

    run = Run(str(options.run))
    blocks: list[tuple[Any, bool]] = []
    read = timed(lambda: blocks.extend(read_blocks_of(run)))
    model = tf.saved_model.load(run.file(TEACHER, run.manifest(TEACHER)["models"][0]))
    inputs = []
    for block, training in blocks:
        fold = block.folds if training else np.full(len(block), NO_FOLD)
        inputs.append((tf.constant(block.ids), tf.constant(block.dense), tf.constant(fold, tf.int32)))

    def score(tensors: tuple[Any, ...]) -> Any:
        return model.score(*tensors)["logits"].numpy()

    score(inputs[0])
    logits: list[Any] = []
    with ThreadPoolExecutor(options.threads) as pool:
        times = timed(lambda: logits.extend((pool.map if options.threads > 1 else map)(score, inputs)))
    write = timed(lambda: write_targets(options.work, blocks, logits))
    rows = sum(len(block) for block, _ in blocks)
    return {"rows": rows, **times, "read_seconds": read["seconds"], "write_seconds": write["seconds"]}


def read_blocks_of(run: Any) -> Iterator[tuple[Any, bool]]:
    """All blocks of a run, each with whether it is of the training rows."""
    from features.blocks import read_blocks
    from features.spec import SPLITS
    from pipeline import storage
    from pipeline.workspace import EXAMPLES

    for split in SPLITS:
        for shard in run.shards(split):
            path = run.file(EXAMPLES, shard["path"])
            with storage.open_read(path) as file:
                for block in read_blocks(file, path):
                    yield block, split == "train"


def write_targets(work: Path, blocks: list[tuple[Any, bool]], logits: list[Any]) -> None:
    """Encodes, hashes and writes the targets of all blocks, to a file that is removed."""
    from features.targets import TargetBlock
    from features.tfrecord import write_record
    from pipeline import storage

    path = str(work / "targets.tfrecord")
    with storage.publish(path) as out:
        for (block, _), z in zip(blocks, logits, strict=True):
            write_record(out, TargetBlock(z, block.offsets, "benchmark").encode())
    storage.remove(path)


def print_shares(job_figures: dict[str, Any] | None, bare_figures: dict[str, Any] | None) -> None:
    """Prints the job's fixed cost, and what reading and writing take of the work done one block after another."""
    if job_figures:
        print(f"\nprecompute: {job_figures['first_block_seconds']:.2f} s until the first block is scored")
    if bare_figures:
        parts = {name: bare_figures[f"{name}_seconds"] for name in ("read", "write")}
        whole = bare_figures["seconds"] + sum(parts.values())
        shares = ", ".join(f"{name} {part:.3f} s ({part / whole:.1%})" for name, part in parts.items())
        print(f"one block after another: model {bare_figures['seconds']:.2f} s, {shares}")


def main() -> None:
    """Measures everything, prints the table and the ratios."""
    options = make_parser().parse_args()
    if options.child:
        run_child({"prepare": prepare, "job": job, "bare": bare}, options)
        return
    log = generated_log(options.work, options.rows)
    run = options.work / f"precompute-{options.rows}-{options.teacher_epochs}"
    common = {"work": options.work, "run": run, "rows": options.rows}
    setup = {"log": log, "teacher-epochs": options.teacher_epochs}
    (prepared,) = measure(__file__, [Measurement("examples and teacher", "prepare", {**common, **setup})], 1)
    if prepared.reason:
        raise SystemExit(f"There must be a teacher to measure. Received: {prepared.reason}")
    threads = options.workers
    measurements = [
        Measurement(f"precompute, workers={threads}", "job", {**common, "workers": threads}),
        Measurement("bare SavedModel in a loop", "bare", common),
        Measurement(f"bare SavedModel in {threads} threads", "bare", {**common, "threads": threads}),
    ]
    outcomes = measure(__file__, measurements, options.repeats)
    found = ratios(outcomes[0], outcomes[1:])
    print_result(outcomes, found)
    print_shares(outcomes[0].figures, outcomes[1].figures)
    write_json(options.json, outcomes, found)


if __name__ == "__main__":
    main()

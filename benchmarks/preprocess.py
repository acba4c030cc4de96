"""Preprocessing: rows/s of `preprocess` against parsing alone and against the classic way of doing it in Beam.

Each measurement runs in a fresh process; the log lies in the page cache. Counted is the work itself, not the start
of Python and its imports (the JSON has both). The classic job works on fewer rows, because it is slow; its process
is warmed up by a job on 200 rows, ours is not.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import Measurement, base_parser, generated_log, measure, print_result, ratios, run_child, timed, write_json

WARM_UP_ROWS = 200


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__ or "", rows=1_000_000)
    parser.add_argument("--classic-rows", type=int, default=20_000, help="rows of the classic job")
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    return parser


@contextmanager
def output_folder(work: Path) -> Iterator[Path]:
    """A new folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="preprocess-", dir=work))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """The stage of the pipeline, all that it does."""
    from features.schema import CRITEO
    from pipeline.beam import make_options
    from pipeline.config import PreprocessConfig
    from pipeline.preprocess import preprocess
    from pipeline.workspace import Run

    logging.basicConfig(level=logging.ERROR)
    with output_folder(options.work) as folder:
        run = Run(str(folder / "run"))
        inputs, beam_options = [str(options.log)], make_options([], options.workers)
        with run.lock():
            times = timed(lambda: preprocess(run, inputs, CRITEO, PreprocessConfig(), beam_options))
        lines = run.spec().lines
    if lines != options.rows:
        raise ValueError(f"preprocess must read every line. Received: {lines} of {options.rows}.")
    return {"rows": lines, **times}


def arrow(options: argparse.Namespace) -> dict[str, Any]:
    """`pyarrow.csv`, all columns with their types, on all cores; the table is thrown away."""
    import pyarrow as pa
    from pyarrow import csv

    from features.schema import CATEGORICAL, CRITEO

    types = {c.name: pa.binary() if c.kind == CATEGORICAL else pa.int64() for c in CRITEO.columns}
    settings = (
        csv.ReadOptions(use_threads=True, column_names=list(types)),
        csv.ParseOptions(delimiter="\t", quote_char=False),
        csv.ConvertOptions(column_types=types),
    )
    tables: list[pa.Table] = []
    times = timed(lambda: tables.append(csv.read_csv(options.log, *settings)))
    if len(tables[0]) != options.rows:
        raise ValueError(f"pyarrow.csv must read every line. Received: {len(tables[0])} of {options.rows}.")
    return {"rows": len(tables[0]), **times}


# In threads this runner has written 19,774 of the 20,000 rows of this job.
_ONE_THREAD = ["--direct_running_mode=in_memory"]


def classic(options: argparse.Namespace) -> dict[str, Any]:
    """The classic job on the same local runner."""
    import classic_beam
    import tensorflow  # noqa: F401

    from pipeline.beam import make_options

    logging.basicConfig(level=logging.ERROR)
    with output_folder(options.work) as folder:
        first = write_head(options.log, folder / "first.tsv", WARM_UP_ROWS)
        classic_beam.run(str(first), str(folder / "warm-up"), make_options(_ONE_THREAD))
        beam_options = make_options(_ONE_THREAD)
        times = timed(lambda: classic_beam.run(str(options.log), str(folder / "out"), beam_options))
        rows = sum(count_records(path) for path in folder.glob("out*"))
    if rows != options.rows:
        raise ValueError(f"The classic job must write every row. Received: {rows} of {options.rows}.")
    return {"rows": rows, **times}


def count_records(path: Path) -> int:
    """Number of records of a TFRecord file."""
    from features.tfrecord import read_records

    with path.open("rb") as file:
        return sum(1 for _ in read_records(file, str(path)))


def write_head(log: Path, path: Path, rows: int) -> Path:
    """Writes the first rows of a log to a file of their own, unless it is there."""
    if not path.exists():
        with log.open("rb") as source, path.open("wb") as target:
            target.writelines(itertools.islice(source, rows))
    return path


def warm_cache(path: Path) -> None:
    """Reads a file once, so that no measurement pays for the disk."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def main() -> None:
    """Measures everything, prints the table and the ratios."""
    options = make_parser().parse_args()
    if options.child:
        run_child({"ours": ours, "arrow": arrow, "classic": classic}, options)
        return
    log = generated_log(options.work, options.rows)
    warm_cache(log)
    rows = min(options.classic_rows, options.rows)
    head = write_head(log, options.work / f"log-{options.rows}-first-{rows}.tsv", rows)
    whole = {"work": options.work, "log": log, "rows": options.rows}
    threads = {"workers": options.workers}
    measurements = [
        Measurement(f"preprocess, workers={options.workers}", "ours", {**whole, **threads}),
        Measurement("pyarrow.csv, parsing alone", "arrow", whole),
        Measurement("classic Beam, an Example a row", "classic", {**whole, **threads, "log": head, "rows": rows}),
    ]
    if options.workers > 1:
        measurements.insert(1, Measurement("preprocess, workers=1", "ours", {**whole, "workers": 1}))
    outcomes = measure(__file__, measurements, options.repeats)
    found: dict[str, float | None] = {}
    for outcome in outcomes[:-2]:
        found |= ratios(outcome, outcomes[-2:])
    print_result(outcomes, found)
    write_json(options.json, outcomes, found)


if __name__ == "__main__":
    main()

"""Preprocessing: rows/s of `preprocess` against named peers in one sitting.

--peers chooses among them (`all` for all):

- arrow: `pyarrow.csv` parsing alone, all columns with their types;
- classic: the classic Beam job, a dict a row (classic_beam.py);
- polars: a program that does the same work to parquet files (peers/polars);
- tft: TensorFlow Transform as TensorFlow's Model Garden preprocesses Criteo (peers/tft);
- fuxictr: the build step of FuxiCTR (peers/fuxictr).

What each does less or more than `preprocess` stands at the top of its script. The last three have their own venvs,
which are made when they are first chosen. A peer that fails has a reason in place of figures.

Each measurement runs in a fresh process; the log lies in the page cache. Counted is the work itself, not the start of
Python and its imports (the JSON has both). Slow peers work on fewer rows; the classic job is warmed up by a job on 200
rows, ours is not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import (
    Measurement,
    Outcome,
    base_parser,
    generated_log,
    measure,
    print_result,
    ratios,
    run_child,
    timed,
    write_json,
)
from venvs import install, program

WARM_UP_ROWS = 200
PEERS = {
    "arrow": "pyarrow.csv, parsing alone",
    "classic": "classic Beam, an Example a row",
    "polars": "Polars, to parquet",
    "tft": "TensorFlow Transform",
    "fuxictr": "FuxiCTR's build step",
}
OWN_VENVS = ("polars", "tft", "fuxictr")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__ or "", rows=1_000_000)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--peers", type=peer_list, default="arrow,classic", help="with commas, or all (%(default)s)")
    parser.add_argument("--classic-rows", type=int, default=20_000, help="rows of the classic job (%(default)s)")
    parser.add_argument("--tft-rows", type=int, default=20_000, help="rows of TensorFlow Transform (%(default)s)")
    parser.add_argument("--fuxictr-rows", type=int, default=100_000, help="rows of FuxiCTR (%(default)s)")
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    return parser


def peer_list(text: str) -> list[str]:
    """The peers that a text names."""
    names = list(PEERS) if text == "all" else text.split(",") if text else []
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"must be among {', '.join(PEERS)}, or all; received {unknown[0]}")
    return names


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
    from pipeline.preprocess import preprocess
    from pipeline.settings import PreprocessConfig
    from pipeline.workspace import Run

    logging.basicConfig(level=logging.ERROR)
    with output_folder(options.work) as folder:
        run = Run(str(folder / "run"))
        inputs, beam_options = [str(options.log)], make_options([], options.workers)
        with run.lock(), kept_errors() as said:
            times = timed(lambda: preprocess(run, inputs, CRITEO, PreprocessConfig(), beam_options))
        lines = run.spec().lines
    if lines != options.rows:
        raise ValueError(f"preprocess must read every line. Received: {lines} of {options.rows}.")
    return {"rows": lines, **times, "phases": phase_seconds(said.getvalue())}


@contextmanager
def kept_errors() -> Iterator[io.StringIO]:
    """Keeps what the body writes to the standard error; it is passed on in the end."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield said
    finally:
        sys.stderr.write(said.getvalue())


def phase_seconds(said: str) -> dict[str, float]:
    """Processor seconds of all workers by phase, from the line with which `preprocess` ends; empty without it."""
    lines = [line for line in said.splitlines() if line.startswith("preprocess: ")]
    found = re.findall(r"\b([a-z]+) ([0-9.]+) s(?=,| \()", lines[-1]) if lines else []
    return {name: float(seconds) for name, seconds in found}


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


def our_measurements(options: argparse.Namespace, log: Path) -> list[Measurement]:
    """The stage with a worker a core, and with one."""
    common = {"work": options.work, "log": log, "rows": options.rows}
    return [
        Measurement(f"preprocess, workers={workers}", "ours", {**common, "workers": workers})
        for workers in dict.fromkeys((options.workers, 1))
    ]


def peer_measurement(peer: str, options: argparse.Namespace, log: Path) -> Measurement:
    """A peer on its rows of the log."""
    rows = min(options.rows, getattr(options, f"{peer}_rows", options.rows))
    if rows < options.rows:
        log = write_head(log, options.work / f"log-{options.rows}-first-{rows}.tsv", rows)
    common = {"work": options.work, "log": log, "rows": rows}
    if peer == "polars":
        common["workers"] = options.workers
    return Measurement(PEERS[peer], peer, common, program(peer) if peer in OWN_VENVS else ())


def print_phases(outcomes: Sequence[Outcome]) -> None:
    """Prints the share of each phase in the processor time of our stage."""
    for outcome in outcomes:
        phases = (outcome.figures or {}).get("phases")
        if outcome.figures and phases:
            whole = outcome.figures["cpu_seconds"]
            shares = {**phases, "rest": whole - sum(phases.values())}
            text = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in shares.items())
            print(f"{outcome.name}, processor time: {text}")


def main() -> None:
    """Measures everything, prints the table, the ratios and the phases."""
    options = make_parser().parse_args()
    if options.child:
        run_child({"ours": ours, "arrow": arrow, "classic": classic}, options)
        return
    log = generated_log(options.work, options.rows)
    warm_cache(log)
    first = our_measurements(options, log)
    peers = [peer_measurement(peer, options, log) for peer in options.peers]
    reasons = {PEERS[peer]: install(peer) for peer in options.peers if peer in OWN_VENVS}
    failed = {name: reason for name, reason in reasons.items() if reason}
    outcomes = measure(__file__, [*first, *peers], options.repeats, failed)
    found: dict[str, float | None] = {}
    for outcome in outcomes[: len(first)]:
        found |= ratios(outcome, outcomes[len(first) :])
    print_result(outcomes, found)
    print_phases(outcomes)
    write_json(options.json, outcomes, found)


if __name__ == "__main__":
    main()

"""Memory: the peak of `preprocess` on logs of several sizes, beside its vocabulary and beside what it foretells.

python benchmarks/memory.py [--rows 1000000 10000000 40000000] [--keep] [--json OUT]

Each peak is that of a fresh process which does nothing else. The vocabulary grows with the log until every column has
its largest number of values: `vocabulary` is what is held of it while rows are transformed (values and their index),
measured in another process, and `on disk` are its files. The peak is flat if without the vocabulary (`rest`) the
largest is at most 1.2 times the smallest. `peak disk` is the most that the run's files have at any time. The estimates
are what `preprocess --dry-run` says of both beforehand.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common import Measurement, Outcome, generated_log, measure, run_child, timed

FLAT = 1.2
COLUMNS = {
    "seconds": "seconds",
    "peak MB": "peak_mb",
    "vocabulary": "vocabulary_mb",
    "rest": "rest_mb",
    "on disk": "vocabulary_disk_mb",
    "values": "vocabulary_values",
    "peak disk": "disk_mb",
    "est. memory": "estimated_memory_mb",
    "est. disk": "estimated_disk_mb",
}
"""Figures of the table by their heads; of memory and disk in MB."""

Figures = dict[str, Any]


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [1_000_000, 10_000_000, 40_000_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help="rows of the generated logs (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="of the stage (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave logs and runs where they are")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="folder of both (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    return parser


def stage(options: argparse.Namespace) -> Figures:
    """The stage of the pipeline."""
    from features.schema import CRITEO
    from pipeline.beam import make_options
    from pipeline.preprocess import preprocess
    from pipeline.settings import PreprocessConfig
    from pipeline.workspace import Run

    logging.basicConfig(level=logging.ERROR)
    run, beam_options = Run(str(options.run)), make_options([], options.workers)
    with run.lock(), watched_disk(options.run) as sizes:
        times = timed(lambda: preprocess(run, [str(options.log)], CRITEO, PreprocessConfig(), beam_options))
    lines = run.spec().lines
    if [lines] != options.rows:
        raise ValueError(f"preprocess must read every line. Received: {lines} of {options.rows[0]}.")
    return {"rows": lines, **times, "disk_mb": max(sizes)}


def vocabulary(options: argparse.Namespace) -> Figures:
    """What transforming rows holds of the vocabulary, values (Arrow) and index (NumPy), and what it has on disk."""
    import pyarrow as pa

    from features.schema import CRITEO
    from features.values import ValueIndex
    from pipeline.analyze import read_values

    folder = options.run / "examples" / "vocabulary"
    held: list[tuple[Any, ValueIndex]] = []

    def load() -> None:
        for name in CRITEO.categorical:
            values = read_values(str(folder), name)
            held.append((values, ValueIndex(values)))

    tracemalloc.start()
    times = timed(load)
    return {
        "rows": options.rows[0],
        **times,
        "values": sum(len(values) for values, _ in held),
        "memory_mb": (tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes()) / 1e6,
        "disk_mb": megabytes(folder),
    }


def estimate(options: argparse.Namespace) -> Figures:
    """What ``preprocess --dry-run`` foretells."""
    from features.schema import CRITEO
    from pipeline.estimate import Estimate, estimate
    from pipeline.settings import PreprocessConfig

    found: list[Estimate] = []
    work = [str(options.log)], CRITEO, PreprocessConfig(), options.workers
    times = timed(lambda: found.append(estimate(*work)))
    return {"rows": found[0].rows, **times, "memory_mb": found[0].memory / 1e6, "disk_mb": found[0].peak_disk / 1e6}


def megabytes(folder: Path) -> float:
    """Size of all files below a folder; what disappears meanwhile does not count."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size / 1e6


@contextmanager
def watched_disk(folder: Path) -> Iterator[list[float]]:
    """Looks at the size of a folder twice a second while the body runs; the list gets the sizes in MB."""
    ended = threading.Event()
    sizes = [0.0]

    def watch() -> None:
        while not ended.wait(0.5):
            sizes.append(megabytes(folder))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sizes
    finally:
        ended.set()
        thread.join()
        sizes.append(megabytes(folder))


def measure_size(options: argparse.Namespace, rows: int) -> tuple[Figures | None, dict[str, str]]:
    """All figures of a log, and why some are missing; the run is removed, and the log unless it was there before."""
    known = set(options.work.glob(f"log-{rows}.*"))
    log, run = generated_log(options.work, rows), options.work / f"memory-{rows}"
    shutil.rmtree(run, ignore_errors=True)
    shared = {"rows": rows, "log": log, "run": run, "workers": options.workers}
    children = {f"{child}, {rows} rows": child for child in ("estimate", "stage", "vocabulary")}
    try:
        outcomes = measure(__file__, [Measurement(name, child, shared) for name, child in children.items()], 1)
        return _figures(outcomes), {outcome.name: outcome.reason for outcome in outcomes if outcome.reason}
    finally:
        if not options.keep:
            shutil.rmtree(run, ignore_errors=True)
            for path in set(options.work.glob(f"log-{rows}.*")) - known:
                path.unlink()


def _figures(outcomes: Sequence[Outcome]) -> Figures | None:
    foretold, whole, part = (outcome.figures for outcome in outcomes)
    if whole is None or part is None:
        return None
    # It comes in units of 2^20 bytes.
    peak = whole["peak_mb"] * 2**20 / 1e6
    return {
        "rows": whole["rows"],
        "seconds": whole["seconds"],
        "peak_mb": peak,
        "rest_mb": peak - part["memory_mb"],
        "disk_mb": whole["disk_mb"],
        "vocabulary_values": part["values"],
        "vocabulary_mb": part["memory_mb"],
        "vocabulary_disk_mb": part["disk_mb"],
        "estimated_memory_mb": foretold and foretold["memory_mb"],
        "estimated_disk_mb": foretold and foretold["disk_mb"],
    }


def print_table(sizes: dict[int, Figures | None], reasons: dict[str, str]) -> None:
    """A line a log, then the reasons of what is missing."""
    print("  ".join(f"{head:>11}" for head in ("rows", *COLUMNS)))
    for rows, figures in sizes.items():
        numbers = [figures and figures[name] for name in COLUMNS.values()]
        cells = [f"{rows:,}", *("none" if number is None else f"{number:,.0f}" for number in numbers)]
        print("  ".join(f"{cell:>11}" for cell in cells))
    for name, reason in reasons.items():
        print(f"{name}: none: {reason}")


def find_ratios(sizes: dict[int, Figures | None]) -> dict[str, float | None]:
    """Largest over smallest peak, whole and apart from the vocabulary, and estimates over what was measured."""
    good = [f for f in sizes.values() if f]
    whole = len(good) == len(sizes)
    peaks = [f["peak_mb"] for f in good]
    rests = [f["rest_mb"] for f in good]
    found: dict[str, float | None] = {
        "largest peak vs smallest": max(peaks) / min(peaks) if whole else None,
        "largest peak vs smallest, without the vocabulary": max(rests) / min(rests) if whole else None,
    }
    for rows, f in sizes.items():
        for what, measured in (("memory", "peak_mb"), ("disk", "disk_mb")):
            foretold = f and f[f"estimated_{what}_mb"]
            found[f"estimate vs {what}, {rows} rows"] = foretold / f[measured] if f and foretold else None
    return found


def main() -> None:
    """Measures the sizes one after another, prints the table and the verdict."""
    options = make_parser().parse_args()
    if options.child:
        run_child({"estimate": estimate, "stage": stage, "vocabulary": vocabulary}, options)
        return
    measured = {rows: measure_size(options, rows) for rows in options.rows}
    sizes = {rows: figures for rows, (figures, _) in measured.items()}
    reasons = {name: reason for _, parts in measured.values() for name, reason in parts.items()}
    found = find_ratios(sizes)
    print_table(sizes, reasons)
    print()
    for name, ratio in found.items():
        print(f"{name}: {'none' if ratio is None else f'{ratio:.2f}'}")
    ratio = found["largest peak vs smallest, without the vocabulary"]
    print(f"flat apart from the vocabulary (at most {FLAT}): {'yes' if ratio is not None and ratio <= FLAT else 'no'}")
    if options.json:
        value = {"ratios": found, "figures": sizes, "reasons": reasons}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

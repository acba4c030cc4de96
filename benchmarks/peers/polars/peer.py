"""Polars as a peer: the work of ``preprocess`` on a Criteo-format log, to a parquet file a split.

Split 70/15/15 by position; vocabularies from the training rows, by falling count, then by value (ids: 0 missing, 1
unseen); numbers as signed logarithm, standardised with mean and deviation of the training rows.

Less than ``preprocess``: no counts and clicks by fold, no bucket edges, no byte offsets, no permuted rows, no rejects
(a bad line ends the job), no resume after a kill; all rows are in memory, as codes. More: compressed output.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True, help="Criteo-format log")
    parser.add_argument("--rows", type=int, required=True, help="rows of the log")
    parser.add_argument("--work", type=Path, required=True, help="folder for the output, which is removed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads")
    parser.add_argument("--engine", choices=("streaming", "in-memory"), default="streaming", help="the faster one")
    parser.add_argument("--min-count", type=int, default=1)
    parser.add_argument("--max-vocabulary", type=int, default=500_000)
    return parser.parse_args()


def main() -> None:
    """Does the work once and prints its figures."""
    options = parse_arguments()
    # Polars reads them when it is imported.
    os.environ["POLARS_MAX_THREADS"] = str(options.workers)
    os.environ["POLARS_ENGINE_AFFINITY"] = options.engine
    from criteo import build, count_rows

    with tempfile.TemporaryDirectory(prefix="polars-", dir=options.work) as name:
        folder = Path(name)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        build(options.log, folder, options.min_count, options.max_vocabulary)
        times = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - begun_cpu}
        rows = count_rows(folder)
    if rows != options.rows:
        raise ValueError(f"Polars must write every row. Received: {rows} of {options.rows}.")
    print(json.dumps({"rows": rows, **times}))


if __name__ == "__main__":
    main()

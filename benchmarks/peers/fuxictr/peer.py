"""FuxiCTR as a peer: its build step on a Criteo-format log, with the feature processor that it ships for Criteo.

The settings are those of its ``Criteo_x4`` (integers to buckets of a squared logarithm, then a vocabulary for each of
the 39 columns from the training rows, by falling count), with a minimum count of 1 as ours. Polars counts, and Ray maps
the rows to ids, a dict look-up a value; parquet files are written, one a split.

Less than ``preprocess``: no counts and clicks by fold, no rejects (a bad line ends the job), no permuted rows, missing
and unseen values share an id, a vocabulary has no largest size. More: vocabularies of the 13 numeric columns. Not
counted, because the package wants it so: the log cut into three files with a header, and the start of Ray. The peak of
memory is that of the calling process; Ray's workers come on top.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

# Before Ray is imported: it would report its use over the network.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import pyarrow.parquet as pq  # noqa: E402
from fuxictr.datasets.criteo import CustomizedFeatureProcessor  # noqa: E402
from fuxictr.preprocess.build_dataset import build_dataset, init_ray  # noqa: E402

LABEL = "label"
NUMERIC = [f"I{i}" for i in range(1, 14)]
CATEGORICAL = [f"C{i}" for i in range(1, 27)]
SPLITS = ("train", "valid", "test")


def split_log(log: Path, rows: int, folder: Path) -> dict[str, Path]:
    """Cuts the log 70/15/15 by position into files with a header."""
    header = "\t".join([LABEL, *NUMERIC, *CATEGORICAL]) + "\n"
    ends = [round(rows * share) for share in (0.7, 0.85, 1.0)]
    paths = {split: folder / f"{split}.csv" for split in SPLITS}
    with log.open("rb") as source:
        for path, size in zip(paths.values(), _sizes(ends), strict=True):
            with path.open("wb") as target:
                target.write(header.encode())
                target.writelines(islice(source, size))
    return paths


def _sizes(ends: list[int]) -> Iterator[int]:
    yield from (end - start for start, end in zip([0, *ends], ends, strict=False))


def processor(folder: Path) -> Any:
    """The feature processor of Criteo_x4."""
    numeric = {"name": NUMERIC, "dtype": "float", "preprocess": "convert_to_bucket", "fill_na": 0}
    categorical = {"name": CATEGORICAL, "dtype": "str", "fill_na": ""}
    columns = [{"active": True, "type": "categorical", **part} for part in (numeric, categorical)]
    label = {"name": LABEL, "dtype": "float"}
    return CustomizedFeatureProcessor(columns, label, dataset_id="criteo", data_root=str(folder))


def main() -> None:
    """Builds the data set once and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuxictr-", dir=options.work.resolve()) as name:
        folder = Path(name)
        files = {f"{split}_data": str(path) for split, path in split_log(options.log, options.rows, folder).items()}
        init_ray()
        begun = time.perf_counter()
        build_dataset(processor(folder), **files, sep="\t", min_categr_count=1)
        seconds = time.perf_counter() - begun
        rows = sum(pq.read_metadata(path).num_rows for path in (folder / "criteo").glob("*.parquet"))
    if rows != options.rows:
        raise ValueError(f"FuxiCTR must write every row. Received: {rows} of {options.rows}.")
    print(json.dumps({"rows": rows, "seconds": seconds}))


if __name__ == "__main__":
    main()

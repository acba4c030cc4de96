"""Tunes logistic regression, LightGBM, XGBoost and CatBoost on a Criteo-format log (see README.md)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from boosting import catboost_peer, lightgbm_peer, xgboost_peer
from logistic import logistic
from rows import Rows, read_rows
from search import Peer, Result, tune

PEERS: dict[str, Callable[[Rows, int, int], Peer]] = {
    "logistic": logistic,
    "lightgbm": lightgbm_peer,
    "xgboost": xgboost_peer,
    "catboost": catboost_peer,
}
PACKAGES = ("lightgbm", "xgboost-cpu", "catboost", "scikit-learn", "scipy", "pandas", "numpy", "pyarrow")
UNFINISHED = "the process ended while or before this model was trained"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--input", type=Path, required=True, help=".tsv or .tsv.gz: label, 13 integers, 26 values")
    made.add_argument("--split", default="70/15/15", help="train/valid/test: row counts, or shares of 1 or 100")
    made.add_argument("--models", default=",".join(PEERS), help="comma separated")
    made.add_argument("--trials", type=int, default=8, help="trials a model: the usual setting, then random ones")
    made.add_argument("--budget", type=float, default=300.0, help="seconds a model: no trial begins beyond")
    made.add_argument("--seed", type=int, default=0, help="of the trials, the folds and the models")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads for boosting")
    made.add_argument("--predictions", type=Path, help="directory for <model>.parquet; not written without")
    made.add_argument("--json", type=Path, required=True, help="where the numbers go")
    return made


def write_predictions(path: Path, rows: Rows, predictions: dict[str, Any]) -> None:
    """Write row number, line offset, split, label and p of the validation and test rows."""
    parts = []
    for split, p in predictions.items():
        where = rows.split[split]
        columns = {
            "row": np.arange(where.start, where.stop, dtype=np.int64),
            "offset": rows.offset[where],
            "split": np.full(len(p), split),
            "label": rows.label[where],
            "p": np.asarray(p, dtype=np.float64),
        }
        parts.append(pa.table({name: pa.array(values) for name, values in columns.items()}))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(parts), path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def table(models: dict[str, dict[str, Any] | None], failed: dict[str, str]) -> str:
    """Return one line a model, for people."""
    lines = [f"{'model':<10} {'valid':>8} {'test':>8} {'test AUC':>8} {'seconds':>8} {'trials':>6}"]
    for name, found in models.items():
        if found is None:
            lines.append(f"{name:<10} failed: {failed[name]}")
            continue
        test = [found[key] for key in ("test_logloss", "test_auc")]
        shown = " ".join(f"{'-' if value is None else format(value, '.5f'):>8}" for value in test)
        lines.append(f"{name:<10} {found['valid_logloss']:8.5f} {shown} {found['seconds']:8.1f} {found['trials']:6d}")
    return "\n".join(lines)


def run_one(name: str, rows: Rows, options: argparse.Namespace) -> tuple[Result | None, str]:
    """Tune one model; a failure of whatever kind is a reason, not the end of the other models."""
    try:
        peer = PEERS[name](rows, options.seed, options.threads)
        return tune(name, peer, rows, options.trials, options.seed, options.budget), ""
    except Exception as error:
        traceback.print_exc()
        return None, f"{type(error).__name__}: {error}".splitlines()[0]


def run(rows: Rows, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Tune all models; the JSON is rewritten after each, so that a crash leaves what was done."""
    models: dict[str, dict[str, Any] | None] = dict.fromkeys(names)
    failed = dict.fromkeys(names, UNFINISHED)
    report = {
        "rows": {split: part.stop - part.start for split, part in rows.split.items()},
        "seed": options.seed,
        "trials": options.trials,
        "budget_seconds": options.budget,
        "threads": options.threads,
        "versions": {package: version(package) for package in PACKAGES},
        "models": models,
        "failed": failed,
    }
    write_json(options.json, report)
    for name in names:
        result, reason = run_one(name, rows, options)
        failed.pop(name)
        if result is None:
            failed[name] = reason
        else:
            models[name] = result.metrics
            if options.predictions is not None:
                write_predictions(options.predictions / f"{name}.parquet", rows, result.predictions)
        write_json(options.json, report)
    return report


def main() -> int:
    """Run; exit 0 if every model has numbers, 1 if one failed, 2 for a mistake in the call."""
    options = parser().parse_args()
    names = options.models.split(",")
    try:
        if unknown := sorted(set(names) - set(PEERS)):
            raise ValueError(f"--models must be among {', '.join(PEERS)}; received {', '.join(unknown)}")
        if options.trials < 1:
            raise ValueError(f"--trials must be at least 1, received {options.trials}")
        rows = read_rows(options.input, options.split)
    except (OSError, ValueError) as error:
        print(f"peer.py: {error}", file=sys.stderr)
        return 2
    report = run(rows, names, options)
    print(table(report["models"], report["failed"]))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

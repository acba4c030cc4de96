"""The boosting peers in serving: `--part train` saves a model with its encoder, `--part measure` asks it.

`serving.py --part train --model lightgbm --folder DIR --rows FILE --split 70000/15000/15000 --threads 2`
`serving.py --part measure --model lightgbm --folder DIR --test FILE --threads 2 --seconds 1`

Each has its usual setting (the first trial of peer.py) and stops on the validation rows. LightGBM and XGBoost get the
log-odds and log-count of each value from a table; CatBoost takes the values themselves. Lines are split by Python below
256 rows and read by pyarrow above; so few rows are scored by one thread, more by all. Timing and reading are those of
benchmarks/serving_clock.py and serving_rows.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

import catboost  # noqa: E402
import lightgbm  # noqa: E402
import numpy as np  # noqa: E402
import xgboost  # noqa: E402
from boosting import (  # noqa: E402
    CATBOOST_USUAL,
    LIGHTGBM_USUAL,
    XGBOOST_USUAL,
    catboost_peer,
    lightgbm_peer,
    xgboost_peer,
)
from encoder import Encoder  # noqa: E402
from rows import Rows, read_rows  # noqa: E402
from serving_clock import Way, logloss, time_ways  # noqa: E402
from serving_rows import FEW, LogRows, read_lines, split_lines  # noqa: E402

SEED = 0
MODELS = ("lightgbm", "xgboost", "catboost")


class Boosted:
    """LightGBM or XGBoost with the table that makes their inputs.

    Args:
        name: of the model.
        folder: of its files.
        threads: for many rows.
    """

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self._encoder, self._threads = Encoder.read(folder / "encoder.parquet"), threads
        if name == "lightgbm":
            booster = lightgbm.Booster(model_file=folder / "model.txt")
            self._predict = lambda x, threads: booster.predict(x, num_threads=threads)
        else:
            model = xgboost.Booster(model_file=folder / "model.ubj")
            self._predict = lambda x, threads: self._xgboost(model, x, threads)

    @staticmethod
    def _xgboost(model: xgboost.Booster, x: np.ndarray, threads: int) -> np.ndarray:
        model.set_param("nthread", threads)
        found: np.ndarray = model.inplace_predict(x)
        return found

    def from_lines(self, lines: list[bytes]) -> np.ndarray:
        """Click probabilities of raw lines."""
        if len(lines) < FEW:
            return self.from_columns(split_lines(lines))
        return self._score(*self._encoder.encode_read(*read_lines(lines)))

    def from_columns(self, columns: Any) -> np.ndarray:
        """Click probabilities of columns."""
        return self._score(*self._encoder.encode(*columns))

    def _score(self, numbers: np.ndarray, statistics: np.ndarray) -> np.ndarray:
        x = np.hstack([numbers, statistics])
        return self._predict(x, 1 if len(x) < FEW else self._threads)


class Categories:
    """CatBoost with its own table of the categories.

    Args:
        folder: of its file.
        threads: for many rows.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self._model, self._threads = catboost.CatBoost().load_model(str(folder / "model.cbm")), threads

    def from_lines(self, lines: list[bytes]) -> np.ndarray:
        """Click probabilities of raw lines."""
        return self.from_columns(split_lines(lines))

    def from_columns(self, columns: Any) -> np.ndarray:
        """Click probabilities of columns."""
        threads = 1 if len(columns[0]) < FEW else self._threads
        found = self._model.predict(features_of(*columns), prediction_type="Probability", thread_count=threads)
        return found[:, 1]


def features_of(numbers: np.ndarray, values: list[Any]) -> catboost.FeaturesData:
    """What CatBoost takes without a look at each cell."""
    texts = np.empty((len(numbers), len(values)), object)
    for index, column in enumerate(values):
        texts[:, index] = column
    return catboost.FeaturesData(np.ascontiguousarray(numbers), texts)


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Trains and saves; nothing to do the second time."""
    begun, folder = time.perf_counter(), options.folder / options.model
    if not folder.exists():
        begun_folder = folder.with_name(folder.name + ".begun")
        begun_folder.mkdir(parents=True, exist_ok=True)
        rows = read_rows(options.rows, options.split)
        save(options.model, rows, options, begun_folder)
        begun_folder.rename(folder)
    return {"rows": 0, "seconds": time.perf_counter() - begun}


def save(name: str, rows: Rows, options: argparse.Namespace, folder: Path) -> None:
    """Trains a model on rows and writes its files."""
    if name == "catboost":
        log = LogRows.read(options.rows)
        pools = {
            part: catboost.Pool(features_of(*log.slice_columns(place.start, place.stop)), rows.labels(part))
            for part, place in rows.split.items()
        }
        peer = catboost_peer(rows, SEED, options.threads, pools)
        peer.fit(CATBOOST_USUAL).model.save_model(str(folder / "model.cbm"))
        return
    make, usual = {"lightgbm": (lightgbm_peer, LIGHTGBM_USUAL), "xgboost": (xgboost_peer, XGBOOST_USUAL)}[name]
    model = make(rows, SEED, options.threads).fit(usual).model
    Encoder.of(rows, usual["smoothing"]).write(folder / "encoder.parquet")
    if name == "lightgbm":
        model.save_model(folder / "model.txt", num_iteration=model.best_iteration)
    else:
        booster = model.get_booster()
        booster[: model.best_iteration + 1].save_model(folder / "model.ubj")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a saved model."""
    folder, rows = options.folder / options.model, LogRows.read(options.test)
    name, threads = options.model, options.threads
    model = Categories(folder, threads) if name == "catboost" else Boosted(name, folder, threads)
    ways = [
        Way("lines", rows.slice_lines, model.from_lines),
        Way("columns", rows.slice_columns, model.from_columns),
    ]
    figures = time_ways(ways, len(rows), options.seconds)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return figures | {"logloss": logloss(ways[0], rows.labels), "bytes": size}


def main() -> None:
    """Runs one part and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("train", "measure"), required=True)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="of the models")
    parser.add_argument("--rows", type=Path, help="log to train on")
    parser.add_argument("--split", help="rows of train/valid/test")
    parser.add_argument("--test", type=Path, help="log of the test rows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each way and size")
    options = parser.parse_args()
    print(json.dumps((train if options.part == "train" else measure)(options)))


if __name__ == "__main__":
    main()

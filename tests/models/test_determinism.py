"""The same bits at every training. TensorFlow must be told before it starts, so the trainings run in a fresh process.

Run as a script, this file trains models on shards in the folder that is named on its command line, and prints a digest
of each. That two processes train the same teachers and students is shown where the stages one by one are the main job.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from features.blocks import Block
from features.crosses import cross_rows, find_crosses
from features.statistics import ClickCounts
from features.targets import TargetBlock
from features.tfrecord import write_record
from models import determinism
from models.backend import tf, tfrs
from models.inputs import ShardFiles, evaluation_batches, training_batches
from models.methods import METHODS
from models.student import Student, StudentSettings, StudentTrunk
from models.tables import CrossStatistics, FoldTables, TableLayout
from models.teacher import Teacher
from models.teacher_trunk import TeacherSettings, TeacherTrunk
from models.training import LoopSettings, fit, start
from pipeline.config import narrow
from pipeline.settings import StudentConfig, TeacherConfig, TrainingConfig

ROOT = Path(__file__).parents[2]
ROWS, VALID = 640, 200
HALVES = (slice(0, ROWS // 2), slice(ROWS // 2, ROWS))
IDS = (6, 40)
EDGES = ((0.0,), (-1.0, 1.0), ())
OUTPUTS = 4
# The teacher of fold 1 of 5 never sees these.
FOLDS = (1, 6)


def make_block(rows: int, seed: int, flipped: tuple[int, ...] = ()) -> Block:
    """Random rows; the labels of some folds may be flipped."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, 3)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.1] = np.nan
    ids = np.stack([rng.integers(size, size=rows) for size in IDS], axis=1).astype(np.int32)
    fold = rng.integers(10, size=rows).astype(np.uint8)
    label = (rng.random(rows) < 0.2 + 0.6 * (ids[:, 0] % 2)).astype(np.uint8)
    return Block(np.where(np.isin(fold, flipped), 1 - label, label), dense, ids, fold, np.arange(rows) * 100)


def count(block: Block) -> ClickCounts:
    """Click counts of training rows."""
    starts = np.cumsum([0, *IDS[:-1]])
    counts, clicks = np.zeros((2, sum(IDS), 10), np.int64)
    cell = (block.ids + starts, block.folds[:, np.newaxis].astype(np.int64))
    np.add.at(counts, cell, 1)
    np.add.at(clicks, cell, block.labels[:, np.newaxis])
    rows, row_clicks = (np.bincount(block.folds, weights, 10) for weights in (None, block.labels))
    return ClickCounts(starts, counts, clicks, rows.astype(np.int64), row_clicks.astype(np.int64))


def write(path: Path, blocks: Sequence[Block | TargetBlock]) -> str:
    with open(path, "wb") as file:
        for block in blocks:
            write_record(file, block.encode())
    return str(path)


class Trainings:
    """Trains on small shards in a folder; each method returns a digest of all that was trained.

    Args:
        folder: for the shards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._valid = write(folder / "valid", list(make_block(VALID, 1).split(64)))

    def student(self, method: str, alpha: float = 0.9, seed: int = 0) -> str:
        block = make_block(ROWS, 0)
        files = self._shards(block)
        if METHODS[method].target != "none":
            logits = np.random.default_rng(2).normal(size=(ROWS, OUTPUTS)).astype(np.float32)
            targets = [
                write(self._folder / f"{number}.targets", [TargetBlock(logits[half], block.offsets[half], "teacher")])
                for number, half in enumerate(HALVES)
            ]
            files = dataclasses.replace(files, targets=targets, teacher="teacher", outputs=OUTPUTS)
        start(seed)
        layout = TableLayout((4, 20), EDGES)
        config = StudentConfig(alpha=alpha, seed=seed, batch_size=64, epochs=1.5, evaluations=2, hidden=8)
        settings = narrow(config, StudentSettings)
        subclasses = OUTPUTS // 2 if METHODS[method].wide_head else 1
        trunk = StudentTrunk(layout, 0.5, subclasses, settings)
        tables = FoldTables(layout, count(block), 20.0, "none", kept_only=True)
        self._fit(Student(trunk, tables, METHODS[method], settings), files, ROWS, config, ())
        return digest(trunk.variables)

    def teacher(self, flipped: tuple[int, ...] = ()) -> str:
        block = make_block(ROWS, 0, flipped)
        files = self._shards(block)
        counts = count(block).without(FOLDS)
        start(0)
        layout = TableLayout((4, 20), EDGES)
        config = TeacherConfig(
            subclasses=2, hidden=(16,), cross_layers=1, beta=0.1, batch_size=64, epochs=1.5, evaluations=2
        )
        settings = narrow(config, TeacherSettings)
        tables = FoldTables(layout, counts, config.smoothing)
        edges = [np.array(limits, np.float32) for limits in EDGES]
        found = find_crosses(cross_rows(block, edges, FOLDS), 2)
        assert len(found.crosses) > len(EDGES)  # pairs, not only the numbers alone
        crosses = CrossStatistics(found, edges)
        trunk = TeacherTrunk(layout, tables, crosses, counts.base_rate(), settings)
        self._fit(Teacher(trunk, settings), files, int(counts.rows.sum()), config, FOLDS)
        return digest([*trunk.variables, *tables.variables, *crosses.variables, found.keys])

    def _fit(
        self, model: tfrs.Model, files: ShardFiles, rows: int, config: TrainingConfig, without: tuple[int, ...]
    ) -> None:
        valid = evaluation_batches(ShardFiles([self._valid], files.columns))
        with tempfile.TemporaryDirectory() as folder:
            fit(
                model,
                lambda *position: training_batches(files, 64, config.seed, without, position),
                valid,
                rows,
                narrow(config, LoopSettings),
                lambda *_: None,
                folder,
            )

    def _shards(self, block: Block) -> ShardFiles:
        paths = [write(self._folder / f"{number}.train", [block.take(half)]) for number, half in enumerate(HALVES)]
        return ShardFiles(paths, (3, len(IDS)))


def digest(arrays: Sequence[tf.Variable | np.ndarray]) -> str:
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.asarray(array).tobytes())
    return whole.hexdigest()


TRAININGS: dict[str, Callable[[Trainings], str]] = {
    "hard": lambda trainings: trainings.student("hard"),
    "hard again": lambda trainings: trainings.student("hard"),
    "hard, other seed": lambda trainings: trainings.student("hard", seed=1),
    "kd": lambda trainings: trainings.student("kd"),
    "kd, alpha 0": lambda trainings: trainings.student("kd", alpha=0.0),
    "hard_k": lambda trainings: trainings.student("hard_k"),
    "subclass, alpha 0": lambda trainings: trainings.student("subclass", alpha=0.0),
    "teacher": lambda trainings: trainings.teacher(),
    "teacher, own folds flipped": lambda trainings: trainings.teacher(FOLDS),
    "teacher, other fold flipped": lambda trainings: trainings.teacher((2,)),
}


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests by name, from a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path_factory.mktemp("shards"))],
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_same_training_gives_the_same_bits(digests: dict[str, str]) -> None:
    assert digests["hard"] == digests["hard again"]
    assert digests["hard"] != digests["hard, other seed"]


def test_distillation_of_weight_zero_is_training_on_labels(digests: dict[str, str]) -> None:
    assert digests["kd, alpha 0"] == digests["hard"] != digests["kd"]
    assert digests["subclass, alpha 0"] == digests["hard_k"] != digests["hard"]


def test_labels_of_a_fold_do_not_reach_its_teacher(digests: dict[str, str]) -> None:
    assert digests["teacher, own folds flipped"] == digests["teacher"]
    assert digests["teacher, other fold flipped"] != digests["teacher"]


if __name__ == "__main__":
    determinism.enable()
    chosen = Trainings(Path(sys.argv[1]))
    print(json.dumps({name: training(chosen) for name, training in TRAININGS.items()}))

"""Students in a row, each the teacher of the next.

Generation 1 is the student of a method. Generation g + 1 has the same shape, other initial weights, and the raw logits
of generation g on the training rows as its targets, beside the labels: a student that had no teacher is followed by
those that learn from the one before them.

References:
    Yang et al., Training Deep Neural Networks in Generations (2018), https://arxiv.org/abs/1805.05551
    Furlanello et al., Born-Again Neural Networks (2018), https://arxiv.org/abs/1805.04770
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from features.blocks import Block
from models.backend import tf
from models.history import best_evaluation
from models.methods import METHODS
from models.seeds import seed_for
from models.student import Student, StudentTrunk
from models.training import CHECKPOINTS
from pipeline import storage
from pipeline.fitting import Circumstances, best_text
from pipeline.originals import original_student
from pipeline.precompute import write_targets
from pipeline.progress import Progress
from pipeline.settings import StudentConfig
from pipeline.student_data import StudentData
from pipeline.student_part import TrainedStudent, train_student
from pipeline.workspace import EXAMPLES, TARGETS, Run, student_stage


@dataclass(frozen=True)
class Generations:
    """Trained generations.

    Args:
        last: the last one.
        trunks: of all of them, in order.
        histories: of their trainings, in order.
    """

    last: TrainedStudent
    trunks: list[StudentTrunk]
    histories: list[pd.DataFrame]


def train_generations(
    run: Run, data: StudentData, method: str, config: StudentConfig, original: Run | None = None
) -> Generations:
    """Trains all generations of a method's student, from the first that an earlier call has not finished.

    Args:
        run: the run directory; checkpoints, logs and targets go below the student's folder.
        data: of the first generation.
        method: of the first generation.
        config: settings.
        original: for a refit, the run whose finished students are repeated.
    """
    trained = _train(run, data, method, config, 1, original)
    trunks, histories = [trained.student.trunk], [trained.history]
    for number in range(2, config.generations + 1):
        data = _taught_by(trained, run, data, generation_folder(run, method, config, number))
        trained = _train(run, data, method, config, number, original)
        trunks.append(trained.student.trunk)
        histories.append(trained.history)
    return Generations(trained, trunks, histories)


def _train(
    run: Run, data: StudentData, method: str, config: StudentConfig, number: int, original: Run | None
) -> TrainedStudent:
    """Trains one generation, or reads what an earlier call has come to."""
    own, folder = generation_config(config, number), generation_folder(run, method, config, number)
    repeated = original_student(original, method, config, number) if original else None
    title = f"student {method}"
    if config.generations > 1:
        title += f", generation {number} of {config.generations}"
    # At most so many rows: training may stop before.
    progress = Progress(title, config.epochs * data.spec.rows["train"], "rows")
    name = method if number == 1 else METHODS[method].successor
    trained = train_student(data, name, own, Circumstances(progress.update, folder, repeated))
    progress.close(best_text(best_evaluation(trained.history)))
    return trained


def generation_config(config: StudentConfig, number: int) -> StudentConfig:
    """The settings of a generation, which differ in the seed; those of the first one are the given ones."""
    return config if number == 1 else replace(config, seed=seed_for(config.seed, f"generation_{number}"))


def generation_folder(run: Run, method: str, config: StudentConfig, number: int) -> str:
    """Where checkpoints and logs of a generation's training go, and the targets that it learns from."""
    name = f"generations/{number}" if config.generations > 1 else "training"
    return run.file(student_stage(method), name)


def remove_scratch(run: Run, method: str, config: StudentConfig) -> None:
    """Removes what only the training of the generations needs."""
    for number in range(1, config.generations + 1):
        for name in (CHECKPOINTS, TARGETS):
            storage.remove(storage.join(generation_folder(run, method, config, number), name))


def _taught_by(teacher: TrainedStudent, run: Run, data: StudentData, folder: str) -> StudentData:
    """The data of a generation, after writing the logits of the one before it, shard beside shard.

    A training row is looked up as in the training: click statistics leave its own fold out.
    """
    score = _scorer(teacher.student, data.training.columns)
    fingerprint = teacher.fingerprint()
    paths = []
    for shard in run.filled_shards("train"):
        paths.append(storage.join(folder, TARGETS, shard["path"]))
        # The weights of a finished generation are the same in each attempt, so its targets are.
        if not storage.exists(paths[-1]):
            write_targets(run.file(EXAMPLES, shard["path"]), paths[-1], score, fingerprint)
    outputs = 2 * teacher.student.trunk.head.subclasses
    return replace(data, training=replace(data.training, targets=paths, teacher=fingerprint, outputs=outputs), label="")


def _scorer(student: Student, columns: tuple[int, int]) -> Callable[[Block], np.ndarray]:
    """What gives the subclass logits of a block's rows: float32 [rows, 2 S]."""
    numeric, categorical = columns
    signature = [
        tf.TensorSpec([None, categorical], tf.int32),
        tf.TensorSpec([None, numeric], tf.float32),
        tf.TensorSpec([None], tf.int32),
    ]
    call = tf.autograph.experimental.do_not_convert(
        lambda ids, dense, fold: student({"ids": ids, "dense": dense, "fold": fold})
    )
    graph = tf.function(call, input_signature=signature)
    return lambda block: graph(block.ids, block.dense, block.folds.astype(np.int32)).numpy()

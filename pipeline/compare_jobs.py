"""The work of a comparison, in processes of their own: teachers with their targets, and students with their scores."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from features.errors import CtrDistillError, TrainingError
from models.backend import keras, tf
from models.calibration import Calibration
from models.determinism import enable
from models.heads import click_logit
from models.history import best_evaluation
from models.inputs import ShardFiles, evaluation_batches
from models.layers import parameters
from models.methods import METHODS
from models.student import Student
from pipeline import storage
from pipeline.beam import make_options
from pipeline.calibrate import calibrate
from pipeline.compare_plan import Cell, Job
from pipeline.compare_results import Floats, JudgedRows, write_scores
from pipeline.config import Config
from pipeline.derive import derive
from pipeline.fitting import Circumstances
from pipeline.keys import derived_key, targets_key, teacher_key
from pipeline.precompute import precompute
from pipeline.side_by_side import Report
from pipeline.stage_inputs import example_files
from pipeline.student_data import StudentData
from pipeline.student_part import TrainedStudent, train_student
from pipeline.subset import has_targets, subset_targets
from pipeline.train_teacher import train_teacher
from pipeline.workspace import TARGETS, TEACHER, Run, derived_stage


def make_teacher(cells: Sequence[Cell], config: Config, threads: int, report: Report) -> None:
    """Trains the teacher of some cells, and gives each of them its targets; what is finished is kept.

    Args:
        cells: of one teacher.
        config: of the run.
        threads: of TensorFlow; 0 for as many as it takes deterministically.
        report: called with 1 at the end.
    """
    _use(threads)
    first = cells[0]
    assert first.teacher is not None
    run, options = first.teacher_run, make_options()
    with _quiet(), _naming(run.path), run.lock():
        train_teacher(run, first.teacher)
        precompute(run, options, _embedding(first))
        for source in first.sources:
            derive(run, source, config.derived, options)
        for cell in cells:
            if cell.run != run:
                _fill(cell, run)
    report(1, "")


def is_made(cells: Sequence[Cell], config: Config) -> bool:
    """Whether :func:`make_teacher` would find nothing to do for the cells of one teacher."""
    first = cells[0]
    assert first.teacher is not None
    run = first.teacher_run
    if not storage.exists(run.file(TEACHER, "manifest.json")):
        return False
    if not run.is_done(TEACHER, teacher_key(run, first.teacher)):
        return False
    if not run.is_done(TARGETS, targets_key(run, _embedding(first))):
        return False
    derived = all(run.is_done(derived_stage(name), derived_key(run, name, config.derived)) for name in first.sources)
    others = [cell for cell in cells if cell.run != run]
    return derived and all(has_targets(run, cell.run, stage) for cell in others for stage in _stages(cell))


def _embedding(cell: Cell) -> int:
    """Floats of the embeddings to store beside the logits of a cell's teacher.

    What another comparison has stored is kept: students that need no embeddings do not look at them.
    """
    return cell.embedding or int((cell.teacher_run.origin(TARGETS) or {}).get("embedding", 0))


def _stages(cell: Cell) -> list[str]:
    """The stages of the targets of a cell."""
    return [TARGETS, *map(derived_stage, cell.sources)]


def _fill(cell: Cell, teacher: Run) -> None:
    """Gives a cell the targets of its rows."""
    with cell.run.lock():
        for stage in _stages(cell):
            subset_targets(teacher, cell.run, stage)


def train_students(jobs: Sequence[Job], threads: int, report: Report) -> None:
    """Trains students one after another, and writes their results.

    Args:
        jobs: whose results are not there.
        threads: as in :func:`make_teacher`.
        report: called with the number of students, and the last one's name.
    """
    _use(threads)
    rows = JudgedRows.of(Run(jobs[0].cell.base))
    for number, job in enumerate(jobs, start=1):
        with _quiet(), _naming(f"arm {job.arm}, fraction {job.cell.rows:g}, seed {job.seed}"):
            _train(job, rows)
        # The graphs of a model are of no use to the next.
        keras.backend.clear_session()
        report(number, f"{job.arm}, {job.cell.rows:.3g} of the rows")


def _train(job: Job, rows: JudgedRows) -> None:
    """Trains a student and writes its result, the record last; a trial whose loss explodes is one without a logloss."""
    run, method, folder = job.cell.run, METHODS[job.method], training_folder(job)
    data = StudentData.read(run, method, job.config.needs_embeddings)
    try:
        trained = train_student(data, job.method, job.config, Circumstances(_no_progress, folder))
    except TrainingError as error:
        if job.trial is None:
            raise
        record: dict[str, Any] = {"key": job.key(), "valid_logloss": None, "error": str(error)}
    else:
        record = _record(job, trained, data)
        if job.trial is None:
            assert data.validation is not None
            calibration = calibrate(trained.student, data.validation)
            files = example_files(run, data.spec, rows.split)
            scores = click_logits(trained.student, calibration, files) + rows.correction
            # A kill between the two files must not leave these scores with the record of other settings.
            storage.remove(f"{job.path}.json")
            write_scores(job.path, scores, rows.judge(scores))
    storage.remove(folder)
    storage.write_json(f"{job.path}.json", record)


def _record(job: Job, trained: TrainedStudent, data: StudentData) -> dict[str, Any]:
    weights = parameters(trained.student.trunk)
    # Click statistics are not trained, but a student that takes them holds two floats of each value.
    statistics = 2 * len(trained.layout.cells(data.counts.starts)) if job.config.statistics else 0
    return {
        "key": job.key(),
        "valid_logloss": float(best_evaluation(trained.history)["valid_logloss"]),
        "history": trained.history[["rows_seen", "valid_logloss"]].to_dict("list"),
        "parameters": weights,
        "bytes": 4 * (weights + statistics),
        **({} if trained.gate_entropy is None else {"gate_entropy": trained.gate_entropy}),
    }


def training_folder(job: Job) -> str:
    """Where a student's checkpoints lie; those of other settings or data, left there by a kill, are removed."""
    folder, key = f"{job.path}.training", job.key()
    owner = storage.join(folder, "key.json")
    if not storage.exists(owner) or storage.read_json(owner) != key:
        # What says whose they are goes first: the removal may be killed halfway.
        storage.remove(owner)
        storage.remove(folder)
        storage.write_json(owner, key)
    return folder


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Says of an error which teacher or student it stopped."""
    try:
        yield
    except CtrDistillError as error:
        raise type(error)(f"{error} ({what})") from error


def click_logits(student: Student, calibration: Calibration, files: ShardFiles) -> Floats:
    """Calibrated click logits of a student on all rows of a split, in their order: float64 [rows]."""
    call = tf.autograph.experimental.do_not_convert(lambda batch: click_logit(student(batch, training=False)))
    score = tf.function(call, reduce_retracing=True)
    found = [score(batch).numpy() for batch in evaluation_batches(files)]
    logits: Floats = calibration.apply(np.concatenate(found).astype(np.float64))
    return logits


def _use(threads: int) -> None:
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    else:
        enable()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the progress of single trainings off the terminal: the comparison has its own."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _no_progress(_: float, __: str) -> None:
    """The progress of one student is not shown."""

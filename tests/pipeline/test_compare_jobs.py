"""The work of a comparison: what a kill leaves, trainings that fail, and what is counted of a student."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from small_run import make_run, write_log

from features.errors import TrainingError
from pipeline import compare_jobs, storage
from pipeline.compare import best_settings, is_finished
from pipeline.compare_jobs import is_made, make_teacher, train_students, training_folder
from pipeline.compare_plan import Cell, Job
from pipeline.config import Config
from pipeline.settings import StudentConfig, TeacherConfig
from pipeline.subset import subset
from pipeline.workspace import Run

SETTINGS = StudentConfig(epochs=1.0, evaluations=1, hidden=4, averaging=0.0, batch_size=64, min_count=1)
GATED = TeacherConfig(
    architecture="mlp,mlp", epochs=1.0, evaluations=1, hidden=(8,), crosses=0, batch_size=64, averaging=0.0
)
"""A teacher of two networks."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("jobs")
    return make_run(folder, write_log(folder / "log.csv"))


@pytest.fixture(autouse=True)
def threads_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow takes its number of threads once a process, and here it has run before."""
    monkeypatch.setattr(compare_jobs, "_use", lambda threads: None)


def job_of(run: Run, arm: str, config: StudentConfig = SETTINGS, trial: int | None = None) -> Job:
    return Job(arm, "hard", 0, Cell(run.path, None, 1.0, 1.0, 0, ()), config, trial)


def train(*jobs: Job) -> None:
    train_students(jobs, 1, lambda _, __: None)


def test_checkpoints_are_those_of_the_settings(run: Run) -> None:
    """A training that goes on with the weights of another would be neither."""
    job = job_of(run, "killed")
    left = Path(training_folder(job), "checkpoints", "latest-00000001", "state.json")
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    assert training_folder(job) == str(left.parents[2]) and left.exists()
    assert training_folder(replace(job, config=replace(SETTINGS, temperature=2.0))) == str(left.parents[2])
    assert not left.exists()


def test_a_trial_that_explodes_loses(run: Run) -> None:
    present = job_of(run, "tried", trial=0)
    exploded = job_of(run, "tried", replace(SETTINGS, learning_rate=1e30, table_rate=1e6), trial=1)
    train(exploded, present)
    record = storage.read_json(f"{exploded.path}.json")
    assert record["valid_logloss"] is None and "must stay finite" in record["error"]
    assert is_finished(exploded) and not storage.exists(f"{exploded.path}.training")
    assert best_settings([exploded, present])["tried", 1.0]["learning_rate"] == SETTINGS.learning_rate


def test_a_student_that_explodes_is_named(run: Run) -> None:
    with pytest.raises(TrainingError, match=r"must stay finite .* \(arm hot, fraction 1, seed 0\)$"):
        train(job_of(run, "hot", replace(SETTINGS, learning_rate=1e30, table_rate=1e6)))


def test_click_statistics_are_bytes_of_a_student(run: Run) -> None:
    jobs = job_of(run, "plain"), job_of(run, "stats", replace(SETTINGS, statistics=True))
    train(*jobs)
    plain, stats = (storage.read_json(f"{job.path}.json") for job in jobs)
    assert plain["bytes"] == 4 * plain["parameters"] and "gate_entropy" not in plain
    # Two floats of each vocabulary id (min_count is 1), and two more inputs a column of hidden layer and linear part.
    spec = run.spec()
    assert stats["bytes"] - 4 * stats["parameters"] == 4 * 2 * sum(spec.vocabulary_ids)
    assert stats["parameters"] - plain["parameters"] == 2 * len(spec.schema.categorical) * (SETTINGS.hidden + 1)


def test_a_teacher_keeps_the_embeddings_of_another_comparison(run: Run) -> None:
    with_embedding = Cell(run.path, GATED, 1.0, 1.0, 4, ())
    without = replace(with_embedding, embedding=0)
    made = [run_teacher(cell) for cell in (with_embedding, without)]
    assert made[0] == made[1] and without.run.manifest("targets")["embedding"] == 4


def test_what_is_made_needs_no_process(run: Run) -> None:
    """Neither a teacher with its targets, nor those of a cell with fewer rows."""
    whole = Cell(run.path, GATED, 1.0, 1.0, 0, ())
    part = replace(whole, rows=0.5)
    subset(run, part.examples_run.path, 0.5)
    assert not is_made([replace(whole, teacher=replace(GATED, seed=1))], Config())
    run_teacher(whole)
    assert is_made([whole], Config()) and not is_made([whole, part], Config())
    make_teacher([whole, part], Config(), 1, lambda _, __: None)
    assert is_made([whole, part], Config())
    assert not is_made([replace(whole, embedding=3)], Config())
    assert not is_made([replace(whole, sources=("random",))], Config())


def test_the_entropy_of_a_gate_is_in_the_result(run: Run) -> None:
    cell = Cell(run.path, GATED, 1.0, 1.0, 0, ())
    run_teacher(cell)
    job = replace(job_of(run, "gated", replace(SETTINGS, member_gate=True)), method="kd", cell=cell)
    train(job)
    # Of two members: log 2 for equal weights.
    assert 0 < storage.read_json(f"{job.path}.json")["gate_entropy"] <= math.log(2) + 1e-6


def run_teacher(cell: Cell) -> str:
    """Makes the teacher of a cell; returns the identity of its targets."""
    make_teacher([cell], Config(), 1, lambda _, __: None)
    return cell.run.identity("targets")

"""The stages one by one are the main job, and what it exports is served by TensorFlow alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import STUDENT, TEACHER, Made, ctr_distill, files_of, flags

from pipeline import cli
from pipeline.beam import make_options
from pipeline.predict import predict
from pipeline.workspace import Run

METHODS = ("hard", "subclass")


@pytest.fixture(scope="module")
def by_stages(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A run made by the single commands, and what they printed."""
    run = Run(str(tmp_path_factory.mktemp("stages") / "run"))
    here = ["--run", run.path]
    done = ctr_distill(
        ["preprocess", "--input", str(made.log), *here],
        ["train-teacher", *here, *flags(TEACHER), "--deterministic"],
        ["precompute", *here, "--workers=2"],
        *(["distill", *here, "--method", method, *flags(STUDENT)] for method in METHODS),
        ["evaluate", *here],
        ["report", *here],
    )
    return run, done.stdout


def test_single_commands_make_what_run_makes(made: Made, by_stages: tuple[Run, str]) -> None:
    """Byte for byte: examples, rejects, targets, and by their manifests also the teacher and the students."""
    run, _ = by_stages
    for stage in ("examples", "rejected", "targets"):
        assert files_of(run.file(stage)) == files_of(made.run.file(stage)), stage
    for stage in ("teacher", *(f"students/{method}" for method in METHODS)):
        assert run.manifest(stage) == made.run.manifest(stage), stage
        variables = [name for name in files_of(run.file(stage)) if "variables.data" in name]
        assert variables and all(
            files_of(run.file(stage))[name] == files_of(made.run.file(stage))[name] for name in variables
        )


def test_the_same_metrics(made: Made, by_stages: tuple[Run, str]) -> None:
    found, expected = (
        json.loads(Path(run.file("report/metrics.json")).read_text())["models"] for run in (by_stages[0], made.run)
    )
    assert list(found) == ["teacher", *(f"students/{method}" for method in METHODS)]
    for name, model in found.items():
        for split in ("valid", "test"):
            assert model[split] == expected[name][split]


def test_each_command_says_what_it_made(made: Made, by_stages: tuple[Run, str]) -> None:
    run, stdout = by_stages
    lines = stdout.splitlines()
    assert lines[:5] == [
        f"examples: {run.path}/examples",
        f"teacher: {run.path}/teacher",
        f"targets: {run.path}/targets",
        f"student: {run.path}/students/hard",
        f"student: {run.path}/students/subclass",
    ]
    assert any(line.startswith("  subclass - hard: ") for line in lines)
    assert lines[-1] == f"{run.path}/report/index.html"


def test_in_another_process_there_is_nothing_to_do(
    made: Made, by_stages: tuple[Run, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = by_stages
    for command in (
        ["preprocess", "--input", str(made.log)],
        ["train-teacher", *flags(TEACHER)],
        ["precompute"],
        ["distill", "--method", "hard", *flags(STUDENT)],
    ):
        cli.main([*command, "--run", run.path])
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{what}: nothing to do, {run.path}/{where} is finished"
        for what, where in (
            ("examples", "examples"),
            ("teacher", "teacher"),
            ("targets", "targets"),
            ("student", "students/hard"),
        )
    ]
    assert said.err == ""


_SERVE = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
lines = sys.stdin.buffer.read().splitlines()
outputs = model.signatures["tsv"](lines=tf.constant(lines))
ours = sorted({"features", "models", "pipeline", "tf_keras", "tensorflow_recommenders"} & set(sys.modules))
print(json.dumps([outputs["p_click"].numpy().tolist(), [r.decode() for r in outputs["reason"].numpy()], ours]))
"""


def test_the_student_is_served_by_tensorflow_alone(made: Made, tmp_path: Path) -> None:
    """No code of ours is imported where the model is served, and raw log lines go in."""
    import pyarrow.parquet as pq

    few = tmp_path / "few.tsv"
    few.write_bytes(b"".join(made.log.read_bytes().splitlines(keepends=True)[:50]))
    model = made.run.file("students/subclass/model")
    done = subprocess.run(
        [sys.executable, "-c", _SERVE, f"{model}/1"],
        input=few.read_bytes(),
        capture_output=True,
        cwd="/",
        # Set by our own import of TensorFlow, if it has happened here.
        env={name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"},
        check=True,
    )
    p_click, reasons, ours = json.loads(done.stdout)
    assert ours == [] and set(reasons) == {""}
    predict(model, [str(few)], str(tmp_path / "output"), make_options((), 1))
    expected = pq.read_table(tmp_path / "output" / "part-00000-000000.parquet")["p_click"].to_numpy()
    np.testing.assert_allclose(p_click, expected, atol=1e-6, rtol=0)

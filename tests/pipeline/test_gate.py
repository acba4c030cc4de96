"""The gate: which teachers are refused, and who is asked at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import brier_score_loss, log_loss
from small_run import change_json, rewrite_targets
from support import METHODS, Made

from features.errors import ConfigError, RefusedError
from features.targets import TargetBlock
from pipeline import cli
from pipeline.distill import distill
from pipeline.gate import Trial, require_good_teacher
from pipeline.generate import truth_path
from pipeline.settings import StudentConfig
from pipeline.stored_rows import read_with_targets
from pipeline.workspace import Run

REFUSE, WARN, OFF = (StudentConfig(gate=gate) for gate in ("refuse", "warn", "off"))


@pytest.fixture
def taught(made: Made, copy_of: Callable[..., Run]) -> Callable[..., Run]:
    """A copy of the finished run whose validation targets are those of a teacher that knows p*, changed by a function.

    The function gets the log-odds of p* and gives the teacher's click logits.
    """
    truth = pq.read_table(truth_path(str(made.log))).to_pandas().set_index("offset")["p_star"]

    def make(change: Callable[[np.ndarray], np.ndarray]) -> Run:
        def of_block(block: TargetBlock) -> TargetBlock:
            p = truth.loc[block.offsets].to_numpy()
            logits = np.zeros(block.logits.shape, np.float32)
            logits[:, logits.shape[1] // 2 :] = change(np.log(p / (1 - p)))[:, np.newaxis]
            return replace(block, logits=logits)

        run = copy_of("report")
        for shard in run.shards("valid"):
            rewrite_targets(run, shard["path"], of_block)
        return run

    return make


def noise(logits: np.ndarray) -> np.ndarray:
    return np.random.default_rng(len(logits)).normal(-1, 2, len(logits))


def test_a_teacher_of_noise_is_refused(taught: Callable[..., Run]) -> None:
    run = taught(noise)
    with pytest.raises(RefusedError) as caught:
        distill(run, "kd", REFUSE)
    text = str(caught.value)
    assert text.startswith("The teacher must not be clearly worse than the student without one on the validation rows.")
    hard = json.loads(Path(run.file("students/hard/metrics.json")).read_text())["valid_logloss"]
    brier, logloss = text.split("Received: ")[1].split("Brier score ")[1].split(", logloss ")
    assert float(brier.split(" against ")[0]) > 0.25 > float(brier.split(" against ")[1].split(" ")[0])
    assert float(logloss.split(" against ")[1].split(" ")[0]) == pytest.approx(hard, abs=0.01)
    low, high = (float(end) for end in logloss.split("(difference ")[1].split(")")[0].split(" to "))
    assert 0 < low < high
    assert text.endswith("train a better teacher, or set the student's gate to warn or off.")


def test_a_run_makes_and_reports_its_other_students(
    made: Made, taught: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of students that the gate refuses page and terminal say why; only then the command fails, each time."""
    run, command = taught(noise), [*made.arguments, "--methods=hard,kd,hard_k"]
    for method in METHODS[1:]:
        shutil.rmtree(run.file("students", method))
    said = []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, f"--run={run.path}"])
        assert ended.value.code == 2
        said.append(capsys.readouterr())
    for each in said:
        *_, last = each.err.splitlines()
        assert last.startswith(
            "error: Every student of a run must pass the gate. Received: kd refused. The teacher must"
        )
        assert "students/hard_k" in each.out and "students/kd" not in each.out
        assert each.out.splitlines()[-1] == f"report: {run.file('report/index.html')}"
    assert "student hard_k" in said[0].err and "student hard_k" not in said[1].err
    page = Path(run.file("report/index.html")).read_text()
    assert "Refused at the gate, and not trained: kd. The teacher must not be clearly worse" in page
    assert list(json.loads(Path(run.file("report/metrics.json")).read_text())["models"]) == [
        "teacher", "students/hard", "students/hard_k"
    ]  # fmt: skip


def test_noise_is_warned_of(taught: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    require_good_teacher(taught(noise), "subclass", WARN)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("warning: ") for line in lines)
    assert "times the clicks of the validation rows" in lines[0] and "must not be clearly worse" in lines[1]


@pytest.mark.parametrize(("method", "config"), [("kd", OFF), ("hard", REFUSE), ("hard_k", REFUSE)])
def test_nothing_is_read_where_nothing_is_asked(
    taught: Callable[..., Run], capsys: pytest.CaptureFixture[str], method: str, config: StudentConfig
) -> None:
    run = taught(noise)
    shutil.rmtree(run.file("students/hard/model"))
    require_good_teacher(run, method, config)
    assert capsys.readouterr().err == ""


def test_a_teacher_that_knows_the_truth_passes(taught: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    # So few rows have more or fewer clicks than p* says; what is left is calibrated.
    run = taught(lambda logits: logits)
    require_good_teacher(run, "kd", REFUSE)
    assert "must not" not in capsys.readouterr().err


def test_too_many_clicks_are_warned_of(taught: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    require_good_teacher(taught(lambda logits: logits + 0.2), "kd", REFUSE)
    line = capsys.readouterr().err
    assert float(line.split("predicts ")[1].split(" ")[0]) == pytest.approx(1.12, abs=0.06)
    assert line.startswith("warning: the teacher predicts 1.") and line.count("\n") == 1


def test_rows_without_click_that_the_log_left_out_count(taught: Callable[..., Run]) -> None:
    """The odds of the whole log are a quarter of those of its rows, and a row without click stands for four."""
    run = taught(lambda logits: logits)
    change_json(run.file("examples/spec.json"), lambda spec: spec.update(negative_rate=0.25))
    labels, odds, name = [], [], run.manifest("targets")["teacher"]
    for shard in run.filled_shards("valid"):
        paths = run.file("examples", shard["path"]), run.file("targets", shard["path"])
        for block, target in read_with_targets(*paths, name):
            labels.append(block.labels)
            odds.append(np.exp(target.logits[:, -1].astype(np.float64)) / 4)
    y, p = np.concatenate(labels), np.concatenate(odds) / (1 + np.concatenate(odds))
    weights = np.where(y, 1.0, 4.0)
    found = Trial.of(run, "targets").teacher.compute()
    assert found["pcoc"] == pytest.approx((weights @ p) / (weights @ y), rel=1e-6)
    assert found["logloss"] == pytest.approx(log_loss(y, p, sample_weight=weights), rel=1e-6)
    assert found["brier"] == pytest.approx(brier_score_loss(y, p, sample_weight=weights), rel=1e-6)


def test_the_teacher_of_the_run_passes(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Its calibration was fitted on these rows, so there is no warning either."""
    require_good_teacher(made.run, "kd", REFUSE)
    assert capsys.readouterr().err == ""


def test_without_the_student_nothing_is_compared(taught: Callable[..., Run]) -> None:
    run = taught(noise)
    shutil.rmtree(run.file("students/hard"))
    require_good_teacher(run, "kd", REFUSE)


def test_a_teacher_of_another_label_is_not_compared(taught: Callable[..., Run]) -> None:
    run = taught(noise)
    change_json(run.file("targets/manifest.json"), lambda manifest: manifest.update(label="bought"))
    require_good_teacher(run, "kd", REFUSE)


def test_the_gate_is_one_of_three() -> None:
    with pytest.raises(ConfigError, match=r"^gate must be one of refuse, warn, off. Received: open.$"):
        StudentConfig(gate="open")

"""``evaluate``: the numbers of ``metrics.json`` against scikit-learn on what ``predict`` writes for the same rows."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import brier_score_loss, log_loss, normalized_mutual_info_score, roc_auc_score
from support import METHODS, ROWS, STUDENT, TEACHER, Made, files_of

from features.errors import ArtifactError
from features.schema import CRITEO
from models.metrics import METRICS
from pipeline import storage
from pipeline.beam import make_options
from pipeline.config import build
from pipeline.distill import distill
from pipeline.evaluate import evaluate
from pipeline.generate import generate, truth_path
from pipeline.precompute import precompute
from pipeline.predict import predict
from pipeline.preprocess import preprocess
from pipeline.report import report, terminal_tables
from pipeline.settings import PreprocessConfig, StudentConfig, TeacherConfig
from pipeline.stored_rows import read_with_targets
from pipeline.train_teacher import train_teacher
from pipeline.workspace import Run

STUDENTS = [f"students/{method}" for method in METHODS]
PREDICTED = ("students/hard", "students/subclass")


@pytest.fixture(scope="module")
def found(made: Made) -> dict[str, Any]:
    return json.loads(Path(made.run.file("report/metrics.json")).read_text())


@pytest.fixture(scope="module")
def rows(made: Made) -> dict[str, pd.DataFrame]:
    """Offset, label, p* and kind of the rows of a split, and the teacher's logits as z0, z1, ..."""
    truth = pq.read_table(truth_path(str(made.log))).to_pandas().set_index("offset")
    teacher = made.run.manifest("targets")["teacher"]
    tables: dict[str, pd.DataFrame] = {}
    for split in ("valid", "test"):
        parts = []
        for shard in made.run.shards(split):
            paths = made.run.file("examples", shard["path"]), made.run.file("targets", shard["path"])
            for block, target in read_with_targets(*paths, teacher):
                part = pd.DataFrame(target.logits.astype(np.float64)).add_prefix("z")
                parts.append(part.assign(offset=block.offsets, y=block.labels))
        tables[split] = pd.concat(parts).join(truth[["p_star", "kind", "label"]], on="offset")
        assert (tables[split]["y"] == tables[split]["label"]).all()
    return tables


@pytest.fixture(scope="module")
def predictions(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.Series]:
    """p_click by offset, as `predict` finds it in the raw log."""
    series = {}
    for stage in PREDICTED:
        output = tmp_path_factory.mktemp("predictions") / "output"
        predict(made.run.file(stage, "model"), [str(made.log)], str(output), make_options((), 1))
        table = pd.concat(pq.read_table(path).to_pandas() for path in sorted(output.glob("*.parquet")))
        series[stage] = table.set_index("offset")["p_click"].astype(np.float64)
        assert len(series[stage]) == ROWS
    return series


def metrics_of(y: pd.Series, p: pd.Series) -> dict[str, float]:
    """The metrics by scikit-learn and by their definitions."""
    rate = y.mean()
    loss = log_loss(y, p)
    return {
        "rows": len(y),
        "logloss": loss,
        "auc": roc_auc_score(y, p),
        "brier": brier_score_loss(y, p),
        "ne": loss / log_loss(y, np.full(len(y), rate)),
        "pcoc": p.sum() / y.sum(),
    }


def test_structure(made: Made, found: dict[str, Any]) -> None:
    assert list(found["models"]) == ["teacher", *STUDENTS] and found["splits"] == ["valid", "test"]
    for name, model in found["models"].items():
        for split in ("valid", "test"):
            values = model[split]
            assert values["rows"] == made.run.spec().rows[split]
            assert set(METRICS) < set(values) and set(values["intervals"]) == set(METRICS)
            assert all(low <= values[metric] <= high for metric, (low, high) in values["intervals"].items())
        assert model["parameters"] > 0 and model["bytes"] > 0 and model["rows_per_second"] > 0
        assert set(model["calibration"]) == {"scale", "shift", "reason"}
        assert sum(row["rows"] for row in model["reliability"]) == made.run.spec().rows["test"]
        assert ("health" in model, "agreement" in model) == ((True, True) if name == "teacher" else (False, False))
    folder = Path(made.run.file("students/kd/model"))
    assert found["models"]["students/kd"]["bytes"] == sum(map(len, files_of(folder).values()))
    assert set(files_of(made.run.file("report"))) == {"metrics.json", "index.html", "manifest.json"}


@pytest.mark.parametrize("stage", PREDICTED)
@pytest.mark.parametrize("split", ["valid", "test"])
def test_students_equal_scikit_learn_on_predictions(
    found: dict[str, Any], rows: dict[str, pd.DataFrame], predictions: dict[str, pd.Series], stage: str, split: str
) -> None:
    table = rows[split]
    p = predictions[stage].loc[table["offset"]].set_axis(table.index)
    values = found["models"][stage][split]
    for name, value in metrics_of(table["y"], p).items():
        # In the AUC, rows within 1.5e-4 of log-odds count as tied: 0.006 / rows, more where log-odds vary little.
        assert values[name] == pytest.approx(value, abs=3e-5 if name == "auc" else 1e-5), name
    kl = table["p_star"] * np.log(table["p_star"] / p) + (1 - table["p_star"]) * np.log((1 - table["p_star"]) / (1 - p))
    assert values["excess_over_bayes"] == pytest.approx(kl.mean(), abs=1e-6)
    assert values["excess_over_bayes"] > 0


@pytest.mark.parametrize("split", ["valid", "test"])
def test_teacher_equals_scikit_learn_on_its_targets(
    made: Made, found: dict[str, Any], rows: dict[str, pd.DataFrame], split: str
) -> None:
    table, model = rows[split], found["models"]["teacher"]
    z = table.filter(regex=r"^z\d").to_numpy()
    odds = np.log(np.exp(z[:, 3:]).sum(axis=1) / np.exp(z[:, :3]).sum(axis=1))
    # The targets have been through the calibration.
    p = pd.Series(1 / (1 + np.exp(-odds)))
    assert model["calibration"] == made.run.manifest("teacher")["calibration"]
    y, p_star = table["y"].reset_index(drop=True), table["p_star"].reset_index(drop=True)
    for name, value in metrics_of(y, p).items():
        assert model[split][name] == pytest.approx(value, abs=3e-5 if name == "auc" else 1e-5), name
    kl = p_star * np.log(p_star / p) + (1 - p_star) * np.log((1 - p_star) / (1 - p))
    assert model[split]["excess_over_bayes"] == pytest.approx(kl.mean(), abs=1e-9)


def test_calibration_fits_the_validation_rows(found: dict[str, Any]) -> None:
    """At the optimum of a shift, predicted clicks equal clicks."""
    for model in found["models"].values():
        assert model["calibration"]["reason"] == "" and model["valid"]["pcoc"] == pytest.approx(1, abs=1e-4)


def test_paired_differences(found: dict[str, Any]) -> None:
    rows = found["comparisons"]
    pairs = [(later, earlier) for i, earlier in enumerate(STUDENTS) for later in STUDENTS[i + 1 :]]
    for split in ("valid", "test"):
        own = [row for row in rows if row["split"] == split and row["metric"] == "logloss"]
        assert [(row["method"], row["baseline"]) for row in own] == pairs
    for row in rows:
        values = (found["models"][row[name]][row["split"]][row["metric"]] for name in ("method", "baseline"))
        assert row["difference"] == pytest.approx(next(values) - next(values), abs=1e-12)
        assert row["low"] <= row["difference"] <= row["high"]
    assert {row["metric"] for row in rows} == set(METRICS)


def test_pairing_makes_intervals_narrower(found: dict[str, Any]) -> None:
    """Students that agree on most rows differ by less than each one's own interval."""
    for row in found["comparisons"]:
        if row["metric"] == "logloss" and row["split"] == "test":
            low, high = found["models"][row["method"]]["test"]["intervals"]["logloss"]
            assert row["high"] - row["low"] < (high - low) / 2


def test_agreement_with_the_hidden_kinds(found: dict[str, Any], rows: dict[str, pd.DataFrame]) -> None:
    table = rows["valid"]
    z = table.filter(regex=r"^z\d").to_numpy().reshape(len(table), 2, 3)
    for label, row in enumerate(found["models"]["teacher"]["agreement"]):
        own = (table["y"] == label).to_numpy()
        expected = normalized_mutual_info_score(table["kind"][own], z[own, label].argmax(axis=1))
        assert row["nmi"] == pytest.approx(expected, abs=1e-9)
        assert 0 <= row["random_nmi"] < 0.1
    assert [row["class"] for row in found["models"]["teacher"]["health"]] == ["no click", "click"]
    assert all(1 / 3 <= row["usage"] <= 1 for row in found["models"]["teacher"]["health"])


def without_costs(found: dict[str, Any]) -> dict[str, Any]:
    """Everything that does not depend on the clock or on the teacher's folder."""
    models = {
        name: {key: value for key, value in model.items() if key not in ("bytes", "rows_per_second")}
        for name, model in found["models"].items()
    }
    return {**found, "models": models}


def test_the_teacher_may_be_gone(copy_of: Callable[..., Run], found: dict[str, Any]) -> None:
    run = copy_of("teacher", "report")
    assert evaluate(run) is True
    again = json.loads(Path(run.file("report/metrics.json")).read_text())
    teacher = again["models"]["teacher"]
    assert teacher["rows_per_second"] is None and teacher["bytes"] is None
    assert teacher["parameters"] == found["models"]["teacher"]["parameters"]
    assert _rounded(without_costs(again)) == _rounded(without_costs(found))
    page = Path(report(run)).read_text()
    assert "teacher" in page and terminal_tables(again)
    assert evaluate(run) is False


def _rounded(value: Any) -> Any:
    """Numbers to 6 digits: another process with other threads may round differently."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def test_students_come_and_go(copy_of: Callable[..., Run], found: dict[str, Any]) -> None:
    """Only students that were made from the present examples and targets are compared."""
    run = copy_of("students/hard_k", "students/kd_k", "report")
    path = run.file("students/kd/manifest.json")
    manifest = storage.read_json(path)
    storage.write_json(path, {**manifest, "sources": {**manifest["sources"], "targets": "of an earlier teacher"}})
    evaluate(run)
    again = json.loads(Path(run.file("report/metrics.json")).read_text())
    assert list(again["models"]) == ["teacher", "students/hard", "students/subclass"]
    assert {(row["method"], row["baseline"]) for row in again["comparisons"]} == {
        ("students/subclass", "students/hard")
    }
    shutil.rmtree(run.file("students"))
    assert evaluate(run) is True
    alone = json.loads(Path(run.file("report/metrics.json")).read_text())
    assert list(alone["models"]) == ["teacher"] and alone["comparisons"] == []
    told = alone["models"]["teacher"]["diagnosis"]
    assert {row["split"] for row in told} == {"valid", "test"} and all("low" not in row for row in told)
    assert not any("logits of" in row["what"] for row in told), "there is no student whose risk it could be"
    assert "No student yet" in terminal_tables(alone)
    assert "No student yet" in Path(report(run)).read_text()


@pytest.fixture(scope="module")
def no_test_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run on a log whose truth is not known, with no rows left for a test."""
    folder = tmp_path_factory.mktemp("no-test-rows")
    log, run, options = str(folder / "log.tsv"), Run(str(folder / "run")), make_options((), 1)
    generate(1000, log, seed=2)
    Path(truth_path(log)).unlink()
    config = {name.replace("-", "_"): value for name, value in {**TEACHER, "epochs": "1"}.items()}
    preprocess(run, [log], CRITEO, PreprocessConfig(split="700/300/0"), options)
    train_teacher(run, build(TeacherConfig, config, "teacher"))
    precompute(run, options)
    small = {name.replace("-", "_"): value for name, value in {**STUDENT, "epochs": "1"}.items()}
    distill(run, "hard", build(StudentConfig, small, "student"))
    evaluate(run)
    yield run


def test_no_test_rows(no_test_rows: Run) -> None:
    run = no_test_rows
    assert run.spec().rows == {"train": 700, "valid": 300, "test": 0}
    found = json.loads(Path(run.file("report/metrics.json")).read_text())
    assert found["splits"] == ["valid"]
    for model in found["models"].values():
        assert "test" not in model and model["valid"]["rows"] == 300
        assert sum(row["rows"] for row in model["reliability"]) == 300
    page = Path(report(run)).read_text()
    assert "There are no test rows in this run: all figures are from validation rows" in page
    assert terminal_tables(found).startswith("validation rows: 300\n")


def test_without_a_truth_nothing_is_said_about_it(no_test_rows: Run) -> None:
    found = json.loads(Path(no_test_rows.file("report/metrics.json")).read_text())
    assert "agreement" not in found["models"]["teacher"] and "health" in found["models"]["teacher"]
    assert all("excess_over_bayes" not in model["valid"] for model in found["models"].values())
    told = [row["what"] for row in found["models"]["teacher"]["diagnosis"]]
    assert "calibration slope" in told and "Brier score minus that of hard" in told
    assert not any("p*" in what or "alpha" in what for what in told)
    page = Path(report(no_test_rows)).read_text()
    assert "Bayes" not in page and "hidden kinds" not in page
    assert all(math.isfinite(model["valid"]["logloss"]) for model in found["models"].values())


def test_a_truth_of_other_lines_is_an_error(no_test_rows: Run, tmp_path: Path) -> None:
    run = Run(str(tmp_path / "run"))
    shutil.copytree(no_test_rows.path, run.path, ignore=shutil.ignore_patterns("report", "students"))
    log, other = run.manifest("examples")["inputs"][0]["path"], str(tmp_path / "other.tsv")
    generate(1000, other, seed=9)
    try:
        shutil.copy(truth_path(other), truth_path(log))
        with pytest.raises(ArtifactError, match="The truth beside a log must be that of its lines"):
            evaluate(run)
    finally:
        Path(truth_path(log)).unlink()

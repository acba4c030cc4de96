"""Weights, groups and downsampled logs through all stages, against scikit-learn on what the run has stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.special import expit, logsumexp
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from support import SMALL, ctr_distill

from features.schema import CRITEO, GROUP, WEIGHT, Column, Schema
from models.calibration import fit_calibration
from pipeline.beam import make_options
from pipeline.evaluate import load_student
from pipeline.generate import generate, truth_path
from pipeline.predict import predict
from pipeline.stage_inputs import read_with_targets
from pipeline.workspace import Run

STUDENT = "students/hard"
RATE = 0.2


@dataclass(frozen=True)
class Scored:
    """A run and its rows by split: offset, y, weight, group, and the click logits of teacher (raw) and student."""

    run: Run
    found: dict[str, Any]
    rows: dict[str, pd.DataFrame]


def scored(run: Run) -> Scored:
    found = json.loads(Path(run.file("report/metrics.json")).read_text())
    return Scored(run, found, {split: rows_of(run, split) for split in ("valid", "test")})


def rows_of(run: Run, split: str) -> pd.DataFrame:
    score, teacher, parts = load_student(run, STUDENT), run.manifest("targets")["teacher"], []
    for shard in run.shards(split):
        paths = run.file("examples", shard["path"]), run.file("targets", shard["path"])
        for block, target in read_with_targets(*paths, teacher):
            z = target.logits.astype(np.float64).reshape(len(block), 2, -1)
            classes = logsumexp(z, axis=2)
            columns = {"offset": block.offsets, "y": block.labels, "weight": block.weights, "group": block.groups}
            parts.append(pd.DataFrame({**columns, "teacher": classes[:, 1] - classes[:, 0], STUDENT: score(block)}))
    return pd.concat(parts, ignore_index=True)


def metrics_of(y: pd.Series, p: pd.Series, weight: pd.Series) -> dict[str, float]:
    rate, loss = np.average(y, weights=weight), log_loss(y, p, sample_weight=weight)
    return {
        "rows": len(y),
        "logloss": loss,
        "auc": roc_auc_score(y, p, sample_weight=weight),
        "brier": brier_score_loss(y, p, sample_weight=weight),
        "ne": loss / log_loss(y, np.full(len(y), rate), sample_weight=weight),
        "pcoc": (p * weight).sum() / (y * weight).sum(),
    }


def check(found: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-4 if name == "auc" else 1e-6), name


def write_thinned(folder: Path) -> list[str]:
    """A log that kept a fifth of its rows without click; returns the flags that say so."""
    generate(40_000, str(folder / "log.tsv"), seed=1, preset="linear", negative_rate=RATE)
    return [f"--negative-rate={RATE}"]


def write_weighted(folder: Path) -> list[str]:
    """A log with a weight and a group in its last two columns; returns the flags that say so."""
    generate(8000, str(folder / "plain.tsv"), seed=1)
    rng = np.random.default_rng(0)
    weights, users = rng.choice(["0", "0.5", "1", "2.5"], 8000), rng.integers(300, size=8000)
    lines = (folder / "plain.tsv").read_text().splitlines()
    text = "".join(f"{x}\t{w}\tuser{u}\n" for x, w, u in zip(lines, weights, users, strict=True))
    (folder / "log.tsv").write_text(text)
    schema = Schema((*CRITEO.columns, Column("worth", WEIGHT), Column("user", GROUP)))
    (folder / "schema.json").write_text(json.dumps(schema.to_json()))
    return [f"--schema={folder / 'schema.json'}"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The main job on both logs, in one process: TensorFlow is imported once."""
    small = [flag for flag in SMALL if "learning-rate" not in flag]
    found, commands = [], []
    for name, write in (("thinned", write_thinned), ("weighted", write_weighted)):
        folder = tmp_path_factory.mktemp(name)
        flags, run = write(folder), Run(str(folder / "run"))
        commands.append(
            ["run", "--input", str(folder / "log.tsv"), "--run", run.path, "--methods=hard", *small, *flags]
        )
        found.append(run)
    ctr_distill(*commands)
    return found[0], found[1]


@pytest.fixture(scope="module")
def thinned(runs: tuple[Run, Run]) -> Scored:
    return scored(runs[0])


@pytest.fixture(scope="module")
def weighted(runs: tuple[Run, Run]) -> Scored:
    return scored(runs[1])


def with_truth(made: Scored, split: str) -> pd.DataFrame:
    (log,) = [item["path"] for item in made.run.manifest("examples")["inputs"]]
    truth = pq.read_table(truth_path(log)).to_pandas().set_index("offset")["p_star"]
    rows = made.rows[split].join(truth, on="offset")
    return rows.assign(weight=np.where(rows["y"] == 1, 1.0, 1 / RATE))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_metrics_of_a_thinned_log_are_those_of_the_whole_one(thinned: Scored, split: str) -> None:
    assert thinned.found["negative_rate"] == RATE and "weighted" not in thinned.found
    rows, models = with_truth(thinned, split), thinned.found["models"]
    logits = {STUDENT: rows[STUDENT], "teacher": rows["teacher"] + np.log(RATE)}
    for model, logit in logits.items():
        p, p_star = expit(logit), rows["p_star"]
        check(models[model][split], metrics_of(rows["y"], p, rows["weight"]))
        kl = p_star * np.log(p_star / p) + (1 - p_star) * np.log((1 - p_star) / (1 - p))
        excess = np.average(kl, weights=rows["weight"])
        assert models[model][split]["excess_over_bayes"] == pytest.approx(excess, abs=1e-6)


def test_a_student_of_a_thinned_log_predicts_the_click_rate_of_the_whole_one(thinned: Scored) -> None:
    rows = with_truth(thinned, "test")
    assert rows["y"].mean() > 0.55, "the rows that are left"
    clicks = np.average(rows["p_star"], weights=rows["weight"])
    assert clicks == pytest.approx(0.25, abs=0.03), "all rows"
    predicted = np.average(expit(rows[STUDENT]), weights=rows["weight"])
    assert predicted == pytest.approx(clicks, rel=0.1)
    for model in thinned.found["models"].values():
        low, high = model["test"]["intervals"]["pcoc"]
        assert low < 1 < high
    # Without the correction the odds of a click would be five times as high.
    wrong = np.average(expit(rows[STUDENT] - np.log(RATE)), weights=rows["weight"])
    assert wrong > 2 * clicks


def test_calibration_is_fitted_on_the_rows_as_they_were_sampled(thinned: Scored) -> None:
    rows, models = thinned.rows["valid"], thinned.found["models"]
    fitted = fit_calibration(rows["teacher"].to_numpy(), rows["y"].to_numpy())
    # The stored logits are calibrated, so there is nothing left to fit.
    assert models["teacher"]["calibration"]["shift"] != 0
    assert (fitted.scale, fitted.shift) == (pytest.approx(1, abs=1e-4), pytest.approx(0, abs=1e-4))
    # At the optimum of a shift, predicted clicks equal clicks.
    assert expit(rows[STUDENT] - np.log(RATE)).sum() == pytest.approx(rows["y"].sum(), rel=1e-4)


def test_predictions_are_those_of_the_whole_log(thinned: Scored, tmp_path: Path) -> None:
    (log,) = [item["path"] for item in thinned.run.manifest("examples")["inputs"]]
    model = thinned.run.file(STUDENT, "model")
    predict(model, [log], str(tmp_path / "p"), make_options((), 1))
    parts = [pq.read_table(path).to_pandas() for path in sorted((tmp_path / "p").glob("*.parquet"))]
    rows = thinned.rows["test"].join(pd.concat(parts).set_index("offset")["p_click"], on="offset")
    np.testing.assert_allclose(rows["p_click"], expit(rows[STUDENT]), atol=2e-6)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_weighted_metrics(weighted: Scored, split: str) -> None:
    assert weighted.found["weighted"] is True and "negative_rate" not in weighted.found
    rows, models = weighted.rows[split], weighted.found["models"]
    assert set(rows["weight"]) == {0.0, 0.5, 1.0, 2.5}
    check(models[STUDENT][split], metrics_of(rows["y"], expit(rows[STUDENT]), rows["weight"]))
    check(models["teacher"][split], metrics_of(rows["y"], expit(rows["teacher"]), rows["weight"]))


def test_weighted_calibration_and_base_rate(weighted: Scored) -> None:
    for model in weighted.found["models"].values():
        assert model["calibration"]["reason"] == "" and model["valid"]["pcoc"] == pytest.approx(1, abs=1e-4)
    lines = Path(weighted.run.manifest("examples")["inputs"][0]["path"]).read_text().splitlines()
    spec = weighted.run.spec()
    table = pd.DataFrame([line.split("\t")[i] for i in (0, -2)] for line in lines[: spec.rows["train"]]).astype(float)
    assert spec.base_rate == pytest.approx(np.average(table[0], weights=table[1]), rel=1e-9)
    assert sum(spec.fold_rows) == spec.rows["train"]


def test_rows_of_a_user_have_one_group(weighted: Scored) -> None:
    log = Path(weighted.run.manifest("examples")["inputs"][0]["path"]).read_bytes()
    rows = pd.concat(weighted.rows.values())
    users = [log[offset : log.index(b"\n", offset)].rsplit(b"\t", 1)[1] for offset in rows["offset"]]
    by_user = rows["group"].groupby(users)
    assert (by_user.nunique() == 1).all() and rows["group"].nunique() == len(by_user) > 250


def test_the_page_says_so(thinned: Scored, weighted: Scored) -> None:
    pages = [Path(made.run.file("report/index.html")).read_text() for made in (thinned, weighted)]
    assert "0.2; each that is left counts as 5" in pages[0] and "column worth" not in pages[0]
    assert "column worth; metrics and click rates are weighted" in pages[1]
    assert "rows with the same user are resampled together" in pages[1]

"""What ``evaluate`` says beyond metrics, against the raw log, its truth, scikit-learn and pandas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from support import Made

from features.schema import CRITEO
from models.metrics import ClickMetrics
from pipeline.diagnose import Diagnoses
from pipeline.evaluate import load_student
from pipeline.generate import truth_path
from pipeline.stored_rows import read_with_targets

CLASSES = ("no click", "click")
SUBCLASSES = 3


@pytest.fixture(scope="module")
def models(made: Made) -> dict[str, Any]:
    return json.loads(Path(made.run.file("report/metrics.json")).read_text())["models"]


@pytest.fixture(scope="module")
def raw(made: Made) -> pd.DataFrame:
    """The categorical fields of the log by byte offset, as texts."""
    lines, offset, rows = made.log.read_bytes().splitlines(keepends=True), 0, {}
    for line in lines:
        fields = line.rstrip(b"\n").split(b"\t")
        if len(fields) == 40 and fields[0] in (b"0", b"1"):
            rows[offset] = [field.decode() for field in fields[14:]]
        offset += len(line)
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(CRITEO.categorical))


def scored(made: Made, split: str) -> pd.DataFrame:
    """Offset, label, the teacher's subclass probabilities, click logits of teacher and `hard`, and p* of a split."""
    score, parts = load_student(made.run, "students/hard"), []
    truth = pq.read_table(truth_path(str(made.log))).to_pandas().set_index("offset")["p_star"]
    for shard in made.run.shards(split):
        paths = made.run.file("examples", shard["path"]), made.run.file("targets", shard["path"])
        for block, target in read_with_targets(*paths, made.run.manifest("targets")["teacher"]):
            odds = np.exp(target.logits.astype(np.float64))
            part = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True)).add_prefix("q")
            parts.append(part.assign(offset=block.offsets, y=block.labels, hard=score(block)))
    table = pd.concat(parts, ignore_index=True)
    p = table[[f"q{k}" for k in range(SUBCLASSES, 2 * SUBCLASSES)]].sum(axis=1)
    return table.assign(p=p, logit=np.log(p / (1 - p)), p_star=truth.loc[table["offset"]].to_numpy())


@pytest.mark.parametrize("model", ["students/hard", "teacher"])
def test_rare_values_are_counted_in_the_raw_log(
    made: Made, models: dict[str, Any], raw: pd.DataFrame, model: str
) -> None:
    table = scored(made, "test")
    training = raw[raw.index < raw.index[made.run.spec().rows["train"]]]
    counts = [raw[name].map(training[name].value_counts()).fillna(0) for name in raw]
    rarest = pd.concat(counts, axis=1).min(axis=1).loc[table["offset"]].to_numpy()
    logit = table["hard" if model == "students/hard" else "logit"]
    names = ["0", "1-9", "10-99", "100-999", "1000-9999"]
    groups = table.assign(p=1 / (1 + np.exp(-logit))).groupby(
        pd.cut(rarest, [-1, 0, 9, 99, 999, 9999], labels=names), observed=True
    )
    found = models[model]["by_frequency"]
    assert [row["frequency"] for row in found] == list(groups.groups) and len(found) > 1
    for row, (_, group) in zip(found, groups, strict=True):
        assert row["rows"] == len(group)
        assert row["click_rate"] == pytest.approx(group["y"].mean(), abs=1e-9)
        assert row["mean_predicted"] == pytest.approx(group["p"].mean(), abs=1e-6)
        assert row["logloss"] == pytest.approx(log_loss(group["y"], group["p"], labels=[0, 1]), abs=1e-6)


def test_subclass_map_is_that_of_the_raw_log(made: Made, models: dict[str, Any], raw: pd.DataFrame) -> None:
    table = scored(made, "valid")
    training = raw[raw.index < raw.index[made.run.spec().rows["train"]]]
    texts = raw.loc[table["offset"]]
    for name in texts:
        known = texts[name].isin(training[name]) | (texts[name] == "")
        texts[name] = texts[name].where(known, "(unseen)").replace("", "(missing)")
    joint = table[[f"q{k}" for k in range(2 * SUBCLASSES)]].set_axis(
        pd.MultiIndex.from_product([CLASSES, range(SUBCLASSES)]), axis=1
    )
    sums = pd.concat({name: joint.groupby(texts[name].to_numpy()).sum() for name in texts})
    found = pd.DataFrame(models["teacher"]["subclass_map"])
    assert list(found.groupby(["class", "subclass"], sort=False).groups) == list(joint.columns)
    for (c, j), rows in found.groupby(["class", "subclass"], sort=False):
        own, whole = joint[c, j].sum(), joint[c].to_numpy().sum()
        assert rows["share"].tolist() == pytest.approx([own / whole] * len(rows), rel=1e-6)
        lift = (sums[c, j] / own) / (sums[c].sum(axis=1) / whole)
        best = lift[(sums[c, j] >= 30) & (lift > 1)].nlargest(5)
        if best.empty:
            assert rows[["column", "value"]].to_numpy().tolist() == [["", ""]] and rows["lift"].isna().all()
            continue
        assert rows["lift"].tolist() == pytest.approx(best.tolist(), rel=1e-5)
        assert set(zip(rows["column"], rows["value"], strict=True)) == set(best.index)
        assert rows["rows"].tolist() == pytest.approx(sums[c, j][best.index].tolist(), rel=1e-5)


def test_a_teacher_of_another_label_is_not_compared(made: Made) -> None:
    models, run = ["teacher", "students/hard"], made.run
    metrics = {name: ClickMetrics.empty().update(*np.array([[0, 1, 0], [-1, 0.5, 1], [0, 1, 2]])) for name in models}
    diagnoses = Diagnoses(run, run.spec(), ["valid"], models, 2 * SUBCLASSES)
    own, other = (diagnoses.teacher({"valid": metrics}, label) for label in ("", "bought"))
    assert len(own) == 6 and own[:4] == other and [row["value"] for row in own[4:]] == [0, 0]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_diagnosis_of_the_teacher(made: Made, models: dict[str, Any], split: str) -> None:
    table = scored(made, split)
    rows = {row["what"]: row for row in models["teacher"]["diagnosis"] if row["split"] == split}
    peer = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky").fit(table[["logit"]], table["y"])
    p_star, gap = table["p_star"], table["p"] - table["p_star"]
    variance = (p_star * (1 - p_star) * table["hard"] ** 2).mean() / made.run.spec().rows["train"]
    bias = -(gap * table["hard"]).mean()
    expected = {
        "calibration slope": peer.coef_[0, 0],
        "calibration intercept": peer.intercept_[0],
        "mean (p_t - p*)^2": (gap**2).mean(),
        "mean p* (1 - p*)": (p_star * (1 - p_star)).mean(),
        "bias of the teacher's risk, logits of hard": bias,
        "variance of the labels' risk, logits of hard": variance,
        "best alpha by both, logits of hard": variance / (variance + bias**2),
    }
    for what, value in expected.items():
        assert rows[what]["value"] == pytest.approx(value, rel=1e-4, abs=1e-4 if "calibration" in what else 1e-9), what
        assert set(rows[what]) == {"split", "what", "value"}
    for metric, what in (("brier", "Brier score minus that of hard"), ("logloss", "logloss minus that of hard")):
        difference = models["teacher"][split][metric] - models["students/hard"][split][metric]
        assert rows[what]["value"] == pytest.approx(difference, abs=1e-12)
        assert rows[what]["low"] < difference < rows[what]["high"]
    assert 0 <= rows["logloss lost to miscalibration"]["value"] < 0.05
    assert len(rows) == len(models["teacher"]["diagnosis"]) / 2 == 11

"""``check-model``: figures against scikit-learn on what the signature ``tsv`` says, limits, and mistakes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import spearmanr
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from support import Made

from features.errors import ArtifactError, ConfigError, DataError
from features.schema import CRITEO
from models.backend import tf
from pipeline import check_latency, cli
from pipeline.check_limits import Limits
from pipeline.check_model import CheckSettings, check_model

NEW, CURRENT = "students/subclass", "students/hard"
LINES = 2000
COLUMN = "C9"
UNTIMED = Limits(max_p99_ms=None)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Any:
    """Few answers are timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_latency, "SINGLES", 30)
        patch.setattr(check_latency, "BATCHES", 2)
        yield


@pytest.fixture(scope="module")
def later(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last lines of the log, the three broken ones among them."""
    path = tmp_path_factory.mktemp("later") / "later.tsv"
    path.write_bytes(b"".join(made.log.read_bytes().splitlines(keepends=True)[-LINES - 3 :]))
    return path


def folder(made: Made, stage: str) -> str:
    return made.run.file(stage, "model")


@pytest.fixture(scope="module")
def truth(made: Made, later: Path) -> pd.DataFrame:
    """Label, both models' logits, and categorical fields of each good line."""
    lines = later.read_bytes().splitlines()[:LINES]
    table = pd.DataFrame(
        [line.decode().split("\t")[14:] for line in lines], columns=list(CRITEO.categorical), dtype=object
    )
    for name, stage in (("new", NEW), ("current", CURRENT)):
        loaded = tf.saved_model.load(f"{folder(made, stage)}/1")
        table[name] = loaded.signatures["tsv"](lines=tf.constant(lines))["logit"].numpy().astype(np.float64)
    return table.assign(y=[int(line[:1]) for line in lines])


@pytest.fixture(scope="module")
def result(made: Made, later: Path) -> dict[str, Any]:
    settings = CheckSettings(UNTIMED, column=COLUMN)
    return check_model(folder(made, NEW), [str(later)], f"{folder(made, CURRENT)}/1", settings)


@pytest.mark.parametrize("model", ["new", "current"])
def test_metrics(result: dict[str, Any], truth: pd.DataFrame, model: str) -> None:
    p, y, found = expit(truth[model]), truth["y"], result["models"][model]["metrics"]
    assert result["rows"] == found["rows"] == LINES and result["rejects"] == 3
    assert found["logloss"] == pytest.approx(log_loss(y, p), abs=1e-6)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-4)
    assert found["brier"] == pytest.approx(brier_score_loss(y, p), abs=1e-6)
    assert found["pcoc"] == pytest.approx(p.sum() / y.sum(), abs=1e-5)
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high


def test_differences_are_new_minus_current(result: dict[str, Any]) -> None:
    for name, row in result["differences"].items():
        new, current = (result["models"][model]["metrics"][name] for model in ("new", "current"))
        assert row["difference"] == pytest.approx(new - current, abs=1e-12) and row["low"] < row["high"]


def test_churn(result: dict[str, Any], truth: pd.DataFrame) -> None:
    p, q = expit(truth["new"]), expit(truth["current"])
    assert result["churn"]["mean_change"] == pytest.approx(np.abs(p - q).mean(), abs=1e-6)
    assert result["churn"]["moved"] == pytest.approx(np.mean(np.maximum(p / q, q / p) > 1.5), abs=2 / LINES)
    assert result["churn"]["rank_correlation"] == pytest.approx(spearmanr(p, q).statistic, abs=1e-3)


def by(result: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {row["slice"]: row for row in result["slices"] if row["by"] == kind}


def check_slice(row: dict[str, Any], part: pd.DataFrame) -> None:
    assert row["rows"] == len(part) and row["clicks"] == part["y"].sum()
    for model in ("new", "current"):
        p = expit(part[model])
        assert row[f"logloss_{model}"] == pytest.approx(log_loss(part["y"], p, labels=[0, 1]), abs=1e-5)
        if row["clicks"]:
            assert row[f"pcoc_{model}"] == pytest.approx(p.sum() / part["y"].sum(), abs=1e-4)


def test_slices_of_a_column(result: dict[str, Any], truth: pd.DataFrame) -> None:
    counts, found = truth[COLUMN].value_counts(), by(result, COLUMN)
    assert sorted(row["rows"] for row in found.values()) == sorted(counts[:20])
    for name, row in found.items():
        check_slice(row, truth[truth[COLUMN] == ("" if name == "(missing)" else name)])


def test_slices_of_values_without_embedding(made: Made, result: dict[str, Any], truth: pd.DataFrame) -> None:
    """A student keeps the most frequent training values; of equally frequent ones the first by their bytes."""
    kept = json.loads(Path(folder(made, NEW), "1/assets.extra/features.json").read_text())["kept"]
    lines = made.log.read_text().splitlines()[: made.run.spec().rows["train"]]
    strangers = pd.Series(0, truth.index)
    for name, values in zip(
        CRITEO.categorical, zip(*(line.split("\t")[14:] for line in lines), strict=True), strict=True
    ):
        counts = Counter(value for value in values if value)
        known = sorted(counts, key=lambda value: (-counts[value], value))[: kept[name]]
        strangers += ~truth[name].isin(["", *known])
    found = by(result, "values without embedding")
    slices = pd.cut(strangers, [-1, 0, 2, 26], labels=["0", "1-2", "3+"])
    assert {name: row["rows"] for name, row in found.items()} == {k: v for k, v in slices.value_counts().items() if v}
    for name, row in found.items():
        check_slice(row, truth[slices == name])


def test_slices_of_the_current_probability(result: dict[str, Any], truth: pd.DataFrame) -> None:
    found = by(result, "p_click, current")
    ranked, first = truth.sort_values("current"), 0
    assert sum(row["rows"] for row in found.values()) == LINES
    # Logits within a cell stay together, so the bins differ a little in size.
    assert len(found) == 10 and all(0.07 < row["rows"] / LINES < 0.13 for row in found.values())
    for row in found.values():
        check_slice(row, ranked[first : first + row["rows"]])
        first += row["rows"]


def test_costs(made: Made, result: dict[str, Any]) -> None:
    for name, stage in (("new", NEW), ("current", CURRENT)):
        model, root = result["models"][name], Path(folder(made, stage), "1")
        assert model["path"] == str(root)
        files = [path for path in root.rglob("*") if path.is_file() and "assets.extra" not in path.parts]
        assert model["bytes"] == sum(path.stat().st_size for path in files) > 0
        assert 0 < model["p50_ms"] <= model["p99_ms"] and model["rows_per_second"] > 0


def test_a_model_alone_and_a_log_that_lost_rows(made: Made, later: Path, truth: pd.DataFrame) -> None:
    settings = CheckSettings(UNTIMED, negative_rate=0.25)
    found = check_model(folder(made, NEW), [str(later)], None, settings)
    assert found["differences"] == found["churn"] == {} and list(found["models"]) == ["new"]
    weights, metrics = np.where(truth["y"] == 1, 1.0, 4.0), found["models"]["new"]["metrics"]
    assert metrics["logloss"] == pytest.approx(log_loss(truth["y"], expit(truth["new"]), sample_weight=weights))
    assert metrics["pcoc"] == pytest.approx((weights * expit(truth["new"])).sum() / truth["y"].sum())
    assert metrics["pcoc"] > 1.3 and found["broken"][0].startswith("PCOC is ")
    assert {row["by"] for row in found["slices"]} == {"values without embedding", "p_click, new"}


def arguments(made: Made, later: Path, *more: str) -> list[str]:
    return ["check-model", folder(made, NEW), "--input", str(later), *more]


def test_exit_codes_text_and_json(made: Made, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    off = [f"--{name}=none" for name in ("max-p99-ms", "pcoc-range", "slice-pcoc-range", "max-logloss-increase")]
    off += ["--max-churn", "1", "--json", str(tmp_path / "found.json")]
    cli.main(arguments(made, later, *off, "--current", folder(made, CURRENT)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "all limits kept" and lines[2].startswith("2,000 rows, 3 rejects")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["broken"] == [] and found["limits"]["max_churn"] == 1 and found["limits"]["pcoc_range"] is None
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments(made, later, *off, "--max-bytes", "10", "--pcoc-range", "5,6"))
    assert ended.value.code == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert (
        last.startswith("BROKEN: PCOC is ") and ", limit 5 to 6; size is " in last and last.endswith(" bytes, limit 10")
    )


def test_models_of_other_logs(made: Made, later: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(Path(folder(made, CURRENT), "1"), other)
    path = other / "assets.extra/features.json"
    path.write_text(path.read_text().replace('"kind": "integer"', '"kind": "float"', 1))
    with pytest.raises(ConfigError, match=r"must read the same log\. Received: schemas with different columns \("):
        check_model(folder(made, NEW), [str(later)], str(other), CheckSettings())


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"min_rows": 2001}, DataError, r"at least 2001 rows\. Received: 2000"),
        ({"column": "I1"}, ConfigError, r"--slice must be a categorical column \(C1, .*Received: I1"),
        ({"column": "C3"}, ConfigError, r"--slice must be a column of at most 1000 values\. Received: C3"),
    ],
)
def test_mistakes(made: Made, later: Path, more: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_model(folder(made, NEW), [str(later)], None, CheckSettings(**more))


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"--negative-rate must be above 0 and at most 1\. Received: "):
        CheckSettings(negative_rate=rate)


def test_logs_that_say_nothing(made: Made, later: Path, tmp_path: Path) -> None:
    lines = later.read_bytes().splitlines(keepends=True)[:LINES]
    unlabelled, one_class = tmp_path / "unlabelled.tsv", tmp_path / "one.tsv"
    unlabelled.write_bytes(b"".join(line.split(b"\t", 1)[1] for line in lines))
    one_class.write_bytes(b"".join(line for line in lines if line[:1] == b"0"))
    for path, message in ((unlabelled, "must have labels"), (one_class, "must have clicks and rows without")):
        with pytest.raises(DataError, match=rf"The input {message}"):
            check_model(folder(made, NEW), [str(path)], None, CheckSettings())


@pytest.mark.parametrize("flag", ["MODEL", "--current"])
def test_what_is_no_model(made: Made, later: Path, flag: str) -> None:
    paths = [folder(made, NEW), made.run.file("examples")]
    model, current = reversed(paths) if flag == "MODEL" else paths
    with pytest.raises(ArtifactError, match=f"{flag} must be the folder of an exported student"):
        check_model(model, [str(later)], current, CheckSettings())

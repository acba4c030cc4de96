"""The model card: its figures against scikit-learn and NumPy on what the exported files say of the raw log."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from support import Made

from features.schema import CRITEO
from models.backend import tf
from pipeline import storage
from pipeline.card_rows import SplitFigures, read_figures
from pipeline.card_sections import MARKDOWN, PAGE
from pipeline.exported_model import ExportedModel
from pipeline.model_card import write_model_card
from pipeline.workspace import EXAMPLES, Run

STAGE = "students/subclass"
BINS = 10


@pytest.fixture(scope="module")
def folder(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export without a card."""
    path = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(made.run.file(STAGE, "model/1"), path)
    for name in (MARKDOWN, PAGE):
        (path / name).unlink(missing_ok=True)
    return path


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def text(made: Made, folder: Path, files: dict[str, int]) -> str:
    write_model_card(made.run, STAGE, str(folder))
    return (folder / MARKDOWN).read_text()


@pytest.fixture(scope="module")
def rows(made: Made, folder: Path) -> dict[str, pd.DataFrame]:
    """Label, logit by the signature ``tsv``, and categorical fields of each good line, by split."""
    lines = [line for line in made.log.read_bytes().splitlines() if line.count(b"\t") == 39 and line[:1] in b"01"]
    table = pd.DataFrame([line.decode().split("\t")[14:] for line in lines], columns=list(CRITEO.categorical))
    model = tf.saved_model.load(str(folder))
    logits = model.signatures["tsv"](lines=tf.constant(lines))["logit"].numpy()
    table = table.assign(y=[int(line[:1]) for line in lines], z=logits.astype(np.float64))
    found, first = {}, 0
    for split, count in made.run.spec().rows.items():
        found[split] = table[first : first + count]
        first += count
    return found


@pytest.fixture(scope="module")
def figures(made: Made, folder: Path) -> dict[str, SplitFigures]:
    return read_figures(made.run, ExportedModel(str(folder)).logits)


def cells(text: str, caption: str) -> dict[str, list[str]]:
    """The rows of a table of the card, by their first cell."""
    body = text.split(f"**{caption}**\n\n")[1].split("\n\n")[0]
    return {row[0]: row[1:] for line in body.splitlines()[2:] for row in [line.strip("| ").split(" | ")]}


@pytest.mark.parametrize(("split", "name"), [("valid", "Validation"), ("test", "Test")])
def test_metrics_are_those_of_scikit_learn(text: str, rows: dict[str, pd.DataFrame], split: str, name: str) -> None:
    part = rows[split]
    y, p = part["y"].to_numpy(), expit(part["z"].to_numpy())
    rate = rows["train"]["y"].mean()
    for column, q in enumerate((p, np.full(len(y), rate))):
        expected = {
            "Logloss": log_loss(y, q),
            "AUC": roc_auc_score(y, q),
            "NE": log_loss(y, q) / log_loss(y, np.full(len(y), y.mean())),
            "PCOC": q.sum() / y.sum(),
            "Brier": brier_score_loss(y, q),
        }
        table = cells(text, f"{name}, {len(y):,} rows")
        for metric, value in expected.items():
            shown, low, high = map(float, re.findall(r"[0-9.]+", table[metric][column]))
            # Logits within a bin of the histogram are ties of the AUC.
            tolerance = 2e-4 if metric == "AUC" else 6e-5
            assert shown == pytest.approx(value, abs=tolerance) and low <= shown <= high


def test_data_and_model(made: Made, text: str, rows: dict[str, pd.DataFrame], files: dict[str, int]) -> None:
    names = {"train": "training", "valid": "validation", "test": "test"}
    expected = {names[k]: [f"{len(v):,}", f"{v['y'].sum():,}", f"{v['y'].mean():.4f}"] for k, v in rows.items()}
    assert cells(text, "Rows as they are in the log") == expected
    assert cells(text, "The log") == {made.log.name: [f"{made.log.stat().st_size / 1e6:.3g} MB"]}
    model = cells(text, "What it is")
    assert model["Bytes"] == [f"{sum(files.values()):,} in {len(files)} files"]
    assert model["Teacher"] == [made.run.manifest("targets")["teacher"]]
    shown = {name.replace("\\", "") for name in cells(text, "Its files, without this card")}
    assert shown == set(files)
    numbers = re.findall(r"[\d,]+(?= numbers of)", model["Variables"][0])
    assert sum(int(found.replace(",", "")) for found in numbers) >= made.run.manifest(STAGE)["parameters"]


def test_calibration_is_that_of_the_manifest(made: Made, text: str, folder: Path) -> None:
    expected = made.run.manifest(STAGE)["calibration"]
    assert ExportedModel(str(folder)).calibration == pytest.approx((expected["scale"], expected["shift"]), rel=1e-6)
    sign = "\u2212" if expected["shift"] < 0 else "+"
    assert f"The logit is {expected['scale']:.4f} x {sign} {abs(expected['shift']):.4f}, x being that" in text


def test_reliability(text: str, rows: dict[str, pd.DataFrame]) -> None:
    part = rows["test"].assign(p=expit(rows["test"]["z"])).sort_values("p")
    first = 0
    found = cells(text, "Test rows by rising click probability")
    assert list(found) == [str(number + 1) for number in range(BINS)]
    for count, predicted, rate in found.values():
        bin_ = part[first : first + int(count.replace(",", ""))]
        first += len(bin_)
        assert float(predicted) == pytest.approx(bin_["p"].mean(), abs=1e-3)
        assert float(rate.split(" ")[0]) == pytest.approx(bin_["y"].mean(), abs=2e-3)
        assert abs(len(bin_) - len(part) / BINS) < 10
    assert first == len(part)


def strangers(rows: dict[str, pd.DataFrame]) -> np.ndarray:
    """Training rows with each categorical field of the test rows; those of missing ones are not zero."""
    counts = [
        rows["test"][name].map(rows["train"][name].value_counts()).fillna(0).where(rows["test"][name] != "", 1)
        for name in CRITEO.categorical
    ]
    return np.stack(counts, axis=1)


def test_unseen_values(figures: dict[str, SplitFigures], rows: dict[str, pd.DataFrame], text: str) -> None:
    unseen = strangers(rows) == 0
    assert figures["test"].unseen_values == pytest.approx(unseen.mean(), rel=1e-12)
    assert figures["test"].unseen_rows == pytest.approx(unseen.any(axis=1).mean(), rel=1e-12)
    assert f"- {unseen.any(axis=1).mean():.1%} of the test rows have a value that no training row has" in text


def test_slices_by_the_rarest_value(rows: dict[str, pd.DataFrame], text: str) -> None:
    counts = [rows["test"][name].map(rows["train"][name].value_counts()).fillna(0) for name in CRITEO.categorical]
    rarest = pd.concat(counts, axis=1).min(axis=1)
    found = cells(text, "By the rarest value of a row")
    part = rows["test"][rarest == 0]
    p = expit(part["z"])
    assert found["0"][:2] == [f"{len(part):,}", f"{part['y'].mean():.4f}"]
    assert float(found["0"][2]) == pytest.approx(p.sum() / part["y"].sum(), abs=6e-4)
    assert float(found["0"][3]) == pytest.approx(log_loss(part["y"], p), abs=6e-6)
    assert sum(int(row[0].replace(",", "")) for row in found.values()) == len(rows["test"])


def test_both_forms_say_the_same(text: str, folder: Path) -> None:
    page = (folder / PAGE).read_text()
    titles = ["Model", "Data", "Metrics", "Calibration", "Rare values", "Limits", "Fingerprints", "Licence of the data"]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == re.findall(r"<h2>(.*?)</h2>", page) == titles
    for fingerprint in cells(text, "What it was made from").values():
        assert fingerprint[0] in page


def test_fingerprints(made: Made, text: str) -> None:
    found = cells(text, "What it was made from")
    assert found["Examples"] == [made.run.identity("examples")] and found["Targets"] == [made.run.identity("targets")]
    assert found["Student"] == [made.run.manifest(STAGE)["key"]] and found["Stage"] == [STAGE]


def change_spec(run: Run, **changes: object) -> None:
    spec = replace(run.spec(), **changes)  # type: ignore[arg-type]
    storage.write_json(run.file(EXAMPLES, "spec.json"), spec.to_json())


def test_a_student_without_teacher_licence_and_lost_rows(
    copy_of: Callable[..., Run], folder: Path, rows: dict[str, pd.DataFrame]
) -> None:
    """The base rate is that of the log before rows without click were dropped, and so are the weights."""
    run = copy_of("teacher")
    change_spec(run, schema=replace(CRITEO, licence="CC BY 4.0 <by us>"), negative_rate=0.5)
    write_model_card(run, "students/hard", str(folder))
    text = (folder / MARKDOWN).read_text()
    assert text.endswith("## Licence of the data\n\nCC BY 4.0 &lt;by us>\n")
    assert cells(text, "What it is")["Teacher"] == ["none"] and "Targets" not in cells(text, "What it was made from")
    y, train = rows["test"]["y"].to_numpy(), rows["train"]["y"]
    odds = train.mean() / (1 - train.mean()) / 2
    rate = expit(math.log(odds))
    expected = log_loss(y, np.full(len(y), rate), sample_weight=np.where(y == 1, 1, 2))
    shown = cells(text, f"Test, {len(y):,} rows")["Logloss"][1]
    assert float(shown.split(" ")[0]) == pytest.approx(expected, abs=6e-6)


def test_without_held_back_rows(copy_of: Callable[..., Run], folder: Path) -> None:
    run = copy_of("teacher")
    change_spec(run, rows={**run.spec().rows, "valid": 0, "test": 0})
    write_model_card(run, STAGE, str(folder))
    text = (folder / MARKDOWN).read_text()
    assert "No rows were held back from training" in text and "## Metrics" not in text
    assert "- No validation rows were held back" in text

"""``report``: what people read, on the terminal and as a page."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from example_comparison import comparison
from support import METHODS, ROWS, Made

from features.errors import ArtifactError
from features.schema import GROUP, WEIGHT, Column, Schema
from models.metrics import METRICS
from pipeline import storage
from pipeline.evaluate import without_nan
from pipeline.keys import evaluation_key
from pipeline.report import metric_table, read_metrics, report, report_data, summary, terminal_tables
from pipeline.report_provenance import weighting
from pipeline.workspace import Run


@pytest.fixture(scope="module")
def found(made: Made) -> dict[str, Any]:
    return json.loads(Path(made.run.file("report/metrics.json")).read_text())


@pytest.fixture(scope="module")
def page(made: Made) -> str:
    return Path(made.run.file("report/index.html")).read_text()


def model(logloss: float, valid: float = 0.5) -> dict[str, Any]:
    """What is known of one model, with a logloss on test and one on validation rows."""
    splits = {}
    for split, value in (("valid", valid), ("test", logloss)):
        values = {**dict.fromkeys(METRICS, 0.25), "logloss": value}
        splits[split] = {"rows": 1000, **values, "intervals": {name: [0.0, 1.0] for name in METRICS}}
    names = ("seed", "embedding_dim", "hidden", "min_count", "statistics", "smoothing")
    costs = {"parameters": 12345, "bytes": 10, "rows_per_second": 1.0}
    return {**splits, **costs, "settings": {**dict.fromkeys(names, 1), "alpha": logloss}}


def metrics_of(difference: float, low: float, high: float) -> dict[str, Any]:
    """The metrics of a teacher and two students, of which kd is chosen on validation."""
    row = {"split": "test", "method": "students/kd", "baseline": "students/hard", "metric": "logloss"}
    return {
        "models": {"teacher": model(0.4), "students/hard": model(0.45), "students/kd": model(0.43, valid=0.49)},
        "splits": ["valid", "test"],
        "comparisons": [
            {**row, "difference": difference, "low": low, "high": high},
            {**row, "split": "valid", "difference": 9.0, "low": 8.0, "high": 10.0},
            {**row, "metric": "auc", "difference": 7.0, "low": 6.0, "high": 8.0},
        ],
    }


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((-0.02, -0.03, -0.01), "0.02000 below .* (95 % interval 0.01000 to 0.03000, clear of zero, "),
        ((-0.02, -0.05, 0.01), "0.02000 below .* (95 % interval -0.01000 to 0.05000, not clear of zero, "),
        ((0.02, -0.01, 0.05), "0.02000 above .* (95 % interval -0.01000 to 0.05000, not clear of zero, "),
        ((0.02, 0.01, 0.05), "0.02000 above .* (95 % interval 0.01000 to 0.05000, clear of zero, "),
    ],
)
def test_summary_says_by_how_much_and_how_sure(numbers: tuple[float, float, float], words: str) -> None:
    assert summary(metrics_of(*numbers)) == (
        "Best student by validation logloss: students/kd, test logloss 0.43000, "
        f"{words.replace('.*', 'the student trained on labels alone')}for this one training of each)."
    )


def test_summary_without_hard_or_without_students() -> None:
    found = metrics_of(-0.02, -0.03, -0.01)
    del found["models"]["students/hard"]
    found["comparisons"] = []
    assert summary(found) == "Best student by validation logloss: students/kd, test logloss 0.43000."
    del found["models"]["students/kd"]
    assert summary(found) == "No student yet. The teacher's test logloss is 0.40000."


def test_summary_of_a_refit() -> None:
    """Its student is chosen by the validation rows of the run that it was made from."""
    found = metrics_of(-0.02, -0.03, -0.01)
    for each in found["models"].values():
        del each["valid"]
    losses = {"students/hard": 0.44, "students/kd": 0.42}
    found |= {"splits": ["test"], "refit": {"run": "/runs/first", "valid_logloss": losses}}
    found["comparisons"] = [row for row in found["comparisons"] if row["split"] == "test"]
    start = "Best student by validation logloss of /runs/first: students/"
    assert summary(found).startswith(f"{start}kd, test logloss 0.43000, 0.02000 below ")
    losses["students/kd"] = 0.45
    assert summary(found) == f"{start}hard, test logloss 0.45000."
    assert list(metric_table(found)["split"].unique()) == ["test"]
    assert terminal_tables(found).startswith("test rows: 1,000")


def test_terminal_tables() -> None:
    lines = terminal_tables(metrics_of(-0.02, -0.03, -0.01)).splitlines()
    assert lines[0] == "test rows: 1,000"
    assert lines[2].split() == [*METRICS, "parameters"]
    assert lines[5].split() == "students/kd 0.43000 0.25000 0.2500 0.2500 0.25000 0.25000 12,345".split()
    assert lines[7:9] == [
        "paired differences of the logloss, 95 % intervals (negative: better)",
        "  kd - hard: -0.02000  [-0.03000, -0.01000]",
    ]


def test_students_of_other_shapes_are_not_compared_silently() -> None:
    found = metrics_of(-0.02, -0.03, -0.01)
    assert "not comparable" not in terminal_tables(found), "alpha may differ: it belongs to the method"
    found["models"]["students/kd"]["settings"]["hidden"] = 64
    found["models"]["students/hard"]["settings"]["seed"] = 3
    assert "The students are not comparable: they differ in seed, hidden." in terminal_tables(found)


@pytest.mark.parametrize("name", ["seed", "embedding_dim", "hidden", "min_count", "statistics", "smoothing"])
def test_each_setting_that_students_must_share(name: str) -> None:
    found = metrics_of(-0.02, -0.03, -0.01)
    sentence = f"The students are not comparable: they differ in {name}."
    found["models"]["teacher"]["settings"][name] = 2
    assert sentence not in terminal_tables(found), "the teacher is no student"
    found["models"]["students/kd"]["settings"][name] = 2
    parts = terminal_tables(found).split("\n\n")
    assert parts[-2:] == [sentence, summary(found)]


def test_rows_of_one_class_have_no_auc(tmp_path: Path) -> None:
    """What is not finite is null in the file, NaN in memory, and no reason to fail."""
    found = metrics_of(-0.02, -0.03, -0.01)
    for values in found["models"].values():
        for split in ("valid", "test"):
            values[split] |= {"auc": math.nan, "intervals": {**values[split]["intervals"], "auc": [math.nan, math.inf]}}
    run = Run(str(tmp_path))
    storage.write_json(run.file("report/metrics.json"), without_nan(found))
    stored = json.loads(Path(run.file("report/metrics.json")).read_text())["models"]["students/kd"]["test"]
    assert stored["auc"] is None and stored["intervals"]["auc"] == [None, None] and stored["ne"] == 0.25
    read = read_metrics(run)
    assert math.isnan(read["models"]["students/kd"]["test"]["auc"])
    assert read["models"]["students/kd"]["test"]["logloss"] == 0.43 and read["splits"] == found["splits"]
    assert terminal_tables(read).splitlines()[5].split()[:4] == ["students/kd", "0.43000", "NaN", "0.2500"]
    table = metric_table(read)
    assert table[["auc", "auc_low", "auc_high"]].isna().all(axis=None) and table["auc"].dtype == float
    assert not table.drop(columns=["auc", "auc_low", "auc_high"]).isna().any(axis=None)


def test_tables_hold_the_numbers_of_the_run(made: Made, found: dict[str, Any]) -> None:
    table = metric_table(found).set_index(["model", "split"])
    assert len(table) == 2 * (1 + len(METHODS))
    row = table.loc[("students/kd", "valid")]
    values = found["models"]["students/kd"]["valid"]
    assert [row["rows"], row["auc"], row["auc_low"]] == [values["rows"], values["auc"], values["intervals"]["auc"][0]]
    assert terminal_tables(found) in made.stdout
    assert f"{found['models']['students/subclass']['test']['logloss']:.5f}" in made.stdout


def test_data_of_the_page(made: Made, found: dict[str, Any]) -> None:
    data = report_data(made.run)
    assert data.main_split == "test" and set(data.histories) == set(found["models"])
    assert list(data.histories["teacher"].columns[:3]) == ["epoch", "rows_seen", "train_loss"]
    bayes = data.bayes.set_index(["model", "split"])
    assert bayes.loc[("students/hard", "test"), "gap_share"] == 0
    assert bayes.loc[("teacher", "test"), "gap_share"] == 1
    excess = {name: bayes.loc[(name, "test"), "excess"] for name in ("students/hard", "students/kd", "teacher")}
    share = (excess["students/hard"] - excess["students/kd"]) / (excess["students/hard"] - excess["teacher"])
    assert bayes.loc[("students/kd", "test"), "gap_share"] == pytest.approx(share)
    provenance = dict(data.provenance)
    assert provenance["Inputs"] == str(made.log) and provenance["Rejects"] == f"3 of {ROWS + 3:,} lines"
    assert "split 70/15/15" in provenance["Preprocessing"] and "tensorflow 2." in provenance["Packages"]
    assert provenance["Teacher"] == made.run.manifest("teacher")["fingerprint"]
    assert not any("no test rows" in note for note in data.notes)


def test_provenance_says_what_rows_count(made: Made) -> None:
    spec = made.run.spec()
    assert weighting(spec) == []
    columns = (*spec.schema.columns, Column("worth", WEIGHT), Column("user", GROUP))
    other = dataclasses.replace(spec, schema=Schema(columns), negative_rate=0.05)
    assert weighting(other) == [
        ("Weights of the rows", "column worth; metrics and click rates are weighted"),
        (
            "Share of the rows without click in the log",
            "0.05; each that is left counts as 20, and probabilities are those of the whole log",
        ),
        ("Intervals", "rows with the same user are resampled together"),
    ]


def test_settings_of_the_models(made: Made, found: dict[str, Any]) -> None:
    """Each model's are in the metrics; the page lists the first student's, and where the others differ."""
    stored = {"teacher": made.run.manifest("targets")["settings"]}
    stored |= {f"students/{method}": made.run.manifest(f"students/{method}")["settings"] for method in METHODS}
    assert {name: values["settings"] for name, values in found["models"].items()} == stored
    assert stored["teacher"] == made.run.manifest("teacher")["settings"] and stored["teacher"]["hidden"] == [16]
    listed = dict(report_data(made.run).provenance)
    for name in ("teacher", "students/hard"):
        assert listed[f"Settings of {name}"] == ", ".join(f"{key} {value}" for key, value in stored[name].items())
    for method in METHODS[1:]:
        title = f"Settings of students/{method}, where they differ from the first student's"
        own, first = stored[f"students/{method}"], stored["students/hard"]
        different = [f"{key} {value}" for key, value in own.items() if value != first[key]]
        assert listed[title] == (", ".join(different) or "none")


def test_the_page_says_that_students_are_not_comparable(found: dict[str, Any], made: Made, tmp_path: Path) -> None:
    sentence = "The students are not comparable: they differ in hidden."
    assert not any("not comparable" in note for note in report_data(made.run).notes)
    changed = json.loads(json.dumps(found))
    changed["models"]["students/kd"]["settings"]["hidden"] = 64
    run = _without(made, tmp_path, changed, ["teacher", "students/hard", "students/kd"])
    assert report_data(run).notes[0] == sentence
    text = " ".join(_Page(Path(report(run)).read_text()).texts)
    assert sentence in text and "Settings of students/hard" in text and "hidden 64" in text


def test_an_evaluation_of_other_models_is_refused(copy_of: Callable[..., Run]) -> None:
    run = copy_of()
    page = Path(run.file("report/index.html"))
    before = page.read_bytes()
    report(run)
    assert page.read_bytes() == before
    storage.write_json(run.file("students/kd/manifest.json"), {**run.manifest("students/kd"), "key": "other"})
    with pytest.raises(ArtifactError) as error:
        report(run)
    assert str(error.value) == (
        "A report must be of the run's present models. Received: an evaluation of others; make it again with "
        f"`ctr-distill evaluate --run {run.path}`."
    )
    assert page.read_bytes() == before


def _only_examples(made: Made, folder: Path, value: dict[str, Any]) -> Run:
    """A run that has a comparison on its examples and no models."""
    run = Run(str(folder / "compared"))
    Path(run.path).mkdir()
    for stage in ("examples", "rejected"):
        Path(run.file(stage)).symlink_to(made.run.file(stage))
    value["examples"] = run.identity("examples")
    storage.write_json(run.file("compare/comparison.json"), value)
    return run


def test_a_comparison_needs_no_evaluation(made: Made, tmp_path: Path) -> None:
    value = comparison({"kd": (-0.002, -0.003, -0.001), "subclass": (None, None, None)})
    run = _only_examples(made, tmp_path, value)
    text = " ".join(_Page(Path(report(run)).read_text()).texts)
    assert "Use kd: 0.00200 lower test logloss than hard" in text and str(made.log) in text
    assert "The models of this run" not in text and "No student yet" not in text
    assert json.loads(Path(run.file("report/comparison.json")).read_text()) == value
    data = report_data(run)
    assert data.metrics.empty and dict(data.provenance)["Rejects"] == f"3 of {ROWS + 3:,} lines"


def test_a_comparison_is_shown_above_the_models(copy_of: Callable[..., Run], found: dict[str, Any]) -> None:
    """One of other models is left out until it is made again: a comparison has taken hours."""
    run = copy_of()
    storage.write_json(run.file("compare/comparison.json"), comparison(examples=run.identity("examples")))
    text = Path(report(run)).read_text()
    assert text.index("Use kd: 0.00200 lower") < text.index("The models of this run") < text.index(summary(found))
    assert Path(run.file("report/comparison.json")).exists() and read_metrics(run)["splits"] == found["splits"]
    storage.write_json(run.file("students/kd/manifest.json"), {**run.manifest("students/kd"), "key": "other"})
    assert "The models of this run" not in Path(report(run)).read_text()
    assert report_data(run).metrics.empty


def test_a_comparison_on_other_examples_is_left_out(made: Made, copy_of: Callable[..., Run], tmp_path: Path) -> None:
    run, other = copy_of(), "The comparison of methods in this run is of other examples and is left out"
    storage.write_json(run.file("compare/comparison.json"), comparison(examples=run.identity("examples")))
    assert other not in Path(report(run)).read_text()
    storage.write_json(run.file("compare/comparison.json"), comparison(examples="of before"))
    text = Path(report(run)).read_text()
    assert other in text and "Use kd: 0.00200 lower" not in text and "The models of this run" not in text
    assert not Path(run.file("report/comparison.json")).exists()
    run = _only_examples(made, tmp_path, comparison())
    storage.write_json(run.file("compare/comparison.json"), comparison(examples="of before"))
    with pytest.raises(ArtifactError, match="The run must hold finished report"):
        report(run)


class _Page(HTMLParser):
    """Text and addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_holds_every_logloss_and_needs_nothing_else(page: str, found: dict[str, Any]) -> None:
    read = _Page(page)
    text = " ".join(read.texts)
    for values in found["models"].values():
        for split in ("valid", "test"):
            assert f"{values[split]['logloss']:.5f}" in text
    assert summary(found) in text
    assert all(address.startswith(("#", "data:")) for address in read.addresses)
    assert "script" not in read.tags and "svg" in read.tags
    for heading in (
        "Learning curves",
        "Reliability",
        "Rare values",
        "calibration slope",
        "Subclass 0",
        "Distance to the optimum",
        "Provenance",
    ):
        assert heading in text


def test_unknown_costs_and_shares_are_dashes(found: dict[str, Any], made: Made, tmp_path: Path) -> None:
    """A teacher that is gone has no speed; without `hard` there is no gap to have a share of."""
    run = _without(made, tmp_path, found, ["teacher", "students/kd"])
    data = report_data(run)
    assert math.isnan(data.costs.set_index("model").loc["teacher", "bytes"])
    assert data.bayes["gap_share"].isna().all() and data.bayes["gap_share"].dtype == float
    assert "\u2013" in Path(report(run)).read_text()


def _without(made: Made, folder: Path, found: dict[str, Any], models: list[str]) -> Run:
    """A run whose metrics know only these models, and nothing of the teacher's costs."""
    run = Run(str(folder / "run"))
    Path(run.path).mkdir()
    for stage in ("examples", "rejected", "targets", "students", "teacher"):
        Path(run.file(stage)).symlink_to(made.run.file(stage))
    Path(run.file("report")).mkdir()
    kept = {name: dict(found["models"][name]) for name in models}
    kept["teacher"] |= {"bytes": None, "rows_per_second": None}
    value = {**found, "models": kept, "comparisons": []}
    Path(run.file("report/metrics.json")).write_text(json.dumps(value))
    Path(run.file("report/manifest.json")).write_text(json.dumps({"key": evaluation_key(run)}))
    return run


def test_before_evaluate(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"make it with `ctr-distill evaluate --run"):
        report_data(Run(str(tmp_path)))


def test_frames_are_numbers(made: Made) -> None:
    data = report_data(made.run)
    for frame in (data.metrics, data.costs, data.differences, data.bayes):
        values = frame.drop(columns=["model", "split", "method", "baseline", "metric"], errors="ignore")
        assert all(pd.api.types.is_numeric_dtype(kind) for kind in values.dtypes)

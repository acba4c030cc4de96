from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from example_comparison import comparison

from models.metrics import METRICS, ClickMetrics, paired_difference
from pipeline.report_comparison import Comparison
from pipeline.report_page import ReportData, render

MODELS = ("teacher", "students/hard", "students/kd", "students/subclass")
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and gathers what the tests ask for."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data + " "

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def measure(seed: int, noise: float) -> ClickMetrics:
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1, 2000)
    labels, groups = rng.random(2000) < 1 / (1 + np.exp(-truth)), rng.integers(0, 200, 2000)
    return ClickMetrics.empty().update(labels, truth + noise * rng.normal(size=2000), groups)


@cache
def report(splits: tuple[str, ...] = ("valid", "test")) -> ReportData:
    noise = dict(zip(MODELS, (0.0, 1.0, 0.6, 0.3), strict=True))
    measured = {split: {m: measure(len(split), noise[m]) for m in MODELS} for split in splits}
    metrics = [{"model": m, "split": s, **a.summary()} for s, by in measured.items() for m, a in by.items()]
    differences = [
        paired_difference(by[m], by["students/hard"]).assign(split=s, method=m, baseline="students/hard")
        for s, by in measured.items()
        for m in MODELS[2:]
    ]
    history = {"epoch": [1, 2, 3], "rows_seen": [1000, 2000, 3000], "train_loss": [0.6, 0.5, 0.4]}
    classes = {"class": ["no click", "click"]}
    return ReportData(
        title="Run runs/demo",
        summary="Use students/subclass: 0.00123 lower test logloss than students/hard (0.00100 to 0.00150).",
        metrics=pd.DataFrame(metrics),
        costs=pd.DataFrame(
            {
                "model": MODELS,
                "parameters": [10_000, 500, 500, 500],
                "bytes": [4e6] * 4,
                "rows_per_second": [1e5] + [1e6] * 3,
            }
        ),
        calibration=pd.DataFrame({"model": MODELS, "scale": 0.9, "shift": -0.01, "reason": ""}),
        differences=pd.concat(differences),
        histories={m: pd.DataFrame(history | {"valid_logloss": [0.5, 0.48, 0.49]}) for m in MODELS},
        reliability={m: a.reliability() for m, a in measured[splits[-1]].items()},
        health=pd.DataFrame(classes | {"usage": 0.9, "entropy_nats": 0.5, "information_bits": 1.1}),
        agreement=pd.DataFrame(classes | {"nmi": 0.4, "random_nmi": 0.001}),
        bayes=pd.DataFrame({"model": MODELS, "split": "valid", "excess": 0.01, "gap_share": [1.0, 0.0, 0.5, math.nan]}),
        provenance=[("Inputs", "logs.tsv"), ("Date", "2026-11-20")],
        notes=["These logs were generated."],
    )


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report()


def test_the_page_is_whole(data: ReportData) -> None:
    page = Page(render(data))
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert anchors == page.ids
    assert len(anchors) == 8
    assert data.summary in page.text and "These logs were generated." in page.text
    assert page.text.index(data.summary) < page.text.index("Logloss")


def test_nothing_is_loaded_from_outside_and_nothing_runs(data: ReportData) -> None:
    html = render(data)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    assert not re.search(r"<script|javascript:|\son[a-z]+=", html)
    assert Page(html).tags.isdisjoint({"script", "img", "iframe", "object"})
    assert "prefers-color-scheme: dark" in html


def test_charts_are_well_formed(data: ReportData) -> None:
    charts = re.findall(r"<svg.*?</svg>", render(data), re.DOTALL)
    assert len(charts) == 2 + 2 + len(MODELS)
    for chart in charts:
        root = ET.fromstring(chart)
        assert root.get("role") == "img" and root.get("aria-label")
        assert "nan" not in chart


def test_the_best_student_is_marked_in_words(data: ReportData) -> None:
    rows = [row for row in Page(render(data)).rows if "best student" in row[0]]
    assert [row[0].split()[0] for row in rows] == ["students/subclass"] * 2
    best = data.metrics.query("model == 'students/subclass' and split == 'test'").iloc[0]
    assert rows[0][1].split()[0] == f"{best['logloss']:.5f}"
    assert rows[0][4].split()[0] == f"{best['pcoc']:.4f}"


def test_differences_say_better_and_worse() -> None:
    frame = pd.DataFrame(
        [
            ("logloss", -0.01, -0.02, -0.005),
            ("auc", -0.01, -0.02, -0.005),
            ("ece", 0.0, -0.1, 0.1),
            ("pcoc", 0.1, 0.05, 0.2),
        ],
        columns=["metric", "difference", "low", "high"],
    ).assign(split="test", method="students/kd", baseline="students/hard")
    page = Page(render(replace(report(), differences=frame)))
    row = next(row for row in page.rows if "\u2212 students/hard" in row[0])
    assert [cell.split("0 ")[-1].split()[-1] for cell in row[1:]] == ["better", "worse", "clear", "clear"]
    assert "not clear" in row[4]


def test_without_test_rows_the_page_is_about_validation() -> None:
    data = replace(report(("valid",)), notes=["There are no test rows in this run."])
    text = Page(render(data)).text
    assert data.main_split == "valid"
    assert "test rows" not in text.replace("no test rows in this run", "")
    assert "mean prediction on validation rows" in text
    assert "On 2,000 validation rows" in text


OPTIONAL: dict[str, tuple[str, Any]] = {
    "differences": ("Differences", pd.DataFrame()),
    "histories": ("Learning curves", {}),
    "reliability": ("Reliability", {}),
    "costs": ("Size and speed", pd.DataFrame()),
    "bayes": ("Distance to the optimum", pd.DataFrame()),
    "provenance": ("Provenance", ()),
    "calibration": ("Calibration fitted", pd.DataFrame()),
    "agreement": ("hidden kinds", pd.DataFrame()),
}


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_part_leaves_no_empty_section(data: ReportData, name: str) -> None:
    heading, empty = OPTIONAL[name]
    assert heading in Page(render(data)).text
    page = Page(render(replace(data, **{name: empty})))
    assert heading not in page.text
    assert [link[1:] for link in page.links if link.startswith("#")] == page.ids


def test_a_report_with_metrics_only() -> None:
    metrics = pd.DataFrame([{"model": "teacher", "split": "valid"} | dict.fromkeys(METRICS, math.nan)])
    page = Page(render(ReportData("t", "s", metrics)))
    assert page.ids == ["metrics"]
    assert page.rows[1][1:] == ["\u2013 "] * len(METRICS)


def test_a_report_of_nothing() -> None:
    assert Page(render(ReportData("t", "s", pd.DataFrame()))).ids == []


def test_everything_is_escaped(data: ReportData) -> None:
    wild = "<img src=x onerror=alert(1)>\"'&{title}\x00"
    frames: dict[str, Any] = {
        name: getattr(data, name).assign(**{column: wild})
        for name, column in [
            ("metrics", "model"),
            ("costs", "model"),
            ("calibration", "reason"),
            ("health", "class"),
        ]
    }
    frames |= {
        name: getattr(data, name).assign(**{column: wild})
        for name, column in [("agreement", "class"), ("bayes", "model"), ("differences", "method")]
    }
    wilder = replace(
        data,
        title=wild,
        summary=wild,
        notes=[wild],
        provenance=[(wild, wild)],
        histories={wild: data.histories["teacher"]},
        reliability={wild: data.reliability["teacher"]},
        **frames,
    )
    html = render(wilder)
    page = Page(html)
    assert "img" not in page.tags and "\x00" not in html
    assert page.text.count("<img src=x onerror=alert(1)>") > 20
    for chart in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(chart)


def test_models_keep_their_colour_in_every_chart(data: ReportData) -> None:
    assert [data.style(model) for model in MODELS] == [0, 1, 2, 3]
    assert data.style("unknown") == 0


COMPARED = Comparison.of(comparison(fractions=(0.1, 1.0)))
VERDICT = "Use kd: 0.00200 lower test logloss than hard [0.00100, 0.00300], 5 seeds."


def test_a_comparison_comes_first(data: ReportData) -> None:
    html = render(replace(data, comparison=COMPARED))
    page = Page(html)
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert anchors == page.ids and len(anchors) == 7 + 8 == len(set(anchors))
    assert anchors[0] == "comparison-of-methods" and anchors.index("metrics") == 7
    places = [page.text.index(words) for words in (VERDICT, "A note.", "Logloss, all training rows")]
    places += [page.text.index(words) for words in ("The models of this run", data.summary, data.notes[0])]
    assert places == sorted(places)
    assert f'<p class="summary">{VERDICT}' in html
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|javascript:|\son[a-z]+=", html)


def test_a_comparison_without_an_evaluation() -> None:
    data = ReportData("t", "", pd.DataFrame(), comparison=COMPARED, provenance=[("Inputs", "log.tsv")])
    page = Page(render(data))
    assert page.ids[0] == "comparison-of-methods" and page.ids[-1] == "provenance" and len(page.ids) == 8
    assert "The models of this run" not in page.text and "log.tsv" in page.text


def test_what_is_said_of_the_teacher_and_of_rare_values(data: ReportData) -> None:
    names = {"model": ["teacher", "students/kd"], "slice": "10-99", "rows": 1500}
    more = replace(
        data,
        by_frequency=pd.DataFrame(names | {"logloss": [0.41234, 0.45678], "pcoc": [1.0012, 0.9876]}),
        diagnosis=pd.DataFrame([{"split": "test", "what": "calibration slope", "value": 0.97531}]),
        subclass_map=pd.DataFrame(
            [{"class": "click", "subclass": 2, "share": 0.4, "column": "C", "value": "x", "lift": 2.5, "rows": 60.0}]
        ),
    )
    page = Page(render(more))
    assert {"rare-values", "teacher", "subclasses"} <= set(page.ids)
    assert ["Model ", "10-99 (1,500 rows) "] in page.rows and ["students/kd ", "0.45678 PCOC 0.9876 "] in page.rows
    assert ["calibration slope ", "0.97531 "] in page.rows
    assert "Subclass 2 40.0 % C = x 2.50\u00d7 60 rows" in page.text

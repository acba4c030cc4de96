"""What a model card says: sections of words and tables, from the run, the exported files and the held-back rows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from models.diagnosis import recalibration
from models.methods import METHODS, TEACHER_SOURCE
from models.metrics import METRICS
from pipeline.card_facts import CardFacts
from pipeline.card_page import Section, Table
from pipeline.card_rows import SplitFigures, last_split
from pipeline.report_provenance import weighting
from pipeline.report_tables import DECIMALS, TITLES, number, size
from pipeline.svg import MINUS
from pipeline.workspace import EXAMPLES

MARKDOWN = "assets.extra/model_card.md"
PAGE = "assets.extra/model_card.html"
NAMES = {"train": "training", "valid": "validation", "test": "test"}
_LEARNS = {
    "none": "the labels alone",
    "class": "the labels and the teacher's click probabilities",
    "subclass": "the labels and subclass probabilities",
}
_ITEMS = ("Property", "Value")
_BINS = 10


def summary(facts: CardFacts) -> str:
    """What stands for the whole card."""
    if not facts.figures:
        return "No rows were held back from training, so nothing is known of how good this student is."
    split = last_split(facts.figures)
    values, base = facts.figures[split].metrics.compute(), facts.figures[split].base.metrics.compute()
    return (
        f"Click probabilities of the rows of a log. On {values['rows']:,} {NAMES[split]} rows: logloss "
        f"{number(values['logloss'], 5)} (base rate alone: {number(base['logloss'], 5)}), AUC "
        f"{number(values['auc'], 4)}, PCOC {number(values['pcoc'], 3)}."
    )


def sections(facts: CardFacts) -> tuple[Section, ...]:
    """All sections, in order."""
    found = [_model(facts), _data(facts)]
    if facts.figures:
        found += [_metrics(facts), _calibration(facts), _slices(facts)]
    return (*found, _limits(facts), _fingerprints(facts), _licence(facts))


def _model(facts: CardFacts) -> Section:
    schema = facts.spec.schema
    files = _files(facts.folder)
    items = (
        ("Method", f"{facts.method}: it has learned from {_learns(facts)}"),
        ("Teacher", facts.teacher or "none"),
        ("Inputs", f"{len(schema.numeric)} numeric and {len(schema.categorical)} categorical columns"),
        ("Output", "the probability of a click (p_click) and its log-odds (logit)"),
        ("Variables", ", ".join(f"{count:,} numbers of {dtype}" for dtype, count in facts.variables.items())),
        ("Bytes", f"{sum(files.values()):,} in {len(files)} files"),
    )
    sizes = tuple((name, size(count)) for name, count in files.items())
    return Section(
        "Model",
        tables=(
            Table("What it is", _ITEMS, items, wrap=True),
            Table("Its files, without this card", ("File", "Size"), sizes, wrap=True),
        ),
    )


def _learns(facts: CardFacts) -> str:
    method, config = METHODS[facts.method], facts.config
    words = _LEARNS[method.target]
    if method.target == "subclass":
        words += " of its teacher" if method.source == TEACHER_SOURCE else f" of the source {method.source}"
    if config.needs_embeddings:
        words += ", and from the teacher's embeddings"
    if config.generations > 1:
        words += f"; it is the last of {config.generations} generations, each the teacher of the next"
    return words


def _files(folder: str) -> dict[str, int]:
    paths = [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]
    names = {os.path.relpath(path, folder): path for path in sorted(paths)}
    return {name: os.path.getsize(path) for name, path in names.items() if name not in (MARKDOWN, PAGE)}


def _data(facts: CardFacts) -> Section:
    spec, inputs = facts.spec, facts.run.manifest(EXAMPLES)["inputs"]
    items = (
        ("Time", facts.times or ("not known" if spec.schema.time else "the log has no time column")),
        ("Split", f"{facts.settings['split']} (training, validation, test)"),
        ("Rejected lines", f"{spec.rejects:,} of {spec.lines:,}"),
        *([("Rows without click", "the log kept all of them")] if spec.negative_rate == 1 else []),
        *weighting(spec),
    )
    rates = tuple(
        (NAMES[split], f"{rows:,}", f"{spec.clicks[split]:,}", number(spec.clicks[split] / rows, 4))
        for split, rows in spec.rows.items()
        if rows
    )
    files = tuple((os.path.basename(item["path"]), size(item["size"])) for item in inputs)
    return Section(
        "Data",
        tables=(
            Table("Rows as they are in the log", ("Split", "Rows", "Clicks", "Click rate"), rates),
            Table("How they were taken", _ITEMS, items, wrap=True),
            Table("The log", ("File", "Size"), files, wrap=True),
        ),
    )


def _metrics(facts: CardFacts) -> Section:
    words = (
        "The base rate is the click rate of the training rows, given to every row: its PCOC shows how far the log has "
        "moved since. In brackets or below: 95 % interval, by resampling groups of rows for this one training.",
    )
    tables = tuple(_metric_table(split, figures) for split, figures in facts.figures.items())
    return Section("Metrics", words, tables)


def _metric_table(split: str, figures: SplitFigures) -> Table:
    student, base = (evaluation.summary() for evaluation in (figures.model, figures.base))
    rows = tuple((TITLES[name], _with_interval(student, name), _with_interval(base, name)) for name in METRICS)
    caption = f"{NAMES[split].capitalize()}, {student['rows']:,} rows"
    return Table(caption, ("Metric", "This student", "Base rate"), rows)


def _with_interval(values: Mapping[str, Any], name: str) -> tuple[str, str]:
    low, high = values["intervals"][name]
    known = math.isfinite(low) and math.isfinite(high)
    ends = f"{number(low, DECIMALS[name])}\u2013{number(high, DECIMALS[name])}" if known else ""
    return number(values[name], DECIMALS[name]), ends


def _calibration(facts: CardFacts) -> Section:
    scale, shift = facts.calibration
    split = last_split(facts.figures)
    left = recalibration(facts.figures[split].metrics)
    words = (
        f"The logit is {_line(scale, shift, 4)}, x being that of the network: fitted on validation rows"
        + (f", and log {facts.spec.negative_rate:g} for the dropped rows" if facts.spec.negative_rate < 1 else "")
        + f". The {NAMES[split]} rows are fitted best by {_line(left.slope, left.intercept, 3)}, x being the logit; "
        f"that would save {max(left.logloss, 0):.5f} of logloss.",
    )
    return Section("Calibration", words, (_reliability(split, facts.figures[split]),))


def _line(slope: float, intercept: float, decimals: int) -> str:
    """A linear map of x as people write it."""
    sign = MINUS if intercept < 0 else "+"
    return f"{number(slope, decimals)} x {sign} {number(abs(intercept), decimals)}"


def _reliability(split: str, figures: SplitFigures) -> Table:
    rows = tuple(
        (
            str(bin_ + 1),
            f"{record['rows']:,}",
            number(record["mean_predicted"], 4),
            (number(record["click_rate"], 4), f"{number(record['low'], 4)}\u2013{number(record['high'], 4)}"),
        )
        for bin_, record in enumerate(figures.metrics.reliability(_BINS).to_dict("records"))
    )
    caption = f"{NAMES[split].capitalize()} rows by rising click probability"
    return Table(caption, ("Bin", "Rows", "Mean prediction", "Click rate"), rows)


def _slices(facts: CardFacts) -> Section:
    split = last_split(facts.figures)
    records = facts.figures[split].frequencies.table().to_dict("records")
    rows = tuple(
        (record["frequency"], f"{record['rows']:,}", number(record["click_rate"], 4), number(record["pcoc"], 3))
        + (number(record["logloss"], 5),)
        for record in records
    )
    words = (f"The {NAMES[split]} rows by how many training rows have their rarest value; 0: none has.",)
    headers = ("Training rows", "Rows", "Click rate", "PCOC", "Logloss")
    return Section("Rare values", words, (Table("By the rarest value of a row", headers, rows),))


def _limits(facts: CardFacts) -> Section:
    spec = facts.spec
    period = f"from {facts.times}" if facts.times else "of one period"
    points = [
        f"It has learned from one log {period}, {spec.rows['train']:,} rows. How good it is on another log, on other "
        "kinds of ads or at a later time is not known: measure it with ctr-distill check-model before it goes live.",
        *_measured_limits(facts),
        "It says how probable a click is where the log had one to give: not what a click is worth, not what would "
        "have been clicked if something else had been shown, and nothing about a person.",
        "How good it is for groups of people was not measured.",
    ]
    if not spec.rows["valid"]:
        points.append("No validation rows were held back: settings and calibration are those of another training.")
    return Section("Limits", points=tuple(points))


def _measured_limits(facts: CardFacts) -> list[str]:
    if not facts.figures:
        return []
    split = last_split(facts.figures)
    figures = facts.figures[split]
    drift = figures.base.metrics.compute()["pcoc"]
    points = [
        f"{figures.unseen_rows:.1%} of the {NAMES[split]} rows have a value that no training row has "
        f"({figures.unseen_values:.2%} of all values); it is scored as any rare value.",
        f"Click rates change: that of the training rows is {number(drift, 3)} times that of the {NAMES[split]} rows.",
    ]
    if "valid" in facts.figures:
        points.append(
            "Validation rows decided when training stopped and fit the calibration; their figures flatter it."
        )
    return points


def _fingerprints(facts: CardFacts) -> Section:
    items = [("Examples", facts.run.identity(EXAMPLES))]
    if facts.targets:
        items += [("Teacher", facts.teacher), ("Targets", facts.run.identity(facts.targets))]
    items += [("Student", facts.origin["key"]), ("Stage", facts.stage)]
    packages = tuple(facts.packages.items())
    tables = (
        Table("What it was made from", _ITEMS, items, wrap=True),
        Table("With which packages", ("Package", "Version"), packages),
    )
    return Section("Fingerprints", tables=tables)


def _licence(facts: CardFacts) -> Section:
    return Section("Licence of the data", (facts.spec.schema.licence or "Not stated.",))

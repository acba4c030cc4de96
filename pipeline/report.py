"""``report``: what ``evaluate`` found, as one HTML page and as tables for the terminal."""

from __future__ import annotations

import io
import math
from typing import Any

import pandas as pd
import yaml

from features.errors import ArtifactError
from features.spec import ExamplesSpec
from models.metrics import METRICS
from pipeline import storage
from pipeline.inspect_run import inspect
from pipeline.keys import evaluation_key
from pipeline.report_data import ReportData
from pipeline.report_page import render
from pipeline.workspace import EXAMPLES, REPORT, TARGETS, Run

_SPLIT_NAMES = {"valid": "validation", "test": "test"}


def report(run: Run) -> str:
    """Writes ``report/index.html``; returns its path."""
    data = report_data(run)
    path = run.file(REPORT, "index.html")
    storage.write_bytes(path, render(data).encode())
    return path


def report_data(run: Run) -> ReportData:
    """What the page shows, from the files of the run alone."""
    run.manifest(REPORT)
    if not run.is_done(REPORT, evaluation_key(run)):
        raise ArtifactError(
            "A report must be of the run's present models. Received: an evaluation of others; make it again with "
            f"`ctr-distill evaluate --run {run.path}`."
        )
    found = read_metrics(run)
    models, splits = found["models"], found["splits"]
    teacher = models["teacher"]
    return ReportData(
        title="Click model distillation",
        summary=summary(found),
        metrics=metric_table(found),
        costs=_rows(models, lambda m: {name: m[name] for name in ("parameters", "bytes", "rows_per_second")}),
        calibration=_rows(models, lambda m: m["calibration"]),
        differences=pd.DataFrame(found["comparisons"]),
        histories=_histories(run, models),
        reliability={name: pd.DataFrame(model["reliability"]) for name, model in models.items()},
        health=pd.DataFrame(teacher["health"]),
        agreement=pd.DataFrame(teacher.get("agreement", [])),
        bayes=_bayes(models, splits),
        tables=inspect(run),
        provenance=[*_origin(found), *_provenance(run), *_settings(models)],
        notes=_notes(found),
    )


def read_metrics(run: Run) -> dict[str, Any]:
    """What ``evaluate`` wrote, with NaN for what JSON has as null."""
    found: dict[str, Any] = _with_nan(storage.read_json(run.file(REPORT, "metrics.json")))
    return found


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def metric_table(found: dict[str, Any]) -> pd.DataFrame:
    """A row a (model, split): value, low and high of each metric."""
    rows = []
    for name, model in found["models"].items():
        for split in found["splits"]:
            values = model[split]
            row = {"model": name, "split": split, "rows": values["rows"]}
            for metric in METRICS:
                low, high = values["intervals"][metric]
                row |= {metric: values[metric], f"{metric}_low": low, f"{metric}_high": high}
            rows.append(row)
    table = pd.DataFrame(rows)
    # Unknown everywhere, a metric would be no column of numbers.
    return table.astype(dict.fromkeys(table.columns[3:], float))


def terminal_tables(found: dict[str, Any]) -> str:
    """The comparison as text: the models, and the paired differences of the logloss with their intervals."""
    split = found["splits"][-1]
    models = metric_table(found).query("split == @split").set_index("model")[list(METRICS)]
    models["parameters"] = [model["parameters"] for model in found["models"].values()]
    parts = [f"{_SPLIT_NAMES[split]} rows: {next(iter(found['models'].values()))[split]['rows']:,}"]
    decimals = {metric: f"{{:.{4 if metric in ('ne', 'pcoc') else 5}f}}".format for metric in METRICS}
    parts.append(models.rename_axis(None).to_string(formatters={**decimals, "parameters": "{:,}".format}))
    lines = [
        f"  {_pair(row)}: {row['difference']:+.5f}  [{row['low']:+.5f}, {row['high']:+.5f}]"
        for row in found["comparisons"]
        if row["split"] == split and row["metric"] == "logloss"
    ]
    if lines:
        parts.append("\n".join(["paired differences of the logloss, 95 % intervals (negative: better)", *lines]))
    parts += _of_outcome(found)
    if unequal := _unequal(found["models"]):
        parts.append(f"The students are not comparable: they differ in {', '.join(unequal)}.")
    parts.append(summary(found))
    return "\n\n".join(parts)


def summary(found: dict[str, Any]) -> str:
    """Which student to use, chosen on validation, and what it gains."""
    models, split = found["models"], found["splits"][-1]
    students = [name for name in models if name != "teacher"]
    if not students:
        return (
            f"No student yet. The teacher's {_SPLIT_NAMES[split]} logloss is {models['teacher'][split]['logloss']:.5f}."
        )
    best = min(students, key=lambda name: _valid_logloss(found, name))
    loss, whose = models[best][split]["logloss"], f" of {found['refit']['run']}" if "refit" in found else ""
    text = f"Best student by validation logloss{whose}: {best}, {_SPLIT_NAMES[split]} logloss {loss:.5f}"
    wanted = {"split": split, "method": best, "baseline": "students/hard", "metric": "logloss"}
    for row in found["comparisons"]:
        if all(row[name] == value for name, value in wanted.items()):
            verdict = "clear of zero" if row["high"] < 0 or row["low"] > 0 else "not clear of zero"
            side, sign = ("below", -1) if row["difference"] < 0 else ("above", 1)
            low, high = sorted((sign * row["low"], sign * row["high"]))
            text += (
                f", {abs(row['difference']):.5f} {side} the student trained on labels alone "
                f"(95 % interval {low:.5f} to {high:.5f}, {verdict}, for this one training of each)"
            )
    return text + "."


def _valid_logloss(found: dict[str, Any], model: str) -> float:
    """What students are chosen by; in a refit that of the run it was made from."""
    if "refit" in found:
        return float(found["refit"]["valid_logloss"].get(model, math.inf))
    return float(found["models"][model]["valid"]["logloss"])


def _pair(row: dict[str, Any]) -> str:
    method, baseline = (row[name].removeprefix("students/") for name in ("method", "baseline"))
    return f"{method} - {baseline}"


def _rows(models: dict[str, Any], columns: Any) -> pd.DataFrame:
    return pd.DataFrame([{"model": name, **columns(model)} for name, model in models.items()])


def _histories(run: Run, models: dict[str, Any]) -> dict[str, pd.DataFrame]:
    histories = {}
    for name in models:
        # With cross-fitting the curve of the first teacher stands for all.
        files = [run.file(name, file) for file in ("history.csv", "history-0.csv")]
        path = next((file for file in files if storage.exists(file)), None)
        if path:
            with storage.open_read(path) as file:
                histories[name] = pd.read_csv(io.BytesIO(file.read()))
    return histories


def _bayes(models: dict[str, Any], splits: list[str]) -> pd.DataFrame:
    """On generated logs: the excess over the Bayes logloss, and its share of the way from `hard` to the teacher."""
    rows = []
    for split in splits:
        excess = {name: model[split].get("excess_over_bayes") for name, model in models.items()}
        hard, teacher = excess.get("students/hard"), excess["teacher"]
        known = hard and teacher is not None and hard != teacher
        for name, value in excess.items():
            if value is not None:
                share = (hard - value) / (hard - teacher) if known else math.nan
                rows.append({"model": name, "split": split, "excess": value, "gap_share": share})
    return pd.DataFrame(rows)


def _provenance(run: Run) -> list[tuple[str, str]]:
    spec, examples, targets = run.spec(), run.manifest(EXAMPLES), run.manifest(TARGETS)
    rows = ", ".join(f"{split} {count:,}" for split, count in spec.rows.items())
    settings = ", ".join(f"{name} {value}" for name, value in examples["settings"].items())
    config = run.file("config.yaml")
    versions = yaml.safe_load(storage.read_text(config))["packages"] if storage.exists(config) else {}
    return [
        ("Inputs", ", ".join(item["path"] for item in examples["inputs"])),
        ("Rows", rows),
        ("Click rate of the training rows", f"{spec.base_rate:.4f}"),
        *weighting(spec),
        ("Rejects", f"{spec.rejects:,} of {spec.lines:,} lines"),
        ("Preprocessing", settings),
        ("Examples", run.identity(EXAMPLES)),
        ("Teacher", targets["teacher"]),
        ("Targets", run.identity(TARGETS)),
        ("Packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def weighting(spec: ExamplesSpec) -> list[tuple[str, str]]:
    """What rows count and how they are resampled, where that is not once and one by one: (name, value)."""
    rate, schema = spec.negative_rate, spec.schema
    sampled = f"{rate:g}; each that is left counts as {1 / rate:g}, and probabilities are those of the whole log"
    items = {
        "Weights of the rows": schema.weight and f"column {schema.weight}; metrics and click rates are weighted",
        "Share of the rows without click in the log": sampled if rate < 1 else None,
        "Intervals": schema.group and f"rows with the same {schema.group} are resampled together",
    }
    return [(name, text) for name, text in items.items() if text]


def _settings(models: dict[str, Any]) -> list[tuple[str, str]]:
    """The settings of each model; for students after the first only those that differ from the first one's."""
    rows, first = [], None
    for name, model in models.items():
        shown, title = model["settings"], f"Settings of {name}"
        if name != "teacher":
            first = first or shown
            if shown is not first:
                shown = {key: value for key, value in shown.items() if value != first[key]}
                title += ", where they differ from the first student's"
        rows.append((title, ", ".join(f"{key} {value}" for key, value in shown.items()) or "none"))
    return rows


def _unequal(models: dict[str, Any]) -> list[str]:
    """Settings that make students incomparable, and differ."""
    students = [model["settings"] for name, model in models.items() if name != "teacher"]
    names = ("seed", "embedding_dim", "hidden", "min_count", "statistics", "smoothing")
    return [name for name in names if len({str(student[name]) for student in students}) > 1]


def _origin(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [("Refit of", found["refit"]["run"])] if "refit" in found else []


def _of_outcome(found: dict[str, Any]) -> list[str]:
    """That a teacher has learned something else than the click, if it has."""
    label = found["models"]["teacher"].get("label")
    return [f"The teacher has learned {label}, not the click: its figures are of {label}."] if label else []


def _notes(found: dict[str, Any]) -> list[str]:
    notes = [
        "Intervals are conditional on the one training of each model: they cover the choice of rows, not of seeds."
    ]
    if "refit" in found:
        notes.insert(
            0,
            f"This is a refit of {found['refit']['run']}: its models have learned from the validation rows too, with "
            "the numbers of steps and the calibrations found there. So there are no validation figures.",
        )
    else:
        notes.append(
            "Probabilities are calibrated on the validation rows, so validation figures are slightly favourable."
        )
    if unequal := _unequal(found["models"]):
        notes.insert(0, f"The students are not comparable: they differ in {', '.join(unequal)}.")
    if "test" not in found["splits"]:
        notes.insert(
            0,
            "There are no test rows in this run: all figures are from validation rows, on which training stopped.",
        )
    return _of_outcome(found) + notes

"""``report``: what ``evaluate`` found, as one HTML page and as tables for the terminal."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from features.errors import ArtifactError
from models.metrics import METRICS
from pipeline import report_frames as frames
from pipeline import storage
from pipeline.compare_plan import COMPARISON, FOLDER
from pipeline.inspect_run import inspect
from pipeline.keys import evaluation_key
from pipeline.refusals import refusal_notes
from pipeline.report_comparison import Comparison
from pipeline.report_data import ReportData
from pipeline.report_page import render
from pipeline.report_provenance import of_examples, of_models
from pipeline.workspace import EXAMPLES, REPORT, TARGETS, Run

_TITLE = "Click model distillation"
_SPLIT_NAMES = {"valid": "validation", "test": "test"}


def report(run: Run) -> str:
    """Writes ``report/index.html``, and beside it the comparison of methods if the run has one; returns its path."""
    data, copy = report_data(run), run.file(REPORT, COMPARISON)
    if data.comparison is not None:
        storage.write_json(copy, storage.read_json(run.file(FOLDER, COMPARISON)))
    else:
        storage.remove(copy)
    path = run.file(REPORT, "index.html")
    storage.write_bytes(path, render(data).encode())
    return path


def report_data(run: Run) -> ReportData:
    """What the page shows, from the files of the run alone.

    Raises:
        ArtifactError: the run has neither an evaluation of its present models nor a comparison of methods on its
            present examples.
    """
    found = _present_comparison(run)
    comparison = Comparison.of(found) if found else None
    if comparison is None or _is_evaluated(run):
        return _with_models(run, comparison)
    return ReportData(
        title=_TITLE,
        summary="",
        metrics=pd.DataFrame(),
        comparison=comparison,
        tables=inspect(run),
        provenance=of_examples(run),
    )


def _present_comparison(run: Run) -> dict[str, Any] | None:
    """What ``compare`` has found on the present examples of a run; None where it has not, or on others only."""
    path = run.file(FOLDER, COMPARISON)
    if not storage.exists(path):
        return None
    found: dict[str, Any] = storage.read_json(path)
    return found if found.get("examples") == run.identity(EXAMPLES) else None


def _is_evaluated(run: Run) -> bool:
    """Whether there is an evaluation of the present models."""
    stages = (REPORT, TARGETS)
    finished = all(storage.exists(run.file(stage, "manifest.json")) for stage in stages)
    return finished and run.is_done(REPORT, evaluation_key(run))


def _with_models(run: Run, comparison: Comparison | None) -> ReportData:
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
        title=_TITLE,
        summary=summary(found),
        metrics=metric_table(found),
        costs=frames.of_models(
            models, lambda m: {name: m[name] for name in ("parameters", "bytes", "rows_per_second")}
        ),
        calibration=frames.of_models(models, lambda m: m["calibration"]),
        differences=pd.DataFrame(found["comparisons"]),
        histories=frames.histories(run, models),
        reliability={name: pd.DataFrame(model["reliability"]) for name, model in models.items()},
        by_frequency=frames.by_frequency(models),
        health=pd.DataFrame(teacher["health"]),
        agreement=pd.DataFrame(teacher.get("agreement", [])),
        diagnosis=pd.DataFrame(teacher.get("diagnosis", [])),
        subclass_map=pd.DataFrame(teacher.get("subclass_map", [])),
        bayes=frames.bayes(models, splits),
        comparison=comparison,
        tables=inspect(run),
        provenance=[*of_examples(run), *of_models(run, found)],
        notes=[*refusal_notes(run), *_notes(found), *_of_other_examples(run, comparison)],
    )


def _of_other_examples(run: Run, comparison: Comparison | None) -> list[str]:
    """That there is a comparison, but not of these examples."""
    if comparison is not None or not storage.exists(run.file(FOLDER, COMPARISON)):
        return []
    return ["The comparison of methods in this run is of other examples and is left out: call compare again."]


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


def _unequal(models: dict[str, Any]) -> list[str]:
    """Settings that make students incomparable, and differ."""
    students = [model["settings"] for name, model in models.items() if name != "teacher"]
    names = ("seed", "embedding_dim", "hidden", "min_count", "statistics", "smoothing")
    return [name for name in names if len({str(student[name]) for student in students}) > 1]


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

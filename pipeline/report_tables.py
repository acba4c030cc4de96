"""The tables of the report page, from DataFrames to escaped HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from models.metrics import METRICS
from pipeline.svg import element, safe, signed

DECIMALS = {"logloss": 5, "auc": 5, "ne": 5, "pcoc": 4, "ece": 5, "brier": 5}
BETTER = {"logloss": "lower", "auc": "higher", "ne": "lower", "pcoc": "", "ece": "lower", "brier": "lower"}
TITLES = {"logloss": "Logloss", "auc": "AUC", "ne": "NE", "pcoc": "PCOC", "ece": "ECE", "brier": "Brier"}
STUDENTS = "students/"
ARROWS = {"lower": " \u2193", "higher": " \u2191", "": " \u2192 1"}

_DASH = "\u2013"


def table(caption: str, headers: Sequence[str], rows: Iterable[str], wrap: bool = False) -> str:
    """Returns a table inside a box of its own that scrolls sideways; `rows` are markup.

    Args:
        caption: Title of the table.
        headers: Titles of the columns.
        rows: Markup.
        wrap: Whether cells hold sentences, which are broken into lines.
    """
    head = element("tr", *(element("th", safe(h), scope="col") for h in headers))
    parts = element("caption", safe(caption)) + element("thead", head) + element("tbody", *rows)
    box = {"class_": "scroll", "tabindex": 0, "role": "region", "aria_label": caption}
    return element("div", element("table", parts, class_="words" if wrap else None), **box)


def row(name: str, cells: Iterable[str], best: bool = False, tag: str = "", below: str = "") -> str:
    """Returns a table row: `name`, `tag` and `below` are text, `cells` are markup."""
    heading = safe(name) + (element("small", safe(below)) if below else "")
    heading += element("span", safe(tag), class_="tag") if tag else ""
    return element("tr", element("th", heading, scope="row"), *cells, class_="best" if best else None)


def cell(words: str, *below: str, strong: bool = False) -> str:
    """Returns a table cell: text with smaller lines below it; empty ones are left out."""
    shown = element("strong", safe(words)) if strong else safe(words)
    return element("td", shown, *(element("small", safe(words)) for words in below if words))


def number(value: float, decimals: int) -> str:
    """Formats a number with thousands separators; what is not finite is a dash, and what rounds to 0 has no sign."""
    shown = f"{round(value, decimals) + 0.0:,.{decimals}f}" if math.isfinite(value) else _DASH
    return shown.replace("-", "\u2212")


def size(count: float) -> str:
    """Formats a number of bytes in decimal units."""
    if not math.isfinite(count):
        return _DASH
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def best_students(metrics: pd.DataFrame) -> dict[str, str]:
    """Returns the best student of one split by each metric that has a better side: metric -> model.

    PCOC counts by its distance from 1. Ties go to the first.
    """
    students = metrics[metrics["model"].str.startswith(STUDENTS)]
    scores = {name: students[name] if side == "lower" else -students[name] for name, side in BETTER.items()}
    scores["pcoc"] = (students["pcoc"] - 1).abs()
    names = students["model"].tolist()
    return {k: str(names[int(v.argmin())]) for k, v in scores.items() if v.notna().any()}


def metric_table(metrics: pd.DataFrame, caption: str) -> str:
    """Returns the metrics of one split, a row a model, each with its interval below."""
    best = best_students(metrics)
    rows = []
    for record in metrics.to_dict("records"):
        model = str(record["model"])
        cells = [_metric_cell(record, name, best.get(name) == model) for name in METRICS]
        chosen = best.get("logloss") == model
        rows.append(row(model, cells, best=chosen, tag="best student" if chosen else ""))
    headers = ["Model", *(TITLES[name] + ARROWS[BETTER[name]] for name in METRICS)]
    return table(caption, headers, rows)


def difference_table(differences: pd.DataFrame, caption: str) -> str:
    """Returns the paired differences of one split: a row for each pair, a column for each metric."""
    metrics = [name for name in METRICS if (differences["metric"] == name).any()]
    rows = []
    for (method, baseline), part in differences.groupby(["method", "baseline"], sort=False):
        records = {record["metric"]: record for record in part.to_dict("records")}
        cells = [_difference_cell(records[n], n) if n in records else cell(_DASH) for n in metrics]
        rows.append(row(str(method), cells, below=f"\u2212 {baseline}"))
    return table(caption, ["Method \u2212 baseline", *(TITLES[name] for name in metrics)], rows)


def cost_table(costs: pd.DataFrame) -> str:
    """Returns size and speed, compared with the teacher where it is among the models."""
    teacher: Mapping = next((r for r in costs.to_dict("records") if r["model"] == "teacher"), {})
    rows = []
    for record in costs.to_dict("records"):
        ratios = {k: _ratio(record, teacher, k) for k in ("parameters", "bytes", "rows_per_second")}
        cells = [
            cell(number(record["parameters"], 0), ratios["parameters"]),
            cell(size(record["bytes"]), ratios["bytes"]),
            cell(number(record["rows_per_second"], 0), ratios["rows_per_second"]),
        ]
        rows.append(row(str(record["model"]), cells))
    return table(
        "On this machine, beside the teacher",
        ["Model", "Parameters", "Size on disk", "Rows per second"],
        rows,
    )


def plain_table(caption: str, frame: pd.DataFrame, columns: Mapping[str, tuple[str, int]], wrap: bool = False) -> str:
    """Returns a table of names and numbers; nothing when there are no rows.

    Args:
        caption: Title of the table.
        frame: Rows; the first of `columns` names the row.
        columns: Column -> (header, decimals); those that `frame` lacks or leaves blank are omitted.
        wrap: Whether cells hold sentences, which are broken into lines.
    """
    if frame.empty:
        return ""
    first, *others = [name for name in columns if name in frame and (frame[name] != "").any()]
    rows = []
    for record in frame.to_dict("records"):
        values = [(record[name], columns[name][1]) for name in others]
        shown = [v if isinstance(v, str) else number(float(v), decimals) for v, decimals in values]
        rows.append(row(str(record[first]), [cell(words) for words in shown]))
    return table(caption, [columns[name][0] for name in (first, *others)], rows, wrap)


def slice_table(frame: pd.DataFrame, caption: str) -> str:
    """Returns a row a model and a column a slice of the rows, with logloss and PCOC; nothing when there are no rows.

    Args:
        frame: Columns model, slice, rows, logloss and pcoc.
        caption: Title of the table.
    """
    if frame.empty:
        return ""
    slices = frame.groupby("slice", sort=False)["rows"].first()
    rows = []
    for model, part in frame.groupby("model", sort=False):
        records = {record["slice"]: record for record in part.to_dict("records")}
        rows.append(row(str(model), [_slice_cell(records[s]) if s in records else cell(_DASH) for s in slices.index]))
    return table(caption, ["Model", *(f"{name} ({number(n, 0)} rows)" for name, n in slices.items())], rows)


def _slice_cell(record: Mapping) -> str:
    return cell(number(record["logloss"], DECIMALS["logloss"]), f"PCOC {number(record['pcoc'], DECIMALS['pcoc'])}")


def _metric_cell(record: Mapping, name: str, strong: bool) -> str:
    low, high = (number(float(record.get(f"{name}_{end}", math.nan)), DECIMALS[name]) for end in ("low", "high"))
    interval = "" if _DASH in (low, high) else f"{low}\u2013{high}"
    return cell(number(float(record[name]), DECIMALS[name]), interval, strong=strong)


def _difference_cell(record: Mapping, name: str) -> str:
    value, low, high = (signed(float(record[k]), DECIMALS[name]) for k in ("difference", "low", "high"))
    if _DASH in (low, high):
        return cell(value)
    clear = record["low"] > 0 or record["high"] < 0
    verdict = _verdict(record["difference"], name, clear) + _p_value(record)
    return cell(value, f"{low} to {high}", verdict, strong=clear)


def _p_value(record: Mapping) -> str:
    p = float(record.get("adjusted_p", math.nan))
    if not math.isfinite(p):
        return ""
    return f", p {p:.3f}" if p >= 0.0005 else ", p < 0.001"


def _verdict(difference: float, name: str, clear: bool) -> str:
    if not clear:
        return "not clear"
    if not BETTER[name]:
        return "clear"
    return "better" if (difference < 0) == (BETTER[name] == "lower") else "worse"


def _ratio(record: Mapping, teacher: Mapping, key: str) -> str:
    if record["model"] == "teacher" or not teacher or not teacher[key] > 0 or not record[key] > 0:
        return ""
    times = record[key] / teacher[key]
    if 0.95 < times < 1.05:
        return "as the teacher"
    return f"{_round(times)}\u00d7 the teacher" if times > 1 else f"1/{_round(1 / times)} of the teacher"


def _round(times: float) -> str:
    return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"

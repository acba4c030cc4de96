"""The sections of the report page: functions from the data to markup, empty when there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pipeline.charts import Estimate, Series, interval_chart, line_chart, reliability_chart
from pipeline.report_data import SPLITS, ReportData, ordered_splits
from pipeline.report_parts import grid, say
from pipeline.report_tables import (
    BETTER,
    DECIMALS,
    STUDENTS,
    TITLES,
    cost_table,
    difference_table,
    metric_table,
    plain_table,
    slice_table,
    table,
)
from pipeline.svg import element, safe


def _split(name: str) -> str:
    return SPLITS.get(name, name)


def _counted(metrics: pd.DataFrame) -> str:
    return f"{metrics['rows'].max():,.0f} " if "rows" in metrics else ""


def _short(model: str) -> str:
    return model.removeprefix(STUDENTS)


def metrics(data: ReportData) -> str:
    """Returns metrics by split with their intervals, and the calibration."""
    parts = [
        metric_table(frame, f"On {_counted(frame)}{_split(split)} rows")
        for split in data.splits
        if len(frame := data.metrics[data.metrics["split"] == split])
    ]
    words = (
        "Below each value its 95 % bootstrap interval. Bold: the best student by that metric; tagged: the"
        " best by logloss. NE is the logloss divided by the entropy of the click rate, PCOC predicted "
        "clicks over clicks, ECE the calibration error over 20 bins of equal size. Logloss is in nats."
    )
    calibration = plain_table(
        "Calibration fitted on validation rows: logit \u2192 scale \u00d7 logit + shift",
        data.calibration,
        {"model": ("Model", 0), "scale": ("Scale", 4), "shift": ("Shift", 4), "reason": ("Remark", 0)},
    )
    return "".join(parts) + say(words) + calibration if parts else ""


def differences(data: ReportData) -> str:
    """Returns the paired differences: interval plots of the main split, a table for each split."""
    frame = data.differences
    if frame.empty:
        return ""
    words = (
        "Method minus baseline on the same resampled rows, with the 95 % interval. Filled points and bold"
        " numbers: the interval excludes 0."
    )
    splits = ordered_splits(frame)
    charts = [_difference_chart(frame[frame["split"] == splits[0]], name, splits[0]) for name in ("logloss", "auc")]
    tables = [difference_table(frame[frame["split"] == s], f"Paired differences on {_split(s)} rows") for s in splits]
    return say(words) + grid([chart for chart in charts if chart]) + "".join(tables)


def _difference_chart(frame: pd.DataFrame, metric: str, split: str) -> str:
    rows = [
        Estimate(f"{_short(r['method'])} \u2212 {_short(r['baseline'])}", r["difference"], r["low"], r["high"])
        for r in frame[frame["metric"] == metric].to_dict("records")
    ]
    unit = " (nats)" if metric == "logloss" else ""
    title = f"{TITLES[metric]}: paired differences, {_split(split)} rows"
    axis = f"difference in {metric if metric == 'logloss' else TITLES[metric]}{unit}"
    return interval_chart(rows, title, axis, BETTER[metric], DECIMALS[metric]) if rows else ""


def curves(data: ReportData) -> str:
    """Returns learning curves and the lowest point of each."""
    histories = {model: frame for model, frame in data.histories.items() if len(frame)}
    if not histories:
        return ""
    valid = _curve(data, "valid_logloss", "Validation logloss while training", "logloss (nats)", lowest=True)
    train = _curve(data, "train_loss", "Training loss (each model's own objective)", "training loss")
    words = "A ring marks the lowest point. Training losses of different methods are different quantities."
    return say(words) + grid([chart for chart in (valid, train) if chart]) + _best_epochs(histories)


def _curve(data: ReportData, column: str, title: str, y_label: str, lowest: bool = False) -> str:
    frames = {model: frame for model, frame in data.histories.items() if column in frame and len(frame)}
    axis = "rows_seen" if all("rows_seen" in frame for frame in frames.values()) else "epoch"
    series = [
        Series(model, frame[axis].tolist(), frame[column].tolist(), data.style(model))
        for model, frame in frames.items()
    ]
    x_label = "training rows seen" if axis == "rows_seen" else "epoch"
    return line_chart(series, title, x_label, y_label, lowest) if series else ""


def _best_epochs(histories: Mapping[str, pd.DataFrame]) -> str:
    rows = []
    for model, frame in histories.items():
        if "valid_logloss" in frame and frame["valid_logloss"].notna().any():
            best = frame.iloc[int(frame["valid_logloss"].argmin())]
            rows.append({"model": model, "evaluations": len(frame)} | best.to_dict())
    columns = {
        "model": ("Model", 0),
        "evaluations": ("Evaluations", 0),
        "epoch": ("Best epoch", 0),
        "rows_seen": ("Rows seen by then", 0),
        "valid_logloss": ("Lowest validation logloss", 5),
    }
    return plain_table("The lowest point of each curve", pd.DataFrame(rows), columns) if rows else ""


def reliability(data: ReportData) -> str:
    """Returns a reliability plot for each model."""
    charts = [
        reliability_chart(frame, model, data.style(model)) for model, frame in data.reliability.items() if len(frame)
    ]
    words = (
        f"Click rate against mean prediction on {_split(data.main_split)} rows, in bins of equal size, "
        "with the 95 % Wilson interval. On the dashed line predicted and observed rates are equal; points"
        " above it: too few clicks predicted."
    )
    return say(words) + grid(charts, small=True) if charts else ""


def frequencies(data: ReportData) -> str:
    """Returns logloss and PCOC by how often the rarest value of a row was seen in training."""
    words = (
        f"{_split(data.main_split).capitalize()} rows by how many training rows have the row's rarest value. Below "
        "each logloss: PCOC."
    )
    shown = slice_table(data.by_frequency, "Logloss by frequency of the rarest value")
    return say(words) + shown if shown else ""


def costs(data: ReportData) -> str:
    """Returns size and speed of the models."""
    return cost_table(data.costs) if len(data.costs) else ""


def bayes(data: ReportData) -> str:
    """Returns the distance to the best possible logloss, known for generated logs."""
    if data.bayes.empty:
        return ""
    words = (
        "The true click probability of these generated rows is known. Excess: logloss above that of the "
        "true probability. Share of the gap: 0 for the student with hard labels, 1 for the teacher."
    )
    frame = data.bayes.assign(split=data.bayes["split"].map(_split)) if "split" in data.bayes else data.bayes
    columns = {
        "model": ("Model", 0),
        "split": ("Rows", 0),
        "excess": ("Excess logloss (nats)", 5),
        "gap_share": ("Share of the gap", 3),
    }
    return say(words) + plain_table("Excess over the Bayes logloss", frame, columns)


def provenance(data: ReportData) -> str:
    """Returns inputs, settings and versions."""
    rows = [
        element("tr", element("th", safe(k), scope="row", class_="key"), element("td", safe(v), class_="value"))
        for k, v in data.provenance
    ]
    return table("Where these numbers come from", ["Item", "Value"], rows) if rows else ""

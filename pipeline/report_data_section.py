"""The report's section on the data: the tables of ``inspect``."""

from __future__ import annotations

import pandas as pd

from pipeline.inspect_run import REMARKS, TITLES
from pipeline.report_data import SPLITS, ReportData
from pipeline.report_tables import plain_table
from pipeline.svg import element, safe

_HEADERS = {
    "split": "Split",
    "rows": "Rows",
    "clicks": "Clicks",
    "click_rate": "Click rate",
    "click_rate_before_sampling": "Click rate before sampling",
    "weight": "Weight",
    "shards": "Shards",
    "from": "From",
    "to": "To",
    "reason": "Reason",
    "lines": "Lines",
    "share": "Share",
    "first": "First",
    "text": "Its text",
    "column": "Column",
    "transform": "Transform",
    "values": "Values",
    "value": "Value",
}
_PREFIXES = {"missing": "Missing", "outside": "Outside", "mean": "Mean", "std": "Deviation", "psi": "PSI"}


def data_section(data: ReportData) -> str:
    """Returns the splits, rejects, columns and most frequent values of the run; nothing where they are not known."""
    parts = []
    for name, frame in data.tables.items():
        parts.append(element("p", safe(REMARKS[name]), class_="soft") if name in REMARKS else "")
        parts.append(plain_table(TITLES[name], frame, {str(c): (_header(str(c)), _decimals(frame, c)) for c in frame}))
    return "".join(parts)


def _header(column: str) -> str:
    prefix, _, split = column.partition("_")
    if prefix in _PREFIXES:
        return f"{_PREFIXES[prefix]}, {SPLITS[split]}"
    return _HEADERS[column]


def _decimals(frame: pd.DataFrame, column: object) -> int:
    return 0 if pd.api.types.is_integer_dtype(frame[column]) or column == "weight" else 4

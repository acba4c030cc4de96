"""The report's section on the data."""

from __future__ import annotations

import pandas as pd

from pipeline.inspect_run import REMARKS, TITLES
from pipeline.report_data import ReportData
from pipeline.report_data_section import data_section
from pipeline.report_page import render

SPLITS = pd.DataFrame(
    {
        "split": ["train", "test"],
        "rows": [14014, 2989],
        "clicks": [3470, 782],
        "click_rate": [0.24761, 0.2616],
        "weight": [14014.5, 2989.5],
        "from": ["log.tsv:0", "log.tsv:7"],
    }
)
NUMERIC = pd.DataFrame({"column": ["<I1>"], "missing_train": [0.41612], "std_valid": [1.5], "psi_test": [float("nan")]})


def page(tables: dict[str, pd.DataFrame]) -> str:
    return render(ReportData("run", "", pd.DataFrame({"model": [], "split": []}), tables=tables))


def test_nothing_is_known() -> None:
    data = ReportData("run", "", pd.DataFrame({"model": [], "split": []}))
    assert data_section(data) == "" and 'id="data"' not in render(data)


def test_tables() -> None:
    html = page({"splits": SPLITS, "numeric": NUMERIC})
    assert 'id="data"' in html and 'href="#data"' in html
    for text in (
        f"<caption>{TITLES['splits']}</caption>",
        "<td>14,014</td>",
        "<td>0.2476</td>",
        "<td>14,014</td>",
        "<td>log.tsv:7</td>",
        REMARKS["numeric"],
        ">Missing, training</th>",
        ">Deviation, validation</th>",
        ">PSI, test</th>",
        "&lt;I1&gt;",
        "<td>0.4161</td>",
        "<td>\u2013</td>",
    ):
        assert text in html, text
    assert "<I1>" not in html

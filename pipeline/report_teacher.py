"""The report's section on the teacher: how good it is as one, and what its subclasses are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.report_data import SPLITS, ReportData, ordered_splits
from pipeline.report_parts import say
from pipeline.report_tables import cell, number, plain_table, row, table
from pipeline.svg import element, safe, signed


def diagnosis(data: ReportData) -> str:
    """Returns what held-out rows say of the teacher's probabilities, a column a split."""
    frame = data.diagnosis
    if frame.empty:
        return ""
    splits = ordered_splits(frame)
    rows = []
    for what in dict.fromkeys(frame["what"]):
        records = {record["split"]: record for record in frame[frame["what"] == what].to_dict("records")}
        rows.append(row(str(what), [_diagnosis_cell(records.get(split, {})) for split in splits]))
    words = (
        "Slope and intercept fit the click to the teacher's logit: 1 and 0 are right, a slope below 1 is too sure of "
        "itself. A teacher that is worse than the student without one on rows that neither has learned from (above "
        "0, interval clear of it) would hurt its students."
    )
    headers = ["Teacher", *(f"{SPLITS.get(split, split).capitalize()} rows" for split in splits)]
    return say(words) + table("The teacher on rows that it has not learned from", headers, rows)


def _diagnosis_cell(record: Mapping[str, Any]) -> str:
    low, high = (record.get(end, math.nan) for end in ("low", "high"))
    known = math.isfinite(low) and math.isfinite(high)
    value = record.get("value", math.nan)
    shown = _short(value)
    return cell(shown, f"{signed(low, 5)} to {signed(high, 5)}", strong=low > 0 or high < 0) if known else cell(shown)


def _short(value: float) -> str:
    """Five decimals, or three digits where there would be little to see; what is but rounding is 0."""
    if 1e-8 < abs(value) < 0.0005:
        return f"{value:.2e}".replace("-", "\u2212")
    return number(value, 5)


def subclasses(data: ReportData) -> str:
    """Returns health of the subclasses, their agreement with hidden kinds, and what each of them means."""
    words = (
        "Usage: 1 when the subclasses of a class are used equally, 1/S when one takes all. Within-class "
        "entropy: 0 when every row has one sure subclass. Information: what the subclass says about the "
        "row beyond its class, at most log2 S bits."
    )
    health = {
        "class": ("Class", 0),
        "usage": ("Usage", 3),
        "entropy_nats": ("Within-class entropy (nats)", 3),
        "information_bits": ("Information (bits)", 3),
    }
    agreement = {"class": ("Class", 0), "nmi": ("NMI", 4), "random_nmi": ("NMI of a random partition", 4)}
    table_of_health = plain_table("Subclasses of the teacher", data.health, health)
    table_of_kinds = plain_table("Agreement with the hidden kinds of rows", data.agreement, agreement)
    return (say(words) if table_of_health else "") + table_of_health + table_of_kinds + subclass_map(data.subclass_map)


def subclass_map(frame: pd.DataFrame) -> str:
    """Returns a card a subclass: its share of the class, and the values that stand out in it, by lift.

    Args:
        frame: Columns class, subclass, share, column, value, lift and rows: a row a value; column and value are empty
            for a subclass in which none stands out.
    """
    if frame.empty:
        return ""
    words = (
        "What the subclasses mean. Lift: how much more frequent a value is in the subclass than in its class. "
        "Rows are expected ones: each row counts for every subclass by its probability."
    )
    parts = [say(words)]
    for name, part in frame.groupby("class", sort=False):
        cards = [_card(group) for _, group in part.groupby("subclass")]
        parts.append(element("h3", safe(f"Subclasses of {name}")) + element("div", *cards, class_="cards"))
    return "".join(parts)


def _card(group: pd.DataFrame) -> str:
    records = group.to_dict("records")
    share = f"{100 * records[0]['share']:.1f} %"
    title = element("h4", safe(f"Subclass {records[0]['subclass']}"), element("span", safe(share)))
    width = f"width: {100 * min(max(records[0]['share'], 0.0), 1.0):.1f}%"
    bar = element("div", element("div", style=width), class_="share", aria_hidden="true")
    values = [_value(record) for record in records if record["column"]]
    body = element("ol", *values) if values else element("p", "No value stands out.", class_="soft")
    return element("div", title, bar, body, class_="card")


def _value(record: Mapping) -> str:
    name = element("span", safe(f"{record['column']} = {record['value']}"), class_="named")
    lift = element("strong", safe(f"{record['lift']:.2f}\u00d7"))
    return element("li", name, lift, element("small", safe(f"{record['rows']:,.0f} rows")))

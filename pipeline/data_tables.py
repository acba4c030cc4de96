"""The tables of ``inspect``: splits, rejects, columns and values of the examples of a run."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.blocks import Block
from features.drift import ColumnCells, Histograms
from features.rejects import printable
from features.spec import ExamplesSpec
from features.vocabulary import FIRST_VALUE, MISSING, Vocabulary

_SHOWN_CHARACTERS = 40


@dataclass
class SplitRows:
    """What the rows of a split hold.

    Args:
        histograms: of its columns.
        weight: sum of the weights; number of rows in a log without weights.
        click_weight: the same of the rows with label 1.
    """

    histograms: Histograms
    weight: float = 0.0
    click_weight: float = 0.0

    def update(self, block: Block, cells: ColumnCells) -> None:
        """Adds the rows of a block in place."""
        weights = np.ones(len(block)) if block.weights is None else block.weights
        self.histograms.update(block, cells)
        self.weight += float(weights.sum(dtype=np.float64))
        self.click_weight += float(weights[block.labels == 1].sum(dtype=np.float64))

    @property
    def click_rate(self) -> float:
        """Click rate, weighted; NaN without weight."""
        return self.click_weight / self.weight if self.weight else math.nan


def split_table(spec: ExamplesSpec, shards: Sequence[dict[str, Any]], rows: Mapping[str, SplitRows]) -> pd.DataFrame:
    """A row a split: rows, clicks, click rate (weighted), weight, shards, and its first and last range of the log."""
    table = []
    for split, found in rows.items():
        own = [shard for shard in shards if shard["split"] == split and shard["rows"]]
        record = {
            "split": split,
            "rows": spec.rows[split],
            "clicks": spec.clicks[split],
            "click_rate": found.click_rate,
        }
        if spec.schema.weight:
            record["weight"] = found.weight
        if spec.negative_rate < 1:
            others = (found.weight - found.click_weight) / spec.negative_rate
            record["click_rate_before_sampling"] = found.click_weight / (found.click_weight + others)
        record |= {"shards": len(own), "from": _place(own[0], "start"), "to": _place(own[-1], "end")}
        table.append(record)
    return pd.DataFrame(table)


def _place(shard: dict[str, Any], bound: str) -> str:
    return f"{shard['source'].rpartition('/')[2]}:{shard[bound]}"


def reject_table(rejects: Iterable[dict[str, Any]], lines: int) -> pd.DataFrame:
    """A row a reason: rejected lines, their share of all lines, and where the first one stands with its text."""
    counts: Counter[str] = Counter()
    first: dict[str, dict[str, Any]] = {}
    for reject in rejects:
        counts[reject["reason"]] += 1
        first.setdefault(reject["reason"], reject)
    return pd.DataFrame(
        {
            "reason": reason,
            "lines": count,
            "share": count / lines,
            "first": f"{first[reason]['source'].rpartition('/')[2]}:{first[reason]['offset']}",
            "text": printable(base64.b64decode(first[reason]["raw_base64"]))[:_SHOWN_CHARACTERS],
        }
        for reason, count in counts.most_common()
    )


def numeric_table(spec: ExamplesSpec, rows: Mapping[str, SplitRows]) -> pd.DataFrame:
    """A row a numeric column.

    ``missing_SPLIT`` (share of the rows), ``mean_SPLIT`` and ``std_SPLIT`` of the standardised values, and
    ``psi_valid`` and ``psi_test``: the population stability index between the training rows and these.
    """
    columns = len(spec.numeric)
    table: dict[str, Any] = {
        "column": spec.schema.numeric,
        "transform": spec.schema.transforms,
        **{
            f"missing_{split}": found.histograms.missing[:columns] / found.histograms.rows
            for split, found in rows.items()
        },
    }
    for split, found in rows.items():
        table[f"mean_{split}"], table[f"std_{split}"] = found.histograms.moments()
    return pd.DataFrame(table | {f"psi_{split}": index[:columns] for split, index in _stability(rows).items()})


def categorical_table(spec: ExamplesSpec, rows: Mapping[str, SplitRows], cells: ColumnCells) -> pd.DataFrame:
    """A row a categorical column: its values, ``missing_SPLIT``, ``outside_SPLIT`` (shares), and psi as above."""
    columns = len(spec.numeric)
    table: dict[str, Any] = {"column": spec.schema.categorical, "values": cells.sizes}
    for name in ("missing", "outside"):
        for split, found in rows.items():
            counts = found.histograms.outside if name == "outside" else found.histograms.missing[columns:]
            table[f"{name}_{split}"] = counts / found.histograms.rows
    return pd.DataFrame(table | {f"psi_{split}": index[columns:] for split, index in _stability(rows).items()})


def _stability(rows: Mapping[str, SplitRows]) -> dict[str, Any]:
    train = rows["train"].histograms
    return {split: train.stability(found.histograms) for split, found in rows.items() if split != "train"}


def value_table(vocabularies: Mapping[str, Vocabulary], rows: int, top: int) -> pd.DataFrame:
    """The most frequent values of each categorical column: training rows, their share, click rate (weighted).

    Args:
        vocabularies: by column, or as much of them as is shown.
        rows: number of training rows.
        top: how many values of a column are shown, beside the missing one.
    """
    table = []
    for column, vocabulary in vocabularies.items():
        values = [printable(value)[:_SHOWN_CHARACTERS] for value in vocabulary.values[:top].to_pylist()]
        numbers = [MISSING, *range(FIRST_VALUE, FIRST_VALUE + len(values))]
        for number, value in zip(numbers, ["(missing)", *values], strict=True):
            if count := int(vocabulary.counts[number].sum()):
                rate = _click_rate(vocabulary, number)
                record = {"column": column, "value": value, "rows": count, "share": count / rows, "click_rate": rate}
                table.append(record)
    return pd.DataFrame(table)


def _click_rate(vocabulary: Vocabulary, number: int) -> float:
    clicks = vocabulary.clicks if vocabulary.click_weights is None else vocabulary.click_weights
    weights = vocabulary.counts if vocabulary.weights is None else vocabulary.weights
    weight = float(weights[number].sum())
    return float(clicks[number].sum()) / weight if weight else math.nan

"""The tables of the report page, as DataFrames, from what ``evaluate`` wrote and from the learning curves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from pipeline import storage
from pipeline.workspace import Run


def of_models(models: dict[str, Any], columns: Callable[[dict[str, Any]], dict[str, Any]]) -> pd.DataFrame:
    """A row a model, with the values that `columns` takes from what is known of it."""
    return pd.DataFrame([{"model": name, **columns(model)} for name, model in models.items()])


def by_frequency(models: dict[str, Any]) -> pd.DataFrame:
    """A row a (model, slice of the rows by their rarest value)."""
    rows = [{"model": name, **row} for name, model in models.items() for row in model.get("by_frequency", [])]
    return pd.DataFrame(rows).rename(columns={"frequency": "slice"})


def histories(run: Run, models: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The learning curve of each model that has one."""
    found = {}
    for name in models:
        # With cross-fitting the curve of the first teacher stands for all.
        files = [run.file(name, file) for file in ("history.csv", "history-0.csv")]
        path = next((file for file in files if storage.exists(file)), None)
        if path:
            with storage.open_read(path) as file:
                found[name] = pd.read_csv(io.BytesIO(file.read()))
    return found


def bayes(models: dict[str, Any], splits: list[str]) -> pd.DataFrame:
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

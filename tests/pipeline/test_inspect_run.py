"""``inspect``: its tables against the log itself, read by Python's own reader."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_run import REJECTS, ROWS, make_run, parsed_rows, use_rows_layout, write_log

from features.drift import stability_index
from features.errors import ArtifactError
from pipeline import inspect_run
from pipeline.inspect_run import REMARKS, TITLES, as_text, inspect
from pipeline.workspace import Run

SPLITS = {"train": slice(0, 400), "valid": slice(400, 500), "test": slice(500, 600)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, pd.DataFrame]:
    """A run divided by time, and its log."""
    folder = tmp_path_factory.mktemp("inspect")
    log = write_log(folder / "log.csv")
    frame = pd.DataFrame(parsed_rows(log))
    frame[["clicked", "position"]] = frame[["clicked", "position"]].astype(int)
    frame["importance"] = frame["importance"].astype(np.float32)
    frame["price"] = frame["price"].replace("", "nan").astype(float)
    run = make_run(folder, log, split="time:1700000400/1700000500", max_vocabulary=20, negative_rate=0.5)
    return run, frame


@pytest.fixture(scope="module")
def tables(made: tuple[Run, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return inspect(made[0])


def test_splits(tables: dict[str, pd.DataFrame], made: tuple[Run, pd.DataFrame]) -> None:
    found = tables["splits"].set_index("split")
    assert list(found.index) == list(SPLITS) and found["rows"].tolist() == [400, 100, 100]
    for split, rows in SPLITS.items():
        part = made[1][rows]
        weight, clicked = part["importance"].sum(), part["importance"][part["clicked"] == 1].sum()
        row = found.loc[split]
        assert row["clicks"] == part["clicked"].sum() and row["weight"] == pytest.approx(weight)
        assert row["click_rate"] == pytest.approx(clicked / weight)
        assert row["click_rate_before_sampling"] == pytest.approx(clicked / (clicked + (weight - clicked) / 0.5))
    assert found.loc["train", "from"] == "log.csv:0" and found.loc["test", "to"].startswith("log.csv:")


def test_rejects(tables: dict[str, pd.DataFrame], made: tuple[Run, pd.DataFrame]) -> None:
    found = tables["rejects"]
    assert found["reason"].tolist() == ["field_count", "empty_line"] and found["lines"].tolist() == [2, 1]
    assert found["share"].tolist() == pytest.approx([2 / (ROWS + REJECTS), 1 / (ROWS + REJECTS)])
    data = Path(made[0].manifest("examples")["inputs"][0]["path"]).read_bytes()
    assert found["first"][0] == f"log.csv:{data.index(b'no row')}"
    assert found["text"].str.startswith("no row").tolist() == [True, False]


def test_numeric_columns(tables: dict[str, pd.DataFrame], made: tuple[Run, pd.DataFrame]) -> None:
    found = tables["numeric"].set_index("column")
    assert found["transform"].tolist() == ["log", "log"]
    for column in ("price", "position"):
        t = np.log1p(made[1][column])
        z = (t - t[SPLITS["train"]].mean()) / t[SPLITS["train"]].std(ddof=0)
        for split, rows in SPLITS.items():
            row = found.loc[column]
            assert row[f"missing_{split}"] == pytest.approx(t[rows].isna().mean())
            assert row[f"mean_{split}"] == pytest.approx(z[rows].mean(), abs=1e-5)
            assert row[f"std_{split}"] == pytest.approx(z[rows].std(ddof=0), rel=1e-5)
    # Of ten positions each has a bucket of its own.
    train, test = (np.bincount(made[1]["position"][SPLITS[split]], minlength=10) for split in ("train", "test"))
    assert found.loc["position", "psi_test"] == pytest.approx(stability_index(train, test))
    assert (found[["psi_valid", "psi_test"]] > 0).all(axis=None)


def test_categorical_columns(tables: dict[str, pd.DataFrame], made: tuple[Run, pd.DataFrame]) -> None:
    found = tables["categorical"].set_index("column")
    for column in ("ad", "site/page"):
        train = made[1][column][SPLITS["train"]]
        counts = train[train != ""].value_counts()
        kept = sorted(counts.index, key=lambda value: (-counts[value], value))[:20]
        assert found.loc[column, "values"] == len(kept)
        for split, rows in SPLITS.items():
            values = made[1][column][rows]
            outside = ~values.isin([*kept, ""])
            assert found.loc[column, f"missing_{split}"] == pytest.approx((values == "").mean())
            assert found.loc[column, f"outside_{split}"] == pytest.approx(outside.mean())
        cells = {value: place for place, value in enumerate(["", *kept])}
        train_cells, test_cells = (
            np.bincount([cells.get(value, 21) for value in made[1][column][SPLITS[split]]], minlength=22)
            for split in ("train", "test")
        )
        assert found.loc[column, "psi_test"] == pytest.approx(stability_index(train_cells, test_cells))


def test_values(tables: dict[str, pd.DataFrame], made: tuple[Run, pd.DataFrame]) -> None:
    found = tables["values"]
    train = made[1][SPLITS["train"]]
    assert found.groupby("column", sort=False).size().to_dict() == {"ad": 6, "site/page": 5}
    for row in found.to_dict("records"):
        part = train[train[row["column"]] == ("" if row["value"] == "(missing)" else row["value"])]
        weight = part["importance"].sum()
        assert row["rows"] == len(part) and row["share"] == len(part) / 400
        # Weights are added up in units of 2^-20.
        clicked = part["importance"][part["clicked"] == 1].sum()
        assert row["click_rate"] == pytest.approx(clicked / weight, abs=1e-5)
    for _, rows in found[found["value"] != "(missing)"].groupby("column"):
        assert rows["rows"].is_monotonic_decreasing


def test_both_layouts_give_the_same_tables(
    tables: dict[str, pd.DataFrame], made: tuple[Run, pd.DataFrame], tmp_path: Path
) -> None:
    shutil.copytree(made[0].path, tmp_path / "run")
    run = Run(str(tmp_path / "run"))
    use_rows_layout(run)
    for name, table in inspect(run).items():
        pd.testing.assert_frame_equal(table, tables[name])


def test_text(tables: dict[str, pd.DataFrame]) -> None:
    text = as_text(tables)
    sections = text.split("\n\n")
    assert [section.splitlines()[0] for section in sections] == [TITLES[name] for name in tables]
    splits = sections[0].splitlines()
    assert splits[1].split() == list(tables["splits"].columns) and splits[2].split()[:2] == ["train", "400"]
    assert REMARKS["numeric"] in sections[2] and "-0.0000" not in text and "nan" not in text
    unknown = {"numeric": pd.DataFrame({"column": ["x"], "mean_train": [math.nan], "std_train": [-1e-9]})}
    assert as_text(unknown).splitlines()[-1].split() == ["x", "-", "0.0000"]


def test_a_run_of_one_split_without_rejects_and_weights(tmp_path: Path) -> None:
    from features.schema import Column, Schema

    log = tmp_path / "log.tsv"
    log.write_text("".join(f"{i % 2}\t{'' if i < 40 else 5}\tv{i % 4}\n" for i in range(60)))
    schema = Schema((Column("y", "label"), Column("x", "integer"), Column("c", "categorical")))
    tables = inspect(make_run(tmp_path, log, schema=schema, split="40/20/0"))
    assert list(tables) == ["splits", "numeric", "categorical", "values"]
    assert tables["splits"]["split"].tolist() == ["train", "valid"] and "weight" not in tables["splits"]
    # No training row has a value of x.
    row = tables["numeric"].iloc[0]
    assert row["missing_train"] == 1 and math.isnan(row["mean_train"]) and row["missing_valid"] == 0
    assert inspect_run.TOP_VALUES == 5 and tables["values"]["rows"].tolist() == [10] * 4
    as_text(tables)


def test_before_preprocess(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="The run must hold finished examples"):
        inspect(Run(str(tmp_path)))

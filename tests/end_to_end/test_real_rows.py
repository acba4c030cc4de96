"""``preprocess`` on real rows against pandas. ``CTR_DISTILL_CRITEO`` names the log; nothing of it is kept."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.blocks import Block, read_blocks
from features.schema import CRITEO
from features.spec import SPLITS
from pipeline.beam import make_options
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig
from pipeline.workspace import EXAMPLES, Run

LOG = os.environ.get("CTR_DISTILL_CRITEO", "")

pytestmark = pytest.mark.skipif(not LOG, reason="CTR_DISTILL_CRITEO is not set")


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """All fields as texts, with the split of the first 70, 85 and 100 % of the lines."""
    table = pd.read_csv(LOG, sep="\t", header=None, names=list(CRITEO.names), dtype=str, keep_default_na=False)
    table.insert(0, "split", np.array(SPLITS)[np.searchsorted(_cuts(len(table)), np.arange(len(table)), side="right")])
    return table


def _cuts(lines: int) -> list[int]:
    return [lines * 70 // 100, lines * 85 // 100]


@pytest.fixture(scope="module")
def stored(raw: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What ``preprocess`` makes of the log, in the order of its lines."""
    run = Run(str(tmp_path_factory.mktemp("real") / "run"))
    first, second = _cuts(len(raw))
    config = PreprocessConfig(split=f"{first}/{second - first}/{len(raw) - second}", min_count=2)
    with run.lock():
        preprocess(run, [LOG], CRITEO, config, make_options((), 2))
    blocks = []
    for shard in run.manifest(EXAMPLES)["shards"]:
        with open(run.file(EXAMPLES, shard["path"]), "rb") as file:
            blocks += list(read_blocks(file, shard["path"]))
    block = Block.concatenate(blocks)
    values = np.concatenate([block.dense, block.ids.astype(np.float64)], axis=1)
    table = pd.DataFrame(values, columns=[*CRITEO.numeric, *CRITEO.categorical])
    table.insert(0, "label", block.labels)
    return table.iloc[np.argsort(block.offsets)].reset_index(drop=True)


def test_every_line_is_a_row(raw: pd.DataFrame, stored: pd.DataFrame) -> None:
    assert stored["label"].tolist() == raw["label"].astype(int).tolist()


@pytest.mark.parametrize("name", CRITEO.categorical)
def test_ids(raw: pd.DataFrame, stored: pd.DataFrame, name: str) -> None:
    counts = raw.loc[(raw["split"] == "train") & (raw[name] != ""), name].value_counts()
    kept = counts[counts >= 2].sort_index().sort_values(ascending=False, kind="stable")
    ids = raw[name].map({"": 0} | {value: number for number, value in enumerate(kept.index, 2)})
    assert stored[name].tolist() == ids.fillna(1).tolist()


@pytest.mark.parametrize("name", CRITEO.numeric)
def test_numerics(raw: pd.DataFrame, stored: pd.DataFrame, name: str) -> None:
    value = pd.to_numeric(raw[name]).astype("float32").astype("float64")
    t = np.sign(value) * np.log1p(value.abs())
    train = t[raw["split"] == "train"]
    assert stored[name].isna().tolist() == (raw[name] == "").tolist()
    np.testing.assert_allclose(stored[name], (t - train.mean()) / train.std(ddof=0), rtol=2e-6, atol=1e-6)


def test_the_log_is_not_in_the_checkout() -> None:
    assert Path(__file__).parents[2] not in Path(LOG).resolve().parents

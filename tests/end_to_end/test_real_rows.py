"""``preprocess`` on real rows against pandas, and serving against ``preprocess``.

``CTR_DISTILL_CRITEO`` names the log; nothing of it is kept.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exports import TOLERANCE, Export, check_agreement, random_student, saved

from features.blocks import Block, read_blocks
from features.schema import CRITEO
from features.spec import SPLITS
from features.vocabulary import FIRST_VALUE, UNSEEN
from models.backend import tf
from models.serving_features import ServingFeatures
from models.serving_lines import LineParser
from pipeline.beam import make_options
from pipeline.predict import predict
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig
from pipeline.stage_inputs import click_counts, read_vocabularies
from pipeline.storage import find_inputs, open_log
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
def run(raw: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the log with examples."""
    run = Run(str(tmp_path_factory.mktemp("real") / "run"))
    first, second = _cuts(len(raw))
    config = PreprocessConfig(split=f"{first}/{second - first}/{len(raw) - second}", min_count=2)
    with run.lock():
        preprocess(run, [LOG], CRITEO, config, make_options((), 2))
    return run


@pytest.fixture(scope="module")
def block(run: Run) -> Block:
    """What ``preprocess`` makes of the log, in the order of its lines."""
    blocks = []
    for shard in run.manifest(EXAMPLES)["shards"]:
        with open(run.file(EXAMPLES, shard["path"]), "rb") as file:
            blocks += list(read_blocks(file, shard["path"]))
    whole = Block.concatenate(blocks)
    return whole.take(np.argsort(whole.offsets))


@pytest.fixture(scope="module")
def stored(block: Block) -> pd.DataFrame:
    """The same by column."""
    values = np.concatenate([block.dense, block.ids.astype(np.float64)], axis=1)
    table = pd.DataFrame(values, columns=[*CRITEO.numeric, *CRITEO.categorical])
    table.insert(0, "label", block.labels)
    return table


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


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    (file,) = find_inputs([LOG])
    with open_log(file) as log:
        return log.read().splitlines()


@pytest.fixture(scope="module")
def exported(run: Run, lines: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Export:
    """A student with random weights for the log."""
    spec = run.spec()
    vocabularies = read_vocabularies(run, spec)
    kept = [vocabulary.kept(4) for vocabulary in vocabularies]
    features = ServingFeatures.of(spec, [vocabulary.values for vocabulary in vocabularies], kept)
    counts = click_counts(vocabularies, spec)
    student = random_student(features, counts, subclasses=2, statistics=False)
    return saved(tmp_path_factory.mktemp("model"), features, lines, student, counts)


def test_served_features_are_those_of_training(exported: Export, lines: list[bytes], block: Block) -> None:
    parse = LineParser(CRITEO)
    ends = FIRST_VALUE + np.array(exported.features.kept)
    for start in range(0, len(lines), 20_000):
        rows = slice(start, start + 20_000)
        raw, values, reasons = parse(tf.constant(lines[rows]), labelled=True)
        assert not np.any(reasons != b"")
        ids, dense = block.ids[rows], block.dense[rows]
        np.testing.assert_array_equal(exported.module._ids(values), np.where(ids < ends, ids, UNSEEN))
        np.testing.assert_array_max_ulp(np.nan_to_num(exported.module._numeric(raw).numpy()), np.nan_to_num(dense))


def test_signatures_agree(exported: Export, lines: list[bytes], block: Block) -> None:
    expected = exported.call("features", ids=block.ids, dense=block.dense)["p_click"]
    np.testing.assert_allclose(exported.tsv(lines)["p_click"], expected, rtol=0, atol=TOLERANCE)
    check_agreement(exported, lines[::20])


def test_predict_agrees(exported: Export, block: Block, tmp_path: Path) -> None:
    assert predict(str(exported.path), [LOG], str(tmp_path), make_options((), 2))
    parts = [pq.read_table(path) for path in sorted(tmp_path.glob("part-*.parquet"))]
    found = pa.concat_tables(parts).to_pandas().sort_values("offset")
    assert found["offset"].tolist() == block.offsets.tolist()
    expected = exported.call("features", ids=block.ids, dense=block.dense)["p_click"]
    np.testing.assert_allclose(found["p_click"], expected, rtol=0, atol=TOLERANCE)


def test_the_log_is_not_in_the_checkout() -> None:
    assert Path(__file__).parents[2] not in Path(LOG).resolve().parents

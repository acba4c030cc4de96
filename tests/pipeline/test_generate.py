import gzip
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from features.errors import ConfigError
from features.synthetic import Fields, build_model, kind_probabilities
from features.synthetic_spec import CATEGORICAL, PRESETS, value_codes
from pipeline import generate as module
from pipeline.generate import CHUNK_ROWS, generate, truth_path

ROWS = 60_000


@pytest.fixture(scope="module", params=list(PRESETS))
def log(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "logs.tsv"
    summary = generate(ROWS, str(path), preset=request.param)
    return request.param, summary, path.read_bytes(), pq.read_table(summary.paths[1]).to_pandas()


def test_summary_is_within_the_promise_and_agrees_with_scikit_learn(log):
    _, summary, text, truth = log
    assert summary.rows == len(truth) == text.count(b"\n") == ROWS
    assert 0.23 < summary.click_rate < 0.27
    assert 0.79 < summary.bayes_auc < 0.81
    assert summary.click_rate == pytest.approx(truth["label"].mean())
    assert summary.bayes_auc == pytest.approx(roc_auc_score(truth["label"], truth["p_star"]), abs=1e-4)
    assert summary.bayes_logloss == pytest.approx(log_loss(truth["label"], truth["p_star"]))


def test_p_star_is_calibrated(log):
    truth = log[3].sort_values("p_star")
    label, p_star = (np.array_split(truth[name].to_numpy(), 20) for name in ("label", "p_star"))
    for clicks, chance in zip(label, p_star, strict=True):
        z = (clicks - chance).sum() / np.sqrt((chance * (1 - chance)).sum())
        assert abs(z) < 4


def test_truth_points_to_the_lines_and_agrees_with_them(log):
    preset, _, text, truth = log
    assert [str(kind) for kind in truth.dtypes] == ["int64", "float64", "int16", "int8"]
    starts = [0, *(match.end() for match in re.finditer(b"\n", text))][:-1]
    assert truth["offset"].tolist() == starts
    assert [int(text[start : start + 1]) for start in starts] == truth["label"].tolist()
    clicking = truth["kind"] >= PRESETS[preset].segments
    assert (clicking == (truth["label"] == 1)).all()
    assert truth["kind"].nunique() == 2 * PRESETS[preset].segments


def test_p_star_is_a_function_of_the_text_alone(log):
    preset, _, text, truth = log
    rows = [line.split("\t") for line in text.decode().splitlines()[:400]]
    assert {len(row) for row in rows} == {40}
    numeric = [[int(row[1 + i]) if row[1 + i] else np.iinfo(np.int32).min for row in rows] for i in range(13)]
    categorical = []
    for i, column in enumerate(CATEGORICAL):
        codes = value_codes(i, np.arange(column.cardinality, dtype=np.int32))
        order = np.argsort(codes)
        seen = np.array([int(row[14 + i] or "0", 16) for row in rows], np.uint32)
        values = order[np.minimum(np.searchsorted(codes[order], seen), column.cardinality - 1)]
        missing = np.array([row[14 + i] == "" for row in rows])
        assert (missing | (codes[values] == seen)).all()
        categorical.append(np.where(missing, -1, values))
    model = build_model(preset)
    fields = Fields(np.array(numeric, np.int32), np.array(categorical, np.int32))
    p_star = kind_probabilities(model, fields)[:, model.preset.segments :].sum(axis=1)
    np.testing.assert_allclose(p_star, truth["p_star"][:400], rtol=1e-4)


def test_numbers_of_all_lengths_are_written_in_plain_decimal():
    numbers = [-3, -1, 0, 7, 42, 9_999, 10_000, 10_007, 123_456, 99_999_999, np.iinfo(np.int32).min]
    fields = Fields(np.tile(np.int32(numbers), (13, 1)), np.full((26, len(numbers)), -1, np.int32))
    text, ends = module._Formatter().format(np.zeros(len(numbers), np.int8), fields)
    lines = text.decode().splitlines()
    expected = [str(number) for number in numbers[:-1]] + [""]
    assert lines == ["0" + 13 * f"\t{number}" + 26 * "\t" for number in expected]
    assert ends.tolist() == np.cumsum([len(line) + 1 for line in lines]).tolist()


def _bytes(folder: Path, name: str, **settings) -> tuple[bytes, bytes]:
    paths = generate(CHUNK_ROWS + 100, str(folder / name), **settings).paths
    return tuple(Path(path).read_bytes() for path in paths)


def test_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path):
    first = _bytes(tmp_path, "a.tsv", seed=5)
    assert _bytes(tmp_path, "b.tsv", seed=5) == first
    other = _bytes(tmp_path, "c.tsv", seed=6)
    assert other[0] != first[0]
    assert other[1] != first[1]


def test_gzip_holds_the_plain_log_and_is_stable(tmp_path):
    plain = _bytes(tmp_path, "a.tsv")
    packed = _bytes(tmp_path, "a.tsv.gz")
    assert gzip.decompress(packed[0]) == plain[0]
    assert packed[1] == plain[1]
    assert packed[0][3:8] == bytes(5)  # no name flag, no time
    assert _bytes(tmp_path, "b.gz")[0] == packed[0]


@pytest.mark.parametrize("name", ["logs.tsv", "logs.tsv.gz", "logs.gz", "logs"])
def test_truth_lies_beside_the_log(name):
    assert truth_path(f"some/{name}") == "some/logs.truth.parquet"


def test_progress_counts_rows_and_chunks_join_seamlessly(tmp_path):
    seen = []
    generate(2 * CHUNK_ROWS + 1, str(tmp_path / "a.tsv"), progress=seen.append)
    assert seen == [CHUNK_ROWS, 2 * CHUNK_ROWS, 2 * CHUNK_ROWS + 1]
    assert (tmp_path / "a.tsv").read_bytes().count(b"\n") == seen[-1]


def test_one_row_is_a_log(tmp_path):
    summary = generate(1, str(tmp_path / "a.tsv"))
    assert np.isnan(summary.bayes_auc)
    assert (tmp_path / "a.tsv").read_bytes().count(b"\t") == 39


@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_a_thinned_log_has_all_clicks_and_a_share_of_the_others(tmp_path, rate):
    rows = CHUNK_ROWS + 20_000
    whole = generate(rows, str(tmp_path / "whole.tsv"), seed=4)
    thinned = generate(rows, str(tmp_path / "thinned.tsv"), seed=4, negative_rate=rate)
    lines = [(tmp_path / name).read_bytes().splitlines(keepends=True) for name in ("whole.tsv", "thinned.tsv")]
    truths = [pq.read_table(made.paths[1]).to_pandas() for made in (whole, thinned)]
    # The lines and truths of the whole log, in its order, without some that do not click.
    place, kept = 0, []
    for line in lines[1]:
        place = lines[0].index(line, place) + 1
        kept.append(place - 1)
    expected = truths[0].iloc[kept].drop(columns="offset").reset_index(drop=True)
    assert expected.equals(truths[1].drop(columns="offset"))
    assert truths[1]["offset"].tolist() == np.cumsum([0, *map(len, lines[1][:-1])]).tolist()
    assert truths[1]["label"].sum() == truths[0]["label"].sum()
    others = (truths[0]["label"] == 0).sum()
    assert (truths[1]["label"] == 0).sum() == pytest.approx(rate * others, abs=4 * np.sqrt(others * rate * (1 - rate)))
    # The summary is that of the drawn rows; only their number is that of the lines.
    assert thinned.rows == len(lines[1]) < whole.rows == rows
    for name in ("click_rate", "bayes_auc", "bayes_logloss"):
        assert getattr(thinned, name) == getattr(whole, name)


def test_which_rows_are_left_out_has_nothing_to_do_with_what_they_are(tmp_path):
    truth = pq.read_table(generate(ROWS, str(tmp_path / "a.tsv"), seed=2).paths[1]).to_pandas()
    path = generate(ROWS, str(tmp_path / "b.tsv"), seed=2, negative_rate=0.3).paths[1]
    thinned = pq.read_table(path).to_pandas()
    whole, rest = (table.loc[table["label"] == 0, "p_star"] for table in (truth, thinned))
    assert rest.mean() == pytest.approx(whole.mean(), abs=4 * whole.std() / np.sqrt(len(rest)))


def test_a_log_may_lose_all_its_rows(tmp_path):
    summary = generate(3, str(tmp_path / "a.tsv"), seed=5, negative_rate=1e-9)
    truth = pq.read_table(summary.paths[1])
    assert summary.rows == truth.num_rows == (tmp_path / "a.tsv").read_bytes().count(b"\n") == 0
    assert summary.click_rate == 0


def test_a_failure_leaves_what_was_there(tmp_path):
    before = _bytes(tmp_path, "a.tsv")

    def fail(rows):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        generate(10, str(tmp_path / "a.tsv"), progress=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.truth.parquet", "a.tsv"]
    assert ((tmp_path / "a.tsv").read_bytes(), (tmp_path / "a.truth.parquet").read_bytes()) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows must be positive. Received: 0"),
        ({"seed": -1}, "seed must be 0 or more. Received: -1"),
        ({"preset": "kind"}, "one of kinds, no-kinds, linear. Received: 'kind'"),
        ({"negative_rate": 0.0}, "negative rate must be above 0 and at most 1. Received: 0.0"),
        ({"negative_rate": 1.5}, "negative rate must be above 0 and at most 1. Received: 1.5"),
        ({"negative_rate": float("nan")}, "negative rate must be above 0 and at most 1. Received: nan"),
        ({"output": "nowhere/logs.tsv"}, "folder of the output must exist. Received: '.*nowhere/logs.tsv'"),
        ({"output": ""}, "must be a file, not a folder"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    settings = {"rows": 10, "output": "logs.tsv", **change}
    output = str(tmp_path / settings.pop("output"))
    with pytest.raises(ConfigError, match=message):
        generate(settings.pop("rows"), output, **settings)
    assert not list(tmp_path.iterdir())

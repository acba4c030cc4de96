from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import ArtifactError
from pipeline.generate import generate, truth_path
from pipeline.truth import read_truths


@pytest.mark.parametrize("name", ["log.tsv", "log.tsv.gz"])
def test_finds_rows_by_offset_in_any_order(tmp_path: Path, name: str) -> None:
    log = str(tmp_path / name)
    generate(500, log)
    table = pd.read_parquet(truth_path(log)).sample(frac=0.5, random_state=0)
    truths = read_truths([log])
    assert truths is not None and list(truths) == [log]
    p_star, kinds = truths[log].find(table["offset"].to_numpy())
    np.testing.assert_array_equal(p_star, table["p_star"])
    np.testing.assert_array_equal(kinds, table["kind"])


def test_of_several_logs(tmp_path: Path) -> None:
    logs = [str(tmp_path / f"{seed}.tsv") for seed in range(2)]
    for seed, log in enumerate(logs):
        generate(50, log, seed=seed)
    truths = read_truths(logs)
    assert truths is not None
    assert not np.array_equal(truths[logs[0]].p_star, truths[logs[1]].p_star)
    Path(truth_path(logs[1])).unlink()
    assert read_truths(logs) is None


@pytest.mark.parametrize("offset", [-1, 1, 1 << 40])
def test_a_row_that_was_not_generated(tmp_path: Path, offset: int) -> None:
    log = str(tmp_path / "log.tsv")
    generate(50, log)
    truths = read_truths([log])
    assert truths is not None
    with pytest.raises(ArtifactError, match=rf"must be that of its lines\. Received: .*byte offset {offset}\)"):
        truths[log].find(np.array([0, offset]))
    assert [len(found) for found in truths[log].find(np.array([], np.int64))] == [0, 0]

"""``predict --dry-run`` against what the job then writes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from support import ROWS, Made, ctr_distill

from features.errors import DataError
from pipeline.beam import make_options
from pipeline.predict import predict
from pipeline.predict_estimate import as_text, estimate_predictions


@pytest.fixture(scope="module")
def model(made: Made) -> str:
    return made.run.file("students/subclass/model")


@pytest.mark.parametrize("pack", ["", ".gz"])
def test_rows_and_output_are_right_within_a_twentieth(made: Made, model: str, tmp_path: Path, pack: str) -> None:
    log, output = tmp_path / f"log.tsv{pack}", tmp_path / "output"
    log.write_bytes(gzip.compress(made.log.read_bytes(), 1) if pack else made.log.read_bytes())
    found = estimate_predictions(model, [str(log)], 2)
    predict(model, [str(log)], str(output), make_options((), 1))
    manifest = json.loads((output / "_manifest.json").read_text())
    assert manifest["rows"] == ROWS
    assert found.rows == pytest.approx(ROWS, rel=0.05)
    assert found.output == pytest.approx(sum(path.stat().st_size for path in output.glob("*.parquet")), rel=0.05)
    assert (found.files, found.labelled, found.ranges) == (1, 1, len(manifest["parts"]))
    assert found.bytes == log.stat().st_size


def test_several_files_with_and_without_labels(made: Made, model: str, tmp_path: Path) -> None:
    lines = made.log.read_bytes().splitlines(keepends=True)[:600]
    bad = b"no row\n"
    first, second, empty = (tmp_path / name for name in ("first", "second", "empty"))
    first.write_bytes(b"".join(lines) + bad * 200)
    second.write_bytes(b"".join(line.split(b"\t", 1)[1] for line in lines))
    empty.touch()
    found = estimate_predictions(model, [str(first), str(second), str(empty)], 1)
    # All of it is sample.
    assert (found.rows, found.rejects, found.files, found.labelled, found.ranges) == (1200, 200, 2, 1, 2)
    assert 500e6 < found.memory < estimate_predictions(model, [str(first), str(second)], 8).memory < 2e9


def test_a_log_without_a_good_line(model: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x" + "\t" * 39 + "\n")
    with pytest.raises(DataError, match=r"^The sample of the log must hold rows. Received: 1 bad lines.$"):
        estimate_predictions(model, [str(tmp_path / "log")], 1)


def test_the_command_prints_a_table_and_makes_nothing(made: Made, model: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    call = ["predict", "--model", model, "--input", str(made.log), "--output", str(output), "--dry-run"]
    done = ctr_distill([*call, "--workers", "2"])
    assert done.stdout.strip() == as_text(estimate_predictions(model, [str(made.log)], 2))
    assert not output.exists()

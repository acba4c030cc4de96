"""States of a training: whole or not at all, the newest one, a few rows at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import models.checkpoints
from models.backend import tf
from models.checkpoints import Checkpoints, chunks


def make_variables(factor: float = 1.0) -> list[tf.Variable]:
    table = np.arange(28, dtype=np.float32).reshape(7, 4) * factor
    return [tf.Variable(table), tf.Variable(int(3 * factor), dtype=tf.int64), tf.Variable(table[:, 0])]


@pytest.fixture(params=[1 << 24, 40], ids=["whole", "chunks"])
def chunk_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of a chunk: all of a variable, or two rows of a table."""
    monkeypatch.setattr(models.checkpoints, "_CHUNK_BYTES", request.param)
    return int(request.param)


def test_round_trip(tmp_path: Path, chunk_bytes: int) -> None:
    saved, other = make_variables(), make_variables(2.0)
    Checkpoints(str(tmp_path), "latest", saved).save({"step": 5, "history": [0.25]})
    assert Checkpoints(str(tmp_path), "latest", other).restore() == {"step": 5, "history": [0.25]}
    for variable, value in zip(other, saved, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_chunks_are_all_rows_once(chunk_bytes: int) -> None:
    rows = chunks(make_variables()[0])
    if chunk_bytes == 40:
        assert np.concatenate(rows).tolist() == list(range(7)) and len(rows) == 4
    else:
        assert rows == [None]


def test_the_newest_counts_and_the_older_ones_go(tmp_path: Path) -> None:
    variables = make_variables()
    states = Checkpoints(str(tmp_path), "latest", variables)
    for step in range(3):
        variables[1].assign(step)
        states.save({"step": step})
    assert [path.name for path in tmp_path.iterdir()] == ["latest-00000003"]
    variables[1].assign(99)
    assert states.restore() == {"step": 2} and int(variables[1]) == 2


def test_series_of_other_names_are_left_alone(tmp_path: Path) -> None:
    for name in ("best", "latest"):
        Checkpoints(str(tmp_path), name, make_variables()).save({"name": name})
    for name in ("best", "latest"):
        assert Checkpoints(str(tmp_path), name, make_variables()).restore() == {"name": name}


def test_an_unfinished_state_is_none(tmp_path: Path) -> None:
    states = Checkpoints(str(tmp_path), "latest", make_variables())
    (tmp_path / "latest-00000004.unfinished").mkdir()
    assert states.restore() is None
    states.save({"step": 1})
    assert states.restore() == {"step": 1}


def test_a_state_of_other_variables_is_none(tmp_path: Path) -> None:
    Checkpoints(str(tmp_path), "latest", make_variables()).save({})
    other = [tf.Variable(tf.zeros([8, 4])), *make_variables()[1:]]
    assert Checkpoints(str(tmp_path), "latest", other).restore() is None
    np.testing.assert_array_equal(other[0], np.zeros([8, 4]))


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert Checkpoints(str(tmp_path / "none"), "latest", make_variables()).restore() is None


def test_other_workers_read_and_do_not_write(tmp_path: Path) -> None:
    Checkpoints(str(tmp_path), "latest", make_variables(), writes=False).save({"step": 1})
    assert list(tmp_path.iterdir()) == []
    Checkpoints(str(tmp_path), "latest", make_variables()).save({"step": 2})
    assert Checkpoints(str(tmp_path), "latest", make_variables(2.0), writes=False).restore() == {"step": 2}

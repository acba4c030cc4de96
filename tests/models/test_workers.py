"""Who takes part in a training."""

from __future__ import annotations

import json

import pytest

from features.errors import ConfigError, TrainingError
from models.backend import tf
from models.workers import Workers, is_chief, naming_lost_workers, strategy, workers

TWO = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster from outside."""
    monkeypatch.delenv("TF_CONFIG", raising=False)


def test_one_worker_without_a_cluster() -> None:
    assert workers() == Workers(0, 1) and is_chief()
    assert strategy().num_replicas_in_sync == 1


def test_a_cluster_says_which_worker_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(TWO))
    assert workers() == Workers(1, 2) and not is_chief()


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"cluster": TWO["cluster"]}),
        json.dumps({**TWO, "task": {"type": "worker", "index": 2}}),
        json.dumps({**TWO, "task": {"type": "ps", "index": 0}}),
        json.dumps({**TWO, "task": {"type": "worker", "index": "one"}}),
        json.dumps({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": TWO["task"]}),
    ],
)
def test_a_wrong_cluster_is_the_users_mistake(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(ConfigError, match=r"TF_CONFIG must be of the form .* Received: .* \(environment\)\."):
        workers()


def fail() -> None:
    raise tf.errors.UnavailableError(None, None, "Connection refused\nmore")


def test_a_lost_worker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(TWO))
    with (
        pytest.raises(TrainingError, match=r"All 2 workers must .*UnavailableError\); start all"),
        naming_lost_workers(),
    ):
        fail()


def test_without_a_cluster_an_error_stays_what_it_is() -> None:
    with pytest.raises(tf.errors.UnavailableError), naming_lost_workers():
        fail()

"""The tree of exceptions: one base that the command line catches, three kinds apart from each other."""

from __future__ import annotations

import pickle

import pytest

from features.errors import ArtifactError, ConfigError, CtrDistillError, DataError

KINDS = [ConfigError, DataError, ArtifactError]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_an_error_of_the_project_and_of_no_other_kind(kind: type[CtrDistillError]) -> None:
    assert issubclass(kind, CtrDistillError) and issubclass(kind, Exception)
    assert [other for other in KINDS if issubclass(kind, other)] == [kind]
    # A handler of Python's own errors must not swallow them.
    assert not issubclass(kind, (ValueError, OSError, KeyError, RuntimeError))


@pytest.mark.parametrize("kind", KINDS)
def test_errors_travel_between_processes_with_their_message(kind: type[CtrDistillError]) -> None:
    error = pickle.loads(pickle.dumps(kind("A must be b. Received: c (d).")))
    assert type(error) is kind and str(error) == "A must be b. Received: c (d)."

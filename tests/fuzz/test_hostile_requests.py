"""A few of the hostile requests, and what becomes of a process that crashes or hangs over one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hostile_requests
import numpy as np
import pytest
from exports import VISITS, Export, export, visits_log
from hostile_drawing import Request
from hostile_requests import Target, kind_of, run_here, supervise

REQUESTS = 2000


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Every kind of column and transform, click statistics and hash buckets."""
    folder = tmp_path_factory.mktemp("hostile")
    return export(folder, VISITS, visits_log(), subclasses=2, statistics=True, buckets=7, negative_rate=0.25)


@pytest.fixture(scope="module")
def target(exported: Export) -> Target:
    return Target(exported.path)


def test_hostile_requests_are_refused_or_answered(target: Target) -> None:
    records = list(run_here(target, 0, range(REQUESTS)))
    assert [record for record in records if record[2]] == []
    outcomes = [outcome for _, outcome, _ in records if outcome]
    assert len(outcomes) == REQUESTS
    answered = {outcome.split()[1] for outcome in outcomes if outcome.startswith("answered")}
    assert answered == set(target.drawing.signatures)
    refused = {kind_of(outcome).split(":")[0] for outcome in outcomes if not outcome.startswith("answered")}
    assert refused >= {"InvalidArgumentError", "TypeError", "KeyError"}


def test_good_requests_are_answered_and_drawn_the_same_again(target: Target) -> None:
    for name in target.drawing.signatures:
        assert target.check(target.drawing.good(name)) == f"answered {name}"
    one, same = target.drawing.request(3, 5), target.drawing.request(3, 5)
    assert one.signature == same.signature
    for name, values in one.inputs.items():
        np.testing.assert_array_equal(values, same.inputs[name])


@pytest.mark.parametrize(
    ("outputs", "finding"),
    [
        ({"p_click": [0.5], "logit": [0.0]}, "shapes"),
        ({"p_click": [0.5, np.nan], "logit": [0.0, np.nan]}, "logit NaN"),
        ({"p_click": [0.5, 1.5], "logit": [0.0, 9.0]}, "p_click"),
        ({"p_click": [0.5, 0.5], "logit": [0.0, 0.0], "reason": [b"", b"field_count"]}, "a bad line has"),
    ],
)
def test_a_wrong_answer_is_found(outputs: dict[str, Any], finding: str) -> None:
    request = Request("tsv", {"lines": np.array([b"a", b"b"], object)})
    with pytest.raises(AssertionError, match=finding):
        hostile_requests.check_outputs({name: np.array(values) for name, values in outputs.items()}, request)


@pytest.mark.parametrize(
    ("program", "finding"),
    [
        ('import os; print(\'[0, "", ""]\', flush=True); os.abort()', "the process ended with -6: "),
        ('import time; print(\'[0, "", ""]\', flush=True); time.sleep(60)', "no answer for 0.5 seconds"),
        ("import sys; print('[0, \"\", \"\"]'); sys.exit('no memory')", "the process ended with 1: no memory"),
    ],
)
def test_a_crash_and_a_hang_are_found_with_their_request(program: str, finding: str) -> None:
    begun, found = supervise([sys.executable, "-S", "-c", program], limit=0.5)
    assert begun == [0, "", ""] and found == [0, "finding", finding]


def test_a_finding_is_saved(exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile_requests, "WORK", tmp_path)
    printed: Sequence[str] = hostile_requests.describe(exported.path, seed=1, number=2, finding="what is wrong")
    assert "FINDING 2: what is wrong" in printed[0]
    (saved,) = tmp_path.iterdir()
    assert saved.name == "1-2.pickle" and str(saved) in printed[-1]

"""Students that were refused: one sentence a reason, an error for those that were asked for, and nothing of before."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import RefusedError
from pipeline.refusals import read_refusals, refusal_notes, require_none_refused, write_refusals
from pipeline.workspace import Run

BAD, WORSE = "A teacher must be good. Received: bad.", "A teacher must be good. Received: worse."


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(str(tmp_path))
    write_refusals(run, {"kd": BAD, "lelp": WORSE, "subclass": BAD})
    return run


def test_a_reason_is_told_once(run: Run) -> None:
    assert refusal_notes(run) == [
        f"Refused at the gate, and not trained: kd, subclass. {BAD}",
        f"Refused at the gate, and not trained: lelp. {WORSE}",
    ]
    with pytest.raises(RefusedError) as caught:
        require_none_refused(run, ["hard", "subclass", "lelp", "kd"])
    expected = f"Every student of a run must pass the gate. Received: kd, lelp, subclass refused. {BAD} {WORSE}"
    assert str(caught.value) == expected


def test_who_was_not_asked_for_is_no_error(run: Run) -> None:
    require_none_refused(run, ["hard"])
    with pytest.raises(RefusedError, match=r"Received: lelp refused\. .*worse\.$"):
        require_none_refused(run, ["hard", "lelp"])


def test_nothing_remains_of_an_earlier_call(run: Run) -> None:
    write_refusals(run, {"kd": BAD})
    assert read_refusals(run) == {"kd": BAD}
    write_refusals(run, {})
    assert read_refusals(run) == {} and refusal_notes(run) == []
    require_none_refused(run, ["kd"])

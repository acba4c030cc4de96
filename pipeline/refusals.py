"""Students that the gate has refused while a run went on: who they are and why, beside the report that lacks them.

An evaluation of other models removes what is known of them, with everything else that lies there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.errors import RefusedError
from pipeline import storage
from pipeline.workspace import REPORT, Run

_FILE = "refused.json"


def write_refusals(run: Run, refused: Mapping[str, str]) -> None:
    """Keeps the reasons by method; none of an earlier call remain.

    Args:
        run: that has been evaluated.
        refused: reason by method.
    """
    path = run.file(REPORT, _FILE)
    if refused:
        storage.write_json(path, dict(refused))
    else:
        storage.remove(path)


def read_refusals(run: Run) -> dict[str, str]:
    """The reasons by method; none where every student was made."""
    path = run.file(REPORT, _FILE)
    return dict(storage.read_json(path)) if storage.exists(path) else {}


def refusal_notes(run: Run) -> list[str]:
    """A sentence for each reason, for the report."""
    return [f"Refused at the gate, and not trained: {names}. {why}" for why, names in _by_reason(read_refusals(run))]


def require_none_refused(run: Run, methods: Sequence[str]) -> None:
    """Makes sure that every student that was asked for has been made.

    Raises:
        RefusedError: the gate has refused some of them.
    """
    refused = {method: reason for method, reason in read_refusals(run).items() if method in methods}
    if refused:
        reasons = " ".join(why for why, _ in _by_reason(refused))
        raise RefusedError(
            f"Every student of a run must pass the gate. Received: {', '.join(refused)} refused. {reasons}"
        )


def _by_reason(refused: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each reason with the methods that have it."""
    methods: dict[str, list[str]] = {}
    for method, reason in refused.items():
        methods.setdefault(reason, []).append(method)
    return [(reason, ", ".join(names)) for reason, names in methods.items()]

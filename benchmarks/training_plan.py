"""What the training benchmark measures, and the quotients that it reports."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from common import Measurement, Outcome
from venvs import PEERS as PEER_FOLDERS
from venvs import install, program

PARTS = ("step", "peers", "student", "memory", "precision")
DISTRIBUTIONS = ("zipf", "uniform")
OPTIMIZERS = ("adam", "adagrad")
LIMIT = "limit"
PEERS = {
    "usual": "tf-keras the usual way",
    "parsed": "tf-keras, 40-feature Examples",
    "keras_rs": "Keras 3 with keras-rs",
    "fuxictr": "FuxiCTR",
}
STUDENTS = ("student", "student by default")
SMALL_TABLE = 1000

Case = tuple[int, str]
"""Rows of the table, distribution of ids."""


class Plan:
    """All measurements of a call.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        # Memory alone is not measured by case.
        tables = options.tables if set(options.parts) - {"memory"} else []
        self.cases = [(table, ids) for table in tables for ids in options.ids]
        self.smallest, self.largest = min(options.tables), max(options.tables)

    def drawn(self) -> Iterator[Measurement]:
        """What writes the batches."""
        small = [(SMALL_TABLE, "uniform"), (self.largest, "uniform")] if "memory" in self._options.parts else []
        parsed = int("peers" in self._options.parts and "parsed" in self._options.peers)
        for case in dict.fromkeys([*self.cases, *small]):
            settings = {"distribution": case[1], "parsed": parsed * (case in self.cases)}
            yield Measurement(f"batches, {label(case)}", "draw", self._common(case, 0) | settings)

    def measured(self) -> Iterator[Measurement]:
        """What is measured, those that are compared one behind the other."""
        parts, steps = self._options.parts, self._options.steps
        for case in self.cases:
            common = self._common(case, steps)
            for name in (*OPTIMIZERS, LIMIT):
                yield Measurement(ours(name, case), "teacher", {**common, "optimizer": name})
            if "peers" in parts:
                for name in (*OPTIMIZERS, LIMIT):
                    yield Measurement(equal(name, case), "teacher", {**common, "optimizer": name, "equal": 1})
                yield from self._peers(case)
            if "precision" in parts:
                yield Measurement(half(case), "teacher", {**common, "optimizer": "adam", "precision": "bfloat16"})
            if "student" in parts:
                for defaults, name in enumerate(STUDENTS):
                    yield Measurement(f"{name}, {label(case)}", "student", {**common, "defaults": defaults})
        if "memory" in parts:
            for table in (SMALL_TABLE, self.largest):
                for name in OPTIMIZERS:
                    common = self._common((table, "uniform"), self._options.peer_steps)
                    yield Measurement(memory(name, table), "teacher", {**common, "optimizer": name})

    def _peers(self, case: Case) -> Iterator[Measurement]:
        common = self._common(case, self._options.peer_steps)
        for peer in self._options.peers:
            for name in OPTIMIZERS:
                settings = {**common, "optimizer": name}
                yield Measurement(theirs(peer, name, case), *_started(peer, settings))

    def _common(self, case: Case, steps: int) -> dict[str, Any]:
        table, ids = case
        folder = self._options.work / f"training-{table}-{ids}"
        counts = {"steps": steps, "warm-up": self._options.warm_up, "threads": self._options.threads}
        return {"batches": folder, "table": table, **counts}

    def failed(self) -> dict[str, str]:
        """Why peers cannot be measured, by the names of their measurements."""
        chosen = [peer for peer in ("keras_rs", "fuxictr") if peer in self._options.peers]
        reasons = {peer: install(peer) for peer in chosen} if "peers" in self._options.parts else {}
        return {
            theirs(peer, name, case): reason
            for peer, reason in reasons.items()
            if reason
            for name in OPTIMIZERS
            for case in self.cases
        }


def _started(peer: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    if peer in ("usual", "parsed"):
        return "usual", {**settings, "parsed": int(peer == "parsed")}, ()
    python, script = program(peer)
    return "", settings, (python, str(PEER_FOLDERS / peer / "training.py") if peer == "fuxictr" else script)


def label(case: Case) -> str:
    """A case for people."""
    return f"{case[0]} rows {case[1]}"


def ours(optimizer: str, case: Case) -> str:
    """Name of a measurement of our teacher."""
    return f"teacher, {optimizer}, {label(case)}"


def half(case: Case) -> str:
    """Name of a measurement of our teacher with products in bfloat16."""
    return f"teacher, adam, bfloat16, {label(case)}"


def equal(optimizer: str, case: Case) -> str:
    """Name of a measurement of our teacher on the inputs of the peers."""
    return f"teacher, 26 columns, {optimizer}, {label(case)}"


def theirs(peer: str, optimizer: str, case: Case) -> str:
    """Name of a measurement of a peer."""
    return f"{PEERS[peer]}, {optimizer}, {label(case)}"


def memory(optimizer: str, table: int) -> str:
    """Name of a measurement of memory."""
    return f"memory, {optimizer}, {table} rows"


class Ratios:
    """Quotients of what was measured; None where a part of them is missing.

    Args:
        outcomes: of all measurements.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._figures = {outcome.name: outcome.figures for outcome in outcomes}
        self.found: dict[str, float | None] = {}

    def rates(self, upper: str, lower: str) -> None:
        """Adds examples/s of one over those of the other, if both were to be measured."""
        if upper in self._figures and lower in self._figures:
            above, below = self._figures[upper], self._figures[lower]
            both = above and below
            self.found[f"{upper} vs {lower}"] = above["rows_per_second"] / below["rows_per_second"] if both else None

    def memory(self, optimizer: str, table: int) -> None:
        """Adds the peak beyond that with the small table, over the bytes of the table."""
        large, small = memory(optimizer, table), memory(optimizer, SMALL_TABLE)
        if large in self._figures:
            above, below = self._figures[large], self._figures[small]
            beyond = above and below and above["peak_mb"] - below["peak_mb"]
            self.found[f"{large} vs bytes of the table"] = beyond and beyond / above["table_mb"]


def find_ratios(outcomes: Sequence[Outcome], plan: Plan) -> dict[str, float | None]:
    """Ours over the limit and the peers, the step by table (rate of the smallest over it), student, memory."""
    ratios = Ratios(outcomes)
    for case in plan.cases:
        for name in OPTIMIZERS:
            ratios.rates(ours(name, case), ours(LIMIT, case))
            ratios.rates(equal(name, case), equal(LIMIT, case))
            for peer in PEERS:
                ratios.rates(equal(name, case), theirs(peer, name, case))
                ratios.rates(ours(name, case), theirs(peer, name, case))
            if case[0] > plan.smallest:
                ratios.rates(ours(name, (plan.smallest, case[1])), ours(name, case))
        ratios.rates(half(case), ours("adam", case))
        for name in STUDENTS:
            ratios.rates(f"{name}, {label(case)}", ours("adam", case))
    for name in OPTIMIZERS:
        ratios.memory(name, plan.largest)
    return ratios.found

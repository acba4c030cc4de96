"""What the benchmark scripts share: the generated log, measuring in fresh processes, the table and the JSON.

A script calls itself once for each measurement. Nothing but the standard library is imported here: a child's peak
memory begins with what its parent held.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

TIMEOUT = 3600.0
"""Seconds after which a measurement counts as failed."""

Child = Callable[[argparse.Namespace], dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What the repeats of one measurement gave.

    Args:
        name: of what was measured.
        figures: rows, seconds, cpu_seconds, rows_per_second (medians, of what the child counts), rates (of all
            repeats), process_seconds (median wall time of the whole process), peak_mb (largest), and what the child
            adds (numbers, or numbers by name). None if a repeat failed.
        reason: why it failed.
    """

    name: str
    figures: dict[str, Any] | None
    reason: str = ""


@dataclass(frozen=True)
class Measurement:
    """One thing to measure.

    Args:
        name: for people.
        child: name of the function that the script registers for it.
        options: further arguments of the script.
        program: another program that is measured in place of the script's function: it gets the options, and its last
            line of output are its figures.
    """

    name: str
    child: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    program: tuple[str, ...] = ()

    def arguments(self, script: str) -> list[str]:
        """The command line of the child."""
        options = [f"--{name}={value}" for name, value in self.options.items()]
        return [*(self.program or (sys.executable, script, f"--child={self.child}")), *options]


def base_parser(text: str, rows: int) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", type=int, default=rows, help="rows of the generated log")
    parser.add_argument("--repeats", type=int, default=3, help="times that each measurement is made; the median counts")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="folder that keeps log and run")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help=argparse.SUPPRESS)
    return parser


def generated_log(work: Path, rows: int) -> Path:
    """The log of that many rows; generated unless it is there."""
    log = work / f"log-{rows}.tsv"
    if not log.exists():
        work.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pipeline.cli", "generate", f"--rows={rows}", f"--output={log}"]
        subprocess.run(command, check=True)
    return log


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Wall seconds of some work, and the seconds of all cores together that this process spent on it."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - begun_cpu}


def run_child(children: Mapping[str, Child], options: argparse.Namespace) -> None:
    """Makes the measurement that the parent asked for, and prints its figures as the last line."""
    print(json.dumps(children[options.child](options)))


@contextmanager
def _killed_after(process: subprocess.Popen[str], seconds: float) -> Any:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _measure(command: Sequence[str], errors: TextIO) -> dict[str, Any]:
    """The figures of one process.

    Raises:
        RuntimeError: it failed; the message says why.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    with _killed_after(process, TIMEOUT), process.stdout as stream:
        output = stream.read()
        # `wait4` gives the memory of this child, `getrusage` only the largest of all children so far.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(_reason(process.returncode, errors))
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return {**figures, "process_seconds": time.perf_counter() - begun, "peak_mb": usage.ru_maxrss / 1024}


def _reason(code: int, errors: TextIO) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return f"exit {code}: {lines[-1] if lines else 'no message'}"


def measure(
    script: str, measurements: Sequence[Measurement], repeats: int, failed: Mapping[str, str] | None = None
) -> list[Outcome]:
    """Measures in turn, round by round, each time in a fresh process; what has failed once is not tried again.

    Args:
        script: that registers the children.
        measurements: of different names.
        repeats: times that each is made.
        failed: reasons of those that cannot be measured at all, by name.
    """
    found: dict[str, list[dict[str, Any]]] = {item.name: [] for item in measurements}
    reasons = dict(failed or {})
    for number in range(repeats):
        for item in measurements:
            if item.name in reasons:
                continue
            print(f"{number + 1}/{repeats} {item.name} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryFile("w+") as errors:
                try:
                    found[item.name].append(_measure(item.arguments(script), errors))
                except RuntimeError as error:
                    reasons[item.name] = str(error)
    return [_outcome(item.name, found[item.name], reasons.get(item.name, "")) for item in measurements]


def _outcome(name: str, repeats: Sequence[dict[str, Any]], reason: str) -> Outcome:
    if reason:
        return Outcome(name, None, reason)
    numbers = {key: _median([part[key] for part in repeats]) for key in repeats[0]}
    rates = [part["rows"] / part["seconds"] for part in repeats]
    numbers |= {"peak_mb": max(part["peak_mb"] for part in repeats), "rows_per_second": statistics.median(rates)}
    return Outcome(name, {**numbers, "rates": rates})


def _median(values: Sequence[Any]) -> Any:
    """The median of numbers, or of each of several named numbers."""
    if isinstance(values[0], Mapping):
        return {name: statistics.median(value.get(name, 0.0) for value in values) for name in values[0]}
    return statistics.median(values)


def ratios(ours: Outcome, peers: Sequence[Outcome]) -> dict[str, float | None]:
    """Rows/s of ours over those of each peer; None where one of the two failed."""
    found: dict[str, float | None] = {}
    for peer in peers:
        both = ours.figures and peer.figures
        rates = [side.figures["rows_per_second"] for side in (ours, peer) if side.figures]
        found[f"{ours.name} vs {peer.name}"] = rates[0] / rates[1] if both else None
    return found


def print_result(outcomes: Sequence[Outcome], found: Mapping[str, float | None]) -> None:
    """Prints the table of the measurements, then the ratios."""
    width = max(len(outcome.name) for outcome in outcomes)
    print(f"{'':{width}}  {'rows':>9}  {'seconds':>8}  {'rows/s':>9}  {'lowest':>9}  {'highest':>9}  {'peak MB':>8}")
    for outcome in outcomes:
        if outcome.figures is None:
            print(f"{outcome.name:{width}}  failed: {outcome.reason}")
            continue
        f = outcome.figures
        rates = "  ".join(f"{rate:>9,.0f}" for rate in (f["rows_per_second"], min(f["rates"]), max(f["rates"])))
        print(f"{outcome.name:{width}}  {f['rows']:>9,.0f}  {f['seconds']:>8.2f}  {rates}  {f['peak_mb']:>8,.0f}")
    print()
    for name, ratio in found.items():
        print(f"{name}: {'none' if ratio is None else f'{ratio:.2f}'}")


def write_json(path: Path | None, outcomes: Sequence[Outcome], found: Mapping[str, float | None]) -> None:
    """Writes ratios, figures, and the reasons of what failed."""
    if path is None:
        return
    value = {
        "ratios": dict(found),
        "figures": {outcome.name: outcome.figures for outcome in outcomes},
        "reasons": {outcome.name: outcome.reason for outcome in outcomes if outcome.reason},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

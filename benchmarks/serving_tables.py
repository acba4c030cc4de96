"""The tables, ratios and aims of the serving benchmark, from what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common import Outcome
from serving_clock import SIZES

STUDENT, TEACHER, PATH = "student", "teacher 400-400-400", "predict of a chunk"
LOG, JOB = "predict of a log", "predict as a command"
PARTS, CALIBRATION = "bytes", "calibration"

Figures = dict[str, Any]


@dataclass(frozen=True)
class Aim:
    """Something that was declared before it was measured.

    Args:
        what: for people.
        value: measured; None if that failed.
        limit: declared.
        at_least: whether the value must not be below the limit; else not above.
    """

    what: str
    value: float | None
    limit: float
    at_least: bool

    def line(self) -> str:
        """For people."""
        if self.value is None:
            return f"{self.what}: not measured"
        kept = self.value >= self.limit if self.at_least else self.value <= self.limit
        bound = "at least" if self.at_least else "at most"
        return f"{self.what}: {self.value:,.4g}, {bound} {self.limit:,.6g}: {'kept' if kept else 'MISSED'}"


class Results:
    """What was measured, by name.

    Args:
        outcomes: of all measurements.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes = {outcome.name: outcome for outcome in outcomes}

    def figures(self, name: str) -> Figures | None:
        """The figures of a measurement; None if it failed or was not made."""
        return self._outcomes[name].figures if name in self._outcomes else None

    def value(self, name: str, key: str, way: str = "") -> float | None:
        """One figure; None where it is missing."""
        found = self.figures(name)
        if found is None or key not in found:
            return None
        return found[key].get(way) if way else found[key]

    def asked(self) -> list[str]:
        """The contestants, those that failed among them."""
        others = (LOG, JOB, PARTS, CALIBRATION)
        return [name for name in self._outcomes if name not in others]

    def peers(self) -> list[str]:
        """The contestants that are not ours."""
        return [name for name in self.asked() if name not in (STUDENT, TEACHER, PATH)]

    def reason(self, name: str) -> str:
        """Why a measurement failed."""
        return self._outcomes[name].reason


def ratios(results: Results) -> dict[str, float | None]:
    """The student over each peer: rows/s, p50 (lower is better), bytes, logloss; the rows/s over the teacher's."""
    found: dict[str, float | None] = {}
    for peer in results.peers():
        for way in ("lines", "columns"):
            for key, text in ((f"rows_{SIZES[-1]}", f"rows/s, {SIZES[-1]} rows"), ("p50_ms", "p50 of one row")):
                pair = [results.value(name, key, way) for name in (STUDENT, peer)]
                found[f"{text}, {way}: student vs {peer}"] = _quotient(*pair)
        for key in ("bytes", "logloss"):
            found[f"{key}: student vs {peer}"] = _quotient(*(results.value(name, key) for name in (STUDENT, peer)))
    for size in SIZES:
        pair = [results.value(name, f"rows_{size}", "ids") for name in (STUDENT, TEACHER)]
        found[f"rows/s, {size} rows, ids: student vs {TEACHER}"] = _quotient(*pair)
    return found


def _quotient(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else ours / theirs


def aims(results: Results) -> list[Aim]:
    """What the student was to reach."""
    largest, found = SIZES[-1], results.figures(PARTS)
    teacher = _quotient(*(results.value(name, f"rows_{largest}", "ids") for name in (STUDENT, TEACHER)))
    listed = [
        *(Aim(f"p50 of one row from {way}, ms", results.value(STUDENT, "p50_ms", way), 0.5, False)
          for way in ("lines", "columns")),
        Aim(f"rows/s in batches of {largest} over those of {TEACHER}", teacher, 4.0, True),
        Aim(f"rows/s of raw lines through the graph, batches of {largest}",
            results.value(STUDENT, f"rows_{largest}", "lines"), 400_000, True),
        *(Aim(f"rows/s of {name}", results.value(name, "rows_per_second"), 400_000, True) for name in (LOG, JOB)),
        Aim("bytes of a kept value beyond its key", results.value(PARTS, "beyond_key"), 8, False),
        Aim("bytes of the graph", found and found["parts"]["graph"], 300_000, False),
    ]  # fmt: skip
    return [*listed, *_smaller(results)]


def _smaller(results: Results) -> Iterator[Aim]:
    """Bytes below those of each peer whose logloss is not worse."""
    ours = results.value(STUDENT, "logloss")
    for peer in results.peers():
        theirs, size = results.value(peer, "logloss"), results.value(peer, "bytes")
        if ours is not None and theirs is not None and size is not None and theirs <= ours:
            yield Aim(f"bytes, where {peer} has a logloss not above ours", results.value(STUDENT, "bytes"), size, False)


def print_tables(results: Results) -> None:
    """Prints what was measured, the ratios and the aims."""
    _print_speeds(results)
    for name in (LOG, JOB):
        rate = results.value(name, "rows_per_second")
        print(f"{name}: " + (f"{rate:,.0f} rows/s" if rate else f"failed: {results.reason(name)}"))
    _print_parts(results)
    _print_calibration(results)
    print()
    for text, ratio in ratios(results).items():
        print(f"{text}: {'none' if ratio is None else f'{ratio:.3f}'}")
    print()
    for aim in aims(results):
        print(aim.line())


def _print_speeds(results: Results) -> None:
    names = "".join(f"{f'rows/s of {size}':>15}" for size in SIZES)
    print(f"{'':<22}{'from':<20}{'p50 ms':>9}{'p99 ms':>9}{names}{'logloss':>10}{'bytes':>13}")
    for name in results.asked():
        found = results.figures(name)
        if found is None:
            print(f"{name:<22}failed: {results.reason(name)}")
            continue
        for number, way in enumerate(found["p50_ms"]):
            rates = "".join(f"{found[f'rows_{size}'][way]:>15,.0f}" for size in SIZES)
            times = "".join(f"{found[key][way]:>9.3f}" for key in ("p50_ms", "p99_ms"))
            judged = "" if number else f"{found['logloss']:>10.5f}{found['bytes']:>13,.0f}"
            print(f"{'' if number else name:<22}{way:<20}{times}{rates}{judged}")
    print()


def _figures(results: Results, name: str, title: str) -> Any:
    """The figures of a contestant; None, with its reason printed, where there are none."""
    found = results.figures(name)
    if found is None:
        print(f"\n{title}: failed: {results.reason(name)}")
    return found


def _print_parts(results: Results) -> None:
    found = _figures(results, PARTS, "bytes by part")
    if found is None:
        return
    print(f"\n{'bytes of the student':<22}{'bytes':>13}{'a kept value':>15}")
    for part, size in found["parts"].items():
        print(f"{part:<22}{size:>13,.0f}{size / max(found['rows'], 1):>15.2f}")
    print(f"{found['rows']:,.0f} kept values, {found['texts']:,.0f} bytes of text, {found['beyond_key']:.2f} beyond it")


def _print_calibration(results: Results) -> None:
    found = _figures(results, CALIBRATION, "calibration")
    if found is None:
        return
    print(f"\n{'calibration':<22}{'logloss':>10}{'PCOC':>8}{'ECE':>10}")
    for name, metrics in found.items():
        if isinstance(metrics, dict):
            print(f"{name:<22}{metrics['logloss']:>10.5f}{metrics['pcoc']:>8.4f}{metrics['ece']:>10.5f}")

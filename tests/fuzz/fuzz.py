"""Coverage-guided fuzzing of the parsers and decoders.

``fuzz.py [--seconds S] [TARGET ...]`` fuzzes each target for its share of the seconds and exits with 1 on a finding.
``fuzz.py TARGET --replay FILE`` runs one input. A target is a module with ``check(data: bytes)``, which raises on a
finding; what it does with the bytes, it does without atheris, so ``test_fuzz.py`` replays the corpus as well.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORPUS, WORK = HERE / "corpus", HERE / ".work"
TARGETS = ("text_target", "json_target", "record_target")
_OPTIONS = (
    "-max_len=500",
    "-len_control=0",
    # An input takes milliseconds; a busy machine must not look like a parser that hangs.
    "-timeout=300",
    "-report_slow_units=300",
    # atheris never frees the result of a NumPy comparison, so a process must end at times.
    "-runs=20000",
    "-print_final_stats=1",
    "-verbosity=0",
)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers and decoders.")
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this input only")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all without")
    arguments = parser.parse_args()
    targets = arguments.targets or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"A target must be one of {', '.join(TARGETS)}. Received: {', '.join(sorted(unknown))}.")
    if arguments.replay:
        sys.path[:0] = [str(ROOT)]
        importlib.import_module(targets[0]).check(arguments.replay.read_bytes())
        return 0
    findings = [target for target in targets if not run(target, max(arguments.seconds // len(targets), 1))]
    return 1 if findings else 0


def run(target: str, seconds: int) -> bool:
    """Fuzzes a target; False on a finding, which is then printed."""
    work, findings = WORK / target, WORK / "findings" / target
    for folder in (work, findings, CORPUS / target):
        folder.mkdir(parents=True, exist_ok=True)
    print(f"== {target}, {seconds} seconds", flush=True)
    end, code = time.monotonic() + seconds, 0
    while not code and (left := round(end - time.monotonic())) > 0:
        options = [f"-max_total_time={left}", f"-artifact_prefix={findings}/", *_OPTIONS]
        command: list[str | Path] = [sys.executable, HERE / "instrumented.py", target, *options, work, CORPUS / target]
        code = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode
    for path in sorted(findings.iterdir()) if code else ():
        print(f"A finding of {target}: {path.read_bytes()!r}")
        print(f"Run it again: {sys.executable} {HERE / 'fuzz.py'} {target} --replay {path}", flush=True)
    return code == 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Hostile requests to an exported student: each is refused with a message or answered with click probabilities.

python tests/fuzz/hostile_requests.py --model DIR [--requests 100000] [--seed 0] [--only NUMBER]

An answer is a finding unless every probability is in [0, 1], apart from the NaN of a log line with a reason; so are an
exception that is none of TensorFlow or of a wrong argument, one whose message cannot be read, a crash, and a request
that takes more than --limit seconds. Requests are made in a process of their own; a finding is printed, and saved in
tests/fuzz/.work/requests/. After every thousandth request good ones must be answered as in the beginning, bit by bit.
Exits with 1 on a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(HERE)) if path not in sys.path]

from hostile_drawing import Drawing, Request  # noqa: E402

from models.backend import tf  # noqa: E402
from models.serving_features import FEATURES_FILE, VOCABULARY_FILE, read_features  # noqa: E402

WORK = HERE / ".work" / "requests"
GOOD_EVERY = 1000
MOST_SHOWN = 3
MOST_PROCESSES = 20
_REFUSALS = (tf.errors.OpError, TypeError, ValueError, KeyError)


class Target:
    """An exported student under test.

    Args:
        path: folder of the SavedModel.
    """

    def __init__(self, path: Path) -> None:
        self.drawing = drawing_for(path)
        self._model = tf.saved_model.load(str(path))
        self._first = {name: self._call(self.drawing.good(name)) for name in self.drawing.signatures}

    def check(self, request: Request) -> str:
        """What came of a request: ``answered`` by whom, or the type and the message of the refusal.

        Raises:
            AssertionError: neither is as it should be.
        """
        try:
            outputs = self._call(request)
        except _REFUSALS as error:
            # A message with other bytes than UTF-8 is lost. TensorFlow's own parser of Examples quotes what is broken.
            lost = isinstance(error, UnicodeDecodeError) and request.signature != "examples"
            assert not lost, f"a message that cannot be read: {error}"
            message = str(error).strip()
            assert message, f"{type(error).__name__} without a message"
            return f"{type(error).__name__}: {message}"
        check_outputs(outputs, request)
        return f"answered {request.signature}"

    def check_good(self) -> None:
        """Good requests are answered as in the beginning, bit by bit."""
        for name, expected in self._first.items():
            found = self._call(self.drawing.good(name))
            for output, values in expected.items():
                np.testing.assert_array_equal(found[output], values, f"{output} of a good request to {name}")

    def _call(self, request: Request) -> dict[str, np.ndarray]:
        call = self._model.signatures[request.signature]
        outputs = call(**{name: tf.constant(values) for name, values in request.inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}


def drawing_for(path: Path) -> Drawing:
    """What draws requests for the student in a folder."""
    return Drawing(read_features((path / FEATURES_FILE).read_bytes(), (path / VOCABULARY_FILE).read_bytes()))


def check_outputs(outputs: dict[str, np.ndarray], request: Request) -> None:
    """Raises an AssertionError unless the outputs are click probabilities, or NaN for lines with a reason."""
    p, logit = outputs["p_click"], outputs["logit"]
    sizes = {values.shape[0] for values in request.inputs.values() if values.ndim}
    if len(sizes) == 1:
        assert p.shape == logit.shape == (*sizes,), f"shapes {p.shape} and {logit.shape} of {sizes} rows"
    good = np.ones(p.shape, bool)
    if "reason" in outputs:
        good = outputs["reason"] == b""
        assert np.isnan(p[~good]).all() and np.isnan(logit[~good]).all(), "a bad line has a probability"
    assert not np.isnan(logit[good]).any(), f"logit NaN in rows {np.flatnonzero(np.isnan(logit) & good)[:5]}"
    for name, values in outputs.items():
        if name not in ("logit", "reason"):
            wrong = ~((values[good] >= 0) & (values[good] <= 1))
            assert not wrong.any(), f"{name} {values[good][wrong][:5]}"


def kind_of(outcome: str) -> str:
    """A refusal without what differs from request to request: places, numbers, texts, and values at its end."""
    text = " ".join(outcome.split())
    text = re.sub(r"Graph execution error:|Detected at node \S+ defined at .*?>|\{\{.*?\}\}", "", text)
    text = re.sub(r"(assertion failed|value|Received): .*", r"\1", text)
    return re.sub(r"0x[0-9a-f]+|\d+|b?'[^']*'|\[[^\]]*\]", "_", text)[:100]


def run_here(target: Target, seed: int, numbers: Sequence[int]) -> Iterator[tuple[int, str, str]]:
    """Makes requests in this process.

    Yields:
        Of each request its number twice: with two empty texts before it is made, then with what came of it and a
        finding, if there is one.
    """
    for number in numbers:
        yield number, "", ""
        request = target.drawing.request(seed, number)
        try:
            outcome, finding = target.check(request), ""
            if number % GOOD_EVERY == 0:
                target.check_good()
        except Exception as error:
            outcome, finding = "finding", f"{request.signature}: {type(error).__name__}: {error}"
        yield number, outcome, finding


def supervise(command: Sequence[str], limit: float) -> Iterator[list[Any]]:
    """The records that a process prints, one a line; after a crash or a hang a last one says so.

    Args:
        command: prints JSON lists as :func:`run_here` yields them.
        limit: seconds without a line after which the process hangs.
    """
    last = -1
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        assert child.stdout is not None
        try:
            for line in _lines(child.stdout.fileno(), limit):
                record = json.loads(line)
                last = record[0]
                yield record
            # It has closed its output: there is little left to do.
            code = child.wait(limit)
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()[-3:]
            if code:
                yield [last, "finding", f"the process ended with {code}: {' | '.join(said)}"]
        except (TimeoutError, subprocess.TimeoutExpired):
            yield [last, "finding", f"no answer for {limit:g} seconds"]
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def _lines(descriptor: int, limit: float) -> Iterator[bytes]:
    """Lines as they come; a TimeoutError when none has come for some seconds."""
    rest = b""
    while select.select([descriptor], [], [], limit)[0]:
        data = os.read(descriptor, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    raise TimeoutError


def run_apart(options: argparse.Namespace) -> tuple[Counter[str], Counter[str]]:
    """Makes the requests in processes of their own, a further one after each crash; returns what came of them.

    Returns:
        Requests by kind of outcome, and findings by kind.
    """
    kinds: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    first = processes = 0
    while first < options.requests and processes < MOST_PROCESSES:
        command = [sys.executable, __file__, "--child", f"--model={options.model}", f"--seed={options.seed}"]
        command += [f"--first={first}", f"--requests={options.requests}"]
        processes += 1
        for number, outcome, finding in supervise(command, options.limit):
            if number < 0:
                raise SystemExit(f"The model must be loadable. Received: {options.model} ({finding}).")
            if finding:
                findings[kind_of(finding)] += 1
                if findings[kind_of(finding)] <= MOST_SHOWN:
                    print(*describe(options.model, options.seed, number, finding), sep="\n", flush=True)
            if outcome:
                kinds[outcome] += 1
                first = number + 1
    return kinds, findings


def describe(model: Path, seed: int, number: int, finding: str) -> list[str]:
    """Saves the request of a finding; returns lines about it for people."""
    request = drawing_for(model).request(seed, number)
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"{seed}-{number}.pickle"
    path.write_bytes(pickle.dumps((request.signature, request.inputs)))
    shown = {name: repr(values)[:200] for name, values in list(request.inputs.items())[:5]}
    return [f"FINDING {number}: {finding}", f"  {request.signature} {shown}", f"  saved in {path}"]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the SavedModel")
    parser.add_argument("--requests", type=int, default=100_000, help="number of requests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the requests (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one request (default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="make this request alone, in this process")
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Runs the command line."""
    options = parse_arguments()
    if options.only is not None:
        target = Target(options.model)
        print(target.check(target.drawing.request(options.seed, options.only)))
        return 0
    if options.child:
        target = Target(options.model)
        for number, outcome, finding in run_here(target, options.seed, range(options.first, options.requests)):
            print(json.dumps([number, kind_of(outcome) if outcome else "", finding]), flush=True)
        return 0
    kinds, findings = run_apart(options)
    for kind, count in kinds.most_common():
        print(f"{count:>8} {kind}")
    for kind, count in findings.most_common():
        print(f"{count:>8} FINDING {kind}")
    print(f"{sum(kinds.values())} requests, {findings.total()} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())

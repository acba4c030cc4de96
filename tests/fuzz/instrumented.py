"""One target under the fuzzer: ``instrumented.py TARGET [libFuzzer option or corpus folder ...]``."""

from __future__ import annotations

import importlib
import sys

import atheris


def main(target: str, *options: str) -> None:
    """Hands the process over to the fuzzer, which ends it. Only ``features`` counts as something to reach."""
    with atheris.instrument_imports(include=["features"]):
        module = importlib.import_module(target)
    atheris.Setup([sys.argv[0], *options], module.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What native code writes to standard error while TensorFlow is imported, apart from what nobody needs to know."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# TensorFlow's log level does not reach these: they come before its log is set up.
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|I0000 .*"
    rb"|[WE]0000 .*\b(cuda\w*|cuDNN|cuFFT|cuBLAS|TensorRT|computation_placer)\b.*",
    re.IGNORECASE,
)


@contextlib.contextmanager
def without_device_notes() -> Iterator[None]:
    """Holds back what is written to file descriptor 2 in the body, then writes it there without notes on devices.

    An error in the body shows all of it.
    """
    try:
        terminal = os.dup(2)
    except OSError:
        # Standard error is closed: there is nothing to keep clean.
        yield
        return
    with tempfile.TemporaryFile() as held, os.fdopen(terminal, "wb", buffering=0) as stream:
        _flush()
        os.dup2(held.fileno(), 2)
        keep_all = True
        try:
            yield
            keep_all = False
        finally:
            _flush()
            os.dup2(stream.fileno(), 2)
            held.seek(0)
            stream.writelines(line for line in held if keep_all or not _NOISE.fullmatch(line.rstrip(b"\r\n")))


def _flush() -> None:
    """Empties Python's own buffer, so that its lines keep their place."""
    if sys.stderr is not None:
        sys.stderr.flush()

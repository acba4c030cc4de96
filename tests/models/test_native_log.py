"""Notes on devices stay away from the terminal; everything else that is written to it arrives."""

from __future__ import annotations

import subprocess
import sys

from support import ROOT

NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795153654.867804   14183 port.cc:153] oneDNN custom operations are on.",
    "I0000 00:00:1795153654.868082   14183 cudart_stub.cc:31] Could not find cuda drivers on your machine.",
    "E0000 00:00:1732.5   99 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to register twice",
    "E0000 00:00:1732.5   99 cuda_blas.cc:1407] Unable to register cuBLAS factory",
    "W0000 00:00:1732.5   99 computation_placer.cc:177] computation placer already registered.",
]
REAL = [
    "E0000 00:00:1732.5   99 server.cc:12] The disk is full.",
    "W0000 00:00:1732.5   99 memory.cc:12] Little memory is left.",
    "Traceback of something",
    "",
    "warning: I0000 within a line",
]


def stderr_of(body: str, code: int = 0) -> str:
    """What a fresh process shows that writes lines in the guarded body, and one before and one after."""
    script = (
        "import os, sys\n"
        "from models.native_log import without_device_notes\n"
        "print('before', file=sys.stderr)\n"
        "with without_device_notes():\n"
        f"{body}"
        "print('after', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def writing(lines: list[str]) -> str:
    """Writes lines to the file descriptor, as native code does, and one through Python."""
    text = "".join(f"{line}\n" for line in lines)
    return f"    os.write(2, {text.encode()!r})\n    print('python', file=sys.stderr)\n"


def test_only_notes_are_held_back() -> None:
    assert stderr_of(writing([*NOISE, *REAL])).splitlines() == ["before", *REAL, "python", "after"]


def test_an_error_shows_all() -> None:
    shown = stderr_of(writing([*NOISE, *REAL]) + "    raise SystemExit(3)\n", code=3)
    assert shown.splitlines() == ["before", *NOISE, *REAL, "python"]


def test_a_last_line_without_an_end() -> None:
    assert stderr_of("    os.write(2, b'half')\n") == "before\nhalfafter\n"


def test_closed_standard_error() -> None:
    script = (
        "import os; os.close(2)\n"
        "from models.native_log import without_device_notes\n"
        "with without_device_notes():\n"
        "    print('out')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "out\n")


def test_importing_tensorflow_is_quiet() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import models.backend"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == done.stderr == ""

"""The peers' virtual environments: one a peer, from its lock, made when it is first wanted.

A lock is made in the folder of the peer with ``uv pip compile --python-version 3.11 --no-header --no-emit-index-url
--no-emit-find-links requirements.in -o requirements.lock``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


def program(peer: str) -> tuple[str, str]:
    """Interpreter and script of a peer."""
    return str(PEERS / peer / ".venv" / "bin" / "python"), str(PEERS / peer / "peer.py")


def install(peer: str, lock_name: str = "requirements.lock") -> str:
    """Makes the environment of a peer, or nothing where it is that of the lock.

    Returns:
        why it cannot be made; empty if it is there.
    """
    folder = PEERS / peer
    lock, stamp = folder / lock_name, folder / ".venv" / ".installed"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return ""
    python, _ = program(peer)
    uv = str(Path(sys.executable).with_name("uv"))
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder / ".venv")]
    fill = [uv, "pip", "sync", "--quiet", "--python", python, str(lock)]
    for command in (make, fill):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            return f"not installed: {lines[-1] if lines else f'exit {done.returncode}'}"
    stamp.write_bytes(lock.read_bytes())
    return ""

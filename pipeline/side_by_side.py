"""Pieces of work in processes of their own, several at a time: what one does not share it cannot disturb.

TensorFlow cannot be forked, so every process starts afresh and imports what it needs.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, cast

from features.errors import CtrDistillError, TrainingError

Report = Callable[[float, str], None]
"""What work calls with the units that it has done, and a note."""


def available_memory() -> int | None:
    """Bytes that processes can still take without swapping; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = dict(line.split(":") for line in file)
        return int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return None


def processes_that_fit(memory: int, available: int | None, cores: int) -> int:
    """How many processes of so many bytes can run at once, at least one; one where the memory is not known."""
    return max(min(cores, (available or 0) // memory), 1)


def run_side_by_side(
    work: Callable[..., None], calls: Sequence[tuple[Any, ...]], processes: int, report: Report
) -> None:
    """Calls a function with each of some arguments, every call in a fresh process.

    Args:
        work: at the top of a module; called with the arguments and a :data:`Report`.
        calls: arguments that can be pickled.
        processes: calls at a time.
        report: called with the sum of what all calls have reported, and the last note.

    Raises:
        CtrDistillError: that of the first call that failed; the others are ended.
        TrainingError: a process was killed.
        RuntimeError: any other failure, with the traceback of its process.
    """
    waiting, running = list(enumerate(calls)), dict[Connection, tuple[int, BaseProcess]]()
    done = [0.0] * len(calls)
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                number, arguments = waiting.pop(0)
                reader, process = _start(work, arguments)
                running[reader] = number, process
            for ready in connection.wait(list(running)):
                reader = cast(Connection, ready)
                number, process = running[reader]
                try:
                    message = reader.recv()
                except EOFError:
                    _require_success(process)
                    del running[reader]
                    reader.close()
                    continue
                if isinstance(message, Exception):
                    raise message
                done[number], note = message
                report(sum(done), note)
    finally:
        for reader, (_, process) in running.items():
            process.kill()
            process.join()
            reader.close()


def _start(work: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    level = logging.getLogger().getEffectiveLevel()
    process = context.Process(target=_child, args=(writer, level, pickle.dumps((work, arguments))))
    process.start()
    # With the child's own the last one open, the end of the child is the end of the stream.
    writer.close()
    return reader, process


def _require_success(process: BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise TrainingError(
            f"A process must end by itself. Received: exit code {process.exitcode} (one of those side by side); if "
            "memory ran out, run fewer at a time with --parallel."
        )


def _child(writer: Connection, level: int, call: bytes) -> None:
    # Control-C reaches all processes of a terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Before anything is imported: what is said then should be said as it is in the parent.
    logging.basicConfig(level=level)
    try:
        work, arguments = pickle.loads(call)
        work(*arguments, lambda done, note: writer.send((done, note)))
    except CtrDistillError as error:
        writer.send(error)
    except Exception:
        writer.send(RuntimeError(traceback.format_exc()))


def _end_with_parent() -> None:
    """Ends this process when its parent is killed: nobody holds the lock of the run any longer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)

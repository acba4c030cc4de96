"""How the Beam jobs are run: the local runner by default, any other by Beam's own options."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TextIO, cast

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions, StandardOptions

from features.errors import ArtifactError, ConfigError, CtrDistillError, DataError

LOCAL_RUNNER = "FnApiRunner"
_PHASES = "phases"


def make_options(arguments: Sequence[str] = (), workers: int | None = None) -> PipelineOptions:
    """Beam's options, with our defaults where the user says nothing.

    The local runner is named, because Beam's own default would first look for another one on the network. Its workers
    are threads: Arrow and NumPy release the interpreter lock.

    Args:
        arguments: Beam options as on a command line.
        workers: threads of the local runner; default: one a core.

    Raises:
        ConfigError: an option that Beam does not know, or a wrong value.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers must be positive. Received: {workers}.")
    _check_known(arguments)
    defaults = [f"--runner={LOCAL_RUNNER}"]
    if PipelineOptions(list(arguments)).view_as(StandardOptions).runner in (None, LOCAL_RUNNER):
        threads = workers or default_workers()
        defaults += ["--direct_running_mode=multi_threading", f"--direct_num_workers={threads}"]
    # Of an option that is given twice, the later one counts.
    options = PipelineOptions([*defaults, *arguments])
    # DoFns live in installed modules; pickling the main session only makes jobs fragile.
    options.view_as(SetupOptions).save_main_session = False
    return options


def default_workers() -> int:
    """Threads of the local runner: one a core."""
    return os.cpu_count() or 1


class _OptionsParser(argparse.ArgumentParser):
    """Raises what argparse would print, with Beam's 200 lines of usage, before it exits."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"Beam's options must be as in Beam's documentation. Received: {message} (command line).")


def _check_known(arguments: Sequence[str]) -> None:
    """Beam ignores options that it does not know; a misspelt one should not be lost."""
    parser = _OptionsParser(add_help=False, allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        raise ConfigError(f"An argument must be ours or Beam's. Received: {unknown[0]} (command line).")


def run_pipeline(pipeline: beam.Pipeline) -> Any:
    """Runs a job to its end; returns its result, with its counters.

    Raises:
        CtrDistillError: what a worker raised; runners wrap it into the text of another error.
    """
    try:
        with _without_tracebacks():
            result = pipeline.run()
            result.wait_until_finish()
            return result
    except CtrDistillError as error:
        raise type(error)(_message(str(error))) from error
    except Exception as error:
        found = _RAISED.findall(str(error))
        if not found:
            raise
        # Of a chain of errors, the last one says most.
        name, message = found[-1]
        raise _ERRORS[name](_message(message)) from error


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Adds the milliseconds of the body to a counter of the job."""
    begun = time.thread_time()
    yield
    Metrics.counter(_PHASES, name).inc(round(1000 * (time.thread_time() - begun)))


def seconds_by_phase(result: Any) -> str:
    """The seconds of all workers in each phase of a job, for people."""
    counters = result.metrics().query(MetricsFilter().with_namespace(_PHASES))["counters"]
    return ", ".join(f"{counter.key.metric.name} {counter.committed / 1000:.1f} s" for counter in counters)


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keeps the local runner from logging and printing the traceback of an error that is reported in one line."""

    def unexpected(record: logging.LogRecord) -> bool:
        raised = record.exc_info and isinstance(record.exc_info[1], CtrDistillError)
        return not raised and not _RAISED.search(record.getMessage())

    loggers = [logging.getLogger(f"apache_beam.runners.{name}") for name in ("common", "worker.sdk_worker")]
    for logger in loggers:
        logger.addFilter(unexpected)
    try:
        with contextlib.redirect_stderr(cast(TextIO, _Stderr(sys.stderr))):
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(unexpected)


class _Stderr:
    """The stream, without what Beam's workers print besides logging it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text that is no traceback of ours, nor the newline that `print` writes after one."""
        traceback = _RAISED.search(text) is not None
        drop = traceback or (self._dropped and text == "\n")
        self._dropped = traceback
        return len(text) if drop else self._stream.write(text)


_ERRORS = {kind.__name__: kind for kind in (ArtifactError, ConfigError, DataError)}
_RAISED = re.compile(rf"features\.errors\.({'|'.join(_ERRORS)}): (.*)")


def _message(text: str) -> str:
    """The message of an error without Beam's note on the step that raised it."""
    return text.split(" [while running")[0].splitlines()[0]

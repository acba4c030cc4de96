"""How the Beam jobs are run: the local runner by default, any other by Beam's own options."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, StandardOptions

from features.errors import ArtifactError, ConfigError, CtrDistillError, DataError

LOCAL_RUNNER = "FnApiRunner"


def make_options(arguments: Sequence[str] = (), workers: int | None = None) -> PipelineOptions:
    """Beam's options, with our defaults where the user says nothing.

    The local runner is named, because Beam's own default would first look for another one on the network. Its workers
    are threads: Arrow and NumPy release the interpreter lock.

    Args:
        arguments: Beam options as on a command line.
        workers: threads of the local runner; default: one a core.
    """
    _check_known(arguments)
    options = PipelineOptions(list(arguments))
    standard = options.view_as(StandardOptions)
    if standard.runner is None:
        standard.runner = LOCAL_RUNNER
    if standard.runner == LOCAL_RUNNER:
        direct = options.view_as(DirectOptions)
        direct.direct_running_mode = "multi_threading"
        direct.direct_num_workers = workers or os.cpu_count() or 1
    # DoFns live in installed modules; pickling the main session only makes jobs fragile.
    options.view_as(SetupOptions).save_main_session = False
    return options


def _check_known(arguments: Sequence[str]) -> None:
    """Beam ignores options that it does not know; a misspelt one should not be lost."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        raise ConfigError(f"An argument must be ours or Beam's. Received: {unknown[0]} (command line).")


def run_pipeline(pipeline: beam.Pipeline) -> None:
    """Runs a job to its end.

    Raises:
        CtrDistillError: what a worker raised; the local runner wraps it into the text of another error.
    """
    try:
        pipeline.run().wait_until_finish()
    except CtrDistillError as error:
        raise type(error)(_message(str(error))) from error
    except RuntimeError as error:
        found = _RAISED.search(str(error))
        if found is None:
            raise
        raise _ERRORS[found[1]](_message(found[2])) from error


_ERRORS = {kind.__name__: kind for kind in (ArtifactError, ConfigError, DataError)}
_RAISED = re.compile(rf"features\.errors\.({'|'.join(_ERRORS)}): (.*)")


def _message(text: str) -> str:
    """The message of an error without Beam's note on the step that raised it."""
    return text.split(" [while running")[0].splitlines()[0]

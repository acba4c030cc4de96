"""How the Beam jobs are run: the local runner by default, any other by Beam's own options."""

from __future__ import annotations

import os
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, StandardOptions

LOCAL_RUNNER = "FnApiRunner"


def make_options(arguments: Sequence[str] = (), workers: int | None = None) -> PipelineOptions:
    """Beam's options, with our defaults where the user says nothing.

    The local runner is named, because Beam's own default would first look for another one on the network. Its workers
    are threads: Arrow and NumPy release the interpreter lock.

    Args:
        arguments: Beam options as on a command line.
        workers: threads of the local runner; default: one a core.
    """
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


def run_pipeline(pipeline: beam.Pipeline) -> None:
    """Runs a job to its end; an error of a worker is raised as it was there."""
    result = pipeline.run()
    result.wait_until_finish()

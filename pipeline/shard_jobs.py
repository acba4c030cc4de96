"""Beam jobs whose elements are the shards of a run, each of which leaves a file when it is finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import storage
from pipeline.beam import run_pipeline
from pipeline.progress import Progress, amount, watched


def over_shards(
    title: str, shards: Sequence[dict[str, Any]], work: beam.DoFn, options: PipelineOptions, done: str, suffix: str
) -> None:
    """Runs a job over shards.

    Args:
        title: for the progress.
        shards: entries of a manifest.
        work: gets one of them at a time.
        options: of Beam.
        done: folder in which each leaves a file.
        suffix: of these files.
    """
    rows = sum(shard["rows"] for shard in shards)
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | "Shards" >> beam.Create(shards) | "Spread" >> beam.Reshuffle() | "Work" >> beam.ParDo(work)
    progress = Progress(title, rows, "rows")
    with watched(progress, lambda: rows * storage.count_files(done, suffix) / len(shards)):
        run_pipeline(pipeline)
    progress.close(f"{amount(rows)} rows")


def work_file(folder: str, shard: dict[str, Any], suffix: str) -> str:
    """The file of a shard in a folder of them."""
    return storage.join(folder, shard["path"].replace("/", "-") + suffix)

"""``run``: every stage in order, skipping what is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import yaml
from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import RefusedError
from features.schema import Schema
from pipeline import storage
from pipeline.config import Config
from pipeline.derive import derive
from pipeline.keys import is_complete, needed_sources
from pipeline.packages import package_versions
from pipeline.precompute import precompute
from pipeline.preprocess import preprocess
from pipeline.read_settings import warn_of_unread
from pipeline.refusals import write_refusals
from pipeline.report import report
from pipeline.settings import require
from pipeline.workspace import Run


def run_all(
    run: Run,
    inputs: Sequence[str],
    schema: Schema,
    config: Config,
    methods: Sequence[str],
    options: PipelineOptions,
    force: bool = False,
    before_training: Callable[[], None] = lambda: None,
    parallel: int | None = 1,
    deterministic: bool = False,
) -> bool:
    """Runs preprocess, train-teacher, precompute, derive, distill, evaluate and report.

    A student that the gate refuses stops nothing: the others are made, evaluated and reported, with the reason beside
    them (see :mod:`pipeline.refusals`).

    Args:
        run: the run directory; the caller holds its lock.
        inputs: paths and globs of the log, in time order.
        schema: of the log.
        config: settings of all stages.
        methods: students to train, in this order.
        options: of Beam.
        force: see :func:`pipeline.preprocess.preprocess`.
        before_training: called once it is known that something is to be trained.
        parallel: see :func:`pipeline.train_teacher.train_teacher`.
        deterministic: the same; ``before_training`` makes this process so.

    Returns:
        whether there was anything to do.

    Raises:
        ConfigError: a student needs embeddings, which cross-fitted teachers do not have in common.
    """
    changed = preprocess(run, inputs, schema, config.preprocess, options, force)
    config = config.for_rows(run.spec().rows["train"])
    folds, embedding = config.teacher_config().folds, config.embedding_for(methods)
    require(not (folds and embedding), "folds must be 0 where a student needs the teacher's embeddings", folds)
    write_provenance(run, config)
    if not changed and is_complete(run, config, methods):
        return False
    # TensorFlow takes seconds to import; a finished run is left before this.
    before_training()
    from pipeline.evaluate import evaluate
    from pipeline.train_teacher import train_teacher

    warn_of_unread(config, methods)
    train_teacher(run, config.teacher_config(), parallel, deterministic)
    make_targets(run, config, methods, options)
    refused = _make_students(run, config, methods)
    evaluate(run)
    write_refusals(run, refused)
    report(run)
    return True


def _make_students(run: Run, config: Config, methods: Sequence[str]) -> dict[str, str]:
    """Trains the students of these methods; returns why some of them were refused, by method."""
    from pipeline.distill import distill

    refused = {}
    for method in methods:
        try:
            distill(run, method, config.student_config(method))
        except RefusedError as error:
            refused[method] = str(error)
    return refused


def make_targets(run: Run, config: Config, methods: Sequence[str], options: PipelineOptions) -> None:
    """The teacher's targets and those that are derived from them, as the students of these methods need them."""
    precompute(run, options, config.embedding_for(methods))
    for source in needed_sources(methods):
        derive(run, source, config.derived, options)


def write_provenance(run: Run, config: Config) -> None:
    """Writes the resolved settings and the versions of the packages, unless they stand there already."""
    text = yaml.safe_dump({**config.to_json(), "packages": package_versions()}, sort_keys=False)
    path = run.file("config.yaml")
    if not storage.exists(path) or storage.read_text(path) != text:
        storage.write_bytes(path, text.encode())

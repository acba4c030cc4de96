"""``run``: every stage in order, skipping what is done."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence

import yaml
from apache_beam.options.pipeline_options import PipelineOptions

from features.schema import Schema
from pipeline import storage
from pipeline.config import Config
from pipeline.derive import derive
from pipeline.keys import is_complete, needed_sources
from pipeline.precompute import precompute
from pipeline.preprocess import preprocess
from pipeline.report import report
from pipeline.settings import require
from pipeline.workspace import Run

PACKAGES = (
    "ctr-distill",
    "apache-beam",
    "numpy",
    "pandas",
    "pyarrow",
    "tensorflow",
    "tf-keras",
    "tensorflow-recommenders",
    "lightgbm",
)


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
    from pipeline.distill import distill
    from pipeline.evaluate import evaluate
    from pipeline.train_teacher import train_teacher

    train_teacher(run, config.teacher_config(), parallel, deterministic)
    make_targets(run, config, methods, options)
    for method in methods:
        distill(run, method, config.student_config(method))
    evaluate(run)
    report(run)
    return True


def make_targets(run: Run, config: Config, methods: Sequence[str], options: PipelineOptions) -> None:
    """The teacher's targets and those that are derived from them, as the students of these methods need them."""
    precompute(run, options, config.embedding_for(methods))
    for source in needed_sources(methods):
        derive(run, source, config.derived, options)


def write_provenance(run: Run, config: Config) -> None:
    """Writes the resolved settings and the versions of the packages, unless they stand there already."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    text = yaml.safe_dump({**config.to_json(), "packages": versions}, sort_keys=False)
    path = run.file("config.yaml")
    if not storage.exists(path) or storage.read_text(path) != text:
        storage.write_bytes(path, text.encode())

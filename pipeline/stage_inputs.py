"""What the training stages read from a run: its shards as files, and the tables of its vocabularies."""

from __future__ import annotations

from features.errors import ConfigError
from features.spec import ExamplesSpec
from features.statistics import ClickCounts
from features.vocabulary import Vocabulary
from models.inputs import ShardFiles
from models.tables import TableLayout
from pipeline import storage
from pipeline.analyze import read_vocabulary
from pipeline.workspace import EXAMPLES, TARGETS, Run


def require_local(run: Run) -> None:
    """Raises a ConfigError for a remote run: TensorFlow trains and exports on local files."""
    if storage.is_remote(run.path):
        raise ConfigError(f"--run must be local for training. Received: {run.path}; copy the run to a local disk.")


def example_files(run: Run, spec: ExamplesSpec, split: str) -> ShardFiles:
    """The shards of a split, without targets."""
    paths = [run.file(EXAMPLES, shard["path"]) for shard in run.shards(split) if shard["rows"]]
    return ShardFiles(paths, (len(spec.schema.numeric), len(spec.schema.categorical)))


def target_files(run: Run, spec: ExamplesSpec, split: str) -> ShardFiles:
    """The shards of a split, with the targets of the same shards beside them."""
    manifest = run.manifest(TARGETS)
    files = example_files(run, spec, split)
    return ShardFiles(
        files.examples,
        files.columns,
        [run.file(TARGETS, shard["path"]) for shard in run.shards(split, TARGETS) if shard["rows"]],
        manifest["teacher"],
        manifest["outputs"],
    )


def read_vocabularies(run: Run, spec: ExamplesSpec) -> list[Vocabulary]:
    """The vocabularies of the categorical columns, in the schema's order."""
    return [read_vocabulary(run.file(EXAMPLES, "vocabulary"), name) for name in spec.schema.categorical]


def click_counts(vocabularies: list[Vocabulary], spec: ExamplesSpec) -> ClickCounts:
    """Counts and clicks of all training rows."""
    return ClickCounts.of(vocabularies, spec.fold_rows, spec.fold_clicks)


def table_layout(vocabularies: list[Vocabulary], spec: ExamplesSpec, min_count: int) -> TableLayout:
    """The embedding table of a model that keeps values with ``min_count`` training rows."""
    return TableLayout.of([vocabulary.kept(min_count) for vocabulary in vocabularies], spec.numeric)

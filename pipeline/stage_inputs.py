"""What the training stages read from a run: its shards as files, and the tables of its vocabularies."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace

from features.errors import ConfigError, DataError
from features.spec import ExamplesSpec
from features.statistics import ClickCounts
from features.vocabulary import Vocabulary
from models.backend import tf
from models.inputs import ShardFiles
from models.tables import TableLayout
from pipeline import storage
from pipeline.analyze import read_vocabulary
from pipeline.stored_rows import blocks_of, embedding_size, outcome_of, read_with_targets, wrong_targets
from pipeline.workspace import EXAMPLES, TARGETS, Run


def require_local(run: Run) -> None:
    """Raises a ConfigError for a remote run: TensorFlow trains and exports on local files."""
    if storage.is_remote(run.path):
        raise ConfigError(f"--run must be local for training. Received: {run.path}; copy the run to a local disk.")


def require_validation(spec: ExamplesSpec) -> None:
    """Raises a DataError for a run without validation rows: training stops, and calibration is fitted, on them."""
    if not spec.rows["valid"]:
        raise DataError(
            f"A run must have validation rows. Received: none, and {spec.rows['train']} training rows; preprocess a "
            "longer log, or one with another --split."
        )


def require_blocks(spec: ExamplesSpec) -> None:
    """Raises a ConfigError for examples that were written a row a record: our stages read blocks."""
    if spec.layout != "blocks":
        raise ConfigError(
            f"The examples of a run must be in blocks for training. Received: --layout {spec.layout} (spec.json); "
            "preprocess into another run with --layout blocks."
        )


def example_files(run: Run, spec: ExamplesSpec, split: str, label: str = "") -> ShardFiles:
    """The shards of a split, without targets.

    Args:
        run: the run directory.
        spec: of its examples.
        split: one of :data:`features.spec.SPLITS`.
        label: an outcome that takes the label's place.

    Raises:
        ConfigError: see :func:`require_blocks` and :func:`outcome_of`.
    """
    require_blocks(spec)
    paths = [run.file(EXAMPLES, shard["path"]) for shard in run.filled_shards(split)]
    columns = len(spec.schema.numeric), len(spec.schema.categorical)
    return ShardFiles(
        paths,
        columns,
        weighted=spec.schema.weight is not None,
        outcomes=len(spec.schema.outcomes),
        outcome=outcome_of(spec, label),
    )


def target_files(
    run: Run, spec: ExamplesSpec, split: str, stage: str = TARGETS, embeddings: bool = False
) -> ShardFiles:
    """The shards of a split, with the targets of the same shards beside them.

    Args:
        run: the run directory.
        spec: of its examples.
        split: one of :data:`features.spec.SPLITS`.
        stage: of the targets, see :func:`pipeline.workspace.target_stage`.
        embeddings: whether to read the teacher's embeddings too.

    Raises:
        ArtifactError: the targets have no embeddings.
        ConfigError: see :func:`require_blocks`.
    """
    manifest = run.manifest(stage)
    return replace(
        example_files(run, spec, split),
        targets=[run.file(stage, shard["path"]) for shard in run.filled_shards(split, stage)],
        teacher=manifest["teacher"],
        outputs=manifest["outputs"],
        embedding=embedding_size(run, stage) if embeddings else 0,
    )


@contextlib.contextmanager
def naming_damage(*files: ShardFiles) -> Iterator[None]:
    """Says which file is damaged when TensorFlow fails in the body: its own error names an operation, not a file.

    Raises:
        ArtifactError: as :func:`read_with_targets`. An error that no file is to blame for stays as it is.
    """
    try:
        yield
    except tf.errors.OpError:
        for shards in files:
            _check(shards)
        raise


def _check(shards: ShardFiles) -> None:
    for examples, targets in itertools.zip_longest(shards.examples, shards.targets):
        if targets is None:
            for _ in blocks_of(examples):
                pass
            continue
        for _, target in read_with_targets(examples, targets, shards.teacher):
            if target.logits.shape[1] != shards.outputs:
                raise wrong_targets(f"have {shards.outputs} logits a row", f"{target.logits.shape[1]}", targets)
            if shards.embedding and target.width != shards.embedding:
                raise wrong_targets(f"have {shards.embedding} floats of embedding a row", f"{target.width}", targets)


def read_vocabularies(run: Run, spec: ExamplesSpec) -> list[Vocabulary]:
    """The vocabularies of the categorical columns, in the schema's order."""
    return [read_vocabulary(run.file(EXAMPLES, "vocabulary"), name) for name in spec.schema.categorical]


def click_counts(vocabularies: list[Vocabulary], spec: ExamplesSpec) -> ClickCounts:
    """Counts and clicks of all training rows, with their weights if there are any."""
    if spec.schema.weight is None:
        return ClickCounts.of(vocabularies, spec.fold_rows, spec.fold_clicks)
    return ClickCounts.of(vocabularies, spec.fold_rows, spec.fold_click_weights, spec.fold_weights)


def table_layout(vocabularies: list[Vocabulary], spec: ExamplesSpec, min_count: int) -> TableLayout:
    """The embedding table of a model that keeps values with ``min_count`` training rows."""
    kept = [vocabulary.kept(min_count) for vocabulary in vocabularies]
    sizes = [len(vocabulary.values) for vocabulary in vocabularies]
    return TableLayout.of(kept, spec.numeric, sizes, spec.buckets)

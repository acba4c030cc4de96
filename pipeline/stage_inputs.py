"""What the training stages read from a run: its shards as files, and the tables of its vocabularies."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from features.blocks import Block, read_blocks
from features.errors import ArtifactError, ConfigError, DataError
from features.spec import ExamplesSpec
from features.statistics import ClickCounts
from features.targets import TargetBlock
from features.tfrecord import read_records
from features.vocabulary import Vocabulary
from models.backend import tf
from models.inputs import ShardFiles
from models.tables import TableLayout
from pipeline import storage
from pipeline.analyze import read_vocabulary
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


def outcome_of(spec: ExamplesSpec, label: str) -> int | None:
    """Position of the outcome column that a model learns in place of the label; None for the label itself.

    Raises:
        ConfigError: the schema has no such outcome.
    """
    if not label:
        return None
    known = spec.schema.outcomes
    if label not in known:
        rule = f"one of its outcomes ({', '.join(known)})" if known else "left out, as its schema has no outcome"
        raise ConfigError(f"label must be a column of the log that is {rule}. Received: {label}.")
    return known.index(label)


def labels_of(block: Block, outcome: int | None) -> npt.NDArray[np.uint8]:
    """The labels of a block, or one of its outcomes: uint8 [rows]."""
    if outcome is None:
        return block.labels
    assert block.outcomes is not None
    labels: npt.NDArray[np.uint8] = block.outcomes[:, outcome]
    return labels


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


def target_files(run: Run, spec: ExamplesSpec, split: str) -> ShardFiles:
    """The shards of a split, with the targets of the same shards beside them."""
    manifest = run.manifest(TARGETS)
    targets = [run.file(TARGETS, shard["path"]) for shard in run.filled_shards(split, TARGETS)]
    return replace(
        example_files(run, spec, split), targets=targets, teacher=manifest["teacher"], outputs=manifest["outputs"]
    )


def blocks_of(path: str) -> Iterator[Block]:
    """The blocks of a shard.

    Raises:
        ArtifactError: the file is damaged.
    """
    with storage.open_read(path) as file:
        yield from read_blocks(file, path)


def read_with_targets(examples: str, targets: str, teacher: str) -> Iterator[tuple[Block, TargetBlock]]:
    """The blocks of a shard with their targets.

    Raises:
        ArtifactError: a file is damaged, or the targets belong to other rows or another teacher.
    """
    with storage.open_read(examples) as example_file, storage.open_read(targets) as target_file:
        records = (TargetBlock.decode(record, targets) for record in read_records(target_file, targets))
        for block, target in itertools.zip_longest(read_blocks(example_file, examples), records):
            if block is None or target is None or not np.array_equal(block.offsets, target.offsets):
                raise _wrong_targets("belong to the rows of their examples", "others", targets)
            if target.teacher != teacher:
                received = f"{target.teacher} instead of {teacher}"
                raise _wrong_targets("come from the teacher of their manifest", received, targets)
            yield block, target


def _wrong_targets(rule: str, received: str, path: str) -> ArtifactError:
    return ArtifactError(
        f"Targets must {rule}. Received: {received} ({path}); remove the folder of the targets and run precompute."
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
                raise _wrong_targets(f"have {shards.outputs} logits a row", f"{target.logits.shape[1]}", targets)


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

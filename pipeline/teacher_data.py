"""What teachers of a run are trained on: its rows, and the tables of what one part of a teacher may see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.blocks import Block
from features.crosses import MAX_ROWS, CrossRows, coarse_edges, cross_rows, find_crosses
from features.spec import ExamplesSpec
from features.statistics import ClickCounts, ratio
from features.time_slices import slice_of_shards, sliced_counts
from features.vocabulary import Vocabulary
from models.inputs import ShardFiles
from models.parts import folds_of_part
from models.tables import CrossStatistics, FoldTables, TableLayout
from pipeline.settings import TeacherConfig
from pipeline.stage_inputs import click_counts, example_files, read_vocabularies, table_layout
from pipeline.stored_rows import blocks_of, labels_of
from pipeline.workspace import Run


@dataclass(frozen=True)
class PartTables:
    """What one part of a teacher sees beside the examples.

    Args:
        layout: of the embedding table.
        values: embedding rows and click statistics of values.
        crosses: statistics of pairs of columns, or None.
        rows: training rows of the part.
        base_rate: share of them with label 1, weighted.
        without: folds whose rows the part does not see.
    """

    layout: TableLayout
    values: FoldTables
    crosses: CrossStatistics | None
    rows: int
    base_rate: float
    without: tuple[int, ...]


@dataclass(frozen=True)
class TeacherData:
    """The examples of a run as teachers with one label see them.

    Args:
        run: that has them.
        spec: of the examples.
        vocabularies: of each categorical column.
        counts: clicks of their values by fold.
        training: the training shards, in time order.
        validation: the validation shards; None in a run that has none.
    """

    run: Run
    spec: ExamplesSpec
    vocabularies: list[Vocabulary]
    counts: ClickCounts
    training: ShardFiles
    validation: ShardFiles | None

    @classmethod
    def read(cls, run: Run, config: TeacherConfig) -> TeacherData:
        """Reads the data of a run; of the settings only the label counts.

        Raises:
            ConfigError: the examples are not in blocks, or their schema has no such label.
        """
        spec = run.spec()
        training, validation = (example_files(run, spec, split, config.label) for split in ("train", "valid"))
        vocabularies = read_vocabularies(run, spec)
        counts = click_counts(vocabularies, spec)
        return cls(run, spec, vocabularies, counts, training, validation if spec.rows["valid"] else None)

    def training_files(self, config: TeacherConfig) -> ShardFiles:
        """The training shards; for statistics by time each with its slice, which its rows ask with.

        Raises:
            DataError: there are statistics by time, and one shard.
        """
        if config.statistics != "time":
            return self.training
        return replace(self.training, parts=list(time_slices(self.run).values()))

    def tables(self, config: TeacherConfig, part: int) -> PartTables:
        """What a part may see: with ``folds = B`` no label of the rows whose fold is the part modulo B."""
        without = folds_of_part(part, config.folds)
        counts, files = self.counts.without(without), self.training_files(config)
        layout = table_layout(self.vocabularies, self.spec, config.min_count)
        sliced = sliced_counts(self.counts, _sliced_blocks(files), without) if files.parts else None
        return PartTables(
            layout,
            FoldTables(layout, counts, config.smoothing, config.statistics, sliced),
            self._crosses(files, config.crosses, without),
            int(counts.rows.sum()),
            counts.base_rate() if files.outcome is None else self._outcome_rate(without),
            tuple(without),
        )

    def _crosses(self, files: ShardFiles, number: int, without: Sequence[int]) -> CrossStatistics | None:
        """Statistics of pairs of columns, from training rows; no more of them are held than are used."""
        if not number:
            return None
        edges = coarse_edges(self.spec.numeric)
        if files.parts:
            every = slice(None, None, math.ceil(self.spec.rows["train"] / MAX_ROWS))
            rows = [cross_rows(block.take(every), edges, without, part) for part, block in _sliced_blocks(files)]
            return CrossStatistics(find_crosses(CrossRows.concatenate(rows), number, "time"), edges)
        rows = []
        for path in reversed(files.examples):
            rows += [cross_rows(block, edges, without) for block in reversed(list(blocks_of(path)))]
            if sum(len(part) for part in rows) >= MAX_ROWS:
                break
        return CrossStatistics(find_crosses(CrossRows.concatenate(rows[::-1]), number), edges)

    def _outcome_rate(self, without: Sequence[int]) -> float:
        """Share of the training rows with the outcome; inside (0, 1), so that a head can begin there."""
        rows = positive = 0.0
        for path in self.training.examples:
            for block in blocks_of(path):
                weights = np.ones(len(block)) if block.weights is None else block.weights.astype(np.float64)
                weights *= ~np.isin(block.folds, list(without))
                rows += float(weights.sum())
                positive += float(weights @ labels_of(block, self.training.outcome))
        return float(np.clip(ratio(positive, rows), 1e-6, 1 - 1e-6))


def time_slices(run: Run) -> dict[str, int]:
    """The time slice of each training shard with rows, by path, in time order.

    Raises:
        DataError: there is one such shard.
    """
    shards = run.filled_shards("train")
    slices = slice_of_shards([shard["rows"] for shard in shards])
    return {shard["path"]: number for shard, number in zip(shards, slices, strict=True)}


def _sliced_blocks(files: ShardFiles) -> Iterator[tuple[int, Block]]:
    """The blocks of all shards, each with the time slice of its shard."""
    for path, part in zip(files.examples, files.parts, strict=True):
        for block in blocks_of(path):
            yield part, block

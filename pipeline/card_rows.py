"""The held-back rows of a run as a model card needs them: its figures beside those of the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.spec import ExamplesSpec
from features.vocabulary import MISSING
from models.diagnosis import FrequencyTable, rarest
from models.metrics import ClickMetrics
from pipeline.analyze import read_vocabulary
from pipeline.evaluation import Evaluation
from pipeline.scored_rows import ScoredRows
from pipeline.stored_rows import blocks_of
from pipeline.workspace import EXAMPLES, Run

HELD_BACK = ("valid", "test")

Counts = list[npt.NDArray[np.int64]]
Score = Callable[[npt.NDArray[np.int32], npt.NDArray[np.float32]], npt.NDArray[np.float64]]


@dataclass
class SplitFigures:
    """What is known of a model on one split; memory does not grow with the rows.

    Args:
        model: its metrics.
        base: those of the click rate of the training rows, given to every row.
        frequencies: its figures by the training rows of a row's rarest value.
        unseen: rows by their number of values that no training row has: int64 [columns + 1].
    """

    unseen: npt.NDArray[np.int64]
    model: Evaluation = field(default_factory=Evaluation)
    base: Evaluation = field(default_factory=Evaluation)
    frequencies: FrequencyTable = field(default_factory=FrequencyTable.empty)

    @property
    def metrics(self) -> ClickMetrics:
        """Of the model."""
        return self.model.metrics

    @property
    def unseen_rows(self) -> float:
        """Share of the rows with a value that no training row has."""
        return 1 - float(self.unseen[0] / self.unseen.sum())

    @property
    def unseen_values(self) -> float:
        """Share of such values among all values."""
        columns = len(self.unseen) - 1
        return float(self.unseen @ np.arange(columns + 1) / (self.unseen.sum() * columns))


def read_figures(run: Run, score: Score) -> dict[str, SplitFigures]:
    """Scores the held-back rows of a run, by split; splits without rows are left out.

    Args:
        run: of the rows.
        score: gives click logits of ids and dense values.
    """
    spec = run.spec()
    counts = training_counts(run, spec)
    return {split: _read_split(run, spec, split, score, counts) for split in HELD_BACK if spec.rows[split]}


def training_counts(run: Run, spec: ExamplesSpec) -> Counts:
    """Training rows by vocabulary id, a column each: int64 [ids]."""
    folder = run.file(EXAMPLES, "vocabulary")
    # One at a time: together the tables may take gigabytes.
    return [read_vocabulary(folder, name).counts.sum(axis=1) for name in spec.schema.categorical]


def base_logit(spec: ExamplesSpec) -> float:
    """Log-odds of the click rate of the training rows, as it was before rows without click were dropped."""
    return math.log(spec.base_rate) - math.log1p(-spec.base_rate) + math.log(spec.negative_rate)


def _read_split(run: Run, spec: ExamplesSpec, split: str, score: Score, counts: Counts) -> SplitFigures:
    figures = SplitFigures(np.zeros(len(counts) + 1, np.int64))
    for shard in run.filled_shards(split):
        for block in blocks_of(run.file(EXAMPLES, shard["path"])):
            rows = ScoredRows.of(block, shard["source"], spec.negative_rate, None)
            logits = score(block.ids, block.dense)
            figures.model.update(rows, logits)
            figures.base.update(rows, np.full(len(block), base_logit(spec)))
            figures.frequencies.update(rarest(block.ids, counts), rows.labels, logits, rows.weights)
            figures.unseen += _unseen(block, counts)
    return figures


def _unseen(block: Block, counts: Counts) -> npt.NDArray[np.int64]:
    known = [(ids == MISSING) | (count[ids] > 0) for ids, count in zip(block.ids.T, counts, strict=True)]
    return np.bincount(len(counts) - np.sum(known, axis=0), minlength=len(counts) + 1)


def last_split(figures: Mapping[str, SplitFigures]) -> str:
    """The split that says most of later rows: test, or validation where there is no test."""
    return list(figures)[-1]

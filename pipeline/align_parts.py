"""The subclasses of fold teachers in one order: trained apart, subclass j of one is not subclass j of another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.statistics import NO_FOLD
from models.alignment import agreement, align
from models.backend import tf
from pipeline.stage_inputs import blocks_of
from pipeline.workspace import EXAMPLES, TEACHER, Run

ROWS = 20_000
"""Most rows that the parts are compared on."""


@dataclass(frozen=True)
class Alignment:
    """How the subclasses of the parts of a teacher belong together.

    Args:
        orders: of the subclasses of each part, see :func:`models.alignment.align`; the first part keeps its own.
        agreements: of each part with the first one, before and after, see :func:`models.alignment.agreement`.
    """

    orders: list[list[int]]
    agreements: list[dict[str, float]]


def align_parts(run: Run, models: Sequence[str]) -> Alignment:
    """Finds the order of each part's subclasses in which they agree best with those of the first part.

    The parts are compared on validation rows, which none of them has learned from; in a run without, on training rows.

    Args:
        run: the run directory.
        models: folders of the parts' SavedModels, relative to the teacher.

    Raises:
        ArtifactError: a shard is damaged.
    """
    blocks = list(_first_rows(run, ROWS))
    reference, *others = (_logits(run.file(TEACHER, model), blocks) for model in models)
    orders = [np.arange(reference.shape[1]), *(align(reference, z) for z in others)]
    agreements = [
        {"before": agreement(reference, z), "after": agreement(reference, z[:, order])}
        for z, order in zip([reference, *others], orders, strict=True)
    ]
    return Alignment([order.tolist() for order in orders], agreements)


def _first_rows(run: Run, rows: int) -> Iterator[Block]:
    """Blocks with at most so many rows."""
    shards = run.filled_shards("valid") or run.filled_shards("train")
    paths = [run.file(EXAMPLES, shard["path"]) for shard in shards]
    for block in itertools.chain.from_iterable(map(blocks_of, paths)):
        yield block.take(slice(0, rows))
        rows -= len(block)
        if rows <= 0:
            return


def _logits(model: str, blocks: Sequence[Block]) -> npt.NDArray[np.float32]:
    """Subclass logits of a part, which sees the rows as a model in service would: no fold is left out."""
    loaded: Any = tf.saved_model.load(model)
    constant = tf.constant
    scores = [
        loaded.score(constant(block.ids), constant(block.dense), tf.fill([len(block)], NO_FOLD))["logits"].numpy()
        for block in blocks
    ]
    return np.concatenate(scores)

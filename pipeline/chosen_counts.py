"""What ``preprocess`` counts in training rows, counted again in blocks of examples, of which some rows were chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.blocks import Block
from features.counts import WEIGHT_UNIT, CellCounts, fixed_weights
from features.hashing import FOLDS
from features.spec import ExamplesSpec
from features.vocabulary import FIRST_VALUE, UNSEEN


class ChosenCounts:
    """Rows and clicks of training rows by vocabulary id and fold, and their weights if there are any.

    Weights are added up as integers in units of 2^-20. It takes 160 bytes an id, and 320 in a log with weights.

    Args:
        spec: of the examples.
    """

    def __init__(self, spec: ExamplesSpec) -> None:
        ids = np.array(spec.vocabulary_ids, np.int64)
        self._starts = np.cumsum(ids) - ids
        self._sums = np.zeros((4 if spec.schema.weight else 2, int(ids.sum()) * FOLDS), np.int64)
        self._folds = np.zeros((4, FOLDS), np.int64)
        self._missing = np.zeros(len(spec.numeric), np.int64)

    def add(self, block: Block) -> None:
        """Adds rows."""
        cells = (block.ids + self._starts) * FOLDS + block.folds[:, np.newaxis]
        units = np.full(len(block), WEIGHT_UNIT) if block.weights is None else fixed_weights(block.weights)
        every, clicked = np.arange(len(block)), np.flatnonzero(block.labels)
        ones = np.ones_like(units)
        for number, (rows, addend) in enumerate([(every, ones), (clicked, ones), (every, units), (clicked, units)]):
            np.add.at(self._folds[number], block.folds[rows], addend[rows])
            if number < len(self._sums):
                np.add.at(self._sums[number], cells[rows].ravel(), np.repeat(addend[rows], cells.shape[1]))
        self._missing += np.isnan(block.dense).sum(axis=0)

    def to_spec(self, spec: ExamplesSpec) -> ExamplesSpec:
        """The spec with everything but the vocabularies as it is for these training rows."""
        rows, clicks, weights, click_weights = self._folds
        numeric = zip(spec.numeric, self._missing.tolist(), strict=True)
        by_split = {**spec.rows, "train": int(rows.sum())}
        return replace(
            spec,
            numeric=tuple(replace(column, missing=missing) for column, missing in numeric),
            rows=by_split,
            clicks={**spec.clicks, "train": int(clicks.sum())},
            fold_rows=tuple(rows.tolist()),
            fold_clicks=tuple(clicks.tolist()),
            fold_weights=tuple((weights / WEIGHT_UNIT).tolist()),
            fold_click_weights=tuple((click_weights / WEIGHT_UNIT).tolist()),
            lines=sum(by_split.values()),
            rejects=0,
        )

    def column(self, index: int, values: pa.BinaryArray, spec: ExamplesSpec) -> tuple[CellCounts, NDArray[np.int64]]:
        """The sums of one column: by value, and by hash bucket.

        Args:
            index: of the column.
            values: of its vocabulary.
            spec: of the examples.

        Returns:
            the sums of its values, the missing one as the empty text, and int64 [buckets, 10, 2 or 4].
        """
        start, ids = self._starts[index] * FOLDS, spec.vocabulary_ids[index]
        sums = self._sums[:, start : start + ids * FOLDS].reshape(-1, ids, FOLDS)
        numbered = np.delete(sums[:, : FIRST_VALUE + len(values)], UNSEEN, axis=1).reshape(len(sums), -1)
        cells = np.flatnonzero(numbered[0])
        of_values = CellCounts(
            pa.concat_arrays([pa.array([b""], pa.binary()), values]),
            (cells // FOLDS).astype(np.int32),
            (cells % FOLDS).astype(np.uint8),
            numbered[:, cells].T,
        )
        return of_values, np.moveaxis(sums[:, ids - spec.buckets :], 0, -1)

"""The slices that a student is checked in: by values that it does not know, by click probability, by a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import ConfigError
from features.rows import ParsedRows
from features.schema import Schema
from models.estimates import equal_mass_bins
from pipeline.check_sums import CELLS, SliceSums, logit_cells
from pipeline.scored_rows import Floats, ScoredRows

BINS = 10
MOST_VALUES = 1000
SHOWN_VALUES = 20

_EDGES = (1, 3)
_STRANGERS = ("0", "1-2", "3+")


class Slices:
    """Adds up scored rows in every slice.

    Args:
        schema: of the log.
        models: names, the new one first.
        column: categorical column whose most frequent values are slices; empty for none.

    Raises:
        ConfigError: there is no such column.
    """

    def __init__(self, schema: Schema, models: Sequence[str], column: str) -> None:
        if column and column not in schema.categorical:
            known = ", ".join(schema.categorical)
            raise ConfigError(f"--slice must be a categorical column ({known}). Received: {column}.")
        self._models, self._column = models, column
        self._position = schema.categorical.index(column) if column else -1
        self._strangers = SliceSums.empty(len(_STRANGERS), len(models))
        self._scores = SliceSums.empty(CELLS, len(models))
        self._values: dict[bytes, int] = {}
        self._by_value = SliceSums.empty(MOST_VALUES if column else 1, len(models))

    def update(
        self, parsed: ParsedRows, rows: ScoredRows, strangers: npt.NDArray[np.int64], logits: Sequence[Floats]
    ) -> None:
        """Adds a block.

        Args:
            parsed: the rows as they are in the log.
            rows: their labels, groups and weights.
            strangers: int64 [rows], values that the new model has no embedding of.
            logits: float64 [rows] of each model.

        Raises:
            ConfigError: the column has too many values.
        """
        self._strangers.update(np.searchsorted(_EDGES, strangers, side="right"), rows, logits)
        self._scores.update(logit_cells(logits[-1]), rows, logits)
        if self._column:
            self._by_value.update(self._cells(parsed), rows, logits)

    def _cells(self, parsed: ParsedRows) -> npt.NDArray[np.int64]:
        """The number of each row's value, from 0 in the order in which they appear."""
        column = parsed.categorical[self._position]
        codes = column.indices.to_numpy()
        numbers = np.zeros(len(column.dictionary), np.int64)
        for code in np.unique(codes):
            numbers[code] = self._values.setdefault(column.dictionary[int(code)].as_py(), len(self._values))
        if len(self._values) > MOST_VALUES:
            raise ConfigError(
                f"--slice must be a column of at most {MOST_VALUES} values. Received: {self._column} (it has more)."
            )
        return numbers[codes]

    def records(self) -> list[dict[str, Any]]:
        """A row a slice; see :meth:`pipeline.check_sums.SliceSums.table`."""
        bins = equal_mass_bins(self._scores.sums[0].sum(axis=0), BINS)
        by_score = self._scores.merged(bins, BINS)
        names = [f"{number + 1} of {BINS}" for number in range(BINS)]
        tables = [
            self._strangers.table("values without embedding", _STRANGERS, self._models),
            by_score.table(f"p_click, {self._models[-1]}", names, self._models),
        ]
        if self._column:
            shown = np.argsort(-self._by_value.rows, kind="stable")[:SHOWN_VALUES]
            texts = [value.decode() or "(missing)" for value in self._values]
            texts += [""] * (MOST_VALUES - len(texts))
            own = SliceSums(self._by_value.sums[:, :, shown], self._by_value.rows[shown])
            tables.append(own.table(self._column, [texts[value] for value in shown], self._models))
        return [{str(key): value for key, value in row.items()} for table in tables for row in table.to_dict("records")]

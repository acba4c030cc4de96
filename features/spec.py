"""``spec.json``: what the examples of a run are; everything a trainer needs to know about the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from features.errors import ArtifactError
from features.numeric import NumericColumn
from features.schema import Schema

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class ExamplesSpec:
    """The data side of a run.

    Args:
        schema: of the log.
        numeric: training statistics of each numeric column.
        vocabulary_ids: number of vocabulary ids of each categorical column, those of hash buckets included.
        buckets: hash buckets of each categorical column for values outside its vocabulary: its last ids. 0: such values
            have the id of unseen values.
        rows: rows by split.
        clicks: rows with label 1 by split.
        fold_rows: training rows by fold.
        fold_clicks: training clicks by fold.
        fold_weights: sum of the weights of the training rows by fold; equals fold_rows in a log without weights.
        fold_click_weights: the same of those with label 1.
        negative_rate: share of the rows without click that the log kept; 1 for a log that was not downsampled.
        layout: ``blocks``, or ``rows`` for an Example a row, which other tools read and our stages do not.
        lines: lines read; equals rows of all splits plus rejects.
        rejects: bad lines.
        seed: of the folds and the row order.
    """

    schema: Schema
    numeric: tuple[NumericColumn, ...]
    vocabulary_ids: tuple[int, ...]
    buckets: int
    rows: dict[str, int]
    clicks: dict[str, int]
    fold_rows: tuple[int, ...]
    fold_clicks: tuple[int, ...]
    fold_weights: tuple[float, ...]
    fold_click_weights: tuple[float, ...]
    lines: int
    rejects: int
    seed: int
    negative_rate: float = 1.0
    layout: str = "blocks"

    @property
    def base_rate(self) -> float:
        """Click rate of the training rows, weighted."""
        return sum(self.fold_click_weights) / sum(self.fold_weights)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "schema": self.schema.described(),
            "numeric": [column.to_json() for column in self.numeric],
            "vocabulary_ids": dict(zip(self.schema.categorical, self.vocabulary_ids, strict=True)),
            "buckets": self.buckets,
            "rows": self.rows,
            "clicks": self.clicks,
            "fold_rows": list(self.fold_rows),
            "fold_clicks": list(self.fold_clicks),
            "fold_weights": list(self.fold_weights),
            "fold_click_weights": list(self.fold_click_weights),
            "lines": self.lines,
            "rejects": self.rejects,
            "seed": self.seed,
            "negative_rate": self.negative_rate,
            "layout": self.layout,
            "base_rate": self.base_rate,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ExamplesSpec:
        """Reads what :meth:`to_json` wrote.

        Raises:
            ArtifactError: a field is missing or unlike what is written.
        """
        try:
            schema = Schema.from_json(value["schema"], "spec.json")
            return cls(
                schema,
                tuple(NumericColumn.from_json(column) for column in value["numeric"]),
                tuple(value["vocabulary_ids"][name] for name in schema.categorical),
                value["buckets"],
                value["rows"],
                value["clicks"],
                tuple(value["fold_rows"]),
                tuple(value["fold_clicks"]),
                tuple(value["fold_weights"]),
                tuple(value["fold_click_weights"]),
                value["lines"],
                value["rejects"],
                value["seed"],
                value["negative_rate"],
                value["layout"],
            )
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"The spec of the examples must be what preprocess wrote. Received: {error!r} (spec.json)."
            ) from error

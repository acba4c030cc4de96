"""A schema for a log that nobody has described yet, proposed from its first rows, with a reason for each column."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from features.column_kinds import LEFT_OUT, find_kinds
from features.errors import DataError
from features.rejects import printable
from features.samples import Sample, SampleColumn
from features.schema import CATEGORICAL, CRITEO, FLOAT, INTEGER, TEXT, Column, Schema
from features.strict import INTEGER_PATTERN, LABEL_PATTERN

_SHOWN_CHARACTERS = 24
_MOST = 0.99


@dataclass(frozen=True)
class Proposal:
    """A proposed schema.

    Args:
        schema: of the log.
        columns: a row for each column of the sample, those that the schema leaves out too: ``column``, ``kind`` ("-"
            where left out), ``missing`` (share of the rows), ``distinct`` (values in the sample), ``example``,
            ``reason``.
    """

    schema: Schema
    columns: pd.DataFrame


def propose_schema(sample: Sample, source: str) -> Proposal:
    """Proposes a schema.

    Args:
        sample: the first rows of the log.
        source: the log's name, for errors.

    Raises:
        DataError: the sample has no rows, no label, no numeric or no categorical column.
    """
    if not any(column.texts for column in sample.columns):
        raise DataError(f"A log must hold rows. Received: none ({source}).")
    if _is_criteo(sample):
        reasons = dict.fromkeys(CRITEO.names, "in its place among Criteo's columns")
        renamed = [SampleColumn(name, column.texts) for name, column in zip(CRITEO.names, sample.columns, strict=True)]
        found = {column.name: (column.kind, reasons[column.name]) for column in CRITEO.columns}
        return Proposal(CRITEO, _table(tuple(renamed), found))
    found = find_kinds(sample.columns, source)
    for kinds, name in (((INTEGER, FLOAT), "numeric"), ((CATEGORICAL,), "categorical")):
        if not any(kind in kinds for kind, _ in found.values()):
            seen = ", ".join(f"{column} ({kind or 'left out'})" for column, (kind, _) in found.items())
            raise DataError(f"A log must have at least one {name} column. Received: {seen} ({source}).")
    columns = tuple(Column(name, kind) for name, (kind, _) in found.items() if kind != LEFT_OUT)
    return Proposal(Schema(columns, sample.delimiter, sample.header, sample.format), _table(sample.columns, found))


def _is_criteo(sample: Sample) -> bool:
    """Whether the columns can be those of Criteo's logs: a label, 13 integers, 26 hashes of eight digits."""
    if sample.format != TEXT or sample.header or sample.delimiter != "\t" or len(sample.columns) != len(CRITEO.columns):
        return False
    patterns = {INTEGER: INTEGER_PATTERN, CATEGORICAL: "[0-9a-f]{8}"}
    pairs = zip(CRITEO.columns, sample.columns, strict=True)
    return all(not held.present or held.share(patterns.get(c.kind, LABEL_PATTERN)) >= _MOST for c, held in pairs)


def _table(columns: tuple[SampleColumn, ...], found: dict[str, tuple[str, str]]) -> pd.DataFrame:
    rows = [
        {
            "column": column.name,
            "kind": found[column.name][0] or "-",
            "missing": 1 - len(column.present) / len(column.texts) if column.texts else None,
            "distinct": len(column.distinct),
            "example": printable(column.present[0].encode())[:_SHOWN_CHARACTERS] if column.present else "",
            "reason": found[column.name][1],
        }
        for column in columns
    ]
    return pd.DataFrame(rows)

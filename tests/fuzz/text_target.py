"""Delimited lines: the parser against its strict counterpart."""

from __future__ import annotations

from drawing import Draw
from logs import LIMITS, Log, draw_log, draw_text, draw_wild
from logs import check as check_log

from features.parsing import parse_chunk
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, LABEL, OUTCOME, TIME, WEIGHT, Column, Schema
from features.strict import columns_of, parse_line

_SMALL = (Column("y", LABEL), Column("n", INTEGER), Column("x", FLOAT), Column("c", CATEGORICAL))
_ALL = (
    Column("id", KEY),
    Column("w", WEIGHT),
    Column("c1", CATEGORICAL),
    Column("x", FLOAT),
    Column("y", LABEL),
    Column("when", TIME),
    Column("n", INTEGER),
    Column("who", GROUP),
    Column("c2", CATEGORICAL),
)
SCHEMAS = (
    Schema(_SMALL),
    Schema(_ALL, ","),
    Schema(_ALL, ";", header=True),
    Schema(
        (Column("x", FLOAT), Column("y", LABEL), Column("c", CATEGORICAL), Column("w", WEIGHT), Column("o", OUTCOME)),
        "\x01",
    ),
    Schema((Column("c", CATEGORICAL), Column("t", TIME), Column("n", INTEGER), Column("y", LABEL)), " ", header=True),
    Schema((Column("u", GROUP), Column("x", FLOAT), Column("y", LABEL), Column("c", CATEGORICAL)), "e"),
)


def log_of(data: bytes) -> Log:
    """The log that an input means."""
    return draw_log(Draw(data), SCHEMAS, _draw_line)


def check(data: bytes) -> None:
    """Raises AssertionError where the parsers disagree."""
    check_log(log_of(data), parse_chunk, parse_line)


def _draw_line(draw: Draw, schema: Schema, labelled: bool) -> bytes:
    form = draw.below(16)
    if form == 15:
        return draw.take(draw.below(64))
    columns = columns_of(schema, labelled)
    wild = draw_wild(draw, len(columns))
    fields = [draw_text(draw, column.kind, any_) for column, any_ in zip(columns, wild, strict=True)]
    if form == 14:
        fields = fields[:-1] if draw.below(2) else [*fields, b""]
    if form == 13:  # about as long as a line may be, or as what is kept of one
        size = draw.choice(tuple(LIMITS.values())[:2]) + draw.below(5) - 2
        fields[-1] += b"x" * (size - len(b"?".join(fields)))
    return schema.delimiter.encode().join(fields)

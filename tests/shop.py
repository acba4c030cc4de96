"""The log of a shop: a schema with a key, other names and another order than Criteo's."""

from features.schema import CATEGORICAL, FLOAT, INTEGER, KEY, LABEL, Column, Schema

SHOP = Schema(
    (
        Column("id", KEY),
        Column("price", FLOAT),
        Column("clicked", LABEL),
        Column("count", INTEGER),
        Column("site", CATEGORICAL),
        Column("age", INTEGER),
        Column("city", CATEGORICAL),
    ),
    delimiter=",",
)

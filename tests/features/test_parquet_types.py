import pyarrow as pa
import pytest

from features.errors import DataError
from features.parquet_types import check_type, value_class
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, KINDS, LABEL, OUTCOME, TIME, WEIGHT, Column

NUMERIC = {LABEL, OUTCOME, WEIGHT, INTEGER, FLOAT}
PASSED = {KEY, GROUP}
ALLOWED = [
    (pa.string(), {*KINDS}),
    (pa.large_binary(), {*KINDS}),
    (pa.binary(16), {*KINDS}),
    (pa.dictionary(pa.int8(), pa.string()), {*KINDS}),
    (pa.null(), {*KINDS}),
    (pa.int32(), {*KINDS}),
    (pa.uint64(), {*KINDS}),
    (pa.float32(), NUMERIC | PASSED),
    (pa.dictionary(pa.int32(), pa.float64()), NUMERIC | PASSED),
    (pa.decimal128(10, 2), NUMERIC | PASSED | {CATEGORICAL}),
    (pa.bool_(), PASSED | {LABEL, OUTCOME, CATEGORICAL}),
    (pa.date32(), PASSED | {CATEGORICAL, TIME}),
    (pa.timestamp("us"), PASSED | {CATEGORICAL, TIME}),
    (pa.timestamp("ms", "UTC"), PASSED | {CATEGORICAL, TIME}),
    (pa.time64("us"), PASSED | {CATEGORICAL}),
    (pa.duration("s"), set()),
    (pa.list_(pa.string()), set()),
    (pa.large_list(pa.int64()), set()),
    (pa.list_(pa.int64(), 1), set()),
    (pa.struct([("a", pa.int64())]), set()),
    (pa.map_(pa.string(), pa.int64()), set()),
]


@pytest.mark.parametrize(("kind", "allowed"), ALLOWED, ids=[str(kind) for kind, _ in ALLOWED])
def test_types_by_kind(kind, allowed):
    for name in KINDS:
        if name in allowed:
            check_type(kind, Column("c", name), "log.parquet")
        else:
            with pytest.raises(DataError, match=r"must .* Received: .* \(log\.parquet, column 'c'\)"):
                check_type(kind, Column("c", name), "log.parquet")


def test_messages():
    with pytest.raises(DataError, match=r"^A column must have one value a row\. Received: list<.*Give each value a"):
        check_type(pa.list_(pa.string()), Column("tags", CATEGORICAL), "a.parquet")
    message = r"kind categorical must be text, integer, .* Received: double \(a\.parquet, column 'price'\)\.$"
    with pytest.raises(DataError, match=message):
        check_type(pa.float64(), Column("price", CATEGORICAL), "a.parquet")


def test_value_class():
    assert value_class(pa.dictionary(pa.int32(), pa.large_string())) == "text"
    assert value_class(pa.null()) is None
    assert value_class(pa.duration("ns")) == "duration[ns]"

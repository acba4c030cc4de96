import pytest

from features.errors import DataError
from features.proposal import propose_schema
from features.samples import Sample, SampleColumn, sample_lines
from features.schema import CRITEO, Column, Schema

CRITEO_ROWS = [
    "\t".join([f"{i % 2}", *["", "-1", "7"] * 4, "5", *[f"{i + j:08x}" for j in range(26)]]) for i in range(30)
]


def propose(lines: list[str], source: str = "log"):
    return propose_schema(sample_lines("\n".join(lines).encode(), source), source)


def test_a_delimited_log_with_a_header():
    rows = [f"k{i % 7},{i % 2},{i % 5}.5,{'ab'[i % 2]}" for i in range(100)]
    proposal = propose(["session,click,price,site", *rows])
    assert proposal.schema == Schema(
        (
            Column("session", "group"),
            Column("click", "label"),
            Column("price", "float"),
            Column("site", "categorical"),
        ),
        ",",
        True,
    )
    assert proposal.columns.columns.tolist() == ["column", "kind", "missing", "distinct", "example", "reason"]
    assert proposal.columns["column"].tolist() == list(proposal.schema.names)
    assert proposal.columns["distinct"].tolist() == [7, 2, 5, 2]
    assert proposal.columns["example"].tolist() == ["k0", "0", "0.5", "a"]


def test_json_lines_leave_out_what_is_not_supported():
    lines = [
        f'{{"c": "{"ab"[i % 2]}", "tags": ["x"], "n": {i if i % 4 else "null"}, "y": {i % 2}}}' for i in range(100)
    ]
    proposal = propose(lines)
    assert proposal.schema == Schema(
        (Column("c", "categorical"), Column("n", "integer"), Column("y", "label")), format="json"
    )
    table = proposal.columns.set_index("column")
    assert table["kind"].to_dict() == {"c": "categorical", "tags": "-", "n": "integer", "y": "label"}
    assert "several values" in table["reason"]["tags"]
    assert table["missing"].drop("tags").to_dict() == {"c": 0, "n": 0.25, "y": 0}


def test_criteo_is_recognised():
    proposal = propose(CRITEO_ROWS)
    assert proposal.schema == CRITEO
    assert proposal.columns["kind"].tolist() == ["label", *["integer"] * 13, *["categorical"] * 26]
    assert proposal.columns["missing"][1] == 1


@pytest.mark.parametrize("other", ["column", "hash", "delimiter"])
def test_what_is_not_quite_criteo(other):
    lines = {
        "column": [f"{line}\tx" for line in CRITEO_ROWS],
        "hash": [f"{line[:-1]}z" for line in CRITEO_ROWS],
        "delimiter": [line.replace("\t", ",") for line in CRITEO_ROWS],
    }[other]
    proposal = propose(lines)
    assert proposal.schema.names[0] == "f1" and proposal.schema.label == "f1"


def test_examples_are_short_and_printable():
    lines = [f"{i % 2},{i},{'x' * 100}\x1b" for i in range(30)]
    example = propose(lines).columns["example"][2]
    assert example == "x" * 24
    assert propose([f"{i % 2},{i},\x1b" for i in range(30)]).columns["example"][2] == "\\x1b"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b,c"], r"must hold rows\. Received: none \(day/log\)"),
        (["1,a", "0,b"], r"at least one numeric column\. Received: f1 \(label\), f2 \(categorical\) \(day/log\)"),
        (["1,7.5", "0,8.5"], r"at least one categorical column\. Received: f1 \(label\), f2 \(float\)"),
        (['{"y": 1, "n": 5, "l": []}'] * 2, r"at least one categorical column\. Received: .* l \(left out\)"),
        (["2,a,5", "3,b,7"], "One column of the log must be the label"),
    ],
)
def test_what_gives_no_schema(lines, message):
    with pytest.raises(DataError, match=message):
        propose(lines, "day/log")


def test_a_sample_without_columns():
    with pytest.raises(DataError, match="must hold rows"):
        propose_schema(Sample((), "json"), "log")
    with pytest.raises(DataError, match="must hold rows"):
        propose_schema(Sample((SampleColumn("a", ()),), "parquet"), "log")

"""Raw log lines in the exported student: the strict parser's verdict on each, and the good ones scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from exports import TOLERANCE, VISITS, Export
from hypothesis import given, settings
from hypothesis import strategies as st

from features import strict
from features.schema import Schema
from features.strict import BadLine, parse_line


def expected_reason(line: bytes, schema: Schema, labelled: bool) -> str:
    """What the strict parser says of a line; its newline is not its own."""
    try:
        parse_line(line.removesuffix(b"\n"), schema, labelled)
    except BadLine as bad:
        return bad.reason
    return ""


def check_reasons(exported: Export, lines: Sequence[bytes], labelled: bool = True) -> list[str]:
    """Reasons are those of the strict parser, probabilities NaN exactly for bad lines; returns the reasons."""
    outputs = exported.tsv(lines, labelled)
    reasons = [reason.decode() for reason in outputs["reason"]]
    assert reasons == [expected_reason(line, exported.schema, labelled) for line in lines]
    bad = np.array([bool(reason) for reason in reasons], bool)
    for name in ("p_click", "logit"):
        np.testing.assert_array_equal(np.isnan(outputs[name]), bad)
    assert ((outputs["p_click"][~bad] >= 0) & (outputs["p_click"][~bad] <= 1)).all()
    return reasons


GOOD = b"k,1.5,1,3,a.b,4,c1"
GOOD_UNLABELLED = b"k,1.5,3,a.b,4,c1"
# Bad with and without the label column.
BAD_ANYWAY = [
    (b"", strict.EMPTY_LINE),
    (b"\r", strict.EMPTY_LINE),
    (b"\n", strict.EMPTY_LINE),
    (b"\r\n", strict.EMPTY_LINE),
    (b"x" * (1 << 20), strict.FIELD_COUNT),
    (b"x" * (1 << 20) + b"\r\n", strict.FIELD_COUNT),
    (b"x" * (1 << 20) + b"x", strict.TOO_LONG),
    (GOOD + b"x" * (1 << 20), strict.TOO_LONG),
    (b"\xff\0\r" + b"x" * (1 << 20), strict.TOO_LONG),
    (b"k,1.5,1,3,a\0b,4,c1", strict.NUL_BYTE),
    (b"\0", strict.NUL_BYTE),
    (b"\xff\0", strict.NUL_BYTE),
    (b"\r\0\xff", strict.NUL_BYTE),
    (b"\r\r", strict.CARRIAGE_RETURN),
    (GOOD + b"\r\r\n", strict.CARRIAGE_RETURN),
    (b"k,1.5,1,\r3,a,4,c1", strict.CARRIAGE_RETURN),
    (b"\xff\r1", strict.CARRIAGE_RETURN),
    (b"\xff", strict.INVALID_UTF8),
    (b"\xff\r", strict.INVALID_UTF8),
    (b"k,x,2,x,\xc0\xaf,4,c1", strict.INVALID_UTF8),
    (b"k,1.5,1,3,\xed\xa0\x80,4,c1", strict.INVALID_UTF8),
    (b"k,1.5,1,3,\xe6\x97,4,c1", strict.INVALID_UTF8),
    (b"k,1.5,1,3,\xf4\x90\x80\x80,4,c1", strict.INVALID_UTF8),
    (b"\xff,\xff", strict.INVALID_UTF8),
    (b"x", strict.FIELD_COUNT),
    (b" ", strict.FIELD_COUNT),
    (b",", strict.FIELD_COUNT),
    (b"k,x,x,x,x", strict.FIELD_COUNT),
    (b"k,1.5,1,3,a,4,c1,", strict.FIELD_COUNT),
    (b"k\t1.5\t1\t3\ta\t4\tc1", strict.FIELD_COUNT),
]
BAD_LINES = [
    *BAD_ANYWAY,
    (b"k,x,2,x,a,4,c1", strict.BAD_LABEL),
    (b"k,1.5,,3,a,4,c1", strict.BAD_LABEL),
    (b"k,1.5,01,3,a,4,c1", strict.BAD_LABEL),
    (b"k,1.5,1.0,3,a,4,c1", strict.BAD_LABEL),
    (b"k,x,1,3,a,x,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,3.0,a,4,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,3,a, 4,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,+3,a,4,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,3,a,4\n,c1", strict.BAD_INTEGER),
    (b"k,1.5,1,1111111111111111111,a,4,c1", strict.BAD_INTEGER),
    ("k,1.5,1,٣,a,4,c1".encode(), strict.BAD_INTEGER),
    (b"k,x,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,nan,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,inf,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,1e39,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,1e999,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,.,1,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,0x1p3,1,3,a,4,c1", strict.BAD_FLOAT),
    # Without the label column.
    (GOOD_UNLABELLED, strict.FIELD_COUNT),
    (GOOD_UNLABELLED + b"\r\n", strict.FIELD_COUNT),
    (b",,,,,", strict.FIELD_COUNT),
    (b"k,x,x,a,4,c1", strict.FIELD_COUNT),
    (b"k,x,3,a,4,c1", strict.FIELD_COUNT),
]
BAD_UNLABELLED_LINES = [
    *BAD_ANYWAY,
    (b"k,x,x,a,4,c1", strict.BAD_INTEGER),
    (b"k,x,3,a,x,c1", strict.BAD_INTEGER),
    (b"k,1.5,3.0,a,4,c1", strict.BAD_INTEGER),
    (b"k,1.5,3,a,4\n,c1", strict.BAD_INTEGER),
    (b"k,1.5,1111111111111111111,a,4,c1", strict.BAD_INTEGER),
    (b"k,x,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,nan,3,a,4,c1", strict.BAD_FLOAT),
    (b"k,1e39,3,a,4,c1", strict.BAD_FLOAT),
    # With the label column.
    (GOOD, strict.FIELD_COUNT),
    (GOOD + b"\r\n", strict.FIELD_COUNT),
    (b",,0,,,,", strict.FIELD_COUNT),
    (b"k,x,2,x,a,4,c1", strict.FIELD_COUNT),
    (b"k,x,1,3,a,4,c1", strict.FIELD_COUNT),
]
GOOD_LINES = [
    GOOD,
    GOOD + b"\r",
    GOOD + b"\r\n",
    GOOD + b"\n",
    b",,0,,,,",
    b"k,3.4028235e38,1,3,a,4,c1",
    b"k,1e-400,1,3,a,4,c1",
    "\ufeffk,1.5,1,3,\ufffd,4,\uffff".encode(),
    b"k" * ((1 << 20) - len(GOOD) + 1) + GOOD[1:],
]
GOOD_UNLABELLED_LINES = [
    *(GOOD_UNLABELLED + ending for ending in (b"", b"\r", b"\r\n", b"\n")),
    b",,,,,",
    b"k,3.4028235e38,3,a,4,c1",
    b"k,1e-400,3,a,4,c1",
    "\ufeffk,1.5,3,\ufffd,4,\uffff".encode(),
    b"k" * ((1 << 20) - len(GOOD_UNLABELLED) + 1) + GOOD_UNLABELLED[1:],
]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("name", ["shop", "with_statistics"])
def test_bad_lines_have_the_reason_of_the_strict_parser(
    name: str, labelled: bool, request: pytest.FixtureRequest
) -> None:
    exported: Export = request.getfixturevalue(name)
    bad, good = (BAD_LINES, GOOD_LINES) if labelled else (BAD_UNLABELLED_LINES, GOOD_UNLABELLED_LINES)
    reasons = check_reasons(exported, [line for line, _ in bad] + good, labelled)
    assert reasons == [reason for _, reason in bad] + [""] * len(good)
    others = {strict.NOT_JSON, strict.MULTIPLE_VALUES, strict.BAD_OUTCOME, strict.BAD_WEIGHT, strict.BAD_TIME}
    others |= {strict.NO_GROUP}
    assert {*reasons} == {*strict.REASONS, ""} - others - (set() if labelled else {strict.BAD_LABEL})


VISIT = {
    "visitor": b"v7",
    "price": b"1.5",
    "clicked": b"1",
    "count": b"3",
    "site": b"a.b",
    "age": b"4",
    "city": b"c1",
    "share": b"0.5",
    "when": b"2026-01-31T12:00:00Z",
    "score": b"",
    "bought": b"0",
}
# Fields in place of those of VISIT, and the reason.
BAD_VISITS: list[tuple[dict[str, bytes], str]] = [
    *(({"share": text}, strict.BAD_WEIGHT) for text in (b"", b"-1", b"+1", b"nan", b"inf", b"1e999", b" 1", b".")),
    *(({"share": text}, strict.BAD_WEIGHT) for text in (b"65536.01", b"65537", b"1e5", b"0x1")),
    *(({"when": text}, strict.BAD_TIME) for text in (b"", b"now", b"1.5", b"+1", b"2026-01", b"2026-1-1", b"1" * 19)),
    *(
        ({"when": text}, strict.BAD_TIME)
        for text in (b"2026-13-01", b"2026-01-32", b"2026-01-01T24:00", b"2026-01-01Z")
    ),
    ({"visitor": b""}, strict.NO_GROUP),
    ({"visitor": b"", "when": b""}, strict.BAD_TIME),
    ({"visitor": b"", "when": b"", "price": b"x"}, strict.BAD_FLOAT),
    ({"when": b"", "score": b"x", "age": b"x"}, strict.BAD_INTEGER),
    ({"share": b"", "when": b"", "score": b"x", "age": b"x"}, strict.BAD_WEIGHT),
    ({"share": b"x", "visitor": b"\xff"}, strict.INVALID_UTF8),
    *(({"bought": text, "share": b""}, strict.BAD_OUTCOME) for text in (b"", b"2", b"01", b"1.0", b"true")),
]
GOOD_VISITS: list[dict[str, bytes]] = [
    {},
    *({"share": text} for text in (b"0", b"0.0", b"6.5536e4", b"65536.001", b"5.", b".5", b"1e-400", b"007")),
    *(
        {"when": text}
        for text in (b"0", b"-1", b"9" * 18, b"2026-02-31", b"2026-01-01 00:00", b"2026-01-01T23:59:59.5")
    ),
    {"bought": b"1"},
    *({"visitor": text} for text in (b" ", b"0", "\ufeff".encode())),
]


@pytest.mark.parametrize("labelled", [True, False])
def test_weight_time_and_group_of_a_line(visits: Export, labelled: bool) -> None:
    # Without labels there are no weights and no outcomes.
    names = [column.name for column in strict.columns_of(VISITS, labelled)]
    cases = [*BAD_VISITS, *((changed, "") for changed in GOOD_VISITS)]
    cases = [(changed, reason) for changed, reason in cases if labelled or not {"share", "bought"} & set(changed)]
    lines = [b",".join({**VISIT, **changed}[name] for name in names) for changed, _ in cases]
    expected = [reason for _, reason in cases]
    assert check_reasons(visits, lines, labelled) == expected


def test_a_bad_label_counts_before_a_bad_outcome_or_weight(visits: Export) -> None:
    fields = {**VISIT, "clicked": b"2", "bought": b"", "share": b"", "when": b"", "visitor": b""}
    line = b",".join(fields[name] for name in VISITS.names)
    assert check_reasons(visits, [line]) == [strict.BAD_LABEL]


def test_weight_time_and_group_do_not_move_the_probability(visits: Export) -> None:
    fields = [{**VISIT, **changed} for changed in GOOD_VISITS]
    p_click = visits.tsv([b",".join(row[name] for name in VISITS.names) for row in fields])["p_click"]
    np.testing.assert_allclose(p_click, np.full(len(fields), p_click[0]), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("labelled", [True, False])
def test_bad_lines_do_not_disturb_good_ones(shop: Export, labelled: bool) -> None:
    good, bad_lines = (GOOD, BAD_LINES) if labelled else (GOOD_UNLABELLED, BAD_UNLABELLED_LINES)
    mixed = [line for bad, _ in bad_lines for line in (bad, good)]
    (alone,) = shop.tsv([GOOD])["p_click"]
    np.testing.assert_allclose(shop.tsv(mixed, labelled)["p_click"][1::2], alone, atol=TOLERANCE)


def test_criteo_lines(criteo: Export) -> None:
    good = criteo.log[3]
    fields = good.split(b"\t")
    lines = [
        good,
        good + b"\r\n",
        b"\t".join(fields[1:]),
        b"\t".join(fields[:-1]) + b"\t",
        b"\t".join([b"1", *[b""] * 39]),
        b"\t".join([b"", *fields[1:]]),
        b"\t".join([b"1", b"1.5", *fields[2:]]),
        b"\t".join([*fields, b"x"]),
        b"\t".join(fields[:-2]),
        good.replace(b"\t", b","),
        b"\t".join([*fields[:-1], b"\xe9"]),
    ]
    expected = ["", "", "field_count", "", "", "label", "integer", *["field_count"] * 3, "invalid_utf8"]
    assert check_reasons(criteo, lines) == expected


def test_criteo_lines_without_label(criteo: Export) -> None:
    good = criteo.log[3]
    fields = good.split(b"\t")[1:]
    lines = [
        b"\t".join(fields),
        b"\t".join(fields) + b"\r\n",
        good,
        b"\t".join(fields[:-1]) + b"\t",
        b"\t" * 38,
        b"\t".join([b"1.5", *fields[1:]]),
        b"\t".join(fields[:-1]),
        b"\t".join(fields).replace(b"\t", b","),
        b"\t".join([*fields[:-1], b"\xe9"]),
    ]
    expected = ["", "", "field_count", "", "", "integer", "field_count", "field_count", "invalid_utf8"]
    assert check_reasons(criteo, lines, labelled=False) == expected
    found = criteo.tsv(lines[:2], labelled=False)["p_click"]
    np.testing.assert_allclose(found, criteo.tsv([good] * 2)["p_click"], rtol=0, atol=TOLERANCE)


TOKENS = st.sampled_from(
    [b"", b"0", b"1", b"-7", b"2.5", b"1e39", b"3e38", b"a.b", b"x", b"nan", b"\r", b"\n", b"\0", b"\xff", b" 1", b","]
    + ["é".encode(), "\ufeff".encode(), b"\xed\xa0\x80", b"9" * 19, b".", b"-", b'"', b"\t", b"\x85", b"\xc3"]
    + [b"65536", b"65537", b"2026-01-01", b"2026-01-01T10:20", b"2026-13-01"]
)
FIELDS = st.one_of(TOKENS, st.binary(max_size=6), st.text(max_size=5).map(lambda text: text.encode("utf-8", "ignore")))


@st.composite
def lines_like_rows(draw: st.DrawFn, good: bytes, of_labels: Sequence[int]) -> bytes:
    """The good line, with the fields of labels or without, with some fields replaced; or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=30))
    fields = good.split(b",")
    if draw(st.booleans()):
        fields = [field for place, field in enumerate(fields) if place not in of_labels]
    for place in draw(st.lists(st.integers(0, len(fields) - 1), max_size=3)):
        fields[place] = draw(FIELDS)
    ending = draw(st.sampled_from([b"", b"", b"", b"\r", b"\n", b"\r\n", b"\r\r", b"\n\r", b"\n\n", b","]))
    return b",".join(fields) + ending


@settings(deadline=None, max_examples=60)
@given(lines=st.lists(lines_like_rows(GOOD, [2]), min_size=1, max_size=12))
def test_any_lines_are_judged_and_scored_as_by_preprocess(shop: Export, lines: list[bytes]) -> None:
    check_scores(shop, lines)


@settings(deadline=None, max_examples=60)
@given(lines=st.lists(lines_like_rows(b",".join(VISIT.values()), [2, 7]), min_size=1, max_size=12))
def test_any_visits_are_judged_and_scored_as_by_preprocess(visits: Export, lines: list[bytes]) -> None:
    check_scores(visits, lines)


def check_scores(exported: Export, lines: list[bytes]) -> None:
    """Reasons as of the strict parser; of the good lines, probabilities as of parsed rows."""
    kept = [line.removesuffix(b"\n").removesuffix(b"\r") for line in lines]
    for labelled in (True, False):
        reasons = check_reasons(exported, lines, labelled)
        p_click = exported.tsv(lines, labelled)["p_click"]
        chosen = [i for i, line in enumerate(kept) if not reasons[i] and b"\n" not in line]
        if chosen:
            expected = exported.features_of([kept[i] for i in chosen], labelled)["p_click"]
            np.testing.assert_allclose(p_click[chosen], expected, rtol=0, atol=TOLERANCE)

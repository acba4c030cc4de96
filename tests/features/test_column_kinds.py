import re

import pytest

from features.column_kinds import find_kinds, words
from features.errors import DataError
from features.samples import SEVERAL, SampleColumn

ROWS = 200


def column(name: str, values: list[object], type: str | None = None) -> SampleColumn:
    """The values over and over, in as many rows as the other columns have."""
    return SampleColumn(name, tuple(str(values[i % len(values)]) for i in range(ROWS)), type)


LABEL = column("click", [0, 0, 1])
UNIQUE = [f"{i:032x}" for i in range(ROWS)]
NUMBERS = list(range(1000, 1000 + ROWS))


@pytest.mark.parametrize(
    ("name", "values", "type", "kind", "reason"),
    [
        # Numbers
        ("price", [1.5, 2, 0.25], None, "float", "decimal"),
        ("price", ["1.5", "", "3"], None, "float", "decimal"),
        ("price", [1, 2, 30], None, "integer", "integers"),
        ("position", [1, 2, 3], None, "integer", "integers"),
        ("user_age", [20, 30, 44], None, "integer", "integers"),
        ("pageViews", [1, 2, 7], None, "integer", "integers"),
        ("I3", [1, -2, 7], None, "integer", "integers"),
        ("hour", [0, 5, 23], None, "integer", "integers"),
        ("x", [*([5] * 199), "bad"], None, "integer", "integers"),
        ("x", [*([5] * 190), *(["bad"] * 10)], None, "categorical", "text"),
        ("x", [""], None, "categorical", "no value"),
        ("x", [""], "float", "float", "no value"),
        ("campaign_id", ["1", "2"], "float", "integer", "integers"),
        # Numbers that are names
        ("campaign_id", [1, 2, 3], None, "categorical", "integers that name things.* 3 distinct values"),
        ("adGroup", [1, 2, 3], None, "categorical", "integers that name things"),
        ("itemid", [7, 8, 9], None, "categorical", "integers that name things"),
        ("site", [1, 2, 3], None, "categorical", "integers that name things"),
        ("C14", [15706, 2], None, "categorical", "integers that name things"),
        ("user_id", [7, 8], None, "group", "names a user"),
        ("code", ["007", "012", "100"], None, "categorical", "leading zeros"),
        ("x", ["007", "012", "100"], None, "categorical", "leading zeros"),
        ("x", ["1234567890123456789"], None, "categorical", "at most 18 digits"),
        ("x", [10**14, 10**14 + 1], None, "categorical", "very large"),
        ("x", ["5", "6"], "text", "categorical", "digits kept as text"),
        ("x", ["5.5", "6.5"], "text", "float", "decimal"),
        ("is_new", [0, 1], None, "categorical", "a flag"),
        # Text
        ("country", ["DE", "FR", ""], None, "categorical", "text, 2 distinct values"),
        ("country", ["DE"], None, "categorical", "text, 1 distinct value$"),
        ("x", ["a1b2c3d4", "00112233"], None, "categorical", "hexadecimal codes"),
        ("x", ["true", "false"], "true or false", "categorical", "true and false"),
        ("tags", ["a", "a|b", "a|b|c", "b|c|d|e"], None, "key", r"several values a row, joined by '\|'"),
        ("title", ["Hello, world", "a, b, c, and d", "one", "x, y, z"], None, "categorical", "text"),
        ("x", [], SEVERAL, "", "several values a row are not supported"),
        ("x", [], "duration[s]", "", r"type duration\[s\] are not supported"),
        # Names of rows
        ("id", NUMBERS, None, "key", "a value of its own"),
        ("request_id", UNIQUE, None, "key", "a value of its own"),
        ("x", UNIQUE, None, "key", "a value of its own"),
        ("device_hash", UNIQUE, None, "categorical", "hexadecimal"),
        ("itemId", NUMBERS, None, "categorical", "integers that name things"),
        ("impression_count", NUMBERS, None, "integer", "integers"),
        ("offset", UNIQUE, None, "categorical", "hexadecimal"),
        # Groups
        ("request_id", NUMBERS[:50], None, "group", "names a request, 50 distinct values; make it categorical"),
        ("session", ["a", "b"], None, "group", "names a session"),
        ("session", ["a", ""], None, "categorical", "text"),
        ("hashed_user_id", ["ab", "cd"], None, "group", "names a user"),
        # Times
        ("ts", [1700000000, 1700000001], None, "time", "times or dates"),
        ("hour", [14102100, 14102101], None, "time", "times or dates"),
        ("x", ["2024-01-02T03:04:05Z", "2024-01-02 03:04"], None, "time", "times or dates"),
        ("event_date", ["2024-01-02"], None, "time", "times or dates"),
        ("date", ["2024-01-02", ""], None, "categorical", "text"),
        ("date", ["2024-13-02"], None, "categorical", "text"),
        ("ts", ["1700000000"], "float", "integer", "integers"),
        # Weights
        ("sample_weight", [0.5, 1], None, "weight", "named weight"),
        ("weight", [1, 0], None, "weight", "named weight"),
        ("weight", [1, -1], None, "integer", "integers"),
        ("weight", [1, 2, ""], None, "integer", "integers"),
        ("weight", [1.5, 65537], None, "float", "decimal"),
    ],
)
def test_kind_and_reason(name, values, type, kind, reason):
    found = find_kinds([SampleColumn(name, (), type) if not values else column(name, values, type), LABEL], "log")
    assert found["click"][0] == "label"
    assert found[name][0] == kind
    assert re.search(reason, found[name][1])


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ([("is_new", [0, 1]), ("Clicked", [0, 1])], "Clicked"),
        ([("y", [0, 1]), ("label", [0, 1])], "label"),
        ([("click", [0, 2]), ("target", [0, 1])], "target"),
        ([("click", [0, 1, ""]), ("target", [0, 1])], "target"),
        ([("f1", [0, 1]), ("f2", [0, 1])], "f1"),
        ([("f1", ["a"]), ("f2", [0, 1])], "f2"),
        ([("is_click", [0] * 199 + ["x"]), ("f2", ["a"])], "is_click"),
    ],
)
def test_label(columns, label):
    found = find_kinds([column(name, values) for name, values in columns], "log")
    assert [name for name, (kind, _) in found.items() if kind == "label"] == [label]


def test_label_of_truth_values():
    columns = [column("seen", ["true", "false"], "true or false"), column("click", ["true", "false"], "true or false")]
    assert find_kinds(columns, "log")["click"][0] == "label"
    with pytest.raises(DataError, match="Received: none"):
        find_kinds([column("click", ["true", "false"])], "log")


@pytest.mark.parametrize("names", [[], ["f2", "f3"]])
def test_no_label_or_too_many(names):
    columns = [column("f1", ["a"]), *(column(name, [0, 1]) for name in names)]
    with pytest.raises(DataError, match=rf"must be the label.* Received: {', '.join(names) or 'none'} \(day/log,"):
        find_kinds(columns, "day/log")


def test_outcomes():
    columns = [
        LABEL,
        column("isConversion", [0, 1]),
        column("purchased", [0, 1]),
        column("conversion_count", [0, 3]),
        column("bought", [0, ""]),
        column("is_new", [0, 1]),
    ]
    kinds = {name: kind for name, (kind, _) in find_kinds(columns, "log").items()}
    assert [name for name, kind in kinds.items() if kind == "outcome"] == ["isConversion", "purchased"]


def test_one_time_one_weight_and_one_group():
    columns = [
        LABEL,
        column("date", ["2024-01-02"]),
        column("created", ["2024-01-02 10:00"]),
        column("user_id", [1, 2]),
        column("session_id", [1, 2, 3]),
        column("weight", [1, 2]),
        column("other_weight", [1, 2]),
    ]
    found = find_kinds(columns, "log")
    assert [kind for kind, _ in found.values()] == ["label", "time", "key", "categorical", "group", "weight", "integer"]
    assert "another time" in found["created"][1]


def test_words():
    assert words("adGroupId_2") == ["ad", "group", "id", "2"]
    assert words("USER-ID") == ["user", "id"] and words("HTTPCode") == ["http", "code"] and words("C14") == ["c", "14"]

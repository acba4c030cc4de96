"""What kind a column of an unknown log probably has, by its values and its name, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence

from features.errors import DataError
from features.samples import SEVERAL, SampleColumn
from features.schema import CATEGORICAL, FLOAT, GROUP, INTEGER, KEY, LABEL, OUTCOME, RESERVED, TIME, WEIGHT
from features.strict import FLOAT_PATTERN, INTEGER_PATTERN, MAX_WEIGHT, TIME_PATTERN, TIMESTAMP_PATTERN, WEIGHT_PATTERN

Finding = tuple[str, str]
"""A kind, "" for a column that is left out, and the reason."""

LEFT_OUT = ""
_MOST = 0.99
_NEARLY_UNIQUE = 0.95
_FEW_ROWS = 20
_LABELS = ("label", "click", "clicked", "isclick", "isclicked", "clk", "y", "target")
_GROUPS = ("request", "impression", "query", "auction", "session", "visit", "user", "member", "visitor", "cookie")
_ROWS = frozenset("id uuid guid key row request impression event auction click".split())
_THINGS = frozenset(
    "ad adgroup adset advertiser app article banner brand browser campaign cat category channel city cms code country "
    "creative customer dest device domain format gender genre geo goods group hash host id ip item keyword lang "
    "language location member merchant model network os page partner placement platform product province publisher "
    "query region segment seller session shop site sku slot source state store tag type uid user vendor visitor zip "
    "zone".split()
)
_MEASURES = frozenset(
    "age amount avg bid budget clicks cnt cost count counts ctr days depth duration freq frequency height hours "
    "impressions len length mean minutes num number pos position price rank rate ratio score seconds size sum total "
    "views width".split()
)
_TIMES = frozenset("time timestamp ts date datetime hour day when".split())
_OUTCOMES = frozenset("conversion conversions convert converted purchase purchased bought".split())
_WHOLE_NUMBER, _ZERO_OR_ONE = r"0|-?[1-9][0-9]{0,17}", r"[01]"


def find_kinds(columns: Sequence[SampleColumn], source: str) -> dict[str, Finding]:
    """Proposes a kind for each column.

    Args:
        columns: of the sample.
        source: the log's name, for errors.

    Returns:
        A finding for each column, by name.

    Raises:
        DataError: no column can be the label, or several can and none is named like one.
    """
    found = {column.name: finding for column in columns if (finding := _left_out(column))}
    found |= _find_label([column for column in columns if column.name not in found], source)
    for find in (_find_outcomes, _find_weight, _find_time, _find_group):
        # The names of the columns of predictions are taken.
        found |= find([column for column in columns if column.name not in {*found, *RESERVED}])
    return {column.name: found.get(column.name) or _kind(column) for column in columns}


def words(name: str) -> list[str]:
    """The words of a name in lower case: "adGroupId_2" has ad, group, id and 2."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]


def _left_out(column: SampleColumn) -> Finding | None:
    if column.type == SEVERAL:
        return LEFT_OUT, "several values a row are not supported: give each value a column of its own"
    if column.type is not None and not column.texts:
        return LEFT_OUT, f"values of type {column.type} are not supported"
    return None


def _find_label(columns: Sequence[SampleColumn], source: str) -> dict[str, Finding]:
    able = [column for column in columns if _can_be_label(column)]
    named = {"".join(words(column.name)): column for column in reversed(able)}
    for name in _LABELS:
        if name in named:
            return {named[name].name: (LABEL, f"only 0 and 1, and named {name}")}
    if len(able) == 1 or (able and able[0] is columns[0]):
        return {able[0].name: (LABEL, "the only column of 0 and 1" if len(able) == 1 else "the first of 0 and 1")}
    names = ", ".join(column.name for column in able) or "none"
    raise DataError(
        f"One column of the log must be the label: 0 and 1 in every row, named {', '.join(_LABELS)} or first. "
        f"Received: {names} ({source}, columns of 0 and 1)."
    )


def _can_be_label(column: SampleColumn) -> bool:
    complete = len(column.present) >= _MOST * len(column.texts) > 0
    return complete and (column.type == "true or false" or column.share(_ZERO_OR_ONE) >= _MOST)


def _find_outcomes(columns: Sequence[SampleColumn]) -> dict[str, Finding]:
    """Columns that tell what came of a click: a model that saw them would know the label."""
    able = [column for column in columns if _can_be_label(column) and _OUTCOMES & set(words(column.name))]
    return {column.name: (OUTCOME, "only 0 and 1, and named as what follows a click") for column in able}


def _find_weight(columns: Sequence[SampleColumn]) -> dict[str, Finding]:
    for column in columns:
        able = _complete(column, WEIGHT_PATTERN) and all(
            float(text) <= MAX_WEIGHT for text in column.distinct if re.fullmatch(WEIGHT_PATTERN, text)
        )
        if able and "weight" in words(column.name):
            return {column.name: (WEIGHT, "not negative, and named weight")}
    return {}


def _find_time(columns: Sequence[SampleColumn]) -> dict[str, Finding]:
    able = [column for column in columns if column.type != "float" and _complete(column, TIME_PATTERN)]
    named = [column for column in able if _TIMES & set(words(column.name))]
    # Eight digits are the least of a date or of seconds since 1970; less is an hour or a duration.
    times = [column for column in named if column.share(rf"[0-9]{{8,18}}|{TIMESTAMP_PATTERN}") >= _MOST]
    times += [column for column in able if column not in times and column.share(TIMESTAMP_PATTERN) >= _MOST]
    others = {column.name: (KEY, "another time: only one column may be the time") for column in times[1:]}
    return {column.name: (TIME, "times or dates") for column in times[:1]} | others


def _find_group(columns: Sequence[SampleColumn]) -> dict[str, Finding]:
    for thing in _GROUPS:
        for column in columns:
            name = "".join(words(column.name))
            named = name == thing or name.endswith((f"{thing}id", f"{thing}hash", f"{thing}key"))
            if named and _complete(column, "(?s:.+)") and not _unique(column):
                reason = f"names a {thing}, {_distinct(column)}; make it categorical to learn from it"
                return {column.name: (GROUP, reason)}
    return {}


def _kind(column: SampleColumn) -> Finding:
    """The kind of a column of which there may be many."""
    if not column.present:
        return (FLOAT, "no value in the sample") if column.type == "float" else (CATEGORICAL, "no value in the sample")
    if column.name not in RESERVED and _is_row_name(column):
        return KEY, "a value of its own in nearly every row"
    if column.name not in RESERVED and (separator := _separator(column)):
        return KEY, f"several values a row, joined by {separator!r}, are not supported: passed through"
    if column.type == "float" or column.share(FLOAT_PATTERN) >= _MOST:
        return _number(column)
    if column.type == "true or false":
        return CATEGORICAL, "true and false"
    what = "hexadecimal codes" if column.share(r"[0-9a-fA-F]{6,64}") >= _MOST else "text"
    return CATEGORICAL, f"{what}, {_distinct(column)}"


def _number(column: SampleColumn) -> Finding:
    whole = column.share(_WHOLE_NUMBER) >= _MOST
    if column.type != "float":  # nothing else may be categorical
        if reason := _no_measure(column, whole):
            return CATEGORICAL, f"{reason}, {_distinct(column)}"
    if whole or column.share(INTEGER_PATTERN) >= _MOST:
        return INTEGER, "integers"
    return FLOAT, "decimal numbers"


def _no_measure(column: SampleColumn, whole: bool) -> str:
    """Why numbers are names rather than measures; "" if nothing says so."""
    if column.share(r"-?[0-9]+") < _MOST:
        return ""
    if not whole:
        return "digits that are no numbers of at most 18 digits without leading zeros"
    if column.type == "text":
        return "digits kept as text"
    if _names_things(column.name) or re.fullmatch(r"(?i)c(at)?_?[0-9]+", column.name):
        return "integers that name things, by the column's name"
    if len(column.texts) >= 5 * _FEW_ROWS and column.distinct <= {"0", "1"}:
        return "a flag"
    if sorted(map(len, column.present))[len(column.present) // 2] >= 12:
        return "very large integers"
    return ""


def _is_row_name(column: SampleColumn) -> bool:
    known = _stems(column.name)
    if not _unique(column) or column.type == "true or false" or known & (_THINGS - _ROWS):
        return False
    coded = column.share(r"[0-9a-fA-F]{16,64}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}") >= _MOST
    return coded or bool(known & _ROWS and column.share(r".*\..*") < _MOST and not known & _MEASURES)


def _names_things(name: str) -> bool:
    known = _stems(name)
    return "id" in known or bool(known & _THINGS and not known & _MEASURES)


def _stems(name: str) -> set[str]:
    """The words of a name, those that end with "id" as two."""
    found = words(name)
    ids = [word for word in found if word.endswith("id") and word[:-2] in _THINGS | _ROWS]
    return {*found, *(word[:-2] for word in ids), *(["id"] if ids else [])}


def _complete(column: SampleColumn, pattern: str) -> bool:
    return len(column.present) >= _MOST * len(column.texts) > 0 and column.share(pattern) >= _MOST


def _unique(column: SampleColumn) -> bool:
    return len(column.present) >= _FEW_ROWS and len(column.distinct) >= _NEARLY_UNIQUE * len(column.present)


def _separator(column: SampleColumn) -> str:
    """What joins several values in the fields of a column; "" if nothing does."""
    for separator in "|;,^":
        joined = [text for text in column.present if separator in text]
        parts = {text.count(separator) for text in joined}
        plain = all(re.fullmatch(r"[\w.:-]*", part) for text in joined for part in text.split(separator))
        if len(joined) > 0.2 * len(column.present) and len(parts) > 2 and plain:
            return separator
    return ""


def _distinct(column: SampleColumn) -> str:
    return f"{len(column.distinct):,} distinct value{'s' * (len(column.distinct) != 1)}"

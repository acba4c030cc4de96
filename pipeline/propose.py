"""``schema``: a proposal for the schema of a log, from its first rows."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable

import pandas as pd

from features.json_lines import parse_json_chunk
from features.lines import BYTE_ORDER_MARK, Chunk
from features.parquet_rows import bytes_per_row, check_columns, count_rows, first_rows, read_rows
from features.parsing import parse_chunk
from features.proposal import Proposal, propose_schema
from features.rejects import Reject
from features.samples import sample_lines, sample_parquet
from features.schema import JSON, Schema
from pipeline import storage
from pipeline.storage import InputFile

SAMPLE_ROWS = 10_000
SAMPLE_BYTES = 8 << 20
_PARQUET = b"PAR1"


def propose(path: str, output: str | None) -> str:
    """Proposes a schema for a log, and tries it on the sample that it was made from.

    Args:
        path: of a file of the log, local or remote, possibly compressed.
        output: where to write the schema too, if anywhere.

    Returns:
        The schema as JSON. The table of the columns goes to standard error.

    Raises:
        DataError: the file holds no rows, has no columns of the kinds that are needed, or is damaged.
    """
    (file,) = storage.find_inputs([path])[:1]
    with storage.open_read(file.path) as stream:
        is_parquet = stream.read(len(_PARQUET)) == _PARQUET
    proposal, rows, rejects = _from_parquet(file) if is_parquet else _from_lines(file)
    text = _json(proposal.schema)
    print(f"{_show(proposal.columns)}\n\n{_verdict(rows, rejects)}", file=sys.stderr)
    if output is not None:
        storage.write_bytes(output, f"{text}\n".encode())
    return text


def _from_lines(file: InputFile) -> tuple[Proposal, int, list[Reject]]:
    data = _first_lines(file)
    proposal = propose_schema(sample_lines(data, file.path), file.path)
    body = data.removeprefix(BYTE_ORDER_MARK)
    parse = parse_json_chunk if proposal.schema.format == JSON else parse_chunk
    parsed = parse(Chunk(len(data) - len(body), body), proposal.schema, True)
    return proposal, len(parsed), parsed.rejects


def _first_lines(file: InputFile) -> bytes:
    """The first whole lines of a log."""
    with storage.open_log(file) as stream:
        data, ended = b"", False
        while len(data) < SAMPLE_BYTES and not ended:
            part = stream.read(SAMPLE_BYTES - len(data))
            data, ended = data + part, not part
    *lines, rest = data.split(b"\n", SAMPLE_ROWS)
    whole = b"".join(line + b"\n" for line in lines)
    return whole + rest if ended and len(lines) < SAMPLE_ROWS else whole


def _from_parquet(file: InputFile) -> tuple[Proposal, int, list[Reject]]:
    with storage.open_read(file.path) as stream:
        rows = min(count_rows(stream), SAMPLE_ROWS, 1 + int(SAMPLE_BYTES / max(1.0, bytes_per_row(stream))))
        proposal = propose_schema(sample_parquet(first_rows(stream, rows, file.path)), file.path)
        check_columns(stream, proposal.schema, True, file.path)
        parts = list(read_rows(stream, 0, rows, proposal.schema, True, file.path))
    return proposal, sum(map(len, parts)), [reject for part in parts for reject in part.rejects]


def _json(schema: Schema) -> str:
    """The schema for people to change: a line a column."""
    head, columns = schema.to_json(), []
    for column in head.pop("columns"):
        columns.append(f"  {json.dumps(column, ensure_ascii=False)}")
    lines = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    return "\n".join(["{", *lines, ' "columns": [', ",\n".join(columns), " ]", "}"])


def _show(columns: pd.DataFrame) -> str:
    shares = ["" if pd.isna(share) else f"{share:.1%}" for share in columns["missing"]]
    table = columns.assign(missing=shares, distinct=[f"{number:,}" for number in columns["distinct"]])
    lines = table.to_string(index=False, justify="left", formatters=_left(table)).split("\n")
    return "\n".join(line.rstrip() for line in lines)


def _left(table: pd.DataFrame) -> dict[str, Callable[[str], str]]:
    """Formatters that set texts flush left."""
    texts = ("column", "kind", "example", "reason")
    return {name: f"{{:<{max(map(len, [name, *table[name]]))}}}".format for name in texts}


def _verdict(rows: int, rejects: list[Reject]) -> str:
    text = f"Tried on the first {rows + len(rejects):,} rows: {len(rejects):,} rejected"
    if not rejects:
        return f"{text}."
    reasons = Counter(reject.reason for reject in rejects).most_common()
    first = f"first: {rejects[0].detail}, at {rejects[0].offset}"
    return f"{text} ({', '.join(f'{reason} {number:,}' for reason, number in reasons)}; {first})."

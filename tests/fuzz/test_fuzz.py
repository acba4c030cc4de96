"""The fuzzer's corpus, without the fuzzer: its inputs reach what they are there for and find nothing."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from types import ModuleType

import json_target
import logs
import pytest
import record_target
import text_target
from drawing import Draw
from hypothesis import given, settings
from hypothesis import strategies as st

from features import strict
from features.blocks import Block
from features.errors import ArtifactError
from features.json_lines import parse_json_chunk
from features.lines import Chunk
from features.parsing import parse_chunk
from features.rows import ParsedRows
from features.schema import Schema
from features.strict import MAX_LINE_BYTES, REASONS, parse_line
from features.targets import TargetBlock

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*_target/*"))
TARGETS = (text_target, json_target, record_target)


@pytest.mark.parametrize("path", INPUTS)
def test_corpus(path: str) -> None:
    importlib.import_module(path.split("/")[0]).check((CORPUS / path).read_bytes())


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(TARGETS), st.binary(max_size=200))
def test_any_input_means_something(target: ModuleType, data: bytes) -> None:
    target.check(data)


@pytest.mark.parametrize(
    ("target", "parse", "more"),
    [(text_target, parse_chunk, {"field_count"}), (json_target, parse_json_chunk, {"json", "multiple_values"})],
)
def test_the_corpus_has_good_lines_and_bad_ones_of_every_kind(
    target: ModuleType, parse: logs.ParseChunk, more: set[str]
) -> None:
    reasons, rows = set(), 0
    for path in (CORPUS / target.__name__).iterdir():
        log = target.log_of(path.read_bytes())
        if not log.schema.header:
            parsed = parse(Chunk(0, log.data), log.schema, log.labelled)
            rows += len(parsed)
            reasons |= {reject.reason for reject in parsed.rejects}
    assert rows >= 10 and reasons >= set(REASONS) - {"too_long", "field_count", "json", "multiple_values"} | more


def test_the_corpus_has_every_kind_of_record() -> None:
    found: set[object] = set()
    for path in (CORPUS / "record_target").iterdir():
        is_file, record = record_target.input_of(path.read_bytes())
        if not is_file:
            with contextlib.suppress(ArtifactError):
                block = Block.decode(record)
                found.add((block.weights is None, block.groups is None))
            with contextlib.suppress(ArtifactError):
                found.add(len(TargetBlock.decode(record).logits) > 0)
    assert found >= {True, (True, True), (False, False)}


def test_a_parser_that_loses_a_reject_is_found() -> None:
    def forgetful(chunk: Chunk, schema: Schema, labelled: bool) -> ParsedRows:
        parsed = parse_chunk(chunk, schema, labelled)
        parsed.rejects.clear()
        return parsed

    log = logs.Log(text_target.SCHEMAS[0], True, b"1\t2\t3\ta\n2\t2\t3\ta\n", [4], 5, 1)
    logs.check(log, parse_chunk, parse_line)
    with pytest.raises(AssertionError, match="strict: .*expected 0 or 1"):
        logs.check(log, forgetful, parse_line)


def test_limits_are_put_back() -> None:
    log = logs.Log(text_target.SCHEMAS[0], True, b"x" * 301, [], 50, 1)
    logs.check(log, parse_chunk, parse_line)
    assert strict.MAX_LINE_BYTES == MAX_LINE_BYTES == 1 << 20


def test_draw_takes_bytes_in_order_and_ends_in_zeros() -> None:
    draw = Draw(b"\x07\x05abcde\x02\x03\x04")
    assert draw.below(4) == 3 and draw.take(draw.byte()) == b"abcde"
    assert draw.text(b"xyz", 4) == b"xy"
    assert not draw and draw.byte() == 0 and draw.choice("ab") == "a" and draw.rest() == b""

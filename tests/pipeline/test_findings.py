"""What is wrong is collected, worded and counted."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from features.errors import ArtifactError
from pipeline.findings import Findings


def test_rules_that_hold_and_do_not() -> None:
    findings = Findings()
    assert findings.check(True, "A", 1, "x") and findings.equal(2, 2, "B", "y")
    assert not findings.check(False, "A must be so", 1, "x") and not findings.equal(3, 2, "B", "y")
    assert findings.wrong == ["A must be so. Received: 1 (x).", "B must be 2. Received: 3 (y)."]


@pytest.mark.parametrize(
    ("wrong", "message"), [(["a.", "b.", "c."], "a. And 2 more."), (["a.", "b."], "a. And 1 more."), (["a."], "a.")]
)
def test_the_first_is_raised_and_the_others_are_counted(wrong: list[str], message: str) -> None:
    Findings().raise_if_any()
    with pytest.raises(ArtifactError) as error:
        Findings(wrong).raise_if_any()
    assert str(error.value) == message


def test_text() -> None:
    findings = Findings(["A must be so. Received: 1 (x)."], [("files", "3"), ("lines", "10 counted")])
    assert findings.as_text() == "files  3\nlines  10 counted\nwrong: A must be so. Received: 1 (x)."
    assert Findings().as_text() == ""


@pytest.mark.parametrize(
    ("change", "received"),
    [
        ({}, None),
        ({"bytes": 4}, "3 bytes for 4"),
        ({"checksum": "sha256:0"}, f"another checksum, sha256:{hashlib.sha256(b'abc').hexdigest()}"),
    ],
)
def test_files_of_a_manifest(tmp_path: Path, change: dict[str, Any], received: str | None) -> None:
    path, findings = tmp_path / "file", Findings()
    path.write_bytes(b"abc")
    entry = {"bytes": 3, "checksum": f"sha256:{hashlib.sha256(b'abc').hexdigest()}"} | change
    assert findings.read(str(path), entry) == (None if received else b"abc")
    rule = "A file must have the bytes and the checksum of its manifest"
    assert findings.wrong == ([f"{rule}. Received: {received} ({path})."] if received else [])


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    findings = Findings()
    assert findings.read(str(tmp_path / "none"), {"bytes": 0, "checksum": ""}) is None
    assert findings.wrong[0].startswith("A file must exist and be readable. Received: ")

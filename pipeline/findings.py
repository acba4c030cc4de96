"""What ``verify`` has found wrong, and what it has proved."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from features.errors import ArtifactError
from pipeline import storage


@dataclass
class Findings:
    """Collects what is wrong instead of stopping at the first.

    Args:
        wrong: a sentence each: what must hold, what was received, where.
        proved: what has been checked, with numbers, for people.
    """

    wrong: list[str] = field(default_factory=list)
    proved: list[tuple[str, str]] = field(default_factory=list)

    def check(self, holds: bool, rule: str, received: object, where: str) -> bool:
        """Notes a finding unless something holds; returns whether it does."""
        if not holds:
            self.wrong.append(f"{rule}. Received: {received} ({where}).")
        return bool(holds)

    def equal(self, received: Any, expected: Any, what: str, where: str) -> bool:
        """Notes a finding unless two plain values are equal."""
        return self.check(bool(received == expected), f"{what} must be {expected}", received, where)

    def read(self, path: str, entry: dict[str, Any]) -> bytes | None:
        """The bytes of a file that a manifest's entry describes; None, and a finding, unless they are as it says."""
        try:
            with storage.open_read(path) as file:
                data = file.read()
        except ArtifactError as error:
            self.wrong.append(str(error))
            return None
        checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
        rule = "A file must have the bytes and the checksum of its manifest"
        whole = self.check(len(data) == entry["bytes"], rule, f"{len(data)} bytes for {entry['bytes']}", path)
        whole = whole and self.check(checksum == entry["checksum"], rule, f"another checksum, {checksum}", path)
        return data if whole else None

    def as_text(self) -> str:
        """A line for each proof, and one for each finding."""
        width = max((len(name) for name, _ in self.proved), default=0)
        lines = [f"{name:<{width}}  {value}" for name, value in self.proved]
        return "\n".join([*lines, *(f"wrong: {text}" for text in self.wrong)])

    def raise_if_any(self) -> None:
        """Raises an ArtifactError with the first finding and the number of the others."""
        if self.wrong:
            others = f" And {len(self.wrong) - 1} more." if len(self.wrong) > 1 else ""
            raise ArtifactError(f"{self.wrong[0]}{others}")

"""``export``: another model of a finished student, from its stored weights: smaller, or of a given size."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from features.errors import ConfigError
from pipeline import storage
from pipeline.progress import Progress
from pipeline.settings import SERVED, StudentConfig, require
from pipeline.stage_inputs import require_local, require_validation
from pipeline.stored_student import Candidate, StoredStudent
from pipeline.workspace import Run

VERSION = "1"
SIZES_FILE = "assets.extra/sizes.json"
LADDER = (1, 2, 4, 8, 16, 32, 64)
"""How many times the training's ``min_count`` is tried for a target."""

_PARTS = {"assets": "keys", "variables": "weights", "saved_model.pb": "graph"}
"""What the bytes of a model's files are; all others are its features, requests and card."""


@dataclass(frozen=True)
class Asked:
    """What a model is to be like; None where the student's settings decide or, for a target, the logloss.

    Args:
        served: precision of embedding rows, one of :data:`pipeline.settings.SERVED`.
        min_count: training rows below which a value loses its row.
        target_bytes: most bytes of the model's folder.
        subclasses: whether the model gives probabilities of subclasses too.
    """

    served: str | None = None
    min_count: int | None = None
    target_bytes: int | None = None
    subclasses: bool = False

    def choices(self, config: StudentConfig) -> list[tuple[str, int]]:
        """Precisions with min_counts that are to be looked at, for a student with these settings."""
        if not self.target_bytes:
            return [(self.served or config.served, self.min_count or config.min_count)]
        ladder = [config.min_count * step for step in LADDER]
        return [
            (served, count)
            for served in ([self.served] if self.served else SERVED)
            for count in ([self.min_count] if self.min_count else ladder)
        ]


@dataclass(frozen=True)
class Exported:
    """What was exported, and what else was looked at.

    Args:
        path: of the model's folder.
        parts: bytes of its files: keys (values of the vocabularies), weights, graph, and other.
        table: a row for the float32 model and for each that was looked at: served, min_count, values, least_bytes (of
            values and rows alone), bytes (of the whole folder; None where none was left), logloss by split and its
            difference from the float32 model.
    """

    path: str
    parts: dict[str, int]
    table: pd.DataFrame

    def as_text(self) -> str:
        """The table and the parts, for people."""
        formats = {"values": "{:,.0f}", "least_bytes": "{:,.0f}", "bytes": "{:,.0f}"}
        shown = self.table.copy()
        for name in shown.columns[2:]:
            form = formats.get(name) or ("{:+.6f}" if name.endswith("difference") else "{:.6f}")
            shown[name] = [form.format(value) if pd.notna(value) else "" for value in shown[name]]
        shown.columns = [name.replace("_", " ") for name in shown.columns]
        parts = ", ".join(f"{name} {size:,}" for name, size in self.parts.items())
        return f"{shown.to_string(index=False)}\n\n{self.path}: {sum(self.parts.values()):,} bytes ({parts})"


def export(run: Run, stage: str, output: str, asked: Asked) -> Exported:
    """Exports a finished student once more, into ``output/1``.

    Args:
        run: the run directory.
        stage: of the student, or of the mean of its generations.
        output: a new or empty local folder.
        asked: what the model is to be like.

    Raises:
        ArtifactError: there is no such student with its weights, or it was made from other examples.
        ConfigError: what is asked for cannot be, no model is as small as the target, or the run is remote.
        DataError: a target, in a run without validation rows to choose by.
    """
    _require_new(output)
    require_local(run)
    student = StoredStudent.read(run, stage)
    _require_possible(asked, student)
    plain, choices = ("float32", student.config.min_count), asked.choices(student.config)
    candidates = _measure(student, list(dict.fromkeys([plain, *choices])))
    reached, path = [], storage.join(output.rstrip("/"), VERSION)
    with storage.publish_folder(path) as folder:
        for candidate in in_order([candidates[choice] for choice in choices], asked.target_bytes):
            storage.remove(folder)
            student.save(folder, candidate, asked.subclasses)
            table = size_table(list(candidates.values()), candidate)
            parts = write_sizes(folder, table)
            reached.append(sum(parts.values()))
            if not asked.target_bytes or reached[-1] <= asked.target_bytes:
                return Exported(path, parts, with_bytes(table, reached[-1]))
        raise ConfigError(
            f"--target-bytes must be at least {min(reached)}, the bytes of the smallest model. Received: "
            f"{asked.target_bytes} ({run.file(stage)})."
        )


def _measure(student: StoredStudent, choices: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Candidate]:
    progress = Progress("export", len(choices), "models")
    found = {}
    for choice in choices:
        found[choice] = student.measure(*choice)
        progress.update(len(found))
    progress.close(f"{len(found)} models measured")
    return found


def in_order(candidates: Sequence[Candidate], target_bytes: int | None) -> list[Candidate]:
    """The candidates that may be as small as a target, the best first; the smallest if none may be.

    The best has the lowest validation logloss, of those that are equal to five digits the smallest.
    """
    if not target_bytes:
        return list(candidates)
    possible = [candidate for candidate in candidates if candidate.least_bytes <= target_bytes]
    possible = possible or [min(candidates, key=lambda candidate: candidate.least_bytes)]
    return sorted(possible, key=lambda candidate: (round(candidate.logloss["valid"], 5), candidate.least_bytes))


def size_table(candidates: Sequence[Candidate], exported: Candidate) -> pd.DataFrame:
    """The table of :class:`Exported`, with 0 for the exported model's bytes; the first candidate is the float32 one."""
    rows = []
    for candidate in candidates:
        row: dict[str, Any] = {
            name: getattr(candidate, name) for name in ("served", "min_count", "values", "least_bytes")
        }
        row["bytes"] = 0 if candidate is exported else None
        for split, loss in candidate.logloss.items():
            row |= {f"{split}_logloss": loss, f"{split}_difference": loss - candidates[0].logloss[split]}
        rows.append(row)
    return pd.DataFrame(rows).astype({"bytes": "Int64"})


def with_bytes(table: pd.DataFrame, size: int) -> pd.DataFrame:
    """The table with the bytes of the exported model."""
    return table.assign(bytes=table["bytes"].where(table["bytes"].isna(), size))


def write_sizes(folder: str, table: pd.DataFrame) -> dict[str, int]:
    """Writes the table, and the parts, of a model into its folder; returns the parts, with this file in them."""
    parts = parts_of(folder)
    others, size = parts["other"], -1
    while size != sum(parts.values()):
        # The file says how large the folder is, and is in it.
        size = sum(parts.values())
        data = _sizes_json(parts, with_bytes(table, size))
        parts["other"] = others + len(data)
    storage.write_bytes(storage.join(folder, SIZES_FILE), data)
    return parts


def _sizes_json(parts: Mapping[str, int], table: pd.DataFrame) -> bytes:
    records = json.loads(table.to_json(orient="records", double_precision=15))
    return (json.dumps({"parts": parts, "models": records}, indent=1) + "\n").encode()


def parts_of(folder: str) -> dict[str, int]:
    """Bytes of a SavedModel's files by part."""
    parts = dict.fromkeys([*_PARTS.values(), "other"], 0)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        size = storage.size_of(path) if os.path.isdir(path) else os.path.getsize(path)
        parts[_PARTS.get(name, "other")] += size
    return parts


def _require_new(output: str) -> None:
    new = not storage.is_remote(output) and (
        not os.path.exists(output) or os.path.isdir(output) and not os.listdir(output)
    )
    require(new, "--output must be a new or empty local folder", output)


def _require_possible(asked: Asked, student: StoredStudent) -> None:
    least = student.config.min_count
    require(
        asked.min_count is None or asked.min_count >= least,
        f"--min-count must be at least that of the training, {least}",
        asked.min_count,
    )
    require(asked.target_bytes is None or asked.target_bytes > 0, "--target-bytes must be positive", asked.target_bytes)
    if asked.target_bytes:
        require_validation(student.data.spec)

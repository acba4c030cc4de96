"""Where the figures of a report come from: inputs, settings and versions, as (name, value)."""

from __future__ import annotations

from typing import Any

import yaml

from features.spec import ExamplesSpec
from pipeline import storage
from pipeline.workspace import EXAMPLES, TARGETS, Run


def of_examples(run: Run) -> list[tuple[str, str]]:
    """Returns what the examples of a run were made from, and with which packages."""
    spec, examples = run.spec(), run.manifest(EXAMPLES)
    rows = ", ".join(f"{split} {count:,}" for split, count in spec.rows.items())
    settings = ", ".join(f"{name} {value}" for name, value in examples["settings"].items())
    config = run.file("config.yaml")
    versions = yaml.safe_load(storage.read_text(config))["packages"] if storage.exists(config) else {}
    return [
        ("Inputs", ", ".join(item["path"] for item in examples["inputs"])),
        ("Rows", rows),
        ("Click rate of the training rows", f"{spec.base_rate:.4f}"),
        *weighting(spec),
        ("Rejects", f"{spec.rejects:,} of {spec.lines:,} lines"),
        ("Preprocessing", settings),
        ("Examples", run.identity(EXAMPLES)),
        ("Packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def of_models(run: Run, found: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns where the teacher's targets come from, and the settings of each model.

    Args:
        run: the run directory.
        found: what ``evaluate`` wrote.
    """
    origin = [("Refit of", found["refit"]["run"])] if "refit" in found else []
    teacher = [("Teacher", run.manifest(TARGETS)["teacher"]), ("Targets", run.identity(TARGETS))]
    return [*origin, *teacher, *_settings(found["models"])]


def weighting(spec: ExamplesSpec) -> list[tuple[str, str]]:
    """What rows count and how they are resampled, where that is not once and one by one: (name, value)."""
    rate, schema = spec.negative_rate, spec.schema
    sampled = f"{rate:g}; each that is left counts as {1 / rate:g}, and probabilities are those of the whole log"
    items = {
        "Weights of the rows": schema.weight and f"column {schema.weight}; metrics and click rates are weighted",
        "Share of the rows without click in the log": sampled if rate < 1 else None,
        "Intervals": schema.group and f"rows with the same {schema.group} are resampled together",
    }
    return [(name, text) for name, text in items.items() if text]


def _settings(models: dict[str, Any]) -> list[tuple[str, str]]:
    """The settings of each model; for students after the first only those that differ from the first one's."""
    rows, first = [], None
    for name, model in models.items():
        shown, title = model["settings"], f"Settings of {name}"
        if name != "teacher":
            first = first or shown
            if shown is not first:
                shown = {key: value for key, value in shown.items() if value != first[key]}
                title += ", where they differ from the first student's"
        rows.append((title, ", ".join(f"{key} {value}" for key, value in shown.items()) or "none"))
    return rows

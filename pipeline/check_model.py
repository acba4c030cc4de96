"""``check-model``: a student before it goes live, on labelled rows of a log, beside the one that is live now."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from features.errors import ConfigError, DataError
from features.rows import ParsedRows
from features.schema import Schema
from models.metrics import ClickMetrics, paired_difference
from pipeline import storage
from pipeline.check_latency import Latency, measure
from pipeline.check_limits import Limits, broken
from pipeline.check_slices import Slices
from pipeline.check_sums import Churn
from pipeline.checked_model import CheckedModel
from pipeline.evaluation import Evaluation
from pipeline.predict_plan import find_tasks
from pipeline.progress import Progress, amount
from pipeline.reading import read_ranges
from pipeline.scored_rows import ScoredRows

MODELS = ("new", "current")


@dataclasses.dataclass(frozen=True)
class CheckSettings:
    """What is checked, and on which rows.

    Args:
        limits: to keep.
        min_rows: fewer rows are an error.
        column: categorical column whose values are slices; empty for none.
        negative_rate: share of the rows without click that the log kept; None for that of the new model's log.
    """

    limits: Limits = Limits()
    min_rows: int = 1000
    column: str = ""
    negative_rate: float | None = None

    def __post_init__(self) -> None:
        rate = self.negative_rate
        if rate is not None and not 0 < rate <= 1:
            raise ConfigError(f"--negative-rate must be above 0 and at most 1. Received: {rate}.")


def check_model(model: str, inputs: Sequence[str], current: str | None, settings: CheckSettings) -> dict[str, Any]:
    """Scores the same rows with one or two students, and says which limits the new one breaks.

    Args:
        model: folder of the new SavedModel, or the folder above its version ``1``.
        inputs: paths and globs of logs with labels.
        current: the same of the one that is live now, if there is one.
        settings: what is checked.

    Returns:
        Plain values, not all finite: rows, rejects, negative_rate, models (of new and current: path, metrics with
        intervals, p50_ms, p99_ms, rows_per_second, bytes), differences by metric (new minus current, with interval),
        churn, slices, limits and broken.

    Raises:
        ArtifactError: there is no such model, or its logits are not finite.
        ConfigError: the models read logs of different columns, or the slice is no column.
        DataError: no input, a log without labels, of too few rows, or of one class.
    """
    models = [CheckedModel(model, "MODEL")] + ([CheckedModel(current, "--current")] if current else [])
    _require_same_columns(models)
    check = _Check(models, settings)
    check.read(inputs)
    return check.result()


def _require_same_columns(models: Sequence[CheckedModel]) -> None:
    """Both must read the same lines in the same way; their transforms are their own."""
    forms = [_form(model.schema) for model in models]
    if forms[0] != forms[-1]:
        differs = next(name for name, value in forms[0].items() if value != forms[-1][name])
        raise ConfigError(
            f"Both models must read the same log. Received: schemas with different {differs} ({models[0].folder}, "
            f"{models[-1].folder})."
        )


def _form(schema: Schema) -> dict[str, Any]:
    value = schema.to_json()
    pairs = [(column["name"], column["kind"]) for column in value.pop("columns")]
    return {"columns": pairs, "format": "", "delimiter": "", "header": False, **value}


class _Check:
    """What is known of the models after some rows."""

    def __init__(self, models: Sequence[CheckedModel], settings: CheckSettings) -> None:
        self._models, self._settings = models, settings
        self._names = MODELS[: len(models)]
        rate = settings.negative_rate
        self._rate = models[0].negative_rate if rate is None else rate
        self._evaluations = [Evaluation() for _ in models]
        self._slices = Slices(models[0].schema, self._names, settings.column)
        self._churn = Churn.empty()
        self._rejects = 0
        self._sample: ParsedRows | None = None

    def read(self, inputs: Sequence[str]) -> None:
        """Scores all rows of the logs."""
        files = storage.find_inputs(inputs)
        progress = Progress("check-model", None, "rows")
        for source, part in _parts(files, self._models[0].schema):
            self._rejects += len(part.rejects)
            if len(part):
                self._update(source, part)
                progress.update(self._metrics[0].sums[0].sum())
        storage.require_unchanged(files, "check the model again when it is whole")
        rows = int(self._metrics[0].sums[0].sum())
        if rows < self._settings.min_rows:
            raise DataError(f"The input must have at least {self._settings.min_rows} rows. Received: {rows}.")
        clicks = self._metrics[0].fine[2].sum()
        if not 0 < clicks < self._metrics[0].weight:
            raise DataError(f"The input must have clicks and rows without. Received: {clicks:g} clicks in {rows} rows.")
        progress.close(f"{amount(rows)} rows, {self._rejects} rejects")

    @property
    def _metrics(self) -> list[ClickMetrics]:
        return [evaluation.metrics for evaluation in self._evaluations]

    def _update(self, source: str, part: ParsedRows) -> None:
        blocks = [model.block(part) for model in self._models]
        rows = ScoredRows.of(blocks[0], source, self._rate, None)
        logits = [model.logits(block) for model, block in zip(self._models, blocks, strict=True)]
        for evaluation, z in zip(self._evaluations, logits, strict=True):
            evaluation.update(rows, z)
        self._slices.update(part, rows, self._models[0].strangers(blocks[0]), logits)
        if len(logits) > 1:
            self._churn.update(logits[0], logits[1], rows.weights)
        self._sample = self._sample or part

    def result(self) -> dict[str, Any]:
        """The comparison, and what it breaks."""
        assert self._sample is not None
        found = {
            "rows": int(self._metrics[0].sums[0].sum()),
            "rejects": self._rejects,
            "negative_rate": self._rate,
            "models": self._of_models(measure(self._models, self._sample)),
            "differences": self._differences(),
            "churn": self._churn.compute() if len(self._models) > 1 else {},
            "slices": self._slices.records(),
            "limits": dataclasses.asdict(self._settings.limits),
        }
        return {**found, "broken": broken(self._settings.limits, found)}

    def _of_models(self, latencies: Sequence[Latency]) -> dict[str, Any]:
        return {
            name: {
                "path": model.folder,
                "metrics": evaluation.summary(),
                **dataclasses.asdict(latency),
                "bytes": model.bytes,
            }
            for name, model, evaluation, latency in zip(
                self._names, self._models, self._evaluations, latencies, strict=True
            )
        }

    def _differences(self) -> dict[str, Any]:
        if len(self._models) == 1:
            return {}
        records = paired_difference(self._metrics[0], self._metrics[1]).to_dict("records")
        return {record.pop("metric"): {str(key): value for key, value in record.items()} for record in records}


def _parts(files: Sequence[storage.InputFile], schema: Schema) -> Iterator[tuple[str, ParsedRows]]:
    """The parsed rows of the logs, a chunk at a time, each with its file."""
    for task, labelled in find_tasks(files, schema):
        if not labelled:
            raise DataError(f"The input must have labels. Received: a log without label column ({task.file.path}).")
        for found in read_ranges(task, schema):
            for part in found.parts:
                yield found.source, part

"""``evaluate``: every model of a run on validation and test rows, with paired intervals, into one JSON file.

Models learn on the rows that a log has. If it kept only a share of its rows without click, the logits are corrected for
that and such rows weigh more, so all figures are those of the whole log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.targets import TargetBlock
from models.estimates import subclass_click_logits
from models.subclasses import SubclassHealth
from pipeline import storage
from pipeline.diagnose import Diagnoses
from pipeline.evaluation import Evaluation, comparisons_of
from pipeline.exported_model import ExportedModel
from pipeline.keys import evaluation_key, finished_students, require_current
from pipeline.loaded_teacher import LoadedTeacher, TeacherFiles
from pipeline.originals import refit_record
from pipeline.progress import Progress
from pipeline.scored_rows import ScoredRows
from pipeline.stored_rows import labels_of, outcome_of, read_with_targets
from pipeline.truth import read_truths
from pipeline.workspace import EXAMPLES, REPORT, TARGETS, TEACHER, Run

SPLITS = ("valid", "test")
_TIMED_ROWS = 1 << 16

Logits = npt.NDArray[np.float64]


def evaluate(run: Run) -> bool:
    """Writes ``report/metrics.json``; returns whether there was anything to do.

    Args:
        run: the run directory; the caller holds its lock.
    """
    require_current(run, TARGETS)
    key = evaluation_key(run)
    if run.is_done(REPORT, key):
        return False
    run.begin(REPORT, key)
    progress = Progress("evaluate", None, "rows")
    evaluator = _Evaluator(run)
    splits = evaluator.splits
    evaluations = {split: evaluator.split(split) for split in splits}
    main = splits[-1]
    models = {
        model: {
            **{split: evaluations[split][model].summary() for split in splits},
            **evaluator.costs(model),
            "calibration": evaluator.calibration(model),
            "settings": evaluator.settings(model),
            "reliability": evaluations[main][model].metrics.reliability().to_dict("records"),
            "by_frequency": evaluator.diagnoses.by_frequency(model),
        }
        for model in evaluator.models
    }
    models["teacher"] |= evaluator.subclasses() | evaluator.label() | evaluator.teacher(evaluations)
    comparisons = [row for split in splits for row in comparisons_of(split, evaluations[split])]
    record = refit_record(run)
    value = {"models": models, "comparisons": comparisons, "splits": splits, **evaluator.weighting()}
    value |= {"refit": record} if record else {}
    storage.write_json(run.file(REPORT, "metrics.json"), without_nan(value))
    run.finish(REPORT, key, {"models": evaluator.models})
    progress.close(f"{len(evaluator.models)} models")
    return True


def without_nan(value: Any) -> Any:
    """Plain values with None for what is not finite, as JSON wants it."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Evaluator:
    """Scores the blocks of a run with every model."""

    def __init__(self, run: Run) -> None:
        self._run, self._spec = run, run.spec()
        self.splits = [split for split in SPLITS if self._spec.rows[split]]
        self._targets = run.manifest(TARGETS)
        self._students = {stage: load_student(run, stage) for stage in finished_students(run)}
        self.models = ["teacher", *self._students]
        inputs = [item["path"] for item in run.manifest(EXAMPLES)["inputs"]]
        self._truths = read_truths(inputs)
        kinds = max((int(truth.kinds.max(initial=0)) + 1 for truth in (self._truths or {}).values()), default=0)
        self._health = SubclassHealth.empty(self._targets["outputs"] // 2, kinds)
        self._outcome = outcome_of(self._spec, self._targets["label"])
        self.diagnoses = Diagnoses(run, self._spec, self.splits, self.models, self._targets["outputs"])

    def split(self, split: str) -> dict[str, Evaluation]:
        """All models on one split."""
        evaluations = {model: Evaluation() for model in self.models}
        for source, block, target in self._blocks(split):
            truth = self._truths[source] if self._truths else None
            rows = ScoredRows.of(block, source, self._spec.negative_rate, truth)
            own = rows if self._outcome is None else self._rows_of_outcome(block, source)
            if split == self.splits[0]:
                self._health.update(target.logits, own.labels, rows.kinds, own.weights)
            # Only of clicks it is known how the odds change where rows without one were dropped.
            correction = math.log(self._spec.negative_rate) if self._outcome is None else 0.0
            z = with_correction(target.logits, correction)
            logits = {"teacher": subclass_click_logits(z)}
            # A student's exported logit has been through all this.
            logits |= {stage: score(block) for stage, score in self._students.items()}
            scored = {model: own if model == "teacher" else rows for model in self.models}
            for model, evaluation in evaluations.items():
                evaluation.update(scored[model], logits[model])
            self.diagnoses.update(split, block, z, scored, logits)
        return evaluations

    def _rows_of_outcome(self, block: Block, source: str) -> ScoredRows:
        """The rows as they are in the log, with the outcome that the teacher has learnt as their label."""
        labelled = replace(block, labels=labels_of(block, self._outcome))
        return ScoredRows.of(labelled, source, negative_rate=1.0, truth=None)

    def weighting(self) -> dict[str, Any]:
        """What makes rows count otherwise than once; nothing in most logs."""
        weighted = {"weighted": True} if self._spec.schema.weight else {}
        rate = self._spec.negative_rate
        return weighted | ({"negative_rate": rate} if rate < 1 else {})

    def _blocks(self, split: str) -> Iterator[tuple[str, Block, TargetBlock]]:
        targets = {shard["path"]: shard for shard in self._targets["shards"]}
        for shard in self._run.shards(split):
            yield from read_pairs(self._run, shard, targets[shard["path"]], self._targets["teacher"])

    def calibration(self, model: str) -> dict[str, Any]:
        """The calibration that a model's logits have been through."""
        stored: dict[str, Any] = (self._targets if model == "teacher" else self._run.manifest(model))["calibration"]
        return stored

    def settings(self, model: str) -> dict[str, Any]:
        """The settings that a model was trained with."""
        stored: dict[str, Any] = (self._targets if model == "teacher" else self._run.manifest(model))["settings"]
        return stored

    def costs(self, model: str) -> dict[str, Any]:
        """Parameters, bytes on disk, and rows scored in a second in blocks; None for a teacher that is gone."""
        if model != "teacher":
            parameters = self._run.manifest(model)["parameters"]
            return {
                "parameters": parameters,
                "bytes": storage.size_of(self._run.file(model, "model")),
                "rows_per_second": self._rate(self._students[model]),
            }
        costs = {"parameters": self._targets["parameters"], "bytes": None, "rows_per_second": None}
        manifest = self._run.origin(TEACHER) or {}
        if manifest.get("fingerprint") == self._targets["teacher"]:
            loaded = LoadedTeacher(TeacherFiles.of(self._run.file(TEACHER), manifest))
            folders = [self._run.file(TEACHER, name) for name in ("model", "trees")]
            costs["bytes"] = sum(storage.size_of(folder) for folder in folders if storage.exists(folder))
            costs["rows_per_second"] = self._rate(lambda block: loaded.score(block, training=False))
        return costs

    def _rate(self, score: Callable[[Block], Any]) -> float:
        blocks: list[Block] = []
        for _, block, _ in self._blocks(self.splits[0]):
            blocks.append(block)
            if sum(map(len, blocks)) >= _TIMED_ROWS:
                break
        score(blocks[0])
        begun = time.perf_counter()
        for block in blocks:
            score(block)
        return sum(map(len, blocks)) / (time.perf_counter() - begun)

    def label(self) -> dict[str, Any]:
        """The outcome that the teacher has learnt in place of the label, if there is one: its figures are of that."""
        return {"label": self._targets["label"]} if self._targets["label"] else {}

    def teacher(self, evaluations: dict[str, dict[str, Evaluation]]) -> dict[str, Any]:
        """How good the teacher is as one, and what its subclasses mean."""
        metrics = {
            split: {model: evaluation.metrics for model, evaluation in found.items()}
            for split, found in evaluations.items()
        }
        return {
            "diagnosis": self.diagnoses.teacher(metrics, self._targets["label"]),
            "subclass_map": self.diagnoses.subclass_map(),
        }

    def subclasses(self) -> dict[str, Any]:
        """Health of the teacher's subclasses on validation, and agreement with the hidden kinds if known.

        In a refit, which has no validation rows, on test.
        """
        found = {"health": self._health.health().to_dict("records")}
        if self._truths:
            found["agreement"] = self._health.agreement().to_dict("records")
        return found


def read_pairs(
    run: Run, shard: dict[str, Any], target_shard: dict[str, Any], teacher: str
) -> Iterator[tuple[str, Block, TargetBlock]]:
    """The blocks of a shard with their targets, and the log that they came from.

    Raises:
        ArtifactError: the targets are damaged, or belong to other rows or another teacher.
    """
    paths = run.file(EXAMPLES, shard["path"]), run.file(TARGETS, target_shard["path"])
    for block, target in read_with_targets(*paths, teacher):
        yield shard["source"], block, target


def with_correction(z: npt.NDArray[np.float32], correction: float) -> Logits:
    """Subclass logits whose click logits are higher by a constant: float64 [rows, 2 S], class-major."""
    moved = z.astype(np.float64)
    moved[:, z.shape[1] // 2 :] += correction
    return moved


def load_student(run: Run, stage: str) -> Callable[[Block], Logits]:
    """A function that gives the calibrated click logits of a block: float64 [rows]."""
    model = ExportedModel(run.file(stage, run.manifest(stage)["model"]))
    return lambda block: model.logits(block.ids, block.dense)

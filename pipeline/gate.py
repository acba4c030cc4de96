"""The gate before distillation: whether a teacher is worth learning from, on rows that it has not learned from.

A teacher is as good as its mean (p_t - p*)^2 (see :mod:`models.diagnosis`). p* is not known, but the difference of two
models' Brier scores on held-out rows is that of their distances from it. So a teacher that is clearly worse there than
the student without a teacher has nothing to give it but its bias.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from features.errors import RefusedError
from models.estimates import subclass_click_logits
from models.methods import METHODS
from models.metrics import ClickMetrics, paired_difference
from models.workers import workers
from pipeline.diagnose import BASELINE
from pipeline.evaluate import load_student
from pipeline.keys import finished_students
from pipeline.scored_rows import ScoredRows
from pipeline.settings import StudentConfig
from pipeline.stored_rows import read_with_targets
from pipeline.workspace import EXAMPLES, Run, target_stage

PCOC_MARGIN = 0.005
_METRICS = {"brier": "Brier score", "logloss": "logloss"}


@dataclass(frozen=True)
class Trial:
    """A teacher and the student without one on the same validation rows.

    Args:
        teacher: metrics of the teacher's stored targets.
        student: metrics of the exported student.
    """

    teacher: ClickMetrics
    student: ClickMetrics

    @classmethod
    def of(cls, run: Run, stage: str) -> Trial:
        """That of some finished targets of a run and its finished student of the method ``hard``."""
        spec, targets, score = run.spec(), run.manifest(stage), load_student(run, BASELINE)
        correction = math.log(spec.negative_rate)
        found = cls(ClickMetrics.empty(), ClickMetrics.empty())
        for shard in run.filled_shards("valid"):
            examples, stored = (run.file(folder, shard["path"]) for folder in (EXAMPLES, stage))
            for block, target in read_with_targets(examples, stored, targets["teacher"]):
                rows = ScoredRows.of(block, shard["source"], spec.negative_rate, None)
                clicks = subclass_click_logits(target.logits) + correction
                for metrics, logits in ((found.teacher, clicks), (found.student, score(block))):
                    metrics.update(rows.labels, logits, rows.groups, rows.weights)
        return found

    def complaint(self) -> str:
        """What is clearly worse about the teacher, in Brier score or logloss; empty if nothing is."""
        differences = paired_difference(self.teacher, self.student).set_index("metric")
        low, high = (differences[end].to_dict() for end in ("low", "high"))
        teacher, student = self.teacher.compute(), self.student.compute()
        return ", ".join(
            f"{text} {teacher[name]:.5f} against {student[name]:.5f} (difference {low[name]:+.5f} to {high[name]:+.5f})"
            for name, text in _METRICS.items()
            if low[name] > 0
        )


def require_good_teacher(run: Run, method: str, config: StudentConfig) -> None:
    """Makes sure that a method's teacher is not clearly worse than the student without one, if there is that student.

    Clearly: the 95 % interval of the paired difference on the validation rows, in Brier score or in logloss, lies
    above 0. A teacher that predicts too many or too few clicks there by more than 0.5 % is warned of. A teacher of
    another label cannot be compared, and with several workers nothing is.

    Args:
        run: with finished targets of the method, if it has any.
        method: a key of :data:`models.methods.METHODS`.
        config: its ``gate`` says what happens to a worse teacher: it is refused, warned of, or not looked at (off).

    Raises:
        RefusedError: the teacher is refused.
    """
    stage = target_stage(METHODS[method].source)
    if config.gate == "off" or METHODS[method].target == "none" or not _can_be_tried(run, stage):
        return
    trial = Trial.of(run, stage)
    pcoc = trial.teacher.compute()["pcoc"]
    if abs(pcoc - 1) > PCOC_MARGIN:
        _warn(f"the teacher predicts {pcoc:.4f} times the clicks of the validation rows")
    found = trial.complaint()
    if not found:
        return
    rule = "The teacher must not be clearly worse than the student without one on the validation rows."
    if config.gate == "refuse":
        raise RefusedError(
            f"{rule} Received: {found} ({run.file(stage)}, {run.file(BASELINE)}); train a better teacher, or set the "
            "student's gate to warn or off."
        )
    _warn(f"{rule} Received: {found} ({run.file(stage)}, {run.file(BASELINE)}).")


def _can_be_tried(run: Run, stage: str) -> bool:
    """Whether there is a student without teacher, validation rows, and a teacher of the same label."""
    # Several workers must find each other before TensorFlow does anything else.
    if workers().count > 1:
        return False
    if BASELINE not in finished_students(run) or not run.spec().rows["valid"]:
        return False
    return not run.manifest(stage)["label"]


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)

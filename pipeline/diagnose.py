"""What ``evaluate`` says of models beyond their metrics: rare values, calibration, bias, and what subclasses mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.spec import ExamplesSpec
from features.vocabulary import FIRST_VALUE, MISSING, Vocabulary
from models.diagnosis import FrequencyTable, RiskMoments, rarest, recalibration
from models.estimates import sigmoid
from models.metrics import ClickMetrics, paired_difference
from models.subclass_map import LEAST_SHARE, SubclassMap
from pipeline.analyze import read_vocabulary
from pipeline.scored_rows import ScoredRows
from pipeline.workspace import EXAMPLES, Run, student_stage

Logits = npt.NDArray[np.float64]
Records = list[dict[str, Any]]

_ENDS = ("low", "high")

BASELINE = student_stage("hard")
"""The student that a teacher is compared with: it has none."""


class Diagnoses:
    """Reads the scored rows of all models, a block at a time.

    Args:
        run: of the rows.
        spec: of its examples.
        splits: that are evaluated: subclasses are described on the first one, rare values on the last one.
        models: ``teacher`` and the stages of the students.
        outputs: K of the teacher.
    """

    def __init__(
        self, run: Run, spec: ExamplesSpec, splits: Sequence[str], models: Sequence[str], outputs: int
    ) -> None:
        self._spec, self._splits, self._models = spec, splits, models
        self._columns = list(spec.schema.categorical)
        self._counts: list[npt.NDArray[np.int64]] = []
        self._values: list[list[str]] = []
        for name in self._columns:
            # One at a time: together they may take gigabytes.
            vocabulary = read_vocabulary(run.file(EXAMPLES, "vocabulary"), name)
            self._counts.append(vocabulary.counts.sum(axis=1))
            self._values.append(_frequent(vocabulary, spec.rows["train"]))
        self._map = SubclassMap.empty(outputs // 2, [len(values) for values in self._values])
        self._frequencies = {model: FrequencyTable.empty() for model in models}
        self._risks = {split: RiskMoments.empty() for split in splits}

    def update(
        self,
        split: str,
        block: Block,
        subclasses: npt.NDArray[np.floating[Any]],
        rows: Mapping[str, ScoredRows],
        logits: Mapping[str, Logits],
    ) -> None:
        """Adds a block.

        Args:
            split: of the block.
            block: of the rows.
            subclasses: float [rows, K], the teacher's subclass logits, corrected as its click logits are.
            rows: labels and weights of the rows, by model.
            logits: click logits, by model.
        """
        if self._columns and split == self._splits[0]:
            self._map.update(subclasses, block.ids, rows["teacher"].weights)
        if self._columns and split == self._splits[-1]:
            frequency = rarest(block.ids, self._counts)
            for model, table in self._frequencies.items():
                table.update(frequency, rows[model].labels, logits[model], rows[model].weights)
        p_star = rows["teacher"].p_star
        if p_star is not None and len(self._models) > 1:
            student = logits[self._models[1]]
            self._risks[split].update(p_star, sigmoid(logits["teacher"]), student, rows["teacher"].weights)

    def by_frequency(self, model: str) -> Records:
        """Figures of a model on the last split by the training rows of a row's rarest value."""
        return _records(self._frequencies[model].table())

    def subclass_map(self) -> Records:
        """What each subclass stands for; column and value are empty for one that no value stands out in."""
        found = _records(self._map.top()) if self._map.totals.shape[1] > 1 else []
        for row in found:
            column, value = row["column"], row.pop("id")
            known = column >= 0
            row |= {"column": self._columns[column] if known else ""}
            row |= {"value": self._values[column][value] if known else ""}
        return found

    def teacher(self, metrics: Mapping[str, Mapping[str, ClickMetrics]], label: str) -> Records:
        """The teacher's worth, on each split; the keys are split, what, value, and of a difference low and high.

        Args:
            metrics: by split and model.
            label: what the teacher has learned in place of the label; it then cannot be compared with a student.
        """
        found: Records = []
        for split in self._splits:
            values = _calibration(metrics[split]["teacher"])
            if self._risks[split].sums.any():
                values |= self._risk(split)
            found += [{"split": split, "what": what, "value": value} for what, value in values.items()]
            if not label and BASELINE in self._models:
                found += _differences(split, metrics[split])
        return found

    def _risk(self, split: str) -> dict[str, float]:
        """What is known where the true click probability is: for samples of as many rows as the training rows."""
        risk, student = self._risks[split].risk(self._spec.rows["train"]), self._models[1].split("/", 1)[1]
        return {
            "mean (p_t - p*)^2": risk.teacher_error,
            "mean p* (1 - p*)": risk.noise,
            f"bias of the teacher's risk, logits of {student}": risk.bias,
            f"variance of the labels' risk, logits of {student}": risk.variance,
            f"best alpha by both, logits of {student}": risk.alpha,
        }


def _frequent(vocabulary: Vocabulary, rows: int) -> list[str]:
    """Texts of the first ids: missing, unseen, and the values that may be in enough rows to describe a subclass.

    Half the share among the training rows will do: shares change with time.
    """
    kept = vocabulary.kept(max(1, int(rows * LEAST_SHARE / 2)))
    texts = [value.decode(errors="replace") for value in vocabulary.values[:kept].to_pylist()]
    return [*("(missing)" if id_ == MISSING else "(unseen)" for id_ in range(FIRST_VALUE)), *texts]


def _calibration(metrics: ClickMetrics) -> dict[str, float]:
    found = recalibration(metrics)
    return {
        "calibration slope": found.slope,
        "calibration intercept": found.intercept,
        "logloss lost to miscalibration": found.logloss,
        "Brier score lost to miscalibration": found.brier,
    }


def _differences(split: str, metrics: Mapping[str, ClickMetrics]) -> Records:
    """Teacher minus the student without one: on held-out rows the difference of their distances from p*."""
    table = paired_difference(metrics["teacher"], metrics[BASELINE])
    names = {"brier": "Brier score minus that of hard", "logloss": "logloss minus that of hard"}
    rows = {row["metric"]: row for row in _records(table)}
    return [
        {"split": split, "what": what, "value": rows[name]["difference"], **{end: rows[name][end] for end in _ENDS}}
        for name, what in names.items()
    ]


def _records(table: Any) -> Records:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]

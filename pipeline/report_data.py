"""What the report page shows: plain values and DataFrames, so that the page can be drawn without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from pipeline.report_comparison import Comparison

SPLITS = {"test": "test", "valid": "validation", "train": "training"}


def ordered_splits(frame: pd.DataFrame) -> list[str]:
    """Returns the values of the column `split`: test, valid, train, then others."""
    present = list(dict.fromkeys(frame["split"])) if len(frame) else []
    known = list(SPLITS)
    return sorted(present, key=lambda split: known.index(split) if split in known else len(known))


def _frame() -> pd.DataFrame:
    return pd.DataFrame()


@dataclass(frozen=True)
class ReportData:
    """What the page shows. An empty DataFrame, mapping or sequence leaves its section out.

    Models are named `teacher`, `students/hard`, `students/kd`, ...; splits `train`, `valid` and `test`.

    Attributes:
        title: Name of the run.
        summary: One sentence: which model to use and by how much, with the interval.
        metrics: Row a (model, split): model, split, rows (optional), and for each of logloss, auc, ne, pcoc,
            ece, brier the value, `<metric>_low` and `<metric>_high`.
        costs: Row a model: model, parameters, bytes, rows_per_second.
        calibration: Row a model: model, scale, shift, reason (optional); fitted on validation rows.
        differences: split, method, baseline, metric, difference (method minus baseline, paired), low, high.
        histories: Model -> DataFrame with rows_seen or epoch, train_loss and valid_logloss.
        reliability: Model -> `ClickMetrics.reliability` on the rows of `main_split`.
        health: `SubclassHealth.health`: class, usage, entropy_nats, information_bits.
        agreement: `SubclassHealth.agreement`: class, nmi, random_nmi; where the hidden kinds are known.
        bayes: Generated logs only, row a model: model, split (optional), excess (logloss above that of the
            true probability, nats), gap_share (optional: share of the way from `students/hard` to the
            teacher).
        by_frequency: Row a (model, slice): model, slice (training rows of a row's rarest value), rows, logloss, pcoc.
        diagnosis: The teacher as one, row a (split, what): split, what, value, low, high; NaN where not known.
        subclass_map: What subclasses mean: class, subclass, share, column, value, lift, rows; see `report_teacher`.
        comparison: Of methods, by `compare`; None where there is none. It comes first.
        tables: The data by name, as `pipeline.inspect_run.inspect` gives it.
        provenance: Inputs, split sizes, rejects, settings, versions, fingerprints, date: (name, value).
        notes: Sentences that a reader must know, for example "There are no test rows in this run.".
    """

    title: str
    summary: str
    metrics: pd.DataFrame
    costs: pd.DataFrame = field(default_factory=_frame)
    calibration: pd.DataFrame = field(default_factory=_frame)
    differences: pd.DataFrame = field(default_factory=_frame)
    histories: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    reliability: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    health: pd.DataFrame = field(default_factory=_frame)
    agreement: pd.DataFrame = field(default_factory=_frame)
    bayes: pd.DataFrame = field(default_factory=_frame)
    by_frequency: pd.DataFrame = field(default_factory=_frame)
    diagnosis: pd.DataFrame = field(default_factory=_frame)
    subclass_map: pd.DataFrame = field(default_factory=_frame)
    comparison: Comparison | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    provenance: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    @property
    def splits(self) -> list[str]:
        """The splits that have metrics, those that matter most first."""
        return ordered_splits(self.metrics)

    @property
    def main_split(self) -> str:
        """The split that models are judged on: test where there is one, else validation."""
        return next(iter(self.splits), "test")

    def style(self, model: str) -> int:
        """The colour and marker of a model, the same in every chart."""
        names = list(dict.fromkeys([*self.metrics.get("model", []), *self.histories, *self.reliability]))
        return names.index(model) if model in names else 0

"""The vocabularies and ``spec.json`` of a run against the training rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.counts import SUMS, WEIGHT_UNIT
from features.errors import ArtifactError
from features.spec import SPLITS, ExamplesSpec
from features.vocabulary import FIRST_VALUE, UNSEEN, Vocabulary
from pipeline.analyze import read_vocabulary, vocabulary_path
from pipeline.findings import Findings
from pipeline.verify_rows import TrainingSums
from pipeline.workspace import EXAMPLES, Run


def check_vocabularies(run: Run, spec: ExamplesSpec, sums: TrainingSums, findings: Findings) -> int:
    """Checks every vocabulary, one after another; returns the number of values."""
    folder, values = run.file(EXAMPLES, "vocabulary"), 0
    for index, column in enumerate(spec.schema.categorical):
        path = vocabulary_path(folder, column)
        try:
            vocabulary = read_vocabulary(folder, column)
        except (ArtifactError, pa.ArrowException, KeyError) as error:
            findings.check(False, "A vocabulary must be readable", error, path)
            continue
        values += len(vocabulary.values)
        if findings.equal(vocabulary.ids, spec.vocabulary_ids[index], "The number of ids of a vocabulary", path):
            _check_order(vocabulary, findings, path)
            _check_sums(vocabulary, sums.column(index, vocabulary.ids), findings, path)
    return values


def _check_order(vocabulary: Vocabulary, findings: Findings, path: str) -> None:
    size = len(vocabulary.values)
    totals = vocabulary.counts[FIRST_VALUE : FIRST_VALUE + size].sum(axis=1)
    table = pa.table({"total": totals, "value": vocabulary.values})
    order = pc.sort_indices(table, sort_keys=[("total", "descending"), ("value", "ascending")]).to_numpy()
    wrong = np.flatnonzero(order != np.arange(size))
    rule = "The values of a vocabulary must stand by falling count, then by bytes"
    findings.check(not len(wrong), rule, f"another order from value {wrong[:1].tolist()} on", path)
    distinct = pc.count_distinct(vocabulary.values).as_py()
    findings.equal(distinct, size, "The number of distinct values of a vocabulary", path)


def _check_sums(vocabulary: Vocabulary, counted: np.ndarray, findings: Findings, path: str) -> None:
    stored: list[np.ndarray] = [vocabulary.counts, vocabulary.clicks]
    if vocabulary.weights is not None and vocabulary.click_weights is not None:
        stored += [vocabulary.weights * WEIGHT_UNIT, vocabulary.click_weights * WEIGHT_UNIT]
    if not findings.equal(len(stored), len(counted), "The number of sums of a vocabulary", path):
        return
    for name, mine, theirs in zip(SUMS, stored, counted, strict=False):
        different = mine != theirs
        # Training rows whose value was left out have the id of unseen values, which stores no sums.
        different[UNSEEN] = False
        wrong = np.argwhere(different)
        if len(wrong):
            number, fold = wrong[0]
            received = f"{mine[number, fold]} for {theirs[number, fold]} of id {number}, fold {fold}"
            rule = f"The sums of {name} in a vocabulary must be those of the training rows"
            findings.check(False, rule, f"{received}, one of {len(wrong)} differences", path)


def check_spec(run: Run, spec: ExamplesSpec, sums: TrainingSums, findings: Findings) -> None:
    """Checks the totals of ``spec.json`` against the manifest's shards and entries, and the training rows."""
    path, manifest = run.file(EXAMPLES, "spec.json"), run.manifest(EXAMPLES)
    for name, totals in (("rows", spec.rows), ("clicks", spec.clicks)):
        found = {split: sum(shard[name] for shard in run.shards(split)) for split in SPLITS}
        findings.equal(totals, found, f"The {name} by split", path)
    for name, total in (("lines", spec.lines), ("rejects", spec.rejects)):
        findings.equal(total, sum(entry[name] for entry in manifest["entries"]), f"The number of {name}", path)
    findings.equal(sum(spec.rows.values()) + spec.rejects, spec.lines, "Rows and rejects", path)
    findings.equal(manifest["schema"], spec.schema.to_json(), "The schema of the manifest", path)
    stored = (spec.fold_rows, spec.fold_clicks, spec.fold_weights, spec.fold_click_weights)
    names = ("rows", "clicks", "weights", "click weights")
    for name, received, units in zip(names, stored, sums.folds, strict=True):
        expected = units if name in names[:2] else units / WEIGHT_UNIT
        findings.equal(tuple(received), tuple(expected.tolist()), f"The {name} of the training rows by fold", path)
    missing = tuple(column.missing for column in spec.numeric)
    findings.equal(missing, tuple(sums.missing.tolist()), "The missing values of the numeric columns", path)

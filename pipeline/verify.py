"""``verify``: reads everything that ``preprocess`` wrote again, and proves that it is whole and has lost no line."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.schema import PARQUET
from features.spec import ExamplesSpec
from pipeline import storage
from pipeline.analyze import vocabulary_path
from pipeline.findings import Findings
from pipeline.plan import ALL
from pipeline.storage import InputFile
from pipeline.verify_log import Starts, check_entry, check_raw, open_starts, place, read_rejects, unchanged
from pipeline.verify_rows import ShardContents, TrainingSums, check_shard
from pipeline.verify_targets import check_targets, target_files, target_stages
from pipeline.verify_vocabulary import check_spec, check_vocabularies
from pipeline.workspace import EXAMPLES, Run


def verify(run: Run, progress: Callable[[int], object] = lambda rows: None) -> Findings:
    """Checks the examples, rejects, vocabularies and targets of a run.

    Args:
        run: the run directory; no other process must write to it.
        progress: called with the number of rows read so far.

    Returns:
        what was proved and what is wrong.

    Raises:
        ArtifactError: the run has no examples, or their manifest or spec cannot be read.
    """
    spec, manifest = run.spec(), run.manifest(EXAMPLES)
    findings, log = Findings(), _Log(run, spec, manifest, progress)
    for item in manifest["inputs"]:
        log.check_source(item, findings)
    log.check_visits(findings)
    values = check_vocabularies(run, spec, log.sums, findings)
    check_spec(run, spec, log.sums, findings)
    files = _check_files(run, spec, manifest, findings)
    targets = check_targets(run, log.shards, findings)
    findings.proved = [
        ("files", f"{files:,}, each named by a manifest"),
        ("shards", f"{len(log.shards):,} with their checksums and {sum(spec.rows.values()):,} rows"),
        ("lines", log.summary()),
        ("vocabularies", f"{len(spec.vocabulary_ids)} with {values:,} values, counted again from the training rows"),
        ("targets", targets),
    ]
    return findings


class _Log:
    """The ranges of a log, source by source, with what their shards hold.

    Attributes:
        sums: of the training rows.
        shards: by path, what each shard holds.
    """

    def __init__(
        self, run: Run, spec: ExamplesSpec, manifest: dict[str, Any], progress: Callable[[int], object]
    ) -> None:
        self._run, self._spec, self._manifest, self._progress = run, spec, manifest, progress
        self._gone = self._lines = self._rejects = self._rows = 0
        self._visited: list[str] = []
        self.sums = TrainingSums(spec)
        self.shards: dict[str, ShardContents] = {}

    def summary(self) -> str:
        """What was proved of the lines, for people."""
        counted = f"{self._lines:,} counted in the log again, each one a row or one of {self._rejects:,} rejects"
        gone = f"; sources gone: {self._gone}, lines not re-counted" if self._gone else ""
        return counted + gone

    def check_source(self, item: dict[str, Any], findings: Findings) -> None:
        """Checks the ranges of an input file."""
        entries = [entry for entry in self._manifest["entries"] if entry["source"] == item["path"]]
        entries.sort(key=lambda entry: entry["start"])
        file = unchanged(item)
        self._gone += file is None
        try:
            with self._starts(file) as starts:
                rejects = [self._check_range(entry, starts, findings) for entry in entries]
                left = starts.before(ALL) if starts else ()
                rule = "Every line of a source must lie in a range"
                findings.check(len(left) == 0, rule, f"{len(left)} lines behind the last one", item["path"])
            self._check_raw(file, [reject for some in rejects for reject in some], findings)
        except DataError as error:
            findings.wrong.append(str(error))

    def check_visits(self, findings: Findings) -> None:
        """Checks that every shard belongs to one range of one input."""
        paths = [shard["path"] for shard in self._manifest["shards"]]
        rule, where = "Every shard must belong to one range of one input", self._run.file(EXAMPLES, "manifest.json")
        different = sorted((Counter(paths) - Counter(self._visited)) + (Counter(self._visited) - Counter(paths)))
        findings.check(not different, rule, f"others, {different[:1]} among them", where)

    def _starts(self, file: InputFile | None) -> contextlib.AbstractContextManager[Starts | None]:
        return contextlib.nullcontext() if file is None else open_starts(file, self._spec.schema)

    def _check_range(self, entry: dict[str, Any], starts: Starts | None, findings: Findings) -> list[dict[str, Any]]:
        """Checks a range with its shards; returns its rejects."""
        lines = None if starts is None else starts.before(entry["end"])
        held = [self._read_shard(shard, findings) for shard in self._shards_of(entry)]
        rejects = self._read_rejects(entry, findings)
        self._lines += 0 if lines is None else len(lines)
        self._rejects += len(rejects or [])
        offsets = [offsets for offsets in held if offsets is not None]
        # What cannot be read has been found; that its lines are missing says nothing more.
        if len(offsets) == len(held) and rejects is not None:
            check_entry(entry, np.concatenate([*offsets, np.zeros(0, np.int64)]), rejects, lines, findings)
        return rejects or []

    def _shards_of(self, entry: dict[str, Any]) -> list[dict[str, Any]]:
        bounds = ("source", "start", "end")
        return [shard for shard in self._manifest["shards"] if all(shard[name] == entry[name] for name in bounds)]

    def _read_shard(self, shard: dict[str, Any], findings: Findings) -> NDArray[np.int64] | None:
        path = self._run.file(EXAMPLES, shard["path"])
        data = findings.read(path, shard)
        contents = None if data is None else check_shard(data, shard, self._spec, self.sums, findings, path)
        self._visited.append(shard["path"])
        self._rows += shard["rows"]
        self._progress(self._rows)
        if contents is None:
            return None
        self.shards[shard["path"]] = contents
        return contents.offsets

    def _read_rejects(self, entry: dict[str, Any], findings: Findings) -> list[dict[str, Any]] | None:
        if not entry["rejected"]:
            findings.equal(entry["rejects"], 0, "The rejects of a range without a file of them", place(entry))
            return []
        path = self._run.file("rejected", entry["rejected"]["path"])
        data = findings.read(path, entry["rejected"])
        return None if data is None else read_rejects(data, entry, findings, path)

    def _check_raw(self, file: InputFile | None, rejects: Sequence[dict[str, Any]], findings: Findings) -> None:
        # A row of a parquet file has no bytes of its own.
        if file is None or not rejects or self._spec.schema.format == PARQUET:
            return
        with storage.open_log(file) as stream:
            check_raw(stream, sorted(rejects, key=lambda reject: reject["offset"]), findings, file.path)


def _check_files(run: Run, spec: ExamplesSpec, manifest: dict[str, Any], findings: Findings) -> int:
    """Checks that there are no other files than those of the manifests; returns the number of files."""
    vocabularies = [vocabulary_path("vocabulary", column) for column in spec.schema.categorical]
    shards = [shard["path"] for shard in manifest["shards"]]
    expected = {
        EXAMPLES: {"manifest.json", "spec.json", *vocabularies, *shards},
        "rejected": {entry["rejected"]["path"] for entry in manifest["entries"] if entry["rejected"]},
    }
    expected |= {stage: target_files(run, stage) for stage in target_stages(run)}
    for folder, names in expected.items():
        found = set(_files_below(run.file(folder)))
        for name in sorted(found - names):
            findings.check(False, f"The folder {folder} must hold what its manifest names", name, run.file(folder))
    return sum(map(len, expected.values()))


def _files_below(folder: str) -> Iterator[str]:
    """Paths of all files below a folder, relative to it."""
    if storage.is_remote(folder):
        for file in storage.find_inputs([storage.join(folder, "**")]):
            yield file.path.removeprefix(folder.rstrip("/") + "/")
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")

"""Subsets of a run: its examples, and targets, with a share of the training rows.

A subset is what ``preprocess`` would have made of a log that has only the chosen training rows, and all validation and
test rows: the same vocabularies, counts and ids. Three things are not so:

* Numeric columns keep the transform, the mean and deviation, and the bucket edges of all training rows; they tell
  nothing of labels.
* Values that did not fit into a vocabulary of all rows (``--max-vocabulary``) stay outside, even if they would fit.
* Rejects are no rows: a subset has none, and as many lines as rows.

The log of a subset lies nowhere; so its inputs have no size, ``verify`` checks all but the lines, and ``preprocess``
does not make it anew unless forced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.blocks import Block
from features.errors import ArtifactError, ConfigError, DataError
from features.layouts import read_examples, write_examples
from features.siphash import hash_buckets
from features.spec import SPLITS, ExamplesSpec
from features.targets import TargetBlock
from features.tfrecord import read_records, write_record
from features.values import ValueIndex
from features.vocabulary import FIRST_VALUE, MISSING, UNSEEN, VocabularyBuilder
from pipeline import storage
from pipeline.analyze import count_ids, read_values, vocabulary_path, write_vocabulary
from pipeline.chosen_counts import ChosenCounts
from pipeline.chosen_rows import ChosenRows, Shard, write_shards
from pipeline.keys import require_current
from pipeline.settings import require
from pipeline.storage import HashingWriter
from pipeline.workspace import EXAMPLES, TARGETS, Run, digest

SUBSET = "subset"
"""Where the manifest of a subset's examples says what it is of."""


def subset(run: Run, path: str, share: float, seed: int = 0) -> Run:
    """Makes a run of some of the training rows of another, unless it is there; see the module.

    Args:
        run: with finished examples.
        path: of the new run; the caller keeps other processes from writing there.
        share: of the training rows, above 0. A smaller share's rows are among those of a larger one.
        seed: of the choice.

    Returns:
        the new run.

    Raises:
        ArtifactError: the run has no examples, or a shard is damaged.
        ConfigError: the share is no such share, or examples lie at the path that are no subset.
        DataError: the chosen rows lack clicks, or rows without.
    """
    require(0 < share <= 1, "The share of the training rows must be above 0 and at most 1", share)
    chosen, rows = Run(path), ChosenRows(share, seed)
    told = {"examples": run.identity(EXAMPLES), "share": share, "seed": seed}
    key = digest({SUBSET: told})
    if chosen.is_done(EXAMPLES, key):
        return chosen
    _require_free(chosen)
    chosen.begin(EXAMPLES, key, {SUBSET: told})
    # What is counted goes to the vocabularies and then to the spec.
    if not storage.exists(chosen.file(EXAMPLES, "spec.json")):
        _analyze(run, chosen, rows)
    shards = _write_examples(run, chosen, rows)
    _finish(run, chosen, key, {SUBSET: told}, shards)
    return chosen


def _require_free(chosen: Run) -> None:
    origin = chosen.origin(EXAMPLES)
    if origin is not None and SUBSET not in origin:
        raise ConfigError(f"A subset must have a folder of its own. Received: {chosen.path} (a run of a log).")


def _analyze(run: Run, chosen: Run, rows: ChosenRows) -> None:
    """Counts the chosen training rows, and writes what ``preprocess`` knows of them."""
    spec = run.spec()
    counts = ChosenCounts(spec)
    for shard in run.shards(SPLITS[0]):
        for block in rows.blocks(_examples(run, spec, shard), shard):
            counts.add(block)
    counted = counts.to_spec(spec)
    _require_clicks(counted, rows.share)
    settings, (before, after) = run.manifest(EXAMPLES)["settings"], _vocabularies(run, chosen)
    for index, column in enumerate(spec.schema.categorical):
        builder = VocabularyBuilder(
            settings["min_count"], settings["max_vocabulary"], spec.buckets, spec.schema.weight is not None
        )
        values, buckets = counts.column(index, read_values(before, column), spec)
        builder.add(values)
        builder.add_hashed(buckets)
        write_vocabulary(vocabulary_path(after, column), builder.tables())
    counted = replace(counted, vocabulary_ids=count_ids(after, spec.schema.categorical))
    storage.write_json(chosen.file(EXAMPLES, "spec.json"), counted.to_json())


def _examples(run: Run, spec: ExamplesSpec, shard: Shard) -> Iterator[Block]:
    path = run.file(EXAMPLES, shard["path"])
    with storage.open_read(path) as file:
        yield from read_examples(file, spec.schema, spec.layout, path)


def _require_clicks(spec: ExamplesSpec, share: float) -> None:
    clicks, rows = spec.clicks["train"], spec.rows["train"]
    if not 0 < clicks < rows or not 0 < sum(spec.fold_click_weights) < sum(spec.fold_weights):
        raise DataError(
            "The chosen training rows must have clicks and rows without, both with a weight. Received: "
            f"{clicks} clicks in {rows} rows (a share of {share:g})."
        )


def _vocabularies(*runs: Run) -> list[str]:
    return [run.file(EXAMPLES, "vocabulary") for run in runs]


def _write_examples(run: Run, chosen: Run, rows: ChosenRows) -> list[dict[str, Any]]:
    """Writes the shards of all splits; returns their entries of the manifest."""
    spec, shards = run.spec(), run.manifest(EXAMPLES)["shards"]
    starts = np.cumsum([0, *spec.vocabulary_ids])[:-1]
    before, after = _vocabularies(run, chosen)
    columns = [
        _new_ids(read_values(before, name), read_values(after, name), spec.buckets) for name in spec.schema.categorical
    ]
    ids = np.concatenate([np.zeros(0, np.int32), *columns])

    def write(shard: Shard, out: HashingWriter) -> dict[str, int]:
        written = clicks = 0
        for block in rows.blocks(_examples(run, spec, shard), shard):
            write_examples(out, replace(block, ids=ids[block.ids + starts]), spec.schema, spec.layout)
            written, clicks = written + len(block), clicks + int(block.labels.sum())
        return {"rows": written, "clicks": clicks}

    return write_shards(chosen.file(EXAMPLES), shards, write)


def _new_ids(before: pa.BinaryArray, now: pa.BinaryArray, buckets: int) -> NDArray[np.int32]:
    """The id in the subset of each vocabulary id of a column: int32 [ids].

    Args:
        before: values of its vocabulary.
        now: those of the subset's.
        buckets: hash buckets of both.
    """
    first_bucket = np.int32(FIRST_VALUE + len(now))
    found = ValueIndex(now).find(before) + np.int32(FIRST_VALUE)
    absent = np.flatnonzero(found < FIRST_VALUE)
    found[absent] = first_bucket + hash_buckets(before.take(pa.array(absent)), buckets) if buckets else UNSEEN
    same = np.array([MISSING, UNSEEN], np.int32)
    return np.concatenate([same, found, first_bucket + np.arange(buckets, dtype=np.int32)])


def _finish(run: Run, chosen: Run, key: str, told: Mapping[str, Any], shards: Sequence[Shard]) -> None:
    manifest, rows = run.manifest(EXAMPLES), Counter[tuple[str, int, int]]()
    for shard in shards:
        rows[_place(shard)] += shard["rows"]
    entries = [
        {**entry, **dict.fromkeys(("lines", "rows"), rows[_place(entry)]), "rejects": 0, "rejected": None}
        for entry in manifest["entries"]
    ]
    inputs = [{"path": item["path"], "size": None, "version": None} for item in manifest["inputs"]]
    contents = {**manifest, **told, "key": key, "inputs": inputs, "entries": entries, "shards": shards}
    chosen.finish(EXAMPLES, key, contents)


def _place(entry: Mapping[str, Any]) -> tuple[str, int, int]:
    """The range of the log that a shard or an entry of the manifest is of."""
    return entry["source"], entry["start"], entry["end"]


def has_targets(run: Run, chosen: Run, stage: str = TARGETS) -> bool:
    """Whether a subset has what :func:`subset_targets` would give it."""
    there = storage.exists(chosen.file(stage, "manifest.json"))
    return there and chosen.is_done(stage, _targets_key(run, chosen, stage))


def _targets_key(run: Run, chosen: Run, stage: str) -> str:
    return digest({"sources": {EXAMPLES: chosen.identity(EXAMPLES)}, "targets": run.identity(stage)})


def subset_targets(run: Run, chosen: Run, stage: str = TARGETS) -> None:
    """Gives a subset the targets of its rows, unless it has them.

    They stand for their teacher, which stays where it is. Of validation and test rows a subset has all, so their
    shards are the run's own files under a second name, where the file system has hard links.

    Args:
        run: with finished targets, and the examples that the subset is of.
        chosen: see :func:`subset`; the caller holds its lock.
        stage: of the targets, the same in both runs.

    Raises:
        ArtifactError: the targets are missing, stale or damaged, or the subset is of other examples.
    """
    require_current(run, stage)
    told = chosen.manifest(EXAMPLES).get(SUBSET, {})
    if told.get("examples") != run.identity(EXAMPLES):
        raise ArtifactError(
            f"A subset must be one of the run's examples. Received: {chosen.path} of others than {run.path}."
        )
    sources = {EXAMPLES: chosen.identity(EXAMPLES)}
    key = _targets_key(run, chosen, stage)
    if chosen.is_done(stage, key):
        return
    chosen.begin(stage, key)
    manifest = run.manifest(stage)
    entries = {shard["path"]: shard for shard in manifest["shards"] if _link(run, chosen, stage, shard)}
    examples = {shard["path"]: shard for shard in run.manifest(EXAMPLES)["shards"]}
    rows = ChosenRows(told["share"], told["seed"])

    def write(shard: Shard, out: HashingWriter) -> dict[str, int]:
        path, written = run.file(stage, shard["path"]), 0
        with storage.open_read(path) as file:
            targets = (TargetBlock.decode(record, path) for record in read_records(file, path))
            for block in rows.blocks(targets, examples[shard["path"]]):
                write_record(out, block.encode())
                written += len(block)
        return {"rows": written}

    # The teacher's last layer, which some students take over.
    if "head" in manifest:
        with storage.open_read(run.file(stage, manifest["head"])) as file:
            storage.write_bytes(chosen.file(stage, manifest["head"]), file.read())
    others = [shard for shard in manifest["shards"] if shard["path"] not in entries]
    entries |= {shard["path"]: shard for shard in write_shards(chosen.file(stage), others, write)}
    shards = [entries[shard["path"]] for shard in manifest["shards"]]
    chosen.finish(stage, key, {**manifest, "key": key, "sources": sources, "shards": shards})


def _link(run: Run, chosen: Run, stage: str, shard: Shard) -> bool:
    """Takes over a shard of which all rows are chosen, if that can be done without a copy."""
    path = shard["path"]
    return shard["split"] != SPLITS[0] and storage.link(run.file(stage, path), chosen.file(stage, path))

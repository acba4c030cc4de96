"""``derive``: other subclasses in place of the teacher's, from its stored targets alone. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import ArtifactError
from features.spec import SPLITS
from features.targets import TargetBlock
from features.tfrecord import write_record
from models.projections import Moments
from models.pseudo_subclasses import (
    Centroids,
    Conditionals,
    Lelp,
    Shuffled,
    class_weights,
    embedding_of,
    subclass_sums,
    with_conditionals,
)
from pipeline import storage
from pipeline.arrays import read_arrays, write_arrays
from pipeline.keys import derived_key, derived_settings, derived_sources, require_current
from pipeline.precompute import record_path, shard_entry
from pipeline.settings import DerivedConfig, require
from pipeline.shard_jobs import over_shards, work_file
from pipeline.stored_rows import embedding_size, labels_of, outcome_of, read_with_targets
from pipeline.workspace import EXAMPLES, TARGETS, Run, derived_stage, digest


class SumShard(beam.DoFn):
    """Writes sums over the embeddings of a training shard: moments of each class, and sums of each subclass.

    Args:
        examples: folder of the examples.
        targets: folder of the teacher's targets.
        teacher: fingerprint that the targets must carry.
        outcome: position of the outcome that the teacher has learnt in place of the label, or None.
        sums: folder of what is written.
    """

    def __init__(self, *, examples: str, targets: str, teacher: str, outcome: int | None, sums: str) -> None:
        self._examples, self._targets, self._teacher = examples, targets, teacher
        self._outcome, self._sums = outcome, sums

    def process(self, shard: dict[str, Any]) -> Iterator[str]:
        """Sums over one shard, given by its entry in the examples' manifest, unless an earlier attempt has."""
        path = work_file(self._sums, shard, ".npz")
        if not storage.exists(path):
            write_arrays(path, **self._sum(shard))
        yield path

    def _sum(self, shard: dict[str, Any]) -> dict[str, np.ndarray]:
        classes: tuple[list[Moments], list[Moments]] = [], []
        subclasses: list[np.ndarray] = []
        examples, stored = (storage.join(folder, shard["path"]) for folder in (self._examples, self._targets))
        for block, targets in read_with_targets(examples, stored, self._teacher):
            labels, embedding = labels_of(block, self._outcome), embedding_of(targets)
            for label, found in enumerate(classes):
                found.append(Moments.of(embedding[labels == label]))
            subclasses.append(subclass_sums(targets))
        moments = [Moments.sum(found) for found in classes]
        return {
            "count": np.array([part.count for part in moments]),
            "total": np.stack([part.total for part in moments]),
            "products": np.stack([part.products for part in moments]),
            "subclasses": np.sum(subclasses, axis=0),
        }


class DeriveShard(beam.DoFn):
    """Writes the derived targets of a shard; yields its manifest entry.

    Args:
        examples: folder of the examples.
        targets: folder of the teacher's targets.
        teacher: fingerprint that the targets must carry.
        derived: folder of the derived targets.
        fingerprint: that these get.
        conditionals: where their subclasses come from.
    """

    def __init__(
        self,
        *,
        examples: str,
        targets: str,
        teacher: str,
        derived: str,
        fingerprint: str,
        conditionals: Conditionals,
    ) -> None:
        self._examples, self._targets, self._teacher = examples, targets, teacher
        self._derived, self._fingerprint, self._conditionals = derived, fingerprint, conditionals

    def process(self, shard: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Writes one shard, given by its entry in the examples' manifest, unless an earlier attempt has."""
        record = record_path(self._derived, shard)
        if not storage.exists(record):
            storage.write_json(record, self._write(shard))
        yield storage.read_json(record)

    def _write(self, shard: dict[str, Any]) -> dict[str, Any]:
        examples, targets, path = (
            storage.join(folder, shard["path"]) for folder in (self._examples, self._targets, self._derived)
        )
        with storage.publish(path) as out:
            for _, block in read_with_targets(examples, targets, self._teacher):
                write_record(out, self._derive(block, shard["source"]).encode())
        return shard_entry(shard, out)

    def _derive(self, targets: TargetBlock, source: str) -> TargetBlock:
        logits = with_conditionals(targets.logits, self._conditionals.log_conditionals(targets, source))
        return TargetBlock(logits, targets.offsets, self._fingerprint, targets.embedding)


def derive(run: Run, source: str, config: DerivedConfig, options: PipelineOptions) -> bool:
    """Makes the derived targets of a source; returns whether there was anything to do.

    Args:
        run: the run directory; the caller holds its lock.
        source: one of :data:`models.methods.SOURCES`.
        config: settings.
        options: of Beam.

    Raises:
        ArtifactError: the teacher's targets are missing or stale, or have no embeddings or head for the source.
        ConfigError: there are more pseudo-subclasses than directions.
    """
    require_current(run, TARGETS)
    stage, key = derived_stage(source), derived_key(run, source, config)
    if run.is_done(stage, key):
        return False
    _require_source(run, source, config)
    run.begin(stage, key)
    manifest, folder = run.manifest(TARGETS), run.file(stage)
    conditionals = _conditionals(run, source, config, options)
    fingerprint = digest([run.identity(TARGETS), source, derived_settings(source, config)])
    shards, done = [shard for split in SPLITS for shard in run.shards(split)], storage.join(folder, storage.WORK)
    work = DeriveShard(
        **_stored(run),
        derived=folder,
        fingerprint=fingerprint,
        conditionals=conditionals,
    )
    over_shards(f"derive {source}", shards, work, options, done, ".json")
    entries = [storage.read_json(record_path(folder, shard)) for shard in shards]
    storage.remove(done)
    same = ("folds", "label", "parameters", "calibration", *(["embedding"] if "embedding" in manifest else []))
    contents = {
        "sources": derived_sources(run),
        "teacher": fingerprint,
        "outputs": 2 * config.pseudo_subclasses if source == "lelp" else manifest["outputs"],
        **{name: manifest[name] for name in same},
        "settings": derived_settings(source, config),
        "shards": entries,
    }
    run.finish(stage, key, contents)
    return True


def _stored(run: Run) -> dict[str, str]:
    """Where the examples and the teacher's targets lie, and the fingerprint that these carry."""
    teacher = run.manifest(TARGETS)["teacher"]
    return {"examples": run.file(EXAMPLES), "targets": run.file(TARGETS), "teacher": teacher}


def _require_source(run: Run, source: str, config: DerivedConfig) -> None:
    """Raises a CtrDistillError unless the teacher's targets hold what the source needs."""
    if source == "random":
        return
    size = embedding_size(run, TARGETS)
    if source == "lelp":
        if "head" not in run.manifest(TARGETS):
            raise ArtifactError(
                "The teacher of lelp must have one linear head. Received: a gated ensemble "
                f"({run.file(TARGETS, 'manifest.json')})."
            )
        rule = f"pseudo_subclasses must be at most the {size} floats of the embeddings less the two of the classes"
        require(config.pseudo_subclasses <= size - 2, rule, config.pseudo_subclasses)


def _conditionals(run: Run, source: str, config: DerivedConfig, options: PipelineOptions) -> Conditionals:
    """What gives the subclasses of a source."""
    if source == "random":
        return Shuffled(config.seed)
    moments, subclasses = _sums(run, source, options)
    if source == "centroids":
        return Centroids.of(subclasses, config.centroid_temperature)
    kernel = read_arrays(run.file(TARGETS, run.manifest(TARGETS)["head"]))["kernel"]
    return Lelp.of(moments, class_weights(kernel), config.pseudo_subclasses, config.lelp_temperature, config.seed)


def _sums(run: Run, source: str, options: PipelineOptions) -> tuple[tuple[Moments, Moments], np.ndarray]:
    """Moments of the embeddings of each class, and their sums of each subclass, over all training rows.

    Sums of shards are added in the order of the shards, so that the same rows give the same bits on any workers.
    """
    shards, folder = run.filled_shards("train"), storage.join(run.file(derived_stage(source)), storage.WORK, "sums")
    outcome = outcome_of(run.spec(), run.manifest(TARGETS)["label"])
    work = SumShard(**_stored(run), outcome=outcome, sums=folder)
    over_shards(f"derive {source}, sums", shards, work, options, folder, ".npz")
    parts = [read_arrays(work_file(folder, shard, ".npz")) for shard in shards]
    no_click, click = (
        Moments.sum(Moments(int(part["count"][c]), part["total"][c], part["products"][c]) for part in parts)
        for c in range(2)
    )
    return (no_click, click), np.sum([part["subclasses"] for part in parts], axis=0)

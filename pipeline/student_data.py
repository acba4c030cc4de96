"""What students of a run are trained on: examples, targets, vocabularies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.spec import ExamplesSpec
from features.statistics import ClickCounts
from features.vocabulary import Vocabulary
from models.inputs import ShardFiles
from models.methods import Method
from pipeline.arrays import read_arrays
from pipeline.stage_inputs import click_counts, example_files, read_vocabularies, target_files
from pipeline.workspace import Run, target_stage


@dataclass(frozen=True)
class StudentData:
    """What students of a run are trained on.

    Args:
        spec: of the examples.
        vocabularies: of each categorical column.
        counts: clicks of their values by fold.
        training: the training shards, with targets if there are any.
        validation: the validation shards; None in a run that has none.
        label: the outcome that the targets' teacher has learned in place of the label; empty for the label.
        head: kernel float32 [E, K] and bias float32 [K] of the teacher's head on its embeddings; None where it has none
            or nothing reads the embeddings.
        judged: the validation shards with targets; None where there are no targets or no such rows.
        members: M, the members of the teacher whose click logits are stored; 0 for none.
    """

    spec: ExamplesSpec
    vocabularies: list[Vocabulary]
    counts: ClickCounts
    training: ShardFiles
    validation: ShardFiles | None
    label: str = ""
    head: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
    judged: ShardFiles | None = None
    members: int = 0

    @classmethod
    def read(cls, run: Run, method: Method, embeddings: bool = False) -> StudentData:
        """Reads the data of a run for a method.

        Args:
            run: the run directory.
            method: whose targets are read, if it needs any.
            embeddings: whether to read the teacher's embeddings, and the targets with them.

        Raises:
            ArtifactError: the run has no such targets, or they have no embeddings.
        """
        spec, stage = run.spec(), target_stage(method.source)
        vocabularies = read_vocabularies(run, spec)
        taught = method.needs_targets or embeddings
        return cls(
            spec,
            vocabularies,
            click_counts(vocabularies, spec),
            target_files(run, spec, "train", stage, embeddings) if taught else example_files(run, spec, "train"),
            example_files(run, spec, "valid") if spec.rows["valid"] else None,
            run.manifest(stage)["label"] if taught else "",
            _read_head(run, stage) if embeddings else None,
            target_files(run, spec, "valid", stage) if taught and spec.rows["valid"] else None,
            run.manifest(stage).get("members", 0) if taught else 0,
        )


def _read_head(run: Run, stage: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """The teacher's head; derived targets and those of a gated teacher have none."""
    name = run.manifest(stage).get("head")
    if name is None:
        return None
    found = read_arrays(run.file(stage, name))
    return found["kernel"], found["bias"]

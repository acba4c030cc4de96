"""What a model card is made from: the run, the exported files, and figures of the held-back rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.spec import ExamplesSpec
from models.methods import METHODS
from pipeline.card_rows import SplitFigures
from pipeline.config import build
from pipeline.settings import StudentConfig
from pipeline.workspace import EXAMPLES, Run, student_stage, target_stage


@dataclass(frozen=True)
class CardFacts:
    """What a card is made from.

    Args:
        run: of the student.
        stage: of the student.
        folder: of its SavedModel.
        variables: numbers in its variables, by dtype.
        calibration: scale and shift of its click logit.
        figures: by split; empty if no rows were held back.
        times: of the first and the last row; empty if the log has none or can no longer be read.
        packages: name and version of each.
    """

    run: Run
    stage: str
    folder: str
    variables: Mapping[str, int]
    calibration: tuple[float, float]
    figures: Mapping[str, SplitFigures]
    times: str
    packages: Mapping[str, str]

    @property
    def method(self) -> str:
        """Of the student."""
        return self.stage.split("/")[1]

    @property
    def spec(self) -> ExamplesSpec:
        """Of the examples."""
        return self.run.spec()

    @property
    def settings(self) -> dict[str, Any]:
        """Of the preprocessing."""
        found: dict[str, Any] = self.run.manifest(EXAMPLES)["settings"]
        return found

    @property
    def origin(self) -> dict[str, Any]:
        """Key, sources and settings of the student, finished or not.

        Raises:
            ArtifactError: it never was begun.
        """
        stage = student_stage(self.method)
        return self.run.origin(stage) or self.run.manifest(stage)

    @property
    def targets(self) -> str:
        """The stage whose targets the student has learned from; empty without a teacher."""
        return target_stage(METHODS[self.method].source) if self.origin["sources"]["targets"] else ""

    @property
    def teacher(self) -> str:
        """Fingerprint of the teacher; empty without one."""
        fingerprint: str = self.run.manifest(self.targets)["teacher"] if self.targets else ""
        return fingerprint

    @property
    def config(self) -> StudentConfig:
        """Settings of the student."""
        return build(StudentConfig, self.origin["settings"], "manifest.json of the student")

"""The plan of a comparison: which teachers there are, and which students are trained on what."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from models.comparison import LEVEL, RESAMPLES
from models.methods import EMBEDDED_SOURCES, METHODS, TEACHER_SOURCE
from pipeline.arms import Arm, find_arms
from pipeline.config import Config, build, of_training, plain
from pipeline.report_comparison import is_teacher
from pipeline.search_space import draw, present, student_space
from pipeline.settings import EMBEDDING, CompareConfig, StudentConfig, TeacherConfig, TrainingConfig, require
from pipeline.shared_draws import SharedDraws
from pipeline.workspace import EXAMPLES, Run, digest, target_stage

Training = TypeVar("Training", bound=TrainingConfig)

FOLDER = "compare"
COMPARISON = "comparison.json"


@dataclass(frozen=True)
class Cell:
    """A teacher and the rows that its students see.

    Args:
        base: path of the run whose rows are compared on.
        teacher: settings of the teacher; None where no student needs one.
        teacher_rows: share of the training rows that the teacher sees.
        rows: share of the training rows that the students see.
        embedding: floats of the teacher's embeddings that are stored.
        sources: derived targets that students need (see :mod:`pipeline.derive`).
    """

    base: str
    teacher: TeacherConfig | None
    teacher_rows: float
    rows: float
    embedding: int
    sources: tuple[str, ...]

    @property
    def teacher_run(self) -> Run:
        """Where the teacher lies, with its targets for all rows that it has seen."""
        if self.teacher is None:
            return self.examples_run
        return Run(self._path("teachers", self._teacher_name), self._examples(self.teacher_rows))

    @property
    def _teacher_name(self) -> str:
        assert self.teacher is not None
        return digest([plain(self.teacher), self.teacher_rows])

    @property
    def examples_run(self) -> Run:
        """Where the examples of the students' rows lie."""
        return Run(self._examples(self.rows))

    @property
    def run(self) -> Run:
        """What the students are trained on."""
        if self.teacher is None or self.rows == self.teacher_rows:
            return self.teacher_run
        return Run(self._path("cells", f"{self._teacher_name}-{self.rows:g}"), self._examples(self.rows))

    def _examples(self, rows: float) -> str:
        return self.base if rows == 1 else self._path("rows", f"{rows:g}")

    def _path(self, *parts: str) -> str:
        return Run(self.base).file(FOLDER, *parts)


@dataclass(frozen=True)
class Job:
    """The training of one student.

    Args:
        arm: its name.
        method: of the arm.
        seed: number of the training, from 0; the settings have a seed that follows from it.
        cell: what it is trained on.
        config: its settings.
        trial: number of the random settings; None for the settings that are compared.
    """

    arm: str
    method: str
    seed: int
    cell: Cell
    config: StudentConfig
    trial: int | None = None

    @property
    def path(self) -> str:
        """Of the result, without an ending."""
        kind = "results" if self.trial is None else "trials"
        number = self.seed if self.trial is None else self.trial
        return Run(self.cell.base).file(FOLDER, kind, f"{self.arm}-{self.cell.rows:g}-{number}")

    def key(self) -> str:
        """A hash of everything that the result follows from; the cell must be there."""
        run, method = self.cell.run, METHODS[self.method]
        taught = method.needs_targets or self.config.needs_embeddings
        targets = run.manifest(target_stage(method.source)) if taught else {}
        # The same teacher's targets may be written again with embeddings, which most students do not look at.
        embedding = targets.get("embedding", 0) if self.config.needs_embeddings else 0
        learnt = [self.method, run.identity(EXAMPLES), targets.get("teacher"), embedding]
        return digest([of_training(self.config), *learnt])


@dataclass(frozen=True)
class Plan:
    """All of a comparison.

    Args:
        base: path of the run.
        config: of the run, with its preset chosen.
        arms: by name, in the order in which they were asked for.
    """

    base: str
    config: Config
    arms: Mapping[str, Arm]

    @classmethod
    def of(cls, run: Run, config: Config) -> Plan:
        """The plan for a run.

        Raises:
            ConfigError: an arm is unknown, or its settings are wrong.
        """
        plan = cls(run.path, config, find_arms(config.compare.names, config.arms))
        plan._require_names()
        plan._require_settings()
        settings = config.compare
        require(
            (len(plan.arms) - 1) * len(settings.shares) <= LEVEL * RESAMPLES,
            f"comparisons (methods without the baseline x fractions) must be at most {LEVEL * RESAMPLES:g}",
            f"{len(plan.arms) - 1} x {len(settings.shares)}",
        )
        return plan

    def _require_names(self) -> None:
        """Raises a ConfigError for an arm whose name is no file name, or that of a teacher in the report."""
        for name in self.arms:
            named = "/" not in name and not is_teacher(name)
            require(named, "The name of an arm must have no slash and not be a teacher's", f"{name} (arms)")

    def _require_settings(self) -> None:
        """Raises a ConfigError for wrong settings, unpaired seeds, and what would fail after the teachers' training."""
        seeds = {name: arm.student_config(self.config).seed for name, arm in self.arms.items()}
        require(len(set(seeds.values())) == 1, "seed must be the same in all arms, which are paired by it", seeds)
        for name, arm in self.arms.items():
            student, teacher = arm.student_config(self.config), arm.teacher_config(self.config)
            require(
                student.generations == 1, "generations must be 1 in a comparison", f"{student.generations} ({name})"
            )
            embedded = student.needs_embeddings or METHODS[arm.method].source in EMBEDDED_SOURCES
            require(
                not (embedded and teacher.folds),
                "folds must be 0 for students that learn from embeddings",
                f"{teacher.folds} ({name})",
            )

    @property
    def settings(self) -> CompareConfig:
        """Of the comparison."""
        return self.config.compare

    @property
    def teachers(self) -> int:
        """Number of different teachers."""
        return self.settings.teachers or self.settings.seeds

    def teacher_of(self, seed: int) -> int:
        """The number of a training's teacher."""
        return seed % self.teachers

    def cell(self, arm: Arm, rows: float, seed: int) -> Cell:
        """What a student of an arm is trained on."""
        if not self.needs_teacher(arm):
            return Cell(self.base, None, rows, rows, 0, ())
        teacher = arm.teacher_config(self.config)
        teacher = replace(teacher, seed=teacher.seed + self.teacher_of(seed))
        seen = rows if arm.own_rows else 1.0
        return Cell(self.base, at_fraction(teacher, seen), seen, rows, *self._stored(teacher))

    def needs_teacher(self, arm: Arm) -> bool:
        """Whether a teacher decides what comes out of an arm."""
        return arm.needs_teacher or arm.student_config(self.config).needs_embeddings

    def _stored(self, teacher: TeacherConfig) -> tuple[int, tuple[str, ...]]:
        """What is stored of a teacher: the same for all arms of it, so that they have one teacher."""
        arms = [
            arm
            for arm in self.arms.values()
            if replace(arm.teacher_config(self.config), seed=teacher.seed) == teacher and self.needs_teacher(arm)
        ]
        sources = {METHODS[arm.method].source for arm in arms} - {TEACHER_SOURCE}
        learnt = any(arm.student_config(self.config).needs_embeddings for arm in arms)
        wanted = learnt or bool(sources & set(EMBEDDED_SOURCES))
        return (self.config.targets.embedding or EMBEDDING) if wanted else 0, tuple(sorted(sources))

    def jobs(self, found: Mapping[tuple[str, float], Mapping[str, Any]]) -> Iterator[Job]:
        """The students that are compared.

        Args:
            found: what the trials have found, by arm and fraction.
        """
        for rows in self.settings.shares:
            for name, arm in self.arms.items():
                for seed in range(self.settings.seeds):
                    values = {**self._student(arm, rows), **found.get((name, rows), {})}
                    yield self._job(name, arm, rows, seed, values)

    def trials(self) -> Iterator[Job]:
        """The trials: the settings as they are, and random ones around them, the same in all arms that have them."""
        for rows in self.settings.shares if self.settings.trials else ():
            for name, arm in self.arms.items():
                settings, config = self._student(arm, rows), arm.student_config(self.config)
                space = {key: kind for key, kind in student_space(arm.method, config).items() if key not in arm.student}
                for trial in range(self.settings.trials):
                    drawn = draw(space, SharedDraws(trial), settings) if trial else present(space, settings)
                    yield replace(self._job(name, arm, rows, 0, {**settings, **drawn}), trial=trial)

    def _student(self, arm: Arm, rows: float) -> dict[str, Any]:
        """Settings of an arm's student on a fraction of the rows."""
        return dataclasses.asdict(at_fraction(arm.student_config(self.config), rows))

    def _job(self, name: str, arm: Arm, rows: float, seed: int, values: Mapping[str, Any]) -> Job:
        config: StudentConfig = build(StudentConfig, values, f"student ({name})")
        config = replace(config, seed=config.seed + seed)
        return Job(name, arm.method, seed, self.cell(arm, rows, seed), config)


def at_fraction(config: Training, rows: float) -> Training:
    """The settings for a fraction of the rows: as many steps as on all of them.

    Batches and the evaluations of an epoch (down to one) shrink, and epochs grow, with the square root of the fraction.
    """
    root = math.sqrt(rows)
    return replace(
        config,
        batch_size=max(round(config.batch_size * root), 1),
        epochs=config.epochs / root,
        evaluations=max(round(config.evaluations * root), 1),
    )

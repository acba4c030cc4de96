"""The key of each stage: a hash of its settings and of the manifests of what it reads. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence

from features.errors import ArtifactError
from models.methods import METHODS
from pipeline import storage
from pipeline.config import Config, plain
from pipeline.generate import truth_path
from pipeline.settings import StudentConfig, TeacherConfig
from pipeline.workspace import (
    EXAMPLES,
    REPORT,
    TARGETS,
    TEACHER,
    Run,
    command_for,
    digest,
    ensemble_stage,
    student_stage,
)


def teacher_key(run: Run, config: TeacherConfig, original: Run | None = None) -> str:
    """The key of the teacher: its settings, the examples, and in a refit the teacher of the original run."""
    return digest({"settings": plain(config), "examples": run.identity(EXAMPLES), **_repeated(original, TEACHER)})


def _repeated(original: Run | None, stage: str) -> dict[str, str]:
    return {"original": original.identity(stage)} if original else {}


def targets_key(run: Run) -> str:
    """The key of the targets: the examples and the teacher."""
    return digest({"examples": run.identity(EXAMPLES), "teacher": run.identity(TEACHER)})


def require_current(run: Run, stage: str) -> None:
    """Makes sure that the teacher or the targets were made from what the run holds now.

    A teacher that has been removed is no contradiction: its targets stand for it.

    Raises:
        ArtifactError: the stage is missing or stale.
    """
    for source, identity in run.manifest(stage)["sources"].items():
        if source == TEACHER and run.origin(TEACHER) is None:
            continue
        if not storage.exists(run.file(source, "manifest.json")) or run.identity(source) != identity:
            raise ArtifactError(
                f"The {stage} of a run must be made from its present {source}. Received: {stage} from others; make "
                f"them again with `ctr-distill {command_for(stage)} --run {run.path}`."
            )


def student_key(run: Run, method: str, config: StudentConfig, original: Run | None = None) -> str:
    """The key of a student: settings, examples, the targets if the method needs them; see :func:`teacher_key`."""
    repeated = _repeated(original, student_stage(method))
    return digest({"settings": plain(config), **student_sources(run, method), **repeated})


def student_sources(run: Run, method: str) -> dict[str, str | None]:
    """Identities of what a student of the method is made from, as its manifest keeps them."""
    targets = run.identity(TARGETS) if METHODS[method].needs_targets else None
    return {"examples": run.identity(EXAMPLES), "targets": targets}


def finished_students(run: Run) -> list[str]:
    """Stages of the students that were made from the run's present examples and targets, in a fixed order.

    The ensemble of a student's generations, if there are several, comes behind the student.
    """
    found = []
    for method in METHODS:
        stage = student_stage(method)
        if storage.exists(run.file(stage, "manifest.json")):
            if run.manifest(stage).get("sources") == student_sources(run, method):
                found.append(stage)
                ensemble = ensemble_stage(method)
                found += [ensemble] if storage.exists(run.file(ensemble, "manifest.json")) else []
    return found


def evaluation_key(run: Run) -> str:
    """The key of the evaluation: everything that it reads, the truth of generated logs included."""
    stages = [EXAMPLES, TARGETS, *finished_students(run)]
    truths = [storage.version(truth_path(item["path"])) for item in run.manifest(EXAMPLES)["inputs"]]
    return digest({**{stage: run.identity(stage) for stage in stages}, "truths": truths})


def is_complete(run: Run, config: Config, methods: Sequence[str], original: Run | None = None) -> bool:
    """Whether every stage after the examples is finished with these settings, and the page is there.

    Args:
        run: the run directory.
        config: of a preset that has been chosen.
        methods: of the students.
        original: of a refit.
    """
    stages = [TEACHER, TARGETS, *(student_stage(method) for method in methods)]
    if not all(storage.exists(run.file(stage, "manifest.json")) for stage in stages):
        return False
    keys = [
        (TEACHER, teacher_key(run, config.teacher_config(), original)),
        (TARGETS, targets_key(run)),
        *((student_stage(m), student_key(run, m, config.student_config(m), original)) for m in methods),
    ]
    return all(run.is_done(stage, key) for stage, key in keys) and _is_reported(run, original)


def _is_reported(run: Run, original: Run | None) -> bool:
    """Whether the page is there; a refit of a run without test rows has nothing to report."""
    if original and not run.spec().rows["test"]:
        return True
    page = storage.exists(run.file(REPORT, "manifest.json")) and storage.exists(run.file(REPORT, "index.html"))
    return page and run.is_done(REPORT, evaluation_key(run))

"""The key of each stage: a hash of its settings and of the manifests of what it reads. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features.errors import ArtifactError
from models.methods import METHODS, TEACHER_SOURCE
from pipeline import storage
from pipeline.config import Config, of_training, plain
from pipeline.generate import truth_path
from pipeline.settings import DerivedConfig, StudentConfig, TeacherConfig
from pipeline.workspace import (
    EXAMPLES,
    REPORT,
    TARGETS,
    TEACHER,
    Run,
    command_for,
    derived_stage,
    digest,
    ensemble_stage,
    student_stage,
    target_stage,
)


def teacher_key(run: Run, config: TeacherConfig, original: Run | None = None) -> str:
    """The key of the teacher: its settings, the examples, and in a refit the teacher of the original run."""
    return digest({"settings": plain(config), "examples": run.identity(EXAMPLES), **_repeated(original, TEACHER)})


def _repeated(original: Run | None, stage: str) -> dict[str, str]:
    return {"original": original.identity(stage)} if original else {}


def targets_key(run: Run, embedding: int = 0) -> str:
    """The key of the targets: the examples, the teacher, and how many floats of its embeddings there are."""
    asked = {"embedding": embedding} if embedding else {}
    return digest({"examples": run.identity(EXAMPLES), "teacher": run.identity(TEACHER), **asked})


def derived_key(run: Run, source: str, config: DerivedConfig) -> str:
    """The key of derived targets: the settings that their source reads, the examples, and the teacher's targets."""
    return digest({"settings": derived_settings(source, config), **derived_sources(run), "source": source})


def derived_settings(source: str, config: DerivedConfig) -> dict[str, Any]:
    """The settings that a source reads."""
    return {name: value for name, value in plain(config).items() if name in _DERIVED[source]}


_DERIVED = {
    "random": ("seed",),
    "lelp": ("pseudo_subclasses", "lelp_temperature", "seed"),
    "centroids": ("centroid_temperature",),
}


def derived_sources(run: Run) -> dict[str, str]:
    """Identities of what derived targets are made from, as their manifest keeps them."""
    return {stage: run.identity(stage) for stage in (EXAMPLES, TARGETS)}


def require_current(run: Run, stage: str) -> None:
    """Makes sure that the teacher, or targets, were made from what the run holds now.

    A teacher that has been removed is no contradiction: its targets stand for it, as derived targets do for those.

    Raises:
        ArtifactError: the stage is missing or stale.
    """
    for source, identity in run.manifest(stage)["sources"].items():
        if source != EXAMPLES and run.origin(source) is None:
            continue
        if not storage.exists(run.file(source, "manifest.json")) or run.identity(source) != identity:
            raise ArtifactError(
                f"The {stage} of a run must be made from its present {source}. Received: {stage} from others; make "
                f"them again with `ctr-distill {command_for(stage)} --run {run.path}`."
            )
        if source == TARGETS:
            require_current(run, TARGETS)


def student_key(run: Run, method: str, config: StudentConfig, original: Run | None = None) -> str:
    """The key of a student: settings, examples, the targets if it needs them; see :func:`teacher_key`."""
    repeated = _repeated(original, student_stage(method))
    sources = student_sources(run, method, config.needs_embeddings)
    return digest({"settings": of_training(config), "served": config.served, **sources, **repeated})


def student_sources(run: Run, method: str, embeddings: bool = False) -> dict[str, str | None]:
    """Identities of what a student is made from, as its manifest keeps them.

    Args:
        run: the run directory.
        method: of the student.
        embeddings: whether it learns from the teacher's embeddings.
    """
    stage, targets = target_stage(METHODS[method].source), None
    if embeddings:
        targets = run.identity(stage)
    elif METHODS[method].needs_targets:
        targets = logits_identity(run, stage)
    return {"examples": run.identity(EXAMPLES), "targets": targets}


def logits_identity(run: Run, stage: str) -> str:
    """A hash of what the logits of targets follow from: the same, whether there are embeddings beside them or not.

    Derived targets are known by their fingerprint, which says of what targets they are.
    """
    manifest = run.manifest(stage)
    return digest({name: value for name, value in manifest.items() if name not in _OF_EMBEDDINGS})


# The key says how many floats there are, and the checksums of shards are of logits and embeddings together.
_OF_EMBEDDINGS = ("key", "shards", "embedding", "explained", "head")


def finished_students(run: Run) -> list[str]:
    """Stages of the students that were made from the run's present examples and targets, in a fixed order.

    The ensemble of a student's generations, if there are several, comes behind the student.
    """
    found = []
    for method in METHODS:
        stage = student_stage(method)
        if storage.exists(run.file(stage, "manifest.json")) and _is_current(run, method):
            found.append(stage)
            ensemble = ensemble_stage(method)
            found += [ensemble] if storage.exists(run.file(ensemble, "manifest.json")) else []
    return found


def _is_current(run: Run, method: str) -> bool:
    """Whether a finished student was made from what the run holds now."""
    sources = run.manifest(student_stage(method)).get("sources", {})
    # Without targets in its manifest, it is one that needed none.
    if not sources.get("targets"):
        return not METHODS[method].needs_targets and bool(sources == student_sources(run, method))
    if not _has_targets(run, METHODS[method].source):
        return False
    return any(sources == student_sources(run, method, embeddings) for embeddings in (False, True))


def _has_targets(run: Run, source: str) -> bool:
    """Whether the targets of a source are finished and, if they are derived ones, not from earlier targets.

    Derived targets stand for those that they were made from, if these have been removed; see :func:`require_current`.
    """
    stage = target_stage(source)
    if not storage.exists(run.file(stage, "manifest.json")):
        return False
    made_from = run.manifest(stage).get("sources", {}).get(TARGETS)
    if made_from is None or run.origin(TARGETS) is None:
        return True
    return storage.exists(run.file(TARGETS, "manifest.json")) and bool(run.identity(TARGETS) == made_from)


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
    sources = needed_sources(methods)
    stages = [TEACHER, TARGETS, *map(derived_stage, sources), *map(student_stage, methods)]
    if not all(storage.exists(run.file(stage, "manifest.json")) for stage in stages):
        return False
    keys = [
        (TEACHER, teacher_key(run, config.teacher_config(), original)),
        (TARGETS, targets_key(run, config.embedding_for(methods))),
        *((derived_stage(source), derived_key(run, source, config.derived)) for source in sources),
        *((student_stage(m), student_key(run, m, config.student_config(m), original)) for m in methods),
    ]
    return all(run.is_done(stage, key) for stage, key in keys) and _is_reported(run, original)


def needed_sources(methods: Sequence[str]) -> list[str]:
    """The sources of derived targets that students of these methods learn from, each once."""
    return list(dict.fromkeys(METHODS[m].source for m in methods if METHODS[m].source != TEACHER_SOURCE))


def _is_reported(run: Run, original: Run | None) -> bool:
    """Whether the page is there; a refit of a run without test rows has nothing to report."""
    if original and not run.spec().rows["test"]:
        return True
    page = storage.exists(run.file(REPORT, "manifest.json")) and storage.exists(run.file(REPORT, "index.html"))
    return page and run.is_done(REPORT, evaluation_key(run))

"""What the settings of a student and its targets must have in common, before anything is trained."""

from __future__ import annotations

from models.methods import METHODS
from pipeline.originals import Original
from pipeline.settings import StudentConfig, require
from pipeline.student_data import StudentData


def require_teachable(data: StudentData, name: str, config: StudentConfig, original: Original | None = None) -> None:
    """Makes sure that a method's student can learn what its settings ask for.

    Args:
        data: what it is trained on.
        name: a key of :data:`models.methods.METHODS`.
        config: its settings.
        original: what is repeated by a refit, which has no validation rows; else None.

    Raises:
        ConfigError: the click would be learnt from nothing, or targets do not have what is asked for.
    """
    _require_click(data, name, config)
    _require_same_label(data, config)
    _require_head(data, name, config)
    if METHODS[name].target != "none":
        _require_slices(data, config, original)
        _require_members(data, name, config)


def require_generations(config: StudentConfig, workers: int) -> None:
    """Makes sure that a student which is to have several generations can have them.

    Args:
        config: its settings.
        workers: on which it is trained.

    Raises:
        ConfigError: a generation would lack what its settings need.
    """
    if config.generations == 1:
        return
    rule = "generations must be 1"
    require(workers == 1, f"{rule} with several workers", config.generations)
    require(not config.needs_embeddings, f"{rule} for students that learn from embeddings", config.generations)
    require(
        not (config.slice_alpha or config.member_gate),
        f"{rule} with slice_alpha or member_gate: a student has neither validation targets nor members",
        config.generations,
    )


def has_auxiliary_head(data: StudentData, name: str, config: StudentConfig) -> bool:
    """Whether targets go to a head of their own."""
    return (bool(data.label) or config.auxiliary_head) and METHODS[name].target != "none"


def _require_click(data: StudentData, name: str, config: StudentConfig) -> None:
    """Something must teach the click."""
    if METHODS[name].target == "none":
        return
    if has_auxiliary_head(data, name, config):
        why = f"the teacher has learned {data.label}" if data.label else "the targets have a head of their own"
    elif METHODS[name].target == "subclass" and config.temper == "within" and not config.class_weight:
        why = "class_weight is 0"
    else:
        return
    require(config.alpha < 1, f"alpha must be below 1 where {why}: the click comes from labels alone", config.alpha)


def _require_same_label(data: StudentData, config: StudentConfig) -> None:
    """What joins labels and targets must have them of one thing."""
    if data.label:
        for name in ("correction", "relations"):
            rule = f"{name} must be 0 where the teacher has learned {data.label}: labels are of the click"
            require(not getattr(config, name), rule, getattr(config, name))


def _require_head(data: StudentData, name: str, config: StudentConfig) -> None:
    """The teacher's head can be reused by students of as many logits, of the same label."""
    if not config.reused:
        return
    rule = "reused must be 0"
    wide = METHODS[name].wide_head and not has_auxiliary_head(data, name, config)
    require(wide, f"{rule} for a student whose own head has two logits", f"{config.reused} ({name})")
    require(not data.label, f"{rule} where the teacher has learned {data.label}", config.reused)
    received = f"{config.reused} (targets of {METHODS[name].source})"
    require(data.head is not None, f"{rule} without a linear head of the teacher: gated, or derived targets", received)


def _require_slices(data: StudentData, config: StudentConfig, original: Original | None) -> None:
    """The weights of slices are found on validation rows."""
    if config.slice_alpha and not original:
        rows = f"{data.spec.rows['valid']} validation rows"
        require(data.judged is not None, "slice_alpha must be false without validation rows that have targets", rows)


def _require_members(data: StudentData, name: str, config: StudentConfig) -> None:
    """A gate weighs the click logits of a teacher's networks."""
    if not config.member_gate:
        return
    target = METHODS[name].target
    require(target == "class", "member_gate must be false for a method that learns subclasses", name)
    require(not config.correction, "correction must be 0 with member_gate", config.correction)
    require(
        data.members > 0,
        "member_gate must be false unless targets have a teacher's members: of several networks, without trees and "
        "cross-fitting, and not derived",
        f"targets of {METHODS[name].source}",
    )

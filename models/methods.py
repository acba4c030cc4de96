"""The methods of ``distill``: what a student learns from, and how wide its head is."""

from __future__ import annotations

from dataclasses import dataclass

TEACHER_SOURCE = "teacher"


@dataclass(frozen=True)
class Method:
    """What distinguishes a method; everything else is the same in all of them.

    Args:
        target: what the student learns from the teacher; see :func:`models.losses.student_loss`.
        wide_head: as many logits as the targets have, instead of two.
        source: where the targets come from: the teacher's own subclasses, or others that stand in their place (see
            :mod:`models.pseudo_subclasses`).
    """

    target: str
    wide_head: bool
    source: str = TEACHER_SOURCE

    @property
    def needs_targets(self) -> bool:
        """Whether the teacher's targets decide what comes out, if only by their number of logits."""
        return self.wide_head or self.target != "none"

    @property
    def successor(self) -> str:
        """The method of the next generation, whose teacher is a student: of the same head, and never without teacher.

        References:
          Yang et al., Training Deep Neural Networks in Generations (2018), https://arxiv.org/abs/1805.05551
        """
        if self.target == "none":
            return "kd_k" if self.wide_head else "kd"
        return next(name for name, method in METHODS.items() if method == self)


METHODS = {
    "hard": Method("none", wide_head=False),
    "kd": Method("class", wide_head=False),
    "subclass": Method("subclass", wide_head=True),
    "hard_k": Method("none", wide_head=True),
    "kd_k": Method("class", wide_head=True),
    "random": Method("subclass", wide_head=True, source="random"),
    "lelp": Method("subclass", wide_head=True, source="lelp"),
    "centroids": Method("subclass", wide_head=True, source="centroids"),
}

SOURCES = tuple(method.source for method in METHODS.values() if method.source != TEACHER_SOURCE)
"""The sources of derived targets."""
EMBEDDED_SOURCES = ("lelp", "centroids")
"""Those that are made from the teacher's embeddings."""

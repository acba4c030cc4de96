"""The methods of `distill`."""

from __future__ import annotations

import pytest

from models.losses import TARGETS
from models.methods import EMBEDDED_SOURCES, METHODS, SOURCES, Method


@pytest.mark.parametrize(
    ("name", "target", "wide_head", "needs_targets"),
    [
        ("hard", "none", False, False),
        ("kd", "class", False, True),
        ("subclass", "subclass", True, True),
        ("hard_k", "none", True, True),
        ("kd_k", "class", True, True),
    ],
)
def test_what_each_method_learns(name: str, target: str, wide_head: bool, needs_targets: bool) -> None:
    assert METHODS[name] == Method(target, wide_head)
    assert METHODS[name].needs_targets is needs_targets


@pytest.mark.parametrize("source", ["random", "lelp", "centroids"])
def test_derived_targets_are_learnt_as_those_of_the_teacher_are(source: str) -> None:
    assert METHODS[source] == Method("subclass", wide_head=True, source=source) != METHODS["subclass"]
    assert METHODS[source].needs_targets and METHODS[source].successor == source


def test_the_sources_of_derived_targets() -> None:
    assert SOURCES == ("random", "lelp", "centroids")
    assert set(EMBEDDED_SOURCES) == set(SOURCES) - {"random"}
    assert all(method.source == "teacher" for name, method in METHODS.items() if name not in SOURCES)


def test_every_target_is_one_of_the_losses() -> None:
    assert {method.target for method in METHODS.values()} == set(TARGETS)


def test_subclass_targets_need_the_wide_head() -> None:
    assert all(method.wide_head for method in METHODS.values() if method.target == "subclass")


def test_every_wide_head_has_a_paired_baseline_of_the_same_shape() -> None:
    wide = {method.target for method in METHODS.values() if method.wide_head}
    assert wide == {"none", "class", "subclass"}


@pytest.mark.parametrize(
    ("name", "successor"),
    [("hard", "kd"), ("kd", "kd"), ("subclass", "subclass"), ("hard_k", "kd_k"), ("kd_k", "kd_k")],
)
def test_the_next_generation_has_the_same_head_and_a_teacher(name: str, successor: str) -> None:
    assert METHODS[name].successor == successor
    assert METHODS[successor].wide_head == METHODS[name].wide_head

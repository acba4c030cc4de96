"""The plan of a comparison: paired seeds, one teacher a seed and settings, fractions with the same number of steps."""

from __future__ import annotations

from typing import Any

import pytest

from features.errors import ConfigError
from pipeline.compare_plan import Plan, at_fraction
from pipeline.config import resolve
from pipeline.settings import EMBEDDING, StudentConfig
from pipeline.workspace import Run

RUN = Run("run")


ARMS: dict[str, dict[str, Any]] = {
    "wide": {"method": "kd", "teacher": {"hidden": [8]}},
    "folded": {"method": "lelp", "teacher": {"folds": 5}},
    "seeded": {"method": "kd", "student": {"seed": 7}},
    "a/b": {"method": "kd"},
    "teacher of kd": {"method": "kd"},
    "long": {"method": "kd", "student": {"generations": 2}},
}


def plan_of(sections: dict[str, Any] | None = None, /, **compare: Any) -> Plan:
    return Plan.of(RUN, resolve({"preset": "100k", "compare": compare, "arms": ARMS, **(sections or {})}))


def test_a_seed_fixes_teacher_and_student() -> None:
    jobs = list(plan_of(methods="hard,kd,subclass", seeds=3).jobs({}))
    assert [(job.arm, job.seed, job.config.seed) for job in jobs] == [
        (arm, seed, seed) for arm in ("hard", "kd", "subclass") for seed in range(3)
    ]
    teachers = {(job.arm, job.seed): job.cell.teacher for job in jobs}
    assert teachers["hard", 0] is None
    for seed in range(3):
        teacher = teachers["kd", seed]
        assert teacher is not None and teacher.seed == seed and teachers["subclass", seed] == teacher


def test_seeds_may_share_teachers() -> None:
    jobs = list(plan_of(methods="kd", baseline="kd", seeds=5, teachers=2).jobs({}))
    assert [job.cell.teacher.seed for job in jobs if job.cell.teacher] == [0, 1, 0, 1, 0]
    assert len({job.cell.teacher_run.path for job in jobs}) == 2
    assert len({job.path for job in jobs}) == 5


def test_an_arm_with_teacher_settings_has_a_teacher_of_its_own() -> None:
    cells = {job.arm: job.cell for job in plan_of(methods="hard,kd,subclass,wide", seeds=1).jobs({})}
    assert cells["kd"].teacher_run == cells["subclass"].teacher_run != cells["wide"].teacher_run


def test_students_of_a_fraction_have_the_teacher_of_all_rows_unless_they_say_otherwise() -> None:
    jobs = list(plan_of(methods="hard,kd,kd+own", seeds=1, fractions="10%,1").jobs({}))
    cells = {(job.arm, job.cell.rows): job.cell for job in jobs}
    assert cells["kd", 0.1].teacher_run == cells["kd", 1.0].teacher_run
    assert cells["kd", 0.1].teacher_run.examples_of == "run"
    assert cells["kd+own", 0.1].teacher_run.examples_of == "run/compare/rows/0.1"
    assert cells["kd", 0.1].run.examples_of == cells["kd+own", 0.1].run.examples_of
    assert cells["kd", 0.1].run != cells["kd", 0.1].teacher_run
    assert cells["kd+own", 0.1].run == cells["kd+own", 0.1].teacher_run
    assert cells["kd+own", 1.0].run == cells["kd", 1.0].run == cells["kd", 1.0].teacher_run
    assert cells["hard", 0.1].run == Run("run/compare/rows/0.1") and cells["hard", 1.0].run == RUN


def test_what_is_stored_of_a_teacher_is_what_its_students_need() -> None:
    cells = {job.arm: job.cell for job in plan_of(methods="hard,kd,random,lelp,wide", seeds=1).jobs({})}
    assert cells["kd"].sources == cells["lelp"].sources == ("lelp", "random")
    assert cells["kd"].embedding == EMBEDDING
    assert cells["wide"].sources == () and cells["wide"].embedding == 0
    cells = {job.arm: job.cell for job in plan_of(methods="hard,random,kd", seeds=1).jobs({})}
    assert cells["random"].embedding == 0
    cells = {job.arm: job.cell for job in plan_of(methods="hard,kd,kd+similarity", seeds=1).jobs({})}
    assert cells["kd"].embedding == EMBEDDING


def test_the_size_of_embeddings_counts_only_where_they_are_stored() -> None:
    plan = plan_of({"targets": {"embedding": 16}}, methods="hard,kd+folds,lelp", seeds=1)
    cells = {job.arm: job.cell for job in plan.jobs({})}
    # Cross-fitted teachers have none.
    assert cells["lelp"].embedding == 16 and cells["kd+folds"].embedding == 0


def test_a_teacher_of_a_fraction_has_as_many_steps_too() -> None:
    cells = {job.arm: job.cell for job in plan_of(methods="hard,kd,kd+own", seeds=1, fractions="25%").jobs({})}
    whole, own = cells["kd"].teacher, cells["kd+own"].teacher
    assert whole is not None and own is not None and own == at_fraction(whole, 0.25)
    assert own.epochs * 0.25 / own.batch_size == whole.epochs / whole.batch_size


def test_a_fraction_has_as_many_steps_and_evaluations() -> None:
    whole = StudentConfig(batch_size=1000, epochs=10.0, evaluations=2)
    part = at_fraction(whole, 0.25)
    assert (part.batch_size, part.epochs, part.evaluations) == (500, 20.0, 1)
    assert part.epochs * 0.25 / part.batch_size == whole.epochs / whole.batch_size
    assert part.epochs * part.evaluations == whole.epochs * whole.evaluations
    assert at_fraction(whole, 1.0) == whole


def test_trials_share_their_draws_and_begin_with_what_is_there() -> None:
    plan = plan_of(methods="hard,kd", seeds=2, trials=3)
    trials = {(job.arm, job.trial): job for job in plan.trials()}
    assert len(trials) == 6 and all(job.seed == 0 for job in trials.values())
    present = {job.arm: job.config for job in plan.jobs({}) if job.seed == 0}
    assert trials["kd", 0].config == present["kd"]
    for trial in (1, 2):
        hard, kd = trials["hard", trial].config, trials["kd", trial].config
        # What both methods have around the same present value is drawn once.
        assert hard.learning_rate == kd.learning_rate != present["kd"].learning_rate
        assert kd.alpha != present["kd"].alpha and hard.alpha == present["hard"].alpha
    assert len({job.path for job in trials.values()}) == 6


def test_trials_leave_alone_what_an_arm_is_about() -> None:
    plan = plan_of(methods="hard,kd+auxiliary", seeds=1, trials=3)
    assert {job.config.alpha for job in plan.trials() if job.arm == "kd+auxiliary"} == {0.5}


def test_an_arm_may_have_a_name_that_yaml_takes_for_a_number() -> None:
    plan = plan_of({"arms": {3: {"method": "kd", "student": {"temperature": 3}}}}, methods="hard,3", seeds=1)
    assert [job.arm for job in plan.jobs({})] == ["hard", "3"]


def test_what_was_found_counts_for_every_seed() -> None:
    jobs = list(plan_of(methods="hard,kd", seeds=2).jobs({("kd", 1.0): {"alpha": 0.25}}))
    assert [job.config.alpha for job in jobs if job.arm == "kd"] == [0.25, 0.25]
    assert [job.config.seed for job in jobs if job.arm == "kd"] == [0, 1]


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ({"methods": "hard,kdd"}, r"Did you mean kd"),
        ({"methods": "kd"}, r"baseline must be one of the methods"),
        ({"methods": "hard,kd,kd"}, r"methods must differ"),
        ({"seeds": 0}, r"seeds must be positive"),
        ({"teachers": 9}, r"teachers must be at least 0 and at most the seeds"),
        ({"fractions": "2"}, r"fractions must be a share"),
        ({"fractions": "0"}, r"fractions must be above 0"),
        ({"fractions": "0.1,10%"}, r"fractions must differ"),
        ({"trials": -1}, r"trials must not be negative"),
        (
            {"methods": "hard,folded"},
            r"folds must be 0 for students that learn from embeddings. Received: 5 \(folded\)",
        ),
        ({"methods": "hard,seeded"}, r"seed must be the same .* Received: {'hard': 0, 'seeded': 7}"),
        ({"methods": "hard,a/b"}, r"The name of an arm must have no slash .* Received: a/b"),
        ({"methods": "hard,teacher of kd"}, r"The name of an arm must .* not be a teacher's"),
        ({"methods": "hard,long"}, r"generations must be 1 in a comparison. Received: 2 \(long\)"),
    ],
)
def test_a_mistake_is_said(compare: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(**compare)

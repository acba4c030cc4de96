import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.errors import ArtifactError
from models.methods import SOURCES
from pipeline.config import Config
from pipeline.keys import (
    derived_key,
    derived_sources,
    evaluation_key,
    finished_students,
    is_complete,
    require_current,
    student_key,
    student_sources,
    targets_key,
    teacher_key,
)
from pipeline.settings import DerivedConfig, StudentConfig, TargetsConfig
from pipeline.workspace import EXAMPLES, REPORT, TARGETS, TEACHER, Run, derived_stage, student_stage

METHODS = ("hard", "kd")
CONFIG = Config()


def finish_examples(run: Run, checksum: str) -> None:
    """Finishes the examples; the log that they were made from lies beside the run."""
    log = str(Path(run.path).parent / "log.tsv")
    run.finish(EXAMPLES, "examples", {"inputs": [{"path": log}], "shards": [{"checksum": checksum}]})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run all of whose stages are finished, as the stages themselves write it."""
    run = Run(str(tmp_path / "run"))
    finish_examples(run, "a")
    finish_from(run, TEACHER)
    return run


def sources(run: Run, stage: str) -> dict[str, Any]:
    """What the manifest of a stage says about what it was made from."""
    made_from = {TEACHER: (EXAMPLES,), TARGETS: (EXAMPLES, TEACHER)}
    if stage in made_from:
        return {"sources": {source: run.identity(source) for source in made_from[stage]}}
    method = stage.removeprefix("students/")
    return {"sources": student_sources(run, method)} if method in METHODS else {}


def finish_from(run: Run, first: str) -> None:
    """Finishes a stage and all that follow."""
    stages: dict[str, Any] = {
        TEACHER: lambda: teacher_key(run, CONFIG.teacher_config()),
        TARGETS: lambda: targets_key(run),
    }
    for method in METHODS:
        stages[student_stage(method)] = lambda m=method: student_key(run, m, CONFIG.student_config(m))
    stages[REPORT] = lambda: evaluation_key(run)
    for stage in list(stages)[list(stages).index(first) :]:
        run.finish(stage, stages[stage](), sources(run, stage))
    Path(run.file(REPORT, "index.html")).write_text("")


def complete(run: Run, config: Config = CONFIG, methods: tuple[str, ...] = METHODS) -> bool:
    return is_complete(run, config, methods)


def test_a_finished_run_is_complete(run: Run) -> None:
    assert complete(run)
    assert complete(run, methods=("kd",))
    assert not complete(run, methods=("hard", "kd", "subclass"))


@pytest.mark.parametrize("stage", [TEACHER, TARGETS, student_stage("kd"), REPORT])
def test_a_missing_stage(run: Run, stage: str) -> None:
    Path(run.file(stage, "manifest.json")).unlink()
    assert not complete(run)


def test_a_missing_page(run: Run) -> None:
    Path(run.file(REPORT, "index.html")).unlink()
    assert not complete(run)


@pytest.mark.parametrize(
    "config",
    [
        Config(teacher={"seed": 1}),
        Config(student={"seed": 1}),
        Config(methods={"kd": {"alpha": 0.123}}),
    ],
)
def test_changed_settings(run: Run, config: Config) -> None:
    assert not complete(run, config)


def test_the_preset_counts_by_its_settings_alone(run: Run) -> None:
    assert complete(run, Config(preset="100k"))
    assert not complete(run, Config(preset="1m"))
    given = Config(preset="100k").to_json()
    assert complete(run, Config(teacher=given["teacher"], methods=given["methods"], preset="40m"))


def test_a_refit_depends_on_the_models_that_it_repeats(run: Run, tmp_path: Path) -> None:
    """Not on what else there is of their run."""
    original = Run(str(tmp_path / "original"))
    shutil.copytree(run.path, original.path)

    def keys() -> list[str]:
        students = [student_key(run, method, StudentConfig(), original) for method in METHODS]
        return [teacher_key(run, CONFIG.teacher_config(), original), *students]

    first = keys()
    assert first[0] != teacher_key(run, CONFIG.teacher_config())
    assert not set(first[1:]) & set(student_keys(run))
    assert complete(run) and not is_complete(run, CONFIG, METHODS, original)
    original.finish(TARGETS, "other", {})
    assert keys() == first
    original.finish(TEACHER, "other", {})
    assert [a == b for a, b in zip(keys(), first, strict=True)] == [False, True, True]
    original.finish(student_stage("kd"), "other", {})
    assert [a == b for a, b in zip(keys(), first, strict=True)] == [False, True, False]


def test_settings_of_other_methods_do_not_count(run: Run) -> None:
    assert complete(run, Config(methods={"subclass": {"alpha": 0.123}}))


def test_other_examples_make_everything_stale(run: Run) -> None:
    before = [teacher_key(run, CONFIG.teacher_config()), targets_key(run), *student_keys(run), evaluation_key(run)]
    finish_examples(run, "b")
    after = [teacher_key(run, CONFIG.teacher_config()), targets_key(run), *student_keys(run), evaluation_key(run)]
    assert not any(a == b for a, b in zip(before, after, strict=True))
    assert not complete(run)
    finish_from(run, TEACHER)
    assert complete(run)


def student_keys(run: Run) -> list[str]:
    return [student_key(run, method, StudentConfig()) for method in METHODS]


def test_another_teacher_leaves_the_hard_student(run: Run) -> None:
    hard, kd = student_keys(run)
    run.finish(TEACHER, "other", {})
    finish_from(run, TARGETS)
    assert student_keys(run)[0] == hard and student_keys(run)[1] != kd


def finish_derived(run: Run, source: str, config: DerivedConfig = CONFIG.derived) -> None:
    key, told = derived_key(run, source, config), {"sources": derived_sources(run)}
    run.finish(derived_stage(source), key, told)


def test_the_number_of_floats_counts(run: Run) -> None:
    assert targets_key(run) == targets_key(run, 0)
    assert len({targets_key(run, size) for size in (0, 8, 16)}) == 3
    assert not complete(run, Config(targets=TargetsConfig(8)))
    run.finish(TARGETS, targets_key(run, 8), sources(run, TARGETS))
    finish_from(run, student_stage("hard"))
    assert complete(run, Config(targets=TargetsConfig(8))) and not complete(run)


def test_embeddings_beside_the_same_logits_leave_the_students_as_they_are(run: Run) -> None:
    students, embedded = student_keys(run), student_key(run, "kd", StudentConfig(similarity=1.0))
    told = {"embedding": 8, "explained": 0.9, "head": "head.npz", "shards": [{"path": "a", "checksum": "other"}]}
    run.finish(TARGETS, targets_key(run, 8), {**sources(run, TARGETS), **told})
    assert student_keys(run) == students and finished_students(run) == ["students/hard", "students/kd"]
    assert student_key(run, "kd", StudentConfig(similarity=1.0)) != embedded
    run.finish(TARGETS, targets_key(run, 8), {**sources(run, TARGETS), **told, "teacher": "other"})
    assert student_keys(run)[1] != students[1] and finished_students(run) == ["students/hard"]


def test_a_student_of_derived_targets_needs_them_finished_and_current(run: Run) -> None:
    config = Config(targets=TargetsConfig(8))
    run.finish(TARGETS, targets_key(run, 8), sources(run, TARGETS))
    with pytest.raises(ArtifactError, match="ctr-distill derive --source lelp"):
        student_key(run, "lelp", StudentConfig())
    assert not complete(run, config, ("lelp",))
    finish_derived(run, "lelp")
    stage = student_stage("lelp")
    run.finish(
        stage, student_key(run, "lelp", config.student_config("lelp")), {"sources": student_sources(run, "lelp")}
    )
    run.finish(REPORT, evaluation_key(run), {})
    assert complete(run, config, ("lelp",)) and stage in finished_students(run)
    other = replace(config, derived=DerivedConfig(pseudo_subclasses=7))
    assert not complete(run, other, ("lelp",)) and complete(run, replace(config, derived=DerivedConfig()), ("lelp",))
    run.finish(TARGETS, targets_key(run, 8), {**sources(run, TARGETS), "other": 1})
    assert not complete(run, config, ("lelp",))
    refused(run, derived_stage("lelp"), TARGETS, "derive --source lelp")


def test_derived_targets_stand_for_removed_targets_and_not_for_stale_ones(run: Run) -> None:
    finish_derived(run, "random")
    require_current(run, derived_stage("random"))
    run.finish(TEACHER, "other", sources(run, TEACHER))
    with pytest.raises(ArtifactError, match="The targets of a run must be made from its present teacher"):
        require_current(run, derived_stage("random"))
    shutil.rmtree(run.file(TARGETS))
    require_current(run, derived_stage("random"))


def test_students_of_derived_targets_of_earlier_targets_do_not_count_as_finished(run: Run) -> None:
    """Their targets lie there unchanged, but say what another teacher said."""
    finish_derived(run, "random")
    stage = student_stage("random")
    run.finish(stage, "key", {"sources": student_sources(run, "random")})
    assert stage in finished_students(run)
    run.finish(TARGETS, "key", {**sources(run, TARGETS), "teacher": "other"})
    assert finished_students(run) == ["students/hard"]
    run.begin(TARGETS, "unfinished")
    assert finished_students(run) == ["students/hard"]


def test_without_targets_there_are_the_students_of_labels_and_of_derived_targets(run: Run) -> None:
    finish_derived(run, "random")
    run.finish(student_stage("random"), "key", {"sources": student_sources(run, "random")})
    shutil.rmtree(run.file(TARGETS))
    assert finished_students(run) == ["students/hard", "students/random"]


def test_derived_targets_of_a_subset_say_nothing_of_their_targets(run: Run) -> None:
    run.finish(derived_stage("random"), "key", {"sources": {EXAMPLES: run.identity(EXAMPLES)}})
    run.finish(student_stage("random"), "key", {"sources": student_sources(run, "random")})
    assert "students/random" in finished_students(run)


def test_only_the_settings_that_a_source_reads_count(run: Run) -> None:
    settings = {"pseudo_subclasses": 9, "lelp_temperature": 2.0, "centroid_temperature": 2.0, "seed": 9}
    read = {"random": {"seed"}, "lelp": {*settings} - {"centroid_temperature"}, "centroids": {"centroid_temperature"}}
    assert set(read) == set(SOURCES)
    for source, names in read.items():
        first = derived_key(run, source, DerivedConfig())
        for name, value in settings.items():
            changed = derived_key(run, source, replace(DerivedConfig(), **{name: value}))
            assert (changed != first) == (name in names), (source, name)


def test_a_student_of_embeddings_depends_on_the_targets(run: Run) -> None:
    assert student_sources(run, "hard")["targets"] is None
    assert student_sources(run, "hard", embeddings=True)["targets"] == run.identity(TARGETS)
    config = StudentConfig(similarity=1.0)
    before = student_key(run, "hard", config)
    run.finish(student_stage("hard"), "key", {"sources": student_sources(run, "hard", embeddings=True)})
    assert "students/hard" in finished_students(run)
    run.finish(TARGETS, "other", {})
    assert student_key(run, "hard", config) != before and "students/hard" not in finished_students(run)


def test_a_stage_needs_what_it_is_made_from(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    for stage in (TEACHER, TARGETS):
        with pytest.raises(ArtifactError, match=f"The run must hold finished {stage}"):
            require_current(run, stage)
    for call in (
        lambda: teacher_key(run, CONFIG.teacher_config()),
        lambda: targets_key(run),
        lambda: student_key(run, "hard", StudentConfig()),
        lambda: evaluation_key(run),
    ):
        with pytest.raises(ArtifactError, match="The run must hold finished examples"):
            call()
    run.finish(EXAMPLES, "key", {})
    student_key(run, "hard", StudentConfig())
    with pytest.raises(ArtifactError, match="The run must hold finished targets"):
        student_key(run, "kd", StudentConfig())


def test_finished_students_in_the_order_of_the_methods(run: Run) -> None:
    run.finish(student_stage("subclass"), "key", {"sources": student_sources(run, "subclass")})
    assert finished_students(run) == ["students/hard", "students/kd", "students/subclass"]


def test_students_of_other_targets_do_not_count_as_finished(run: Run) -> None:
    run.finish(TARGETS, "other", {})
    assert finished_students(run) == ["students/hard"]
    run.finish(EXAMPLES, "other", {})
    assert finished_students(run) == []


def test_every_setting_counts(run: Run) -> None:
    config = StudentConfig()
    keys = {student_key(run, "kd", config)}
    for changed in (replace(config, alpha=0.5), replace(config, seed=9), replace(config, min_count=7)):
        keys.add(student_key(run, "kd", changed))
    assert len(keys) == 4


def test_the_truth_of_the_logs_counts_for_the_evaluation(run: Run, tmp_path: Path) -> None:
    """It is read by nothing else."""
    truth, keys, others = tmp_path / "log.truth.parquet", [evaluation_key(run)], student_keys(run)
    for data, second in ((b"1", 1), (b"12", 1), (b"12", 2)):
        truth.write_bytes(data)
        os.utime(truth, (second, second))
        assert not complete(run)
        keys.append(evaluation_key(run))
    assert len(set(keys)) == 4
    truth.unlink()
    assert evaluation_key(run) == keys[0] and complete(run)
    assert student_keys(run) == others


def refused(run: Run, stage: str, source: str, command: str) -> None:
    """The stage is refused, in one line that says which command to call."""
    with pytest.raises(ArtifactError) as error:
        require_current(run, stage)
    assert str(error.value) == (
        f"The {stage} of a run must be made from its present {source}. Received: {stage} from others; make them again "
        f"with `ctr-distill {command} --run {run.path}`."
    )


class TestRequireCurrent:
    def test_what_is_current(self, run: Run) -> None:
        for stage in (TEACHER, TARGETS):
            require_current(run, stage)

    def test_other_examples(self, run: Run) -> None:
        finish_examples(run, "b")
        refused(run, TEACHER, EXAMPLES, "train-teacher")
        refused(run, TARGETS, EXAMPLES, "precompute")
        run.finish(TEACHER, teacher_key(run, CONFIG.teacher_config()), sources(run, TEACHER))
        require_current(run, TEACHER)
        refused(run, TARGETS, EXAMPLES, "precompute")
        run.finish(TARGETS, targets_key(run), sources(run, TARGETS))
        require_current(run, TARGETS)

    def test_the_first_examples_again(self, run: Run) -> None:
        finish_examples(run, "b")
        finish_examples(run, "a")
        for stage in (TEACHER, TARGETS):
            require_current(run, stage)

    def test_another_teacher(self, run: Run) -> None:
        run.finish(TEACHER, "other", sources(run, TEACHER))
        require_current(run, TEACHER)
        refused(run, TARGETS, TEACHER, "precompute")

    def test_an_unfinished_teacher(self, run: Run) -> None:
        run.begin(TEACHER, "other")
        refused(run, TARGETS, TEACHER, "precompute")

    def test_a_removed_teacher_is_no_contradiction(self, run: Run) -> None:
        shutil.rmtree(run.file(TEACHER))
        require_current(run, TARGETS)
        finish_examples(run, "b")
        refused(run, TARGETS, EXAMPLES, "precompute")

    def test_removed_examples(self, run: Run) -> None:
        shutil.rmtree(run.file(EXAMPLES))
        refused(run, TEACHER, EXAMPLES, "train-teacher")


class TestStagesRefuse:
    """Before they write anything. The stages are the real ones; the manifests are not."""

    def call(self, run: Run, command: str) -> None:
        from apache_beam.options.pipeline_options import PipelineOptions

        from pipeline.distill import distill
        from pipeline.evaluate import evaluate
        from pipeline.precompute import precompute

        if command == "precompute":
            precompute(run, PipelineOptions([]))
        elif command == "evaluate":
            evaluate(run)
        else:
            distill(run, command, CONFIG.student_config(command))

    @pytest.mark.parametrize(
        ("command", "remedy"),
        [("precompute", "train-teacher"), ("kd", "precompute"), ("subclass", "precompute"), ("evaluate", "precompute")],
    )
    def test_other_examples(self, run: Run, command: str, remedy: str) -> None:
        finish_examples(run, "b")
        before = contents(run)
        with pytest.raises(ArtifactError, match=f"its present examples.*`ctr-distill {remedy} --run {run.path}`"):
            self.call(run, command)
        assert contents(run) == before

    @pytest.mark.parametrize("command", ["kd", "evaluate"])
    def test_another_teacher(self, run: Run, command: str) -> None:
        run.finish(TEACHER, "other", sources(run, TEACHER))
        before = contents(run)
        with pytest.raises(ArtifactError, match=f"its present teacher.*`ctr-distill precompute --run {run.path}`"):
            self.call(run, command)
        assert contents(run) == before

    def test_what_needs_no_targets_is_not_asked_for_them(self, run: Run) -> None:
        run.finish(TEACHER, "other", sources(run, TEACHER))
        self.call(run, "hard")  # there is nothing to do

    def test_report(self, run: Run) -> None:
        from pipeline.report import report

        finish_from(run, TEACHER)
        finish_examples(run, "b")
        with pytest.raises(ArtifactError, match=re.escape(f"`ctr-distill evaluate --run {run.path}`")):
            report(run)


def contents(run: Run) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(run.path).rglob("*") if path.is_file()}

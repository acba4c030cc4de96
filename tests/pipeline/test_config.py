from pathlib import Path
from typing import Any

import pytest

from features.errors import ConfigError
from models.methods import METHODS
from pipeline.config import Config, build, convert, load, narrow, resolve
from pipeline.presets import PRESETS, Preset
from pipeline.settings import PreprocessConfig, StudentConfig, TeacherConfig, share


def yaml(folder: Path, text: str | bytes) -> str:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


class TestConvert:
    @pytest.mark.parametrize(
        ("value", "kind", "expected"),
        [
            (3, int, 3),
            ("3", int, 3),
            (3.0, int, 3),
            ("1e-3", float, 1e-3),
            (2, float, 2.0),
            (True, bool, True),
            ("False", bool, False),
            (0.01, str, "0.01"),
            ("64,32", tuple[int, ...], (64, 32)),
            ([64, 32], tuple[int, ...], (64, 32)),
            ("", tuple[int, ...], ()),
            ([], tuple[int, ...], ()),
        ],
    )
    def test_values(self, value: Any, kind: Any, expected: Any) -> None:
        converted = convert(value, kind, "here")
        assert converted == expected and type(converted) is type(expected)

    @pytest.mark.parametrize(
        ("value", "kind", "name"),
        [
            (2.5, int, "int"),
            ("x", int, "int"),
            (None, int, "int"),
            (True, int, "int"),
            ([1], int, "int"),
            (float("inf"), int, "int"),
            ("fast", float, "float"),
            ("nan", float, "float"),
            (".inf", float, "float"),
            (False, float, "float"),
            (1, bool, "bool"),
            ("yes", bool, "bool"),
            ({"a": 1}, str, "str"),
            (None, str, "str"),
            ("64,x", tuple[int, ...], "whole numbers with commas"),
            (64, tuple[int, ...], "whole numbers with commas"),
        ],
    )
    def test_wrong_type(self, value: Any, kind: Any, name: str) -> None:
        with pytest.raises(ConfigError, match=rf"^A setting must be of type {name}\. Received: .* \(here\)\.$"):
            convert(value, kind, "here")


class TestBuild:
    def test_what_is_not_given_keeps_its_default(self) -> None:
        assert build(TeacherConfig, {}, "teacher") == TeacherConfig()
        made = build(TeacherConfig, {"hidden": "8,4", "subclasses": "3"}, "teacher")
        assert made == TeacherConfig(hidden=(8, 4), subclasses=3)

    @pytest.mark.parametrize(("key", "near"), [("learning_rat", "learning_rate"), ("subclass", "subclasses")])
    def test_an_unknown_key_names_the_nearest(self, key: str, near: str) -> None:
        with pytest.raises(ConfigError, match=rf"Received: {key} \(teacher\)\. Did you mean {near}\?$"):
            build(TeacherConfig, {key: 1}, "teacher")

    def test_nothing_is_near(self) -> None:
        with pytest.raises(ConfigError, match=r"A setting must be one of .*seed.* Received: zzz \(teacher\)\.$"):
            build(TeacherConfig, {"zzz": 1}, "teacher")

    def test_keys_that_are_no_text(self) -> None:
        with pytest.raises(ConfigError, match="Received: 3 "):
            build(TeacherConfig, {3: 1}, "teacher")  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (PreprocessConfig, {"shard_mb": 0}),
        (PreprocessConfig, {"min_count": 0}),
        (PreprocessConfig, {"max_vocabulary": -1}),
        (PreprocessConfig, {"max_vocabulary": 0}),
        (PreprocessConfig, {"max_vocabulary": 1 << 23}),
        (PreprocessConfig, {"max_rejects": "2"}),
        (PreprocessConfig, {"max_rejects": "-1%"}),
        (PreprocessConfig, {"max_rejects": "101%"}),
        (PreprocessConfig, {"max_rejects": "nan"}),
        (PreprocessConfig, {"max_rejects": "some"}),
        (TeacherConfig, {"seed": -1}),
        (TeacherConfig, {"seed": 1 << 32}),
        (StudentConfig, {"seed": -1}),
        (StudentConfig, {"seed": 1 << 32}),
        (TeacherConfig, {"batch_size": 0}),
        (TeacherConfig, {"learning_rate": 0.0}),
        (TeacherConfig, {"epochs": -1.0}),
        (TeacherConfig, {"averaging": 1.0}),
        (TeacherConfig, {"embedding_dropout": 1.0}),
        (TeacherConfig, {"subclasses": 0}),
        (TeacherConfig, {"folds": 1}),
        (TeacherConfig, {"folds": 3}),
        (StudentConfig, {"alpha": 1.5}),
        (StudentConfig, {"temperature": 0.0}),
        (StudentConfig, {"temper": "both"}),
    ],
)
def test_rules(kind: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"must be .*\. Received: .*\.$"):
        kind(**values)


@pytest.mark.parametrize(("text", "limit"), [("1%", 0.01), ("0.02", 0.02), (" 0% ", 0.0), ("100%", 1.0), ("1", 1.0)])
def test_reject_limit(text: str, limit: float) -> None:
    assert PreprocessConfig(max_rejects=text).reject_limit == pytest.approx(limit)
    assert share(text, "--share") == pytest.approx(limit)


@pytest.mark.parametrize("text", ["2", "-1%", "-0.01", "101%", "1.01", "nan", "inf", "some", "", "%", "1%%"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        share(text, "--share")
    assert str(error.value) == f"--share must be a share such as 1% or 0.01. Received: {text}."
    with pytest.raises(ConfigError, match=r"^--max-rejects must be a share such as 1% or 0\.01\. Received: "):
        PreprocessConfig(max_rejects=text)


def test_the_ends_of_what_is_allowed() -> None:
    assert PreprocessConfig(max_vocabulary=(1 << 23) - 1).max_vocabulary == 8_388_607
    assert PreprocessConfig(max_vocabulary=1).max_vocabulary == 1
    with pytest.raises(ConfigError) as error:
        PreprocessConfig(max_vocabulary=1 << 23)
    assert str(error.value) == "--max-vocabulary must be positive and below 8388608. Received: 8388608."
    for kind in (TeacherConfig, StudentConfig):
        assert [kind(seed=seed).seed for seed in (0, (1 << 32) - 1)] == [0, 4_294_967_295]
        with pytest.raises(ConfigError) as error:
            kind(seed=1 << 32)
        assert str(error.value) == "seed must be at least 0 and below 2^32. Received: 4294967296."


class TestLoad:
    def test_no_file_and_empty_files(self, tmp_path: Path) -> None:
        assert load(None) == {}
        assert load(yaml(tmp_path, "")) == {}
        assert load(yaml(tmp_path, "teacher:\nstudent:\n  hidden: 8\n")) == {"teacher": {}, "student": {"hidden": 8}}
        assert load(yaml(tmp_path, "methods:\n")) == {"methods": {}}
        loaded = load(yaml(tmp_path, "methods:\n  kd:\n  hard:\n    hidden: 8\n"))
        assert loaded == {"methods": {"kd": {}, "hard": {"hidden": 8}}}
        assert resolve(loaded).student_config("kd") == resolve({}).student_config("kd")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("techer: {}", r"Received: techer \(.*config\.yaml\)\. Did you mean teacher\?"),
            ("teacher: 3", r"Section teacher must hold settings\. Received: 3 "),
            ("methods: {kd: 3}", r"Section methods\.kd must hold settings\. Received: 3 \(.*config\.yaml\)"),
            ("teacher: {preset: 1m}\nprest: 1m", r"Received: prest \(.*config\.yaml\)\. Did you mean preset\?"),
            ("- teacher", r"--config must hold sections of settings\. Received: \['teacher'\]"),
            ("a: b: c", r"--config must be a readable YAML file\. Received: .*config\.yaml \("),
            (b"\xff\xfe\xff", r"--config must be a readable YAML file\. Received: .*config\.yaml \("),
            (b"a: \x00", r"--config must be a readable YAML file\."),
        ],
    )
    def test_wrong(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        with pytest.raises(ConfigError, match=message) as error:
            load(yaml(tmp_path, text))
        assert "\n" not in str(error.value)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"Received: .*none\.yaml \(.*No such file"):
            load(str(tmp_path / "none.yaml"))


class TestResolve:
    def test_defaults(self) -> None:
        assert resolve({}) == Config()

    def test_teacher(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(PRESETS, "1m", Preset(1.0, teacher={"hidden": (3, 2), "epochs": 9.0, "beta": 0.5}))
        config = resolve({"preset": "1m", "teacher": {"epochs": "2"}}).teacher_config()
        assert config == TeacherConfig(hidden=(3, 2), epochs=2.0, beta=0.5)

    def test_what_a_preset_has_for_a_method(self, monkeypatch: pytest.MonkeyPatch) -> None:
        preset = Preset(1.0, student={"hidden": 5, "alpha": 0.3}, methods={"kd": {"alpha": 0.4, "seed": 6}})
        monkeypatch.setitem(PRESETS, "1m", preset)
        config = resolve({"preset": "1m", "student": {"seed": 7}})
        assert config.student_config("hard") == StudentConfig(hidden=5, alpha=0.3, seed=7)
        assert config.student_config("kd") == StudentConfig(hidden=5, alpha=0.4, seed=7)

    def test_students(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tuned = {"kd": {"hidden": 1, "alpha": 0.1, "temperature": 3.0}}
        monkeypatch.setitem(PRESETS, "100k", Preset(1.0, methods=tuned))
        config = resolve({"student": {"alpha": "0.2", "epochs": 2}, "methods": {"kd": {"epochs": 3}, "hard": None}})
        kd = config.student_config("kd")
        # The preset's, then `student`, then the method's own.
        assert (kd.hidden, kd.alpha, kd.temperature, kd.epochs) == (1, 0.2, 3.0, 3.0)
        assert config.student_config("hard") == StudentConfig(alpha=0.2, epochs=2.0)

    @pytest.mark.parametrize(
        ("sections", "message"),
        [
            ({"student": {"hiden": 8}}, r"Received: hiden \(student \(.*Did you mean hidden\?"),
            ({"methods": {"kd": {"alfa": 1}}}, r"Received: alfa \(student \(kd\)\)\. Did you mean alpha\?"),
            ({"methods": {"subclas": {}}}, r"Received: subclas \(methods\)\. Did you mean subclass\?"),
            ({"preset": "2m"}, r"^preset must be one of auto, 100k, 1m, 40m\. Received: 2m\.$"),
            ({"methods": {"kd": 3}}, r"Section methods\.kd must hold settings\. Received: 3"),
            ({"teacher": {"epochs": "many"}}, r"type float\. Received: 'many' \(teacher, epochs\)"),
            ({"preprocess": {"shard_mb": 0.5}}, r"type int\. Received: 0\.5 \(preprocess, shard_mb\)"),
            ({"preprocess": {"shard_mb": 0}}, r"--shard-mb must be positive\. Received: 0"),
        ],
    )
    def test_wrong(self, sections: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            resolve(sections)

    def test_round_trip(self) -> None:
        sections = {"teacher": {"hidden": [4, 2]}, "student": {"epochs": 2}, "methods": {"kd": {"alpha": 0.5}}}
        config = resolve({"preset": "1m", **sections})
        plain = config.to_json()
        assert plain["preset"] == "1m"
        assert plain["teacher"]["hidden"] == [4, 2]
        assert set(plain["methods"]) == set(METHODS)
        again = resolve(plain)
        assert again.to_json() == plain
        assert all(again.student_config(method) == config.student_config(method) for method in METHODS)


class TestEmbeddings:
    @pytest.mark.parametrize(
        ("sections", "methods", "expected"),
        [
            ({}, ["hard", "kd", "subclass", "random"], 0),
            ({}, ["lelp"], 32),
            ({}, ["hard", "centroids"], 32),
            ({"methods": {"kd": {"similarity": 1}}}, ["kd"], 32),
            ({"methods": {"kd": {"similarity": 1}}}, ["hard"], 0),
            ({"student": {"relations": 0.5}}, ["hard"], 32),
            ({"targets": {"embedding": 7}}, ["hard"], 7),
            ({"targets": {"embedding": 7}}, ["lelp"], 7),
        ],
    )
    def test_as_many_as_are_said_else_as_students_need(
        self, sections: dict[str, Any], methods: list[str], expected: int
    ) -> None:
        assert resolve(sections).embedding_for(methods) == expected

    def test_settings_of_targets_are_sections(self) -> None:
        config = resolve({"targets": {"embedding": "8"}, "derived": {"pseudo_subclasses": 3, "seed": 4}})
        assert config.targets.embedding == 8
        assert (config.derived.pseudo_subclasses, config.derived.seed) == (3, 4)
        assert resolve(config.to_json()).to_json() == config.to_json()

    @pytest.mark.parametrize(
        ("section", "name", "value"),
        [
            ("targets", "embedding", -1),
            ("derived", "pseudo_subclasses", 0),
            ("derived", "lelp_temperature", 0),
            ("derived", "centroid_temperature", -1.0),
            ("derived", "seed", -1),
        ],
    )
    def test_limits(self, section: str, name: str, value: float) -> None:
        with pytest.raises(ConfigError, match=f"^{name} must"):
            resolve({section: {name: value}})


def test_narrow() -> None:
    config = PreprocessConfig(seed=7)
    assert narrow(config, PreprocessConfig) == config

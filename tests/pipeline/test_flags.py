"""Flags become sections of settings; the command line as a whole is tested in test_cli.py."""

from pathlib import Path

import pytest

from pipeline.flags import Parser, add_preset, add_settings, sections
from pipeline.settings import PreprocessConfig, StudentConfig, TeacherConfig


def make_run_parser() -> Parser:
    parser = Parser(prog="run")
    parser.add_argument("--config")
    add_preset(parser)
    for kind, prefix in ((PreprocessConfig, ""), (TeacherConfig, "teacher"), (StudentConfig, "student")):
        add_settings(parser, kind, prefix)
    return parser


def test_flags_without_a_prefix_are_the_commands_own() -> None:
    options = make_run_parser().parse_args(["--seed", "3", "--teacher-seed", "4", "--student-seed", "5"])
    found = sections(options)
    assert found["preprocess"] == {"seed": "3"} and found["teacher"] == {"seed": "4"}
    assert found["student"] == {"seed": "5"} and found["methods"]["kd"] == {"seed": "5"}


def test_a_flag_counts_more_than_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("teacher: {beta: 0.5, seed: 9}\n")
    options = make_run_parser().parse_args(["--config", str(file), "--teacher-seed", "4"])
    assert sections(options)["teacher"] == {"beta": 0.5, "seed": "4"}


def test_the_preset_of_the_file_and_of_the_flag(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("preset: 1m\nteacher: {beta: 0.5}\n")
    parser = make_run_parser()
    assert "preset" not in sections(parser.parse_args([]))
    assert sections(parser.parse_args(["--config", str(file)]))["preset"] == "1m"
    both = sections(parser.parse_args(["--config", str(file), "--preset", "40m"]))
    assert both == {"preset": "40m", "teacher": {"beta": 0.5}}


def test_sections_that_share_their_text(tmp_path: Path) -> None:
    """What a flag changes in one of them stays as it is in the other."""
    file = tmp_path / "settings.yaml"
    file.write_text("student: &same {seed: 1}\nmethods: {kd: *same, hard: *same}\n")
    options = make_run_parser().parse_args(["--config", str(file)])
    options.method, options.own = "kd", "student"
    setattr(options, "own.seed", "7")
    assert sections(options) == {"student": {"seed": 1}, "methods": {"kd": {"seed": "7"}, "hard": {"seed": 1}}}


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        make_run_parser().parse_args(["--nothing"])
    assert exited.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and "run --help" in lines[0]

"""Flags become sections of settings; the command line as a whole is tested in test_cli.py."""

from pathlib import Path

import pytest

from pipeline.config import PreprocessConfig, StudentConfig, TeacherConfig
from pipeline.flags import Parser, add_settings, sections


def make_run_parser() -> Parser:
    parser = Parser(prog="run")
    parser.add_argument("--config")
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


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        make_run_parser().parse_args(["--nothing"])
    assert exited.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and "run --help" in lines[0]

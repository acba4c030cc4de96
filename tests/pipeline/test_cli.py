"""The command line: what a user's mistake gets, help, and how flags and files of settings make a configuration."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, Made

from features.errors import ConfigError
from models.methods import METHODS
from pipeline import cli, commands
from pipeline.config import Config
from pipeline.settings import (
    CompareConfig,
    DerivedConfig,
    PreprocessConfig,
    StudentConfig,
    TargetsConfig,
    TeacherConfig,
)

COMMANDS = (
    "generate",
    "preprocess",
    "train-teacher",
    "precompute",
    "derive",
    "distill",
    "evaluate",
    "report",
    "run",
    "compare",
    "tune",
    "refit",
    "export",
    "schema",
    "inspect",
    "verify",
    "predict",
    "check-model",
)


def ctr_distill(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command, as a user runs it."""
    command = Path(sys.executable).with_name("ctr-distill")
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False)


@dataclasses.dataclass(frozen=True)
class Places:
    """What commands are called with."""

    log: str
    run: str
    examples: str
    folder: Path

    def file(self, name: str, content: str = "") -> str:
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        return str(path)


@pytest.fixture(scope="module")
def places(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A finished run, and one that has no more than examples."""
    folder = tmp_path_factory.mktemp("places")
    examples = folder / "only-examples"
    examples.mkdir()
    (examples / "examples").symlink_to(Path(made.run.file("examples")))
    return Places(str(made.log), made.run.path, str(examples), folder)


MISTAKES: dict[str, tuple[Callable[[Places], list[str]], str]] = {
    "no file": (
        lambda p: ["preprocess", "--input", f"{p.folder}/nothing*.tsv", "--run", f"{p.folder}/new"],
        "--input must match at least one file. Received: .*nothing",
    ),
    "only empty files": (
        lambda p: ["run", "--input", p.file("a.tsv"), p.file("b.tsv"), "--run", f"{p.folder}/new"],
        "The input must hold rows. Received: only empty files .*a.tsv, .*b.tsv",
    ),
    "directory": (
        lambda p: ["run", "--input", str(p.folder), "--run", f"{p.folder}/new"],
        r"--input must name files. Received: .* \(a directory; try .*/\*\)",
    ),
    **{
        f"{command[0]}: no run": (
            lambda p, command=command: [*command, "--run", f"{p.folder}/none"],
            r"--run must be a run directory. Received: .*none \(no such directory\)",
        )
        for command in (
            ["train-teacher"],
            ["precompute"],
            ["distill", "--method", "kd"],
            ["evaluate"],
            ["report"],
            ["tune"],
            ["refit", "--output", "new"],
            ["export", "--method", "kd", "--output", "new"],
        )
    },
    "run is a file": (
        lambda p: ["preprocess", "--input", p.log, "--run", p.file("run.txt", "text")],
        r"--run must be a directory. Received: .*run.txt \(a file\)",
    ),
    "other schema": (
        lambda p: ["run", "--input", p.log, "--run", p.run, "--schema", p.file("schema.json", OTHER_SCHEMA)],
        "A run must keep its schema. Received: other schema .*use another --run, or --force",
    ),
    "other inputs": (
        lambda p: ["preprocess", "--input", p.file("c.tsv", "1\n"), "--run", p.run],
        "A run must keep its inputs. Received: other inputs .*use another --run, or --force",
    ),
    "no schema": (
        lambda p: ["preprocess", "--input", p.log, "--run", f"{p.folder}/new", "--schema", f"{p.folder}/no.json"],
        "no.json",
    ),
    "unknown flag": (
        lambda p: ["distill", "--method", "kd", "--run", p.run, "--aplha", "0.5"],
        r"unknown argument --aplha \(see ctr-distill --help\)",
    ),
    "unknown flag of a job": (
        lambda p: ["precompute", "--run", p.run, "--wrokers=3"],
        r"An argument must be ours or Beam's. Received: --wrokers=3",
    ),
    "unknown setting": (
        lambda p: ["train-teacher", "--run", p.run, "--config", p.file("a.yaml", "teacher: {hiden: 3}")],
        r"A setting must be one of .*hidden.* Received: hiden \(teacher\). Did you mean hidden\?",
    ),
    "unknown section": (
        lambda p: ["train-teacher", "--run", p.run, "--config", p.file("b.yaml", "teachers: {}")],
        r"Received: teachers \(.*b.yaml\). Did you mean teacher\?",
    ),
    "no such file of settings": (
        lambda p: ["distill", "--method", "kd", "--run", p.run, "--config", f"{p.folder}/no.yaml"],
        "--config must be a readable YAML file. Received: .*no.yaml",
    ),
    "wrong type": (
        lambda p: ["train-teacher", "--run", p.run, "--epochs", "many"],
        r"A setting must be of type float. Received: 'many' \(teacher, epochs\)",
    ),
    "wrong value": (
        lambda p: ["run", "--input", p.log, "--run", p.run, "--teacher-folds", "3"],
        "folds must be 0 or divide 10. Received: 3",
    ),
    "wrong split": (
        lambda p: ["preprocess", "--input", p.log, "--run", f"{p.folder}/new", "--split", "80/20"],
        "--split must be train/valid/test .* Received: 80/20",
    ),
    "kd before examples": (
        lambda p: ["distill", "--method", "kd", "--run", str(p.folder)],
        "The run must hold finished examples. .*make it with `ctr-distill preprocess --input FILE --run",
    ),
    "kd before precompute": (
        lambda p: ["distill", "--method", "kd", "--run", p.examples],
        "The run must hold finished targets. .*make it with `ctr-distill precompute --run",
    ),
    "lelp before derive": (
        lambda p: ["distill", "--method", "lelp", "--run", p.run],
        "The run must hold finished derived/lelp. .*make it with `ctr-distill derive --source lelp --run",
    ),
    "derive before precompute": (
        lambda p: ["derive", "--source", "random", "--run", p.examples],
        "The run must hold finished targets. .*make it with `ctr-distill precompute --run",
    ),
    "derive without embeddings": (
        lambda p: ["derive", "--source", "lelp", "--run", p.run],
        "Targets must have embeddings. Received: none .*make them with `ctr-distill precompute --embedding 32 --run",
    ),
    "unknown source": (
        lambda p: ["derive", "--source", "teacher", "--run", p.run],
        "argument --source: invalid choice: 'teacher'",
    ),
    "wrong number of floats": (
        lambda p: ["precompute", "--embedding", "-1", "--run", p.run],
        "embedding must not be negative. Received: -1",
    ),
    "precompute before teacher": (
        lambda p: ["precompute", "--run", p.examples],
        "The run must hold finished teacher. .*make it with `ctr-distill train-teacher --run",
    ),
    "evaluate before precompute": (
        lambda p: ["evaluate", "--run", p.examples],
        "The run must hold finished targets. .*make it with `ctr-distill precompute --run",
    ),
    "report before evaluate": (
        lambda p: ["report", "--run", p.examples],
        "The run must hold finished report. .*make it with `ctr-distill evaluate --run",
    ),
    "unknown method": (
        lambda p: ["distill", "--method", "kind", "--run", p.run],
        "argument --method: invalid choice: 'kind' .*subclass.*see ctr-distill distill --help",
    ),
    "unknown methods": (
        lambda p: ["run", "--input", p.log, "--run", p.run, "--methods", "hard,subclas"],
        r"Received: subclas \(--methods\). Did you mean subclass\?",
    ),
    "wrong budget": (
        lambda p: ["tune", "--run", p.run, "--budget", "30"],
        "--budget must be a time such as 90s, 30m or 2h. Received: 30",
    ),
    "unknown model to tune": (
        lambda p: ["tune", "--run", p.run, "--model", "students"],
        "argument --model: invalid choice: 'students' .*see ctr-distill tune --help",
    ),
    "unknown preset of settings": (
        lambda p: ["distill", "--method", "kd", "--run", p.run, "--preset", "2m"],
        "argument --preset: invalid choice: '2m'",
    ),
    "unknown preset in a file": (
        lambda p: ["train-teacher", "--run", p.run, "--config", p.file("d.yaml", "preset: large")],
        "preset must be one of auto, 100k, 1m, 40m. Received: large",
    ),
    "refit before precompute": (
        lambda p: ["refit", "--run", p.examples, "--output", f"{p.folder}/refit"],
        "The run must hold finished targets. .*make it with `ctr-distill precompute --run",
    ),
    "refit into the run itself": (
        lambda p: ["refit", "--run", p.run, "--output", p.run],
        "--output must be a new folder, or a refit of the same run. Received: .*, which is a run of its own",
    ),
    "export before distill": (
        lambda p: ["export", "--run", p.examples, "--method", "kd", "--output", f"{p.folder}/export"],
        "The run must hold finished students/kd. .*make it with `ctr-distill distill --method kd --run",
    ),
    "export into what is there": (
        lambda p: ["export", "--run", p.run, "--method", "kd", "--output", p.examples],
        "--output must be a new or empty local folder. Received: ",
    ),
    "unknown precision": (
        lambda p: ["export", "--run", p.run, "--method", "kd", "--output", f"{p.folder}/export", "--served", "int4"],
        "argument --served: invalid choice: 'int4' .*float16",
    ),
    "no command": (lambda p: [], "required: COMMAND"),
    "unknown preset": (
        lambda p: ["generate", "--rows", "10", "--output", f"{p.folder}/x.tsv", "--preset", "easy"],
        "The preset must be one of kinds, no-kinds, linear. Received: 'easy'",
    ),
    "remote run without its file system": (
        lambda p: ["evaluate", "--run", "nowhere://bucket/run"],
        "A path must be local or known to Beam. Received: nowhere://bucket/run",
    ),
}
OTHER_SCHEMA = json.dumps(
    {"columns": [{"name": name, "kind": name} for name in ("label", "float", "categorical")], "delimiter": ","}
)


IN_A_PROCESS = {
    "no file",
    "only empty files",
    "directory",
    "train-teacher: no run",
    "other schema",
    "unknown flag",
    "unknown flag of a job",
    "unknown setting",
    "wrong value",
    "kd before precompute",
    "unknown method",
}
"""Run as a user runs them; the others in this process, to save imports."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_exit_2_and_one_line(places: Places, mistake: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments, expected = MISTAKES[mistake]
    if mistake in IN_A_PROCESS:
        done = ctr_distill(*arguments(places))
        code, stdout, stderr = done.returncode, done.stdout, done.stderr
    else:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments(places))
        code, (stdout, stderr) = ended.value.code, capfd.readouterr()
    assert code == 2, stderr
    assert stdout == ""
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and stderr.endswith("\n")
    assert re.search(expected, stderr), stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: ctr-distill {name} ")
    kinds = {
        "preprocess": {"": PreprocessConfig},
        "train-teacher": {"": TeacherConfig},
        "precompute": {"": TargetsConfig},
        "derive": {"": DerivedConfig},
        "distill": {"": StudentConfig},
        "run": {
            "": PreprocessConfig,
            "teacher-": TeacherConfig,
            "targets-": TargetsConfig,
            "derived-": DerivedConfig,
            "student-": StudentConfig,
        },
        "compare": {"": CompareConfig},
    }
    for prefix, kind in kinds.get(name, {}).items():
        for item in dataclasses.fields(kind):
            default = ",".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
            flag = f"--{prefix}{item.name.replace('_', '-')}"
            line = rf"^  {flag}\b[^\n]*(\n {{24}})?[^\n]*\(default: {re.escape(str(default))}\)$"
            assert re.search(line, text, re.MULTILINE), flag


def test_help_needs_neither_beam_nor_tensorflow() -> None:
    code = (
        "import sys\nfrom pipeline.cli import main\ntry:\n    main(['run', '--help'])\nexcept SystemExit:\n"
        "    print(*{name.split('.')[0] for name in sys.modules} & {'apache_beam', 'tensorflow'}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "--input" in done.stdout and done.stderr == "\n"


def test_help_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    listed = re.findall(r"^    ([a-z-]+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(COMMANDS)


def config_of(*arguments: str) -> Config:
    """The configuration that a command line makes."""
    options, rest = cli.make_parser().parse_known_args(arguments)
    assert rest == []
    return commands._config(options)


class TestSettings:
    RUN = ("run", "--input", "log", "--run", "run")

    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        path = tmp_path / "settings.yaml"
        path.write_text(
            "preprocess: {split: 80/20/0}\nteacher: {hidden: [8, 4], epochs: 3}\n"
            "student: {alpha: 0.5, hidden: 7}\nmethods: {kd: {alpha: 0.7, temperature: 2}}\n"
        )
        return str(path)

    def test_defaults(self) -> None:
        assert config_of(*self.RUN) == Config()
        assert config_of("preprocess", "--input", "log", "--run", "run") == Config()

    def test_a_file(self, file: str) -> None:
        config = config_of(*self.RUN, "--config", file)
        assert config.preprocess == PreprocessConfig(split="80/20/0")
        assert config.teacher_config() == TeacherConfig(hidden=(8, 4), epochs=3.0)
        students = {method: config.student_config(method) for method in METHODS}
        assert {method: student.alpha for method, student in students.items()} == {
            **dict.fromkeys(METHODS, 0.5),
            "kd": 0.7,
        }
        assert {student.hidden for student in students.values()} == {7}
        assert students["kd"].temperature == 2.0

    def test_flags_count_more(self, file: str) -> None:
        config = config_of(
            *(*self.RUN, "--config", file, "--split", "90/10/0", "--teacher-hidden", "16,2", "--student-alpha", "0.1")
        )
        assert config.preprocess.split == "90/10/0"
        assert config.teacher_config() == TeacherConfig(hidden=(16, 2), epochs=3.0)
        assert {config.student_config(method).alpha for method in METHODS} == {0.1}, "also where the file names one"
        assert config.student_config("kd").temperature == 2.0

    def test_flags_of_single_stages(self, file: str) -> None:
        teacher = config_of("train-teacher", "--run", "run", "--config", file, "--epochs", "5", "--statistics=none")
        assert teacher.teacher_config() == TeacherConfig(hidden=(8, 4), epochs=5.0, statistics="none")
        student = config_of("distill", "--run", "run", "--config", file, "--method", "kd", "--alpha", "0.9")
        assert student.student_config("kd").alpha == 0.9 and student.student_config("subclass").alpha == 0.5

    @pytest.mark.parametrize("flag", ["--statistics", "--student-statistics", "--statistics=true"])
    def test_switches(self, flag: str) -> None:
        config = config_of("distill", "--run", "run", "--method", "hard", flag)
        assert config.student_config("hard").statistics and not config.student_config("kd").statistics
        prefixed = flag if flag.startswith("--student") else flag.replace("--", "--student-")
        assert config_of(*self.RUN, prefixed).student_config("hard").statistics

    def test_a_preset_gives_way_to_file_and_flags(self, file: str) -> None:
        config = config_of(*self.RUN, "--config", file, "--preset", "40m", "--teacher-beta", "0.5")
        teacher = config.teacher_config()
        assert (teacher.hidden, teacher.epochs, teacher.beta, teacher.batch_size) == ((8, 4), 3.0, 0.5, 4096)
        assert config.student_config("kd").embedding_dim == 8 and config.student_config("kd").alpha == 0.7
        assert config_of(*self.RUN).for_rows(5_000_000).preset == "1m"

    def test_an_empty_file_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.yaml"
        path.write_text("teacher:\n# nothing\n")
        assert config_of(*self.RUN, "--config", str(path)) == Config()

    def test_a_method_that_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "wrong.yaml"
        path.write_text("methods: {kdd: {alpha: 1}}")
        with pytest.raises(ConfigError, match=r"Received: kdd \(methods\)\. Did you mean kd\?"):
            config_of(*self.RUN, "--config", str(path))


def test_a_reader_that_goes_away_is_no_error(made: Made) -> None:
    """``ctr-distill run ... | head`` must not end with a traceback."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ctr-distill"), *made.arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_generate_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.tsv"
    cli.main(["generate", "--rows", "500", "--output", str(log), "--seed", "4", "--preset", "linear"])
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(log), str(tmp_path / "log.truth.parquet")]
    said = r"generate: 500 rows, click rate 0\.\d{4}, Bayes AUC 0\.\d{4}, Bayes logloss 0\.\d{5} "
    assert re.search(said, captured.err)
    assert log.read_bytes().count(b"\n") == 500

"""The flags of the command line: a parser with one-line errors, and a flag for every setting."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any, NoReturn

from models.methods import METHODS
from pipeline import settings
from pipeline.config import PRESET, load
from pipeline.presets import AUTO, PRESETS

_SECTIONS = {
    settings.PreprocessConfig: "preprocess",
    settings.TeacherConfig: "teacher",
    settings.TargetsConfig: "targets",
    settings.DerivedConfig: "derived",
    settings.StudentConfig: "student",
    settings.CompareConfig: "compare",
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and where help is, and exits with 2."""
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def add_inputs(command: argparse.ArgumentParser) -> None:
    """The flags that say what a run is made from."""
    command.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="files of the log in time order: plain, .gz or .zst",
    )
    command.add_argument("--schema", metavar="FILE", help="JSON schema of the log (default: Criteo's columns)")
    command.add_argument(
        "--force",
        action="store_true",
        help="make a run anew that was made from other inputs or another schema",
    )


def add_settings(command: argparse.ArgumentParser, kind: type[Any], prefix: str = "") -> None:
    """A flag for each setting, unset unless given, so that a file's value is not overridden by a default."""
    if not prefix:
        command.set_defaults(own=_SECTIONS[kind])
    title = f"settings of the {prefix}" if prefix else "settings"
    group = command.add_argument_group(title)
    for item in dataclasses.fields(kind):
        name = f"{prefix}-{item.name}" if prefix else item.name
        default = ",".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if isinstance(item.default, bool) else {}
        flags = [f"--{name.replace('_', '-')}"]
        if kind is settings.StudentConfig and name == "statistics":
            flags.append("--student-statistics")  # the flag of `run` works for `distill` too
        group.add_argument(
            *flags,
            dest=f"{prefix or 'own'}.{item.name}",
            metavar="VALUE",
            help=f"{item.metadata['help']} (default: {default})".replace("%", "%%"),
            **switch,
        )


def add_preset(command: argparse.ArgumentParser) -> None:
    """The flag for the preset, next to the file of settings."""
    command.add_argument(
        f"--{PRESET}",
        choices=(AUTO, *PRESETS),
        help="defaults of the models for a log of some size, by training rows; auto: by those of the run; the "
        f"defaults that are shown here are those of {next(iter(PRESETS))} (default: {AUTO})",
    )


def sections(options: argparse.Namespace) -> dict[str, Any]:
    """The preset and the sections of the settings file with the flags on top."""
    found = load(options.config)
    if preset := getattr(options, PRESET, None):
        found[PRESET] = preset
    for name, value in vars(options).items():
        section, dot, key = name.partition(".")
        if dot and value is not None:
            if section == "own":
                section = options.own
            if section == "student" and getattr(options, "method", None):
                found.setdefault("methods", {}).setdefault(options.method, {})[key] = value
            elif section == "student":
                # On `run` a flag counts for every student, also where the file says something for one method.
                found.setdefault("student", {})[key] = value
                for method in METHODS:
                    found.setdefault("methods", {}).setdefault(method, {})[key] = value
            else:
                found.setdefault(section, {})[key] = value
    return found

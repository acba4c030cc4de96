"""The run directory: where everything lies, which stages are finished, and the lock that keeps a run to one writer.

A stage's folder holds ``manifest.json`` once it is finished; the manifest is written last. It carries the stage's key
(a hash of its settings and of the manifests it was made from), so a finished stage is skipped, one whose settings
changed is made anew, and what was made from it becomes stale. While a stage is unfinished, ``.started.json`` carries
the key that its partial outputs belong to.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.errors import ArtifactError, ConfigError
from features.spec import ExamplesSpec
from pipeline import storage

EXAMPLES = "examples"
TEACHER = "teacher"
TARGETS = "targets"
REPORT = "report"


def student_stage(method: str) -> str:
    """The stage, and folder, of a method's student."""
    return f"students/{method}"


def derived_stage(source: str) -> str:
    """The stage, and folder, of targets that are made from the teacher's: see :mod:`pipeline.derive`."""
    return f"derived/{source}"


def target_stage(source: str) -> str:
    """The stage, and folder, of the targets of a source (see :class:`models.methods.Method`)."""
    return TARGETS if source == "teacher" else derived_stage(source)


def ensemble_stage(method: str) -> str:
    """The folder of the mean of all generations of a method's student; it has a manifest as a stage has."""
    return f"{student_stage(method)}/ensemble"


def digest(value: Any) -> str:
    """A short hash of plain JSON values."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Run:
    """A run directory, local or remote.

    Args:
        path: of the directory.
        examples_of: path of the run whose examples it works on; empty for its own.
    """

    path: str
    examples_of: str = ""

    def file(self, *parts: str) -> str:
        """A path inside the run, or inside that of the examples."""
        of_examples = bool(parts) and parts[0].split("/")[0] == EXAMPLES
        return storage.join(self.examples_of if of_examples and self.examples_of else self.path, *parts)

    def manifest(self, stage: str) -> dict[str, Any]:
        """The manifest of a finished stage.

        Raises:
            ArtifactError: the stage is not finished.
        """
        path = self.file(stage, "manifest.json")
        require_run(self)
        if not storage.exists(path):
            raise ArtifactError(
                f"The run must hold finished {stage}. Received: no {path}; make it with `ctr-distill "
                f"{command_for(stage)} --run {self.path}`."
            )
        manifest: dict[str, Any] = storage.read_json(path)
        return manifest

    def identity(self, stage: str) -> str:
        """A hash of a finished stage: of its key and, through checksums, of its outputs."""
        return digest(self.manifest(stage))

    def spec(self) -> ExamplesSpec:
        """What the examples are."""
        self.manifest(EXAMPLES)
        return ExamplesSpec.from_json(storage.read_json(self.file(EXAMPLES, "spec.json")))

    def shards(self, split: str, stage: str = EXAMPLES) -> list[dict[str, Any]]:
        """The manifest's entries of a split, in order."""
        return [shard for shard in self.manifest(stage)["shards"] if shard["split"] == split]

    def filled_shards(self, split: str, stage: str = EXAMPLES) -> list[dict[str, Any]]:
        """The manifest's entries of a split whose shards have rows, in order."""
        return [shard for shard in self.shards(split, stage) if shard["rows"]]

    def is_done(self, stage: str, key: str) -> bool:
        """Whether the stage was finished with these settings and inputs."""
        path = self.file(stage, "manifest.json")
        done = storage.exists(path) and storage.read_json(path).get("key") == key
        if done:
            # A kill between the manifest and the end of `finish` leaves this file.
            storage.remove(self.file(stage, ".started.json"))
        return done

    def origin(self, stage: str) -> dict[str, Any] | None:
        """What a finished or unfinished stage was begun with; None if it never was."""
        for name in ("manifest.json", ".started.json"):
            path = self.file(stage, name)
            if storage.exists(path):
                origin: dict[str, Any] = storage.read_json(path)
                return origin
        return None

    def is_begun(self, stage: str, key: str) -> bool:
        """Whether the stage is unfinished, and its partial outputs were made with these settings and inputs."""
        started = self.file(stage, ".started.json")
        unfinished = storage.exists(started) and not storage.exists(self.file(stage, "manifest.json"))
        return unfinished and storage.read_json(started)["key"] == key

    def begin(self, stage: str, key: str, origin: Mapping[str, Any] | None = None, beside: Sequence[str] = ()) -> None:
        """Makes the folder of a stage ready; partial outputs of the same key are kept, all others removed.

        Args:
            stage: to begin.
            key: of its settings and inputs.
            origin: what else to remember of them.
            beside: other folders that the stage writes to.
        """
        if not self.is_begun(stage, key):
            # What says that the folder is whole, or whose it is, goes first: the removal may be killed halfway.
            for name in ("manifest.json", ".started.json"):
                storage.remove(self.file(stage, name))
            for folder in (self.file(stage), *beside):
                storage.remove(folder)
            storage.write_json(self.file(stage, ".started.json"), {"key": key, **(origin or {})})

    def finish(self, stage: str, key: str, contents: Mapping[str, Any]) -> None:
        """Writes the manifest of a stage, which makes it finished."""
        storage.write_json(self.file(stage, "manifest.json"), {"key": key, **contents})
        storage.remove(self.file(stage, ".started.json"))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from writing to a local run; removes what killed ones left unfinished.

        Raises:
            ConfigError: another process is writing to the run.
        """
        if storage.is_remote(self.path):
            yield
            return
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise ConfigError(f"--run must be a directory. Received: {self.path} (a file).")
        os.makedirs(self.path, exist_ok=True)
        with open(self.file(".lock"), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    f"Only one process at a time must write to a run. Received: {self.path} is in use; wait for the "
                    "other process to end."
                ) from error
            storage.remove_temporaries(self.path)
            yield


def require_run(run: Run) -> None:
    """Raises an ArtifactError unless a local run directory is there, before anything is made in it."""
    if not storage.is_remote(run.path) and not storage.exists(run.path):
        raise ArtifactError(f"--run must be a run directory. Received: {run.path} (no such directory).")


def command_for(stage: str) -> str:
    """The command that makes a stage, without ``--run``."""
    if stage.startswith("derived/"):
        return f"derive --source {stage.split('/')[1]}"
    return _COMMANDS.get(stage) or f"distill --method {stage.split('/')[1]}"


_COMMANDS = {
    EXAMPLES: "preprocess --input FILE",
    TEACHER: "train-teacher",
    TARGETS: "precompute",
    REPORT: "evaluate",
}

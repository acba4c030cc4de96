import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.errors import ArtifactError, ConfigError
from pipeline.workspace import EXAMPLES, REPORT, TARGETS, TEACHER, Run, digest, require_run, student_stage

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path / "run"))


def finished(run: Run, stage: str = EXAMPLES, key: str = "key") -> Path:
    run.begin(stage, key)
    run.finish(stage, key, {"shards": []})
    return Path(run.file(stage))


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_digest() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    assert len(digest(None)) == 16


class TestStage:
    def test_life_of_a_stage(self, run: Run) -> None:
        assert run.origin(EXAMPLES) is None and not run.is_done(EXAMPLES, "key")
        run.begin(EXAMPLES, "key", {"inputs": ["log"]})
        assert run.origin(EXAMPLES) == {"key": "key", "inputs": ["log"]}
        assert run.is_begun(EXAMPLES, "key") and not run.is_begun(EXAMPLES, "other")
        assert not run.is_done(EXAMPLES, "key")
        run.finish(EXAMPLES, "key", {"shards": []})
        assert listing(Path(run.file(EXAMPLES))) == ["manifest.json"]
        assert run.is_done(EXAMPLES, "key") and not run.is_done(EXAMPLES, "other")
        assert not run.is_begun(EXAMPLES, "key")
        assert run.manifest(EXAMPLES) == run.origin(EXAMPLES) == {"key": "key", "shards": []}

    def test_partial_outputs_of_the_same_key_are_kept(self, run: Run) -> None:
        run.begin(EXAMPLES, "key")
        partial = Path(run.file(EXAMPLES, "partial"))
        partial.write_bytes(b"")
        run.begin(EXAMPLES, "key")
        assert partial.exists()
        run.begin(EXAMPLES, "other")
        assert listing(partial.parent) == [".started.json"]

    def test_a_finished_stage_begins_anew(self, run: Run) -> None:
        folder = finished(run)
        run.begin(EXAMPLES, "key")
        assert listing(folder) == [".started.json"]

    def test_a_kill_within_finish(self, run: Run) -> None:
        folder = finished(run)
        (folder / ".started.json").write_text('{"key": "key"}')
        assert not run.is_begun(EXAMPLES, "key")
        assert run.is_done(EXAMPLES, "key")
        assert listing(folder) == ["manifest.json"]

    def test_a_kill_while_the_folder_is_removed(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        run.begin(EXAMPLES, "key")
        folder = Path(run.file(EXAMPLES))
        (folder / "partial").write_bytes(b"")

        def killed(_: str) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("shutil.rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                run.begin(EXAMPLES, "other")
        # What is left may be half of it, so it belongs to no settings.
        run.begin(EXAMPLES, "key")
        assert listing(folder) == [".started.json"]

    def test_other_folders_of_the_stage_go_with_it(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not with partial outputs of the same key, and after what says that the stage is finished."""
        folder, rejected, others = finished(run), Path(run.file("rejected")), Path(run.file("teacher"))
        for path in (rejected, others):
            path.mkdir()
            (path / "file").write_bytes(b"")
        seen, rmtree = [], shutil.rmtree

        def watch(path: str) -> None:
            seen.append(path)
            assert not (folder / "manifest.json").exists() and not (folder / ".started.json").exists()
            rmtree(path)

        with monkeypatch.context() as patch:
            patch.setattr("shutil.rmtree", watch)
            run.begin(EXAMPLES, "other", beside=[str(rejected)])
        assert seen == [str(folder), str(rejected)]
        assert not rejected.exists() and listing(others) == ["file"] and listing(folder) == [".started.json"]
        rejected.mkdir()
        run.begin(EXAMPLES, "other", beside=[str(rejected)])
        assert rejected.exists(), "partial outputs of the same key are kept"
        run.begin(EXAMPLES, "third")
        assert rejected.exists(), "only what is named goes"


class TestManifest:
    @pytest.mark.parametrize(
        ("stage", "command"),
        [
            (EXAMPLES, "preprocess --input FILE --run"),
            (TEACHER, "train-teacher --run"),
            (TARGETS, "precompute --run"),
            (student_stage("kd"), "distill --method kd --run"),
            (REPORT, "evaluate --run"),
        ],
    )
    def test_missing_says_how_to_make_it(self, run: Run, stage: str, command: str) -> None:
        Path(run.path).mkdir()
        with pytest.raises(ArtifactError, match=f"The run must hold finished {stage}.* `ctr-distill {command} "):
            run.manifest(stage)

    def test_no_run(self, run: Run) -> None:
        for call in (lambda: run.manifest(EXAMPLES), lambda: run.spec(), lambda: require_run(run)):
            with pytest.raises(ArtifactError, match="--run must be a run directory.*no such directory"):
                call()
        assert not Path(run.path).exists()

    def test_shards_of_a_split(self, run: Run) -> None:
        shards = [{"split": split, "path": path} for split, path in (("train", "a"), ("valid", "b"), ("train", "c"))]
        run.finish(EXAMPLES, "key", {"shards": shards})
        assert [shard["path"] for shard in run.shards("train")] == ["a", "c"]
        assert run.shards("test") == []

    def test_identity_follows_the_outputs(self, run: Run) -> None:
        identities = []
        for key, checksum in (("key", "1"), ("key", "2"), ("other", "2"), ("key", "1")):
            run.finish(EXAMPLES, key, {"shards": [{"checksum": checksum}]})
            identities.append(run.identity(EXAMPLES))
        assert identities[0] == identities[3] and len(set(identities)) == 3


class TestLock:
    @pytest.fixture
    def holder(self, run: Run) -> Iterator[None]:
        Path(run.path).mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, run.file(".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            yield

    @pytest.mark.usefixtures("holder")
    def test_one_process_at_a_time(self, run: Run) -> None:
        stray = Path(run.file("examples.tmp"))
        stray.mkdir()
        with pytest.raises(ConfigError, match=r"Only one process at a time .* Received: .* is in use"):
            with run.lock():
                pass
        assert stray.exists()  # it may be the other process's

    def test_removes_what_killed_ones_left(self, run: Run) -> None:
        with run.lock():
            Path(run.file("a.tmp")).mkdir()
        with run.lock():
            assert listing(Path(run.path)) == [".lock"]
            with pytest.raises(ConfigError, match="Only one process"):
                with run.lock():
                    pass

    def test_a_file_is_no_run(self, run: Run) -> None:
        Path(run.path).write_bytes(b"")
        with pytest.raises(ConfigError, match=r"--run must be a directory\. Received: .*\(a file\)"):
            with run.lock():
                pass

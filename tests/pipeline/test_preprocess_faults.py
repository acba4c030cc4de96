"""What goes wrong while examples are made: one clear error, no manifest, and the same bytes when it is called again."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from example_runs import is_finished, outputs_of, run_of, table_of
from support import ROOT

from features.errors import ArtifactError, DataError
from pipeline.generate import generate
from pipeline.workspace import EXAMPLES, Run

ROWS = 6000
PACKS: dict[str, Callable[[bytes], bytes]] = {".tsv": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
MOMENTS = {
    "parse": "pipeline.preprocess_steps.write_batch",
    "count": "pipeline.preprocess_steps.write_counts",
    "merge": "pipeline.analyze.write_vocabulary",
    "transform": "pipeline.preprocess_steps.write_examples",
    "finish": "pipeline.preprocess.count_ids",
}
"""A function that is called in each phase of the job."""
CHANGED = r"^An input must not change while it is read\. Received: {} has changed; call it again with --force when "


def happen(monkeypatch: pytest.MonkeyPatch, place: str, event: Callable[[], object], call: int = 1) -> None:
    """Lets something happen before a function is called for the given time; the function is what it was."""
    real, calls = pkgutil.resolve_name(place), itertools.count(1)

    def function(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            event()
        return real(*arguments, **named)

    monkeypatch.setattr(place, function)


def start(run: Run, log: Path) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    program = Path(sys.executable).with_name("ctr-distill")
    command = [str(program), "preprocess", "--input", str(log), "--run", run.path]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for(process: subprocess.Popen[str], run: Run, pattern: str, number: int = 1) -> None:
    """Waits until so many files of a run are there."""
    while len(list(Path(run.path).glob(pattern))) < number:
        assert process.poll() is None, "it ended before"
        time.sleep(0.001)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with a bad line in every thousand."""
    path = tmp_path_factory.mktemp("faults") / "log.tsv"
    generate(ROWS, str(path), seed=3)
    data = path.read_bytes().splitlines(keepends=True)
    for index in range(0, len(data), 1000):
        data[index] = b"bad\n"
    path.write_bytes(b"".join(data))
    return path


@pytest.fixture
def mine(log: Path, tmp_path: Path) -> Path:
    """A copy of the log, to be changed."""
    path = tmp_path / "mine.tsv"
    path.write_bytes(log.read_bytes())
    return path


@pytest.fixture(scope="module")
def whole(log: Path) -> Run:
    """The undisturbed run."""
    return run_of(log.parent / "whole", log)


class TestKilled:
    @pytest.mark.parametrize(
        ("pattern", "number"),
        [
            ("examples/.started.json", 1),
            ("examples/.work/parsed-*.json", 4),
            ("examples/.work/counts-*.arrow", 3),
            ("examples/vocabulary/*.parquet", 2),
            ("examples/train/*.tfrecord", 1),
            ("examples/.work/done-*.json", 9),
        ],
    )
    def test_and_started_again(self, tmp_path: Path, log: Path, whole: Run, pattern: str, number: int) -> None:
        run = Run(str(tmp_path / "run"))
        with start(run, log) as process:
            wait_for(process, run, pattern, number)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert not is_finished(run)
        done = [json.loads(path.read_text()) for path in Path(run.path).glob("examples/.work/done-*.json")]
        made = {path: path.stat().st_ino for path in Path(run.path).glob("examples/*/*.*") if path.suffix != ".tmp"}
        finished = {shard["path"] for shards in done for shard in shards}
        assert len(done) < len(whole.manifest(EXAMPLES)["entries"])
        run_of(tmp_path / "run", log)
        assert outputs_of(run) == outputs_of(whole)
        # Vocabularies and finished shards were left as they were.
        for path, inode in made.items():
            name = str(path.relative_to(run.file(EXAMPLES)))
            if name in finished or path.suffix == ".parquet":
                assert path.stat().st_ino == inode, name

    def test_after_the_manifest(
        self, tmp_path: Path, log: Path, whole: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What only the unfinished stage needs may be left, or a part of it."""

        def stop() -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            happen(patch, "pipeline.workspace.Run.finish", lambda: happen(patch, "pipeline.storage.remove", stop, 2))
            run_of(tmp_path, log)
        run = Run(str(tmp_path))
        assert is_finished(run) and os.path.exists(run.file(EXAMPLES, ".work"))
        capsys.readouterr()
        run_of(tmp_path, log)
        assert outputs_of(run) == outputs_of(whole)
        assert not os.path.exists(run.file(EXAMPLES, ".work")) and capsys.readouterr().err == ""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path, size: int = 1 << 30) -> Path:
    """Fills a disk, or writes so many bytes on it."""
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while size > 0:
                size -= file.write(bytes(min(size, 1 << 16)))
        except OSError:
            pass
    return disk / "filler"


class TestFullDisk:
    @pytest.mark.parametrize(
        ("moment", "call"), [("parse", 5), ("count", 3), ("merge", 4), ("transform", 6), ("finish", 1)]
    )
    def test_then_with_room_again(
        self, disk: Path, log: Path, whole: Run, moment: str, call: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            happen(patch, MOMENTS[moment], lambda: fill(disk), call)
            message = rf"^A file must be writable\. Received: {disk}/run/examples/\S+ \(No space left on device\)\.$"
            with pytest.raises(ArtifactError, match=message):
                run_of(disk / "run", log)
        run = Run(str(disk / "run"))
        assert not is_finished(run) and not list(disk.rglob("*.tmp"))
        (disk / "filler").unlink()
        run_of(disk / "run", log)
        assert outputs_of(run) == outputs_of(whole)

    def test_on_the_command_line(self, disk: Path, log: Path, whole: Run) -> None:
        run, filler = Run(str(disk / "run")), fill(disk, 14 << 20)
        with start(run, log) as process:
            _, errors = process.communicate()
        assert process.returncode == 2
        lines = [line for line in errors.splitlines() if line != "preprocess ..."]
        assert len(lines) == 1 and lines[0].startswith(f"error: A file must be writable. Received: {disk}/run/"), lines
        assert not is_finished(run)
        filler.unlink()
        with start(run, log) as process:
            process.communicate()
        assert process.returncode == 0
        assert outputs_of(run) == outputs_of(whole)


class TestUnreadable:
    PLANNED = "pipeline.preprocess.build_job"

    def fails(self, folder: Path, log: Path, kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message) as error:
            run_of(folder, log)
        assert "\n" not in str(error.value)
        assert not is_finished(Run(str(folder)))

    def test_a_link_to_nothing(self, tmp_path: Path) -> None:
        link = tmp_path / "link.tsv"
        link.symlink_to(tmp_path / "none.tsv")
        message = r"^--input must name readable files\. Received: .*/link\.tsv \(No such file or directory\)\.$"
        self.fails(tmp_path / "run", link, DataError, message)

    @pytest.mark.parametrize("ending", ["tsv", "tsv.gz", "tsv.zst"])
    def test_a_file_that_vanishes(
        self, tmp_path: Path, mine: Path, ending: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = mine.read_bytes()
        path = mine.with_suffix(f".{ending}")
        path.write_bytes(PACKS[path.suffix](data))
        happen(monkeypatch, self.PLANNED, path.unlink)
        message = r"^A file must exist and be readable\. Received: .*/mine\.\S+ \(No such file or directory\)\.$"
        self.fails(tmp_path / "run", path, ArtifactError, message)

    def test_a_file_that_becomes_a_folder(self, tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def change() -> None:
            mine.unlink()
            mine.mkdir()

        happen(monkeypatch, self.PLANNED, change)
        message = r"^A file must exist and be readable\. Received: .*/mine\.tsv \(Is a directory\)\.$"
        self.fails(tmp_path / "run", mine, ArtifactError, message)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        """The kernel says that it has 4096 bytes, and gives none of them."""
        device = Path("/sys/class/net/lo/speed")
        try:
            device.read_bytes()
        except OSError as error:
            reason = error.strerror
        else:
            pytest.skip("this machine has no such file")
        message = rf"^A file must be readable to its end\. Received: {device} \({reason}\)\.$"
        self.fails(tmp_path / "run", device, ArtifactError, message)


@pytest.mark.parametrize("kept", [1, 50_000, -1])
@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_compressed_file_that_ends_early(tmp_path: Path, log: Path, ending: str, kept: int) -> None:
    """Within its header, its data or its checksum."""
    data = log.read_bytes()[: 1 << 18]
    whole = gzip.compress(data) if ending == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress(data)
    path = tmp_path / f"log.tsv.{ending}"
    path.write_bytes(whole[:kept])
    kind = {"gz": "gzip", "zst": "zstd"}[ending]
    with pytest.raises(DataError, match=rf"^A {kind} file must be whole\. Received: .* \({path}\)\.$"):
        run_of(tmp_path / "run", path)
    assert not is_finished(Run(str(tmp_path / "run")))


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_compressed_file_with_a_wrong_byte(tmp_path: Path, log: Path, ending: str) -> None:
    data = log.read_bytes()[: 1 << 18]
    whole = gzip.compress(data) if ending == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress(data)
    middle = len(whole) // 2
    path = tmp_path / f"log.tsv.{ending}"
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(DataError, match=r"^A (gzip|zstd) file must be whole\. Received: "):
        run_of(tmp_path / "run", path, max_rejects="100%")
    assert not is_finished(Run(str(tmp_path / "run")))


class TestChanged:
    """A log that changes while it is read, whenever that is."""

    @pytest.mark.parametrize(
        ("moment", "change"),
        [("parse", "grows"), ("parse", "shrinks"), ("merge", "other bytes"), ("transform", "grows")],
    )
    def test_is_an_error(
        self, tmp_path: Path, mine: Path, moment: str, change: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = mine.read_bytes()
        lines = data.splitlines(keepends=True)
        contents = {
            "grows": data + lines[1],
            "shrinks": b"".join(lines[:-1]),
            "other bytes": b"".join([*lines[:-2], *lines[:-3:-1]]),
        }[change]
        happen(monkeypatch, MOMENTS[moment], lambda: mine.write_bytes(contents), call=3)
        with pytest.raises(DataError, match=CHANGED.format(re.escape(str(mine)))):
            run_of(tmp_path / "run", mine, max_rejects="50%")
        run = Run(str(tmp_path / "run"))
        assert not is_finished(run)
        monkeypatch.undo()
        run_of(tmp_path / "run", mine, max_rejects="50%", force=True)
        assert table_of(run)["offset"].iloc[-1] <= len(contents)
        assert run.spec().lines == contents.count(b"\n")

    @pytest.mark.parametrize("ending", ["tsv", "tsv.gz"])
    def test_on_the_command_line(self, tmp_path: Path, mine: Path, ending: str) -> None:
        """A log that is still written to: never success, nor a success of the lines that were there."""
        path, run = mine.with_suffix(f".{ending}"), Run(str(tmp_path / "run"))
        pack = PACKS[path.suffix]
        path.write_bytes(pack(mine.read_bytes()))
        with start(run, path) as process:
            wait_for(process, run, "examples/.started.json")
            process.send_signal(signal.SIGSTOP)
            with path.open("ab") as file:
                file.write(pack(mine.read_bytes().splitlines(keepends=True)[1]))
            process.send_signal(signal.SIGCONT)
            _, errors = process.communicate()
        assert process.returncode == 2
        (line,) = [line for line in errors.splitlines() if line != "preprocess ..." and not line.startswith("prepro")]
        assert re.match("error: " + CHANGED.format(re.escape(str(path)))[1:], line)
        assert not is_finished(run)

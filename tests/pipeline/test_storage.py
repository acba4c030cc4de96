import gzip
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem
from line_ranges import read_chunks

from features.errors import ArtifactError, ConfigError, DataError
from features.schema import CRITEO
from pipeline import storage
from pipeline.beam import make_options
from pipeline.generate import generate
from pipeline.preprocess import preprocess
from pipeline.settings import PreprocessConfig
from pipeline.storage import InputFile
from pipeline.workspace import Run

OBJECTS: dict[str, bytes] = {}


class _Writer(io.BytesIO):
    """An object that appears when its stream is closed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            OBJECTS[self._path] = self.getvalue()
        super().close()


class ObjectStore(FileSystem):
    """An object store behind Beam's interface: names and bytes, no folders."""

    @classmethod
    def scheme(cls) -> str:
        return "store"

    def has_dirs(self) -> bool:
        return False

    def _list(self, prefix: str) -> Any:
        return [self.metadata(path) for path in sorted(OBJECTS) if path.startswith(prefix)]

    def create(self, path: str, mime_type: str, compression_type: str) -> _Writer:
        assert compression_type == CompressionTypes.UNCOMPRESSED
        return _Writer(path)

    def open(self, path: str, mime_type: str, compression_type: str) -> io.BytesIO:
        assert compression_type == CompressionTypes.UNCOMPRESSED
        if path not in OBJECTS:
            raise BeamIOError("no such object")
        return io.BytesIO(OBJECTS[path])

    def exists(self, path: str) -> bool:
        return path in OBJECTS

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, len(OBJECTS[path]), 1.5)

    def delete(self, paths: list[str]) -> None:
        for path in paths:  # like Google's: the name of a folder names nothing
            OBJECTS.pop(path, None)

    def join(self, *_: Any) -> Any: ...
    def split(self, *_: Any) -> Any: ...
    def mkdirs(self, *_: Any) -> Any: ...
    def copy(self, *_: Any) -> Any: ...
    def rename(self, *_: Any) -> Any: ...
    def size(self, *_: Any) -> Any: ...
    def last_updated(self, *_: Any) -> Any: ...


@pytest.fixture
def store() -> dict[str, bytes]:
    OBJECTS.clear()
    return OBJECTS


def write(path: Path, data: bytes = b"x") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestFindInputs:
    def test_patterns_in_the_given_order_and_files_by_name(self, tmp_path: Path) -> None:
        paths = [write(tmp_path / name) for name in ("b/2", "b/10", "a/1", "c")]
        found = storage.find_inputs([paths[3], f"{tmp_path}/b/*", f"{tmp_path}/a/1", f"{tmp_path}/*/*"])
        assert [file.path for file in found] == [paths[3], paths[1], paths[0], paths[2]]

    def test_size_and_version(self, tmp_path: Path) -> None:
        path = write(tmp_path / "log.tsv.gz", b"12345")
        os.utime(path, ns=(0, 1_234_567_890_123_456_789))
        assert storage.find_inputs([path]) == [InputFile(path, 5, 1_234_567_890_123)]
        assert InputFile(path, 5, 0).compressed and not InputFile("log.gzip", 5, 0).compressed

    def test_a_relative_path_is_made_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same file is the same input, whatever folder the command is called from."""
        paths = [write(tmp_path / name) for name in ("b/1", "b/2")]
        absolute = storage.find_inputs([f"{tmp_path}/b/*"])
        assert [file.path for file in absolute] == paths
        monkeypatch.chdir(tmp_path)
        assert storage.find_inputs(["b/*"]) == storage.find_inputs(["./b/1", "b/../b/2", paths[0]]) == absolute
        monkeypatch.chdir(tmp_path / "b")
        assert storage.find_inputs(["1", "../b/2"]) == absolute

    def test_a_name_with_the_characters_of_a_glob(self, tmp_path: Path) -> None:
        path = write(tmp_path / "log[1]*.tsv")
        assert [file.path for file in storage.find_inputs([path])] == [path]

    @pytest.mark.parametrize("pattern", ["nothing", "nothing-*", "folder", "*", "lost"])
    def test_no_file_or_a_folder_among_them(self, tmp_path: Path, pattern: str) -> None:
        write(tmp_path / "folder/file")
        (tmp_path / "lost").symlink_to("nowhere")
        with pytest.raises(DataError, match=r"^--input must .* Received: .+$") as error:
            storage.find_inputs([f"{tmp_path}/{pattern}"])
        assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)

    def test_remote(self, store: dict[str, bytes]) -> None:
        store |= {"store://b/x/2": b"22", "store://b/x/1": b"", "store://b/y": b"y"}
        assert storage.find_inputs(["store://b/x/*"]) == [
            InputFile("store://b/x/1", 0, 1500),
            InputFile("store://b/x/2", 2, 1500),
        ]
        with pytest.raises(DataError, match="no such file"):
            storage.find_inputs(["store://b/z*"])

    def test_a_file_system_that_beam_does_not_have(self) -> None:
        with pytest.raises(ConfigError, match=r"A path must be local or known to Beam\. Received: nix://a"):
            storage.find_inputs(["nix://a"])


class TestVersion:
    def test_follows_the_file(self, tmp_path: Path) -> None:
        path = str(tmp_path / "log.tsv")
        assert storage.version(path) is None
        write(tmp_path / "log.tsv", b"12345")
        os.utime(path, ns=(0, 1_234_567_890_123_456_789))
        assert storage.version(path) == [5, 1_234_567_890_123]
        os.utime(path, ns=(0, 1_234_567_891_000_000_000))
        assert storage.version(path) == [5, 1_234_567_891_000]

    def test_remote(self, store: dict[str, bytes]) -> None:
        store["store://b/log.tsv"] = b"123"
        assert storage.version("store://b/log.tsv") == [3, 1500]
        assert storage.version("store://b/none.tsv") is None


def compress(data: bytes, kind: str) -> bytes:
    """Compressed as the command line tools do it: zstd with a checksum."""
    if kind == "gzip":
        return gzip.compress(data)
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


class TestOpenLog:
    @pytest.mark.parametrize(
        ("name", "kind"), [("log.tsv", ""), ("log.tsv.gz", "gzip"), ("log.tsv.zst", "zstd"), ("log.jsonl.zstd", "zstd")]
    )
    def test_reads_the_decompressed_bytes(self, tmp_path: Path, name: str, kind: str) -> None:
        data = b"line\n" * 1000
        file = InputFile(write(tmp_path / name, compress(data, kind) if kind else data), 1, 1)
        assert file.compressed == bool(kind)
        with storage.open_log(file) as stream:
            assert stream.read() == data
            assert stream.read() == b""
        with storage.open_log(file) as stream:
            assert [stream.read(7), stream.read(0), stream.read(10_000), stream.read(1)] == [
                data[:7],
                b"",
                data[7:],
                b"",
            ]

    @pytest.mark.parametrize("kind", ["gzip", "zstd"])
    def test_members_one_after_another_are_one_stream(self, tmp_path: Path, kind: str) -> None:
        name = {"gzip": "log.gz", "zstd": "log.zst"}[kind]
        path = write(tmp_path / name, b"".join(compress(part, kind) for part in (b"a\n", b"", b"b\n" * 100_000)))
        with storage.open_log(InputFile(path, 1, 1)) as stream:
            assert stream.read() == b"a\n" + b"b\n" * 100_000

    def test_a_zstd_frame_to_be_skipped(self, tmp_path: Path) -> None:
        skipped = bytes.fromhex("502a4d18 04000000") + b"abcd"  # magic number and length, little-endian
        path = write(tmp_path / "log.zst", skipped + compress(b"a\n", "zstd") + skipped)
        with storage.open_log(InputFile(path, 1, 1)) as stream:
            assert stream.read() == b"a\n"

    @pytest.mark.parametrize("name", ["log.tsv", "log.tsv.gz", "log.tsv.zst"])
    def test_gives_the_same_lines_of_ranges(self, tmp_path: Path, name: str) -> None:
        data = b"".join(b"%d\n" % i for i in range(100_000))
        kind = {".tsv": "", ".gz": "gzip", ".zst": "zstd"}[Path(name).suffix]
        path = write(tmp_path / name, compress(data, kind) if kind else data)
        with storage.open_log(InputFile(path, 1, 1)) as stream:
            chunks = list(read_chunks(stream, [(0, 10), (300_000, 300_020), (500_000, 1 << 40)], 1 << 16))
        assert b"".join(chunk.data for index, chunk in chunks if index == 0) == b"0\n1\n2\n3\n4\n"
        for index, chunk in chunks:
            assert data[chunk.offset :].startswith(chunk.data) and chunk.offset >= [0, 300_000, 500_000][index]
        assert sum(len(chunk.data) for index, chunk in chunks if index == 2) == len(data) - chunks[2][1].offset

    @pytest.mark.parametrize("damage", ["cut", "cut at the end", "flipped", "text", "tail", "second member cut"])
    @pytest.mark.parametrize("kind", ["gzip", "zstd"])
    def test_damaged(self, tmp_path: Path, damage: str, kind: str) -> None:
        name = {"gzip": "log.gz", "zstd": "log.zst"}[kind]
        data = bytearray(compress(os.urandom(50_000), kind))
        if damage == "flipped":
            data[25_000] ^= 255
        broken = {
            "cut": data[:30_000],
            "cut at the end": data[:-1],
            "flipped": data,
            "text": b"neither of them",
            "tail": data + b"tail",
            "second member cut": data + compress(b"more", kind)[:-5],
        }[damage]
        path = write(tmp_path / name, bytes(broken))
        with pytest.raises(DataError, match=rf"^A {kind} file must be whole\. Received: .*{name}\)\.$"):
            with storage.open_log(InputFile(path, 1, 1)) as stream:
                while stream.read(10_000):
                    pass

    @pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), RuntimeError("no")])
    def test_a_failure_of_the_file_below_is_no_damage(self, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise error

        monkeypatch.setattr(storage, "open_read", lambda path: Failing())
        with pytest.raises(type(error)):
            with storage.open_log(InputFile("log.zst", 1, 1)) as stream:
                stream.read(10)

    def test_an_error_of_the_reader_is_passed_on(self, tmp_path: Path) -> None:
        path = write(tmp_path / "log.zst", compress(b"a\n", "zstd"))
        with pytest.raises(OSError, match="disk full"):
            with storage.open_log(InputFile(path, 1, 1)):
                raise OSError("disk full")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="must exist and be readable"):
            with storage.open_log(InputFile(str(tmp_path / "none"), 1, 1)):
                pass


class TestPublish:
    def test_counts_hashes_and_makes_folders(self, tmp_path: Path) -> None:
        path = tmp_path / "new/folder/file"
        with storage.publish(str(path)) as writer:
            assert writer.write(b"ab") == 2
            writer.write(b"c")
            writer.flush()
            assert not path.exists() and not writer.closed
        assert path.read_bytes() == b"abc"
        assert writer.bytes == 3
        assert writer.checksum == "sha256:" + hashlib.sha256(b"abc").hexdigest()

    def test_a_failure_leaves_the_old_file_and_no_other(self, tmp_path: Path) -> None:
        path = write(tmp_path / "file", b"old")
        with pytest.raises(KeyboardInterrupt):
            with storage.publish(path) as writer:
                writer.write(b"new")
                raise KeyboardInterrupt
        assert Path(path).read_bytes() == b"old"
        assert names(tmp_path) == ["file"]

    def test_folder(self, tmp_path: Path) -> None:
        write(tmp_path / "model/old")
        with storage.publish_folder(str(tmp_path / "model")) as folder:
            write(Path(folder) / "deep/new")
            assert (tmp_path / "model/old").exists()
        assert names(tmp_path) == ["model", "model/deep", "model/deep/new"]
        with pytest.raises(ValueError):
            with storage.publish_folder(str(tmp_path / "model")) as folder:
                write(Path(folder) / "newer")
                raise ValueError
        assert names(tmp_path) == ["model", "model/deep", "model/deep/new"]

    def test_remote(self, store: dict[str, bytes]) -> None:
        with storage.publish("store://b/file") as writer:
            writer.write(b"abc")
            assert not store
        assert store == {"store://b/file": b"abc"}
        with pytest.raises(ValueError):
            with storage.publish("store://b/file") as writer:
                writer.write(b"d")
                raise ValueError
        assert store == {"store://b/file": b"abc"}


class TestJson:
    def test_round_trip(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a/value.json")
        storage.write_json(path, {"é": [1, 2.5, None]})
        assert storage.read_json(path) == {"é": [1, 2.5, None]}
        assert "é" in storage.read_text(path)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_not_finite_is_no_json(self, tmp_path: Path, value: float) -> None:
        path = str(tmp_path / "value.json")
        storage.write_json(path, {"a": 1.0})
        with pytest.raises(ValueError, match="not JSON compliant"):
            storage.write_json(path, {"a": [value]})
        assert storage.read_json(path) == {"a": 1.0} and names(tmp_path) == ["value.json"]

    @pytest.mark.parametrize("data", [b"", b'{"a":', b"\xff\xfe"])
    def test_damaged(self, tmp_path: Path, data: bytes) -> None:
        path = write(tmp_path / "value.json", data)
        with pytest.raises(ArtifactError, match=r"must be whole\. Received: .*value\.json"):
            storage.read_json(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match=r"must exist and be readable\. Received: .*No such file"):
            storage.read_json(str(tmp_path / "none.json"))


class TestRemove:
    def test_files_folders_and_nothing(self, tmp_path: Path) -> None:
        for name in ("folder/deep/file", "file", "kept"):
            write(tmp_path / name)
        for name in ("folder", "file", "none"):
            storage.remove(str(tmp_path / name))
        assert names(tmp_path) == ["kept"]

    def test_a_remote_folder_goes_with_all_it_holds(self, store: dict[str, bytes]) -> None:
        store |= {"store://b/run/a": b"", "store://b/run/deep/b": b"", "store://b/run2/c": b"", "store://b/run.d": b""}
        storage.remove("store://b/run")
        assert sorted(store) == ["store://b/run.d", "store://b/run2/c"]
        storage.remove("store://b/run.d")
        storage.remove("store://b/none")
        assert sorted(store) == ["store://b/run2/c"]

    def test_temporaries(self, tmp_path: Path) -> None:
        for name in ("a/file.1f.tmp", "b/model.2e.tmp/deep/file", "a/kept", "tmp/kept"):
            write(tmp_path / name)
        storage.remove_temporaries(str(tmp_path))
        assert names(tmp_path) == ["a", "a/kept", "b", "tmp", "tmp/kept"]


def test_count_files(tmp_path: Path) -> None:
    for name in ("1.json", "2.json", "3.arrow"):
        write(tmp_path / name)
    assert storage.count_files(str(tmp_path), ".json") == 2
    assert storage.count_files(str(tmp_path / "none"), ".json") == 0
    assert storage.count_files("store://b/none", ".json") == 0


def test_join() -> None:
    assert storage.join("gs://b/run/", "a", "b.json") == "gs://b/run/a/b.json"


def test_preprocess_writes_the_same_to_a_remote_run(tmp_path: Path, store: dict[str, bytes]) -> None:
    log = tmp_path / "log.tsv"
    generate(1500, str(log))
    local, remote = Run(str(tmp_path / "run")), Run("store://bucket/run")
    for run in (local, remote):
        for seed in (1, 0):  # the second call removes what the first one made
            with run.lock():
                assert preprocess(run, [str(log)], CRITEO, PreprocessConfig(seed=seed), make_options((), 1))
    expected = {
        f"store://bucket/run/{name}": (tmp_path / "run" / name).read_bytes()
        for name in names(tmp_path / "run")
        if (tmp_path / "run" / name).is_file() and name != ".lock"
    }
    assert store == expected
    assert remote.spec() == local.spec()
    with remote.lock():
        assert not preprocess(remote, [str(log)], CRITEO, PreprocessConfig(), make_options((), 1))


def test_a_second_name_is_the_same_file(tmp_path: Path) -> None:
    source, path = tmp_path / "a", tmp_path / "below" / "b"
    source.write_bytes(b"first")
    assert storage.link(str(source), str(path)) and path.samefile(source)
    assert storage.link(str(source), str(path)), "a second time"
    # Publishing gives a name to another file; the other name stays with the old one.
    storage.write_bytes(str(source), b"second")
    assert path.read_bytes() == b"first"
    assert not storage.link(str(source), str(path)) and path.read_bytes() == b"first"
    storage.remove(str(path))
    assert source.read_bytes() == b"second"


def test_what_has_no_second_name(tmp_path: Path, store: dict[str, bytes]) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"first")
    store["store://bucket/a"] = b"remote"
    assert not storage.link(str(tmp_path / "none"), str(tmp_path / "b"))
    assert not storage.link("store://bucket/a", str(tmp_path / "b"))
    (tmp_path / "file").write_bytes(b"")
    assert not storage.link(str(source), str(tmp_path / "file" / "b")), "its folder cannot be made"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "file"}

import gzip
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import ConfigError, DataError
from features.spec import SPLITS
from pipeline.plan import MIN_TRAIN_SHARDS, Shard, Split, Task, plan, stream_size
from pipeline.storage import InputFile, find_inputs

DEFAULT = Split.parse("70/15/15")


def log(folder: Path, name: str, data: bytes) -> InputFile:
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return find_inputs([str(path)])[0]


class TestSplit:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("70/15/15", Split((70, 15, 15), False)),
            ("0.7/0.15/0.15", Split((0.7, 0.15, 0.15), False)),
            ("80/20/0", Split((80, 20, 0), False)),
            ("106703/22865/0", Split((106703, 22865, 0), True)),
            ("33.3/33.3/33.4", Split((33.3, 33.3, 33.4), False)),
        ],
    )
    def test_parse(self, text: str, expected: Split) -> None:
        assert Split.parse(text) == expected

    @pytest.mark.parametrize(
        "text",
        ["", "70", "70/30", "70/15/10/5", "a/b/c", "0/50/50", "100/0/0", "120/-10/-10", "1.5/2/3", "nan/50/50"]
        + ["50/nan/50", "50/50/nan", "inf/1/1", "1/1/inf"],
    )
    def test_wrong(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"^--split must be .* Received: "):
            Split.parse(text)


def positions(tasks: list[Task], files: list[InputFile], sizes: list[int]) -> list[tuple[Shard, int, int]]:
    """The shards with their places in all files one after another."""
    starts = {file.path: sum(sizes[:index]) for index, file in enumerate(files)}
    return [
        (shard, starts[task.file.path] + shard.start, starts[task.file.path] + shard.end)
        for task in tasks
        for shard in task.shards
    ]


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=5).filter(any),
    compressed=st.lists(st.booleans(), min_size=5, max_size=5),
    shares=st.tuples(st.integers(1, 98), st.integers(1, 98)).filter(lambda pair: sum(pair) <= 100),
    shard_bytes=st.integers(1, 5000),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_byte_is_in_one_shard_in_order(
    tmp_path: Path, sizes: list[int], compressed: list[bool], shares: tuple[int, int], shard_bytes: int
) -> None:
    names = [f"{index}.gz" if compressed[index] else str(index) for index in range(len(sizes))]
    files = [log(tmp_path, name, b"x" * size) for name, size in zip(names, sizes, strict=True)]
    tasks, total = plan(files, Split.parse(f"{shares[0]}/{shares[1]}/{100 - sum(shares)}"), shard_bytes)
    found = positions(tasks, files, sizes)

    assert total == sum(sizes)
    assert found[0][1] == 0 and found[-1][2] == total
    assert all(left[2] == right[1] for left, right in zip(found[:-1], found[1:], strict=True))
    assert all(0 < end - start <= shard_bytes for _, start, end in found)
    order = [SPLITS.index(shard.split) for shard, _, _ in found]
    assert order == sorted(order)
    for split in SPLITS:
        mine = [(shard, start, end) for shard, start, end in found if shard.split == split]
        assert [shard.index for shard, _, _ in mine] == list(range(len(mine)))
    train = sum(end - start for shard, start, end in found if shard.split == "train")
    assert train == round(total * shares[0] / 100)
    assert sum(shard.split == "train" for shard, _, _ in found) >= MIN_TRAIN_SHARDS or train < MIN_TRAIN_SHARDS**2
    for task in tasks:
        assert task.shards and (task.file.compressed or len(task.shards) == 1)


@given(
    lines=st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"")), min_size=2, max_size=30),
    cuts=st.tuples(st.integers(1, 29), st.integers(1, 29)),
    files=st.lists(st.integers(0, 30), max_size=3),
    last_newline=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_of_lines(
    tmp_path: Path, lines: list[bytes], cuts: tuple[int, int], files: list[int], last_newline: bool
) -> None:
    train = min(cuts[0], len(lines) - 1)
    valid = min(cuts[1], len(lines) - train)
    bounds = [0, *sorted(min(cut, len(lines)) for cut in files), len(lines)]
    parts = [b"".join(line + b"\n" for line in lines[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    if not last_newline and lines[-1] and parts[-1]:
        parts[-1] = parts[-1][:-1]
    inputs = [log(tmp_path, str(index), part) for index, part in enumerate(parts)]
    tasks, _ = plan(inputs, Split.parse(f"{train}/{valid}/{len(lines) - train - valid}"), 1 << 20)
    data = b"".join(parts)
    ends = {shard.split: end for shard, _, end in positions(tasks, inputs, [len(part) for part in parts])}
    assert data[: ends["train"]] == b"".join(line + b"\n" for line in lines[:train])
    whole = b"".join(line + b"\n" for line in lines[: train + valid])
    assert data[: ends["valid"]] in (whole, whole[:-1])
    assert ("test" in ends) == (len(lines) > train + valid)


def test_numbers_of_lines_across_large_reads(tmp_path: Path) -> None:
    line = b"x" * 99 + b"\n"
    file = log(tmp_path, "log", line * 200_000)  # 20 MB, read in parts of 8 MiB
    tasks, _ = plan([file], Split.parse("150001/49000/999"), 128 << 20)
    shards = [shard for task in tasks for shard in task.shards]
    assert shards[-1] == Shard("test", 0, 199_001 * 100, 20_000_000)
    assert shards[-2].end == 199_001 * 100 and shards[MIN_TRAIN_SHARDS - 1].end == 150_001 * 100


@pytest.mark.parametrize("text", ["6/3/0", "6/3/2", "5/4/0", "20/1/1"])
def test_other_numbers_than_there_are_lines(tmp_path: Path, text: str) -> None:
    file = log(tmp_path, "log", b"x\n" * 10)
    with pytest.raises(DataError, match=rf"^--split in lines must add up .* Received: {text}, .* for 10 lines\.$"):
        plan([file], Split.parse(text), 100)


def test_shares_that_sum_to_all_bytes_leave_none(tmp_path: Path) -> None:
    file = log(tmp_path, "log", b"x" * 1001)
    tasks, _ = plan([file], Split.parse("50/50/0"), 1000)
    shards = [task.shards[0] for task in tasks]
    assert {shard.split for shard in shards} == {"train", "valid"}
    assert sum(shard.end - shard.start for shard in shards) == 1001


def test_large_logs_have_shards_of_the_given_size(tmp_path: Path) -> None:
    gigabyte = InputFile("log", 1 << 30, 0)
    tasks, _ = plan([gigabyte], DEFAULT, 10 << 20)
    sizes = [shard.end - shard.start for task in tasks for shard in task.shards]
    assert max(sizes) <= 10 << 20 and min(sizes) > 9 << 20
    assert len([task for task in tasks if task.shards[0].split == "train"]) == math.ceil(0.7 * 1024 / 10)


def test_only_empty_files(tmp_path: Path) -> None:
    files = [log(tmp_path, "a", b""), log(tmp_path, "b.gz", b"")]
    with pytest.raises(DataError, match=r"The input must hold rows\. Received: only empty files \(.*a, .*b\.gz\)"):
        plan(files, DEFAULT, 100)


def test_stream_size(tmp_path: Path) -> None:
    assert stream_size(log(tmp_path, "a", b"12345")) == 5
    assert stream_size(log(tmp_path, "b.gz", b"x" * 20_000_000)) == 20_000_000


def test_task_only() -> None:
    shards = tuple(Shard(split, 0, 0, 1) for split in SPLITS)
    task = Task(InputFile("log", 1, 1), shards)
    assert task.only("valid").shards == (shards[1],)
    assert shards[1].name == "valid/shard-00000"

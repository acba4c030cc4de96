"""Batches from shards: every row once, shuffled by the seed, joined with its targets, or an error."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.blocks import Block
from features.example import decode_example, encode_example
from features.targets import TargetBlock
from features.tfrecord import write_record
from models.backend import tf
from models.inputs import ShardFiles, evaluation_batches, training_batches

NUMERIC, CATEGORICAL, OUTPUTS = 2, 3, 4
TEACHER = "teacher-1"
Rows = dict[str, np.ndarray]


def make_block(numbers: Iterable[int]) -> Block:
    """Rows with these numbers; every field of a row follows from its number."""
    n = np.fromiter(numbers, np.int64)
    dense = np.stack([n / 8, -n / 8], axis=1).astype(np.float32)
    dense[n % 5 == 0, 1] = np.nan
    ids = np.stack([n, n % 7, n + 2**20], axis=1).astype(np.int32)
    return Block((n % 3 == 0).astype(np.uint8), dense, ids, (n % 10).astype(np.uint8), n * 100)


def with_weights(block: Block) -> Block:
    return replace(block, weights=(block.ids[:, 0] / 4).astype(np.float32), groups=block.offsets % 7)


def logits_of(numbers: np.ndarray) -> np.ndarray:
    return (numbers[:, np.newaxis] * np.array([1.0, -1.0, 0.5, 0.25])).astype(np.float32)


def make_targets(block: Block, teacher: str = TEACHER) -> TargetBlock:
    return TargetBlock(logits_of(block.ids[:, 0]), block.offsets, teacher)


def write(path: Path, blocks: Iterable[Block | TargetBlock]) -> str:
    with open(path, "wb") as file:
        for block in blocks:
            write_record(file, block.encode())
    return str(path)


def write_split(folder: Path, shards: list[list[Block]], with_targets: bool = True) -> ShardFiles:
    examples = [write(folder / f"{number}.tfrecord", blocks) for number, blocks in enumerate(shards)]
    files = ShardFiles(examples, (NUMERIC, CATEGORICAL))
    if not with_targets:
        return files
    targets = [
        write(folder / f"{number}.targets", [make_targets(block) for block in blocks])
        for number, blocks in enumerate(shards)
    ]
    return replace(files, targets=targets, teacher=TEACHER, outputs=OUTPUTS)


def cut(rows: int, shards: int, block_rows: int) -> list[list[Block]]:
    """Rows 0, 1, ... in shards of equal size, cut into blocks."""
    parts = np.array_split(np.arange(rows), shards)
    return [list(make_block(part).split(block_rows)) for part in parts]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ShardFiles:
    """1000 rows in 4 shards of 5 blocks."""
    return write_split(tmp_path_factory.mktemp("split"), cut(1000, 4, 57))


@pytest.fixture(scope="module")
def plain(files: ShardFiles) -> ShardFiles:
    """The same without targets."""
    return ShardFiles(files.examples, files.columns)


def numpy_batches(batches: tf.data.Dataset) -> Iterator[Rows]:
    for batch in batches:
        yield {name: value.numpy() for name, value in batch.items()}


def epochs(batches: tf.data.Dataset, rows: int, number: int = 1) -> list[list[Rows]]:
    """The first epochs; a batch never spans two of them."""
    stream = numpy_batches(batches)
    found = []
    for _ in range(number):
        epoch: list[Rows] = []
        while sum(map(size, epoch)) < rows:
            epoch.append(next(stream))
        found.append(epoch)
    return found


def size(batch: Rows) -> int:
    return len(batch["label"])


def numbers(batches: list[Rows]) -> np.ndarray:
    return np.concatenate([batch["ids"][:, 0] for batch in batches])


def check_rows(batch: Rows, with_targets: bool) -> None:
    """Every field of a row is that of its number."""
    expected = make_block(batch["ids"][:, 0])
    np.testing.assert_array_equal(batch["ids"], expected.ids)
    np.testing.assert_array_equal(batch["dense"], expected.dense)
    np.testing.assert_array_equal(batch["label"], expected.labels.astype(np.float32))
    np.testing.assert_array_equal(batch["fold"], expected.folds.astype(np.int32))
    if with_targets:
        np.testing.assert_array_equal(batch["targets"], logits_of(batch["ids"][:, 0]))
    else:
        assert "targets" not in batch


def test_shapes_and_types(files: ShardFiles) -> None:
    for batches in (training_batches(files, 64, 0), evaluation_batches(files)):
        spec = batches.element_spec
        found = {name: (spec[name].dtype, spec[name].shape.as_list()) for name in spec}
        assert found == {
            "ids": (tf.int32, [None, CATEGORICAL]),
            "dense": (tf.float32, [None, NUMERIC]),
            "fold": (tf.int32, [None]),
            "label": (tf.float32, [None]),
            "targets": (tf.float32, [None, OUTPUTS]),
        }


@pytest.mark.parametrize("with_targets", [False, True])
def test_every_row_once_an_epoch_and_whole(files: ShardFiles, plain: ShardFiles, with_targets: bool) -> None:
    chosen = files if with_targets else plain
    for epoch in epochs(training_batches(chosen, 64, seed=3), 1000, number=2):
        assert [size(batch) for batch in epoch] == [64] * 15 + [40]
        np.testing.assert_array_equal(np.sort(numbers(epoch)), np.arange(1000))
        for batch in epoch:
            check_rows(batch, with_targets)


def test_rows_are_shuffled_across_shards_and_within_them(plain: ShardFiles) -> None:
    order = numbers(epochs(training_batches(plain, 64, seed=3), 1000)[0])
    first = order[:64]
    # Four shards of 250 rows: of 64 random rows, 16 a shard (standard deviation 3.4).
    assert np.bincount(first // 250, minlength=4).min() >= 4
    for shard in range(4):
        own = order[order // 250 == shard]
        assert 80 < np.count_nonzero(np.diff(own) < 0) < 170  # half of 249 in a random order
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15


def test_the_order_follows_from_the_seed(files: ShardFiles, plain: ShardFiles) -> None:
    once = epochs(training_batches(plain, 64, seed=3), 1000, number=2)
    again = epochs(training_batches(plain, 64, seed=3), 1000, number=2)
    joined = epochs(training_batches(files, 64, seed=3), 1000)
    other = epochs(training_batches(plain, 64, seed=4), 1000)
    np.testing.assert_array_equal([numbers(epoch) for epoch in once], [numbers(epoch) for epoch in again])
    np.testing.assert_array_equal(numbers(once[0]), numbers(joined[0]))
    assert np.count_nonzero(numbers(once[0]) == numbers(other[0])) < 20
    assert np.count_nonzero(numbers(once[0]) == numbers(once[1])) < 20


def test_the_batch_size_does_not_change_the_order(plain: ShardFiles) -> None:
    small, large = (epochs(training_batches(plain, rows, seed=3), 1000)[0] for rows in (7, 999))
    np.testing.assert_array_equal(numbers(small), numbers(large))


def test_more_shards_and_rows_than_are_shuffled_at_once(tmp_path: Path) -> None:
    rows = 80_000
    files = write_split(tmp_path, cut(rows, 20, 1000), with_targets=False)
    order = numbers(epochs(training_batches(files, 5000, seed=0), rows)[0])
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    # Of 20 shards at least the 16 that are read side by side.
    assert len(np.unique(order[:5000] // 4000)) >= 16


@pytest.mark.parametrize("without", [(0,), (1, 6), (0, 2, 4, 6, 8)])
def test_without_folds_removes_exactly_their_rows(files: ShardFiles, without: tuple[int, ...]) -> None:
    left = np.array([n for n in range(1000) if n % 10 not in without])
    for epoch in epochs(training_batches(files, 64, seed=3, without=without), len(left), number=2):
        np.testing.assert_array_equal(np.sort(numbers(epoch)), left)
        for batch in epoch:
            check_rows(batch, with_targets=True)


@pytest.mark.parametrize("with_targets", [False, True])
def test_evaluation_keeps_the_order_and_leaves_no_fold_out(
    files: ShardFiles, plain: ShardFiles, with_targets: bool
) -> None:
    batches = list(numpy_batches(evaluation_batches(files if with_targets else plain, batch_size=300)))
    assert [size(batch) for batch in batches] == [300, 300, 300, 100]
    np.testing.assert_array_equal(numbers(batches), np.arange(1000))
    for batch in batches:
        np.testing.assert_array_equal(batch["fold"], np.full(size(batch), 10))
        check_rows({**batch, "fold": make_block(batch["ids"][:, 0]).folds}, with_targets)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("without", [(), (1, 6)])
def test_weights_stay_with_their_rows(tmp_path: Path, with_targets: bool, without: tuple[int, ...]) -> None:
    shards = [[with_weights(block) for block in blocks] for blocks in cut(300, 3, 40)]
    files = replace(write_split(tmp_path, shards, with_targets), weighted=True)
    left = [n for n in range(300) if n % 10 not in without]
    training = epochs(training_batches(files, 64, seed=3, without=without), len(left))[0]
    evaluation = list(numpy_batches(evaluation_batches(files, batch_size=100)))
    for batches, expected in ((training, left), (evaluation, list(range(300)))):
        assert sorted(numbers(batches).tolist()) == expected
        for batch in batches:
            assert batch["weight"].dtype == np.float32
            np.testing.assert_array_equal(batch["weight"], batch["ids"][:, 0] / 4)


def test_weights_change_nothing_else(tmp_path: Path) -> None:
    shards = cut(300, 3, 40)
    plain = write_split(tmp_path, shards, with_targets=False)
    weighted = [[with_weights(block) for block in blocks] for blocks in shards]
    (tmp_path / "weighted").mkdir()
    files = replace(write_split(tmp_path / "weighted", weighted, with_targets=False), weighted=True)
    # Whoever does not ask for weights does not get them.
    for chosen in (files, replace(files, weighted=False)):
        pair = (epochs(training_batches(made, 64, seed=3), 300)[0] for made in (plain, chosen))
        for mine, theirs in zip(*pair, strict=True):
            assert set(theirs) - set(mine) == ({"weight"} if chosen.weighted else set())
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name])


def test_examples_without_the_weights_that_are_asked_for_are_an_error(tmp_path: Path) -> None:
    files = replace(write_split(tmp_path, cut(60, 2, 10)), weighted=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="weight"):
        list(evaluation_batches(files))


def assert_equal_batches(found: Iterable[Rows], expected: Iterable[Rows]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert set(mine) == set(theirs)
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name])


@pytest.mark.parametrize(
    ("with_targets", "weighted", "without"),
    [(False, False, ()), (True, False, (1, 6)), (False, True, (1, 6)), (True, True, ())],
)
def test_a_stream_goes_on_where_it_was_left(
    tmp_path: Path, with_targets: bool, weighted: bool, without: tuple[int, ...]
) -> None:
    # 500 rows, or 400, in five pools of 16 small blocks: an epoch is of 16 or 13 batches.
    shards = [[with_weights(block) if weighted else block for block in blocks] for blocks in cut(500, 4, 7)]
    files = replace(write_split(tmp_path, shards, with_targets), weighted=weighted)
    length = 13 if without else 16

    def batches(start: tuple[int, int], number: int) -> list[Rows]:
        stream = training_batches(files, 32, seed=3, without=without, start=start)
        return list(numpy_batches(stream.take(number)))

    undisturbed = batches((0, 0), 3 * length)
    assert sum(map(size, undisturbed)) == 3 * (400 if without else 500)
    for epoch, batch in [(0, 7), (0, length), (1, length - 2), (2, 3)]:
        position = epoch * length + batch
        assert_equal_batches(batches((epoch, batch), 3 * length - position), undisturbed[position:])


@pytest.mark.parametrize("count", [2, 3])
def test_parts_make_up_the_batches(files: ShardFiles, count: int) -> None:
    def batches(part: tuple[int, int]) -> Iterator[Rows]:
        return numpy_batches(training_batches(files, 120, seed=3, start=(0, 5), part=part).take(10))

    for batch, *shares in zip(batches((0, 1)), *(batches((index, count)) for index in range(count)), strict=True):
        for index, share in enumerate(shares):
            rows = len(range(index, size(batch), count))
            np.testing.assert_array_equal(share["weight"], np.arange(120 // count) < rows)
            for name, values in batch.items():
                np.testing.assert_array_equal(share[name][:rows], values[index::count])
                np.testing.assert_array_equal(
                    share[name][rows:], np.repeat(values[:1], len(share[name]) - rows, axis=0)
                )


def test_the_weights_of_a_part_are_those_of_its_rows(tmp_path: Path) -> None:
    blocks = [[with_weights(block) for block in shard] for shard in cut(100, 2, 20)]
    files = replace(write_split(tmp_path, blocks, with_targets=False), weighted=True)
    (share,) = numpy_batches(training_batches(files, 105, seed=3, part=(1, 3)).take(1))
    np.testing.assert_array_equal(share["weight"], np.append(share["ids"][:33, 0] / 4, [0, 0]))


def test_a_part_of_a_batch_with_too_few_rows_has_no_weight(plain: ShardFiles) -> None:
    # The last of 334 batches of three rows has one.
    batches = training_batches(plain, 3, seed=3, part=(1, 3)).take(334)
    assert [batch["weight"].tolist() for batch in numpy_batches(batches)] == [[1]] * 333 + [[0]]


def test_the_part_of_a_shard_takes_the_place_of_the_fold(plain: ShardFiles) -> None:
    files = replace(plain, parts=(7, 5, 9, 8))
    left = [n for n in range(1000) if n % 10 not in (0, 3)]
    epoch = epochs(training_batches(files, 64, seed=3, without=(0, 3)), len(left))[0]
    assert sorted(numbers(epoch).tolist()) == left
    for batch in epoch:
        assert batch["fold"].dtype == np.int32
        np.testing.assert_array_equal(batch["fold"], np.array([7, 5, 9, 8])[batch["ids"][:, 0] // 250])
    folds = np.concatenate([batch["fold"] for batch in numpy_batches(evaluation_batches(files))])
    assert folds.tolist() == [10] * 1000


def outcomes_of(n: np.ndarray) -> np.ndarray:
    return np.stack([n % 2, n % 5 == 1, n % 7 == 0], axis=1).astype(np.uint8)


@pytest.fixture
def with_outcomes(tmp_path: Path) -> ShardFiles:
    """300 rows in three shards, each with three outcomes, and with targets."""
    shards = cut(300, 3, 40)
    files = replace(write_split(tmp_path, shards), outcomes=3)
    for path, blocks in zip(files.examples, shards, strict=True):
        with open(path, "wb") as file:
            for block in blocks:
                outcomes = {"outcome": outcomes_of(block.ids[:, 0]).tobytes()}
                write_record(file, encode_example({**decode_example(block.encode(), path), **outcomes}))
    return files


@pytest.mark.parametrize("outcome", [None, 0, 1, 2])
def test_an_outcome_takes_the_place_of_the_label(with_outcomes: ShardFiles, outcome: int | None) -> None:
    files = replace(with_outcomes, outcome=outcome)
    for batches in (epochs(training_batches(files, 64, seed=3), 300)[0], numpy_batches(evaluation_batches(files))):
        for batch in batches:
            n = batch["ids"][:, 0]
            assert batch["label"].dtype == np.float32
            np.testing.assert_array_equal(batch["label"], n % 3 == 0 if outcome is None else outcomes_of(n)[:, outcome])
            np.testing.assert_array_equal(batch["targets"], logits_of(n))
            assert "outcome" not in batch


@pytest.mark.parametrize("columns", [(0, CATEGORICAL), (NUMERIC, 0)])
def test_rows_without_numeric_or_without_categorical_columns(tmp_path: Path, columns: tuple[int, int]) -> None:
    numeric, categorical = columns
    shards = [
        [replace(block, dense=block.dense[:, :numeric], ids=block.ids[:, :categorical]) for block in blocks]
        for blocks in cut(300, 3, 40)
    ]
    files = replace(write_split(tmp_path, shards, with_targets=False), columns=columns)
    for batch in (
        next(numpy_batches(training_batches(files, 64, seed=3))),
        next(numpy_batches(evaluation_batches(files, 64))),
    ):
        assert batch["dense"].shape == (64, numeric) and batch["ids"].shape == (64, categorical)
        n = batch["dense"][:, 0] * 8 if numeric else batch["ids"][:, 0]
        np.testing.assert_array_equal(batch["label"], n % 3 == 0)


def other_rows(blocks: list[Block]) -> list[TargetBlock]:
    return [make_targets(block.take(np.arange(len(block))[::-1])) for block in blocks]


def fewer_rows(blocks: list[Block]) -> list[TargetBlock]:
    return [make_targets(block.take(slice(1, None))) for block in blocks]


def other_teacher(blocks: list[Block]) -> list[TargetBlock]:
    return [make_targets(block) for block in blocks[:-1]] + [make_targets(blocks[-1], "teacher-2")]


def first_blocks(blocks: list[Block]) -> list[TargetBlock]:
    return [make_targets(block) for block in blocks[:-1]]


def no_blocks(blocks: list[Block]) -> list[TargetBlock]:
    return []


def one_block_more(blocks: list[Block]) -> list[TargetBlock]:
    return [make_targets(block) for block in [*blocks, make_block([7000])]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_rows, "Targets must belong to the rows of their examples.* block"),
        (fewer_rows, "Targets must belong to the rows of their examples.* block"),
        (other_teacher, "Targets must come from the teacher of their manifest"),
        (first_blocks, "Targets must have a block for each block of their examples"),
        (no_blocks, "Targets must have a block for each block of their examples"),
        (one_block_more, "Targets must have a block for each block of their examples"),
    ],
)
def test_targets_that_do_not_belong_to_the_examples_are_an_error(
    tmp_path: Path, damage: Callable[[list[Block]], list[TargetBlock]], message: str
) -> None:
    shards = cut(60, 2, 10)
    files = write_split(tmp_path, shards)
    write(Path(files.targets[1]), damage(shards[1]))
    for batches in (training_batches(files, 64, seed=0), evaluation_batches(files)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{message}; make them again.*1.targets"):
            list(itertools.islice(batches, 3))


def test_the_error_passes_through_a_training_graph(tmp_path: Path) -> None:
    shards = cut(60, 2, 10)
    files = write_split(tmp_path, shards)
    write(Path(files.targets[0]), first_blocks(shards[0]))
    stream = iter(training_batches(files, 16, seed=0))

    @tf.function
    def train(steps: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(steps):
            total += tf.reduce_sum(next(stream)["targets"])
        return total

    with pytest.raises(tf.errors.InvalidArgumentError, match="make them again"):
        train(tf.constant(4))


def test_another_number_of_logits_or_columns_is_an_error(tmp_path: Path) -> None:
    files = write_split(tmp_path, cut(60, 2, 10))
    wrong = {
        "2 numbers of 4 bytes in its feature logits": replace(files, outputs=2),
        "1 numbers of 4 bytes in its feature dense": replace(files, columns=(1, 3)),
        "4 numbers of 4 bytes in its feature ids": replace(files, columns=(2, 4)),
        "1 numbers of 1 bytes in its feature outcome": replace(files, outcomes=1, outcome=0),
    }
    for rule, chosen in wrong.items():
        for batches in (training_batches(chosen, 64, seed=0), evaluation_batches(chosen)):
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"A block must have for each row {rule}"):
                next(iter(batches))


def embedding_of(numbers: np.ndarray) -> np.ndarray:
    return np.stack([numbers / 4, -numbers, np.ones(len(numbers))], axis=1).astype(np.float16)


def write_embedded(folder: Path, shards: list[list[Block]]) -> ShardFiles:
    """Targets with embeddings of three floats."""
    files = write_split(folder, shards)
    for path, blocks in zip(files.targets, shards, strict=True):
        write(Path(path), [replace(make_targets(b), embedding=embedding_of(b.ids[:, 0])) for b in blocks])
    return files


def test_embeddings_stay_beside_their_rows_and_are_read_if_asked_for(tmp_path: Path) -> None:
    files = write_embedded(tmp_path, cut(100, 2, 17))
    asked = replace(files, embedding=3)
    for batches in (training_batches(asked, 32, seed=0), evaluation_batches(asked, 32)):
        (found,) = epochs(batches, 100)
        assert sorted(numbers(found)) == list(range(100))
        for batch in found:
            assert batch["embedding"].dtype == np.float32
            np.testing.assert_array_equal(batch["embedding"], embedding_of(batch["ids"][:, 0]))
            np.testing.assert_array_equal(batch["targets"], logits_of(batch["ids"][:, 0]))
    (without,) = epochs(training_batches(files, 32, seed=0), 100)
    with_them = next(iter(epochs(training_batches(asked, 32, seed=0), 100)))
    assert all("embedding" not in batch for batch in without)
    np.testing.assert_array_equal(numbers(without), numbers(with_them))


@pytest.mark.parametrize("width", [2, 4])
def test_embeddings_of_another_size_or_none_are_an_error(tmp_path: Path, width: int) -> None:
    rule = rf"A block must have for each row {width} numbers of 2 bytes in its feature embedding.*\.targets"
    for files in (write_embedded(tmp_path, cut(20, 1, 10)), write_split(tmp_path, cut(20, 1, 10))):
        with pytest.raises(tf.errors.InvalidArgumentError, match=rule):
            next(iter(evaluation_batches(replace(files, embedding=width))))


def test_members_stay_beside_their_rows_and_are_read_if_asked_for(tmp_path: Path) -> None:
    shards = cut(100, 2, 17)
    files = write_split(tmp_path, shards)
    for path, blocks in zip(files.targets, shards, strict=True):
        write(Path(path), [replace(make_targets(b), members=2 * logits_of(b.ids[:, 0])[:, :3]) for b in blocks])
    asked = replace(files, members=3)
    for batches in (training_batches(asked, 32, seed=0), evaluation_batches(asked, 32)):
        (found,) = epochs(batches, 100)
        for batch in found:
            np.testing.assert_array_equal(batch["members"], 2 * logits_of(batch["ids"][:, 0])[:, :3])
    (without,) = epochs(evaluation_batches(files, 32), 100)
    assert all("members" not in batch for batch in without)
    rule = r"A block must have for each row 2 numbers of 4 bytes in its feature members.*\.targets"
    with pytest.raises(tf.errors.InvalidArgumentError, match=rule):
        next(iter(evaluation_batches(replace(files, members=2))))


def test_a_record_that_is_no_block_is_an_error(tmp_path: Path) -> None:
    files = write_split(tmp_path, cut(60, 2, 10), with_targets=False)
    with open(files.examples[1], "ab") as file:
        write_record(file, encode_example({"other": b"thing"}))
    for batches in (training_batches(files, 64, seed=0), evaluation_batches(files)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="A block must have rows.*1.tfrecord"):
            list(itertools.islice(batches, 3))


def test_missing_and_damaged_files_are_errors(tmp_path: Path) -> None:
    files = write_split(tmp_path, cut(60, 2, 10))
    Path(files.targets[0]).unlink()
    with pytest.raises(tf.errors.NotFoundError):
        list(evaluation_batches(files))
    Path(files.examples[0]).write_bytes(Path(files.examples[0]).read_bytes()[:-3])
    with pytest.raises(tf.errors.DataLossError):
        list(evaluation_batches(ShardFiles(files.examples, files.columns)))

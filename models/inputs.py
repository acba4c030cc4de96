"""Examples and targets as batches: blocks from many shards, shuffled across shards and within.

A batch is a dictionary:

=========  =======  ==========================================================
name       dtype    shape
=========  =======  ==========================================================
ids        int32    [batch, categorical columns], vocabulary ids
dense      float32  [batch, numeric columns], standardised, NaN = missing
fold       int32    [batch], the row's fold; 10 where no fold is to be left out
label      float32  [batch]
weight     float32  [batch]; only of a log with weights
targets    float32  [batch, K], the teacher's logits; only if asked for
=========  =======  ==========================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.statistics import NO_FOLD
from models.backend import tf

# Rows that are shuffled among each other: the blocks of 16 shards, read side by side.
_POOL_ROWS = 1 << 16
_OPEN_SHARDS = 16

Batch = dict[str, tf.Tensor]


@dataclass(frozen=True)
class ShardFiles:
    """The files of a split, shard beside shard.

    Args:
        examples: paths of the examples.
        targets: paths of the targets of the same shards, or none.
        teacher: fingerprint that the targets must carry.
        columns: numbers of numeric and of categorical columns.
        outputs: K, the number of the teacher's logits; 0 without targets.
        weighted: whether the examples have weights.
    """

    examples: Sequence[str]
    columns: tuple[int, int]
    targets: Sequence[str] = ()
    teacher: str = ""
    outputs: int = 0
    weighted: bool = False


def training_batches(files: ShardFiles, batch_size: int, seed: int, without: Sequence[int] = ()) -> tf.data.Dataset:
    """Endless shuffled batches; the same seed gives the same batches in the same order.

    Args:
        files: of the training split.
        batch_size: rows of a batch; the last one of an epoch may have fewer.
        seed: of the order.
        without: folds whose rows are left out.

    Returns:
        batches as the module says.
    """

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        shuffle_seed = tf.stack([tf.constant(seed, tf.int64), number])
        blocks = _blocks(files, shuffle_seed, without)
        pools = blocks.rebatch(_POOL_ROWS).enumerate().map(lambda i, rows: _shuffle(rows, shuffle_seed, i))
        return pools.rebatch(batch_size)

    batches = tf.data.Dataset.range(tf.int64.max).flat_map(epoch)
    return batches.with_options(_options()).prefetch(4)


def evaluation_batches(files: ShardFiles, batch_size: int = 8192) -> tf.data.Dataset:
    """All rows once, in the order of the shards, with no fold left out."""

    def whole(rows: Batch) -> Batch:
        return {**rows, "fold": tf.fill(tf.shape(rows["fold"]), NO_FOLD)}

    return _blocks(files).rebatch(batch_size).map(whole).with_options(_options()).prefetch(2)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # Tuning itself costs more than it gains on a few cores (an epoch of 1M rows: 20.7 s with, 12.2 s without).
    options.autotune.enabled = False
    options.deterministic = True
    options.threading.private_threadpool_size = 2
    return options


def _blocks(files: ShardFiles, shuffle_seed: tf.Tensor | None = None, without: Sequence[int] = ()) -> tf.data.Dataset:
    """The blocks of all shards, each a dictionary of tensors of its rows; in order unless there is a seed."""
    order = tf.range(len(files.examples))
    if shuffle_seed is not None:
        order = tf.random.experimental.stateless_shuffle(order, shuffle_seed)
    examples = tf.constant(list(files.examples))
    targets = tf.constant(list(files.targets), tf.string)

    def shard(index: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(examples[index])
        if not files.targets:
            return records.map(lambda record: _decode_examples(record, files))
        # An empty record behind both files' last: zip alone would end with the shorter file and drop the rest.
        end = tf.data.Dataset.from_tensors("")
        both = tf.data.Dataset.zip(
            (records.concatenate(end), tf.data.TFRecordDataset(targets[index]).concatenate(end))
        ).filter(lambda record, target: _is_block(record, target, targets[index]))
        return both.map(lambda record, target: _join(record, target, files, targets[index]))

    shards = tf.data.Dataset.from_tensor_slices(order)
    if shuffle_seed is None:
        return shards.flat_map(shard)
    blocks = shards.interleave(
        shard, cycle_length=_OPEN_SHARDS, block_length=1, num_parallel_calls=2, deterministic=True
    )
    if without:
        blocks = blocks.map(lambda rows: _without_folds(rows, without))
    return blocks


def _decode_examples(record: tf.Tensor, files: ShardFiles) -> Batch:
    feature = tf.io.FixedLenFeature([], tf.string)
    names = ("label", "dense", "ids", "fold", "offset", *(("weight",) if files.weighted else ()))
    raw = tf.io.parse_single_example(record, dict.fromkeys(names, feature))
    numeric, categorical = files.columns
    offsets = tf.io.decode_raw(raw["offset"], tf.int64)
    rows = tf.size(offsets)
    weights = {"weight": tf.io.decode_raw(raw["weight"], tf.float32)} if files.weighted else {}
    return weights | {
        "ids": tf.reshape(tf.io.decode_raw(raw["ids"], tf.int32), [rows, categorical]),
        "dense": tf.reshape(tf.io.decode_raw(raw["dense"], tf.float32), [rows, numeric]),
        "fold": tf.cast(tf.io.decode_raw(raw["fold"], tf.uint8), tf.int32),
        "label": tf.cast(tf.io.decode_raw(raw["label"], tf.uint8), tf.float32),
        "offset": offsets,
    }


def _is_block(record: tf.Tensor, target: tf.Tensor, path: tf.Tensor) -> tf.Tensor:
    """Whether this is not yet the end of both files; fails if it is that of one only."""
    check = tf.debugging.Assert(
        tf.equal(tf.equal(record, ""), tf.equal(target, "")),
        ["Targets must have a block for each block of their examples; run precompute again. Received:", path],
    )
    with tf.control_dependencies([check]):
        return tf.not_equal(record, "")


def _join(record: tf.Tensor, target: tf.Tensor, files: ShardFiles, path: tf.Tensor) -> Batch:
    """A block with its targets; fails unless they belong together."""
    rows = _decode_examples(record, files)
    feature = tf.io.FixedLenFeature([], tf.string)
    raw = tf.io.parse_single_example(target, dict.fromkeys(("logits", "offset", "teacher"), feature))
    offsets = tf.io.decode_raw(raw["offset"], tf.int64)
    same_rows = tf.cond(
        tf.equal(tf.size(offsets), tf.size(rows["offset"])),
        lambda: tf.reduce_all(tf.equal(offsets, rows["offset"])),
        lambda: tf.constant(False),
    )
    rule = "Targets must belong to the rows of their examples' block; run precompute again. Received:"
    checks = [
        tf.debugging.Assert(same_rows, [rule, path]),
        tf.debugging.Assert(
            tf.equal(raw["teacher"], files.teacher),
            ["Targets must come from the teacher of their manifest; run precompute again. Received:", path],
        ),
    ]
    with tf.control_dependencies(checks):
        logits = tf.identity(tf.io.decode_raw(raw["logits"], tf.float32))
    return {**rows, "targets": tf.reshape(logits, [tf.size(offsets), files.outputs])}


def _without_folds(rows: Batch, without: Sequence[int]) -> Batch:
    kept = tf.reduce_all(rows["fold"][:, tf.newaxis] != tf.constant(list(without)), axis=1)
    return {name: tf.boolean_mask(value, kept) for name, value in rows.items()}


def _shuffle(rows: Batch, shuffle_seed: tf.Tensor, pool: tf.Tensor) -> Batch:
    size = tf.shape(rows["label"])[0]
    pool_seed = tf.random.experimental.stateless_fold_in(shuffle_seed, pool)
    order = tf.random.experimental.stateless_shuffle(tf.range(size), pool_seed)
    return {name: tf.gather(value, order) for name, value in rows.items()}

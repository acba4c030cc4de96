"""Examples and targets as batches: blocks from many shards, shuffled across shards and within.

A batch is a dictionary:

=========  =======  ==========================================================
name       dtype    shape
=========  =======  ==========================================================
ids        int32    [batch, categorical columns], vocabulary ids
dense      float32  [batch, numeric columns], standardised, NaN = missing
fold       int32    [batch], the row's fold, or the part of its shard; 10 where no fold is to be left out
label      float32  [batch], the label, or the outcome that is asked for
weight     float32  [batch]; only of a log with weights
targets    float32  [batch, K], the teacher's logits; only if asked for
embedding  float32  [batch, E], the teacher's embeddings; only if asked for
members    float32  [batch, M], click logits of the teacher's members; only if asked for
=========  =======  ==========================================================

A **pool** is some blocks, read side by side, and an order of their rows. Its bytes become numbers only when rows are
asked for, so a resumed training passes over the pools that it has seen at the speed of reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from features.statistics import NO_FOLD
from models.backend import tf

# Blocks (of 4096 rows) whose rows are shuffled among each other: one of each of the shards that are read side by side.
_POOL_BLOCKS = 16
_THREADS = 2

Batch = dict[str, tf.Tensor]
Pool = dict[str, Any]


@dataclass(frozen=True)
class ShardFiles:
    """The files of a split, shard beside shard.

    Args:
        examples: paths of the examples.
        columns: numbers of numeric and of categorical columns.
        targets: paths of the targets of the same shards, or none.
        teacher: fingerprint that the targets must carry.
        outputs: K, the number of the teacher's logits; 0 without targets.
        embedding: E, the floats of the embeddings that are read with the targets; 0 to leave them.
        members: M, the members of the teacher whose click logits are read with the targets; 0 to leave them.
        weighted: whether the examples have weights.
        outcomes: number of outcome columns of the examples.
        outcome: position of the outcome column that takes the label's place, or None.
        parts: a number a shard that takes the place of its rows' folds in training batches, or none.
    """

    examples: Sequence[str]
    columns: tuple[int, int]
    targets: Sequence[str] = ()
    teacher: str = ""
    outputs: int = 0
    embedding: int = 0
    members: int = 0
    weighted: bool = False
    outcomes: int = 0
    outcome: int | None = None
    parts: Sequence[int] = ()


def training_batches(
    files: ShardFiles,
    batch_size: int,
    seed: int,
    without: Sequence[int] = (),
    start: tuple[int, int] = (0, 0),
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Endless shuffled batches; the same seed gives the same batches in the same order.

    Args:
        files: of the training split.
        batch_size: rows of a batch; the last one of an epoch may have fewer.
        seed: of the order.
        without: folds whose rows are left out.
        start: epoch and batch in it from which on the stream is wanted; a batch behind the epoch's last one stands for
            the first of the next.
        part: (i, n) for the rows i, i + n, ... of each batch. Workers exchange tensors of the same shape in every step,
            so each part of an epoch's smaller last batch is filled up, for n > 1, with copies of the batch's first row
            whose weight is 0; there is a ``weight`` in any case. What takes no weights sees the copies.

    Returns:
        batches as the module says.
    """
    first, passed = start

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        shuffle_seed = tf.stack([tf.constant(seed, tf.int64), number])
        shards = tf.random.experimental.stateless_shuffle(tf.range(len(files.examples)), shuffle_seed)
        pools = _pools(files, shards, _POOL_BLOCKS).enumerate()
        pools = pools.map(lambda index, pool: _shuffle(pool, without, shuffle_seed, index))
        rest = tf.where(number == first, tf.constant(passed * batch_size, tf.int64), 0)
        pools = pools.scan(rest, _pass_over).filter(lambda pool: tf.size(pool["order"]) > 0)
        rows = pools.map(lambda pool: _rows(pool, files), num_parallel_calls=_THREADS, deterministic=True)
        return rows.rebatch(batch_size)

    batches = tf.data.Dataset.range(first, tf.int64.max).flat_map(epoch)
    return _part(batches, batch_size, part).with_options(_options()).prefetch(4)


def evaluation_batches(files: ShardFiles, batch_size: int = 8192) -> tf.data.Dataset:
    """All rows once, in the order of the shards, with no fold left out."""

    def rows(block: Pool) -> Batch:
        found = _rows(block, files)
        return {**found, "fold": tf.fill(tf.shape(found["fold"]), NO_FOLD)}

    # A pool of one block needs no order.
    blocks = _pools(files, tf.range(len(files.examples)), 1)
    batches = blocks.map(rows, num_parallel_calls=_THREADS, deterministic=True).rebatch(batch_size)
    return batches.with_options(_options()).prefetch(2)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # Tuning itself costs more than it gains on a few cores (an epoch of 1M rows: 20.7 s with, 12.2 s without).
    options.autotune.enabled = False
    options.deterministic = True
    options.threading.private_threadpool_size = _THREADS
    return options


def _part(batches: tf.data.Dataset, batch_size: int, part: tuple[int, int]) -> tf.data.Dataset:
    index, count = part
    if count == 1:
        return batches

    def own(rows: Batch) -> Batch:
        wanted = tf.range(index, index + batch_size, count)
        there = wanted < tf.shape(rows["label"])[0]
        weighted = {"weight": tf.ones_like(rows["label"]), **rows}
        part = {name: tf.gather(value, tf.where(there, wanted, 0)) for name, value in weighted.items()}
        return {**part, "weight": part["weight"] * tf.cast(there, tf.float32)}

    return batches.map(own)


def _pools(files: ShardFiles, shards: tf.Tensor, blocks: int) -> tf.data.Dataset:
    """Pools of so many blocks, from as many shards side by side."""
    examples, targets = tf.constant(list(files.examples)), tf.constant(list(files.targets), tf.string)

    def records(shard: tf.Tensor) -> tf.data.Dataset:
        number, found = tf.data.Dataset.from_tensors(shard).repeat(), tf.data.TFRecordDataset(examples[shard])
        if not files.targets:
            return tf.data.Dataset.zip((number, found))
        # An empty record behind both files' last: zip alone would end with the shorter file and drop the rest.
        end = tf.data.Dataset.from_tensors("")
        both = (found.concatenate(end), tf.data.TFRecordDataset(targets[shard]).concatenate(end))
        return tf.data.Dataset.zip((number, *both)).filter(lambda _, record, target: (record != "") | (target != ""))

    found = tf.data.Dataset.from_tensor_slices(shards).interleave(records, cycle_length=blocks, block_length=1)
    return found.batch(blocks).map(lambda shard, *pair: _parse(files, shard, *pair))


def _fields(files: ShardFiles) -> dict[str, tuple[tf.DType, int]]:
    """Type of the numbers of each feature, and how many of them a row has."""
    numeric, categorical = files.columns
    fields = {"label": (tf.uint8, 1), "fold": (tf.uint8, 1)}
    fields |= {"ids": (tf.int32, categorical), "dense": (tf.float32, numeric)}
    fields |= {"weight": (tf.float32, 1)} if files.weighted else {}
    fields |= {"outcome": (tf.uint8, files.outcomes)} if files.outcome is not None else {}
    return fields | _target_fields(files)


def _target_fields(files: ShardFiles) -> dict[str, tuple[tf.DType, int]]:
    """Those of the features that are read from the targets."""
    if not files.targets:
        return {}
    embedding = {"embedding": (tf.float16, files.embedding)} if files.embedding else {}
    members = {"members": (tf.float32, files.members)} if files.members else {}
    return {"logits": (tf.float32, files.outputs), **embedding, **members}


def _parse(files: ShardFiles, shards: tf.Tensor, examples: tf.Tensor, targets: tf.Tensor | None = None) -> Pool:
    """A pool of these records; fails unless each is whole and its targets belong to it.

    Returns:
        shard: int32 [blocks], where each is from.
        size: int32 [blocks], rows.
        bytes: by feature, string [blocks].
    """
    fields, taught = _fields(files), _target_fields(files)
    names = [name for name in fields if name not in taught]
    rules: dict[str, tf.Tensor] = {}
    if targets is None:
        raw = _features(examples, names)
    else:
        raw, found = _features(examples, [*names, "offset"]), _features(targets, [*taught, "offset", "teacher"])
        rules = _join_rules(examples, targets, raw.pop("offset"), found, files.teacher)
        raw |= {name: found[name] for name in taught}
    size = tf.strings.length(raw["label"])
    rules["A block must have rows"] = size > 0
    for name, (dtype, width) in fields.items():
        right = tf.strings.length(raw[name]) == size * (width * dtype.size)
        rules[f"A block must have for each row {width} numbers of {dtype.size} bytes in its feature {name}"] = right
    _check(rules, tf.gather(tf.constant(list(files.targets or files.examples)), shards))
    return {"shard": shards, "size": size, "bytes": raw}


def _features(records: tf.Tensor, names: Iterable[str]) -> dict[str, tf.Tensor]:
    """These features of each record; empty where there is none."""
    features = dict.fromkeys(names, tf.io.FixedLenFeature([], tf.string, default_value=""))
    found: dict[str, tf.Tensor] = tf.io.parse_example(records, features)
    return found


def _join_rules(
    examples: tf.Tensor, targets: tf.Tensor, offsets: tf.Tensor, found: dict[str, tf.Tensor], teacher: str
) -> dict[str, tf.Tensor]:
    """Which blocks keep what must hold between examples and targets."""
    return {
        "Targets must have a block for each block of their examples; make them again": tf.equal(
            examples == "", targets == ""
        ),
        "Targets must belong to the rows of their examples' block; make them again": offsets == found["offset"],
        "Targets must come from the teacher of their manifest; make them again": found["teacher"] == teacher,
    }


def _check(rules: dict[str, tf.Tensor], paths: tf.Tensor) -> None:
    """Fails unless all blocks keep all rules; says the first that is broken, and in which files."""
    kept = tf.stack(list(rules.values()))
    broken = tf.boolean_mask(tf.constant(list(rules)), ~tf.reduce_all(kept, axis=1))[:1]
    files = tf.boolean_mask(paths, ~tf.reduce_all(kept, axis=0))
    tf.debugging.Assert(tf.reduce_all(kept), [broken, "Received:", files])


def _shuffle(pool: Pool, without: Sequence[int], shuffle_seed: tf.Tensor, index: tf.Tensor) -> Pool:
    """Adds an order of the pool's rows, int64 [n]: the numbers of those that are wanted.

    Rows are numbered as if all blocks had as many as the largest: row r of block b has the number b * largest + r.
    """
    wanted = tf.reshape(tf.sequence_mask(pool["size"]), [-1])
    folds = _decode(pool, "fold", tf.uint8, 1)[:, 0] if without else None
    for fold in without:
        wanted &= folds != fold
    seed = tf.random.experimental.stateless_fold_in(shuffle_seed, index)
    return {**pool, "order": tf.random.experimental.stateless_shuffle(tf.where(wanted)[:, 0], seed)}


def _pass_over(rest: tf.Tensor, pool: Pool) -> tuple[tf.Tensor, Pool]:
    """Drops rows at the front of a pool's order; what is still to be dropped, and the pool."""
    dropped = tf.minimum(rest, tf.size(pool["order"], tf.int64))
    return rest - dropped, {**pool, "order": pool["order"][dropped:]}


def _rows(pool: Pool, files: ShardFiles) -> Batch:
    """The rows of a pool, in its order if it has one."""
    rows = {name: _decode(pool, name, *field) for name, field in _fields(files).items()}
    if files.parts:
        parts = tf.gather(tf.constant(list(files.parts), tf.int32), pool["shard"])
        rows["fold"] = tf.repeat(parts, tf.reduce_max(pool["size"]))[:, tf.newaxis]
    if "order" in pool:
        rows = {name: tf.gather(value, pool["order"]) for name, value in rows.items()}
    label = rows["label"][:, 0] if files.outcome is None else rows["outcome"][:, files.outcome]
    batch = {"ids": rows["ids"], "dense": rows["dense"]}
    batch |= {"fold": tf.cast(rows["fold"][:, 0], tf.int32), "label": tf.cast(label, tf.float32)}
    batch |= {"weight": rows["weight"][:, 0]} if files.weighted else {}
    batch |= {"targets": rows["logits"]} if files.targets else {}
    batch |= {"members": rows["members"]} if files.members else {}
    return batch | ({"embedding": tf.cast(rows["embedding"], tf.float32)} if files.embedding else {})


def _decode(pool: Pool, name: str, dtype: tf.DType, width: int) -> tf.Tensor:
    """The numbers of a feature, [blocks * largest size, width]; smaller blocks are filled up with zeros."""
    largest = tf.reduce_max(pool["size"])
    if not width:
        return tf.zeros([tf.size(pool["size"]) * largest, 0], dtype)
    # There is no kernel that decodes float16 and fills up.
    stored = tf.uint16 if dtype == tf.float16 else dtype
    numbers = tf.io.decode_raw(pool["bytes"][name], stored, fixed_length=largest * (width * dtype.size))
    return tf.reshape(tf.bitcast(numbers, dtype) if stored != dtype else numbers, [-1, width])

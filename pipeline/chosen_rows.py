"""Which rows of a run are chosen, and their shards: in the order of the run's, in blocks as full as its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.blocks import BLOCK_ROWS, Block
from features.hashing import mix, salt
from features.spec import SPLITS
from features.targets import TargetBlock
from pipeline import storage
from pipeline.storage import HashingWriter

Shard = Mapping[str, Any]
"""An entry of a manifest."""

B = TypeVar("B", Block, TargetBlock)


def is_chosen(offsets: NDArray[np.int64], source: str, share: float, seed: int) -> NDArray[np.bool_]:
    """Whether rows are among a share of all: those whose hash, a number in [0, 1), lies below the share.

    The rows of a share are among those of every larger one with the same seed.

    Args:
        offsets: int64 [n], of the rows.
        source: path of their file; only its name counts, as for the folds.
        share: of the rows, in [0, 1].
        seed: of the choice.

    Returns:
        bool [n].
    """
    place = (mix(offsets, salt(seed, "subset", source)) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return place < share


@dataclass(frozen=True)
class ChosenRows:
    """A share of the training rows, and all others.

    Args:
        share: of the training rows.
        seed: of the choice.
    """

    share: float
    seed: int

    def blocks(self, blocks: Iterable[B], shard: Shard) -> Iterator[B]:
        """The chosen rows of a shard in blocks of 4096 rows, the last one apart; an empty one is never given.

        Args:
            blocks: of the shard, examples or targets, of at most 4096 rows.
            shard: the examples' entry of the manifest.
        """
        share = self.share if shard["split"] == SPLITS[0] else 1.0
        held: list[B] = []
        rows = 0
        for block in blocks:
            kept = np.flatnonzero(is_chosen(block.offsets, shard["source"], share, self.seed))
            held.append(block.take(kept))
            rows += len(kept)
            if rows >= BLOCK_ROWS:
                whole = _join(held)
                yield whole.take(slice(0, BLOCK_ROWS))
                held, rows = [whole.take(slice(BLOCK_ROWS, None))], rows - BLOCK_ROWS
        if rows:
            yield _join(held)


def _join(blocks: list[B]) -> B:
    """One block of all rows; what is no array is the first block's."""
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(block, name) for block in blocks]) for name in _arrays(blocks[0])
    }
    return replace(blocks[0], **joined)


def _arrays(block: Block | TargetBlock) -> list[str]:
    return [field.name for field in fields(block) if isinstance(getattr(block, field.name), np.ndarray)]


def write_shards(
    folder: str, shards: Sequence[Shard], write: Callable[[Shard, HashingWriter], Mapping[str, int]]
) -> list[dict[str, Any]]:
    """Writes those shards of a stage that an earlier attempt has not.

    Args:
        folder: of the stage.
        shards: entries of the manifest of what they are made from.
        write: writes one of them and returns what is new in its entry.

    Returns:
        their entries of the manifest.
    """
    work, entries = storage.join(folder, storage.WORK), []
    for shard in shards:
        record = storage.join(work, shard["path"].replace("/", "-") + ".json")
        if not storage.exists(record):
            with storage.publish(storage.join(folder, shard["path"])) as out:
                told = write(shard, out)
            storage.write_json(record, {**shard, **told, "bytes": out.bytes, "checksum": out.checksum})
        entries.append(storage.read_json(record))
    storage.remove(work)
    return entries

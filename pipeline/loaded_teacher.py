"""A teacher in memory: which of its parts scores a row, and what that part may know of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.errors import ArtifactError
from features.statistics import NO_FOLD
from models.calibration import Calibration
from models.estimates import mean_of_teachers, subclass_click_logits, with_click_logits
from models.parts import by_part

Logits = npt.NDArray[np.float32]
Folds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TreeFiles:
    """Boosted trees beside the networks of a teacher.

    Args:
        inputs: folders of the SavedModels that make their inputs: one, or one a booster.
        boosters: files of the boosters; booster b of P was trained on no row whose fold is b modulo P.
        weight: of the trees in the teacher's click logit.
        calibrations: of the click logits of each network and its trees together.
    """

    inputs: tuple[str, ...]
    boosters: tuple[str, ...]
    weight: float
    calibrations: tuple[Calibration, ...]


@dataclass(frozen=True)
class TeacherFiles:
    """Where a teacher lies and which rows each of its parts may score.

    Args:
        models: folders of the SavedModels, one a part.
        folds: B of the cross-fitting, or 0.
        fingerprint: of the teacher.
        trees: beside the networks, if there are any.
        alignment: of each part the positions of its logits that belong to the subclasses of part 0, or none.
    """

    models: tuple[str, ...]
    folds: int
    fingerprint: str
    trees: TreeFiles | None = None
    alignment: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, folder: str, manifest: dict[str, Any]) -> TeacherFiles:
        """The files of a finished teacher in a folder."""
        models = tuple(f"{folder}/{model}" for model in manifest["models"])
        trees = _tree_files(folder, manifest.get("trees"))
        alignment = tuple(tuple(positions) for positions in manifest.get("alignment", ()))
        return cls(models, manifest["folds"], manifest["fingerprint"], trees, alignment)


def _tree_files(folder: str, trees: dict[str, Any] | None) -> TreeFiles | None:
    if trees is None:
        return None
    inputs, boosters = (tuple(f"{folder}/{name}" for name in trees[kind]) for kind in ("inputs", "boosters"))
    calibrations = tuple(Calibration(**values) for values in trees["calibrations"])
    return TreeFiles(inputs, boosters, trees["weight"], calibrations)


class LoadedTeacher:
    """A teacher in memory.

    Args:
        files: where it lies.
    """

    def __init__(self, files: TeacherFiles) -> None:
        # Imported here, so that the launcher and workers of other jobs need no TensorFlow.
        from models.backend import tf

        self._tf, self._folds, self._files, self._alignment = tf, files.folds, files.trees, files.alignment
        self._folder = files.models[0]
        # The loaded objects must be kept: their variables go with them.
        self._models = [tf.saved_model.load(model) for model in files.models]
        self._trees = self._load_trees(files.trees) if files.trees else None

    @staticmethod
    def _load_trees(files: TreeFiles) -> Any:
        from models.boosted import LoadedTrees

        return LoadedTrees(files.inputs, files.boosters)

    def score(self, block: Block, training: bool, time_slice: int | None = None) -> Logits:
        """Calibrated subclass logits of a block: float32 [rows, K].

        A training row's own fold is left out of its click statistics. With cross-fitting it is scored by the teacher
        that never saw its fold; other rows get the mean of all teachers' class logits.

        Args:
            block: of the rows.
            training: whether they are training rows.
            time_slice: of the rows' shard, for a teacher whose click statistics are ordered by time; else None.
        """
        asked = _asked(block, training, time_slice)
        if training and self._folds:
            return by_part(
                block.folds, self._folds, lambda part, rows: self._part(part, block.take(rows), asked[rows], training)
            )
        return mean_of_teachers([self._part(part, block, asked, training) for part in range(len(self._models))])

    def embed(self, block: Block, training: bool, time_slice: int | None = None) -> Logits:
        """The last hidden layer of a teacher without cross-fitting: float32 [rows, D]; arguments as of :meth:`score`.

        Raises:
            ArtifactError: the teacher is older than embeddings.
        """
        embed = self._exported("embed", "A teacher must have been exported with its embeddings")
        hidden: Logits = embed(*self._arguments(block, _asked(block, training, time_slice)))["hidden"].numpy()
        return hidden

    def members(self, block: Block, training: bool, time_slice: int | None = None) -> Logits:
        """The click logits of a teacher's members: float32 [rows, M]; arguments as of :meth:`score`.

        Raises:
            ArtifactError: the teacher is older than this.
        """
        members = self._exported("members", "A teacher of several networks must have been exported with its members")
        clicks: Logits = members(*self._arguments(block, _asked(block, training, time_slice)))["clicks"].numpy()
        return clicks

    def _exported(self, name: str, rule: str) -> Any:
        """A function of the SavedModel, which older teachers do not have."""
        function = getattr(self._models[0], name, None)
        if function is None:
            raise ArtifactError(
                f"{rule}. Received: one without ({self._folder}); remove its folder and run train-teacher."
            )
        return function

    def head(self) -> tuple[Logits, Logits] | None:
        """The linear head on what :meth:`embed` gives: kernel [D, K] and bias [K]; None for a gated teacher."""
        found = self._models[0].head()
        return (found["kernel"].numpy(), found["bias"].numpy()) if found else None

    def _arguments(self, block: Block, asked: Folds) -> tuple[Any, ...]:
        return tuple(map(self._tf.constant, (block.ids, block.dense, asked)))

    def _part(self, part: int, block: Block, asked: Folds, training: bool) -> Logits:
        """What one part says of any rows."""
        outputs = self._models[part].score(*self._arguments(block, asked))
        z: Logits = outputs["logits"].numpy()
        if self._alignment:
            z = z[:, list(self._alignment[part])]
        if self._trees is None or self._files is None:
            return z
        # With cross-fitting a booster has seen just the rows that the network of its part has seen.
        trees = (
            self._trees.part(part, block, asked) if self._folds else self._trees.click_logits(block, asked, training)
        )
        clicks = (1 - self._files.weight) * subclass_click_logits(z) + self._files.weight * trees
        return with_click_logits(z, self._files.calibrations[part].apply(clicks))


def _asked(block: Block, training: bool, time_slice: int | None) -> Folds:
    """The fold, or time slice, that each row asks the click statistics with: int32 [rows]."""
    if not training:
        return np.full(len(block), NO_FOLD, np.int32)
    return block.folds.astype(np.int32) if time_slice is None else np.full(len(block), time_slice, np.int32)

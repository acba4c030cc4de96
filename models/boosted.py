"""Gradient-boosted trees as a member of the teacher: LightGBM on numerics and click statistics.

Trees fit what they have seen much closer than what they have not, so no row is scored by a booster that was trained on
it: the rows are divided into parts by their folds, and each booster is trained without one part. (Without
cross-fitting, its label still is in the click statistics of other rows.)
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.errors import ConfigError
from models.backend import tf
from models.parts import by_part
from models.tables import CrossStatistics, FoldTables

if TYPE_CHECKING:
    from lightgbm import Booster

PARTS = 5
"""Boosters of a teacher without cross-fitting; one with it has as many as teachers."""
_PATIENCE = 50

_SILENT: dict[str, Any] = {"verbosity": -1}

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TreeSettings:
    """The shape of the trees; ``pipeline.settings.TeacherConfig`` says what each is."""

    boosted_trees: int
    boosted_rate: float
    boosted_leaves: int
    seed: int


def _lightgbm() -> Any:
    """The package, whose threads do not spin while they wait: beside other work that made it 15 times slower."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import lightgbm

    return lightgbm


def require_lightgbm() -> None:
    """Raises a ConfigError if LightGBM is not installed."""
    if importlib.util.find_spec("lightgbm") is None:
        raise ConfigError(
            "boosted above 0 must have the boost extra: pip install 'ctr-distill[boost]'. Received: no lightgbm."
        )


class TreeInputs(tf.Module):
    """What trees see of stored examples: numerics (NaN where missing), then the statistics that the networks see too.

    Args:
        tables: click statistics of values, or None.
        crosses: statistics of pairs of columns, or None.
        columns: numbers of numeric and categorical columns.
    """

    def __init__(self, tables: FoldTables | None, crosses: CrossStatistics | None, columns: tuple[int, int]) -> None:
        super().__init__(name="tree_inputs")
        self._tables, self._crosses = tables, crosses
        numeric, categorical = columns
        self.inputs = tf.function(
            self._inputs,
            input_signature=[
                tf.TensorSpec([None, categorical], tf.int32, "ids"),
                tf.TensorSpec([None, numeric], tf.float32, "dense"),
                tf.TensorSpec([None], tf.int32, "fold"),
            ],
        )

    def _inputs(self, ids: tf.Tensor, dense: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        parts = [dense]
        parts += [self._tables.statistics(ids, fold)] if self._tables else []
        parts += [self._crosses(ids, dense, fold)] if self._crosses else []
        return tf.concat(parts, axis=1)

    def save(self, path: str) -> None:
        """Writes a SavedModel; its ``inputs`` takes ids, dense and fold and gives float32 [batch, width]."""
        tf.saved_model.save(self, path)


def tree_inputs(module: TreeInputs, block: Block, fold: npt.NDArray[np.int32]) -> Floats:
    """The inputs of a block's rows, each asking with a fold as networks do: float32 [rows, width]."""
    found: Floats = module.inputs(tf.constant(block.ids), tf.constant(block.dense), tf.constant(fold)).numpy()
    return found


@dataclass(frozen=True)
class TreeRows:
    """Rows as trees learn from them, in pieces: what LightGBM takes so need not be in memory twice.

    Args:
        inputs: float32 [rows, width] of each piece, see :class:`TreeInputs`.
        labels: uint8 [n], of all pieces.
        weights: float32 [n]; None in a log without weights.
    """

    inputs: list[Floats]
    labels: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.float32] | None = None


def boost(
    training: TreeRows,
    validation: TreeRows | None,
    settings: TreeSettings,
    progress: Callable[[float, str], None] = lambda trees, note: None,
) -> Booster:
    """Trains trees on the logloss; the same rows and settings give the same trees.

    Args:
        training: the rows to learn from.
        validation: trees after the best validation logloss are dropped, and boosting stops when it has not improved
            for 50 trees; None for as many trees as the settings say.
        settings: see :class:`TreeSettings`.
        progress: called with the number of trees so far.

    References:
        Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision Tree (2017), NeurIPS 30.
    """
    lightgbm = _lightgbm()
    data = lightgbm.Dataset(training.inputs, training.labels, weight=training.weights, params=_SILENT)
    callbacks: list[Callable[..., Any]] = [lambda state: progress(state.iteration + 1, "")]
    sets = []
    if validation is not None:
        sets = [data.create_valid(validation.inputs, validation.labels, weight=validation.weights)]
        callbacks.append(lightgbm.early_stopping(_PATIENCE, verbose=False))
    parameters = _SILENT | {
        "objective": "binary",
        "learning_rate": settings.boosted_rate,
        "num_leaves": settings.boosted_leaves,
        "seed": settings.seed % (1 << 31),
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": os.cpu_count() or 1,
    }
    return lightgbm.train(parameters, data, settings.boosted_trees, valid_sets=sets, callbacks=callbacks)


class LoadedTrees:
    """Trained boosters in memory.

    Args:
        inputs: folders of saved :class:`TreeInputs`: one, or one a booster.
        boosters: files of the boosters; number b of P was trained on no row whose fold is b modulo P.
    """

    def __init__(self, inputs: Sequence[str], boosters: Sequence[str]) -> None:
        lightgbm = _lightgbm()
        self._inputs = [tf.saved_model.load(path) for path in inputs]
        self._boosters = [lightgbm.Booster(model_file=path) for path in boosters]

    def click_logits(self, block: Block, fold: npt.NDArray[np.int32], training: bool) -> npt.NDArray[np.float64]:
        """Click logits of a block: float64 [rows].

        Args:
            block: of the rows.
            fold: int32 [rows], with which each row asks for statistics.
            training: whether they are training rows: each then hears only the booster that was not trained on it;
                other rows get the mean of all.
        """
        if training:
            parts = len(self._boosters)
            return by_part(block.folds, parts, lambda part, rows: self.part(part, block.take(rows), fold[rows]))
        matrices = [tree_inputs(module, block, fold) for module in self._inputs]
        every = [self._predict(part, matrices[part % len(matrices)]) for part in range(len(self._boosters))]
        mean: npt.NDArray[np.float64] = np.mean(every, axis=0)
        return mean

    def part(self, part: int, block: Block, fold: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Click logits of one booster; arguments as above."""
        return self._predict(part, tree_inputs(self._inputs[part % len(self._inputs)], block, fold))

    def _predict(self, part: int, inputs: Floats) -> npt.NDArray[np.float64]:
        if not len(inputs):
            return np.empty(0)
        return np.asarray(self._boosters[part].predict(inputs, raw_score=True), np.float64)

"""A trained student as it is served: its stored weights, its precision, and the folder of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from features.errors import ArtifactError
from features.statistics import NO_FOLD
from models.backend import tf
from models.calibration import Calibration
from models.compact import CompactTrunk
from models.inputs import Batch
from models.serving import ServingModule
from models.serving_features import FEATURES_FILE, ServingFeatures, features_json, serving_statistics
from models.serving_requests import write_requests
from models.student import mean_click_logit
from models.tables import RowLookup, TableLayout
from models.trunk_weights import TrunkWeights
from pipeline import storage
from pipeline.arrays import read_arrays, write_arrays
from pipeline.model_card import write_model_card
from pipeline.settings import StudentConfig
from pipeline.student_data import StudentData
from pipeline.workspace import Run

WEIGHTS = "weights.npz"
"""File in a student's folder: the float32 weights of its trunks."""


def write_weights(path: str, trunks: Sequence[TrunkWeights]) -> None:
    """Publishes the weights of a student's trunks, the mean of whose click logits it is."""
    named = {f"{number}_{name}": a for number, trunk in enumerate(trunks) for name, a in trunk.to_arrays().items()}
    write_arrays(path, **named)


def read_weights(path: str) -> list[TrunkWeights]:
    """What :func:`write_weights` wrote.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    trunks: dict[int, dict[str, np.ndarray]] = {}
    try:
        for full, array in read_arrays(path).items():
            number, name = full.split("_", 1)
            trunks.setdefault(int(number), {})[name] = array
        return [TrunkWeights.from_arrays(trunks[number]) for number in sorted(trunks)]
    except (IndexError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"The weights of a student must be what distill wrote. Received: {error!r} ({path})."
        ) from error


@dataclass(frozen=True)
class ServedStudent:
    """All of a model but its calibration.

    Args:
        trunks: the mean of whose click logits it is.
        features: between raw fields and the trunks.
        statistics: float32 [rows, 2], see :class:`ServingModule`; None for a student without click statistics.
    """

    trunks: Sequence[CompactTrunk]
    features: ServingFeatures
    statistics: npt.NDArray[np.float32] | None

    @classmethod
    def of(
        cls,
        data: StudentData,
        config: StudentConfig,
        layout: TableLayout,
        weights: Sequence[TrunkWeights],
        kept: Sequence[int] | None = None,
    ) -> ServedStudent:
        """A student in the precision that its settings name.

        Args:
            data: that it was trained on.
            config: its settings.
            layout: of the weights.
            weights: of its trunks.
            kept: of each categorical column, the values that keep rows of their own; None for all.
        """
        if kept is not None:
            weights = [each.pruned(layout, kept, data.counts) for each in weights]
            layout = replace(layout, kept=tuple(kept))
        values = [vocabulary.values for vocabulary in data.vocabularies]
        return cls(
            [CompactTrunk(each, config.served) for each in weights],
            ServingFeatures.of(data.spec, values, layout.kept),
            _statistics(data, config, layout),
        )

    def scorer(self) -> Callable[..., tf.Tensor]:
        """What gives two logits [batch, 2] of a batch (see :mod:`models.inputs`); the click's is their difference."""
        lookup = RowLookup(self.features.layout())
        table = None if self.statistics is None else tf.Variable(self.statistics, trainable=False)

        def score(batch: Batch, training: bool) -> tf.Tensor:
            ids, dense, statistics = lookup.categorical(batch["ids"]), batch["dense"], None
            if table is not None:
                statistics = tf.concat(tf.unstack(tf.gather(table, ids), axis=2), axis=1)
            rows = tf.concat([ids, lookup.numeric(dense)], axis=1)
            click = mean_click_logit(self.trunks, rows, dense, statistics)
            return tf.stack([tf.zeros_like(click), click], axis=1)

        return score

    def save(self, run: Run, stage: str, folder: str, calibration: Calibration, subclasses: bool = False) -> None:
        """Writes the model into a new folder, with all files that belong to it.

        Args:
            run: that it was made in.
            stage: of the student, or of the mean of its generations.
            folder: of the model.
            calibration: of its click logit.
            subclasses: whether it gives probabilities of subclasses too.
        """
        ServingModule(self.trunks, self.features, calibration, self.statistics, subclasses).save(folder)
        storage.write_bytes(storage.join(folder, FEATURES_FILE), features_json(self.features))
        write_requests(folder)
        write_model_card(run, stage, folder)


def _statistics(data: StudentData, config: StudentConfig, layout: TableLayout) -> npt.NDArray[np.float32] | None:
    if not config.statistics:
        return None
    found = data.counts.statistics(config.smoothing)
    return serving_statistics(layout, found.log_odds[:, NO_FOLD], found.log_count[:, NO_FOLD], data.counts.starts)

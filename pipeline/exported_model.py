"""An exported student in memory: its logits for what its ``features`` signature takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.blocks import BLOCK_ROWS
from models.backend import tf

Logits = npt.NDArray[np.float64]


class ExportedModel:
    """A SavedModel that ``distill`` or ``export`` wrote.

    Args:
        folder: of the SavedModel.
    """

    def __init__(self, folder: str) -> None:
        # Kept, because the variables of a loaded model go with the object.
        self.loaded = tf.saved_model.load(folder)
        self._score = self.loaded.signatures["features"]

    def logits(self, ids: npt.NDArray[np.int32], dense: npt.NDArray[np.float32]) -> Logits:
        """Calibrated click logits: float64 [rows].

        Args:
            ids: int32 [rows, categorical columns], vocabulary ids.
            dense: float32 [rows, numeric columns], standardised; NaN = missing.
        """
        parts = [np.empty(0)]
        for start in range(0, len(ids), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            outputs = self._score(ids=tf.constant(ids[rows]), dense=tf.constant(dense[rows]))
            parts.append(outputs["logit"].numpy().astype(np.float64))
        return np.concatenate(parts)

    @property
    def calibration(self) -> tuple[float, float]:
        """Scale and shift of the click logit; the shift makes up for dropped rows without click, too."""
        scale, shift = self.loaded._calibration.numpy().tolist()
        return scale, shift

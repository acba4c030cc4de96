"""An exported student with what it needs to score the parsed rows of a log, and to answer a request as it is served."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.errors import ArtifactError
from features.rows import ParsedRows
from features.schema import Schema
from features.siphash import siphash
from features.transform import Transform
from features.vocabulary import FIRST_VALUE, MISSING
from models.backend import tf
from models.input_names import input_names
from pipeline.exported_model import ExportedModel, Logits
from pipeline.predict_plan import find_model
from pipeline.scoring import read_student_features

Request = dict[str, tf.Tensor]


class CheckedModel:
    """A student as it is checked before it goes live.

    Args:
        path: folder of the SavedModel, or the folder above its version ``1``.
        flag: that names the model, for errors.
    """

    def __init__(self, path: str, flag: str) -> None:
        self.folder = find_model(path, flag)
        self._features = read_student_features(self.folder)
        self._transform = self._features.transform()
        self.exported = ExportedModel(self.folder)
        self._request = self.exported.loaded.signatures["serving_default"]

    @property
    def schema(self) -> Schema:
        """Of the log that the student has learned from."""
        return self._features.schema

    @property
    def negative_rate(self) -> float:
        """Share of the rows without click that this log kept."""
        return self._features.negative_rate

    @property
    def bytes(self) -> int:
        """Of all files but those in ``assets.extra``, which serving does not read."""
        files = (os.path.join(parent, name) for parent, _, names in os.walk(self.folder) for name in names)
        extra = os.path.join(self.folder, "assets.extra")
        return sum(os.path.getsize(file) for file in files if not file.startswith(extra))

    def block(self, rows: ParsedRows) -> Block:
        """The rows as the student sees them."""
        return to_block(rows, self.schema, self._transform)

    def logits(self, block: Block) -> Logits:
        """Calibrated click logits: float64 [rows].

        Raises:
            ArtifactError: one is not finite.
        """
        logits = self.exported.logits(block.ids, block.dense)
        if not np.isfinite(logits).all():
            bad = int((~np.isfinite(logits)).sum())
            raise ArtifactError(
                f"The logits of a student must be finite. Received: {bad} that are not ({self.folder})."
            )
        return logits

    def strangers(self, block: Block) -> npt.NDArray[np.int64]:
        """Values of each row without an embedding row of their own, rare or never seen: int64 [rows]."""
        kept = np.array(self._features.kept) + FIRST_VALUE
        own = (block.ids == MISSING) | ((block.ids >= FIRST_VALUE) & (block.ids < kept))
        return np.asarray((~own).sum(axis=1), np.int64)

    def request(self, rows: ParsedRows, chosen: npt.NDArray[np.int64]) -> Request:
        """Some rows as the signature ``serving_default`` takes them."""
        names = input_names((*self.schema.numeric, *self.schema.categorical))
        numbers = rows.numbers()[chosen]
        found = {names[name]: tf.constant(numbers[:, i]) for i, name in enumerate(self.schema.numeric)}
        for name, column in zip(self.schema.categorical, rows.categorical, strict=True):
            found[names[name]] = tf.constant(column.take(chosen).to_pylist(), tf.string)
        return found

    def answer(self, request: Request) -> npt.NDArray[np.float32]:
        """Click probabilities by the signature ``serving_default``: float32 [rows]."""
        probabilities: npt.NDArray[np.float32] = self._request(**request)["p_click"].numpy()
        return probabilities


def to_block(rows: ParsedRows, schema: Schema, transform: Transform) -> Block:
    """Labelled rows as a block, in their order; their folds, which only training knows, are all 0."""
    assert rows.labels is not None
    keys = rows.keys[schema.keys.index(schema.group)] if schema.group else None
    return Block(
        rows.labels,
        transform.dense([rows]),
        transform.ids([rows]),
        np.zeros(len(rows), np.uint8),
        rows.offsets,
        rows.weights,
        None if keys is None else siphash(keys).view(np.int64),
    )

"""An exported student that scores parsed rows, and the parquet file of what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import ArtifactError
from features.rejects import Reject
from features.rows import NO_OFFSETS, ParsedRows, from_rows
from features.schema import Schema
from pipeline import storage
from pipeline.storage import HashingWriter

if TYPE_CHECKING:
    from models.serving_features import ServingFeatures

# Measured: smaller blocks take longer, larger ones gain nothing and hold more memory.
_SCORE_ROWS = 16384


@dataclass(frozen=True)
class ScoredChunk:
    """What is kept of a chunk once it is scored: some bytes a row.

    Args:
        offsets: int64 [n], as in :class:`features.rows.ParsedRows`, and so are labels, keys and rejects.
        labels: uint8 [n], or None.
        keys: for each pass-through column a binary array [n].
        p_click: float32 [n], click probabilities.
        rejects: the lines that are no rows.
    """

    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.uint8] | None
    keys: list[pa.BinaryArray]
    p_click: npt.NDArray[np.float32]
    rejects: list[Reject]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.offsets)


def read_student_features(model: str) -> ServingFeatures:
    """What an exported student was trained on.

    Args:
        model: folder of the SavedModel.

    Raises:
        ArtifactError: see :func:`models.serving_features.read_features`.
    """
    from models.serving_features import FEATURES_FILE, VOCABULARY_FILE, read_features

    contents = []
    for name in (FEATURES_FILE, VOCABULARY_FILE):
        with storage.open_read(storage.join(model, name)) as file:
            contents.append(file.read())
    return read_features(*contents)


class LoadedStudent:
    """An exported student in memory, with the features it was trained on.

    Args:
        model: folder of the SavedModel.

    Raises:
        ArtifactError: it is damaged, or no exported student.
    """

    def __init__(self, model: str) -> None:
        # Imported here, so that the launcher needs no TensorFlow.
        from models.backend import tf

        features = read_student_features(model)
        self.schema = features.schema
        self._transform = features.transform()
        self._tf = tf
        try:
            # Kept, because the variables of a loaded model go with the object.
            self._model = tf.saved_model.load(model)
            self._signature = self._model.signatures["features"]
            self.score(from_rows(NO_OFFSETS, [], [], self.schema, False))
        except (OSError, LookupError, TypeError, ValueError, tf.errors.OpError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise ArtifactError(
                f"--model must be the folder of an exported student. Received: {model} ({reason})."
            ) from error

    def score(self, rows: ParsedRows) -> ScoredChunk:
        """Scores the rows of a chunk."""
        ids, dense = self._transform.ids([rows]), self._transform.dense([rows])
        blocks = (slice(start, start + _SCORE_ROWS) for start in range(0, max(len(rows), 1), _SCORE_ROWS))
        p_click = np.concatenate([self._p_click(ids[block], dense[block]) for block in blocks])
        return ScoredChunk(rows.offsets, rows.labels, rows.keys, p_click, rows.rejects)

    def _p_click(self, ids: npt.NDArray[np.int32], dense: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        outputs = self._signature(ids=self._tf.constant(ids), dense=self._tf.constant(dense))
        p_click: npt.NDArray[np.float32] = outputs["p_click"].numpy()
        return p_click


def write_scores(writer: HashingWriter, source: str, schema: Schema, parts: Sequence[ScoredChunk]) -> None:
    """Writes a row a scored line as parquet: source, offset, label (null without a label column), keys, p_click.

    Args:
        writer: where to.
        source: path of the log's file.
        schema: of the log.
        parts: of the file, in its order.
    """
    table = _table(source, schema, parts)
    # Values that are all different are no matter for a dictionary; offsets rise by little.
    encoded = [name for name in table.column_names if name not in _ENCODINGS]
    pq.write_table(table, pa.PythonFile(writer, "w"), use_dictionary=encoded, column_encoding=_ENCODINGS)


_ENCODINGS = {"offset": "DELTA_BINARY_PACKED", "p_click": "PLAIN"}


def _table(source: str, schema: Schema, parts: Sequence[ScoredChunk]) -> pa.Table:
    offsets = np.concatenate([np.empty(0, np.int64), *(part.offsets for part in parts)])
    p_click = np.concatenate([np.empty(0, np.float32), *(part.p_click for part in parts)])
    labels = [part.labels for part in parts if part.labels is not None]
    rows = len(offsets)
    columns = {
        "source": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([source])),
        "offset": pa.array(offsets),
        "label": pa.array(np.concatenate(labels)) if labels else pa.nulls(rows, pa.uint8()),
    }
    for index, name in enumerate(schema.keys):
        keys = pa.chunked_array([part.keys[index] for part in parts], pa.binary())
        columns[name] = keys.cast(pa.string())
    return pa.table({**columns, "p_click": pa.array(p_click)})

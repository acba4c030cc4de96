"""What an exported student knows of the log: schema, numeric statistics and vocabularies, as files beside its graph."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.errors import ArtifactError
from features.numeric import NumericColumn
from features.schema import Schema
from features.spec import ExamplesSpec
from features.transform import Transform
from models.tables import TableLayout

FEATURES_FILE = "assets.extra/features.json"
VOCABULARY_FILE = "assets/vocabulary.txt"
_MARKS = range(ord("!"), ord("~") + 1)


@dataclass(frozen=True)
class ServingFeatures:
    """Everything between raw fields and the student's trunk, and the rate that corrects its answer.

    Args:
        schema: of the log.
        numeric: statistics of each numeric column.
        values: the values with the ids 2, 3, ... of each categorical column: binary arrays. Without buckets the kept
            ones; with buckets the whole vocabulary, because only what is outside of it goes to a bucket.
        kept: number of values with embedding rows of their own, of each categorical column.
        buckets: hash buckets of each categorical column.
        negative_rate: share of the rows without click that the log kept.
    """

    schema: Schema
    numeric: tuple[NumericColumn, ...]
    values: tuple[pa.BinaryArray, ...]
    kept: tuple[int, ...]
    buckets: int = 0
    negative_rate: float = 1.0

    @classmethod
    def of(cls, spec: ExamplesSpec, vocabularies: Sequence[pa.BinaryArray], kept: Sequence[int]) -> ServingFeatures:
        """The features of a student.

        Args:
            spec: of the examples that it was trained on.
            vocabularies: all values of each categorical column, in the order of their ids.
            kept: of each categorical column, values that the student keeps.
        """
        values = tuple(vocabularies)
        if not spec.buckets:
            values = tuple(column.slice(0, size) for column, size in zip(values, kept, strict=True))
        return cls(spec.schema, spec.numeric, values, tuple(kept), spec.buckets, spec.negative_rate)

    def transform(self) -> Transform:
        """The same features from parsed rows."""
        return Transform(self.numeric, self.values, self.buckets)

    def layout(self) -> TableLayout:
        """The embedding table that belongs to the features."""
        return TableLayout.of(self.kept, self.numeric, [len(values) for values in self.values], self.buckets)


def serving_statistics(
    layout: TableLayout, odds: npt.NDArray[np.float32], count: npt.NDArray[np.float32], starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Click statistics of the embedding rows of the categorical columns, from those of all vocabulary ids.

    Args:
        layout: of the embedding table.
        odds: float32 [all ids], log-odds with no fold left out.
        count: float32 [all ids], log-count.
        starts: where each column's vocabulary id 0 lies.

    Returns:
        float32 [rows, 2].
    """
    wanted = layout.cells(starts)
    return np.stack([odds[wanted], count[wanted]], axis=1)


def features_json(features: ServingFeatures) -> bytes:
    """What ``predict`` needs beside the vocabulary, as bytes of :data:`FEATURES_FILE`."""
    value = {
        "schema": features.schema.to_json(),
        "numeric": [column.to_json() for column in features.numeric],
        "kept": dict(zip(features.schema.categorical, features.kept, strict=True)),
        "buckets": features.buckets,
        "negative_rate": features.negative_rate,
    }
    return (json.dumps(value, indent=1) + "\n").encode()


def column_marks(columns: int) -> list[bytes]:
    """What stands before the values of each column in the vocabulary: printable ASCII, of one length, all different.

    One character is enough for 94 columns, two for 8836.
    """
    width = next(width for width in itertools.count(1) if len(_MARKS) ** width >= columns)
    return [bytes(mark) for mark in itertools.islice(itertools.product(_MARKS, repeat=width), columns)]


def vocabulary_lines(features: ServingFeatures) -> Iterator[bytes]:
    """The lines of :data:`VOCABULARY_FILE`: mark of the column and a value. No value is empty or holds a line end."""
    for mark, column in zip(column_marks(len(features.values)), features.values, strict=True):
        for value in column:
            yield b"%s%s\n" % (mark, value.as_py())


def read_features(features: bytes, vocabulary: bytes) -> ServingFeatures:
    """Reads the features of an exported model.

    Args:
        features: content of :data:`FEATURES_FILE`.
        vocabulary: content of :data:`VOCABULARY_FILE`.

    Raises:
        ArtifactError: the features are unlike what is written.
    """
    try:
        value = json.loads(features)
        schema = Schema.from_json(value["schema"], FEATURES_FILE)
        kept = tuple(value["kept"][name] for name in schema.categorical)
        return ServingFeatures(
            schema,
            tuple(NumericColumn.from_json(column) for column in value["numeric"]),
            tuple(_read_vocabulary(vocabulary, kept)),
            kept,
            value["buckets"],
            value["negative_rate"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"The features of a student must be what distill wrote. Received: {error!r} ({FEATURES_FILE})."
        ) from error


def _read_vocabulary(content: bytes, kept: Sequence[int]) -> Iterator[pa.BinaryArray]:
    """The values of each column, of which the model has embedding rows for so many at least."""
    marks = column_marks(len(kept))
    values: dict[bytes, list[bytes]] = {mark: [] for mark in marks}
    width = len(marks[0])
    for line in content.split(b"\n"):
        # A mark alone is no value: TensorFlow takes no empty file.
        if len(line) > width:
            values[line[:width]].append(line[width:])
    for mark, least in zip(marks, kept, strict=True):
        if len(values[mark]) < least:
            raise ValueError(f"a vocabulary of {len(values[mark])} values for {least} embedding rows")
        yield pa.array(values[mark], pa.binary())

"""From values to the click statistics that LightGBM and XGBoost were trained on, as a table that can be saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rows import Rows

UNSEEN = b"odds of a value without rows"


@dataclass(frozen=True)
class Encoder:
    """Smoothed log-odds and log-count by column and value, over all training rows.

    Args:
        places: of each column the row of the table by value.
        table: float32 [values + 1, 2]; row 0 is for a value that training has not seen.
    """

    places: list[dict[bytes, int]]
    table: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Rows, smoothing: float) -> Encoder:
        """The table of the training rows."""
        label = rows.labels("train")
        rate, places = float(label.mean()), []
        table = [np.array([[np.log(rate / (1 - rate)), 0.0]], np.float32)]
        for codes, values in zip(rows.codes.T, rows.values, strict=True):
            n = np.bincount(codes[: len(label)], minlength=len(values))
            c = np.bincount(codes[: len(label)], label, minlength=len(values))
            seen = np.flatnonzero(n)
            odds = np.log((c[seen] + smoothing * rate) / (n[seen] - c[seen] + smoothing * (1 - rate)))
            first = sum(map(len, table))
            places.append({values[code].encode(): first + place for place, code in enumerate(seen.tolist())})
            table.append(np.column_stack([odds, np.log1p(n[seen])]).astype(np.float32))
        return cls(places, np.concatenate(table))

    @classmethod
    def read(cls, path: Path) -> Encoder:
        """What :meth:`write` has written."""
        found = pq.read_table(path)
        places: list[dict[bytes, int]] = []
        for place, (column, value) in enumerate(
            zip(found["column"].to_pylist(), found["value"].to_pylist(), strict=True)
        ):
            while len(places) <= column:
                places.append({})
            if place:
                places[column][value] = place
        return cls(places, np.column_stack([found["odds"].to_numpy(), found["count"].to_numpy()]))

    def write(self, path: Path) -> None:
        """One compressed parquet file; its first row is that of unseen values."""
        columns = [0] + [column for column, places in enumerate(self.places) for _ in places]
        values = [UNSEEN] + [value for places in self.places for value in places]
        arrays = {
            "column": pa.array(columns, pa.int8()),
            "value": pa.array(values, pa.binary()),
            "odds": pa.array(self.table[:, 0]),
            "count": pa.array(self.table[:, 1]),
        }
        pq.write_table(pa.table(arrays), path, compression="zstd", compression_level=9)

    def encode(self, numbers: NDArray[np.float32], values: Sequence[Sequence[bytes]]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers as they are, and the statistics [n, 52] of columns of values."""
        places = [[known.get(value, 0) for value in column] for known, column in zip(self.places, values, strict=True)]
        return numbers, self._gather(np.array(places, np.int64))

    def encode_read(
        self, numbers: NDArray[np.float32], values: Sequence[pa.DictionaryArray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same of columns with dictionaries: each distinct value is looked up once."""
        places = np.empty((len(values), len(numbers)), np.int64)
        for index, (known, column) in enumerate(zip(self.places, values, strict=True)):
            distinct = np.array([known.get(value, 0) for value in column.dictionary.to_pylist()], np.int64)
            places[index] = distinct[column.indices.to_numpy()]
        return numbers, self._gather(places)

    def _gather(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.table[places.T].reshape(places.shape[1], -1)

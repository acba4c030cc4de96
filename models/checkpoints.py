"""States of a training on disk, written and read a few rows at a time; a killed process leaves whole ones only.

A state is a folder of raw little-endian files, one a variable, and ``state.json``. Reading a table as a whole would
copy it (TensorFlow copies variables that have sparse updates whenever they are read whole), which is what Keras' and
TensorFlow's own checkpoints do with all tables and their optimizer slots at once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from models.backend import tf

_CHUNK_BYTES = 1 << 24


class Checkpoints:
    """The newest state of some name in a folder.

    Args:
        folder: where the states go.
        name: of the series; states of others are left alone.
        variables: what a state has, in this order.
        writes: whether this process writes; of several workers one does.
    """

    def __init__(self, folder: str, name: str, variables: Sequence[tf.Variable], writes: bool = True) -> None:
        self._folder, self._name, self._variables, self._writes = folder, name, list(variables), writes

    def save(self, record: dict[str, Any]) -> None:
        """Writes a state with a record of plain JSON values, and removes the states before it."""
        if not self._writes:
            return
        before = self._numbers()
        path = self._path(max(before, default=0) + 1)
        unfinished = f"{path}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        os.makedirs(unfinished)
        for index, variable in enumerate(self._variables):
            with open(os.path.join(unfinished, f"{index}.bin"), "wb") as file:
                _write(variable, file)
        with open(os.path.join(unfinished, "state.json"), "w", encoding="utf-8") as text:
            json.dump({"record": record, "variables": self._kinds()}, text)
        os.rename(unfinished, path)
        for number in before:
            shutil.rmtree(self._path(number))

    def restore(self) -> dict[str, Any] | None:
        """Sets the variables to the newest state and returns its record; None, and nothing set, if there is none.

        A state of other variables (of an older version of the model's code) counts as none.
        """
        number = max(self._numbers(), default=None)
        if number is None:
            return None
        path = self._path(number)
        with open(os.path.join(path, "state.json"), encoding="utf-8") as text:
            state = json.load(text)
        if state["variables"] != self._kinds():
            return None
        for index, variable in enumerate(self._variables):
            with open(os.path.join(path, f"{index}.bin"), "rb") as file:
                _read(variable, file)
        record: dict[str, Any] = state["record"]
        return record

    def _kinds(self) -> list[list[Any]]:
        return [[variable.dtype.name, variable.shape.as_list()] for variable in self._variables]

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"{self._name}-{number:08d}")

    def _numbers(self) -> list[int]:
        """Numbers of the whole states."""
        if not os.path.isdir(self._folder):
            return []
        parts = [name.rpartition("-") for name in os.listdir(self._folder)]
        return [int(number) for name, _, number in parts if name == self._name and number.isdigit()]


def chunks(variable: tf.Variable) -> list[tf.Tensor | None]:
    """Row numbers of a variable in chunks of some megabytes; [None] for one that is small enough as a whole."""
    rows = variable.shape[0] if variable.shape.rank else 1
    bytes_a_row = variable.dtype.size * (variable.shape.num_elements() or 0) // max(rows, 1)
    step = max(_CHUNK_BYTES // max(bytes_a_row, 1), 1)
    if rows <= step:
        return [None]
    return [tf.range(first, min(first + step, rows)) for first in range(0, rows, step)]


def _write(variable: tf.Variable, file: IO[bytes]) -> None:
    for rows in chunks(variable):
        file.write((variable if rows is None else tf.gather(variable, rows)).numpy().tobytes())


def _read(variable: tf.Variable, file: IO[bytes]) -> None:
    dtype = variable.dtype.as_numpy_dtype
    for rows in chunks(variable):
        shape = variable.shape.as_list() if rows is None else [len(rows), *variable.shape.as_list()[1:]]
        values = np.frombuffer(file.read(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)
        if rows is None:
            variable.assign(values)
        else:
            variable.scatter_update(tf.IndexedSlices(tf.constant(values), rows))

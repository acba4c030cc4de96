"""The weights of a trained student's trunk as plain arrays: to be stored, pruned, and served in another precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from features.statistics import ClickCounts
from models.heads import ReusedHead, SubclassHead
from models.student import StudentTrunk
from models.tables import FIRST_ROW, OTHER_ROW, TableLayout

Floats = npt.NDArray[np.float32]
Dense = tuple[Floats, Floats]


@dataclass(frozen=True)
class TrunkWeights:
    """What a :class:`models.student.StudentTrunk` has learned, float32.

    Args:
        columns: of each column of the log, in the order of its layout, its rows ``[rows, dim + 1]``: the embedding,
            then the float of the linear part.
        linear: ``[width]``, of the linear part, for what the trunk sees beside embeddings.
        hidden: kernel ``[embeddings + width, hidden]`` and bias of the hidden layer, embeddings of the smallest size
            first; None without one.
        head: kernel ``[hidden, 2 S]`` and bias; of a reused head, its two layers as one.
    """

    columns: tuple[Floats, ...]
    linear: Floats
    hidden: Dense | None
    head: Dense

    @classmethod
    def of(cls, trunk: StudentTrunk, layout: TableLayout) -> TrunkWeights:
        """The weights of a trunk with this layout."""
        bounds = [*layout.starts.tolist(), layout.rows]
        columns = tuple(
            trunk.embeddings.read_rows(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)
        )
        hidden = [(layer.kernel.numpy(), layer.bias.numpy()) for layer in trunk.hidden.layers]
        return cls(columns, trunk.linear.kernel.numpy()[:, 0], hidden[0] if hidden else None, _head(trunk.head))

    def to_arrays(self) -> dict[str, Floats]:
        """The same by name; :meth:`from_arrays` reads them."""
        named = {f"column_{number}": rows for number, rows in enumerate(self.columns)}
        layers = {"hidden": self.hidden, "head": self.head}
        dense = {name: layer for name, layer in layers.items() if layer is not None}
        kernels = {f"{name}_{part}": layer[i] for name, layer in dense.items() for i, part in enumerate(_PARTS)}
        return {**named, "linear": self.linear, **kernels}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats]) -> TrunkWeights:
        """Reads what :meth:`to_arrays` gave.

        Raises:
            KeyError: an array is missing.
        """
        columns = sum(name.startswith("column_") for name in arrays)
        hidden, head = (
            tuple(arrays[f"{name}_{part}"] for part in _PARTS if f"{name}_{part}" in arrays) for name in _LAYERS
        )
        return cls(
            tuple(arrays[f"column_{number}"] for number in range(columns)),
            arrays["linear"],
            (hidden[0], hidden[1]) if hidden else None,
            (head[0], head[1]),
        )

    def pruned(self, layout: TableLayout, kept: Sequence[int], counts: ClickCounts) -> TrunkWeights:
        """The weights with fewer values.

        The row for values without one of their own becomes the mean of itself and of the rows that go, weighted by
        their training rows. Rows that were equal to it, as those of values that training was never shown, stay so.

        Args:
            layout: of these weights.
            kept: of each categorical column, the values that stay, at most as many as there are.
            counts: of the training rows.
        """
        columns = list(self.columns)
        for column, (stays, first) in enumerate(zip(kept, counts.starts, strict=True)):
            total = counts.counts[first + layout.ids(column)].sum(axis=1)
            gone = slice(FIRST_ROW + stays, FIRST_ROW + layout.kept[column])
            if gone.start < gone.stop:
                columns[column] = _without(columns[column], gone, total, counts.rows.sum() - total.sum())
        return replace(self, columns=tuple(columns))


_LAYERS, _PARTS = ("hidden", "head"), ("kernel", "bias")


def _without(rows: Floats, gone: slice, total: npt.NDArray[np.int64], others: int) -> Floats:
    """The rows of a column without some of them; ``others`` training rows have values that had no row before."""
    other = rows[OTHER_ROW : OTHER_ROW + 1]
    tied = (rows == other).all(axis=1)
    merged = np.average(np.concatenate([other, rows[gone]]), axis=0, weights=np.append(others, total[gone]))
    found = np.where(tied[:, np.newaxis], merged, rows).astype(np.float32)
    return np.delete(found, gone, axis=0)


def _head(head: SubclassHead | ReusedHead) -> Dense:
    kernel, bias = head.kernel.numpy(), head.bias.numpy()
    if not isinstance(head, ReusedHead):
        return kernel, bias
    teacher = head.teacher_kernel.numpy().astype(np.float64)
    return (kernel @ teacher).astype(np.float32), (bias @ teacher + head.teacher_bias.numpy()).astype(np.float32)
